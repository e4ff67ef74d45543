//! The narrow waist: everything that works on weights (optimizers, init, checkpoints, averaging) knows only this trait.

use std::collections::{BTreeMap, HashSet};

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD};

use crate::base::escape::escaped;
use crate::base::{Elem, Error, Result, stale};

/// What a tensor of a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A trained tensor other than a bias.
    Weight,
    /// A trained offset: a parameter whose field is called `bias`.
    Bias,
    /// State that is not trained: running mean, running variance.
    Buffer,
    /// A whole number kept in a scalar tensor (`num_batches_tracked`); stored as `i64` in checkpoints.
    Counter,
}

impl Role {
    /// Whether the optimizer moves it.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Weight | Self::Bias)
    }
}

/// A tensor of a model, to read.
pub struct ParamRef<'a> {
    /// Dotted path as in the reference libraries: `backbone.conv1.weight`.
    pub name: &'a str,
    /// Type name of the layer that owns it: `Conv2d`.
    pub layer: &'a str,
    /// What it is.
    pub role: Role,
    /// Its value.
    pub value: ArrayViewD<'a, Elem>,
    /// Its gradient, if one was accumulated.
    pub grad: Option<ArrayViewD<'a, Elem>>,
}

/// A tensor of a model, to change.
pub struct ParamMut<'a> {
    /// Dotted path as in the reference libraries: `backbone.conv1.weight`.
    pub name: &'a str,
    /// Type name of the layer that owns it: `Conv2d`.
    pub layer: &'a str,
    /// What it is.
    pub role: Role,
    /// Its value.
    pub value: ArrayViewMutD<'a, Elem>,
    /// Its gradient; `None` for buffers, frozen parameters and parameters that no loss reached yet.
    pub grad: Option<ArrayViewMutD<'a, Elem>>,
}

/// A bag of named tensors. The order is stable and the same for all methods.
pub trait Params {
    /// Calls `f` for every tensor, buffers included.
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>));
    /// Calls `f` for every tensor, buffers included, with write access.
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>));

    /// Forgets all gradients: they become zero or, where a backward pass makes them, `None`.
    fn clear_grads(&mut self) {
        self.visit_mut(&mut |p| {
            if let Some(mut grad) = p.grad {
                grad.fill(0.0);
            }
        });
    }

    /// Takes sums of gradients back, by name; all others become zero. A model whose gradients come into being with the
    /// first backward pass makes them here, so that a run can be resumed inside an accumulation window.
    fn put_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) {
        self.visit_mut(&mut |p| {
            if let Some(mut grad) = p.grad {
                match sums.get(p.name) {
                    Some(sum) => grad.assign(sum),
                    None => grad.fill(0.0),
                }
            }
        });
    }
}

/// Refuses a trained tensor that stands under two names (it would be moved, decayed and counted twice), and a name that
/// stands for two tensors.
///
/// # Errors
/// [`Error::Invalid`] with the names.
pub fn check_distinct(params: &mut dyn Params) -> Result<()> {
    let (mut names, mut places) = (HashSet::new(), Vec::new());
    let mut twice = None;
    params.visit_mut(&mut |p| {
        if !names.insert(p.name.to_owned()) {
            twice.get_or_insert_with(|| p.name.to_owned());
        }
        if p.role.is_trained()
            && let Some(all) = p.value.as_slice_memory_order()
            && !all.is_empty()
        {
            places.push((all.as_ptr_range(), p.name.to_owned()));
        }
    });
    if let Some(name) = twice {
        return Err(Error::invalid(format!("two tensors of the model are called `{name}`: rename one")));
    }
    places.sort_by_key(|(place, _)| place.start);
    match places.windows(2).find(|pair| pair[1].0.start < pair[0].0.end) {
        Some([(_, a), (_, b)]) => Err(Error::invalid(format!(
            "`{a}` and `{b}` are one tensor, which would be trained twice: let the model visit it under one name"
        ))),
        _ => Ok(()),
    }
}

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
    pub fn of(params: &dyn Params) -> Self {
        Self::default().renewed(params)
    }

    /// As [`of`](Self::of), in the memory of this older copy where the names and shapes are still the same. Fresh memory
    /// costs more than the copying: the operating system clears every page of it first.
    #[must_use]
    pub fn renewed(self, params: &dyn Params) -> Self {
        let mut old = self.0.into_iter();
        let mut all = Vec::new();
        params.visit(&mut |p| {
            let same =
                |(name, t): &(String, StateTensor)| name == p.name && t.value.shape() == p.value.shape();
            all.push(match old.next().filter(same) {
                Some((name, StateTensor { mut value, .. })) => {
                    value.as_slice_mut().into_iter().for_each(stale::hand_out);
                    value.assign(&p.value);
                    (name, StateTensor { role: p.role, value })
                }
                None => (p.name.to_owned(), StateTensor { role: p.role, value: p.value.to_owned() }),
            });
        });
        Self(all)
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&StateTensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Puts the tensors in the order of `params` and gives each the role that it has there; others come last. A file has
    /// an order of its own, and says only what is a counter.
    pub fn align(&mut self, params: &dyn Params) {
        let mut places = std::collections::HashMap::new();
        params.visit(&mut |p| {
            places.insert(p.name.to_owned(), (places.len(), p.role));
        });
        for (name, tensor) in &mut self.0 {
            tensor.role = places.get(name).map_or(tensor.role, |(_, role)| *role);
        }
        self.0.sort_by_key(|(name, _)| places.get(name).map_or(usize::MAX, |(place, _)| *place));
    }

    /// Copies every tensor that fits by name and shape into `params`, and says what it did. Counters that the file
    /// lacks are not counted as missing.
    pub fn load_into(&self, params: &mut dyn Params) -> LoadReport {
        let mut report = LoadReport::default();
        let mut seen = std::collections::HashSet::new();
        let index: std::collections::HashMap<&str, &StateTensor> =
            self.0.iter().map(|(n, t)| (n.as_str(), t)).collect();
        params.visit_mut(&mut |mut p| {
            let Some(found) = index.get(p.name) else {
                if p.role != Role::Counter {
                    report.missing.push(p.name.to_owned());
                }
                return;
            };
            seen.insert(p.name.to_owned());
            if found.value.shape() == p.value.shape() {
                p.value.assign(&found.value);
                report.loaded.push(p.name.to_owned());
            } else {
                report.mismatched.push(format!(
                    "{}: file {:?}, model {:?}",
                    p.name,
                    found.value.shape(),
                    p.value.shape()
                ));
            }
        });
        report.unexpected =
            self.0.iter().filter(|(n, _)| !seen.contains(n)).map(|(n, _)| n.clone()).collect();
        report
    }
}
