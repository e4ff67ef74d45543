//! What the loops train. A [`Model`] turns a batch into losses and gradients, or into scores.

mod backbones;
mod batch_augments;
mod classifier;
mod heads;
mod initial;
mod late;
mod losses;
mod outputs;
mod preprocessors;
mod supervised;
mod task;
pub mod tta;
mod weighting;

use std::any::Any;
use std::sync::Arc;

pub use backbones::*;
pub use batch_augments::{
    BatchAugment, BatchAugments, BatchAugmentsConfig, CutMix, CutMixConfig, MixInterpolation, Mixed, Mixup,
    ResizeMix, ResizeMixConfig, Stack,
};
pub use classifier::{ImageClassifier, ImageClassifierConfig};
pub use heads::*;
pub use late::Late;
pub use losses::LossDict;
pub use outputs::{Outputs, SCORES};
pub use preprocessors::{
    BaseDataPreprocessor, ClsDataPreprocessor, ClsDataPreprocessorConfig, ImgDataPreprocessor,
    ImgDataPreprocessorConfig, PixelOps, Prepared, Preprocessor,
};

pub use supervised::{Objective, ObjectiveConfig, Supervised, SupervisedConfig};
pub use task::Task;
pub use weighting::{
    DynamicWeightAverage, DynamicWeightAverageConfig, GradNorm, GradNormConfig, UncertaintyWeighting,
    UncertaintyWeightingConfig, Weighed, Weighting,
};

use crate::base::{Elem, Error, Result};
use crate::comm::Comm;
use crate::data::{Batch, TargetScales};
use crate::kernels::Precision;
use crate::nn::{FusedWeights, Traced};
use crate::params::Params;

crate::registry!(dyn Model, "model");

/// A step's address and scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepCx {
    /// The seed of the run.
    pub seed: u64,
    /// Completed iterations: with the seed the key of dropout and of all other noise in a forward pass.
    pub iter: u64,
    /// What the gradients are multiplied by: 1 / (number of micro-batches), a mixed-precision scale, or both. Logged
    /// losses are not.
    pub loss_scale: Elem,
}

/// The fields of a batch that a model reads: those that go in, and those that its losses compare with. Where the data
/// sets declare their fields, a config is checked against them before training.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldNeeds {
    /// What goes in, in training and evaluation.
    pub inputs: Vec<String>,
    /// What training compares with.
    pub targets: Vec<String>,
    /// What it predicts, by name, each with the field that it is compared with: the names of its classes are those of
    /// the field.
    pub outputs: Vec<(String, String)>,
}

/// Anything that can be trained. Optimizers, checkpoints and averages know it by its [`Params`] alone, so that a model
/// need not be made of this crate's networks.
pub trait Model: Params + Any + Send {
    /// Forward, loss and backward: *adds* to the gradients, times [`StepCx::loss_scale`].
    ///
    /// The first of [`Outputs::vars`] is `loss`, the number that was optimised.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs>;

