//! The loops of pooling over one plane: tap by tap along whole output rows, so that they become vectors.

use super::pool2d::PoolGeom;
use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::number::Number;

/// One tap of an output row: outputs lo..hi take inputs `start`, `start + stride`, …
struct Tap {
    lo: usize,
    hi: usize,
    start: usize,
}

/// The taps that lie inside the input, in the order of the window, for the output row `oy`.
#[inline(always)]
fn taps(g: &PoolGeom, oy: usize) -> impl Iterator<Item = Tap> + use<> {
    let g = *g;
    (0..g.kernel[0]).flat_map(move |r| {
        let y = (oy * g.stride[0] + r * g.dilation[0]).wrapping_sub(g.padding[0]);
        (0..if y < g.h { g.kernel[1] } else { 0 }).filter_map(move |s| {
            let (at, pad, stride) = (s * g.dilation[1], g.padding[1], g.stride[1]);
            let lo = pad.saturating_sub(at).div_ceil(stride);
            let hi = (g.w + pad).saturating_sub(at).div_ceil(stride).min(g.out[1]);
            (lo < hi).then(|| Tap { lo, hi, start: y * g.w + lo * stride + at - pad })
        })
    })
}

/// Adds the tap's values to the sums.
#[inline(always)]
fn add_tap(stride: usize, t: &Tap, x: &[Elem], sums: &mut [Elem]) {
    let (x, sums) = (&x[t.start..], &mut sums[t.lo..t.hi]);
    match stride {
        1 => {
            for (s, x) in sums.iter_mut().zip(x) {
                *s += *x;
            }
        }
        2 => {
            // Pairs become vectors; the last output may have no pair any more.
            let last = sums.len() - 1;
            for (s, x) in sums[..last].iter_mut().zip(x.chunks_exact(2)) {
                *s += x[0];
            }
            sums[last] += x[2 * last];
        }
        _ => {
            for (s, x) in sums.iter_mut().zip(x.iter().step_by(stride)) {
                *s += *x;
            }
        }
    }
}

/// Where the tap's value is larger than the best so far, it and its place win.
#[inline(always)]
fn best_tap<X: Number>(stride: usize, t: &Tap, x: &[X], best: &mut [X], at: &mut [u32]) {
    let win = |best: &mut X, at: &mut u32, v: X, place: u32| {
        let wins = v.wide() > best.wide() || v.wide().is_nan();
        *best = if wins { v } else { *best };
        *at = if wins { place } else { *at };
    };
    let (n, start) = (best.len(), t.start as u32);
    let x = &x[t.start..];
    match stride {
        1 => {
            for (i, ((b, at), v)) in best.iter_mut().zip(at).zip(x).enumerate() {
                win(b, at, *v, start + i as u32);
            }
        }
        2 => {
            for (i, ((b, at), v)) in best[..n - 1].iter_mut().zip(&mut *at).zip(x.chunks_exact(2)).enumerate()
            {
                win(b, at, v[0], start + 2 * i as u32);
            }
            win(&mut best[n - 1], &mut at[n - 1], x[2 * n - 2], start + 2 * (n as u32 - 1));
        }
        _ => {
            for (i, ((b, at), v)) in best.iter_mut().zip(at).zip(x.iter().step_by(stride)).enumerate() {
                win(b, at, *v, start + (stride * i) as u32);
            }
        }
    }
}

multiversion! {
    pub(super) fn max_plane<X: Number>(g: &PoolGeom, x: &[X], y: &mut [X], argmax: &mut [u32]) {
        let rows = y.chunks_exact_mut(g.out[1]).zip(argmax.chunks_exact_mut(g.out[1]));
        for (oy, (y, argmax)) in rows.enumerate() {
            for v in &mut *y {
                *v = X::of(Elem::NEG_INFINITY);
            }
            for v in &mut *argmax {
                *v = u32::MAX;
            }
            for t in taps(g, oy) {
                best_tap(g.stride[1], &t, x, &mut y[t.lo..t.hi], &mut argmax[t.lo..t.hi]);
            }
            // A window of minus infinities: its first place.
            for (ox, at) in argmax.iter_mut().enumerate() {
                if *at == u32::MAX {
                    let first = taps(g, oy).find(|t| (t.lo..t.hi).contains(&ox));
                    *at = first.map_or(0, |t| (t.start + (ox - t.lo) * g.stride[1]) as u32);
                }
            }
        }
    }
}

