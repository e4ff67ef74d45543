//! Weights of other libraries: what they call the tensors of the networks that we have, `origins.txt`.

use std::collections::HashMap;

use ndarray::{ArrayD, IxDyn};
use regex_lite::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Elem, Error, Result};
use crate::params::{Params, StateDict};

/// The library that wrote a file of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// torchvision.
    Torchvision,
    /// MMPretrain; its names are ours, but for buffers that are computed here.
    Mmpretrain,
}

const SECTIONS: &str = include_str!("origins.txt");

/// A pattern of names, what it is replaced by, and whether the values are reordered.
struct Rule {
    pattern: Regex,
    /// Of each of the alternatives in the pattern; of the whole if there are none.
    replacements: Vec<(String, String)>,
    unfold: bool,
}

impl Rule {
    fn read(line: &str) -> Result<Self> {
        let broken = || Error::invalid(format!("origins.txt has a broken rule: {line}"));
        let mut words = line.split_whitespace();
        let (Some(pattern), Some(to)) = (words.next(), words.next()) else { return Err(broken()) };
        let list = |text: &str| {
            let (before, rest) = text.split_once('<')?;
            let (list, after) = rest.split_once('>')?;
            Some((
                before.to_owned(),
                list.split(',').map(str::to_owned).collect::<Vec<_>>(),
                after.to_owned(),
            ))
        };
        let (pattern, replacements) = match (list(pattern), list(to)) {
            (Some((before, from, after)), Some((front, to, back))) if from.len() == to.len() => {
                let pattern = format!("{before}(?P<one>{}){after}", from.join("|"));
                let to = to.into_iter().map(|to| format!("{front}{to}{back}"));
                (pattern, from.into_iter().map(|from| from.replace('\\', "")).zip(to).collect())
            }
            (None, None) => (pattern.to_owned(), vec![(String::new(), to.to_owned())]),
            _ => return Err(broken()),
        };
        let pattern = Regex::new(&pattern).map_err(|_| broken())?;
        Ok(Self { pattern, replacements, unfold: words.next() == Some("unfold") })
    }

    /// The new name, if this one is meant; none of a tensor that is left out.
    fn apply(&self, name: &str) -> Option<Option<String>> {
        let found = self.pattern.captures(name)?;
        let one = found.name("one").map_or("", |one| one.as_str());
        let (_, to) = self.replacements.iter().find(|(from, _)| from == one)?;
        Some((to != "-").then(|| self.pattern.replace(name, to.as_str()).into_owned()))
    }
}

/// What the rules make of a name, and whether the values are reordered; none of a tensor that is left out.
fn renamed(rules: &[Rule], name: &str) -> Option<(String, bool)> {
    rules.iter().try_fold((name.to_owned(), false), |(name, unfold), rule| match rule.apply(&name) {
        None => Some((name, unfold)),
        Some(new) => Some((new?, unfold || rule.unfold)),
    })
}

impl Origin {
    /// The rules for each network of the library.
    fn networks(self) -> Result<Vec<Vec<Rule>>> {
        let own = match self {
            Self::Torchvision => "[torchvision ",
            Self::Mmpretrain => "[mmpretrain]",
        };
        let mut networks = Vec::new();
        let mut reading = false;
        for line in SECTIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                reading = line.starts_with(own);
                networks.extend(reading.then(Vec::new));
            } else if let (true, Some(rules)) = (reading, networks.last_mut()) {
                rules.push(Rule::read(line)?);
            }
        }
        Ok(networks)
    }

    /// The tensors of a file of this library under the names of `params`. Of the library's networks that one is taken by
    /// which most names meet; a tensor that has as many values as the model's, but another shape (the scales of a
    /// ConvNeXt), gets that shape.
    ///
    /// # Errors
    /// If the table of names is broken.
    pub fn renamed(self, file: StateDict, params: &dyn Params) -> Result<StateDict> {
        let mut shapes: HashMap<String, Vec<usize>> = HashMap::new();
        params.infos(&mut |p| drop(shapes.insert(p.name.to_owned(), p.shape.to_vec())));
        let networks = self.networks()?;
        let meeting = |rules: &[Rule]| {
            let names = file.0.iter().filter_map(|(name, _)| renamed(rules, name));
            names.filter(|(name, _)| shapes.contains_key(name)).count()
        };
        // Of equals the first.
        let Some(rules) = networks.iter().rev().max_by_key(|rules| meeting(rules)) else { return Ok(file) };
        let tensors = file.0.into_iter().filter_map(|(name, mut tensor)| {
            let (name, unfold) = renamed(rules, &name)?;
            if unfold {
                tensor.value = unfolded(tensor.value);
            }
            if let Some(shape) =
                shapes.get(&name).filter(|s| s.iter().product::<usize>() == tensor.value.len())
            {
                tensor.value = tensor.value.into_shape_with_order(IxDyn(shape)).ok()?;
            }
            Some((name, tensor))
        });
        Ok(StateDict(tensors.collect()))
    }
}

/// The last axis, four places of C features each (down before right), with the 2 × 2 places of each feature together.
fn unfolded(value: ArrayD<Elem>) -> ArrayD<Elem> {
    let shape = value.shape().to_vec();
    let Some((last, front)) = shape.split_last().filter(|(last, _)| last.is_multiple_of(4)) else {
        return value;
    };
    let rows: usize = front.iter().product();
    let Ok(parts) = value.clone().into_shape_with_order(IxDyn(&[rows, 2, 2, last / 4])) else { return value };
    // [rows, right, down, C] to [rows, C, down, right].
    let turned = parts.permuted_axes(IxDyn(&[0, 3, 2, 1])).as_standard_layout().into_owned();
    turned.into_shape_with_order(IxDyn(&shape)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_can_be_read() {
        assert!(Origin::Torchvision.networks().unwrap().len() > 15);
        assert_eq!(Origin::Mmpretrain.networks().unwrap().len(), 1);
    }

    /// Features a, b at the places (0, 0), (1, 0), (0, 1), (1, 1) in torchvision's order.
    #[test]
    fn places_come_together() {
        let value = ndarray::arr1(&[10.0, 20.0, 11.0, 21.0, 12.0, 22.0, 13.0, 23.0]).into_dyn();
        let wanted = [10.0, 12.0, 11.0, 13.0, 20.0, 22.0, 21.0, 23.0];
        assert_eq!(unfolded(value).iter().copied().collect::<Vec<Elem>>(), wanted);
    }
}
