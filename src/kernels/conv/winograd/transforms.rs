//! The transforms of F(4 x 4, 3 x 3) on vectors of 16 channels: the matrices of Lavin and Gray for other points.
#![allow(unsafe_code)]

use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::gemm::microkernel::LANES;
use crate::kernels::isa::multiversion;

/// Side of a tile of outputs.
pub(super) const OUT: usize = 4;
/// Side of a tile of inputs.
pub(super) const IN: usize = 6;
/// Products of a tile.
pub(super) const POINTS: usize = IN * IN;

type V = [Elem; LANES];
const ZERO: V = [0.0; LANES];

/// The points besides 0 and infinity are P, -P, Q and -Q. With the usual 1 and 2 the numbers would be rounder and the
/// errors three times as large.
const P: Elem = 0.625;
const Q: Elem = 1.5;
const P2: Elem = P * P;
const Q2: Elem = Q * Q;
/// One over the product of a point's distances from the others.
const N0: Elem = 1.0 / (P2 * Q2);
const NP: Elem = 1.0 / (2.0 * P2 * (P2 - Q2));
const NQ: Elem = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// `Bt d`.
#[inline(always)]
fn bt(d: [Elem; 6]) -> [Elem; 6] {
    let (a, b) = (d[4] - Q2 * d[2], P * (d[3] - Q2 * d[1]));
    let (c, e) = (d[4] - P2 * d[2], Q * (d[3] - P2 * d[1]));
    let ends = |x: Elem, y: Elem, z: Elem| P2 * Q2 * x - (P2 + Q2) * y + z;
    [ends(d[0], d[2], d[4]), a + b, a - b, c + e, c - e, ends(d[1], d[3], d[5])]
}

/// `At m`.
#[inline(always)]
fn at(m: [Elem; 6]) -> [Elem; 4] {
    let (a, b, c, d) = (m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]);
    [m[0] + a + c, P * b + Q * d, P2 * a + Q2 * c, P * P2 * b + Q * Q2 * d + m[5]]
}

/// `A y`.
#[inline(always)]
fn a(y: [Elem; 4]) -> [Elem; 6] {
    let (a, b) = (y[0] + P2 * y[2], P * y[1] + P * P2 * y[3]);
    let (c, d) = (y[0] + Q2 * y[2], Q * y[1] + Q * Q2 * y[3]);
    [y[0], a + b, a - b, c + d, c - d, y[3]]
}

/// `G g`.
#[inline(always)]
fn g(w: [Elem; 3]) -> [Elem; 6] {
    let (a, b) = (NP * (w[0] + P2 * w[2]), NP * P * w[1]);
    let (c, d) = (NQ * (w[0] + Q2 * w[2]), NQ * Q * w[1]);
    [N0 * w[0], a + b, a - b, c + d, c - d, w[2]]
}

/// `Gt u`.
#[inline(always)]
fn gt(u: [Elem; 6]) -> [Elem; 3] {
    let (a, b) = (NP * (u[1] + u[2]), NP * P * (u[1] - u[2]));
    let (c, d) = (NQ * (u[3] + u[4]), NQ * Q * (u[3] - u[4]));
    [N0 * u[0] + a + c, b + d, P2 * a + Q2 * c + u[5]]
}

/// `f` on each lane of N vectors.
#[inline(always)]
fn lanes<const N: usize, const M: usize>(x: [&V; N], f: impl Fn([Elem; N]) -> [Elem; M]) -> [V; M] {
    let mut out = [ZERO; M];
    for l in 0..LANES {
        let y = f(x.map(|v| v[l]));
        for m in 0..M {
            out[m][l] = y[m];
        }
    }
    out
}

/// `f` on the columns, then on the rows of an N x N matrix of vectors, which `load(row, column)` gives; `store` takes
/// M x M. `half` holds what is between: the columns are done and the rows are not.
#[inline(always)]
fn transform_2d<'a, const N: usize, const M: usize>(
    half: &mut [[V; N]; M],
    load: impl Fn(usize, usize) -> &'a V,
    f: impl Fn([Elem; N]) -> [Elem; M] + Copy,
    mut store: impl FnMut(usize, usize, &V),
) {
    for j in 0..N {
        let column = lanes(std::array::from_fn(|i| load(i, j)), f);
        for (row, v) in half.iter_mut().zip(column) {
            row[j] = v;
        }
    }
    for (i, row) in half.iter().enumerate() {
        for (j, v) in lanes(row.each_ref(), f).iter().enumerate() {
            store(i, j, v);
        }
    }
}

