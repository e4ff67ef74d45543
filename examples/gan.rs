//! Two optimizers that take turns: a generator learns to put points on a ring of eight heaps, a discriminator to tell its
//! points from the real ones (least squares, Mao et al. 2017). The run is cut and resumed bit for bit.
#![allow(clippy::print_stdout)] // an example speaks

use std::path::Path;
use std::sync::{Arc, Mutex};

use rand::RngExt;
use shanty::base::keyed;
use shanty::data::{Batch, Dataset, FieldKind, FieldSpec, Fields, Marks, Sample};
use shanty::model::{LossDict, MLP, Outputs, Task};
use shanty::ndarray::{ArrayD, Axis, arr1};
use shanty::nn::{Autograd, Forward, LeakyReLU, Tape, Var};
use shanty::params::StateDict;
use shanty::plugin::prelude::*;
use shanty::run::{Limits, Outcome, Runner, RunnerBuilder};

/// The middle of a heap.
fn heap(number: usize) -> [f32; 2] {
    let angle = std::f32::consts::TAU * number as f32 / 8.0;
    [2.0 * angle.cos(), 2.0 * angle.sin()]
}

/// Points around the eight heaps.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct Ring {
    /// How many points.
    #[schemars(range(min = 1))]
    n: usize,
}

impl Dataset for Ring {
    fn len(&self) -> usize {
        self.n
    }

    fn get(&self, index: usize, _rng: &mut Rng) -> Result<Sample> {
        let mut rng = keyed(0, "ring", 0, index as u64);
        // The sum of twelve draws is near enough to normal.
        let mut near = || (0..12).map(|_| rng.random::<f32>() - 0.5).sum::<f32>() * 0.05;
        let [x, y] = heap(index % 8);
        Ok(Sample::new(arr1(&[x + near(), y + near()]), (index % 8) as i64))
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        let mut fields = Fields::one("inputs", FieldSpec::new(FieldKind::Float, &[2]));
        fields.set("target", FieldSpec::new(FieldKind::Int, &[]));
        Some(fields)
    }

    fn mark(&self, _: &mut Marks) {}
}

register! {
    /// Points around eight heaps on a ring.
    dyn Dataset, "Ring" => Ring
}

/// Two networks against each other.
struct Gan {
    generator: MLP,
    discriminator: MLP,
    autograd: Autograd,
}

shanty::module!(Gan { generator, discriminator });

/// Parameters of a Gan.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct GanConfig {
    /// Units of the hidden layers.
    #[schemars(range(min = 1, max = 4096))]
    width: usize,
}

impl Gan {
    fn from_config(config: GanConfig, _: &mut BuildCx) -> Result<Self> {
        let net = |out| MLP::new(&[2, config.width, config.width, out], Box::new(LeakyReLU::default()));
        Ok(Self { generator: net(2)?, discriminator: net(1)?, autograd: Autograd::default() })
    }

    /// As many points as there are real ones, from noise.
    fn generate<'t>(&mut self, real: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let noise = real.randn_like(cx.rng);
        cx.child("generator", &mut self.generator, noise)
    }

    /// The mean square of how far the discriminator's opinion is from `wanted`.
    fn far_from<'t>(&mut self, wanted: Elem, points: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let opinion = cx.child("discriminator", &mut self.discriminator, points)?;
        Ok((opinion - wanted).powi(2).mean())
    }
}

impl Task for Gan {
    fn turns(&self) -> &'static [&'static str] {
        &["discriminator", "generator"]
    }

    fn turn_loss<'t>(
        &mut self,
        optimizer: &str,
        batch: &Batch,
        tape: &'t Tape,
        cx: &mut Forward<'_>,
    ) -> Result<LossDict<'t>> {
        let real = tape.input(batch.float("inputs")?.clone().into_shared());
        let fake = self.generate(real, cx)?;
        let mut losses = LossDict::default();
        if optimizer == "discriminator" {
            losses.push("loss_real", self.far_from(1.0, real, cx)?);
            losses.push("loss_fake", self.far_from(0.0, fake.detach(), cx)?);
        } else {
            losses.push("loss_generator", self.far_from(1.0, fake, cx)?);
        }
        Ok(losses)
    }

    fn loss<'t>(&mut self, batch: &Batch, tape: &'t Tape, cx: &mut Forward<'_>) -> Result<LossDict<'t>> {
        self.turn_loss("generator", batch, tape, cx)
    }

    fn predict(&mut self, batch: &Batch, tape: &Tape, cx: &mut Forward<'_>) -> Result<Outputs> {
        let real = tape.input(batch.float("inputs")?.clone().into_shared());
        Ok(Outputs::predicted("points", self.generate(real, cx)?.value().into_owned()))
    }

    fn autograd(&mut self) -> &mut Autograd {
        &mut self.autograd
    }
}

