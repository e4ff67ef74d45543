//! How kernels share out their work among the threads of the pool.
//!
//! The cut depends on lengths and shapes alone, never on the number of threads, so that results do not either. Where only
//! shapes count, what would be shared out is left out: see [`shapes_only`](crate::base::shapes_only).
//!
//! What is shared out is called through a pointer, so that the code that shares out is compiled once and not for each kernel.

use crate::base::{Elem, is_shapes_only};
use rayon::prelude::*;

/// Elements of one chunk: 64 KiB of f32, about what stays in a first-level cache on its way through.
const CHUNK: usize = 1 << 14;
/// Up to this length an element-wise call stays on its thread: a second one costs more than it brings.
const SERIAL: usize = 1 << 16;
/// Below this many multiplications and additions a product stays on its thread: they take about as long (4 µs at
/// 100 GFLOP/s) as it takes two threads to meet.
pub(super) const SERIAL_FLOPS: usize = 400_000;

/// Whether work that is not `serial` is left out, because only shapes count.
#[inline]
pub(super) fn left_out(serial: bool) -> bool {
    !serial && is_shapes_only()
}

/// Calls `f` on the chunks of `y`.
pub(super) fn each(y: &mut [Elem], f: impl Fn(&mut [Elem]) + Sync + Send) {
    if y.len() <= SERIAL {
        f(y);
    } else if !left_out(false) {
        let f: &(dyn Fn(&mut [Elem]) + Sync) = &f;
        y.par_chunks_mut(CHUNK).for_each(f);
    }
}

/// Calls `f` on the chunks of `x` and `y`, which are of one length.
pub(super) fn zip<X: Sync, Y: Send>(x: &[X], y: &mut [Y], f: impl Fn(&[X], &mut [Y]) + Sync + Send) {
    assert_eq!(x.len(), y.len(), "two slices of one length");
    if y.len() <= SERIAL {
        f(x, y);
    } else if !left_out(false) {
        let f: &(dyn Fn((&mut [Y], &[X])) + Sync) = &|(y, x)| f(x, y);
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(f);
    }
}

/// Calls `f` on blocks of `block` rows of `width` elements, with the number of the block's first row; in parallel where
/// all rows together hold more than a few elements.
pub(super) fn rows<Y: Send>(
    width: usize,
    block: usize,
    y: &mut [Y],
    f: impl Fn(usize, &mut [Y]) + Sync + Send,
) {
    chunks((width * block).max(1), y.len() <= SERIAL, y, |i, y| f(i * block, y));
}

/// Calls `f` on 0..count, one task each; in parallel if all the work touches more than a few elements.
pub(super) fn count(count: usize, elements: usize, f: impl Fn(usize) + Sync + Send) {
    tasks(count, elements <= SERIAL, f);
}

/// Calls `f` on 0..count, one task each, on this thread if `serial`.
pub(super) fn tasks(count: usize, serial: bool, f: impl Fn(usize) + Sync + Send) {
    if serial {
        (0..count).for_each(f);
    } else if !left_out(false) {
        let f: &(dyn Fn(usize) + Sync) = &f;
        (0..count).into_par_iter().with_max_len(1).for_each(f);
    }
}

/// Calls `f` on the chunks of `size` elements and their numbers, on this thread if `serial`.
pub(super) fn chunks<T: Send>(
    size: usize,
    serial: bool,
    y: &mut [T],
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if serial {
        y.chunks_mut(size).enumerate().for_each(|(i, y)| f(i, y));
    } else if !left_out(false) {
        numbered(size, y, &|(i, y)| f(i, y));
    }
}

/// Calls `f` on pieces of `size` elements and their numbers, several small pieces a task.
pub(super) fn each_index<T: Send>(size: usize, y: &mut [T], f: impl Fn(usize, &mut [T]) + Sync + Send) {
    each_reduced(size, size, y, f);
}

/// The same where a piece is made of `from` elements: where those are the most, they are the work, and were written by the
/// thread that had the same part of the kernel before.
pub(super) fn each_reduced<T: Send>(
    from: usize,
    size: usize,
    y: &mut [T],
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let most = from.max(size);
    if y.len() / size * most <= SERIAL {
        y.chunks_mut(size).enumerate().for_each(|(i, y)| f(i, y));
    } else if !left_out(false) {
        let pieces = (CHUNK / most).max(1);
        numbered(size * pieces, y, &|(block, y)| {
            y.chunks_mut(size).enumerate().for_each(|(i, y)| f(block * pieces + i, y));
        });
    }
}

/// Calls `f` on the chunks of `size` elements and their numbers, in parallel.
fn numbered<T: Send>(size: usize, y: &mut [T], f: &(dyn Fn((usize, &mut [T])) + Sync)) {
    y.par_chunks_mut(size).enumerate().for_each(f);
}
