//! Softmax attention of several heads, without the score matrices in memory: one head's scores at a time.

use super::gemm_plan::product_here;
use super::isa::multiversion;
use super::layer_norm::halve;
use super::scratch::Scratch;
use super::softmax::softmax_inplace;
use super::{Elem, Mat, MatMut, dropout_inplace, math};
use rayon::prelude::*;

/// Elements that a row of scores is padded to a multiple of, so that loops over it have no rest.
const LANES: usize = 16;

/// The shape of an attention: `q` and `out` are [batch, q_len, heads, dim], `k` and `v` [batch, k_len, heads, dim].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttnGeom {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Tokens that ask.
    pub q_len: usize,
    /// Tokens that are looked at.
    pub k_len: usize,
    /// Size of a head.
    pub dim: usize,
}

/// What is not shape.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttnOpts<'a> {
    /// Added to the scores of every head: [q_len, k_len]; minus infinity forbids. A row of nothing but forbidden
    /// places gives 0.
    pub bias: Option<&'a [Elem]>,
    /// Dropout of the probabilities: what to keep, [batch, heads, q_len, k_len], and the scale `1 / (1 - p)`.
    pub dropout: Option<(&'a [u8], Elem)>,
}

/// One operand of one sequence: token t of head h is at `first + t * token + h * dim`.
#[derive(Clone, Copy)]
struct Heads<'a> {
    data: &'a [Elem],
    first: usize,
    token: usize,
}

impl<'a> Heads<'a> {
    fn mat(&self, g: &AttnGeom, h: usize, len: usize) -> Mat<'a> {
        let data = self.data.get(self.first + h * g.dim..).unwrap_or_default();
        Mat { data, rows: len, cols: g.dim, rs: self.token, cs: 1 }
    }
}

impl AttnGeom {
    fn width(&self) -> usize {
        self.heads * self.dim
    }

    /// Distance of two rows of scores.
    fn pitch(&self) -> usize {
        self.k_len.next_multiple_of(LANES)
    }

    /// A matrix of scores, without the padding.
    fn scores<'a>(&self, p: &'a [Elem]) -> Mat<'a> {
        Mat { data: p, rows: self.q_len, cols: self.k_len, rs: self.pitch(), cs: 1 }
    }

    /// A matrix of scores to write to.
    fn scores_mut<'a>(&self, p: &'a mut [Elem]) -> MatMut<'a> {
        MatMut { data: p, rows: self.q_len, cols: self.k_len, rs: self.pitch() }
    }

    fn check(&self, q: &[Elem], k: &[Elem], v: &[Elem], out: &[Elem], lse: &[Elem], opts: &AttnOpts<'_>) {
        let (nq, nk) = (self.batch * self.q_len * self.width(), self.batch * self.k_len * self.width());
        assert!(
            q.len() == nq && k.len() == nk && v.len() == nk && out.len() == nq,
            "slices do not fit {self:?}"
        );
        self.check_rest(lse, opts);
    }

    fn check_packed(&self, qkv: &[Elem], out: &[Elem], lse: &[Elem], opts: &AttnOpts<'_>) {
        let (n, all) = (self.batch * self.q_len * self.width(), self.batch * self.k_len * self.width());
        assert!(
            self.q_len <= self.k_len && qkv.len() == 3 * all && out.len() == n,
            "slices do not fit {self:?}"
        );
        self.check_rest(lse, opts);
    }

    fn check_rest(&self, lse: &[Elem], opts: &AttnOpts<'_>) {
        let rows = self.batch * self.heads * self.q_len;
        assert!(lse.len() == rows, "one log-sum for each row of {self:?}");
        assert!(
            opts.bias.is_none_or(|b| b.len() == self.q_len * self.k_len),
            "the bias does not fit {self:?}"
        );
        assert!(
            opts.dropout.is_none_or(|d| d.0.len() == rows * self.k_len),
            "the mask does not fit {self:?}"
        );
    }

    /// Query, key and value of sequence `b` in the packed tensor.
    fn packed<'a>(&self, qkv: &'a [Elem], b: usize) -> [Heads<'a>; 3] {
        let token = 3 * self.width();
        let data = &qkv[b * self.k_len * token..][..self.k_len * token];
        [0, 1, 2].map(|part| Heads { data, first: part * self.width(), token })
    }

    /// Query, key and value of sequence `b` in three tensors.
    fn separate<'a>(&self, q: &'a [Elem], k: &'a [Elem], v: &'a [Elem], b: usize) -> [Heads<'a>; 3] {
        let token = self.width();
        [(q, self.q_len), (k, self.k_len), (v, self.k_len)].map(|(data, len)| Heads {
            data: &data[b * len * token..][..len * token],
            first: 0,
            token,
        })
    }
}

/// `out = softmax(q k^T / sqrt(dim) + bias) v` for each sequence and head; `lse` ([batch, heads, q_len]) keeps the log
/// of each row's sum of exponentials for the backward pass.
pub fn attention(
    g: &AttnGeom,
    opts: AttnOpts<'_>,
    q: &[Elem],
    k: &[Elem],
    v: &[Elem],
    out: &mut [Elem],
    lse: &mut [Elem],
) {
    g.check(q, k, v, out, lse, &opts);
    forward(g, opts, |b| g.separate(q, k, v, b), out, lse);
}

