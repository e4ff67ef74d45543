//! One place for the update: group, accumulate over micro-batches, clip, step, clear.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::clip::Clipped;
use super::groups::{Formed, form};
use super::{ClipGrad, Group, Optimizer, ParamwiseConfig, SamConfig, ScheduledParam, Score};
use crate::base::{Elem, Error, Result};
use crate::params::{Info, Op, OptimState, Params, Set};

/// The optimizer of a run with everything around it.
///
/// With `accumulative_counts: k` the gradients of k batches are added, weighted by their samples, so that k batches of
/// b samples equal one batch of k·b. A window ends early at the end of an epoch (of the run, in the iteration loop).
pub struct OptimWrapper {
    /// The optimizer as it was given.
    given: Box<dyn Optimizer>,
    /// The same, scaled and moved by the schedules: its learning rate is MMEngine's `base_lr`.
    base: Group,
    paramwise: Option<ParamwiseConfig>,
    /// The factor of the linear scaling rule.
    scale: f64,
    groups: Vec<Group>,
    /// The group of each parameter; empty before the wrapper has met its model.
    pub(super) members: HashMap<String, usize>,
    pub(super) bound: bool,
    pub(super) state: OptimState,
    pub(super) schedules: Vec<ScheduledParam>,
    clip: Option<ClipGrad>,
    pub(super) sam: Option<SamConfig>,
    accumulate: u64,
    pub(super) window: Window,
    /// Updates that were skipped because the norm of the gradients was not finite.
    pub(super) nonfinite_updates: u64,
}

/// The open accumulation window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    pub batches: u64,
    pub samples: u64,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Update {
    /// The optimizer stepped; with the norm of the gradients before clipping, where it was measured.
    Stepped(Option<f64>),
    /// The norm was not finite: weights are as they were.
    Skipped(f64),
}

/// Where an [`OptimWrapper`] is wanted, an optimizer alone will do.
impl<O: Optimizer> From<O> for OptimWrapper {
    fn from(optimizer: O) -> Self {
        Self::new(optimizer)
    }
}

impl OptimWrapper {
    /// Steps after every batch, without clipping or schedules.
    pub fn new(optimizer: impl Optimizer) -> Self {
        Self::boxed(Box::new(optimizer))
    }

    /// As [`new`](Self::new), for an optimizer from the registry.
    pub fn boxed(optimizer: Box<dyn Optimizer>) -> Self {
        let base = Group::new("default", optimizer.clone_box());
        Self {
            given: optimizer,
            groups: vec![base.clone()],
            base,
            paramwise: None,
            scale: 1.0,
            members: HashMap::new(),
            bound: false,
            state: OptimState::default(),
            schedules: Vec::new(),
            clip: None,
            sam: None,
            accumulate: 1,
            window: Window::default(),
            nonfinite_updates: 0,
        }
    }

    /// Limits gradients before each step.
    #[must_use]
    pub fn clip(mut self, clip: ClipGrad) -> Self {
        self.clip = Some(clip);
        self
    }

    /// Takes the gradient where the loss nearby is largest.
    ///
    /// ```
    /// use shanty::optim::{OptimWrapper, SamConfig, Sgd};
    /// let optim = OptimWrapper::new(Sgd::new(0.1).momentum(0.9)).sam(SamConfig { rho: 0.1 });
    /// ```
    #[must_use]
    pub fn sam(mut self, sam: SamConfig) -> Self {
        self.sam = Some(sam);
        self
    }

    /// Adds the gradients of `batches` batches (at least 1) before each step.
    #[must_use]
    pub fn accumulate(mut self, batches: u64) -> Self {
        self.accumulate = batches.max(1);
        self
    }

    /// Adds a schedule; all of them are folded in this order.
    #[must_use]
    pub fn schedule(mut self, schedule: ScheduledParam) -> Self {
        self.schedules.push(schedule);
        self
    }

    /// Forms groups by these rules.
    #[must_use]
    pub fn paramwise(mut self, rules: ParamwiseConfig) -> Self {
        self.paramwise = Some(rules);
        self
    }

    /// Meets the model: forms the groups, and checks that each schedule moves something. A runner does this when it is
    /// built. Gives what somebody should know.
    ///
    /// # Errors
    /// Numbers of the optimizer that do not fit together; a rule or a schedule that names what there is not; a tensor
    /// under two names.
    pub fn bind(&mut self, params: &dyn Params) -> Result<Vec<String>> {
        self.given.check()?;
        let Formed { mut groups, members, warnings } = form(&*self.given, self.paramwise.as_ref(), params)?;
        for group in &mut groups {
            match &self.paramwise {
                // The one group is there already, and may have been changed.
                None => self.groups.iter().for_each(|before| group.take_numbers(before)),
                Some(_) if self.scale != 1.0 => group.set_base("lr", group.lr() * self.scale)?,
                Some(_) => {}
            }
        }
        (self.groups, self.members) = (groups, members);
        self.schedules.iter().try_for_each(|schedule| schedule.check(&self.groups))?;
        self.bound = true;
        Ok(warnings)
    }

