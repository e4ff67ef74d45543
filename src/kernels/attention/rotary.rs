//! Queries and keys are turned by their places (Su et al. 2021, <https://arxiv.org/abs/2104.09864>).

use crate::base::Elem;
use crate::kernels::par;
use rayon::prelude::*;

/// Tokens [batch, len, width], of which the first features are heads that are turned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotaryGeom {
    /// Tokens of a sequence.
    pub len: usize,
    /// Features of a token.
    pub width: usize,
    /// Features that are turned, the first ones: a multiple of `head`.
    pub turned: usize,
    /// Features of a head, an even number.
    pub head: usize,
    /// Of the wavelengths, from 2 pi to `base` times as much.
    pub base: f64,
}

/// Turns features 2i and 2i + 1 of each head of token t by the angle `t / base^(2i / head)`, or back if `back`.
pub fn rotary(g: &RotaryGeom, back: bool, x: &mut [Elem]) {
    assert!(g.turned <= g.width && g.head.is_multiple_of(2), "no heads of {g:?}");
    assert!(g.head > 0 && g.turned.is_multiple_of(g.head), "no heads of {g:?}");
    if g.width == 0 || g.len == 0 || par::left_out(false) {
        return;
    }
    let half = g.head / 2;
    let angles = (0..g.len * half).map(|i| {
        let angle = (i / half) as f64 / libm::pow(g.base, (2 * (i % half)) as f64 / g.head as f64);
        let (sin, cos) = libm::sincos(angle);
        (cos as Elem, (if back { -sin } else { sin }) as Elem)
    });
    let angles: Vec<(Elem, Elem)> = angles.collect();
    x.par_chunks_mut(g.len * g.width).for_each(|sequence| {
        for (token, angles) in sequence.chunks_exact_mut(g.width).zip(angles.chunks_exact(half)) {
            for head in token[..g.turned].chunks_exact_mut(g.head) {
                for (pair, (cos, sin)) in head.chunks_exact_mut(2).zip(angles) {
                    (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
                }
            }
        }
    });
}
