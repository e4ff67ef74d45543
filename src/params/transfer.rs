//! Whole-set operations by way of the host, for devices that have none of their own.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::ArrayD;

use super::{FlatGrads, Info, OptimState, Params, RuleOf, Set, Want};
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
    f: &mut dyn FnMut(&mut FlatGrads) -> Result<()>,
) -> Result<()> {
    let wanted = |p: &Info<'_>| p.role.is_trained() && !p.frozen && want(p);
    let mut places = Places::default();
    params.infos(&mut |p| {
        if wanted(&p) {
            places.add(p.name, p.shape.iter().product());
        }
    });
    let mut flat =
        FlatGrads { values: Vec::with_capacity(places.len), reached: vec![false; places.all.len()] };
    params.read(Set::Grads, &wanted, &mut |p, grad| {
        if let Some((at, range)) = places.next(p.name) {
            flat.values.resize(range.start, 0.0);
            match grad.as_slice() {
                Some(all) => flat.values.extend_from_slice(all),
                None => flat.values.extend(&grad),
            }
            flat.reached[at] = true;
        }
    })?;
    flat.values.resize(places.len, 0.0);
    let had = flat.reached.clone();
    f(&mut flat)?;
    if (flat.values.len(), flat.reached.len()) != (places.len, had.len()) {
        return Err(Error::invalid("other gradients were put back than the model gave"));
    }
    if flat.reached != had {
        return put_all(params, &wanted, &places, &flat);
    }
    places.next = 0;
    params.edit(Set::Grads, &wanted, &mut |p, mut grad| {
        if let Some((_, range)) = places.next(p.name) {
            match grad.as_slice_mut() {
                Some(all) if all.len() == range.len() => all.copy_from_slice(&flat.values[range]),
                _ => grad.iter_mut().zip(&flat.values[range]).for_each(|(grad, flat)| *grad = *flat),
            }
        }
    })
}

/// Where each parameter stands in a flat buffer.
#[derive(Default)]
struct Places {
    all: Vec<(String, Range<usize>)>,
    len: usize,
    /// Where the next name of a walk is looked for.
    next: usize,
}

impl Places {
    fn add(&mut self, name: &str, len: usize) {
        self.all.push((name.to_owned(), self.len..self.len + len));
        self.len += len;
    }

    /// The place of a name in a walk through the model, whose order is that of all walks: some may be left out.
    fn next(&mut self, name: &str) -> Option<(usize, Range<usize>)> {
        let at = self.next + self.all.get(self.next..)?.iter().position(|(own, _)| own == name)?;
        self.next = at + 1;
        Some((at, self.all[at].1.clone()))
    }
}

/// Gives gradients to parameters that had none.
fn put_all(
    params: &mut (impl Params + ?Sized),
    wanted: Want<'_>,
    places: &Places,
    flat: &FlatGrads,
) -> Result<()> {
    let mut sums: BTreeMap<String, ArrayD<Elem>> = BTreeMap::new();
    params.read(Set::Grads, &|p| !wanted(p), &mut |p, grad| {
        sums.insert(p.name.to_owned(), grad.to_owned());
    })?;
    let mut walk = places.all.iter().zip(&flat.reached);
    params.infos(&mut |p| {
        if !wanted(&p) {
            return;
        }
        if let Some(((_, range), true)) = walk.next()
            && let Ok(sum) = ArrayD::from_shape_vec(p.shape, flat.values[range.clone()].to_vec())
        {
            sums.insert(p.name.to_owned(), sum);
        }
    });
    params.put_grads(&sums)
}
