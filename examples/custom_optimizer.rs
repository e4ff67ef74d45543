//! An optimizer of one's own: Lion (Chen et al. 2023), its formula and its numbers. Walking through the model, groups,
//! schedules, state, checkpoints and resume come by themselves.
#![allow(clippy::print_stdout)] // an example speaks

use shanty::optim::{Optimizer, ParamStep};
use shanty::plugin::prelude::*;
use shanty::run::{Outcome, Runner};

/// `w -= lr · (sign(β₁·m + (1-β₁)·g) + λ·w); m = β₂·m + (1-β₂)·g`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Lion {
    /// Learning rate.
    #[schemars(range(min = 0.0))]
    lr: f64,
    /// Weights of the momentum in a step, and of the old momentum in the new.
    #[serde(default = "betas")]
    betas: (f64, f64),
    /// Decoupled weight decay λ.
    #[serde(default)]
    weight_decay: f64,
}

fn betas() -> (f64, f64) {
    (0.9, 0.99)
}

impl Optimizer for Lion {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        let (beta1, beta2) = (&mut self.betas.0, &mut self.betas.1);
        vec![
            ("lr", &mut self.lr),
            ("beta1", beta1),
            ("beta2", beta2),
            ("weight_decay", &mut self.weight_decay),
        ]
    }

    fn state(&self) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn step(&self, mut p: ParamStep<'_>) -> Result<()> {
        let [momentum] = p.state()?;
        let [lr, b1, b2, decay] = [self.lr, self.betas.0, self.betas.1, self.weight_decay].map(|v| v as Elem);
        for ((w, g), m) in p.value.iter_mut().zip(p.grad).zip(momentum) {
            *w -= lr * ((b1 * *m + (1.0 - b1) * g).signum() + decay * *w);
            *m = b2 * *m + (1.0 - b2) * g;
        }
        Ok(())
    }
}

register! {
    /// Lion (Chen et al. 2023): the sign of the momentum, and decoupled weight decay.
    dyn Optimizer, "Lion" => Lion
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
  optimizer: {type: Lion, lr: 0.001, weight_decay: 0.1}
  paramwise_cfg: {bias_decay_mult: 0.0}
param_scheduler:
  - {type: LinearLR, start_factor: 0.1, end: 1, convert_to_iter_based: true}
  - {type: LinearParamScheduler, param_name: beta2, start_factor: 0.9, end_factor: 1.0}
randomness: {seed: 0}
";

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let text = format!("{CONFIG}work_dir: {}\n", dir.path().display());
    let mut runner = Runner::from_config(&shanty::config::parse("lion.yaml", &text)?, Some("lion.yaml"))?;
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
