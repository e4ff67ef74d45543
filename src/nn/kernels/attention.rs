//! Softmax attention of several heads, without the score matrices in memory: one head's scores at a time.

use super::Elem;

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

/// Where the rows of one operand start: token t of head h of sequence b is at `b * batch + t * token + h * dim`.
#[derive(Clone, Copy)]
struct Rows {
    batch: usize,
    token: usize,
    head: usize,
    first: usize,
}

impl Rows {
    fn dense(g: &AttnGeom, len: usize) -> Self {
        let token = g.heads * g.dim;
        Self { batch: len * token, token, head: g.dim, first: 0 }
    }

    /// Part 0, 1 or 2 (q, k or v) of a [batch, len, 3, heads, dim] tensor.
    fn part(g: &AttnGeom, part: usize) -> Self {
        let width = g.heads * g.dim;
        Self { batch: g.q_len * 3 * width, token: 3 * width, head: g.dim, first: part * width }
    }

    fn at(&self, b: usize, h: usize, t: usize) -> usize {
        b * self.batch + t * self.token + h * self.head + self.first
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
    let (rq, rk) = (Rows::dense(g, g.q_len), Rows::dense(g, g.k_len));
    forward(g, opts, (q, rq), (k, rk), (v, rk), out, lse);
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
    let (rq, rk) = (Rows::dense(g, g.q_len), Rows::dense(g, g.k_len));
    dq.fill(0.0);
    dk.fill(0.0);
    dv.fill(0.0);
    backward(g, opts, (q, rq), (k, rk), (v, rk), out, lse, dout, |part, at, d| match part {
        0 => dq[at] += d,
        1 => dk[at] += d,
        _ => dv[at] += d,
    });
}

/// Self-attention of the packed projection `qkv` [batch, len, 3, heads, dim] (a linear layer's rows); `out` and `lse` as
/// in [`attention`]. `q_len` and `k_len` must be equal.
pub fn attention_packed(g: &AttnGeom, opts: AttnOpts<'_>, qkv: &[Elem], out: &mut [Elem], lse: &mut [Elem]) {
    assert!(g.q_len == g.k_len && qkv.len() == g.batch * g.q_len * 3 * g.heads * g.dim);
    forward(g, opts, (qkv, Rows::part(g, 0)), (qkv, Rows::part(g, 1)), (qkv, Rows::part(g, 2)), out, lse);
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
    assert!(g.q_len == g.k_len && qkv.len() == dqkv.len());
    dqkv.fill(0.0);
    let part = |i| (qkv, Rows::part(g, i));
    backward(g, opts, part(0), part(1), part(2), out, lse, dout, |_, at, d| dqkv[at] += d);
}

fn score(g: &AttnGeom, o: AttnOpts<'_>, q: &[Elem], k: &[Elem], i: usize, j: usize) -> Elem {
    let dot: Elem = q[..g.dim].iter().zip(k).map(|(a, b)| a * b).sum();
    dot / (g.dim as Elem).sqrt() + o.bias.map_or(0.0, |b| b[i * g.k_len + j])
}

fn kept(g: &AttnGeom, o: AttnOpts<'_>, row: usize, j: usize) -> Elem {
    o.dropout.map_or(1.0, |(keep, scale)| if keep[row * g.k_len + j] != 0 { scale } else { 0.0 })
}

fn forward(
    g: &AttnGeom,
    o: AttnOpts<'_>,
    (q, rq): (&[Elem], Rows),
    (k, rk): (&[Elem], Rows),
    (v, rv): (&[Elem], Rows),
    out: &mut [Elem],
    lse: &mut [Elem],
) {
    assert!(out.len() == g.batch * g.q_len * g.heads * g.dim && lse.len() == g.batch * g.heads * g.q_len);
    let ro = Rows::dense(g, g.q_len);
    for row in 0..lse.len() {
        let (b, h, i) = (row / g.q_len / g.heads, row / g.q_len % g.heads, row % g.q_len);
        let s = |j| score(g, o, &q[rq.at(b, h, i)..], &k[rk.at(b, h, j)..], i, j);
        let max = (0..g.k_len).map(s).fold(Elem::NEG_INFINITY, Elem::max);
        let y = &mut out[ro.at(b, h, i)..][..g.dim];
        y.fill(0.0);
        lse[row] = max;
        if max == Elem::NEG_INFINITY {
            continue;
        }
        lse[row] += (0..g.k_len).map(|j| (s(j) - max).exp()).sum::<Elem>().ln();
        for j in 0..g.k_len {
            let p = (s(j) - lse[row]).exp() * kept(g, o, row, j);
            y.iter_mut().zip(&v[rv.at(b, h, j)..]).for_each(|(y, v)| *y += p * v);
        }
    }
}

fn backward(
    g: &AttnGeom,
    o: AttnOpts<'_>,
    (q, rq): (&[Elem], Rows),
    (k, rk): (&[Elem], Rows),
    (v, rv): (&[Elem], Rows),
    out: &[Elem],
    lse: &[Elem],
    dout: &[Elem],
    mut add: impl FnMut(usize, usize, Elem),
) {
    let ro = Rows::dense(g, g.q_len);
    let scale = 1.0 / (g.dim as Elem).sqrt();
    for row in 0..lse.len() {
        if lse[row] == Elem::NEG_INFINITY {
            continue;
        }
        let (b, h, i) = (row / g.q_len / g.heads, row / g.q_len % g.heads, row % g.q_len);
        let (dy, y) = (&dout[ro.at(b, h, i)..][..g.dim], &out[ro.at(b, h, i)..][..g.dim]);
        let delta: Elem = dy.iter().zip(y).map(|(a, b)| a * b).sum();
        for j in 0..g.k_len {
            let (aq, ak, av) = (rq.at(b, h, i), rk.at(b, h, j), rv.at(b, h, j));
            let p = (score(g, o, &q[aq..], &k[ak..], i, j) - lse[row]).exp();
            let keep = kept(g, o, row, j);
            let dp: Elem = dy.iter().zip(&v[av..]).map(|(a, b)| a * b).sum::<Elem>() * keep;
            let ds = p * (dp - delta) * scale;
            for d in 0..g.dim {
                add(2, av + d, p * keep * dy[d]);
                add(0, aq + d, ds * k[ak + d]);
                add(1, ak + d, ds * q[aq + d]);
            }
        }
    }
}
