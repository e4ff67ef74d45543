//! `Runner::builder()`: a run without YAML, and the one assembly that configs go through too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::config::{LoadConfig, LogLevel};
use super::given::{Closure, GivenHook, type_name};
use super::written::Written;
use super::{Background, Evaluation, Interrupt, Limits, TrainLoop};
use crate::base::fs::FileSystem;
use crate::base::rng::fresh_seed;
use crate::base::{Result, WallClock};
use crate::comm::{Comm, Launcher, Solo};
use crate::data::{DataLoader, Fitted};
use crate::hook::{Ctx, Event, Hook, HookConfig, HookResult, Hooks, Point};
use crate::metric::{Directions, Evaluator};
use crate::model::Model;
use crate::optim::OptimWrapper;
use crate::registry::Spec;
use crate::vis::{Given, VisBackend, VisConfig};
#[cfg(feature = "cli")]
use crate::vis::{LocalVisBackend, PrometheusVisBackend};

/// Puts a run together: a model ([`Runner::builder`](super::Runner::builder)), and what is done with it.
///
/// ```
/// use shanty::ndarray::{Array2, Axis};
/// use shanty::prelude::*;
///
/// # fn main() -> Result<()> {
/// let x = Array2::from_shape_fn((64, 2), |(n, k)| ((n * 7 + k * 3) % 11) as f32 / 11.0);
/// let y = x.sum_axis(Axis(1)).insert_axis(Axis(1));
/// let data = DataLoader::new(ArrayDataset::new("inputs", x)?.with("target", y)?).batch_size(16).shuffle(true);
/// # let dir = tempfile::tempdir().unwrap();
/// let mut runner = Runner::builder(Supervised::new(Linear::new(2, 1), MSELoss::default()))
///     .train(data.clone(), EpochBasedTrainLoop::new(3), Sgd::new(0.1))
///     .val(data, (MAE::default(), R2::default()))
///     .seed(0)
/// #   .work_dir(dir.path())
///     .build()?;
/// assert_eq!(runner.train()?, Outcome::Finished);
/// # Ok(())
/// # }
/// ```
pub struct RunnerBuilder {
    pub(super) model: Option<Box<dyn Model>>,
    pub(super) train_loop: Option<Box<dyn TrainLoop>>,
    pub(super) train_data: Option<DataLoader>,
    pub(super) optim: Option<OptimWrapper>,
    pub(super) val: Option<Evaluation>,
    pub(super) test: Option<Evaluation>,
    pub(super) hooks: Vec<GivenHook>,
    pub(super) line: Option<Hooks>,
    pub(super) keys: Vec<Arc<str>>,
    pub(super) no_default_hooks: bool,
    /// Which way metrics are better whose data are not opened.
    pub(super) directions: Option<Directions>,
    pub(super) no_sanity: bool,
    pub(super) work_dir: Option<PathBuf>,
    pub(super) experiment_name: Option<String>,
    pub(super) seed: Option<u64>,
    pub(super) config: Option<(Option<String>, String)>,
    /// The files that the config was read from.
    pub(super) config_files: Vec<PathBuf>,
    /// Where its values are written.
    pub(super) config_places: Vec<(String, String)>,
    /// What the weights of a first start come from, where there is nothing to resume.
    pub(super) begin_from: Option<String>,
    pub(super) notes: Vec<String>,
    /// What a checkpoint keeps of the training data, for a run that only evaluates.
    pub(super) known: Fitted,
    pub(super) log_level: LogLevel,
    pub(super) load_from: Option<String>,
    pub(super) resume: bool,
    pub(super) allow_hook_changes: bool,
    pub(super) allow_data_changes: bool,
    pub(super) comm: Arc<dyn Comm>,
    /// How the config says that it is started, and how long ranks wait for each other.
    pub(super) launcher: Option<Launcher>,
    pub(super) patience: Option<Duration>,
    /// The seed that the ranks drew together, for a run that is given none.
    pub(super) drawn: Option<u64>,
    pub(super) fs: Option<Arc<dyn FileSystem>>,
    pub(super) wall: WallClock,
    pub(super) overwrite: bool,
    pub(super) save_in_step: bool,
    pub(super) background: Option<Box<dyn Background>>,
    pub(super) limits: Limits,
    pub(super) interrupt: Option<Interrupt>,
    pub(super) load_options: LoadConfig,
    pub(super) exclude_samples: Vec<u64>,
    pub(super) timer: Option<Box<dyn FnMut() -> f64 + Send>>,
    pub(super) record_calls: bool,
    pub(super) dry_run: bool,
    pub(super) vis_backends: Vec<Given>,
    /// Steps of the model count by their shapes alone: a check of a large one.
    pub(super) shapes_only: bool,
    /// Where a config writes the parts.
    pub(super) written: Option<Arc<Written>>,
    /// Model and data are stand-ins without values: `plan`.
    pub(super) placeholders: bool,
}

