//! A run by its seed: what it trains, how it saves, and what lies around it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rand::RngExt;

use shanty::base::fs::FileSystem;
use shanty::base::{Rng, WallClock};
use shanty::hook::HookConfig;
use shanty::metric::{Metric, Predictions};
use shanty::optim::{OptimWrapper, Sgd};
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::{EpochBasedTrainLoop, IterBasedTrainLoop, Limits, Runner, RunnerBuilder};
use shanty::testing::sim::{Later, Machine};
use shanty::testing::{ToyModel, toy_data};

/// Where all of it happens.
pub const HOME: &str = "/home/me";

/// What a run is.
#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    pub work: PathBuf,
    /// The folder of the checkpoints.
    pub out: PathBuf,
    by_epoch: bool,
    max: u64,
    batches: usize,
    validates: Option<u64>,
    accumulate: u64,
    /// `max_keep_ckpts`.
    pub keep: Option<usize>,
    /// Key and YAML of each hook.
    hooks: Vec<(String, String)>,
    /// The sample that is not a number.
    poison: Option<u64>,
    in_step: bool,
    /// Whether its folders are there before it begins, with things of somebody else in them.
    pub moves_in: bool,
    /// Whether a config describes it, or a program.
    pub configured: bool,
}

impl Case {
    /// The run of a seed.
    pub fn draw(seed: u64, rng: &mut Rng) -> Self {
        let work =
            Path::new(HOME).join(["runs/exp", "runs/./exp/", "exp", "runs/epoch_1"][rng.random_range(0..4)]);
        let by_epoch = rng.random();
        let batches = rng.random_range(2..5);
        let max = if by_epoch { rng.random_range(1..5) } else { rng.random_range(3..13) };
        let validates = rng.random_range(0..4) > 0;
        let validates =
            validates.then(|| if by_epoch { rng.random_range(1..3) } else { rng.random_range(1..6) });
        let poison = (rng.random_range(0..4) == 0).then(|| rng.random_range(0..batches as u64 * 4));
        let hook = |name: &str, keys: &str| (name.to_owned(), format!("{{type: {name}{keys}}}"));
        let log = [1, 2, 10][rng.random_range(0..3)];
        let mut hooks = vec![
            hook("RuntimeInfoHook", ""),
            hook("IterTimerHook", ""),
            hook("LoggerHook", &format!(", interval: {log}")),
            hook("ParamSchedulerHook", ""),
        ];
        let (saver, keep, out) = saver(rng, by_epoch, validates.is_some());
        hooks.push(hook("CheckpointHook", &saver));
        if poison.is_some() || rng.random_range(0..6) == 0 {
            let action = ["skip", "rollback"][rng.random_range(0..2)];
            let check = ["loss", "all"][rng.random_range(0..2)];
            let keys = format!(", action: {action}, check: {check}, rollback_steps: 2, patience: 1000");
            hooks.push(hook("CheckInvalidLossHook", &keys));
        }
        if rng.random_range(0..3) == 0 {
            let kind = ["ExponentialMovingAverage", "StochasticWeightAverage"][rng.random_range(0..2)];
            hooks.push(hook("EMAHook", &format!(", ema_type: {kind}, momentum: 0.25")));
        }
        if validates.is_some() && rng.random_range(0..3) == 0 {
            let keys = ", monitor: score, rule: greater, min_delta: 0.3, patience: 2, check_finite: false";
            hooks.push(hook("EarlyStoppingHook", keys));
        }
        hooks.push(hook("DigestHook", &format!(", interval: {}", rng.random_range(1..4))));
        let work_name = work.file_name().unwrap_or_default().to_owned();
        // Processes live in the root.
        let out = out.map_or_else(|| work.clone(), |out| Path::new("/").join(out).join(work_name));
        let (accumulate, in_step) = (rng.random_range(1..4), rng.random());
        let moves_in = rng.random_range(0..3) > 0;
        let configured = rng.random();
        Self {
            seed,
            work,
            out,
            by_epoch,
            max,
            batches,
            validates,
            accumulate,
            keep,
            hooks,
            poison,
            in_step,
            moves_in,
            configured,
        }
    }

