//! Normalisation: batch norm (Ioffe and Szegedy, arXiv:1502.03167), layer norm (Ba et al., arXiv:1607.06450), group norm
//! (Wu and He, arXiv:1803.08494) and RMS norm (Zhang and Sennrich, arXiv:1910.07467).
//!
//! Mean and variance take two passes over values that stay in the cache between them, so that a large mean does not
//! cancel. Sums run in f32 lanes that are emptied into f64 now and then. What commonly follows a batch norm, a
//! residual addition and the ReLU, is part of the same walk over memory.
//!
//! `batch_norm` makes one task of each channel, `channel` holds the loops over its planes; `layer_norm` and
//! `rms_norm` make tasks of rows, `group_norm` of the groups of a sample, `pixel_norm`, a layer norm over channels that
//! come first, of pixels side by side.

mod batch_norm;
mod channel;
mod group_norm;
mod layer_norm;
mod pixel_norm;
mod rms_norm;

pub use batch_norm::{
    BnAffine, BnEpilogue, BnGrads, BnSaved, BnShape, Moments, MomentsMut, bn_apply, bn_backward,
    bn_eval_backward, bn_moments, bn_sums, bn_through_moments, bn_train,
};
pub use group_norm::{GroupNormShape, group_norm, group_norm_backward};
pub use layer_norm::{
    LayerNormAffine, LayerNormGrads, LayerNormStats, LayerNormStatsMut, layer_norm, layer_norm_backward,
};
pub use pixel_norm::{pixel_norm, pixel_norm_backward};
pub use rms_norm::{RmsNormGrads, rms_norm, rms_norm_backward};
