//! Element-wise work in fixed chunks: the cut depends on the length alone.

use super::Elem;
use rayon::prelude::*;

/// Elements of one chunk: 64 KiB of f32, about what stays in a first-level cache on its way through.
const CHUNK: usize = 1 << 14;
/// Up to this length a call stays on its thread: a second one costs more than it brings.
const SERIAL: usize = 1 << 16;

/// Calls `f` on the chunks of `y`.
pub(super) fn each(y: &mut [Elem], f: impl Fn(&mut [Elem]) + Sync + Send) {
    if y.len() <= SERIAL { f(y) } else { y.par_chunks_mut(CHUNK).for_each(f) }
}

/// Calls `f` on the chunks of `x` and `y`, which are of one length.
pub(super) fn zip<X: Sync>(x: &[X], y: &mut [Elem], f: impl Fn(&[X], &mut [Elem]) + Sync + Send) {
    assert_eq!(x.len(), y.len(), "two slices of one length");
    if y.len() <= SERIAL {
        f(x, y)
    } else {
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| f(x, y));
    }
}

/// Calls `f` on blocks of rows of `width` elements, the number of the block's first row given; in parallel where all rows hold
/// more than a few elements.
pub(super) fn rows(width: usize, block: usize, y: &mut [Elem], f: impl Fn(usize, &mut [Elem]) + Sync + Send) {
    let size = (width * block).max(1);
    let one = |(i, y): (usize, &mut [Elem])| f(i * block, y);
    if y.len() <= SERIAL {
        y.chunks_mut(size).enumerate().for_each(one);
    } else {
        y.par_chunks_mut(size).enumerate().for_each(one);
    }
}

/// Calls `f` on 0..count; in parallel if all the work touches more than a few elements.
pub(super) fn count(count: usize, elements: usize, f: impl Fn(usize) + Sync + Send) {
    if elements <= SERIAL {
        (0..count).for_each(f);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(f);
    }
}

/// Calls `f` on pieces of `size` elements, their number given.
pub(super) fn each_index<T: Send>(size: usize, y: &mut [T], f: impl Fn(usize, &mut [T]) + Sync + Send) {
    if y.len() <= SERIAL {
        y.chunks_mut(size).enumerate().for_each(|(i, y)| f(i, y));
    } else {
        let pieces = (CHUNK / size).max(1);
        y.par_chunks_mut(size * pieces).enumerate().for_each(|(block, y)| {
            y.chunks_mut(size).enumerate().for_each(|(i, y)| f(block * pieces + i, y));
        });
    }
}