    /// The optimizers that take turns in each iteration, by name, in their order, as those of a GAN: the wrapper has to be
    /// an OptimWrapperDict. Without any, all parameters move together after one [`train_step`](Self::train_step).
    fn turns(&self) -> &'static [&'static str] {
        &[]
    }

    /// The [`train_step`](Self::train_step) of one of the [`turns`](Self::turns): what moves afterwards are the parameters
    /// of that optimizer, and all other gradients are dropped.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    fn train_turn(&mut self, _optimizer: &str, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.train_step(batch, cx)
    }

    /// Forward only, with layers in evaluation mode: predictions, and the samples' losses where the batch has targets.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs>;

    /// Sets all weights as a function of the seed, and tells who set what: `name - shape: rule (mean, std)`, a line a
    /// parameter.
    ///
    /// # Errors
    /// If a rule does not fit, or a checkpoint cannot be read.
    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>>;

    /// Trains beside other ranks, each with its own part of the batches; asked for only where there are some. Gradients are
    /// added up by the run; what is left to a model are statistics over the samples of all ranks, as those of a
    /// [`SyncBatchNorm`](crate::nn::SyncBatchNorm), and noise, which should be another one on each rank.
    fn beside(&mut self, _comm: Arc<dyn Comm>) {}

    /// Whether its steps call the group that it trains [beside](Self::beside), as a `SyncBatchNorm` does: then no rank can
    /// be without samples where others have some.
    fn meets_in_steps(&self) -> bool {
        false
    }

    /// Lets its batch norms take their statistics over the samples of all ranks: `sync_bn` of a config. How many there
    /// are.
    fn sync_batchnorm(&mut self) -> usize {
        0
    }

    /// What errors call it: the name of its type.
    fn name(&self) -> &str {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path)
    }

    /// Whether its products can be computed in this precision, as an AmpOptimWrapper and the `fp16` of an evaluation
    /// ask. The kernels of this crate do; a model that computes by other means says what it has, so that nothing is asked
    /// of it in vain.
    fn computes_in(&self, _precision: Precision) -> bool {
        true
    }

    /// Whether evaluation computes batch norms, sums and activations with the convolution or linear map before them.
    /// Scores differ from those of the layers one by one by rounding, 1e-5 of the largest. Answers whether it can.
    fn fuse(&mut self, _fuses: bool) -> bool {
        false
    }

    /// Puts batch norms into the weights of the convolutions and linear maps before them, by the data flow of a batch:
    /// see [`fuse_conv_bn`](crate::nn::fuse_conv_bn).
    ///
    /// # Errors
    /// If the batch does not fit the model, or the model cannot.
    fn fuse_conv_bn(&mut self, _batch: &Batch) -> Result<FusedWeights> {
        Err(Error::config(format!("`{}` has no batch norms that could be fused", self.name())))
    }

    /// Takes the form that weights of these names have after [`fuse_conv_bn`](Self::fuse_conv_bn). How many batch norms
    /// are gone.
    ///
    /// # Errors
    /// When it cannot.
    fn take_fused_form(&mut self, _has: &dyn Fn(&str) -> bool) -> Result<usize> {
        Err(Error::config(format!("`{}` has no batch norms that could be fused", self.name())))
    }

    /// The names of parameters that are one with another, each with the name by which that goes.
    fn tied(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The fields of a batch that it reads, where it knows.
    fn reads(&self) -> FieldNeeds {
        FieldNeeds::default()
    }

    /// Learns these targets with mean 0 and deviation 1, and predicts them in their own unit; asked for only where there
    /// are some.
    ///
    /// # Errors
    /// When it cannot, as most models that have no such targets.
    fn standardize(&mut self, _scales: &TargetScales) -> Result<()> {
        Err(Error::config(format!(
            "`standardize_target`: `{}` does not scale its targets, leave it out",
            self.name()
        )))
    }

    /// What each of its modules gives for a batch, and what that costs, where it knows; layers are in evaluation mode.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    fn trace(&mut self, _batch: &Batch) -> Result<Vec<Traced>> {
        Ok(Vec::new())
    }

    /// Keeps of one of its modules, by its path, nothing but the inputs until the way back, which computes it once more:
    /// `activation_checkpointing` of a config.
    ///
    /// # Errors
    /// When there is no such module, or the model cannot.
    fn checkpoint_activations(&mut self, _module: &str) -> Result<()> {
        let name = self.name();
        Err(Error::config(format!("`{name}` cannot compute its activations again on the way back")))
    }

    /// Bytes of the buffers that its steps have needed so far, where it knows: activations, gradients of them, and what
    /// kernels work in.
    fn buffer_bytes(&mut self) -> Option<usize> {
        None
    }

    /// Freezes or frees one of its modules, by its path, and everything below.
    ///
    /// # Errors
    /// When there is no such module, or the model cannot.
    fn set_trainable(&mut self, _module: &str, _trainable: bool) -> Result<()> {
        Err(Error::config(format!("`{}` cannot freeze its modules while it is trained", self.name())))
    }

    /// A plain number of one of its modules, by path and name, to change while training: `backbone.dropout`, `p`.
    fn number_mut(&mut self, _module: &str, _name: &str) -> Option<&mut f64> {
        None
    }
}
