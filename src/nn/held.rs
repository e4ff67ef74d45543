//! How a tape holds values: in full, or in mixed precision in bf16, which takes half the memory.
//!
//! What PyTorch's autocast keeps in bf16 between layers, the outputs of convolutions and of the batch norms behind
//! them, is rounded to bf16 as it is written, so that whoever reads it, forward or on the way back, reads the same
//! numbers. An op that reads bf16 asks for [`Var::held`]; others, and whoever looks, get a copy in full by
//! [`Var::value`], which changes nothing of what is held.

use std::rc::Rc;

use half::slice::HalfBitsSliceExt as _;
use ndarray::{Dimension as _, IxDyn};

use crate::base::{Elem, Tensor};
use crate::kernels::{Numbers, NumbersMut, Precision, add_assign, add_halves, narrow, precision, widen};

use super::buffer_pool::{slice, tensor};
use super::{BufferPool, Tape, Var};

/// Values of fewer numbers stay in full: they are a quarter of a MiB at most, and to round them takes as long as some
/// products do.
const LARGE: usize = 1 << 16;

/// A value that is held.
#[derive(Clone)]
pub(super) enum Held {
    Full(Tensor),
    Half(Half),
}

/// A value in bf16.
#[derive(Clone)]
pub(super) struct Half {
    shape: IxDyn,
    numbers: Rc<Vec<u16>>,
}

impl Held {
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Full(value) => value.shape(),
            Self::Half(half) => half.shape.slice(),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Full(value) => value.len(),
            Self::Half(half) => half.numbers.len(),
        }
    }

    pub fn is_half(&self) -> bool {
        matches!(self, Self::Half(_))
    }

    /// What kernels read.
    pub fn numbers(&self) -> Numbers<'_> {
        match self {
            Self::Full(value) => Numbers::Full(slice(value)),
            Self::Half(half) => Numbers::Half(half.numbers.reinterpret_cast()),
        }
    }

    /// In full.
    pub fn to_tensor(&self, pool: &mut BufferPool) -> Tensor {
        match self {
            Self::Full(value) => value.clone(),
            Self::Half(half) => {
                let mut wide = pool.take(half.numbers.len());
                widen(half.numbers.reinterpret_cast(), &mut wide);
                tensor(half.shape.slice(), wide)
            }
        }
    }

    /// Gives its memory back, unless someone else holds it.
    pub fn recycle(self, pool: &mut BufferPool) {
        match self {
            Self::Full(value) => pool.recycle(value),
            Self::Half(half) => {
                if let Ok(own) = Rc::try_unwrap(half.numbers) {
                    pool.halves.give(own);
                }
            }
        }
    }
}

/// Numbers that nobody else holds: the result of an op to be written, or a gradient.
#[derive(Debug)]
pub(super) enum Owned {
    Full(Vec<Elem>),
    Half(Vec<u16>),
}

impl Owned {
    /// What kernels write.
    pub fn numbers(&mut self) -> NumbersMut<'_> {
        match self {
            Self::Full(value) => NumbersMut::Full(value),
            Self::Half(half) => NumbersMut::Half(half.reinterpret_cast_mut()),
        }
    }

    /// What kernels read.
    pub fn read(&self) -> Numbers<'_> {
        match self {
            Self::Full(numbers) => Numbers::Full(numbers),
            Self::Half(half) => Numbers::Half(half.reinterpret_cast()),
        }
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// In full.
    pub fn in_full(self, pool: &mut BufferPool) -> Vec<Elem> {
        match self {
            Self::Full(numbers) => numbers,
            Self::Half(half) => {
                let mut wide = pool.take(half.len());
                widen(half.reinterpret_cast(), &mut wide);
                pool.halves.give(half);
                wide
            }
        }
    }

    /// In bf16 if `half`, else in full.
    pub fn stored(self, half: bool, pool: &mut BufferPool) -> Self {
        match self {
            Self::Full(full) if half => {
                let mut rounded = pool.halves.take(full.len());
                narrow(&full, rounded.reinterpret_cast_mut());
                pool.give(full);
                Self::Half(rounded)
            }
            Self::Half(_) if !half => Self::Full(self.in_full(pool)),
            as_it_is => as_it_is,
        }
    }

    /// The sum of two, in bf16 if both are.
    pub fn plus(self, more: Self, pool: &mut BufferPool) -> Self {
        match (self, more) {
            (Self::Half(mut sum), Self::Half(more)) => {
                add_halves(more.reinterpret_cast(), sum.reinterpret_cast_mut());
                pool.halves.give(more);
                Self::Half(sum)
            }
            (sum, more) => {
                let (mut sum, more) = (sum.in_full(pool), more.in_full(pool));
                add_assign(&more, &mut sum);
                pool.give(more);
                Self::Full(sum)
            }
        }
    }

    /// Gives its memory back.
    pub fn recycle(self, pool: &mut BufferPool) {
        match self {
            Self::Full(full) => pool.give(full),
            Self::Half(half) => pool.halves.give(half),
        }
    }

    /// The finished value.
    pub fn held(self, shape: &[usize]) -> Held {
        match self {
            Self::Full(value) => Held::Full(tensor(shape, value)),
            Self::Half(half) => Held::Half(Half { shape: IxDyn(shape), numbers: Rc::new(half) }),
        }
    }
}

impl BufferPool {
    /// A buffer of this length, of bf16 numbers if `half`, with stale contents.
    pub(super) fn take_owned(&mut self, half: bool, len: usize) -> Owned {
        match half {
            true => Owned::Half(self.halves.take(len)),
            false => Owned::Full(self.take(len)),
        }
    }
}

impl Tape {
    /// Whether mixed precision holds a result of so many numbers in bf16.
    pub(super) fn holds_bf16(&self, len: usize) -> bool {
        len >= LARGE && self.keeps() && precision() == Precision::Bf16
    }

    /// A buffer for the result of an op, in bf16 if `half`, with stale contents.
    pub(super) fn output(&self, half: bool, len: usize) -> Owned {
        self.with_pool(|pool| pool.take_owned(half, len))
    }
}

impl Var<'_> {
    /// Its value as it is held.
    pub(super) fn held(self) -> Held {
        self.tape.settle(self.id);
        self.tape.arena.borrow().nodes[self.id as usize].value.clone()
    }
}
