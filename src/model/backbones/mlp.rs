//! The multi-layer perceptron.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::nn::{Forward, Linear, Module, ReLU, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: MLP, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct MLPConfig {
    /// The size of the input, then that of each layer's output: `[784, 256, 10]` has two layers.
    #[schemars(length(min = 2))]
    #[schemars(inner(range(min = 1)))]
    pub sizes: Vec<usize>,
    /// What stands between the layers; ReLU if absent.
    #[serde(default)]
    pub activation: Option<Spec<dyn Module>>,
}

/// Linear layers with an activation between each two: N × … to N × the last size. The input is flattened first.
///
/// The layers are called `layers.0`, `layers.1`, …
pub struct MLP {
    layers: Vec<Linear>,
    activation: Box<dyn Module>,
}

module!(MLP { layers, activation });

register! { /// Linear layers with an activation between each two.
dyn Module, "MLP" => fn MLP::from_config }

impl MLP {
    fn from_config(p: MLPConfig, cx: &mut BuildCx) -> Result<Self> {
        let activation = match &p.activation {
            Some(spec) => spec.build(cx)?,
            None => Box::new(ReLU::default()),
        };
        Self::new(&p.sizes, activation)
    }
}

impl MLP {
    /// Layers between these sizes, the first that of the input: `[784, 256, 10]` has two.
    ///
    /// # Errors
    /// If there are less than two sizes.
    pub fn new(sizes: &[usize], activation: Box<dyn Module>) -> Result<Self> {
        if sizes.len() < 2 {
            return Err(Error::config(format!(
                "`sizes` needs that of the input and one a layer, not {sizes:?}"
            )));
        }
        let layers = sizes.windows(2).map(|pair| Linear::new(pair[0], pair[1])).collect();
        Ok(Self { layers, activation })
    }
}

impl Module for MLP {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut x = if x.shape().len() > 2 { x.flatten(1, -1).checked()? } else { x };
        for (i, layer) in self.layers.iter_mut().enumerate() {
            if i > 0 {
                x = self.activation.forward(x, cx)?;
            }
            x = layer.forward(x, cx)?;
        }
        Ok(x)
    }
}
