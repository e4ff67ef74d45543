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

/// Elements from which on a gradient is a piece of its own: the copy there and back takes longer than one more call.
const LARGE: usize = 1 << 16;

/// How a model on the host lends the memory of its gradients: [`HostParams::visit_grads`](super::HostParams::visit_grads).
pub(super) type Lend<'a, P> = &'a dyn Fn(&mut P, &mut dyn FnMut(&str, &mut Option<ArrayD<Elem>>));

/// [`Params::exchange`] by way of the host; what the model lends is not copied.
pub(super) fn exchange<P: Params + ?Sized>(
    params: &mut P,
    want: Want<'_>,
    lend: Lend<'_, P>,
    f: &mut dyn FnMut(&mut FlatGrads) -> Result<()>,
) -> Result<()> {
    let wanted = |p: &Info<'_>| p.role.is_trained() && !p.frozen && want(p);
    let mut places = Places::new();
    params.infos(&mut |p| {
        if wanted(&p) {
            places.add(p.name, p.shape);
        }
    });
    let mut flat = places.empty();
    lend(params, &mut |name, grad| {
        if let Some((at, place)) = places.next(name)
            && let Some(memory) = place.taken(grad)
        {
            flat.pieces[place.piece] = memory;
            flat.reached[at] = true;
        }
    });
    places.next = 0;
    params.read(Set::Grads, &wanted, &mut |p, grad| {
        if let Some((at, place)) = places.next(p.name) {
            let piece = &mut flat.pieces[place.piece];
            piece.resize(place.range.start, 0.0);
            match grad.as_slice() {
                Some(all) => piece.extend_from_slice(all),
                None => piece.extend(&grad),
            }
            flat.reached[at] = true;
        }
    })?;
    flat.pieces.iter_mut().zip(&places.lens).for_each(|(piece, len)| piece.resize(*len, 0.0));
    let had = flat.reached.clone();
    f(&mut flat)?;
    if !flat.pieces.iter().map(Vec::len).eq(places.lens.iter().copied()) || flat.reached.len() != had.len() {
        return Err(Error::invalid("other gradients were put back than the model gave"));
    }
    if flat.reached != had {
        return put_all(params, &wanted, &places, &flat);
    }
    places.next = 0;
    lend(params, &mut |name, grad| {
        if let Some((at, place)) = places.next(name)
            && grad.is_none()
            && had[at]
        {
            let memory = std::mem::take(&mut flat.pieces[place.piece]);
            *grad = ArrayD::from_shape_vec(&place.shape[..], memory).ok();
        }
    });
    places.next = 0;
    params.edit(Set::Grads, &wanted, &mut |p, mut grad| {
        if let Some((_, place)) = places.next(p.name)
            // There is none where the memory itself has come back.
            && let Some(values) = flat.pieces[place.piece].get(place.range.clone())
        {
            match grad.as_slice_mut() {
                Some(all) if all.len() == values.len() => all.copy_from_slice(values),
                _ => grad.iter_mut().zip(values).for_each(|(grad, value)| *grad = *value),
            }
        }
    })
}

/// Where a parameter's gradient stands.
struct Place {
    name: String,
    shape: Vec<usize>,
    piece: usize,
    range: Range<usize>,
}

impl Place {
    /// The memory of a gradient that is all of its piece.
    fn taken(&self, grad: &mut Option<ArrayD<Elem>>) -> Option<Vec<Elem>> {
        let is_own = |grad: &ArrayD<Elem>| grad.is_standard_layout() && grad.shape() == self.shape;
        if self.range.len() < LARGE || !grad.as_ref().is_some_and(is_own) {
            return None;
        }
        let (memory, offset) = grad.take()?.into_raw_vec_and_offset();
        if (memory.len(), offset) == (self.range.len(), Some(0)) {
            return Some(memory);
        }
        // A part of larger memory.
        let from = offset.unwrap_or(0);
        Some(memory[from..from + self.range.len()].to_vec())
    }
}

/// The places of all gradients: the first piece has those that are not large, one behind the other.
struct Places {
    all: Vec<Place>,
    /// The length of each piece.
    lens: Vec<usize>,
    /// Where the next name of a walk is looked for.
    next: usize,
}

impl Places {
    fn new() -> Self {
        Self { all: Vec::new(), lens: vec![0], next: 0 }
    }

    fn add(&mut self, name: &str, shape: &[usize]) {
        let len: usize = shape.iter().product();
        let piece = if len < LARGE { 0 } else { self.lens.len() };
        if piece > 0 {
            self.lens.push(0);
        }
        let from = self.lens[piece];
        self.lens[piece] += len;
        self.all.push(Place { name: name.to_owned(), shape: shape.to_vec(), piece, range: from..from + len });
    }

    /// Pieces to be filled. The first has room for what is summed along with it: a mark of each parameter, and a count.
    fn empty(&self) -> FlatGrads {
        let mut pieces = vec![Vec::new(); self.lens.len()];
        pieces[0].reserve_exact(self.lens[0] + self.all.len() + 2);
        FlatGrads { pieces, reached: vec![false; self.all.len()] }
    }

    /// The place of a name in a walk through the model, whose order is that of all walks: some may be left out.
    fn next(&mut self, name: &str) -> Option<(usize, &Place)> {
        let at = self.next + self.all.get(self.next..)?.iter().position(|place| place.name == name)?;
        self.next = at + 1;
        Some((at, &self.all[at]))
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
    for (place, _) in places.all.iter().zip(&flat.reached).filter(|(_, reached)| **reached) {
        let values = flat.pieces[place.piece][place.range.clone()].to_vec();
        if let Ok(sum) = ArrayD::from_shape_vec(&place.shape[..], values) {
            sums.insert(place.name.clone(), sum);
        }
    }
    params.put_grads(&sums)
}
