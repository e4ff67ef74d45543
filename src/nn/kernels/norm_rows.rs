//! The loops of batch normalisation over the planes of one channel.
#![allow(unsafe_code)]

use super::Elem;
use super::isa::multiversion;
use super::norm::{Affine, BnShape, Slope};
use super::tile::Out;

/// Lanes of a sum; a plane's remainder goes to the first ones.
const LANES: usize = 32;
/// Elements after which the lanes are emptied into the f64 total.
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
    fn add(&mut self, x: &[Elem], f: impl Fn(Elem) -> Elem) {
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for (l, v) in self.lanes.iter_mut().zip(block) {
                *l += f(*v);
            }
        }
        for (l, v) in self.lanes.iter_mut().zip(rest) {
            *l += f(*v);
        }
    }

    #[inline(always)]
    fn after(&mut self, elements: usize) {
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
    pub(super) fn sums(s: BnShape, c: usize, x: &[Elem]) -> f64 {
        let mut sum = Sum::new();
        for at in s.planes(c) {
            sum.add(&x[at..at + s.inner], |v| v);
            sum.after(s.inner);
        }
        sum.get()
    }
}

multiversion! {
    /// The sum of the squared distances from `mean`.
    pub(super) fn center_squares(s: BnShape, c: usize, x: &[Elem], mean: Elem) -> f64 {
        let mut sum = Sum::new();
        for at in s.planes(c) {
            sum.add(&x[at..at + s.inner], |v| (v - mean) * (v - mean));
            sum.after(s.inner);
        }
        sum.get()
    }
}

multiversion! {
    /// `y = relu?((x - mean) * scale + shift + residual)`. `y` must not be touched by others in this channel.
    pub(super) fn apply(s: BnShape, c: usize, a: Affine, x: &[Elem], residual: Option<&[Elem]>, relu: bool, y: Out<'_>) {
        let floor = if relu { 0.0 } else { Elem::NEG_INFINITY };
        for at in s.planes(c) {
            let x = &x[at..at + s.inner];
            // SAFETY: the callers run one task a channel.
            let y = unsafe { y.slice(at, s.inner) };
            match residual {
                None => for (y, x) in y.iter_mut().zip(x) {
                    let v = (*x - a.mean) * a.scale + a.shift;
                    *y = if v < floor { floor } else { v };
                },
                Some(r) => for ((y, x), r) in y.iter_mut().zip(x).zip(&r[at..at + s.inner]) {
                    let v = (*x - a.mean) * a.scale + a.shift + *r;
                    *y = if v < floor { floor } else { v };
                },
            }
        }
    }
}

multiversion! {
    /// (sum of dy, sum of dy * (x - mean)), after setting dy to 0 where y is not positive.
    pub(super) fn sum_grads(s: BnShape, c: usize, x: &[Elem], y: Option<&[Elem]>, mean: Elem, dy: Out<'_>) -> (f64, f64) {
        let (mut sum, mut sum_x) = (Sum::new(), Sum::new());
        for at in s.planes(c) {
            let x = &x[at..at + s.inner];
            // SAFETY: the callers run one task a channel.
            let dy = unsafe { dy.slice(at, s.inner) };
            if let Some(y) = y {
                for (d, y) in dy.iter_mut().zip(&y[at..at + s.inner]) {
                    *d = if *y > 0.0 { *d } else { 0.0 };
                }
            }
            let ((dys, dy_rest), (xs, x_rest)) = (dy.as_chunks::<LANES>(), x.as_chunks::<LANES>());
            for (d, x) in dys.iter().zip(xs) {
                for l in 0..LANES {
                    sum.lanes[l] += d[l];
                    sum_x.lanes[l] += d[l] * (x[l] - mean);
                }
            }
            for (l, (d, x)) in dy_rest.iter().zip(x_rest).enumerate() {
                sum.lanes[l] += *d;
                sum_x.lanes[l] += *d * (*x - mean);
            }
            sum.after(s.inner);
            sum_x.after(s.inner);
        }
        (sum.get(), sum_x.get())
    }
}

multiversion! {
    /// `dresidual = dy; dy = scale * (dy - offset - (x - mean) * slope)`.
    pub(super) fn backward(s: BnShape, c: usize, b: Slope, x: &[Elem], dy: Out<'_>, dresidual: Option<Out<'_>>) {
        for at in s.planes(c) {
            let x = &x[at..at + s.inner];
            // SAFETY: the callers run one task a channel.
            let dy = unsafe { dy.slice(at, s.inner) };
            if let Some(dr) = dresidual {
                // SAFETY: as above.
                unsafe { dr.slice(at, s.inner) }.copy_from_slice(dy);
            }
            for (d, x) in dy.iter_mut().zip(x) {
                *d = b.scale * (*d - b.offset - (*x - b.mean) * b.slope);
            }
        }
    }
}
