//! An optimizer of one's own: Signum (Bernstein et al. 2018), its formula and its numbers. Walking through the model,
//! groups, schedules, state, checkpoints and resume come by themselves.
#![allow(clippy::print_stdout)] // an example speaks

use shanty::kernels::walk;
use shanty::optim::{Optimizer, ParamStep};
use shanty::plugin::prelude::*;
use shanty::run::{Outcome, Runner};

/// `m = β·m + (1-β)·g; w -= lr · (sign(m) + λ·w)`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Signum {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    lr: f64,
    /// Weight β of the old momentum in the new.
    #[serde(default = "momentum")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    momentum: f64,
    /// Decoupled weight decay λ.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    weight_decay: f64,
}

fn momentum() -> f64 {
    0.9
}

impl Optimizer for Signum {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![("lr", &mut self.lr), ("momentum", &mut self.momentum), ("weight_decay", &mut self.weight_decay)]
    }

    fn state(&self) -> &'static [&'static str] {
        &["momentum_buffer"]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let [lr, beta, decay] = [self.lr, self.momentum, self.weight_decay].map(|v| v as Elem);
        let momentum = p.state()?;
        walk(p.value, p.grad, momentum, move |w, g, [m]| {
            let m = beta * m + (1.0 - beta) * g;
            (w - lr * (m.signum() + decay * w), [m])
        });
        Ok(())
    }
}

register! {
    /// Signum (Bernstein et al. 2018): the sign of the momentum, and decoupled weight decay.
    dyn Optimizer, "Signum" => Signum
}

const CONFIG: &str = "
model:
  type: ImageClassifier
  backbone: {type: MLP, sizes: [64, 64, 10]}
  head: {type: ClsHead}
train_dataloader: {batch_size: 32, sampler: {type: DefaultSampler, shuffle: true}, dataset: {type: Digits, split: train}}
val_dataloader: {batch_size: 32, sampler: {type: DefaultSampler, shuffle: false}, dataset: {type: Digits, split: val}}
val_evaluator: {type: Accuracy, topk: [1]}
train_cfg: {by_epoch: true, max_epochs: 4, val_interval: 4}
val_cfg: {}
optim_wrapper:
  optimizer: {type: Signum, lr: 0.001, weight_decay: 0.1}
  paramwise_cfg: {bias_decay_mult: 0.0}
param_scheduler:
  - {type: LinearLR, start_factor: 0.1, end: 1, convert_to_iter_based: true}
  - {type: LinearParamScheduler, param_name: momentum, start_factor: 0.9, end_factor: 1.0}
randomness: {seed: 0}
";

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let text = format!("{CONFIG}work_dir: {}\n", dir.path().display());
    let mut runner = Runner::from_config(&shanty::config::parse("signum.yaml", &text)?, Some("signum.yaml"))?;
    anyhow::ensure!(runner.train()? == Outcome::Finished);
    let optim = runner.session().state.optim.as_ref();
    for group in optim.map_or(&[][..], |optim| optim.groups()) {
        println!("{}", group.describe());
    }
    let accuracy = runner.val()?.get("accuracy/top1").unwrap_or(0.0);
    println!("accuracy: {accuracy:.2} %");
    anyhow::ensure!(accuracy > 90.0, "four epochs should give more than 90 %");
    Ok(())
}
