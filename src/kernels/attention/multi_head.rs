//! Attention of several heads, one head's scores at a time.

use super::operands::{AttentionArgs, AttnOutput, AttnSaved, Qkv, QkvMut};
use super::slope::{exp_minus, softmax_slope};
use crate::base::Elem;
use crate::kernels::bf16::ReleaseTiles;
use crate::kernels::elementwise::dropout_inplace;
use crate::kernels::gemm::{Mat, MatMut, gemm_serial};
use crate::kernels::number::{Number, Numbers, NumbersMut, bf16};
use crate::kernels::par;
use crate::kernels::precision::{Precision, precision};
use crate::kernels::scratch::Scratch;
use crate::kernels::softmax::softmax_inplace;
use rayon::prelude::*;

/// Rows of scores are padded to a multiple of this, an AVX-512 register, so that loops over them have no remainder.
pub(super) const LANES: usize = 16;

/// Queries of one block of causal attention, whose keys end with the block's last query.
const CAUSAL_ROWS: usize = 64;

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

/// One operand of one sequence: token t of head h is at `first + t * token + h * dim`.
#[derive(Clone, Copy)]
struct Heads<'a> {
    data: Numbers<'a>,
    first: usize,
    token: usize,
}

impl<'a> Heads<'a> {
    /// The `rows` tokens from `first` on.
    fn mat(&self, g: &AttnGeom, h: usize, first: usize, rows: usize) -> Mat<'a> {
        let data = self.data.tail(self.first + first * self.token + h * g.dim);
        Mat { data, rows, cols: g.dim, rs: self.token, cs: 1 }
    }
}

/// Queries, and the keys that any of them may look at: a matrix of scores.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    rows: usize,
    keys: usize,
}

impl Block {
    /// The distance of two rows of scores.
    fn pitch(&self) -> usize {
        self.keys.next_multiple_of(LANES)
    }

    /// The scores, without the padding.
    fn scores<'a>(&self, p: &'a [Elem]) -> Mat<'a> {
        Mat { data: Numbers::Full(p), rows: self.rows, cols: self.keys, rs: self.pitch(), cs: 1 }
    }

    /// The scores to write to.
    fn scores_mut<'a>(&self, p: &'a mut [Elem]) -> MatMut<'a> {
        MatMut { data: p.into(), rows: self.rows, cols: self.keys, rs: self.pitch() }
    }
}

impl AttnGeom {
    fn width(&self) -> usize {
        self.heads * self.dim
    }

    /// The blocks of sequence `b`: the last one first, which sees the most keys.
    fn blocks(&self, opts: &AttentionArgs<'_>, b: usize) -> impl Iterator<Item = Block> + use<> {
        let keys = opts.keys.map_or(self.k_len, |keys| keys[b].min(self.k_len));
        let (q_len, causal) = (self.q_len, opts.causal);
        let size = if causal { CAUSAL_ROWS } else { q_len.max(1) };
        (0..q_len.div_ceil(size)).rev().map(move |i| {
            let (first, rows) = (i * size, size.min(q_len - i * size));
            Block { first, rows, keys: if causal { keys.min(first + rows) } else { keys } }
        })
    }

    fn check_operands(&self, qkv: Qkv<'_>) {
        let (nq, nk) = (self.batch * self.q_len * self.width(), self.batch * self.k_len * self.width());
        assert!(qkv.q.len() == nq && qkv.k.len() == nk && qkv.v.len() == nk, "slices do not fit {self:?}");
    }

    fn check_packed(&self, qkv: usize) {
        let all = self.batch * self.k_len * self.width();
        assert!(self.q_len <= self.k_len && qkv == 3 * all, "slices do not fit {self:?}");
    }

    fn check_output(&self, out: usize, lse: &[Elem], opts: &AttentionArgs<'_>) {
        let rows = self.batch * self.heads * self.q_len;
        assert!(out == rows * self.dim, "slices do not fit {self:?}");
        assert!(lse.len() == rows, "one log-sum for each row of {self:?}");
        assert!(
            opts.bias.is_none_or(|b| [self.q_len, rows].contains(&(b.len() / self.k_len.max(1)))),
            "the bias does not fit {self:?}"
        );
        assert!(opts.keys.is_none_or(|k| k.len() == self.batch), "a number of keys for each sequence");
        assert!(
            opts.dropout.is_none_or(|d| d.0.len() == rows * self.k_len),
            "the mask does not fit {self:?}"
        );
    }

