//! Finds mislabelled training samples: a network learns clean labels before wrong ones, so that early in a training the
//! losses of the samples fall into two heaps (Arazo et al. 2019, "Unsupervised label noise modeling and loss
//! correction").

mod hook;
mod mixture;
mod noisy;

pub use hook::{LabelNoise, Suspect};
pub use mixture::{Beta, BetaMixture};
pub use noisy::NoisyLabels;