    /// The run on a machine, as one process of it.
    pub fn builder(
        &self,
        machine: &Machine,
        fs: impl FileSystem + 'static,
        how: Start,
    ) -> Result<RunnerBuilder> {
        let parts = if self.configured { self.by_config()? } else { self.by_program()? };
        let mut builder = parts
            .file_system(fs)
            .timer(machine.timer())
            .wall_clock(wall(machine))
            .limits(how.limits)
            .resume(how.resume)
            .overwrite(how.overwrite);
        if !how.threads {
            builder = builder.save_on(Later::new(self.seed ^ how.life, how.no_threads));
        }
        if let Some(bad) = self.poison {
            builder = builder.on(Point::BeforeTrainIter, move |_, event| {
                if let Event::BeforeTrainIter(batch) = event
                    && let Some(row) = batch.ids.iter().position(|id| *id == bad)
                {
                    batch
                        .inputs_mut()
                        .unwrap()
                        .index_axis_mut(ndarray::Axis(0), row)
                        .fill(f32::NAN as shanty::base::Elem);
                }
                Ok(())
            });
        }
        Ok(builder)
    }

    fn by_program(&self) -> Result<RunnerBuilder> {
        let optim = OptimWrapper::new(Sgd::new(0.1).momentum(0.9)).accumulate(self.accumulate);
        let data = toy_data(self.batches, true)?;
        let (builder, every) = (Runner::builder(ToyModel::new(3)), self.validates.unwrap_or(1));
        let builder = if self.by_epoch {
            builder.train(data, EpochBasedTrainLoop::new(self.max).val_interval(every), optim)
        } else {
            builder.train(data, IterBasedTrainLoop::new(self.max).val_interval(every), optim)
        };
        let mut builder = builder
            .work_dir(&self.work)
            .seed(self.seed % 7)
            .without_default_hooks()
            .async_save(!self.in_step);
        if self.validates.is_some() {
            builder = builder.val(toy_data(1, false)?, Score::default());
        }
        for (name, yaml) in &self.hooks {
            let spec = Spec::<dyn Hook>::parse(yaml)?;
            let hook = spec.build(&mut how_it_is_built())?;
            builder = builder.boxed_hook(hook, name, HookConfig::default());
        }
        Ok(builder)
    }

    /// The same as somebody writes it, with the hooks that every run has in their slots.
    fn by_config(&self) -> Result<RunnerBuilder> {
        let data = |batches: usize, shuffle: bool| {
            format!(
                "{{batch_size: 4, dataset: {{type: Synthetic, n: {}, shape: [3, 1, 1], classes: 2}}, sampler: {{type: \
                 DefaultSampler, shuffle: {shuffle}}}}}",
                4 * batches
            )
        };
        let slot = |name: &str| match name {
            "LoggerHook" => Some("logger"),
            "CheckpointHook" => Some("checkpoint"),
            _ => None,
        };
        let slots = self.hooks.iter().filter_map(|(name, yaml)| Some(format!("{}: {yaml}", slot(name)?)));
        let default = ["RuntimeInfoHook", "IterTimerHook", "ParamSchedulerHook"];
        let custom =
            self.hooks.iter().filter(|(name, _)| slot(name).is_none() && !default.contains(&name.as_str()));
        let mut text = format!(
            "model: {{type: ToyModel}}\ntrain_dataloader: {}\noptim_wrapper: {{optimizer: {{type: SGD, lr: 0.1, momentum: 0.9}}, \
             accumulative_counts: {}}}\ndefault_hooks: {{{}}}\ncustom_hooks: [{}]\nrandomness: {{seed: {}}}\nwork_dir: \
             {}\nasync_save: {}\n",
            data(self.batches, true),
            self.accumulate,
            slots.collect::<Vec<_>>().join(", "),
            custom.map(|(_, yaml)| yaml.as_str()).collect::<Vec<_>>().join(", "),
            self.seed % 7,
            self.work.display(),
            !self.in_step,
        );
        let (by_epoch, max) = (self.by_epoch, self.max);
        let max = if by_epoch { format!("max_epochs: {max}") } else { format!("max_iters: {max}") };
        let val = self.validates.map_or_else(String::new, |n| format!(", val_interval: {n}"));
        text += &format!("train_cfg: {{by_epoch: {by_epoch}, {max}{val}}}\n");
        if self.validates.is_some() {
            text += &format!(
                "val_dataloader: {}\nval_cfg: {{}}\nval_evaluator: {{type: Score}}\n",
                data(1, false)
            );
        }
        RunnerBuilder::from_config(&shanty::config::parse("exp.yaml", &text)?, Some("exp.yaml"))
    }
}

