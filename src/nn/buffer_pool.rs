//! Memory that lives across iterations: fresh pages cost ten times what a kept buffer costs.

use std::collections::HashMap;

use ndarray::IxDyn;

use crate::base::{Elem, Tensor, is_shapes_only, stale};

/// Buffers by exact length, handed out with whatever they held last: who takes one writes all of it.
///
/// A free list never grows beyond the number of buffers that one tape took from it: memory that came from elsewhere (a
/// batch, the gradient of a user's own op) is kept only in place of a buffer that left for good.
#[derive(Debug, Default)]
pub struct BufferPool {
    values: FreeLists<Elem>,
    /// Values in bf16, by their bits.
    pub(super) halves: FreeLists<u16>,
    /// Positions, as of the maxima of a pooling.
    pub(super) indices: FreeLists<u32>,
    /// Masks, as of dropout.
    pub(super) masks: FreeLists<u8>,
}

/// The buffers of one element type.
#[derive(Debug, Default)]
pub(super) struct FreeLists<T> {
    by_len: HashMap<usize, FreeList<T>>,
    misses: u64,
}

#[derive(Debug, Default)]
struct FreeList<T> {
    free: Vec<Vec<T>>,
    taken: usize,
}

/// Above this glibc's `calloc` maps fresh pages, which take no memory until somebody touches them; what is smaller may be
/// memory that was freed before, which it has to clear.
const MAPPED: usize = 33 << 20;

/// A new buffer. Where only shapes count nobody writes it, and large networks have more buffers than a machine has memory.
fn zeros<T: Default + Clone>(len: usize) -> Vec<T> {
    let large = len.saturating_mul(size_of::<T>()) > 1 << 20;
    let least = if large && is_shapes_only() { MAPPED / size_of::<T>() } else { 0 };
    let mut buffer = vec![T::default(); len.max(least)];
    buffer.truncate(len);
    buffer
}

impl<T: Default + bytemuck::Pod> FreeLists<T> {
    pub fn take(&mut self, len: usize) -> Vec<T> {
        if len == 0 {
            return Vec::new();
        }
        let list = self.by_len.entry(len).or_default();
        list.taken += 1;
        let mut buffer = list.free.pop().unwrap_or_else(|| {
            self.misses += 1;
            zeros(len)
        });
        stale::hand_out(&mut buffer);
        buffer
    }

    pub fn give(&mut self, buffer: Vec<T>) {
        if let Some(list) = self.by_len.get_mut(&buffer.len())
            && list.taken > 0
        {
            list.taken -= 1;
            list.free.push(buffer);
        }
    }

    fn keep(&mut self, buffer: Vec<T>) {
        self.by_len.entry(buffer.len()).or_default().free.push(buffer);
    }

    fn begin(&mut self) {
        self.by_len.values_mut().for_each(|list| list.taken = 0);
    }

    fn bytes(&self) -> usize {
        self.by_len.iter().map(|(len, list)| len * list.free.len() * size_of::<T>()).sum()
    }
}

impl BufferPool {
    /// A buffer of this length with stale contents.
    pub fn take(&mut self, len: usize) -> Vec<Elem> {
        self.values.take(len)
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Vec<Elem>) {
        self.values.give(buffer);
    }

    /// Keeps a buffer that left with an earlier tape.
    pub(super) fn keep(&mut self, buffer: Vec<Elem>) {
        self.values.keep(buffer);
    }

    /// Takes the memory of a tensor back, unless someone else still holds it.
    pub fn recycle(&mut self, tensor: Tensor) {
        if let Ok(own) = tensor.try_into_owned_nocopy() {
            self.give(own.into_raw_vec_and_offset().0);
        }
    }

    /// How often a buffer had to be made: constant once every shape was seen.
    pub fn misses(&self) -> u64 {
        self.values.misses + self.halves.misses + self.indices.misses + self.masks.misses
    }

    /// Bytes that wait to be taken.
    pub fn bytes(&self) -> usize {
        self.values.bytes() + self.halves.bytes() + self.indices.bytes() + self.masks.bytes()
    }

    /// A new tape begins: what the last one did not bring back has left for good.
    pub(super) fn begin(&mut self) {
        self.values.begin();
        self.halves.begin();
        self.indices.begin();
        self.masks.begin();
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