impl RunnerBuilder {
    /// A run of this model. Only a config that is still being read has none: it is told all that is wrong with it, and
    /// nothing is built.
    pub(super) fn of(model: Option<Box<dyn Model>>) -> Self {
        Self {
            model,
            train_loop: None,
            train_data: None,
            optim: None,
            val: None,
            test: None,
            hooks: Vec::new(),
            line: None,
            keys: Vec::new(),
            no_default_hooks: false,
            directions: None,
            no_sanity: false,
            work_dir: None,
            experiment_name: None,
            seed: None,
            config: None,
            config_files: Vec::new(),
            config_places: Vec::new(),
            begin_from: None,
            notes: Vec::new(),
            known: Fitted::default(),
            log_level: LogLevel::default(),
            load_from: None,
            resume: false,
            allow_hook_changes: false,
            allow_data_changes: false,
            comm: Arc::new(Solo::default()),
            launcher: None,
            patience: None,
            drawn: None,
            fs: None,
            wall: WallClock::default(),
            overwrite: false,
            save_in_step: false,
            background: None,
            limits: Limits::default(),
            interrupt: None,
            load_options: LoadConfig::default(),
            exclude_samples: Vec::new(),
            timer: None,
            record_calls: false,
            dry_run: false,
            vis_backends: Vec::new(),
            shapes_only: false,
            written: None,
            placeholders: false,
        }
    }

    /// Trains the model: with these data, as this loop goes through them, by this optimizer.
    #[must_use]
    pub fn train(
        self,
        data: DataLoader,
        train_loop: impl TrainLoop + 'static,
        optim: impl Into<OptimWrapper>,
    ) -> Self {
        self.train_data(data).boxed_loop(Box::new(train_loop)).optim(optim.into())
    }

    pub(super) fn train_data(mut self, data: DataLoader) -> Self {
        self.train_data = Some(data);
        self
    }
    pub(super) fn boxed_loop(mut self, train_loop: Box<dyn TrainLoop>) -> Self {
        self.train_loop = Some(train_loop);
        self
    }

    pub(super) fn optim(mut self, optim: OptimWrapper) -> Self {
        self.optim = Some(optim);
        self
    }

    /// Validates with these data and metrics: one, a tuple of several, or a list of boxes. A training does so as its
    /// loop says, and [`Runner::val`](super::Runner::val) at any time.
    #[must_use]
    pub fn val(self, data: DataLoader, metrics: impl Into<Evaluator>) -> Self {
        self.validation(Evaluation::new(data, metrics.into()))
    }
    pub(super) fn validation(mut self, val: Evaluation) -> Self {
        self.val = Some(val);
        self
    }

