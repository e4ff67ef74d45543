//! From scores to what a model predicts.

use ndarray::{ArrayD, Axis};

use crate::base::Elem;

/// What is done to the scores of a loss to make a prediction of them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// They are the prediction.
    #[default]
    Identity,
    /// Probabilities of classes that exclude each other: the second axis is that of the classes.
    Softmax,
    /// A probability for each value.
    Sigmoid,
}

impl Activation {
    /// The prediction.
    ///
    /// ```
    /// use shanty::nn::Activation;
    /// let scores = ndarray::arr2(&[[0.0, 0.0]]).into_dyn();
    /// assert_eq!(Activation::Softmax.apply(scores.clone()), ndarray::arr2(&[[0.5, 0.5]]).into_dyn());
    /// assert_eq!(Activation::Sigmoid.apply(scores)[[0, 1]], 0.5);
    /// ```
    pub fn apply(self, mut scores: ArrayD<Elem>) -> ArrayD<Elem> {
        match self {
            Self::Identity => {}
            Self::Sigmoid => scores.mapv_inplace(|x| (1.0 / (1.0 + libm::exp(-f64::from(x)))) as Elem),
            Self::Softmax => {
                let axis = Axis(1.min(scores.ndim().saturating_sub(1)));
                for mut classes in scores.lanes_mut(axis) {
                    let most = classes.fold(Elem::NEG_INFINITY, |a, b| a.max(*b));
                    classes.mapv_inplace(|x| libm::exp(f64::from(x - most)) as Elem);
                    let sum = classes.iter().map(|x| f64::from(*x)).sum::<f64>();
                    classes.mapv_inplace(|x| (f64::from(x) / sum) as Elem);
                }
            }
        }
        scores
    }
}
