//! Softmax attention (Vaswani et al., arXiv:1706.03762) and what stands around it in a vision transformer.
//!
//! One head's scores of one sequence are computed at a time, in working memory that stays in the cache; they are
//! never in memory as a whole, and the backward pass computes them again from the saved logarithms of the rows' sums,
//! as FlashAttention does (Dao et al., arXiv:2205.14135). Sequences are the tasks.
//!
//! `multi_head`: attention; `operands`: what goes into it; `slope`: of its softmax; `rotary`: queries and keys are
//! turned by their places; `tokens`: planes of channels become tokens.

mod multi_head;
mod operands;
mod rotary;
mod slope;
mod tokens;

pub use multi_head::{AttnGeom, attention, attention_backward, attention_packed, attention_packed_backward};
pub use operands::{AttentionArgs, AttnOutput, AttnSaved, Qkv, QkvMut};
pub use rotary::{RotaryGeom, rotary};
pub use tokens::{TokenGeom, embed_tokens, token_mean, token_mean_backward, token_planes};
