//! The narrow waist: everything that works on weights (optimizers, init, checkpoints, averaging) knows only [`Params`].
//!
//! A model's tensors need not lie in host memory. What they are called, what they are and what shape they have is known
//! without touching them ([`Params::infos`]); their values and gradients are operated on where they are
//! ([`Params::apply`], [`Params::norm`], [`Params::update`]) and moved only by an explicit [`Params::read`] or
//! [`Params::edit`]. A model whose tensors are arrays implements [`HostParams`] instead, two visits, and has the rest.

mod forward;
mod host;
mod optimizer;
mod own;
mod positions;
mod state_dict;
mod transfer;

use std::collections::{BTreeMap, HashSet};

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD};

pub use host::{HostParams, ParamMut, ParamRef};
pub use optimizer::{CloneOptimizer, Optimizer, ParamStep};
pub use own::{HostSet, OptimState, OwnSet};
pub(crate) use state_dict::some_of;
pub use state_dict::{LoadReport, Prefix, StateDict, StateTensor};
pub use transfer::update_by_transfer;

use crate::base::{Elem, Error, Result};

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

/// A tensor of a model without its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info<'a> {
    /// Dotted path as in PyTorch: `backbone.conv1.weight`.
    pub name: &'a str,
    /// Type name of the layer that owns it: `Conv2d`.
    pub layer: &'a str,
    /// What it is.
    pub role: Role,
    /// Its extents.
    pub shape: &'a [usize],
    /// Whether it is held still: it gets no gradient.
    pub frozen: bool,
    /// Where it is kept, from and to: an address or the number of a buffer. Tensors that share it are one tensor.
    pub storage: (usize, usize),
}

/// The tensors that a model has for its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// The weights, buffers included.
    Values,
    /// The gradients, of parameters that have one.
    Grads,
}

