//! A data set of one's own, named in a config: a network learns a wave from samples that are computed when they are
//! asked for.
#![allow(clippy::print_stdout)] // an example speaks

use shanty::data::{Dataset, FieldKind, FieldSpec, Fields, Marks, Sample};
use shanty::ndarray::arr1;
use shanty::plugin::prelude::*;
use shanty::run::{Outcome, Runner};

/// Points of a sine wave, from 0 to one period.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Wave {
    /// How many points.
    #[schemars(range(min = 2))]
    n: usize,
    /// How far the points are moved to the right, in steps: other points to validate with.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    shift: f32,
}

impl Dataset for Wave {
    fn len(&self) -> usize {
        self.n
    }

    fn get(&self, index: usize, _rng: &mut Rng) -> Result<Sample> {
        let x = (index as f32 + self.shift) / self.n as f32;
        Ok(Sample::new(arr1(&[2.0 * x - 1.0]), arr1(&[(std::f32::consts::TAU * x).sin()])))
    }

    /// What a config asks for is compared with it before the first sample is read.
    fn fields(&self) -> Option<Fields<FieldSpec>> {
        let number = || FieldSpec::new(FieldKind::Float, &[1]);
        let mut fields = Fields::one("inputs", number());
        fields.set("target", number());
        Some(fields)
    }

    /// What tells these samples from others: a resumed run compares it.
    fn mark(&self, marks: &mut Marks) {
        marks.contents(&self.shift.to_le_bytes());
    }
}

register! {
    /// Points of a sine wave.
    dyn Dataset, "Wave" => Wave
}

const CONFIG: &str = "
model:
  type: Supervised
  network:
    - {type: Linear, in_features: 1, out_features: 32}
    - {type: Tanh}
    - {type: Linear, in_features: 32, out_features: 1}
  loss: {type: MSELoss}
train_dataloader: {batch_size: 16, sampler: {type: DefaultSampler, shuffle: true}, dataset: {type: Wave, n: 128}}
val_dataloader: {batch_size: 16, sampler: {type: DefaultSampler, shuffle: false}, dataset: {type: Wave, n: 128, shift: 0.5}}
val_evaluator: {type: MAE}
train_cfg: {by_epoch: true, max_epochs: 60, val_interval: 60}
val_cfg: {}
optim_wrapper: {optimizer: {type: Adam, lr: 0.02}}
default_hooks: {checkpoint: {type: CheckpointHook, interval: 60}}
randomness: {seed: 0}
";

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let text = format!("{CONFIG}work_dir: {}\n", dir.path().display());
    let mut runner = Runner::from_config(&shanty::config::parse("wave.yaml", &text)?, Some("wave.yaml"))?;
    anyhow::ensure!(runner.train()? == Outcome::Finished);
    let error = runner.val()?.get("mae").unwrap_or(f64::INFINITY);
    println!("mean absolute error between the points: {error:.4}");
    anyhow::ensure!(error < 0.1, "the wave is learnt");
    Ok(())
}
