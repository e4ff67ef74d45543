//! Attention of several heads, one head's scores at a time.

use crate::base::Elem;
use crate::kernels::elementwise::dropout_inplace;
use crate::kernels::gemm::blocked::gemm_serial;
use crate::kernels::gemm::{Mat, MatMut};
use crate::kernels::isa::multiversion;
use crate::kernels::math;
use crate::kernels::reduce::Lanes;
use crate::kernels::scratch::Scratch;
use crate::kernels::softmax::softmax_inplace;
use rayon::prelude::*;

/// Rows of scores are padded to a multiple of this, an AVX-512 register, so that loops over them have no remainder.
const LANES: usize = 16;

/// The shape of an attention: `q` and `out` are [batch, q_len, heads, dim], `k` and `v` [batch, k_len, heads, dim].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttnGeom {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries: tokens that ask.
    pub q_len: usize,
    /// Keys and values: tokens that are looked at.
    pub k_len: usize,
    /// Size of a head.
    pub dim: usize,
}

/// What an attention takes besides its shape and its operands.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionArgs<'a> {
    /// Added to the scores of every head: [q_len, k_len]; minus infinity forbids. A query that may look at nothing
    /// gets 0.
    pub bias: Option<&'a [Elem]>,
    /// Dropout of the probabilities: what to keep, [batch, heads, q_len, k_len], and the scale `1 / (1 - p)`.
    pub dropout: Option<(&'a [u8], Elem)>,
}

/// Query, key and value of all sequences.
#[derive(Debug, Clone, Copy)]
pub struct Qkv<'a> {
    /// The queries.
    pub q: &'a [Elem],
    /// The keys.
    pub k: &'a [Elem],
    /// The values.
    pub v: &'a [Elem],
}

/// [`Qkv`] to write to: the gradients.
#[derive(Debug)]
pub struct QkvMut<'a> {
    /// The gradient of the queries.
    pub q: &'a mut [Elem],
    /// The gradient of the keys.
    pub k: &'a mut [Elem],
    /// The gradient of the values.
    pub v: &'a mut [Elem],
}

/// What an attention computes.
#[derive(Debug)]
pub struct AttnOutput<'a> {
    /// The weighted means of the values.
    pub out: &'a mut [Elem],
    /// [batch, heads, q_len]: the logarithm of each row's sum of exponentials, for the backward pass.
    pub lse: &'a mut [Elem],
}

/// [`AttnOutput`] as the backward pass reads it.
#[derive(Debug, Clone, Copy)]
pub struct AttnSaved<'a> {
    /// The weighted means of the values.
    pub out: &'a [Elem],
    /// The logarithms of the sums of exponentials.
    pub lse: &'a [Elem],
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

    /// The distance of two rows of scores.
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

    fn check_operands(&self, qkv: Qkv<'_>) {
        let (nq, nk) = (self.batch * self.q_len * self.width(), self.batch * self.k_len * self.width());
        assert!(qkv.q.len() == nq && qkv.k.len() == nk && qkv.v.len() == nk, "slices do not fit {self:?}");
    }

    fn check_packed(&self, qkv: &[Elem]) {
        let all = self.batch * self.k_len * self.width();
        assert!(self.q_len <= self.k_len && qkv.len() == 3 * all, "slices do not fit {self:?}");
    }

    fn check_output(&self, out: &[Elem], lse: &[Elem], opts: &AttentionArgs<'_>) {
        let rows = self.batch * self.heads * self.q_len;
        assert!(out.len() == rows * self.dim, "slices do not fit {self:?}");
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
    fn separate<'a>(&self, qkv: Qkv<'a>, b: usize) -> [Heads<'a>; 3] {
        let token = self.width();
        [(qkv.q, self.q_len), (qkv.k, self.k_len), (qkv.v, self.k_len)].map(|(data, len)| Heads {
            data: &data[b * len * token..][..len * token],
            first: 0,
            token,
        })
    }
}

/// `out = softmax(q k^T / sqrt(dim) + bias) v` for each sequence and head.
pub fn attention(g: &AttnGeom, opts: AttentionArgs<'_>, qkv: Qkv<'_>, output: AttnOutput<'_>) {
    g.check_operands(qkv);
    forward(g, opts, |b| g.separate(qkv, b), output);
}

