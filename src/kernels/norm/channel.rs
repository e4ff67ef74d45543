//! The loops of batch normalisation over the planes of one channel.
#![allow(unsafe_code)]

use super::batch_norm::{BnShape, ChannelGrad, ChannelMap, Planes};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::isa::multiversion;
use crate::kernels::number::Number;
use crate::kernels::prefetch::{ask_to_read, ask_to_write};
use crate::kernels::scratch::Scratch;

/// Lanes of a sum: two AVX-512 registers, so that additions do not wait for each other. A plane's remainder goes to
/// the first lanes.
const LANES: usize = 32;
/// Elements after which the lanes are emptied into the f64 total: 128 additions in f32 a lane lose at most a few of
/// its digits.
const FLUSH: usize = 4096;

/// A sum in f32 lanes, emptied into f64 now and then.
struct Sum {
    lanes: [Elem; LANES],
    total: f64,
    held: usize,
}

impl Sum {
    #[inline(always)]
    fn new() -> Self {
        Self { lanes: [0.0; LANES], total: 0.0, held: 0 }
    }

    /// Adds `f` of each element.
    #[inline(always)]
    fn add<X: Number>(&mut self, x: &[X], f: impl Fn(Elem) -> Elem) {
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for (l, v) in self.lanes.iter_mut().zip(block) {
                *l += f(v.wide());
            }
        }
        for (l, v) in self.lanes.iter_mut().zip(rest) {
            *l += f(v.wide());
        }
    }

    #[inline(always)]
    fn flush_after(&mut self, elements: usize) {
        self.held += elements;
        if self.held >= FLUSH {
            self.flush();
        }
    }

    #[inline(always)]
    fn flush(&mut self) {
        self.total += self.lanes.iter().map(|&l| l as f64).sum::<f64>();
        self.lanes = [0.0; LANES];
        self.held = 0;
    }

    #[inline(always)]
    fn get(mut self) -> f64 {
        self.flush();
        self.total
    }
}

multiversion! {
    /// The sum of channel `c`.
    pub(super) fn sums<X: Number>(s: BnShape, c: usize, x: &[X]) -> f64 {
        let mut sum = Sum::new();
        for at in s.planes(c) {
            ask_to_read(s.next(x.as_ptr(), at), s.ahead());
            sum.add(&x[at..at + s.inner], |v| v);
            sum.flush_after(s.inner);
        }
        sum.get()
    }
}

multiversion! {
    /// The sum of the squared distances from `mean`.
    pub(super) fn center_squares<X: Number>(s: BnShape, c: usize, x: &[X], mean: Elem) -> f64 {
        let mut sum = Sum::new();
        for at in s.planes(c) {
            sum.add(&x[at..at + s.inner], |v| (v - mean) * (v - mean));
            sum.flush_after(s.inner);
        }
        sum.get()
    }
}

multiversion! {
    /// `y = relu?((x - mean) * scale + shift + residual)`. Others must not touch this channel of `y`.
    pub(super) fn apply<X: Number>(
        s: BnShape,
        c: usize,
        map: ChannelMap,
        x: &[X],
        residual: Option<&[X]>,
        relu: Option<Elem>,
        y: DisjointMut<'_, X>,
    ) {
        let (floor, most) = relu.map_or((Elem::NEG_INFINITY, Elem::INFINITY), |most| (0.0, most));
        for at in s.planes(c) {
            ask_to_write(s.next(y.ptr, at), s.ahead());
            if let Some(r) = residual {
                ask_to_read(s.next(r.as_ptr(), at), s.ahead());
            }
            let x = &x[at..at + s.inner];
            // SAFETY: the callers run one task a channel.
            let y = unsafe { y.slice(at, s.inner) };
            match residual {
                None => for (y, x) in y.iter_mut().zip(x) {
                    let v = (x.wide() - map.mean) * map.scale + map.shift;
                    let v = if v < floor { floor } else { v };
                    *y = X::of(if v > most { most } else { v });
                },
                Some(r) => for ((y, x), r) in y.iter_mut().zip(x).zip(&r[at..at + s.inner]) {
                    let v = (x.wide() - map.mean) * map.scale + map.shift + r.wide();
                    let v = if v < floor { floor } else { v };
                    *y = X::of(if v > most { most } else { v });
                },
            }
        }
    }
}

