//! `Runner::builder()`: a run without YAML, and the one assembly that configs go through too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use log::Level;

use super::config::{LoadOptions, LogLevel};
use super::memory::Memory;
use super::saving::Saving;
use super::{Background, Evaluation, Limits, Runner, Session, State, TrainLoop};
use crate::base::error::IoContext;
use crate::base::fs::{Disk, FileSystem};
use crate::base::rng::fresh_seed;
use crate::base::{BoxError, Error, Result, WallClock, caught_from, durable};
use crate::data::DataLoader;
use crate::hook::{
    Board, Clock, Control, Ctx, Dirs, Event, Hook, HookOptions, HookResult, Hooks, Point, Profile, RunInfo,
    RunLog,
};
use crate::model::Model;
use crate::optim::OptimWrapper;
use crate::registry::BuildCx;
use crate::vis::LocalVisBackend;

/// Puts a run together. Only the model is required; training needs data, a loop and an optimizer as well.
#[derive(Default)]
pub struct RunnerBuilder {
    pub(super) model: Option<Box<dyn Model>>,
    pub(super) train_loop: Option<Box<dyn TrainLoop>>,
    pub(super) train_data: Option<DataLoader>,
    pub(super) optim: Option<OptimWrapper>,
    pub(super) val: Option<Evaluation>,
    pub(super) test: Option<Evaluation>,
    hooks: Vec<(Box<dyn Hook>, String, HookOptions)>,
    line: Option<Hooks>,
    keys: Vec<Arc<str>>,
    no_default_hooks: bool,
    no_sanity: bool,
    work_dir: Option<PathBuf>,
    experiment_name: Option<String>,
    seed: Option<u64>,
    config: Option<(Option<String>, String)>,
    pub(super) notes: Vec<String>,
    log_level: LogLevel,
    load_from: Option<String>,
    resume: bool,
    allow_hook_changes: bool,
    allow_data_changes: bool,
    pub(super) fs: Option<Arc<dyn FileSystem>>,
    wall: WallClock,
    overwrite: bool,
    save_in_step: bool,
    background: Option<Box<dyn Background>>,
    limits: Limits,
    load_options: LoadOptions,
    pub(super) exclude_samples: Vec<u64>,
    timer: Option<Box<dyn FnMut() -> f64 + Send>>,
    record_calls: bool,
    pub(super) dry_run: bool,
    /// Model and data are shells.
    pub(super) hollow: bool,
}

impl RunnerBuilder {
    /// The model.
    #[must_use]
    pub fn model(self, model: impl Model) -> Self {
        self.boxed_model(Box::new(model))
    }
    pub(super) fn boxed_model(mut self, model: Box<dyn Model>) -> Self {
        self.model = Some(model);
        self
    }

    /// The training data.
    #[must_use]
    pub fn train_data(mut self, data: DataLoader) -> Self {
        self.train_data = Some(data);
        self
    }

    /// The training loop.
    #[must_use]
    pub fn train_loop(self, train_loop: impl TrainLoop + 'static) -> Self {
        self.boxed_loop(Box::new(train_loop))
    }
    pub(super) fn boxed_loop(mut self, train_loop: Box<dyn TrainLoop>) -> Self {
        self.train_loop = Some(train_loop);
        self
    }

    /// The optimizer.
    #[must_use]
    pub fn optim(mut self, optim: OptimWrapper) -> Self {
        self.optim = Some(optim);
        self
    }

    /// Validation.
    #[must_use]
    pub fn evaluate(mut self, val: Evaluation) -> Self {
        self.val = Some(val);
        self
    }

    /// Test.
    #[must_use]
    pub fn test(mut self, test: Evaluation) -> Self {
        self.test = Some(test);
        self
    }

    /// A further hook, in line by its own priority.
    #[must_use]
    pub fn hook<H: Hook>(self, hook: H) -> Self {
        self.boxed_hook(Box::new(hook), type_name::<H>(), HookOptions::default())
    }

    /// A closure at one point.
    #[must_use]
    pub fn on<F>(self, point: Point, call: F) -> Self
    where
        F: FnMut(&mut Ctx<'_>, &mut Event<'_>) -> HookResult + Send + 'static,
    {
        self.boxed_hook(Box::new(Closure { point, call }), "ClosureHook", HookOptions::default())
    }