/// The backward pass of [`attention`]: overwrites `dqkv`.
pub fn attention_backward(
    g: &AttnGeom,
    opts: AttentionArgs<'_>,
    qkv: Qkv<'_>,
    saved: AttnSaved<'_>,
    dout: &[Elem],
    dqkv: QkvMut<'_>,
) {
    let QkvMut { q: dq, k: dk, v: dv } = dqkv;
    g.check_operands(qkv);
    g.check_operands(Qkv { q: dq, k: dk, v: dv });
    g.check_output(saved.out, saved.lse, &opts);
    assert_eq!(dout.len(), saved.out.len(), "a gradient for each element of {g:?}");
    let w = g.width();
    let (sq, sk) = ((g.q_len * w).max(1), (g.k_len * w).max(1));
    if g.q_len * w == 0 {
        dk.fill(0.0);
        return dv.fill(0.0);
    }
    let each = dq.par_chunks_mut(sq).zip(dk.par_chunks_mut(sk)).zip(dv.par_chunks_mut(sk));
    each.enumerate().for_each(|(b, ((dq, dk), dv))| {
        let sequence = Backward { g, opts, b, heads: g.separate(qkv, b), saved, dout };
        for h in 0..g.heads {
            sequence.head(h, |operand, product| {
                let (data, rows) = match operand {
                    Operand::Q => (&mut *dq, g.q_len),
                    Operand::K => (&mut *dk, g.k_len),
                    Operand::V => (&mut *dv, g.k_len),
                };
                product(MatMut { data: &mut data[h * g.dim..], rows, cols: g.dim, rs: w });
            });
        }
    });
}

/// Self-attention of the packed projection `qkv` [batch, k_len, 3, heads, dim], which is a linear layer's rows. The
/// first `q_len` tokens ask, all of them or fewer.
pub fn attention_packed(g: &AttnGeom, opts: AttentionArgs<'_>, qkv: &[Elem], output: AttnOutput<'_>) {
    g.check_packed(qkv);
    forward(g, opts, |b| g.packed(qkv, b), output);
}

/// The backward pass of [`attention_packed`]: overwrites `dqkv`.
pub fn attention_packed_backward(
    g: &AttnGeom,
    opts: AttentionArgs<'_>,
    qkv: &[Elem],
    saved: AttnSaved<'_>,
    dout: &[Elem],
    dqkv: &mut [Elem],
) {
    g.check_packed(qkv);
    g.check_output(saved.out, saved.lse, &opts);
    assert!(dqkv.len() == qkv.len() && dout.len() == saved.out.len(), "slices do not fit {g:?}");
    let w = g.width();
    if g.q_len == 0 {
        return dqkv.fill(0.0);
    }
    dqkv.par_chunks_mut((g.k_len * 3 * w).max(1)).enumerate().for_each(|(b, d)| {
        // Tokens that did not ask have no gradient as queries.
        d[g.q_len * 3 * w..].chunks_exact_mut(3 * w).for_each(|d| d[..w].fill(0.0));
        let sequence = Backward { g, opts, b, heads: g.packed(qkv, b), saved, dout };
        for h in 0..g.heads {
            sequence.head(h, |operand, product| {
                let data = &mut d[operand as usize * w + h * g.dim..];
                let rows = if operand == Operand::Q { g.q_len } else { g.k_len };
                product(MatMut { data, rows, cols: g.dim, rs: 3 * w });
            });
        }
    });
}

/// `p = q k^T / sqrt(dim) + bias` of one head, and minus infinity in the padding.
fn scores(g: &AttnGeom, opts: &AttentionArgs<'_>, q: Mat<'_>, k: Mat<'_>, p: &mut [Elem]) {
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
    gemm_serial(scale, q, k.t(), beta, g.scores_mut(p));
}

/// The probabilities that dropout leaves.
fn drop_out(g: &AttnGeom, opts: &AttentionArgs<'_>, head: usize, p: &mut [Elem]) {
    if let Some((keep, scale)) = opts.dropout {
        let size = g.q_len * g.k_len;
        let keep = keep[head * size..][..size].chunks_exact(g.k_len.max(1));
        let rows = p.chunks_exact_mut(g.pitch().max(1));
        rows.zip(keep).for_each(|(p, keep)| dropout_inplace(keep, scale, &mut p[..g.k_len]));
    }
}

