//! Memory that lives across iterations: fresh pages cost ten times what a kept buffer costs.

use std::collections::HashMap;

use ndarray::IxDyn;

use crate::base::{Elem, Tensor};

/// Buffers by exact length, handed out with whatever they held last: who takes one writes all of it.
///
/// A shelf never grows beyond the number of buffers that one tape took from it: memory that came from elsewhere (a
/// batch, the gradient of a user's own op) is kept only in place of a buffer that left for good.
#[derive(Debug, Default)]
pub struct Pool {
    shelves: HashMap<usize, Shelf>,
    misses: u64,
}

#[derive(Debug, Default)]
struct Shelf {
    free: Vec<Vec<Elem>>,
    lent: usize,
}

impl Pool {
    /// A buffer of this length with stale contents.
    pub fn take(&mut self, len: usize) -> Vec<Elem> {
        if len == 0 {
            return Vec::new();
        }
        let shelf = self.shelves.entry(len).or_default();
        shelf.lent += 1;
        shelf.free.pop().unwrap_or_else(|| {
            self.misses += 1;
            vec![0.0; len]
        })
    }

    /// A buffer of zeros.
    pub fn zeros(&mut self, len: usize) -> Vec<Elem> {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Vec<Elem>) {
        if let Some(shelf) = self.shelves.get_mut(&buffer.len())
            && shelf.lent > 0
        {
            shelf.lent -= 1;
            shelf.free.push(buffer);
        }
    }

    /// Takes the memory of a tensor back, unless someone else still holds it.
    pub fn recycle(&mut self, tensor: Tensor) {
        if let Ok(own) = tensor.try_into_owned_nocopy() {
            self.give(own.into_raw_vec_and_offset().0);
        }
    }

    /// How often a buffer had to be made: constant once every shape was seen.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// Bytes that lie on the shelves.
    pub fn bytes(&self) -> usize {
        self.shelves.iter().map(|(len, shelf)| len * shelf.free.len() * size_of::<Elem>()).sum()
    }

    /// A new tape begins: what the last one did not bring back has left for good.
    pub(super) fn begin(&mut self) {
        self.shelves.values_mut().for_each(|shelf| shelf.lent = 0);
    }
}

/// The elements of a tensor of the tape in row-major order.
#[allow(clippy::expect_used)] // The tape takes in only row-major tensors: see `row_major`.
pub(super) fn slice(tensor: &Tensor) -> &[Elem] {
    tensor.as_slice().expect("tensors of a tape are row-major")
}

/// A tensor over a buffer of as many elements as the shape has.
#[allow(clippy::expect_used)] // Ops take the buffer by the length of the shape.
pub(super) fn tensor(shape: &[usize], buffer: Vec<Elem>) -> Tensor {
    Tensor::from_shape_vec(IxDyn(shape), buffer).expect("an op's buffer has the length of its shape")
}

/// The tensor itself, or a row-major copy of a permuted, reversed or sliced one.
pub(super) fn row_major(tensor: Tensor) -> Tensor {
    if tensor.is_standard_layout() { tensor } else { tensor.as_standard_layout().into_owned().into_shared() }
}