/// Stores a vector without a call to copy it.
#[inline(always)]
fn store_vector(out: &mut [Elem], v: &V) {
    if let Some(out) = out.first_chunk_mut() {
        *out = *v;
    }
}

/// The vector at `at`.
#[inline(always)]
fn load_vector(x: &[Elem], at: usize) -> &V {
    match x[at..].first_chunk() {
        Some(v) => v,
        None => &ZERO,
    }
}

/// How far two points of `n` numbers each lie apart: a vector more, as a cache keeps what lies a power of two apart in one
/// set, and the transforms walk through all points at once.
pub(super) const fn apart(n: usize) -> usize {
    n + LANES
}

/// Where the points of transformed tiles lie: point p of tile t at `p * point + t * tile`.
#[derive(Clone, Copy)]
pub(super) struct TileStrides {
    pub point: usize,
    pub tile: usize,
}

multiversion! {
    /// `Bt d B` of a row of `tiles` tiles; `x` starts at their first row of [.., width, 16] inputs.
    pub(super) fn inputs(x: &[Elem], width: usize, tiles: usize, to: TileStrides, out: DisjointMut<'_>) {
        let mut half = [[ZERO; 6]; 6];
        for t in 0..tiles {
            transform_2d(
                &mut half,
                |i, j| load_vector(x, (i * width + t * OUT + j) * LANES),
                bt,
                // SAFETY: the callers make tasks of which no two have a tile and a block of channels in common.
                |i, j, v| store_vector(unsafe { out.slice((i * IN + j) * to.point + t * to.tile, LANES) }, v),
            );
        }
    }
}

multiversion! {
    /// `A dy At` of a row of `tiles` tiles; `dy` starts at their first row of [.., width, 16] gradients.
    pub(super) fn gradients(dy: &[Elem], width: usize, tiles: usize, to: TileStrides, out: DisjointMut<'_>) {
        let mut half = [[ZERO; 4]; 6];
        for t in 0..tiles {
            transform_2d(
                &mut half,
                |i, j| load_vector(dy, (i * width + t * OUT + j) * LANES),
                a,
                // SAFETY: the callers make tasks of which no two have a tile and a block of channels in common.
                |i, j, v| store_vector(unsafe { out.slice((i * IN + j) * to.point + t * to.tile, LANES) }, v),
            );
        }
    }
}

multiversion! {
    /// `At m A` of a row of `tiles` tiles, to `out` of [rows, cols, step], whose rows and columns may end
    /// within the tiles.
    pub(super) fn outputs(
        m: &[Elem],
        from: TileStrides,
        tiles: usize,
        size: (usize, usize),
        step: usize,
        out: &mut [Elem],
    ) {
        let mut half = [[ZERO; 6]; 4];
        let (rows, cols) = size;
        for t in 0..tiles {
            transform_2d(
                &mut half,
                |i, j| load_vector(m, (i * IN + j) * from.point + t * from.tile),
                at,
                |i, j, v| {
                    if i < rows && t * OUT + j < cols {
                        store_vector(&mut out[(i * cols + t * OUT + j) * step..], v);
                    }
                },
            );
        }
    }
}

multiversion! {
    /// `G g Gt` of `channels` kernels: taps at `w[(c * 9 + tap) * step]`, points to `out[p * point + c * step]`, 16
    /// lanes each.
    pub(super) fn kernels(w: &[Elem], step: usize, channels: usize, point: usize, out: &mut [Elem]) {
        let mut half = [[ZERO; 3]; 6];
        for c in 0..channels {
            transform_2d(
                &mut half,
                |i, j| load_vector(w, (c * 9 + i * 3 + j) * step),
                g,
                |i, j, v| store_vector(&mut out[(i * IN + j) * point + c * step..], v),
            );
        }
    }
}

multiversion! {
    /// `Gt u G`, the inverse walk of [`kernels`].
    pub(super) fn kernel_gradients(u: &[Elem], step: usize, channels: usize, point: usize, out: &mut [Elem]) {
        let mut half = [[ZERO; 6]; 3];
        for c in 0..channels {
            transform_2d(
                &mut half,
                |i, j| load_vector(u, (i * IN + j) * point + c * step),
                gt,
                |i, j, v| store_vector(&mut out[(c * 9 + i * 3 + j) * step..], v),
            );
        }
    }
}
