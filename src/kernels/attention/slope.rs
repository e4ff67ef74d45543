//! The slope of softmax in rows of scores.

use super::multi_head::LANES;
use crate::base::Elem;
use crate::kernels::gemm::Mat;
use crate::kernels::isa::multiversion;
use crate::kernels::math;
use crate::kernels::number::{Number, Numbers};
use crate::kernels::reduce::Lanes;

multiversion! {
    /// `p = exp(p - lse)`, row by row; zeros for a row without a place to look at.
    pub(super) fn exp_minus(pitch: usize, lse: &[Elem], p: &mut [Elem]) {
        for (p, lse) in p.chunks_exact_mut(pitch).zip(lse) {
            let lse = if *lse == Elem::NEG_INFINITY { Elem::INFINITY } else { *lse };
            for p in p {
                *p = math::exp(*p - lse);
            }
        }
    }
}

/// `ds = p * (ds - dy . y) / sqrt(dim)`, row by row; `dy` and `y` have the rows of one head.
pub(super) fn softmax_slope(pitch: usize, dy: Mat<'_>, y: Mat<'_>, p: &[Elem], ds: &mut [Elem]) {
    let (strides, d) = ([dy.rs, y.rs], Elem::all(dy.data));
    match y.data {
        Numbers::Full(y) => slope(pitch, dy.cols, strides, d, y, p, ds),
        Numbers::Half(y) => slope(pitch, dy.cols, strides, d, y, p, ds),
    }
}

multiversion! {
    fn slope<Y: Number>(
        pitch: usize,
        dim: usize,
        strides: [usize; 2],
        dy: &[Elem],
        y: &[Y],
        p: &[Elem],
        ds: &mut [Elem],
    ) {
        let scale = 1.0 / (dim as Elem).sqrt();
        for (i, (ds, p)) in ds.chunks_exact_mut(pitch).zip(p.chunks_exact(pitch)).enumerate() {
            let mut lanes = Lanes::<LANES>::ZERO;
            let (a, b) = (&dy[i * strides[0]..][..dim], &y[i * strides[1]..][..dim]);
            let (a, b) = (a.chunks(LANES), b.chunks(LANES));
            for (a, b) in a.zip(b) {
                for ((l, a), b) in lanes.0.iter_mut().zip(a).zip(b) {
                    *l += *a * b.wide();
                }
            }
            let delta = lanes.sum();
            for (d, p) in ds.iter_mut().zip(p) {
                *d = *p * (*d - delta) * scale;
            }
        }
    }
}