/// Which tensors an operation is about.
pub type Want<'a> = &'a dyn Fn(&Info<'_>) -> bool;

/// All tensors.
pub fn all(_: &Info<'_>) -> bool {
    true
}

/// The tensors that an optimizer moves, as a [`Want`].
pub fn trained(info: &Info<'_>) -> bool {
    info.role.is_trained()
}

/// The optimizer, with the numbers of its group, by the name of the parameter; `None` leaves the parameter as it is.
pub type RuleOf<'a> = &'a dyn Fn(&str) -> Option<&'a dyn Optimizer>;

/// What is done to whole sets of tensors where they are.
#[derive(Debug)]
pub enum Op<'a> {
    /// Gradients times a factor.
    ScaleGrads(f64),
    /// Gradients between minus this and this.
    ClampGrads(f64),
    /// The model's values into the set.
    CopyTo(&'a mut OwnSet),
    /// `own += weight * (value - own)`; what the set lacks is copied.
    LerpTo(&'a mut OwnSet, f64),
    /// The model's values and those of the set change places; what the set lacks stays as it is.
    Swap(&'a mut OwnSet),
}

/// A bag of named tensors, wherever they are. The order is stable and the same for all methods.
pub trait Params {
    /// Calls `f` with every tensor, buffers included; no value is touched.
    fn infos(&self, f: &mut dyn FnMut(Info<'_>));

    /// Calls `f` with a host view of every wanted tensor. Gradients that are not there are left out.
    ///
    /// # Errors
    /// What the device says.
    fn read(
        &self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewD<'_, Elem>),
    ) -> Result<()>;

    /// As [`read`](Self::read), with write access: what `f` leaves there is the tensor afterwards.
    ///
    /// # Errors
    /// What the device says.
    fn edit(
        &mut self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewMutD<'_, Elem>),
    ) -> Result<()>;

    /// Calls `f` with the name and a host view of every tensor of a set that [`apply`](Self::apply) or
    /// [`update`](Self::update) made.
    ///
    /// # Errors
    /// What the device says; a set of another kind of model.
    fn read_own(&self, own: &OwnSet, f: &mut dyn FnMut(&str, ArrayViewD<'_, Elem>)) -> Result<()>;

    /// Does this to the wanted tensors, where they are.
    ///
    /// # Errors
    /// What the device says; a set of another kind of model.
    fn apply(&mut self, op: Op<'_>, want: Want<'_>) -> Result<()>;

    /// The norm of all wanted tensors together, 0 without any; the order may be infinite. It is finite if and only if
    /// all elements are (but for powers beyond f64).
    ///
    /// # Errors
    /// What the device says.
    fn norm(&self, set: Set, order: f64, want: Want<'_>) -> Result<f64>;

    /// Gradients times a factor; whether all of the wanted ones are finite afterwards. Mixed precision asks in each step.
    ///
    /// # Errors
    /// What the device says.
    fn unscale(&mut self, factor: f64, want: Want<'_>) -> Result<bool> {
        self.apply(Op::ScaleGrads(factor), want)?;
        Ok(self.norm(Set::Grads, f64::INFINITY, want)?.is_finite())
    }

    /// Forgets all gradients: they become zero or, where a backward pass makes them, are not there any more.
    ///
    /// # Errors
    /// What the device says.
    fn clear_grads(&mut self) -> Result<()>;

    /// Takes sums of gradients back, by name; all others become zero. A model whose gradients come into being with the
    /// first backward pass makes them here, so that a run can be resumed inside an accumulation window.
    ///
    /// # Errors
    /// What the device says.
    fn put_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) -> Result<()>;

    /// One step of the optimizer for every trained parameter that has a gradient and a rule.
    ///
    /// By itself this moves gradients, values and state to the host and back ([`update_by_transfer`]). A device that
    /// has the formula of `rule.name()` computes it where the tensors are.
    ///
    /// # Errors
    /// What the device or the formula says.
    fn update(&mut self, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<()> {
        update_by_transfer(self, rule_of, state)
    }

    /// Gives `f` the gradients of all wanted parameters that are trained, and takes back what it leaves there: a sum over
    /// ranks. If `f` fails, the model may be left without some of them.
    ///
    /// # Errors
    /// What the device or `f` says; pieces of another length.
    fn exchange(&mut self, want: Want<'_>, f: &mut dyn FnMut(&mut FlatGrads) -> Result<()>) -> Result<()> {
        transfer::exchange(self, want, &|_, _| {}, f)
    }
}

/// Gradients as plain numbers, for [`Params::exchange`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlatGrads {
    /// The gradients in pieces that depend on the shapes of the parameters alone: one with all small ones, in the order of
    /// the model, and one for each that is large, in its own memory where the model can lend it. Zeros of a parameter
    /// that no loss has reached.
    pub pieces: Vec<Vec<Elem>>,
    /// Of each parameter, whether it has a gradient: afterwards those have one for which this says so.
    pub reached: Vec<bool>,
}

/// The trained tensors that stand under two names, as pairs of the first and a later one.
pub fn duplicates(params: &dyn Params) -> Vec<(String, String)> {
    let mut places = Vec::new();
    params.infos(&mut |p| {
        let (from, to) = p.storage;
        if p.role.is_trained() && from < to {
            places.push((p.storage, places.len(), p.name.to_owned()));
        }
    });
    places.sort();
    let mut found = Vec::new();
    let mut reach: Option<(usize, usize, String)> = None;
    for ((from, to), order, name) in places {
        match &mut reach {
            Some((end, first, earlier)) if from < *end => {
                let (a, b) = if *first < order { (earlier.clone(), name) } else { (name, earlier.clone()) };
                found.push((a, b));
                *end = to.max(*end);
            }
            _ => reach = Some((to, order, name)),
        }
    }
    found
}

/// Refuses a name that stands for two tensors.
///
/// # Errors
/// [`Error::Invalid`] with the name.
pub fn check_names(params: &dyn Params) -> Result<()> {
    let (mut names, mut twice) = (HashSet::new(), None);
    params.infos(&mut |p| {
        if !names.insert(p.name.to_owned()) {
            twice.get_or_insert_with(|| p.name.to_owned());
        }
    });
    match twice {
        Some(name) => {
            Err(Error::invalid(format!("two tensors of the model are called `{name}`: rename one")))
        }
        None => Ok(()),
    }
}

/// Refuses a trained tensor that stands under two names (it would be moved, decayed and counted twice), and a name that
/// stands for two tensors.
///
/// # Errors
/// [`Error::Invalid`] with the names.
pub fn check_distinct(params: &dyn Params) -> Result<()> {
    check_names(params)?;
    match duplicates(params).first() {
        Some((a, b)) => Err(Error::invalid(format!(
            "`{a}` and `{b}` are one tensor, which would be trained twice: let the model visit it under one name"
        ))),
        None => Ok(()),
    }
}
