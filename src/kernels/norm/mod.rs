//! Normalisation: batch norm (Ioffe and Szegedy, arXiv:1502.03167) and layer norm (Ba et al., arXiv:1607.06450).
//!
//! Mean and variance take two passes over values that stay in the cache between them, so that a large mean does not
//! cancel. Sums run in f32 lanes that are emptied into f64 now and then. What commonly follows a batch norm, a
//! residual addition and the ReLU, is part of the same walk over memory.
//!
//! `batch_norm` makes one task of each channel, `channel` holds the loops over its planes; `layer_norm` makes tasks
//! of rows.

mod batch_norm;
mod channel;
mod layer_norm;

pub use batch_norm::{
    BnAffine, BnEpilogue, BnGrads, BnSaved, BnShape, Moments, MomentsMut, bn_apply, bn_backward,
    bn_eval_backward, bn_train,
};
pub use layer_norm::{
    LayerNormAffine, LayerNormGrads, LayerNormStats, LayerNormStatsMut, layer_norm, layer_norm_backward,
};