    /// The optimizer's name.
    pub fn name(&self) -> &'static str {
        self.given.name()
    }

    /// The parameter groups; before the wrapper has met its model, one.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The parameter groups, to change. A schedule overwrites its number at its next point.
    pub fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// The group of a parameter, once the wrapper has met its model; frozen ones may have none.
    pub fn group_of(&self, parameter: &str) -> Option<&Group> {
        self.members.get(parameter).and_then(|at| self.groups.get(*at))
    }

    /// The optimizer's own numbers, without the rules of any group, as the schedules move them.
    pub fn base(&self) -> &Group {
        &self.base
    }

    /// The schedules.
    pub fn schedules(&self) -> &[ScheduledParam] {
        &self.schedules
    }

    /// Multiplies the learning rates of all groups (linear scaling rule); before the first update.
    ///
    /// # Errors
    /// When the optimizer has no learning rate.
    pub fn scale_lr(&mut self, factor: f64) -> Result<()> {
        self.scale *= factor;
        for group in self.groups.iter_mut().chain([&mut self.base]) {
            let lr = group.base("lr").unwrap_or(0.0) * factor;
            group.set_base("lr", lr)?;
        }
        Ok(())
    }

    /// Sets every scheduled number to what it has after `epoch` epochs and `iter` iterations. A pure function of these.
    pub fn set_progress(&mut self, epoch: u64, iter: u64) {
        let Self { schedules, groups, base, .. } = self;
        for group in groups.iter_mut().chain([base]) {
            for (number, value) in scheduled(schedules, group, epoch, iter) {
                // The name is the group's own.
                let _ = group.set(number, value);
            }
        }
    }

    /// Tells the schedules that watch a validation what it gave, after `epoch` epochs and `iter` iterations; their
    /// numbers follow with the next [`set_progress`](Self::set_progress).
    ///
    /// # Errors
    /// A value that is watched and was not given.
    pub fn observe(&mut self, epoch: u64, iter: u64, scores: &dyn Fn(&str) -> Option<Score>) -> Result<()> {
        for schedule in &mut self.schedules {
            let Some(name) = schedule.watches() else { continue };
            let Some(score) = scores(name) else {
                return Err(Error::invalid(format!(
                    "the validation gave no `{name}` for a schedule to watch"
                )));
            };
            schedule.observe(score, epoch, iter);
        }
        Ok(())
    }

    /// What the loss of a batch of `samples` is multiplied by: its weight in the window.
    pub fn loss_scale(&self, samples: usize) -> Elem {
        if self.accumulate == 1 { 1.0 } else { samples as Elem }
    }

    /// Counts a batch whose gradients were added. True when an update is due.
    pub fn backward_done(&mut self, samples: usize, last: bool) -> bool {
        self.window.batches += 1;
        self.window.samples += samples as u64;
        last || self.window.batches >= self.accumulate
    }

    /// Turns the sum of the window into a mean over its samples; before hooks see the gradients.
    ///
    /// # Errors
    /// What the device says.
    pub fn finish_window(&mut self, params: &mut dyn Params) -> Result<()> {
        if self.accumulate > 1 && self.window.samples > 0 {
            self.meet(params)?;
            // In the arithmetic of the weights, as the sum itself.
            let scale = f64::from(1.0 / self.window.samples as Elem);
            params.apply(Op::ScaleGrads(scale), &|p| self.has(p))?;
        }
        Ok(())
    }

    /// Clips and steps, then clears the gradients.
    ///
    /// # Errors
    /// A norm that is not finite under `error_if_nonfinite`; a parameter that changed its shape, or has two names; what
    /// the device says.
    pub fn update(&mut self, params: &mut dyn Params) -> Result<Update> {
        self.meet(params)?;
        let done = match self.limit(params)? {
            Clipped::Norm(norm) => {
                let Self { groups, members, state, .. } = self;
                let rule_of = |name: &str| members.get(name).and_then(|at| groups.get(*at)).map(Group::rule);
                params.update(&rule_of, state)?;
                Update::Stepped(norm)
            }
            Clipped::NonFinite(norm) => {
                self.nonfinite_updates += 1;
                Update::Skipped(norm)
            }
        };
        self.clear(params)?;
        Ok(done)
    }

    /// Limits the gradients: by `clip_grad`, then by the norm that is part of the optimizer's formula.
    fn limit(&self, params: &mut dyn Params) -> Result<Clipped> {
        let want = |p: &Info<'_>| self.has(p);
        let clipped = match &self.clip {
            Some(clip) => clip.apply(params, &want)?,
            None => Clipped::Norm(None),
        };
        let (Clipped::Norm(_), Some(most)) = (clipped, self.given.max_grad_norm()) else {
            return Ok(clipped);
        };
        let norm = params.norm(Set::Grads, 2.0, &want)?;
        if !norm.is_finite() {
            return Ok(Clipped::NonFinite(norm));
        }
        if norm > most {
            params.apply(Op::ScaleGrads(most / norm), &want)?;
        }
        Ok(clipped)
    }

    /// Drops the gradients and closes the window.
    ///
    /// # Errors
    /// What the device says.
    pub fn clear(&mut self, params: &mut dyn Params) -> Result<()> {
        self.window = Window::default();
        params.clear_grads()
    }

    fn meet(&mut self, params: &dyn Params) -> Result<()> {
        if !self.bound {
            self.bind(params)?;
        }
        Ok(())
    }

    pub(super) fn has(&self, p: &Info<'_>) -> bool {
        self.members.contains_key(p.name)
    }
}

/// The numbers of a group that schedules move, and their values.
fn scheduled(schedules: &[ScheduledParam], group: &Group, epoch: u64, iter: u64) -> Vec<(&'static str, f64)> {
    let mut moved: Vec<(&'static str, f64)> = Vec::new();
    for schedule in schedules {
        let Some(number) = schedule.number_of(group) else { continue };
        let base = group.base(number).unwrap_or(0.0);
        let at = moved.iter().position(|(name, _)| *name == number).unwrap_or_else(|| {
            moved.push((number, base));
            moved.len() - 1
        });
        moved[at].1 = schedule.apply(moved[at].1, base, epoch, iter);
    }
    moved
}
