//! Attention as an op, of three tensors or of one that holds all three.

use std::sync::Arc;

use crate::base::{Elem, Error, Result, Rng, Tensor};
use crate::kernels::{
    AttentionArgs, AttnGeom, AttnOutput, AttnSaved, Qkv, QkvMut, attention, attention_backward,
    attention_packed, attention_packed_backward,
};
use crate::nn::buffer_pool::{row_major, slice, tensor};
use crate::nn::layers::dropout::draw_mask;
use crate::nn::layers::patch::tokens;
use crate::nn::shapes::expect_shape;
use crate::nn::{BufferPool, Tape, Var, Work};

/// What an attention is besides its inputs.
#[derive(Debug, Clone)]
pub struct AttentionOptions {
    /// Heads that the last axis is split into; each sees its part alone.
    pub heads: usize,
    /// Added to the scores: [tokens that ask, tokens that are looked at] to those of every head and sample, or [N · heads,
    /// tokens that ask, tokens that are looked at]. Minus infinity forbids.
    pub bias: Option<Tensor>,
    /// Whether a token looks at itself and at those before it alone.
    pub causal: bool,
    /// How many tokens of each sequence there are to look at, the first ones; all if `None`.
    pub keys: Option<Arc<[usize]>>,
    /// Probability with which dropout zeroes a weight of the mean.
    pub dropout: f64,
    /// For packed attention, how many tokens ask: the first ones; all if `None`.
    pub queries: Option<usize>,
}

impl AttentionOptions {
    /// Of all tokens, without bias and dropout.
    pub fn new(heads: usize) -> Self {
        Self { heads, bias: None, causal: false, keys: None, dropout: 0.0, queries: None }
    }
}

impl<'t> Var<'t> {
    /// Self-attention of rows that hold query, key and value one behind the other: [N, T, 3 D] to [N, T, D] (or as many
    /// tokens as `queries` says), for each head
    /// `softmax(q kᵀ / sqrt(D / heads) + bias) v` (Vaswani et al. 2017). The scores are never in memory as a whole, and
    /// those that `causal` forbids are not computed.
    pub fn attention_packed(self, options: &AttentionOptions, rng: &mut Rng) -> Self {
        self.attempt(|| self.try_attention_packed(options, rng))
    }

    fn try_attention_packed(self, options: &AttentionOptions, rng: &mut Rng) -> Result<Self> {
        let qkv = self.held();
        let [batch, len, width] = tokens(qkv.shape())?;
        if !width.is_multiple_of(3) {
            return Err(Error::invalid(format!(
                "packed attention wants query, key and value in the last axis, three equal parts, got shape {:?}",
                qkv.shape()
            )));
        }
        let q_len = options.queries.unwrap_or(len);
        if q_len > len {
            return Err(Error::invalid(format!("{q_len} tokens ask, but there are only {len}")));
        }
        let g = geometry(options, [batch, q_len, len, width / 3])?;
        let work = work(&g);
        self.tape.worked(work);
        let extra = SavedInputs::new(self.tape, &g, options, rng);
        let len = batch * q_len * (width / 3);
        let mut out = self.tape.output(self.tape.holds_bf16(len), len);
        let mut lse = self.tape.take(batch * g.heads * q_len);
        let to = AttnOutput { out: out.numbers(), lse: &mut lse };
        attention_packed(&g, extra.opts(), qkv.numbers(), to);
        let out = out.held(&[batch, q_len, width / 3]);
        if !self.requires_grad() {
            self.tape.give(lse);
            self.tape.with_pool(|pool| extra.give(pool));
            return Ok(self.tape.held_node("attention_packed", out, &[], |_, _| {}));
        }
        let y = out.clone();
        Ok(self.tape.held_node("attention_packed", out, &[self], move |dy, grads| {
            let dy = dy.in_full(grads.pool);
            let mut dqkv = grads.pool.take_owned(qkv.is_half(), qkv.len());
            let saved = AttnSaved { out: y.numbers(), lse: &lse };
            attention_packed_backward(&g, extra.opts(), qkv.numbers(), saved, &dy, dqkv.numbers());
            // Each of its two products has one for each of its factors.
            grads.worked(work + work);
            extra.give(grads.pool);
            grads.pool.give(lse);
            grads.pool.give(dy);
            grads.add_owned(0, dqkv);
        }))
    }

    /// Attention of the queries `self` [N, Q, D] to the keys and values [N, K, D], for each head
    /// `softmax(q kᵀ / sqrt(D / heads) + bias) v`: [N, Q, D].
    pub fn attention(self, keys: Self, values: Self, options: &AttentionOptions, rng: &mut Rng) -> Self {
        self.attempt(|| self.try_attention(keys, values, options, rng))
    }