/// Whether each output is the mean of its own 2 × 2 inputs and none is left over.
#[inline(always)]
fn halves_exactly(g: &PoolGeom) -> bool {
    g.kernel == [2, 2]
        && g.stride == [2, 2]
        && g.padding == [0, 0]
        && [2 * g.out[0], 2 * g.out[1]] == [g.h, g.w]
}

multiversion! {
    pub(super) fn mean_plane(g: &PoolGeom, count_include_pad: bool, x: &[Elem], y: &mut [Elem]) {
        if halves_exactly(g) {
            // Rows are added in whole, then pairs of the plane: short rows would be mostly remainders. A piece is 2
            // KiB, a few rows of common sizes.
            const PIECE: usize = 512;
            let mut sums = [0.0; PIECE];
            let rows = (PIECE / g.w).max(1);
            if g.w <= PIECE {
                for (x, y) in x.chunks(2 * g.w * rows).zip(y.chunks_mut(g.out[1] * rows)) {
                    let sums = &mut sums[..2 * y.len()];
                    for (s, x) in sums.chunks_exact_mut(g.w).zip(x.chunks_exact(2 * g.w)) {
                        let (a, b) = x.split_at(g.w);
                        for (s, (a, b)) in s.iter_mut().zip(a.iter().zip(b)) {
                            *s = *a + *b;
                        }
                    }
                    for (y, s) in y.iter_mut().zip(sums.chunks_exact(2)) {
                        *y = (s[0] + s[1]) * 0.25;
                    }
                }
                return;
            }
        }
        for (oy, y) in y.chunks_exact_mut(g.out[1]).enumerate() {
            for v in &mut *y {
                *v = 0.0;
            }
            for t in taps(g, oy) {
                add_tap(g.stride[1], &t, x, y);
            }
            divide(g, count_include_pad, oy, y);
        }
    }
}

/// Divides a row of sums by the sizes of their windows.
#[inline(always)]
fn divide(g: &PoolGeom, count_include_pad: bool, oy: usize, y: &mut [Elem]) {
    let last = g.out[1] - 1;
    // Without padding or a window cut off at the end all divisors of a row are equal.
    if g.padding[1] == 0 && last * g.stride[1] + g.kernel[1] <= g.w {
        let d = g.divisor(oy, 0, count_include_pad);
        for v in y {
            *v /= d;
        }
    } else {
        for (ox, v) in y.iter_mut().enumerate() {
            *v /= g.divisor(oy, ox, count_include_pad);
        }
    }
}

multiversion! {
    pub(super) fn spread_plane(g: &PoolGeom, count_include_pad: bool, dy: &[Elem], dx: &mut [Elem]) {
        if halves_exactly(g) {
            for (dx, dy) in dx.chunks_exact_mut(2 * g.w).zip(dy.chunks_exact(g.out[1])) {
                for row in dx.chunks_exact_mut(g.w) {
                    for (dx, dy) in row.chunks_exact_mut(2).zip(dy) {
                        dx[0] = *dy * 0.25;
                        dx[1] = *dy * 0.25;
                    }
                }
            }
            return;
        }
        for v in &mut *dx {
            *v = 0.0;
        }
        for (oy, dy) in dy.chunks_exact(g.out[1]).enumerate() {
            for t in taps(g, oy) {
                for (i, ox) in (t.lo..t.hi).enumerate() {
                    dx[t.start + i * g.stride[1]] += dy[ox] / g.divisor(oy, ox, count_include_pad);
                }
            }
        }
    }
}