    /// Tests with these data and metrics, when [`Runner::test`](super::Runner::test) is called.
    #[must_use]
    pub fn test(self, data: DataLoader, metrics: impl Into<Evaluator>) -> Self {
        self.testing(Evaluation::new(data, metrics.into()))
    }
    pub(super) fn testing(mut self, test: Evaluation) -> Self {
        self.test = Some(test);
        self
    }

    /// A further hook, ordered by its own priority. One of a default hook's type takes the default's place: with a
    /// CheckpointHook of its own, a run saves as that one says, and nothing beside. A second of them is added to it.
    #[must_use]
    pub fn hook<H: Hook>(self, hook: H) -> Self {
        self.boxed_hook(Box::new(hook), type_name::<H>(), HookConfig::default())
    }

    /// A backend that shows the events of the run, in place of `scalars.json`: name [`LocalVisBackend`] too if it is to
    /// be written.
    ///
    /// [`LocalVisBackend`]: crate::vis::LocalVisBackend
    #[must_use]
    pub fn vis_backend<B: VisBackend + 'static>(self, backend: B) -> Self {
        self.boxed_vis_backend(Box::new(backend), type_name::<B>(), VisConfig::default())
    }

    /// A backend with the keys that a config gives to every backend, under this name.
    #[must_use]
    pub fn boxed_vis_backend(mut self, backend: Box<dyn VisBackend>, name: &str, config: VisConfig) -> Self {
        self.vis_backends.push((backend, name.to_owned(), config));
        self
    }

    /// Answers Prometheus beside what the config asks for.
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn answer_prometheus(self, addr: std::net::SocketAddr) -> Self {
        let builder =
            if self.vis_backends.is_empty() { self.vis_backend(LocalVisBackend::default()) } else { self };
        builder.vis_backend(PrometheusVisBackend::new(addr))
    }

    /// A closure at one point.
    #[must_use]
    pub fn on<F>(self, point: Point, call: F) -> Self
    where
        F: FnMut(&mut Ctx<'_>, &mut Event<'_>) -> HookResult + Send + 'static,
    {
        self.boxed_hook(Box::new(Closure::at(point, call)), "ClosureHook", HookConfig::default())
    }

    /// A hook with the keys that a config gives to every hook, such as its priority, under this name.
    #[must_use]
    pub fn boxed_hook(mut self, hook: Box<dyn Hook>, name: &str, options: HookConfig) -> Self {
        self.hooks.push(GivenHook::Made(hook, name.to_owned(), options));
        self
    }

    /// A registered hook as a config writes it: `{type: EMAHook, momentum: 0.01, priority: LOW}`.
    ///
    /// # Errors
    /// A name that is not registered; keys that its type does not have. Values that do not fit the run are told by
    /// [`build`](Self::build).
    pub fn hook_yaml(mut self, yaml: &str) -> Result<Self> {
        self.hooks.push(GivenHook::Written(Spec::parse(yaml)?));
        Ok(self)
    }

    /// Runs with the hooks given here only.
    #[must_use]
    pub fn without_default_hooks(mut self) -> Self {
        self.no_default_hooks = true;
        self
    }

    /// Folder of checkpoints and logs; `work_dirs/run` if not called.
    #[must_use]
    pub fn work_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.work_dir = Some(dir.into());
        self
    }

    /// First part of the experiment's name.
    #[must_use]
    pub fn experiment_name(mut self, name: impl Into<String>) -> Self {
        self.experiment_name = Some(name.into());
        self
    }

    /// The one seed of the run: of the initial weights, of the order and the augmentation of the data, of dropout and
    /// of hooks. If not called, that of the run which is resumed, or a new one. A [`DataLoader::seed`] of its own comes
    /// before it.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Settles the seed, where nobody gave one, and gives it.
    pub(super) fn settle_seed(&mut self) -> u64 {
        let saved = || super::resume::saved_seed(&*self.disk(), &self.home(), self.load_from.as_deref());
        let seed = self.seed.or_else(|| self.resume.then(saved).flatten()).or(self.drawn);
        let seed = seed.unwrap_or_else(fresh_seed);
        *self.seed.insert(seed)
    }

    /// Start from this checkpoint: its weights, or all of it with [`resume`](Self::resume).
    #[must_use]
    pub fn load_from(self, path: impl AsRef<Path>) -> Self {
        self.start_from(Some(path.as_ref().to_string_lossy().into_owned()))
    }
    pub(super) fn start_from(mut self, path: Option<String>) -> Self {
        self.load_from = path;
        self
    }

    /// Go on with `load_from`, or with the newest checkpoint of the work_dir.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Delete the checkpoints that an earlier run left in the work_dir; without it such a work_dir is refused.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// What the first start of the run took its weights from: so it begins again where there is nothing to resume yet.
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn begin_from(mut self, path: Option<String>) -> Self {
        self.begin_from = path;
        self
    }

    /// Resume although hooks with state came or went.
    #[must_use]
    pub fn allow_hook_changes(mut self, allow: bool) -> Self {
        self.allow_hook_changes = allow;
        self
    }

    /// Resume although the training data are not those of the checkpoint.
    #[must_use]
    pub fn allow_data_changes(mut self, allow: bool) -> Self {
        self.allow_data_changes = allow;
        self
    }

    /// The processes that this one trains with, each with a runner built alike; none if not called. Who joined them
    /// ([`comm::join`](crate::comm::join)) also ends them: by [`Comm::close`], or [`Comm::fail`] and [`Comm::abort`].
    #[must_use]
    pub fn comm(mut self, comm: Arc<dyn Comm>) -> Self {
        self.comm = comm;
        self
    }

    /// Where all files of the run are written, and read again by a resume; the disk if not called.
    #[must_use]
    pub fn file_system(mut self, fs: impl FileSystem + 'static) -> Self {
        self.fs = Some(Arc::new(fs));
        self
    }

    /// The time of day that names the folder of the logs and stands in their lines; for tests.
    #[must_use]
    pub fn wall_clock(mut self, wall: WallClock) -> Self {
        self.wall = wall;
        self
    }

    /// Whether a thread of its own writes checkpoints while training goes on; it does if not called.
    #[must_use]
    pub fn async_save(mut self, on: bool) -> Self {
        self.save_in_step = !on;
        self
    }

    /// Who runs a save beside the training; a thread if not called.
    #[must_use]
    pub fn save_on(mut self, background: impl Background + 'static) -> Self {
        self.background = Some(Box::new(background));
        self
    }

    /// What ends the run from outside: flags of signal handlers, a time limit, a stop file.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Flags that come before those of [`limits`](Self::limits), in whatever order both are called.
    #[cfg(feature = "cli")]
    pub(crate) fn interrupted_by(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// How weights of `load_from` are matched.
    #[must_use]
    pub fn load_options(mut self, options: LoadConfig) -> Self {
        self.load_options = options;
        self
    }

    /// Samples of the training data to leave out, by position; all other samples come as they would.
    #[must_use]
    pub fn exclude_samples(mut self, ids: Vec<u64>) -> Self {
        self.exclude_samples = ids;
        self
    }

    /// The clock that timers read, in seconds; for tests.
    #[must_use]
    pub fn timer(mut self, timer: impl FnMut() -> f64 + Send + 'static) -> Self {
        self.timer = Some(Box::new(timer));
        self
    }

    /// Writes down every call in which a hook did something: [`Profile::calls`](crate::hook::Profile::calls).
    #[must_use]
    pub fn record_calls(mut self) -> Self {
        self.record_calls = true;
        self
    }

    /// Whether two batches are validated before a training begins, so that a metric that cannot work is known in
    /// seconds; they are if not called. Hooks do not hear of it, and nothing of it remains.
    #[must_use]
    pub fn sanity_check(mut self, on: bool) -> Self {
        self.no_sanity = !on;
        self
    }
}
