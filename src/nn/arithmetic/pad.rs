//! More at both ends of an axis.

use crate::base::{Elem, Error, Result};
use crate::nn::Var;

/// What stands in the padding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PadMode {
    /// This number; PyTorch's `constant`.
    Constant(Elem),
    /// The value mirrored at its end, which is not repeated: `c b | a b c | b a`.
    Reflect,
    /// The value at the end: `a a | a b c | c c`.
    Replicate,
    /// The value from its other end on: `b c | a b c | a b`.
    Circular,
}

impl Var<'_> {
    /// The value with `pads` elements more before and after each axis, in PyTorch's order: first the two of the last
    /// axis, then those of the one before. A negative number takes elements away.
    pub fn pad(self, pads: &[isize], mode: PadMode) -> Self {
        let shape = self.shape();
        let (pairs, odd) = pads.as_chunks::<2>();
        if !odd.is_empty() || pairs.len() > shape.len() {
            return self.attempt(|| {
                Err(Error::invalid(format!(
                    "`pad` by {pads:?} does not fit shape {shape:?}: give two numbers for each axis, the last \
                     axis first"
                )))
            });
        }
        let axes = (0..shape.len()).rev().zip(pairs).filter(|(_, pair)| **pair != [0, 0]);
        axes.fold(self, |x, (axis, pair)| {
            x.attempt(|| Ok(x.taken("pad", axis, mode.places(&shape, axis, *pair)?, mode.fill())))
        })
    }
}

impl PadMode {
    fn fill(self) -> Elem {
        match self {
            Self::Constant(value) => value,
            _ => 0.0,
        }
    }

    /// Where each place of the padded axis comes from.
    fn places(self, shape: &[usize], axis: usize, [before, after]: [isize; 2]) -> Result<Vec<Option<usize>>> {
        let size = shape[axis] as isize;
        let misfit = |why: &str| {
            Error::invalid(format!("`pad` of axis {axis} of shape {shape:?} by {before} and {after}: {why}"))
        };
        let end = size.checked_add(after).filter(|end| end.checked_add(before).is_some_and(|len| len >= 0));
        let end = end.ok_or_else(|| misfit("nothing of that length is left"))?;
        let most = before.max(after);
        match self {
            Self::Reflect if most >= size.max(1) => {
                Err(misfit("a mirror has less than the axis itself to show"))
            }
            Self::Circular if most > size => Err(misfit("the axis goes round once at most")),
            Self::Replicate if size == 0 && most > 0 => Err(misfit("there is nothing to repeat")),
            _ => Ok((-before..end).map(|at| self.place(at, size)).collect()),
        }
    }

    fn place(self, at: isize, size: isize) -> Option<usize> {
        let inside = match self {
            Self::Constant(_) => return usize::try_from(at).ok().filter(|_| at < size),
            Self::Reflect if at < 0 => -at,
            Self::Reflect if at >= size => 2 * (size - 1) - at,
            Self::Reflect => at,
            Self::Replicate => at.min(size - 1).max(0),
            Self::Circular => at.rem_euclid(size),
        };
        Some(inside as usize)
    }
}
