//! Whole-set operations by way of the host, for devices that have none of their own.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use super::{OptimState, Params, RuleOf, Set, Want};
use crate::base::{Elem, Error, Result};

/// [`Params::update`] with the formula of the host: gradients and values are moved there and values back; the state
/// stays on the host. For an optimizer that a device does not have.
///
/// # Errors
/// What the device or the formula says.
pub fn update_by_transfer(
    params: &mut (impl Params + ?Sized),
    rule_of: RuleOf<'_>,
    state: &mut OptimState,
) -> Result<()> {
    let mut grads: BTreeMap<String, ArrayD<Elem>> = BTreeMap::new();
    params.read(Set::Grads, &|p| p.role.is_trained() && rule_of(p.name).is_some(), &mut |p, grad| {
        grads.insert(p.name.to_owned(), grad.to_owned());
    })?;
    state.begin()?;
    let mut done = Ok(());
    params.edit(Set::Values, &|p| grads.contains_key(p.name), &mut |p, value| {
        if let (Ok(()), Some(rule), Some(grad)) = (&done, rule_of(p.name), grads.get(p.name)) {
            done = state.step(p.name, rule, value, grad.view());
        }
    })?;
    done
}

/// [`Params::exchange`] by way of the host.
pub(super) fn exchange(
    params: &mut (impl Params + ?Sized),
    want: Want<'_>,
    f: &mut dyn FnMut(&mut [Elem]) -> Result<()>,
) -> Result<()> {
    let mut flat = Vec::new();
    params.read(Set::Grads, want, &mut |_, grad| flat.extend(grad.iter().copied()))?;
    f(&mut flat)?;
    let mut rest = flat.into_iter();
    params.edit(Set::Grads, want, &mut |_, mut grad| {
        grad.iter_mut().zip(rest.by_ref()).for_each(|(g, new)| *g = new);
    })?;
    match rest.next() {
        None => Ok(()),
        Some(_) => Err(Error::invalid("the model gave other gradients when they were put back")),
    }
}