/// The backward pass of [`attention`]: overwrites `dq`, `dk` and `dv`.
pub fn attention_backward(
    g: &AttnGeom,
    opts: AttnOpts<'_>,
    q: &[Elem],
    k: &[Elem],
    v: &[Elem],
    out: &[Elem],
    lse: &[Elem],
    dout: &[Elem],
    dq: &mut [Elem],
    dk: &mut [Elem],
    dv: &mut [Elem],
) {
    g.check(q, k, v, out, lse, &opts);
    g.check(dq, dk, dv, dout, lse, &opts);
    let w = g.width();
    let (sq, sk) = ((g.q_len * w).max(1), (g.k_len * w).max(1));
    if g.q_len * w == 0 {
        dk.fill(0.0);
        return dv.fill(0.0);
    }
    let each = dq.par_chunks_mut(sq).zip(dk.par_chunks_mut(sk)).zip(dv.par_chunks_mut(sk));
    each.enumerate().for_each(|(b, ((dq, dk), dv))| {
        let back = Back { g, opts, b, heads: g.separate(q, k, v, b), out, lse, dout };
        for h in 0..g.heads {
            back.head(h, |part, product| {
                let (data, rows) = match part {
                    0 => (&mut *dq, g.q_len),
                    1 => (&mut *dk, g.k_len),
                    _ => (&mut *dv, g.k_len),
                };
                product(MatMut { data: &mut data[h * g.dim..], rows, cols: g.dim, rs: w });
            });
        }
    });
}

/// Self-attention of the packed projection `qkv` [batch, k_len, 3, heads, dim] (a linear layer's rows); `out` and `lse` as
/// in [`attention`]. The first `q_len` tokens ask, all of them or fewer.
pub fn attention_packed(g: &AttnGeom, opts: AttnOpts<'_>, qkv: &[Elem], out: &mut [Elem], lse: &mut [Elem]) {
    g.check_packed(qkv, out, lse, &opts);
    forward(g, opts, |b| g.packed(qkv, b), out, lse);
}

/// The backward pass of [`attention_packed`]: overwrites `dqkv`.
pub fn attention_packed_backward(
    g: &AttnGeom,
    opts: AttnOpts<'_>,
    qkv: &[Elem],
    out: &[Elem],
    lse: &[Elem],
    dout: &[Elem],
    dqkv: &mut [Elem],
) {
    g.check_packed(qkv, out, lse, &opts);
    assert!(dqkv.len() == qkv.len() && dout.len() == out.len(), "slices do not fit {g:?}");
    let w = g.width();
    if g.q_len == 0 {
        return dqkv.fill(0.0);
    }
    dqkv.par_chunks_mut((g.k_len * 3 * w).max(1)).enumerate().for_each(|(b, d)| {
        // Tokens that did not ask.
        d[g.q_len * 3 * w..].chunks_exact_mut(3 * w).for_each(|d| d[..w].fill(0.0));
        let back = Back { g, opts, b, heads: g.packed(qkv, b), out, lse, dout };
        for h in 0..g.heads {
            back.head(h, |part, product| {
                let data = &mut d[part * w + h * g.dim..];
                let rows = if part == 0 { g.q_len } else { g.k_len };
                product(MatMut { data, rows, cols: g.dim, rs: 3 * w });
            });
        }
    });
}

/// `p = q k^T / sqrt(dim) + bias` of one head, and minus infinity in the padding.
fn scores(g: &AttnGeom, opts: &AttnOpts<'_>, q: Mat<'_>, k: Mat<'_>, p: &mut [Elem]) {
    let scale = 1.0 / (g.dim as Elem).sqrt();
    let rows = p.chunks_exact_mut(g.pitch().max(1));
    let beta = match opts.bias {
        Some(bias) => {
            rows.zip(bias.chunks_exact(g.k_len.max(1))).for_each(|(p, bias)| {
                p[..g.k_len].copy_from_slice(bias);
                p[g.k_len..].fill(Elem::NEG_INFINITY);
            });
            1.0
        }
        None => {
            rows.for_each(|p| p[g.k_len..].fill(Elem::NEG_INFINITY));
            0.0
        }
    };
    product_here(scale, q, k.t(), beta, g.scores_mut(p));
}

/// The probabilities that dropout leaves.
fn drop(g: &AttnGeom, opts: &AttnOpts<'_>, head: usize, p: &mut [Elem]) {
    if let Some((keep, scale)) = opts.dropout {
        let size = g.q_len * g.k_len;
        let keep = keep[head * size..][..size].chunks_exact(g.k_len.max(1));
        let rows = p.chunks_exact_mut(g.pitch().max(1));
        rows.zip(keep).for_each(|(p, keep)| dropout_inplace(keep, scale, &mut p[..g.k_len]));
    }
}

