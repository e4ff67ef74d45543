//! Gated linear units: one half of an axis lets the other half through.

use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::math::sigmoid;
use crate::kernels::par;

/// Elements of one task.
const BLOCK: usize = 1 << 13;

/// What becomes of the first half a and the second half b.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `a * sigmoid(b)`.
    Sigmoid,
    /// `a * sigmoid(a) * b`.
    Swish,
}

multiversion! {
    fn forward_row(gate: Gate, a: &[Elem], b: &[Elem], y: &mut [Elem]) {
        let all = y.iter_mut().zip(a).zip(b);
        match gate {
            Gate::Sigmoid => for ((y, &a), &b) in all { *y = a * sigmoid(b) },
            Gate::Swish => for ((y, &a), &b) in all { *y = a * sigmoid(a) * b },
        }
    }
}

multiversion! {
    fn backward_row(gate: Gate, a: &[Elem], b: &[Elem], dy: &[Elem], da: &mut [Elem], db: &mut [Elem]) {
        let all = da.iter_mut().zip(db).zip(a).zip(b).zip(dy);
        match gate {
            Gate::Sigmoid => for ((((da, db), &a), &b), &dy) in all {
                let s = sigmoid(b);
                (*da, *db) = (dy * s, dy * a * (s * (1.0 - s)));
            },
            Gate::Swish => for ((((da, db), &a), &b), &dy) in all {
                let s = sigmoid(a);
                (*da, *db) = (dy * b * (s * (1.0 + a * (1.0 - s))), dy * (a * s));
            },
        }
    }
}

/// `y` of x, whose rows are a half and another of `half` elements each.
pub fn gated(gate: Gate, half: usize, x: &[Elem], y: &mut [Elem]) {
    assert!(x.len() == 2 * y.len() && y.len().is_multiple_of(half.max(1)));
    let half = half.max(1);
    par::rows(half, (BLOCK / half).max(1), y, |i, y| {
        for (x, y) in x[2 * i * half..].chunks_exact(2 * half).zip(y.chunks_exact_mut(half)) {
            let (a, b) = x.split_at(half);
            forward_row(gate, a, b, y);
        }
    });
}

/// `dx` of the gradient `dy` of [`gated`].
pub fn gated_backward(gate: Gate, half: usize, x: &[Elem], dy: &[Elem], dx: &mut [Elem]) {
    assert!(x.len() == dx.len() && x.len() == 2 * dy.len() && dy.len().is_multiple_of(half.max(1)));
    let half = half.max(1);
    par::rows(2 * half, (BLOCK / half).max(1), dx, |i, dx| {
        let rows = x[2 * i * half..].chunks_exact(2 * half).zip(dy[i * half..].chunks_exact(half));
        for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(2 * half)) {
            let ((a, b), (da, db)) = (x.split_at(half), dx.split_at_mut(half));
            backward_row(gate, a, b, dy, da, db);
        }
    });
}
