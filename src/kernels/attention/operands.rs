//! What goes into an attention and comes out of it.

use crate::base::Elem;
use crate::kernels::number::{Numbers, NumbersMut};

/// What an attention takes besides its shape and its operands.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionArgs<'a> {
    /// Added to the scores: [q_len, k_len] to those of every head, [batch, heads, q_len, k_len] to those of each; minus
    /// infinity forbids. A query that may look at nothing gets 0.
    pub bias: Option<&'a [Elem]>,
    /// Whether query i looks at the keys up to i alone. What no query of a block may look at is not computed.
    pub causal: bool,
    /// How many keys of each sequence there are to look at, the first ones; all if `None`.
    pub keys: Option<&'a [usize]>,
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
    pub out: NumbersMut<'a>,
    /// [batch, heads, q_len]: the logarithm of each row's sum of exponentials, for the backward pass.
    pub lse: &'a mut [Elem],
}

/// [`AttnOutput`] as the backward pass reads it.
#[derive(Debug, Clone, Copy)]
pub struct AttnSaved<'a> {
    /// The weighted means of the values.
    pub out: Numbers<'a>,
    /// The logarithms of the sums of exponentials.
    pub lse: &'a [Elem],
}