fn forward<'a>(
    g: &AttnGeom,
    opts: AttentionArgs<'_>,
    heads: impl Fn(usize) -> [Heads<'a>; 3] + Sync,
    output: AttnOutput<'_>,
) {
    let AttnOutput { out, lse } = output;
    g.check_output(out, lse, &opts);
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
            drop_out(g, &opts, b * g.heads + h, &mut p);
            let out = MatMut { data: &mut out[h * g.dim..], rows: g.q_len, cols: g.dim, rs: w };
            gemm_serial(1.0, g.scores(&p), v.mat(g, h, g.k_len), 0.0, out);
        }
    });
}

/// Whose gradient it is; the numbers are the places in a packed projection.
#[derive(Clone, Copy, PartialEq)]
enum Operand {
    Q = 0,
    K = 1,
    V = 2,
}

/// The backward pass of one sequence.
struct Backward<'a> {
    g: &'a AttnGeom,
    opts: AttentionArgs<'a>,
    b: usize,
    heads: [Heads<'a>; 3],
    saved: AttnSaved<'a>,
    dout: &'a [Elem],
}

impl Backward<'_> {
    /// Computes the gradients of head `h`. For each operand `place` is handed the product that fills a matrix, and
    /// calls it with the one to fill.
    fn head(&self, h: usize, mut place: impl FnMut(Operand, &mut dyn FnMut(MatMut<'_>))) {
        let (g, w) = (self.g, self.g.width());
        let (nq, nk) = (g.q_len, g.k_len);
        let row = (self.b * g.heads + h) * nq;
        let [q, k, v] = self.heads;
        let (q, k, v) = (q.mat(g, h, nq), k.mat(g, h, nk), v.mat(g, h, nk));
        let slice = |data| Heads { data, first: self.b * nq * w, token: w };
        let dy = slice(self.dout).mat(g, h, nq);
        let y = slice(self.saved.out).mat(g, h, nq);
        // The probabilities again, from the scores and the saved sums.
        let size = nq * g.pitch();
        let (mut p, mut ds) = (Scratch::take(size), Scratch::take(size));
        scores(g, &self.opts, q, k, &mut p);
        exp_minus(g.pitch().max(1), &self.saved.lse[row..row + nq], &mut p);
        // ds = dout v^T through dropout and softmax; the row's mean gradient is dout . out.
        gemm_serial(1.0, dy, v.t(), 0.0, g.scores_mut(&mut ds));
        drop_out(g, &self.opts, self.b * g.heads + h, &mut ds);
        softmax_slope(g.pitch().max(1), dy, y, &p, &mut ds);
        drop_out(g, &self.opts, self.b * g.heads + h, &mut p);
        let (p, ds) = (g.scores(&p), g.scores(&ds));
        place(Operand::Q, &mut |to| gemm_serial(1.0, ds, k, 0.0, to));
        place(Operand::K, &mut |to| gemm_serial(1.0, ds.t(), q, 0.0, to));
        place(Operand::V, &mut |to| gemm_serial(1.0, p.t(), dy, 0.0, to));
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
    /// `ds = p * (ds - dy . y) / sqrt(dim)`, row by row; `dy` and `y` have the rows of one head.
    fn softmax_slope(pitch: usize, dy: Mat<'_>, y: Mat<'_>, p: &[Elem], ds: &mut [Elem]) {
        let dim = dy.cols;
        let scale = 1.0 / (dim as Elem).sqrt();
        for (i, (ds, p)) in ds.chunks_exact_mut(pitch).zip(p.chunks_exact(pitch)).enumerate() {
            let mut lanes = Lanes::<LANES>::ZERO;
            let (a, b) = (&dy.data[i * dy.rs..][..dim], &y.data[i * y.rs..][..dim]);
            let (a, b) = (a.chunks(LANES), b.chunks(LANES));
            for (a, b) in a.zip(b) {
                for ((l, a), b) in lanes.0.iter_mut().zip(a).zip(b) {
                    *l += *a * *b;
                }
            }
            let delta = lanes.sum();
            for (d, p) in ds.iter_mut().zip(p) {
                *d = *p * (*d - delta) * scale;
            }
        }
    }
}