    /// Query, key and value of sequence `b` in the packed tensor.
    fn packed<'a>(&self, qkv: Numbers<'a>, b: usize) -> [Heads<'a>; 3] {
        let token = 3 * self.width();
        let data = qkv.tail(b * self.k_len * token);
        [0, 1, 2].map(|part| Heads { data, first: part * self.width(), token })
    }

    /// Query, key and value of sequence `b` in three tensors.
    fn separate<'a>(&self, qkv: Qkv<'a>, b: usize) -> [Heads<'a>; 3] {
        let token = self.width();
        [(qkv.q, self.q_len), (qkv.k, self.k_len), (qkv.v, self.k_len)].map(|(data, len)| Heads {
            data: Numbers::Full(&data[b * len * token..][..len * token]),
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
    g.check_output(saved.out.len(), saved.lse, &opts);
    assert_eq!(dout.len(), saved.out.len(), "a gradient for each element of {g:?}");
    let w = g.width();
    let (sq, sk) = ((g.q_len * w).max(1), (g.k_len * w).max(1));
    if par::left_out(false) {
        return;
    }
    if g.q_len * w == 0 {
        dk.fill(0.0);
        return dv.fill(0.0);
    }
    let each = dq.par_chunks_mut(sq).zip(dk.par_chunks_mut(sk)).zip(dv.par_chunks_mut(sk));
    let precision = precision();
    each.enumerate().for_each(|(b, ((dq, dk), dv))| {
        let _release = ReleaseTiles;
        let sequence = Backward { g, opts, precision, b, heads: g.separate(qkv, b), saved, dout };
        for h in 0..g.heads {
            sequence.head(h, |operand, [first, rows], product| {
                let data = match operand {
                    Operand::Q => &mut *dq,
                    Operand::K => &mut *dk,
                    Operand::V => &mut *dv,
                };
                let data = &mut data[first * w + h * g.dim..];
                product(MatMut { data: data.into(), rows, cols: g.dim, rs: w });
            });
        }
    });
}

/// Self-attention of the packed projection `qkv` [batch, k_len, 3, heads, dim], which is a linear layer's rows. The
/// first `q_len` tokens ask, all of them or fewer.
pub fn attention_packed<'a>(
    g: &AttnGeom,
    opts: AttentionArgs<'_>,
    qkv: impl Into<Numbers<'a>>,
    output: AttnOutput<'_>,
) {
    let qkv = qkv.into();
    g.check_packed(qkv.len());
    forward(g, opts, |b| g.packed(qkv, b), output);
}

/// The backward pass of [`attention_packed`]: overwrites `dqkv`.
pub fn attention_packed_backward<'a>(
    g: &AttnGeom,
    opts: AttentionArgs<'_>,
    qkv: impl Into<Numbers<'a>>,
    saved: AttnSaved<'_>,
    dout: &[Elem],
    dqkv: impl Into<NumbersMut<'a>>,
) {
    let (qkv, dqkv) = (qkv.into(), dqkv.into());
    g.check_packed(qkv.len());
    g.check_output(saved.out.len(), saved.lse, &opts);
    assert!(dqkv.len() == qkv.len() && dout.len() == saved.out.len(), "slices do not fit {g:?}");
    let w = g.width();
    if par::left_out(false) {
        return;
    }
    let precision = precision();
    let sequence = |b: usize, d: &mut [Elem]| {
        let _release = ReleaseTiles;
        if g.q_len == 0 {
            return d.fill(0.0);
        }
        // Tokens that did not ask have no gradient as queries.
        d[g.q_len * 3 * w..].chunks_exact_mut(3 * w).for_each(|d| d[..w].fill(0.0));
        let sequence = Backward { g, opts, precision, b, heads: g.packed(qkv, b), saved, dout };
        for h in 0..g.heads {
            sequence.head(h, |operand, [first, rows], product| {
                let data = &mut d[(3 * first + operand as usize) * w + h * g.dim..];
                product(MatMut { data: data.into(), rows, cols: g.dim, rs: 3 * w });
            });
        }
    };
    let len = (g.k_len * 3 * w).max(1);
    match dqkv {
        NumbersMut::Full(d) => d.par_chunks_mut(len).enumerate().for_each(|(b, d)| sequence(b, d)),
        NumbersMut::Half(d) => d.par_chunks_mut(len).enumerate().for_each(|(b, half)| {
            let mut d = Scratch::take(half.len());
            sequence(b, &mut d);
            bf16::write(&d, half);
        }),
    }
}

