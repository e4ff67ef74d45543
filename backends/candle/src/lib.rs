//! Networks of candle under the Runner of shanty: YAML, hooks, schedules, exact resume, the whole command line.
//!
//! A network implements [`Network`]: what it computes and what its loss is. Its constructor takes a `VarBuilder`, as all of
//! candle's layers do, and one line names it for configs:
//!
//! ```
//! use candle_core::{Module as _, Result, Tensor};
//! use candle_nn::{Linear, VarBuilder, linear};
//! use shanty_candle::{Fields, Forward, Losses, Network, Predictions, objective};
//!
//! struct Mlp {
//!     hidden: Linear,
//!     out: Linear,
//! }
//!
//! /// Its keys in a config.
//! #[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
//! struct MlpConfig {
//!     /// Numbers of a sample.
//!     inputs: usize,
//!     /// Classes.
//!     classes: usize,
//! }
//!
//! fn mlp(config: &MlpConfig, vb: VarBuilder<'_>) -> Result<Mlp> {
//!     Ok(Mlp { hidden: linear(config.inputs, 64, vb.pp("hidden"))?, out: linear(64, config.classes, vb.pp("out"))? })
//! }
//!
//! impl Mlp {
//!     fn scores(&self, x: &Tensor, cx: &Forward) -> Result<Tensor> {
//!         let x = self.hidden.forward(&x.flatten_from(1)?)?.relu()?;
//!         self.out.forward(&cx.dropout(&x, 0.1)?)
//!     }
//! }
//!
//! impl Network for Mlp {
//!     fn loss(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Losses> {
//!         objective::cross_entropy(&self.scores(&batch.inputs()?, cx)?, batch).map(Losses::new)
//!     }
//!     fn predict(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Predictions> {
//!         objective::classes(&self.scores(&batch.inputs()?, cx)?, batch)
//!     }
//! }
//!
//! shanty_candle::register! {
//!     /// One hidden layer.
//!     "MyMlp" => mlp
//! }
//!
//! # fn main() -> shanty::base::Result<()> {
//! use shanty::model::{Model as _, StepCx};
//! let config = shanty::config::parse("c.yaml", "{type: MyMlp, network: {inputs: 12, classes: 3}}").unwrap();
//! let spec: shanty::registry::Spec<dyn shanty::model::Model> = config.read().unwrap();
//! let mut model = spec.build(&mut shanty::registry::BuildCx::new(0))?;
//! model.init_weights(0)?;
//! let batch = shanty::data::Batch::new(shanty::ndarray::ArrayD::from_elem(vec![2, 12], 0.5), vec![0, 2]);
//! let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 })?;
//! assert!(outputs.loss().is_some_and(f64::is_finite));
//! # Ok(())
//! # }
//! ```

mod device;
mod fields;
mod init;
mod model;
mod network;
pub mod objective;
mod params;
mod update;
mod weights;

pub use device::{Place, Transfers};
pub use fields::Fields;
pub use model::{CandleConfig, CandleModel};
pub use network::{Forward, Losses, Network, Predictions};

/// Names the constructor of a network for configs: `register! { /// What it is. "Name" => constructor }`. The
/// constructor is a `fn(&Config, VarBuilder<'_>) -> candle_core::Result<impl Network>`; a config then says
/// `model: {type: Name, network: {the fields of Config}, device: cpu}`.
#[macro_export]
macro_rules! register {
    ($(#[doc = $doc:expr])+ $name:literal => $build:path $(,)?) => {
        $crate::__private::shanty::__submit!(
            [$($doc),+] dyn $crate::__private::shanty::model::Model, $name,
            &$crate::__private::shanty::registry::Make::<_, dyn $crate::__private::shanty::model::Model>(
                |config, _| ::core::result::Result::Ok(::std::boxed::Box::new(
                    $crate::CandleModel::from_config($name, config, $build)?
                ))
            )
        );
    };
    ($name:literal => $($rest:tt)+) => {
        ::core::compile_error!(concat!(
            "`register!` of \"", $name, "\" has no doc comment: write one in front of the name; `list` and \
             `describe` show it"
        ));
    };
}

/// What the macro needs.
#[doc(hidden)]
pub mod __private {
    pub use shanty;
}
