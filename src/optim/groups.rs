//! Parameter groups: parameters that share the numbers of their optimizer.

use std::collections::HashMap;

use super::Optimizer;
use super::paramwise::{Law, ParamwiseConfig};
use crate::base::number::short;
use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::params::{Params, Want, check_names, duplicates};

/// Parameters that share the numbers of their optimizer: the ones that they began with, and those of the next update.
pub struct Group {
    name: String,
    rule: Box<dyn Optimizer>,
    /// The numbers of the next update.
    now: Vec<(&'static str, f64)>,
    /// The numbers that schedules start from, in the same order.
    base: Vec<f64>,
    flags: Vec<(&'static str, bool)>,
    /// The number of its optimizer in the wrapper.
    part: usize,
    tensors: usize,
    elements: usize,
}

impl Clone for Group {
    fn clone(&self) -> Self {
        let Self { name, rule, now, base, flags, part, tensors, elements } = self;
        Self {
            name: name.clone(),
            rule: rule.clone_box(),
            now: now.clone(),
            base: base.clone(),
            flags: flags.clone(),
            part: *part,
            tensors: *tensors,
            elements: *elements,
        }
    }
}

impl Group {
    /// A group with the optimizer's numbers.
    pub(super) fn new(name: impl Into<String>, mut rule: Box<dyn Optimizer>) -> Self {
        let now: Vec<_> = rule.numbers().into_iter().map(|(name, value)| (name, *value)).collect();
        let base = now.iter().map(|(_, value)| *value).collect();
        let flags = rule.flags().into_iter().map(|(name, on)| (name, *on)).collect();
        Self { name: name.into(), rule, now, base, flags, part: 0, tensors: 0, elements: 0 }
    }

    /// The same group of another optimizer of the wrapper, under another name.
    pub(super) fn of_part(mut self, part: usize, name: String) -> Self {
        (self.part, self.name) = (part, name);
        self
    }

    /// The number of its optimizer in the wrapper.
    pub(super) fn part(&self) -> usize {
        self.part
    }

    /// What it is called: `default`, the key of `custom_keys`, `norm`, `bias`, `layer_3`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The optimizer with the numbers of this group.
    pub fn rule(&self) -> &dyn Optimizer {
        &*self.rule
    }

    /// All numbers as the next update will use them.
    pub fn numbers(&self) -> &[(&'static str, f64)] {
        &self.now
    }

    /// A number of the next update.
    pub fn get(&self, number: &str) -> Option<f64> {
        self.place(number).map(|at| self.now[at].1)
    }

    /// A number that schedules start from.
    pub fn base(&self, number: &str) -> Option<f64> {
        self.place(number).map(|at| self.base[at])
    }

    /// The learning rate of the next update; 0 for an optimizer without one.
    pub fn lr(&self) -> f64 {
        self.get("lr").unwrap_or(0.0)
    }

    /// Sets a number of the next update. A schedule overwrites it at its next point.
    ///
    /// # Errors
    /// A name that the optimizer does not have.
    pub fn set(&mut self, number: &str, value: f64) -> Result<()> {
        let at = self.place(number).ok_or_else(|| unknown(self.rule.name(), number, &self.now))?;
        self.now[at].1 = value;
        if let Some((_, place)) = self.rule.numbers().into_iter().nth(at) {
            *place = value;
        }
        Ok(())
    }

    /// Sets a switch of the optimizer.
    ///
    /// # Errors
    /// A name that the optimizer does not have.
    pub(super) fn set_flag(&mut self, flag: &str, on: bool) -> Result<()> {
        let at = self.flags.iter().position(|(name, _)| *name == flag).ok_or_else(|| {
            let names: Vec<_> = self.flags.iter().map(|(name, _)| *name).collect();
            let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let text =
                format!("{} has no switch `{flag}` that a group may set. It has: {has}", self.rule.name());
            Error::config(text)
        })?;
        self.flags[at].1 = on;
        if let Some((_, place)) = self.rule.flags().into_iter().nth(at) {
            *place = on;
        }
        Ok(())
    }

    /// Sets a number and what schedules start from.
    pub(super) fn set_base(&mut self, number: &str, value: f64) -> Result<()> {
        self.set(number, value)?;
        if let Some(at) = self.place(number) {
            self.base[at] = value;
        }
        Ok(())
    }

    /// Takes over the numbers of another group of the same optimizer.
    pub(super) fn take_numbers(&mut self, other: &Self) {
        let Self { rule, now, base, flags, .. } = other.clone();
        (self.rule, self.now, self.base, self.flags) = (rule, now, base, flags);
    }

    /// `momentum` of an optimizer with betas is the first of them, as in MMEngine.
    fn place(&self, number: &str) -> Option<usize> {
        let find = |wanted: &str| self.now.iter().position(|(name, _)| *name == wanted);
        find(number).or_else(|| if number == "momentum" { find("beta1") } else { None })
    }

    /// The optimizer's own name of a number.
    pub(super) fn own_name(&self, number: &str) -> Option<&'static str> {
        self.place(number).map(|at| self.now[at].0)
    }

    /// `norm: 12 tensors of 4800 numbers, lr 0.01, weight_decay 0`.
    pub fn describe(&self) -> String {
        let numbers: Vec<_> =
            self.now.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        let flags: String =
            self.flags.iter().filter(|(_, on)| *on).map(|(name, _)| format!(", {name}")).collect();
        let Self { name, tensors, elements, .. } = self;
        let plural = if *tensors == 1 { "" } else { "s" };
        format!("{name}: {tensors} tensor{plural} of {elements} numbers, {}{flags}", numbers.join(", "))
    }
}

/// The complaint about a number that an optimizer does not have.
pub(super) fn unknown(optimizer: &str, number: &str, known: &[(&'static str, f64)]) -> Error {
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    let near = nearest(number, names.iter().copied());
    let hint = near.map_or_else(|| ".".to_owned(), |near| format!("; did you mean `{near}`?"));
    Error::config(format!("{optimizer} has no number `{number}`{hint} It has: {}", names.join(", ")))
}

/// The groups of a model, and which one each parameter is in.
#[derive(Default)]
pub(super) struct Formed {
    pub groups: Vec<Group>,
    pub members: HashMap<String, usize>,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

/// Forms the groups: one of all parameters, or by the rules of `paramwise_cfg`. Parameters of equal numbers are
/// together; only those that are `mine` are looked at.
pub(super) fn form(
    rule: &dyn Optimizer,
    config: Option<&ParamwiseConfig>,
    params: &dyn Params,
    mine: Want<'_>,
) -> Result<Formed> {
    check_names(params)?;
    let twice = duplicates(params);
    let bypass = config.is_some_and(|config| config.bypass_duplicate);
    if let Some((a, b)) = twice.first().filter(|_| !bypass) {
        return Err(Error::invalid(format!(
            "`{a}` and `{b}` are one tensor, which would be trained twice: let the model visit it under one name"
        )));
    }
    let law = config.map(|config| Law::new(config, rule, params, mine)).transpose()?;
    let mut formed = Formed::default();
    formed.warnings.extend(law.iter().flat_map(|law| law.idle.iter().cloned()));
    for (a, b) in &twice {
        formed.warnings.push(format!("`{b}` is `{a}` under another name: it is left out of the groups"));
    }
    let mut failed = Ok(());
    params.infos(&mut |p| {
        if failed.is_err() || !p.role.is_trained() || !mine(&p) || twice.iter().any(|(_, b)| b == p.name) {
            return;
        }
        let group = match &law {
            None => Ok(Some(Group::new("default", rule.clone_box()))),
            // As in MMEngine, frozen parameters are in no group then.
            Some(_) if p.frozen => Ok(None),
            Some(law) => law.group_of(&p, rule).map(Some),
        };
        let group = group.and_then(|group| {
            group.iter().try_for_each(|group| group.rule.takes(&p).and_then(|()| group.rule.check()))?;
            Ok(group)
        });
        let group = match group {
            Ok(None) => return,
            Ok(Some(group)) => group,
            Err(error) => {
                failed = Err(error);
                return;
            }
        };
        let same = |g: &Group| g.name == group.name && g.now == group.now && g.flags == group.flags;
        let at = formed.groups.iter().position(same).unwrap_or_else(|| {
            formed.groups.push(group);
            formed.groups.len() - 1
        });
        formed.groups[at].tensors += 1;
        formed.groups[at].elements += p.shape.iter().product::<usize>();
        formed.members.insert(p.name.to_owned(), at);
    });
    failed?;
    if formed.groups.is_empty() {
        formed.groups.push(Group::new("default", rule.clone_box()));
    }
    Ok(formed)
}