    /// A hook from the registry, under this name.
    #[must_use]
    pub fn boxed_hook(mut self, hook: Box<dyn Hook>, name: &str, options: HookOptions) -> Self {
        self.hooks.push((hook, name.to_owned(), options));
        self
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

    /// The seed; one is drawn if not called.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    pub(super) fn set_seed(&mut self, seed: Option<u64>) {
        self.seed = Some(seed.unwrap_or_else(fresh_seed));
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or_default()
    }

    /// Start from this checkpoint: its weights, or all of it with [`resume`](Self::resume).
    #[must_use]
    pub fn load_from(mut self, path: Option<String>) -> Self {
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

    /// How weights of `load_from` are matched.
    #[must_use]
    pub fn load_options(mut self, options: LoadOptions) -> Self {
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

    /// Whether two batches are validated before a training begins, so that a metric that cannot work is known in seconds; they
    /// are if not called. Hooks do not hear of it, and nothing of it remains.
    #[must_use]
    pub fn sanity_check(mut self, on: bool) -> Self {
        self.no_sanity = !on;
        self
    }

    pub(super) fn log_level(mut self, level: LogLevel) -> Self {
        self.log_level = level;
        self
    }

    pub(super) fn notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    pub(super) fn config_text(mut self, name: Option<&str>, text: String) -> Self {
        self.config = Some((name.map(str::to_owned), text));
        self
    }

    /// Totals of epochs and iterations, batches in an epoch, and whether the loop counts epochs.
    pub(super) fn totals(&self) -> ((u64, u64), u64, bool) {
        let epoch_len = self.train_data.as_ref().map_or(0, DataLoader::len);
        let (epochs, iters, by_epoch) =
            self.train_loop.as_ref().map_or((0, 0, true), |l| l.totals(epoch_len));
        ((epochs, iters), epoch_len, by_epoch)
    }

    /// Makes the folders, opens the logs, and puts everything in its place.
    ///
    /// # Errors
    /// No model; some but not all of training data, loop and optimizer; a folder that cannot be made.
    pub fn build(mut self) -> Result<Runner> {
        let ((max_epochs, max_iters), epoch_len, by_epoch) = self.totals();
        let mut model = self.model.take().ok_or_else(|| Error::config("a run needs a model"))?;
        crate::params::check_distinct(&mut *model)?;
        let parts = [self.train_data.is_some(), self.train_loop.is_some(), self.optim.is_some()];
        if parts.contains(&true) && parts.contains(&false) {
            return Err(Error::config(
                "training needs data, a loop and an optimizer: some of the three are missing",
            ));
        }
        let seed = self.seed.unwrap_or_else(fresh_seed);
        self.check_excluded()?;
        let classes = self.agree_on_classes()?;
        let fs = self.fs.take().unwrap_or_else(|| Arc::new(Disk));
        let (dirs, info) = self.folders(&*fs, seed, classes)?;
        let log = if self.dry_run {
            RunLog::capturing()
        } else {
            let file = dirs.log.join(format!("{}.log", info.timestamp));
            RunLog::to_file(&*fs, &file, self.level(), self.wall.clone())?
        };
        let dump = self.config.as_ref().map(|(name, _)| {
            let file = name.as_deref().and_then(|n| Path::new(n).file_stem()).unwrap_or("config".as_ref());
            dirs.work.join(file).with_extension("yaml")
        });
        let stamped = format!("{}.json", info.timestamp);
        let vis_data = dirs.log.join("vis_data");
        let vis =
            LocalVisBackend::to_files(&*fs, &[&vis_data.join("scalars.json"), &vis_data.join(stamped)])?;
        // Each save makes the lines durable that it counts; the name of their file is there before.
        fs.sync(&vis_data).at(&vis_data)?;
        let began = Instant::now();
        let timer = self.timer.take().unwrap_or_else(|| Box::new(move || began.elapsed().as_secs_f64()));
        self.line_up(self.val.is_some())?;
        let hooks = self.line.take().unwrap_or_default();
        let mut state = State {
            clock: Clock { epoch_len, max_epochs, max_iters, by_epoch, ..Clock::default() },
            model,
            optim: self.optim.take(),
            board: Board::default(),
            info,
            dirs,
            log,
            vis,
            data: self.train_data.clone(),
            profile: Profile::default(),
            planned: Vec::new(),
            fs,
            timer,
            batch_size: self.train_data.as_ref().map_or(0, |d| d.batch_size() as u64),
            control: Control::default(),
        };
        if let Some(optim) = &mut state.optim {
            caught_from("a schedule", || Ok(optim.set_progress(0, 0)))?;
        }
        // A rehearsal comes with its weights, unless they are to be loaded; a shell has none.
        let prepared = self.hollow || (self.dry_run && self.load_from.is_none());
        let memory = Memory::without(std::mem::take(&mut self.exclude_samples));
        let saving =
            Saving::new(self.save_in_step, self.background.take(), self.limits.clone(), self.overwrite);
        let mut session =
            Session { state, hooks, val: self.val.take(), test: self.test.take(), saving, memory };
        session.leave_out();
        if self.record_calls || self.dry_run {
            session.state.profile.record_calls();
        }
        if !self.dry_run {
            session.announce(&self.notes);
        }
        Ok(Runner::new(
            session,
            self.train_loop.take().zip(self.train_data.take()),
            super::resume::Plan {
                load_from: self.load_from.take(),
                resume: self.resume,
                allow_hook_changes: self.allow_hook_changes,
                allow_data_changes: self.allow_data_changes,
                options: self.load_options.clone(),
                dump,
            },
            !self.no_sanity && !self.hollow,
            prepared,
        ))
    }

    fn level(&self) -> Level {
        match self.log_level {
            LogLevel::Debug => Level::Debug,
            LogLevel::Info => Level::Info,
            LogLevel::Warning => Level::Warn,
            LogLevel::Error => Level::Error,
        }
    }

    /// Brings the hooks into line, with those that are in it already. `validates`: there will be a validation, even if its data
    /// is not here.
    pub(super) fn line_up(&mut self, validates: bool) -> Result<()> {
        let mut all = Vec::new();
        if self.line.is_none() && !self.no_default_hooks {
            all = super::assemble::default_hooks(&mut BuildCx::new(self.seed()))?;
        }
        all.append(&mut self.hooks);
        let line = self.line.get_or_insert_default();
        for (hook, name, options) in all {
            self.keys.push(line.insert(hook, &name, &options));
        }
        // Without names nothing is known; a run that does not train goes by no metric.
        let unknown = || (validates || self.train_loop.is_none()).then(Vec::new);
        let names = self.val.as_ref().map(Evaluation::metric_names).or_else(unknown);
        line.resolve(names.as_deref())
    }

    /// The hook of a key, once it is in line.
    pub(super) fn in_line(&self, key: &str) -> Option<&dyn Hook> {
        self.line.as_ref()?.by_key(key)
    }

    /// The keys of the hooks in line, in the order in which they came.
    pub(super) fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }

    /// `work_dir/<timestamp>/vis_data` with the config in it.
    fn folders(&self, fs: &dyn FileSystem, seed: u64, classes: Vec<String>) -> Result<(Dirs, RunInfo)> {
        let work = self.work_dir.clone().unwrap_or_else(|| "work_dirs/run".into());
        durable::make_dir(fs, &work)?;
        let work = fs.canonical(&work).at(&work)?;
        let now = self.wall.format("%Y%m%d_%H%M%S");
        let (mut timestamp, mut n) = (now.clone(), 1);
        // Two runs may begin within one second.
        while fs.entry(&work.join(&timestamp)).at(&work)?.is_some() {
            n += 1;
            timestamp = format!("{now}_{n}");
        }
        let log = work.join(&timestamp);
        durable::make_dir(fs, &log.join("vis_data"))?;
        let experiment_name = match &self.experiment_name {
            Some(name) => format!("{name}_{timestamp}"),
            None => timestamp.clone(),
        };
        let config = self.config.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
        if let Some((_, text)) = &self.config {
            durable::replace(fs, &log.join("vis_data/config.yaml"), text.as_bytes())?;
        }
        Ok((
            Dirs { work, log },
            RunInfo { experiment_name, timestamp, config, seed, classes, dry_run: self.dry_run },
        ))
    }
}

/// `EmaHook` of `my_crate::hooks::EmaHook<T>`.
pub(super) fn type_name<T>() -> &'static str {
    let path = std::any::type_name::<T>();
    path.split('<').next().and_then(|p| p.rsplit("::").next()).unwrap_or(path)
}

/// A closure in line.
struct Closure<F> {
    point: Point,
    call: F,
}

impl<F> Hook for Closure<F>
where
    F: FnMut(&mut Ctx<'_>, &mut Event<'_>) -> Result<(), BoxError> + Send + 'static,
{
    fn on_event(&mut self, cx: &mut Ctx<'_>, event: &mut Event<'_>) -> HookResult {
        if event.point() == self.point { (self.call)(cx, event) } else { cx.unsubscribe() }
    }
}