multiversion! {
    /// (sum of dy, sum of dy * (x - mean)), after setting dy to 0 where y is not between 0 and the number beside it. With
    /// `masked` the result of that goes there and `dy` stays.
    pub(super) fn sum_grads<X: Number>(
        s: BnShape,
        c: usize,
        x: &[X],
        y: Option<(&[X], Elem)>,
        mean: Elem,
        planes: Planes<'_, X>,
    ) -> (f64, f64) {
        let (mut sum, mut sum_x) = (Sum::new(), Sum::new());
        for at in s.planes(c) {
            ask_to_read(s.next(x.as_ptr(), at), s.ahead());
            if let Some((y, _)) = y {
                ask_to_read(s.next(y.as_ptr(), at), s.ahead());
            }
            for dy in [Some(planes.dy), planes.masked].into_iter().flatten() {
                ask_to_write(s.next(dy.ptr, at), s.ahead());
            }
            let x = &x[at..at + s.inner];
            // SAFETY: the callers run one task a channel.
            let dy = unsafe { planes.dy.slice(at, s.inner) };
            let dy = match planes.masked {
                // SAFETY: the callers run one task a channel.
                Some(masked) => mask(y, at, dy, unsafe { masked.slice(at, s.inner) }),
                None => mask_inplace(y, at, dy),
            };
            let ((dys, dy_rest), (xs, x_rest)) = (dy.as_chunks::<LANES>(), x.as_chunks::<LANES>());
            for (d, x) in dys.iter().zip(xs) {
                for l in 0..LANES {
                    sum.lanes[l] += d[l].wide();
                    sum_x.lanes[l] += d[l].wide() * (x[l].wide() - mean);
                }
            }
            for (l, (d, x)) in dy_rest.iter().zip(x_rest).enumerate() {
                sum.lanes[l] += d.wide();
                sum_x.lanes[l] += d.wide() * (x.wide() - mean);
            }
            sum.flush_after(s.inner);
            sum_x.flush_after(s.inner);
        }
        (sum.get(), sum_x.get())
    }
}

#[inline(always)]
fn mask_inplace<'a, X: Number>(y: Option<(&[X], Elem)>, at: usize, dy: &'a mut [X]) -> &'a [X] {
    if let Some((y, most)) = y {
        for (d, y) in dy.iter_mut().zip(&y[at..]) {
            let y = y.wide();
            *d = if y > 0.0 && y < most { *d } else { X::of(0.0) };
        }
    }
    dy
}

#[inline(always)]
fn mask<'a, X: Number>(y: Option<(&[X], Elem)>, at: usize, dy: &[X], masked: &'a mut [X]) -> &'a [X] {
    match y {
        Some((y, most)) => {
            for ((m, d), y) in masked.iter_mut().zip(dy).zip(&y[at..]) {
                let y = y.wide();
                *m = if y > 0.0 && y < most { *d } else { X::of(0.0) };
            }
        }
        None => masked.copy_from_slice(dy),
    }
    masked
}

multiversion! {
    /// `dy = scale * (d - offset - (x - mean) * slope)`, d being `masked` where it is given, else `dy`.
    pub(super) fn input_grad<X: Number>(
        s: BnShape,
        c: usize,
        grad: ChannelGrad,
        x: &[X],
        planes: Planes<'_, X>,
    ) {
        for at in s.planes(c) {
            let x = &x[at..at + s.inner];
            // SAFETY: the callers run one task a channel.
            let dy = unsafe { planes.dy.slice(at, s.inner) };
            match planes.masked {
                None => for (d, x) in dy.iter_mut().zip(x) {
                    *d = X::of(grad.scale * (d.wide() - grad.offset - (x.wide() - grad.mean) * grad.slope));
                },
                Some(masked) => {
                    // SAFETY: the callers run one task a channel.
                    let masked = unsafe { masked.slice(at, s.inner) };
                    for ((d, m), x) in dy.iter_mut().zip(masked).zip(x) {
                        *d = X::of(grad.scale * (m.wide() - grad.offset - (x.wide() - grad.mean) * grad.slope));
                    }
                }
            }
        }
    }
}

/// A local copy of one channel, its small planes side by side. They share cache lines with other channels and lie far
/// apart, so they are gathered once and then walked in one piece.
pub(super) fn gather<X: Number>(s: BnShape, c: usize, x: &[X]) -> Scratch {
    let mut local = Scratch::take(s.count());
    for (local, at) in local.chunks_exact_mut(s.inner).zip(s.planes(c)) {
        X::read(&x[at..at + s.inner], local);
    }
    local
}

/// [`gather`] from a slice that is written to later; others must not touch this channel of it.
pub(super) fn gather_own<X: Number>(s: BnShape, c: usize, x: DisjointMut<'_, X>) -> Scratch {
    let mut local = Scratch::take(s.count());
    for (local, at) in local.chunks_exact_mut(s.inner).zip(s.planes(c)) {
        // SAFETY: the callers run one task a channel.
        X::read(unsafe { x.slice(at, s.inner) }, local);
    }
    local
}

/// Writes a local copy back to `x`; others must not touch this channel of it.
pub(super) fn scatter<X: Number>(s: BnShape, c: usize, local: &[Elem], x: DisjointMut<'_, X>) {
    for (local, at) in local.chunks_exact(s.inner).zip(s.planes(c)) {
        // SAFETY: the callers run one task a channel.
        X::write(local, unsafe { x.slice(at, s.inner) });
    }
}
