//! Copies of all tensors by name: what a checkpoint holds.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use ndarray::ArrayD;

use super::{Params, Role, Set, all, positions};
use crate::base::escape::escaped;
use crate::base::{Elem, Result, stale};

/// One tensor of a [`StateDict`].
#[derive(Debug, Clone, PartialEq)]
pub struct StateTensor {
    /// What it is.
    pub role: Role,
    /// Its value.
    pub value: ArrayD<Elem>,
}

/// Named tensors in the order of the model: what a checkpoint holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict(pub Vec<(String, StateTensor)>);

/// What a load did, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors that were copied.
    pub loaded: Vec<String>,
    /// Tensors of the model that the file has not.
    pub missing: Vec<String>,
    /// Tensors of the file that the model has not.
    pub unexpected: Vec<String>,
    /// Name and both shapes: `head.fc.weight: file [10, 84], model [5, 84]`.
    pub mismatched: Vec<String>,
    /// Tables of positions, among those that were copied, which were learnt on images of another size.
    pub resized: Vec<String>,
}

impl LoadReport {
    /// Whether every tensor found its place.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }
}

/// The first few names, and how many more there are: `a, b, c, d and 221 more`.
pub(crate) fn some_of<T: AsRef<str>>(names: &[T]) -> String {
    let shown = if names.len() > SHOWN + 1 { SHOWN } else { names.len() };
    let told: Vec<_> = names[..shown].iter().map(|name| escaped(name.as_ref())).collect();
    let more = names.len() - shown;
    if more > 0 { format!("{} and {more} more", told.join(", ")) } else { told.join(", ") }
}

/// Names that a person reads before they want to know how many more there are.
const SHOWN: usize = 4;

/// What is before the names on one side, and not on the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prefix {
    /// The file has it, the model has not.
    InFile(String),
    /// The model has it, the file has not.
    InModel(String),
}

impl LoadReport {
    /// The prefix by which most names would meet, if no name does as it is.
    pub fn prefix(&self) -> Option<Prefix> {
        let mut counts: BTreeMap<(bool, &str), usize> = BTreeMap::new();
        let before =
            |long: &'_ str, short: &str| long.strip_suffix(short).filter(|p| p.ends_with('.')).map(str::len);
        for (file, model) in self.unexpected.iter().flat_map(|f| self.missing.iter().map(move |m| (f, m))) {
            if let Some(length) = before(file, model) {
                *counts.entry((true, &file[..length])).or_default() += 1;
            } else if let Some(length) = before(model, file) {
                *counts.entry((false, &model[..length])).or_default() += 1;
            }
        }
        let ((in_file, prefix), _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let prefix = prefix.to_owned();
        Some(if in_file { Prefix::InFile(prefix) } else { Prefix::InModel(prefix) })
    }
}

/// A digest; with `{:#}`, every name.
impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} loaded", self.loaded.len())?;
        for (what, names) in [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("of another shape", &self.mismatched),
            ("resized", &self.resized),
        ] {
            if !names.is_empty() {
                let all = || names.iter().map(|name| escaped(name)).collect::<Vec<_>>().join(", ");
                let named = if f.alternate() { all() } else { some_of(names) };
                write!(f, ", {} {what} ({named})", names.len())?;
            }
        }
        Ok(())
    }
}

impl StateDict {
    /// A copy of all tensors of `params`.
    ///
    /// # Errors
    /// What the device says.
    pub fn of(params: &dyn Params) -> Result<Self> {
        Self::default().renewed(params)
    }

    /// As [`of`](Self::of), in the memory of this older copy where the names and shapes are still the same. Fresh
    /// memory costs more than the copying: the operating system clears every page of it first.
    ///
    /// # Errors
    /// What the device says.
    pub fn renewed(self, params: &dyn Params) -> Result<Self> {
        let mut old = self.0.into_iter();
        let mut copies = Vec::new();
        params.read(Set::Values, &all, &mut |p, value| {
            let same = |(name, t): &(String, StateTensor)| name == p.name && t.value.shape() == value.shape();
            copies.push(match old.next().filter(same) {
                Some((name, StateTensor { value: mut copy, .. })) => {
                    copy.as_slice_mut().into_iter().for_each(stale::hand_out);
                    copy.assign(&value);
                    (name, StateTensor { role: p.role, value: copy })
                }
                None => (p.name.to_owned(), StateTensor { role: p.role, value: value.to_owned() }),
            });
        })?;
        Ok(Self(copies))
    }

    fn shape_of(&self, name: &str) -> &[usize] {
        self.get(name).map_or(&[], |tensor| tensor.value.shape())
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&StateTensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Puts the tensors in the order of `params` and gives each the role that it has there; others come last. A file
    /// has an order of its own, and says only what is a counter.
    pub fn align(&mut self, params: &dyn Params) {
        let mut places = HashMap::new();
        params.infos(&mut |p| {
            places.insert(p.name.to_owned(), (places.len(), p.role));
        });
        for (name, tensor) in &mut self.0 {
            tensor.role = places.get(name).map_or(tensor.role, |(_, role)| *role);
        }
        self.0.sort_by_key(|(name, _)| places.get(name).map_or(usize::MAX, |(place, _)| *place));
    }

    /// Copies every tensor that fits by name and shape into `params`, and says what it did. A counter that either of the
    /// two lacks is not told: other libraries have batch norms without one. A table of positions (`…pos_embed`) that was
    /// learnt on square images of another size is resized, as in MMPretrain.
    ///
    /// # Errors
    /// What the device says.
    pub fn load_into(&self, params: &mut dyn Params) -> Result<LoadReport> {
        let mut report = LoadReport::default();
        let mut seen = HashSet::new();
        let mut index: HashMap<&str, Cow<'_, ArrayD<Elem>>> =
            self.0.iter().map(|(name, tensor)| (name.as_str(), Cow::Borrowed(&tensor.value))).collect();
        params.infos(&mut |p| {
            let Some(found) = index.get_mut(p.name) else {
                if p.role != Role::Counter {
                    report.missing.push(p.name.to_owned());
                }
                return;
            };
            seen.insert(p.name.to_owned());
            let shapes = || format!("{}: file {:?}, model {:?}", p.name, self.shape_of(p.name), p.shape);
            if let Some(resized) = positions::resized(p.name, found, p.shape) {
                *found = Cow::Owned(resized);
                report.resized.push(shapes());
            }
            if found.shape() == p.shape {
                report.loaded.push(p.name.to_owned());
            } else {
                report.mismatched.push(shapes());
            }
        });
        let fitting = |name: &str, shape: &[usize]| index.get(name).filter(|value| value.shape() == shape);
        params.edit(Set::Values, &|p| fitting(p.name, p.shape).is_some(), &mut |p, mut value| {
            if let Some(found) = fitting(p.name, p.shape) {
                value.assign(&**found);
            }
        })?;
        let unexpected = self.0.iter().filter(|(n, t)| !seen.contains(n) && t.role != Role::Counter);
        report.unexpected = unexpected.map(|(n, _)| n.clone()).collect();
        Ok(report)
    }
}