/// `p = q k^T / sqrt(dim) + bias` of a block of one head, and minus infinity where none may look and in the padding.
fn scores(
    g: &AttnGeom,
    opts: &AttentionArgs<'_>,
    precision: Precision,
    block: Block,
    head: usize,
    [q, k]: [Mat<'_>; 2],
    p: &mut [Elem],
) {
    let own = g.q_len * g.k_len;
    let bias = opts.bias.map(|bias| if bias.len() == own { bias } else { &bias[head * own..] });
    let scale = 1.0 / (g.dim as Elem).sqrt();
    let (pitch, keys) = (block.pitch().max(1), block.keys);
    for (i, p) in p.chunks_exact_mut(pitch).enumerate() {
        if let Some(bias) = bias {
            p[..keys].copy_from_slice(&bias[(block.first + i) * g.k_len..][..keys]);
        }
        p[keys..].fill(Elem::NEG_INFINITY);
    }
    let beta = if opts.bias.is_some() { 1.0 } else { 0.0 };
    gemm_serial(precision, scale, q, k.t(), beta, block.scores_mut(p));
    if opts.causal {
        for (i, p) in p.chunks_exact_mut(pitch).enumerate() {
            p[(block.first + i + 1).min(keys)..keys].fill(Elem::NEG_INFINITY);
        }
    }
}

/// The probabilities that dropout leaves.
fn drop_out(g: &AttnGeom, opts: &AttentionArgs<'_>, block: Block, head: usize, p: &mut [Elem]) {
    if let Some((keep, scale)) = opts.dropout {
        let keep = keep[(head * g.q_len + block.first) * g.k_len..].chunks_exact(g.k_len.max(1));
        let rows = p.chunks_exact_mut(block.pitch().max(1));
        rows.zip(keep).for_each(|(p, keep)| {
            dropout_inplace(&keep[..block.keys], scale, &mut p[..block.keys]);
        });
    }
}

fn forward<'a>(
    g: &AttnGeom,
    opts: AttentionArgs<'_>,
    heads: impl Fn(usize) -> [Heads<'a>; 3] + Sync,
    output: AttnOutput<'_>,
) {
    let AttnOutput { out, lse } = output;
    g.check_output(out.len(), lse, &opts);
    let w = g.width();
    if g.q_len * w == 0 {
        return lse.fill(0.0);
    }
    if par::left_out(false) {
        return;
    }
    let precision = precision();
    let sequence = |b: usize, out: &mut [Elem], lse: &mut [Elem]| {
        let _release = ReleaseTiles;
        let [q, k, v] = heads(b);
        for block in g.blocks(&opts, b) {
            let (first, rows, pitch) = (block.first, block.rows, block.pitch());
            let mut p = Scratch::take(rows * pitch);
            for (h, lse) in lse.chunks_exact_mut(g.q_len).enumerate() {
                let keys = k.mat(g, h, 0, block.keys);
                let operands = [q.mat(g, h, first, rows), keys];
                scores(g, &opts, precision, block, b * g.heads + h, operands, &mut p);
                for (i, lse) in lse[first..][..rows].iter_mut().enumerate() {
                    *lse = match pitch {
                        0 => Elem::NEG_INFINITY,
                        _ => softmax_inplace(&mut p[i * pitch..][..pitch]).sum(),
                    };
                }
                drop_out(g, &opts, block, b * g.heads + h, &mut p);
                let data = &mut out[first * w + h * g.dim..];
                let out = MatMut { data: data.into(), rows, cols: g.dim, rs: w };
                gemm_serial(precision, 1.0, block.scores(&p), v.mat(g, h, 0, block.keys), 0.0, out);
            }
        }
    };
    let (len, lse) = (g.q_len * w, lse.par_chunks_mut(g.heads * g.q_len));
    match out {
        NumbersMut::Full(out) => {
            out.par_chunks_mut(len).zip(lse).enumerate().for_each(|(b, (out, lse))| sequence(b, out, lse));
        }
        NumbersMut::Half(out) => {
            out.par_chunks_mut(len).zip(lse).enumerate().for_each(|(b, (half, lse))| {
                let mut out = Scratch::take(half.len());
                sequence(b, &mut out, lse);
                bf16::write(&out, half);
            });
        }
    }
}

/// Whose gradient it is; the numbers are the places in a packed projection.
#[derive(Clone, Copy)]
enum Operand {
    Q = 0,
    K = 1,
    V = 2,
}

/// The backward pass of one sequence.
struct Backward<'a> {
    g: &'a AttnGeom,
    opts: AttentionArgs<'a>,
    precision: Precision,
    b: usize,
    heads: [Heads<'a>; 3],
    saved: AttnSaved<'a>,
    dout: &'a [Elem],
}

impl Backward<'_> {
    /// Computes the gradients of head `h`. For each operand and each range of tokens (the first, how many) `place` is
    /// handed what fills or adds to a matrix, and calls it with the one to write to.
    fn head(&self, h: usize, mut place: impl FnMut(Operand, [usize; 2], &mut dyn FnMut(MatMut<'_>))) {
        let (g, w, precision) = (self.g, self.g.width(), self.precision);
        let head = self.b * g.heads + h;
        let [q, k, v] = self.heads;
        let slice = |data| Heads { data, first: self.b * g.q_len * w, token: w };
        let (dout, out) = (slice(Numbers::Full(self.dout)), slice(self.saved.out));
        // How many keys have a gradient so far: those that the first block, the last one, sees.
        let mut written = 0;
        for block in g.blocks(&self.opts, self.b) {
            let (first, rows, keys, pitch) = (block.first, block.rows, block.keys, block.pitch());
            let (q, k, v) = (q.mat(g, h, first, rows), k.mat(g, h, 0, keys), v.mat(g, h, 0, keys));
            let (dy, y) = (dout.mat(g, h, first, rows), out.mat(g, h, first, rows));
            let beta = if written == 0 { 0.0 } else { 1.0 };
            written = written.max(keys);
            // The probabilities again, from the scores and the saved sums.
            let (mut p, mut ds) = (Scratch::take(rows * pitch), Scratch::take(rows * pitch));
            scores(g, &self.opts, precision, block, head, [q, k], &mut p);
            exp_minus(pitch.max(1), &self.saved.lse[head * g.q_len + first..][..rows], &mut p);
            // ds = dout v^T through dropout and softmax; the row's mean gradient is dout . out.
            gemm_serial(precision, 1.0, dy, v.t(), 0.0, block.scores_mut(&mut ds));
            drop_out(g, &self.opts, block, head, &mut ds);
            softmax_slope(pitch.max(1), dy, y, &p, &mut ds);
            drop_out(g, &self.opts, block, head, &mut p);
            let (p, ds) = (block.scores(&p), block.scores(&ds));
            place(Operand::Q, [first, rows], &mut |to| gemm_serial(precision, 1.0, ds, k, 0.0, to));
            if keys > 0 {
                place(Operand::K, [0, keys], &mut |to| gemm_serial(precision, 1.0, ds.t(), q, beta, to));
                place(Operand::V, [0, keys], &mut |to| gemm_serial(precision, 1.0, p.t(), dy, beta, to));
            }
        }
        // Keys that nobody sees.
        if written < g.k_len {
            for operand in [Operand::K, Operand::V] {
                place(operand, [written, g.k_len - written], &mut |to| {
                    Elem::all_mut(to.data)
                        .chunks_mut(to.rs)
                        .take(to.rows)
                        .for_each(|row| row[..to.cols].fill(0.0));
                });
            }
        }
    }
}
