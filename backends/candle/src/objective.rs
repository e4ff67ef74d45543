//! The two objectives that most networks have: classes and numbers.

use candle_core::{D, Result, Tensor, bail};
use candle_nn::ops::{log_softmax, softmax};
use shanty::data::TARGET;
use shanty::model::{FieldNeeds, SCORES};

use crate::fields::Fields;
use crate::network::Predictions;

/// The cross entropy of each sample, [N], between scores [N, K] and the classes of the batch.
///
/// # Errors
/// When they do not fit, and when a sample has no class.
pub fn cross_entropy(scores: &Tensor, batch: &Fields<'_>) -> Result<Tensor> {
    let (samples, classes) = scores.dims2()?;
    let labels = batch.labels(classes)?;
    if labels.dims() != [samples] {
        bail!("there are scores of {samples} samples, and classes of shape {:?}", labels.dims());
    }
    log_softmax(scores, D::Minus1)?.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?.neg()
}

/// The probabilities of the classes, `scores`, with the loss of each sample where all have a class.
///
/// # Errors
/// As [`cross_entropy`].
pub fn classes(scores: &Tensor, batch: &Fields<'_>) -> Result<Predictions> {
    let prediction = Predictions::new(SCORES, softmax(scores, D::Minus1)?);
    Ok(if batch.has_labels() { prediction.losses(cross_entropy(scores, batch)?) } else { prediction })
}

/// The mean squared error of each sample, [N], between outputs and the `target` of the batch.
///
/// # Errors
/// When their sizes differ.
pub fn squared_error(outputs: &Tensor, batch: &Fields<'_>) -> Result<Tensor> {
    let target = batch.field(TARGET)?;
    // An output [N, 1] may meet a target [N], but one sample of N numbers no N samples.
    let samples = |tensor: &Tensor| tensor.dims().first().copied();
    if target.elem_count() != outputs.elem_count() || samples(&target) != samples(outputs) {
        bail!(
            "outputs of shape {:?} cannot be compared with a target of {:?}",
            outputs.dims(),
            target.dims()
        );
    }
    let error = outputs.sub(&target.reshape(outputs.shape())?)?.sqr()?;
    if error.rank() == 1 { Ok(error) } else { error.flatten_from(1)?.mean(1) }
}

/// The outputs as they are, `prediction`, with the squared error of each sample where there is a target.
///
/// # Errors
/// As [`squared_error`].
pub fn numbers(outputs: &Tensor, batch: &Fields<'_>) -> Result<Predictions> {
    let prediction = Predictions::new("prediction", outputs.clone());
    match batch.host().get(TARGET) {
        Some(_) => Ok(prediction.losses(squared_error(outputs, batch)?)),
        None => Ok(prediction),
    }
}

/// What a network reads that takes these fields and is compared with `target`, for [`Network::reads`]: a config is then
/// checked against the fields of its data, and predictions are told by the names of the classes.
///
/// [`Network::reads`]: crate::Network::reads
pub fn needs(inputs: &[&str], output: &str) -> FieldNeeds {
    FieldNeeds {
        inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
        targets: vec![TARGET.to_owned()],
        outputs: vec![(output.to_owned(), TARGET.to_owned())],
    }
}
