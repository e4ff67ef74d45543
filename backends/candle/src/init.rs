//! Initial weights: the rules are those of the constructor's layers, the draws those of the run's seed.

use candle_core::Tensor;
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;
use shanty::base::{Result, keyed};
use shanty::ndarray::ArrayD;
use shanty::nn::init::{Constant, Initializer, Normal, Uniform};
use xxhash_rust::xxh3::xxh3_64;

use crate::device::{Transfers, told};
use crate::weights::Weight;

/// Sets a weight as a function of the seed and its name, as shanty's own networks do, and tells how.
pub(crate) fn begin(weight: &mut Weight, seed: u64, transfers: &Transfers) -> Result<String> {
    let mut values = ArrayD::zeros(weight.value.dims());
    let mut rng = keyed(seed, "init", xxh3_64(weight.name.as_bytes()), 0);
    let rule = rule(&weight.begins, weight.value.shape());
    rule.fill(&mut values.view_mut(), None, &mut rng)?;
    let (mean, std) = (values.mean().unwrap_or(0.0), values.std(0.0));
    let shape = weight.value.dims().to_vec();
    let line = format!("{} - {shape:?}: {} (mean {mean:.3e}, std {std:.3e})", weight.name, rule.describe());
    let there = Tensor::from_vec(values.into_raw_vec_and_offset().0, shape, weight.value.device());
    told(there.and_then(|there| weight.value.set(&there)))?;
    transfers.weight();
    Ok(line)
}

fn rule(begins: &Init, shape: &candle_core::Shape) -> Box<dyn Initializer> {
    match *begins {
        Init::Const(val) => Box::new(Constant { val }),
        Init::Randn { mean, stdev } => Box::new(Normal { mean, std: stdev }),
        Init::Uniform { lo, up } => Box::new(Uniform { a: lo, b: up }),
        Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            let reach = 3f64.sqrt() * std;
            match dist {
                NormalOrUniform::Normal => Box::new(Normal { mean: 0.0, std }),
                NormalOrUniform::Uniform => Box::new(Uniform { a: -reach, b: reach }),
            }
        }
    }
}