/// How one life begins.
#[derive(Debug, Clone, Default)]
pub struct Start {
    pub life: u64,
    pub resume: bool,
    pub overwrite: bool,
    pub limits: Limits,
    /// Saves are written by a real thread.
    pub threads: bool,
    /// No thread is to be had, sometimes.
    pub no_threads: bool,
}

fn how_it_is_built() -> BuildCx {
    let mut cx = BuildCx::new(0);
    cx.provide(shanty::hook::builtin::LogProcessor::default());
    cx
}

/// Keys of the CheckpointHook, how many it keeps, and the folder that it names.
fn saver(rng: &mut Rng, by_epoch: bool, validates: bool) -> (String, Option<usize>, Option<&'static str>) {
    let mut keys = String::new();
    let epochs = by_epoch && rng.random();
    keys += &format!(", by_epoch: {epochs}, interval: {}", rng.random_range(1..if epochs { 3 } else { 5 }));
    let keep = (rng.random_range(0..4) > 0).then(|| rng.random_range(1..4));
    keys += &keep.map_or_else(String::new, |keep| format!(", max_keep_ckpts: {keep}"));
    if validates && rng.random() {
        keys += ", save_best: score, rule: greater";
    }
    let out = (rng.random_range(0..3) == 0)
        .then(|| ["/home/me/disk/ckpts", "/home/me/runs", "home/me/disk/./ckpts/"][rng.random_range(0..3)]);
    if let Some(out) = out {
        keys += &format!(", out_dir: {out}");
    }
    (keys, keep, out)
}

/// The simulated clock as a time of day.
fn wall(machine: &Machine) -> WallClock {
    let machine = machine.clone();
    WallClock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs_f64(1.7e9 + machine.now()))
}

/// Something that depends on the weights and is better now and worse then.
#[derive(Default)]
struct Score(f64);

#[derive(Debug, Deserialize, JsonSchema)]
struct Nothing {}

register! {
    /// Something that depends on the weights.
    dyn Metric, "Score" => fn Score::from_config
}

impl Score {
    fn from_config(_: Nothing, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::default())
    }
}

impl Metric for Score {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        let scores = predictions.predicted()?;
        self.0 = scores.iter().map(|p| f64::from(*p)).fold(self.0, |sum, p| (sum * 7.3 + p * 91.7).fract());
        Ok(())
    }

    fn compute(&self) -> Result<Vec<(String, f64)>> {
        Ok(vec![("score".into(), self.0)])
    }

    fn reset(&mut self) {
        self.0 = 0.0;
    }

    fn names(&self) -> Vec<String> {
        vec!["score".into()]
    }
}

/// Things of somebody else, where a run might stumble over them. `Some` is a file.
pub fn belongings(case: &Case) -> Vec<(PathBuf, Option<&'static str>)> {
    let mut all = Vec::new();
    let inside = [case.work.clone(), case.out.clone(), case.work.join("sub")];
    for dir in inside.into_iter().filter(|_| case.moves_in).chain([PathBuf::from(HOME)]) {
        for (name, text) in [
            (".tmp-x", Some("mine")),
            (".tmp-epoch_1/model.safetensors", Some("mine")),
            (".old-mine/keep", Some("mine")),
            (".old-epoch_77/keep", Some("mine")),
            (".del-epoch_1/keep", Some("mine")),
            ("epoch_99/notes.txt", Some("mine")),
            ("iter_98", None),
            ("best_friends/list", Some("mine")),
            ("exp.yaml", Some("work_dir: mine")),
            ("config.yaml", Some("mine")),
            ("notes", Some("mine")),
            (".shanty", Some("mine")),
            ("last_checkpoint.bak", Some("epoch_99")),
        ] {
            all.push((dir.join(name), text));
        }
    }
    all
}

/// Puts them there, for good.
pub fn lay_out(machine: &Machine, case: &Case) {
    let fs = machine.onlooker();
    for (path, text) in belongings(case) {
        let dir = if text.is_some() { path.parent().unwrap_or(&path) } else { &path };
        fs.create_dir(dir).unwrap();
        text.iter().for_each(|text| fs.write(&path, text.as_bytes()).unwrap());
    }
    machine.link(&Path::new(HOME).join("link"), Path::new("/home/me/notes")).unwrap();
    machine.settle();
}