register! {
    /// A generator and a discriminator of points in the plane.
    dyn Model, "Gan" => fn Gan::from_config
}

const CONFIG: &str = "
model: {type: Gan, width: 64}
train_dataloader: {batch_size: 128, sampler: {type: DefaultSampler, shuffle: true}, dataset: {type: Ring, n: 4096}}
train_cfg: {by_epoch: false, max_iters: 3000}
optim_wrapper:
  type: OptimWrapperDict
  wrappers:
    discriminator: {optimizer: {type: Adam, lr: 0.001, betas: [0.5, 0.999]}}
    generator: {optimizer: {type: Adam, lr: 0.0005, betas: [0.5, 0.999]}, clip_grad: {max_norm: 1.0}}
param_scheduler: {type: LinearLR, start_factor: 1.0, end_factor: 0.2, group: generator}
default_hooks: {logger: {type: LoggerHook, interval: 500}, checkpoint: {type: CheckpointHook, interval: 3000}}
randomness: {seed: 0}
";

/// The run, which leaves 512 generated points at its end.
fn run(
    dir: &Path,
    resume: bool,
    limits: Limits,
    points: &Arc<Mutex<Option<ArrayD<Elem>>>>,
) -> Result<Runner> {
    let text = format!("{CONFIG}work_dir: {}\nresume: {resume}\n", dir.display());
    let points = Arc::clone(points);
    RunnerBuilder::from_config(&shanty::config::parse("gan.yaml", &text)?, Some("gan.yaml"))?
        .on(Point::AfterTrain, move |cx, _| {
            let batch = Batch::unlabelled(ArrayD::zeros(vec![512, 2]));
            let made = cx.model.eval_step(&batch)?.predictions.get("points").cloned();
            *points.lock().map_err(|e| e.to_string())? = made;
            Ok(())
        })
        .limits(limits)
        .build()
}

fn main() -> anyhow::Result<()> {
    let (whole, parts) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let points = Arc::new(Mutex::new(None));
    let mut straight = run(whole.path(), false, Limits::default(), &points)?;
    anyhow::ensure!(straight.train()? == Outcome::Finished);

    let made = points.lock().ok().and_then(|made| made.clone()).unwrap_or_default();
    let mut heaps = [0; 8];
    for point in made.axis_iter(Axis(0)) {
        let away = |heap: [f32; 2]| (point[0] - heap[0] as Elem).hypot(point[1] - heap[1] as Elem);
        if let Some(nearest) = (0..8).min_by(|a, b| away(heap(*a)).total_cmp(&away(heap(*b))))
            && away(heap(nearest)) < 0.5
        {
            heaps[nearest] += 1;
        }
    }
    println!("of 512 points {} are near a heap: {heaps:?}", heaps.iter().sum::<i32>());
    anyhow::ensure!(heaps.iter().sum::<i32>() > 300, "most points should be near a heap");

    // Cut after 1000 iterations, in which both optimizers have had their turns.
    let limits = Limits { after_iter: Some(1000), ..Limits::default() };
    run(parts.path(), false, limits, &points)?.train()?;
    let mut resumed = run(parts.path(), true, Limits::default(), &points)?;
    anyhow::ensure!(resumed.train()? == Outcome::Finished);
    anyhow::ensure!(StateDict::of(straight.model()?)? == StateDict::of(resumed.model()?)?, "bit for bit");
    println!("cut and resumed: the same weights, bit for bit");
    Ok(())
}