    fn try_attention(
        self,
        keys: Self,
        values: Self,
        options: &AttentionOptions,
        rng: &mut Rng,
    ) -> Result<Self> {
        let (q, k, v) = (self.value(), keys.value(), values.value());
        let ([batch, q_len, width], [_, k_len, _]) = (tokens(q.shape())?, tokens(k.shape())?);
        expect_shape("the keys of an attention", k.shape(), &[batch, k_len, width])?;
        expect_shape("the values of an attention", v.shape(), &[batch, k_len, width])?;
        let g = geometry(options, [batch, q_len, k_len, width])?;
        let work = work(&g);
        self.tape.worked(work);
        let extra = SavedInputs::new(self.tape, &g, options, rng);
        let (mut out, mut lse) = (self.tape.take(q.len()), self.tape.take(batch * g.heads * q_len));
        let qkv = Qkv { q: slice(&q), k: slice(&k), v: slice(&v) };
        attention(&g, extra.opts(), qkv, AttnOutput { out: (&mut out).into(), lse: &mut lse });
        let out = tensor(q.shape(), out);
        let inputs = [self, keys, values];
        if !inputs.iter().any(|x| x.requires_grad()) {
            self.tape.give(lse);
            self.tape.with_pool(|pool| extra.give(pool));
            return Ok(self.tape.input(out));
        }
        let y = out.clone();
        Ok(self.tape.node("attention", out, &inputs, move |dy, grads| {
            let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| grads.pool.take(x.len()));
            let qkv = Qkv { q: slice(&q), k: slice(&k), v: slice(&v) };
            let saved = AttnSaved { out: slice(&y).into(), lse: &lse };
            let dqkv = QkvMut { q: &mut dq, k: &mut dk, v: &mut dv };
            attention_backward(&g, extra.opts(), qkv, saved, &dy, dqkv);
            // Each of its two products has one for each of its factors.
            grads.worked(work + work);
            extra.give(grads.pool);
            grads.pool.give(lse);
            grads.pool.give(dy);
            for (i, grad) in [dq, dk, dv].into_iter().enumerate() {
                grads.add(i, grad);
            }
        }))
    }
}

/// The shape of an attention over [batch, q_len, k_len, width].
fn geometry(options: &AttentionOptions, sizes: [usize; 4]) -> Result<AttnGeom> {
    let ([batch, q_len, k_len, width], heads) = (sizes, options.heads);
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(Error::invalid(format!(
            "{width} features cannot be split into {heads} heads of equal size"
        )));
    }
    let wanted: [&[usize]; 2] = [&[q_len, k_len], &[batch * heads, q_len, k_len]];
    if let Some(bias) = options.bias.as_ref().filter(|bias| !wanted.contains(&bias.shape())) {
        let [shared, own] = wanted;
        return Err(Error::invalid(format!(
            "the mask of an attention is {shared:?} or {own:?}, not {:?}",
            bias.shape()
        )));
    }
    if let Some(keys) = options.keys.as_ref().filter(|keys| keys.len() != batch) {
        return Err(Error::invalid(format!("there are {} lengths for {batch} sequences", keys.len())));
    }
    Ok(AttnGeom { batch, heads, q_len, k_len, dim: width / heads })
}

/// What the scores and the sums that they weigh cost.
fn work(g: &AttnGeom) -> Work {
    let scores = g.batch * g.heads * g.q_len;
    Work::sums(scores * g.k_len, g.dim) + Work::sums(scores * g.dim, g.k_len)
}

/// Masks and dropout, saved for the way back.
struct SavedInputs {
    bias: Option<Tensor>,
    causal: bool,
    keys: Option<Arc<[usize]>>,
    mask: Option<(Vec<u8>, Elem)>,
}

impl SavedInputs {
    fn new(tape: &Tape, g: &AttnGeom, options: &AttentionOptions, rng: &mut Rng) -> Self {
        let len = g.batch * g.heads * g.q_len * g.k_len;
        let mask = (options.dropout > 0.0).then(|| draw_mask(tape, len, options.dropout, rng));
        let (causal, keys) = (options.causal, options.keys.clone());
        Self { bias: options.bias.clone().map(row_major), causal, keys, mask }
    }

    fn opts(&self) -> AttentionArgs<'_> {
        let dropout = self.mask.as_ref().map(|(keep, scale)| (keep.as_slice(), *scale));
        let (bias, keys) = (self.bias.as_ref().map(slice), self.keys.as_deref());
        AttentionArgs { bias, causal: self.causal, keys, dropout }
    }

    fn give(self, pool: &mut BufferPool) {
        if let Some((keep, _)) = self.mask {
            pool.masks.give(keep);
        }
    }
}
