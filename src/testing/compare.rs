//! What the trial of a model takes out of it, and how that is compared: for `model_contract!`.

use ndarray::{ArrayD, Zip};

use crate::base::{Elem, Error, Result, caught_from};
use crate::data::Batch;
use crate::model::{Model, Outputs, StepCx};
use crate::optim::{Adam, Optimizer, Sgd};
use crate::params::{Info, OwnSet, Role, Set, all};

use super::Signs;

/// Tensors by name, in the order of the model.
pub(super) type Tensors = Vec<(String, ArrayD<Elem>)>;

pub(super) fn broken(text: impl Into<String>) -> Error {
    Error::invalid(text.into())
}

/// The wanted tensors of a set.
pub(super) fn taken(model: &dyn Model, set: Set, want: impl Fn(&Info<'_>) -> bool) -> Result<Tensors> {
    let mut found = Tensors::new();
    model.read(set, &want, &mut |p, tensor| found.push((p.name.to_owned(), tensor.to_owned())))?;
    Ok(found)
}

/// All weights and buffers.
pub(super) fn values(model: &dyn Model) -> Result<Tensors> {
    taken(model, Set::Values, all)
}

/// All gradients that there are.
pub(super) fn gradients(model: &dyn Model) -> Result<Tensors> {
    taken(model, Set::Grads, all)
}

/// The tensors of a model's own set, in the order of `like`.
pub(super) fn own(model: &dyn Model, set: &OwnSet, like: &Tensors) -> Result<Tensors> {
    let mut found = Tensors::new();
    model.read_own(set, &mut |name, tensor| found.push((name.to_owned(), tensor.to_owned())))?;
    let place = |name: &str| like.iter().position(|(own, _)| own == name);
    found.sort_by_key(|(name, _)| place(name));
    Ok(found)
}

/// Tensor by tensor; what one side lacks is left out.
pub(super) fn zipped(a: &Tensors, b: &Tensors, f: impl Fn(Elem, Elem) -> Elem) -> Tensors {
    let pairs = a.iter().zip(b).filter(|(a, b)| a.0 == b.0);
    pairs.map(|(a, b)| (a.0.clone(), Zip::from(&a.1).and(&b.1).map_collect(|a, b| f(*a, *b)))).collect()
}

/// Every tensor times a number.
pub(super) fn times(all: &Tensors, factor: Elem) -> Tensors {
    all.iter().map(|(name, tensor)| (name.clone(), tensor * factor)).collect()
}

/// The norm of all of them together.
pub(super) fn norm_of(all: &Tensors, order: f64) -> f64 {
    let each = all.iter().flat_map(|(_, tensor)| tensor).map(|v| f64::from(*v).abs());
    if order.is_infinite() {
        each.fold(0.0, f64::max)
    } else {
        each.map(|v| v.powf(order)).sum::<f64>().powf(1.0 / order)
    }
}

/// Refuses tensors that differ in a bit.
pub(super) fn same(what: &str, a: &Tensors, b: &Tensors) -> Result<()> {
    near(what, a, b, 0.0)
}

/// Refuses tensors of which an element differs by more than this part of the tensor's largest.
pub(super) fn near(what: &str, a: &Tensors, b: &Tensors, part: f64) -> Result<()> {
    let names = |all: &Tensors| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(", ");
    if names(a) != names(b) {
        return Err(broken(format!("{what} are of other tensors: [{}] and [{}]", names(a), names(b))));
    }
    for ((name, a), (_, b)) in a.iter().zip(b) {
        if a.shape() != b.shape() {
            return Err(broken(format!(
                "{what} differ in the shape of `{name}`: {:?} and {:?}",
                a.shape(),
                b.shape()
            )));
        }
        let largest = a.iter().chain(b).fold(0.0, |most: f64, v| most.max(f64::from(*v).abs()));
        let off = |(a, b): &(&Elem, &Elem)| {
            (f64::from(**a) - f64::from(**b)).abs() > part * largest || a.is_nan() != b.is_nan()
        };
        if let Some((a, b)) = a.iter().zip(b).find(off) {
            return Err(broken(format!("{what} differ in `{name}`: {a} and {b}")));
        }
    }
    Ok(())
}

/// Two that a device may have, and one that none has.
pub(super) fn optimizers() -> [Box<dyn Optimizer>; 3] {
    let sgd = Sgd::new(0.05).momentum(0.9).weight_decay(0.01).nesterov(true);
    [Box::new(sgd), Box::new(Adam::decoupled(0.01).weight_decay(0.1)), Box::new(Signs::new(0.01))]
}

/// Forward, loss and backward in an iteration.
pub(super) fn step(model: &mut dyn Model, batch: &Batch, iter: u64, loss_scale: Elem) -> Result<Outputs> {
    caught_from("`train_step`", || {
        let mut outputs = model.train_step(batch, &StepCx { seed: 1, iter, loss_scale })?;
        outputs.settle().map(|()| outputs)
    })
}

/// Names, shapes, roles and layers.
pub(super) fn told(model: &dyn Model) -> Vec<(String, Vec<usize>, Role, String)> {
    let mut told = Vec::new();
    model.infos(&mut |p| told.push((p.name.to_owned(), p.shape.to_vec(), p.role, p.layer.to_owned())));
    told
}
