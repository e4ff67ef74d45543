//! Networks of [burn](https://burn.dev) under shanty's Runner: YAML, hooks, schedules, exact resume, reports and many
//! processes around a [`Module`](burn::module::Module) that stays as it is.
//!
//! A network says its loss and its prediction ([`Network`]); [`BurnModel`] makes a shanty model of it, and
//! [`register!`] gives it a type name in configs. What stays on the device, what moves and when, and what does not work
//! is told in docs/backends.md.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::Device;
//! use shanty::base::Result;
//! use shanty_burn::{BurnModel, Fields, Losses, Network, Predictions};
//!
//! #[derive(Module, Debug)]
//! struct Line {
//!     line: Linear,
//! }
//!
//! impl Network for Line {
//!     fn loss(&self, batch: &Fields<'_>) -> Result<Losses> {
//!         let error = self.line.forward(batch.float::<2>("inputs")?) - batch.float::<2>("target")?;
//!         Ok(error.square().mean().into())
//!     }
//!
//!     fn predict(&self, batch: &Fields<'_>) -> Result<Predictions> {
//!         Ok(Predictions::new("y", self.line.forward(batch.float::<2>("inputs")?)))
//!     }
//! }
//!
//! let model = BurnModel::new(|device: &Device| Ok(Line { line: LinearConfig::new(3, 1).init(device) }))?;
//! let mut names = Vec::new();
//! shanty::params::Params::infos(&model, &mut |p| names.push(format!("{} {:?}", p.name, p.shape)));
//! assert_eq!(names, ["line.weight [1, 3]", "line.bias [1]"]);
//! # Ok::<(), shanty::base::Error>(())
//! ```

mod classes;
mod fields;
mod model;
mod noise;
mod own;
mod params;
mod places;
mod update;

pub use classes::{classified, cross_entropies};
pub use fields::{Fields, Losses, Predictions};
pub use model::{BurnModel, Network};

/// Gives a network a type name in configs, by a function `fn(&Config, &Device) -> Result<Network>`; the config is read
/// from the keys of the spec (`Deserialize`, `JsonSchema`).
///
/// ```ignore
/// shanty_burn::register! {
///     /// A network of two layers.
///     "BurnMlp" => Mlp::new
/// }
/// ```
#[macro_export]
macro_rules! register {
    ($(#[doc = $doc:expr])+ $name:literal => $make:path $(,)?) => {
        ::shanty::__submit!(
            [$($doc),+] dyn ::shanty::model::Model,
            $name,
            &::shanty::registry::Make::<_, dyn ::shanty::model::Model>(|config, _| {
                let model = $crate::BurnModel::new(move |device| $make(&config, device))?;
                ::core::result::Result::Ok(::std::boxed::Box::new(model))
            })
        );
    };
}
