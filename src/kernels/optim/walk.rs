//! One walk over value, gradient and state, for every update whose formula looks at one element at a time.

use crate::base::Elem;

/// Elements of one task: the streams of an update fit a second-level cache.
const PART: usize = 1 << 15;

/// Elements that are copied to the stack before they are computed with: what lies there overlaps with nothing, so that
/// the loop over them becomes vectors for any number of streams.
const BLOCK: usize = 64;

/// Lanes in which measured numbers are summed.
const LANES: usize = 8;

/// What a formula makes of one element: the new value, the new state, and a number that is summed over all elements.
pub type Stepped<const S: usize> = (Elem, [Elem; S], Elem);

/// Replaces each value and its state by what `formula(value, gradient, state)` gives.
///
/// # Panics
/// When the slices differ in length.
pub fn walk<const S: usize>(
    value: &mut [Elem],
    grad: &[Elem],
    state: [&mut [Elem]; S],
    formula: impl Fn(Elem, Elem, [Elem; S]) -> (Elem, [Elem; S]) + Copy + Send,
) {
    walk_and_sum(value, grad, state, move |w, g, s| {
        let (w, s) = formula(w, g, s);
        (w, s, 0.0)
    });
}

/// As [`walk`]; gives the sum of the formula's third number, in f64 and in an order that only the length decides.
///
/// # Panics
/// When the slices differ in length.
pub fn walk_and_sum<const S: usize>(
    value: &mut [Elem],
    grad: &[Elem],
    state: [&mut [Elem]; S],
    formula: impl Fn(Elem, Elem, [Elem; S]) -> Stepped<S> + Copy + Send,
) -> f64 {
    assert!(value.len() == grad.len() && state.iter().all(|s| s.len() == grad.len()));
    if value.len() <= PART {
        return part(value, grad, state, formula);
    }
    let half = (value.len() / 2).next_multiple_of(BLOCK);
    let ((w0, w1), (g0, g1)) = (value.split_at_mut(half), grad.split_at(half));
    let mut rest = [(); S].map(|()| &mut [][..]);
    let mut places = rest.iter_mut();
    let s0 = state.map(|s| {
        let (first, second) = s.split_at_mut(half);
        if let Some(place) = places.next() {
            *place = second;
        }
        first
    });
    let (a, b) =
        rayon::join(move || walk_and_sum(w0, g0, s0, formula), move || walk_and_sum(w1, g1, rest, formula));
    a + b
}

/// `multiversion!` for a function that is generic.
#[allow(unsafe_code)]
fn part<const S: usize, F: Fn(Elem, Elem, [Elem; S]) -> Stepped<S>>(
    value: &mut [Elem],
    grad: &[Elem],
    state: [&mut [Elem]; S],
    formula: F,
) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::kernels::isa::{Isa, isa};
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512<const S: usize, F: Fn(Elem, Elem, [Elem; S]) -> Stepped<S>>(
            value: &mut [Elem],
            grad: &[Elem],
            state: [&mut [Elem]; S],
            formula: F,
        ) -> f64 {
            blocks(value, grad, state, formula)
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<const S: usize, F: Fn(Elem, Elem, [Elem; S]) -> Stepped<S>>(
            value: &mut [Elem],
            grad: &[Elem],
            state: [&mut [Elem]; S],
            formula: F,
        ) -> f64 {
            blocks(value, grad, state, formula)
        }
        match isa() {
            // SAFETY: `isa` returns this class only if the CPU has the features.
            Isa::Avx512 => return unsafe { avx512(value, grad, state, formula) },
            // SAFETY: `isa` returns this class only if the CPU has the features.
            Isa::Avx2 => return unsafe { avx2(value, grad, state, formula) },
            Isa::Portable => {}
        }
    }
    blocks(value, grad, state, formula)
}

#[inline(always)]
fn blocks<const S: usize, F: Fn(Elem, Elem, [Elem; S]) -> Stepped<S>>(
    value: &mut [Elem],
    grad: &[Elem],
    state: [&mut [Elem]; S],
    formula: F,
) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (value, value_end) = value.as_chunks_mut::<BLOCK>();
    let (grad, grad_end) = grad.as_chunks::<BLOCK>();
    let mut ends = [(); S].map(|()| &mut [][..]);
    let mut places = ends.iter_mut();
    let state = state.map(|s| {
        let (blocks, end) = s.as_chunks_mut::<BLOCK>();
        if let Some(place) = places.next() {
            *place = end;
        }
        &mut blocks[..value.len()]
    });
    for (at, (w, g)) in value.iter_mut().zip(grad).enumerate() {
        let mut s: [[Elem; BLOCK]; S] = std::array::from_fn(|slot| state[slot][at]);
        let (mut here, mut measured) = (*w, *g);
        block(&mut here, &mut measured, &mut s, &formula);
        *w = here;
        for slot in 0..S {
            state[slot][at] = s[slot];
        }
        add(&mut sums, &measured);
    }
    // Beyond the end of the last block there are zeros, and what becomes of them is dropped.
    let n = value_end.len();
    let (mut here, mut measured, mut s) = ([0.0; BLOCK], [0.0; BLOCK], [[0.0; BLOCK]; S]);
    here[..n].copy_from_slice(value_end);
    measured[..n].copy_from_slice(grad_end);
    s.iter_mut().zip(&ends).for_each(|(s, end)| s[..n].copy_from_slice(end));
    block(&mut here, &mut measured, &mut s, &formula);
    value_end.copy_from_slice(&here[..n]);
    ends.iter_mut().zip(&s).for_each(|(end, s)| end.copy_from_slice(&s[..n]));
    measured[n..].fill(0.0);
    add(&mut sums, &measured);
    sums.iter().sum()
}

/// The formula on one block; the measured numbers take the place of the gradients.
#[inline(always)]
fn block<const S: usize, F: Fn(Elem, Elem, [Elem; S]) -> Stepped<S>>(
    value: &mut [Elem; BLOCK],
    grad: &mut [Elem; BLOCK],
    state: &mut [[Elem; BLOCK]; S],
    formula: &F,
) {
    for i in 0..BLOCK {
        let (new, kept, measured) = formula(value[i], grad[i], std::array::from_fn(|slot| state[slot][i]));
        (value[i], grad[i]) = (new, measured);
        for slot in 0..S {
            state[slot][i] = kept[slot];
        }
    }
}

#[inline(always)]
fn add(sums: &mut [f64; LANES], measured: &[Elem; BLOCK]) {
    for eight in measured.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            sums[lane] += eight[lane] as f64;
        }
    }
}
