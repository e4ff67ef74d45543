//! What classifiers have in common.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Int, Tensor};
use shanty::base::Result;
use shanty::model::SCORES;

use crate::fields::{Fields, Predictions};

/// The loss of each sample, `-log softmax(logits)[target]`: N × K and N give N.
pub fn cross_entropies(logits: Tensor<2>, target: Tensor<1, Int>) -> Tensor<1> {
    let [n, _] = logits.dims();
    log_softmax(logits, 1).gather(1, target.reshape([n, 1])).reshape([n]).neg()
}

/// The probabilities of the classes, N × K, as `scores`; with the loss of each sample where the batch has a `target`.
///
/// # Errors
/// When `target` is not one class a sample.
pub fn classified(logits: Tensor<2>, batch: &Fields<'_>) -> Result<Predictions> {
    let predictions = Predictions::new(SCORES, softmax(logits.clone(), 1));
    Ok(match batch.host().get("target") {
        Some(_) => predictions.losses(cross_entropies(logits, batch.int::<1>("target")?)),
        None => predictions,
    })
}