fn forward<'a>(
    g: &AttnGeom,
    opts: AttnOpts<'_>,
    heads: impl Fn(usize) -> [Heads<'a>; 3] + Sync,
    out: &mut [Elem],
    lse: &mut [Elem],
) {
    let w = g.width();
    if g.q_len * w == 0 {
        return lse.fill(0.0);
    }
    let each = out.par_chunks_mut(g.q_len * w).zip(lse.par_chunks_mut(g.heads * g.q_len));
    each.enumerate().for_each(|(b, (out, lse))| {
        let mut p = Scratch::take(g.q_len * g.pitch());
        let [q, k, v] = heads(b);
        for (h, lse) in lse.chunks_exact_mut(g.q_len).enumerate() {
            scores(g, &opts, q.mat(g, h, g.q_len), k.mat(g, h, g.k_len), &mut p);
            for (i, lse) in lse.iter_mut().enumerate() {
                *lse = softmax_inplace(&mut p[i * g.pitch()..][..g.pitch()]).sum();
            }
            drop(g, &opts, b * g.heads + h, &mut p);
            let out = MatMut { data: &mut out[h * g.dim..], rows: g.q_len, cols: g.dim, rs: w };
            product_here(1.0, g.scores(&p), v.mat(g, h, g.k_len), 0.0, out);
        }
    });
}

/// The backward pass of one sequence.
struct Back<'a> {
    g: &'a AttnGeom,
    opts: AttnOpts<'a>,
    b: usize,
    heads: [Heads<'a>; 3],
    out: &'a [Elem],
    lse: &'a [Elem],
    dout: &'a [Elem],
}

impl Back<'_> {
    /// Hands the gradients of head `h` to `place`: for part 0, 1 and 2 (q, k, v) it lends the matrix that the product fills.
    fn head(&self, h: usize, mut place: impl FnMut(usize, &mut dyn FnMut(MatMut<'_>))) {
        let (g, w) = (self.g, self.g.width());
        let (nq, nk) = (g.q_len, g.k_len);
        let row = (self.b * g.heads + h) * nq;
        let [q, k, v] = self.heads;
        let (q, k, v) = (q.mat(g, h, nq), k.mat(g, h, nk), v.mat(g, h, nk));
        let slice = |data| Heads { data, first: self.b * nq * w, token: w };
        let dy = slice(self.dout).mat(g, h, nq);
        let y = slice(self.out).mat(g, h, nq);
        // The probabilities again, from the scores and the saved sums.
        let size = nq * g.pitch();
        let (mut p, mut ds) = (Scratch::take(size), Scratch::take(size));
        scores(g, &self.opts, q, k, &mut p);
        exp_minus(g.pitch().max(1), &self.lse[row..row + nq], &mut p);
        // ds = dout v^T through dropout and softmax; the row's mean gradient is dout . out.
        product_here(1.0, dy, v.t(), 0.0, g.scores_mut(&mut ds));
        drop(g, &self.opts, self.b * g.heads + h, &mut ds);
        softmax_slope(g.pitch().max(1), g.dim, w, dy.data, y.data, &p, &mut ds);
        drop(g, &self.opts, self.b * g.heads + h, &mut p);
        let (p, ds) = (g.scores(&p), g.scores(&ds));
        place(0, &mut |to| product_here(1.0, ds, k, 0.0, to));
        place(1, &mut |to| product_here(1.0, ds.t(), q, 0.0, to));
        place(2, &mut |to| product_here(1.0, p.t(), dy, 0.0, to));
    }
}

multiversion! {
    /// `p = exp(p - lse)`, row by row; zeros for a row without a place to look at.
    fn exp_minus(pitch: usize, lse: &[Elem], p: &mut [Elem]) {
        for (p, lse) in p.chunks_exact_mut(pitch).zip(lse) {
            let lse = if *lse == Elem::NEG_INFINITY { Elem::INFINITY } else { *lse };
            for p in p {
                *p = math::exp(*p - lse);
            }
        }
    }
}

multiversion! {
    /// `ds = p * (ds - dy . y) / sqrt(dim)`, row by row; those of `dy` and `y` are `step` apart.
    fn softmax_slope(pitch: usize, dim: usize, step: usize, dy: &[Elem], y: &[Elem], p: &[Elem], ds: &mut [Elem]) {
        let scale = 1.0 / (dim as Elem).sqrt();
        for (i, (ds, p)) in ds.chunks_exact_mut(pitch).zip(p.chunks_exact(pitch)).enumerate() {
            let mut lanes = [0.0; LANES];
            let (a, b) = (&dy[i * step..][..dim], &y[i * step..][..dim]);
            let (a, b) = (a.chunks(LANES), b.chunks(LANES));
            for (a, b) in a.zip(b) {
                for ((l, a), b) in lanes.iter_mut().zip(a).zip(b) {
                    *l += *a * *b;
                }
            }
            let delta = halve(lanes);
            for (d, p) in ds.iter_mut().zip(p) {
                *d = *p * (*d - delta) * scale;
            }
        }
    }
}
