//! What classifiers have in common.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};
use shanty::base::Result;
use shanty::model::SCORES;

use crate::fields::{Fields, Predictions};

/// The loss of each sample, `-log softmax(logits)[target]`: logits N × K and the classes of the batch give N.
///
/// # Errors
/// As [`Fields::labels`] with K classes.
pub fn cross_entropies(logits: Tensor<2>, batch: &Fields<'_>) -> Result<Tensor<1>> {
    let [n, classes] = logits.dims();
    let target = batch.labels(classes)?;
    Ok(log_softmax(logits, 1).gather(1, target.reshape([n, 1])).reshape([n]).neg())
}

/// The probabilities of the classes, N × K, as `scores`; with the loss of each sample where all have a class.
///
/// # Errors
/// As [`cross_entropies`].
pub fn classified(logits: Tensor<2>, batch: &Fields<'_>) -> Result<Predictions> {
    let predictions = Predictions::new(SCORES, softmax(logits.clone(), 1));
    // A sample without a class has -1.
    let known = batch.host().labels().is_ok_and(|labels| labels.iter().all(|label| *label >= 0));
    Ok(if known { predictions.losses(cross_entropies(logits, batch)?) } else { predictions })
}
