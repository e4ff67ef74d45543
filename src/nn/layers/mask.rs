//! Who looks at whom in an attention.

use ndarray::{Array2, ArrayD};

use crate::base::{Elem, Error, Result, Tensor};
use crate::nn::AttentionOptions;
use crate::nn::shapes::expect_shape;

/// Which tokens an attention looks at: PyTorch's `attn_mask`, `key_padding_mask` and `is_causal`. What fills short
/// sequences up at their ends is left out by [`Forward::lengths`](crate::nn::Forward::lengths) already.
///
/// ```
/// use ndarray::array;
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{AttentionMask, BufferPool, Forward, MultiheadAttention, Tape};
///
/// // The first token is padding: nobody looks at it.
/// let mask = AttentionMask { padding: Some(array![[true, false]]), ..AttentionMask::default() };
/// let mut attention = MultiheadAttention::new(2, 1);
/// let tape = Tape::new(BufferPool::default());
/// let mut second = |first: f32| -> shanty::base::Result<_> {
///     let x = tape.input(Tensor::from_shape_fn(vec![1, 2, 2], |at| if at[1] == 0 { first } else { 1.0 }));
///     let y = attention.forward_masked(x, &mask, &mut Forward::new(false, &mut keyed(0, "example", 0, 0)))?;
///     Ok(y.select(1, 1).value())
/// };
/// assert_eq!(second(0.0)?, second(5.0)?);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AttentionMask {
    /// Added to the scores: [L, S] to those of every head, or [N · heads, L, S]; minus infinity forbids.
    pub scores: Option<Tensor>,
    /// Which of the tokens [N, S] that are looked at only fill up.
    pub padding: Option<Array2<bool>>,
    /// Whether a token looks at itself and at those before it alone.
    pub causal: bool,
}

impl AttentionMask {
    /// A token looks at itself and at those before it alone.
    pub fn causal() -> Self {
        Self { causal: true, ..Self::default() }
    }

    /// Where it is true, [L, S] or [N · heads, L, S], none may look: PyTorch's `attn_mask` of booleans.
    pub fn forbid(mask: &ArrayD<bool>) -> Self {
        let scores = mask.mapv(|forbidden| if forbidden { Elem::NEG_INFINITY } else { 0.0 });
        Self { scores: Some(scores.into_shared()), ..Self::default() }
    }

    /// The options of an attention of `heads` heads over [batch, q_len, k_len].
    pub(super) fn options(
        &self,
        heads: usize,
        [batch, q_len, k_len]: [usize; 3],
    ) -> Result<AttentionOptions> {
        let mut options = AttentionOptions { causal: self.causal, ..AttentionOptions::new(heads) };
        let all = [batch * heads, q_len, k_len];
        let (shared, given) = ([q_len, k_len], self.scores.as_ref().map(|scores| scores.shape()));
        if let Some(given) = given.filter(|given| *given != shared && *given != all) {
            return Err(Error::invalid(format!(
                "the mask of an attention is {shared:?} or {all:?}, not {given:?}"
            )));
        }
        let Some(padding) = &self.padding else {
            options.bias = self.scores.clone();
            return Ok(options);
        };
        expect_shape("the padding of an attention", padding.shape(), &[batch, k_len])?;
        let scores = self.scores.as_ref().and_then(|scores| scores.broadcast(&all[..]));
        let score = |at: ndarray::IxDyn| match &scores {
            _ if padding[[at[0] / heads.max(1), at[2]]] => Elem::NEG_INFINITY,
            Some(scores) => scores[at],
            None => 0.0,
        };
        options.bias = Some(Tensor::from_shape_fn(all.to_vec(), score));
        Ok(options)
    }
}
