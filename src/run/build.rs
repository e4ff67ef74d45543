//! From the parts of a [`RunnerBuilder`] to a [`Runner`]: folders, logs, the order of hooks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use log::Level;

use super::config::LogLevel;
use super::given::{GivenHook, known_to_hooks};
use super::made::Made;
use super::meet::of_first;
use super::rollback::Rollback;
use super::saving::Saving;
use super::{LoopTotals, Runner, RunnerBuilder, Session, State, apart, precision};
use crate::base::error::IoContext;
use crate::base::fs::{Disk, FileSystem};
use crate::base::{Error, Result, caught_from, durable};
use crate::checkpoint;
use crate::data::{DataLoader, Fitted, TargetScales};
use crate::hook::{Control, Dirs, Hook, MessageHub, Mode, Profile, Progress, RunInfo, RunLog};
use crate::registry::BuildCx;
use crate::vis::Visualizer;

impl RunnerBuilder {
    /// Makes the folders, opens the logs, and puts everything in its place.
    ///
    /// # Errors
    /// Parts that do not fit together; a folder that cannot be made.
    pub fn build(mut self) -> Result<Runner> {
        // Told without a place in the config: that is another one on each rank.
        self.meet()?;
        let Some(written) = self.written.take() else {
            self.find_start()?;
            return self.put_together();
        };
        let resumes = self.resume;
        self.find_start().map_err(|error| written.unstarted(error, resumes))?;
        let runner = self.put_together().map_err(|error| written.unbuilt(error))?;
        Ok(runner.written(written))
    }

    /// What the data sets of the run have learnt from the training data.
    pub(super) fn fitted(&self) -> Fitted {
        let mut all = self.known.clone();
        self.sets().iter().for_each(|(_, set)| set.fitted(&mut all));
        all
    }

    fn put_together(mut self) -> Result<Runner> {
        self.check_launcher()?;
        self = self.draw_seed()?;
        self.beside_others();
        let seed = self.settle_seed();
        self.seed_loaders(seed)?;
        let LoopTotals { epochs: max_epochs, iters: max_iters, by_epoch } = self.totals();
        let epoch_len = self.epoch_len();
        if self.train_loop.is_some() && max_iters == 0 {
            return Err(Error::config(
                "the training loop has no iteration: give it at least one epoch or iteration",
            ));
        }
        if self.config.is_none() {
            self.notes.extend(self.odd_data().into_iter().map(|odd| odd.text));
        }
        let mut model = self.model.take().ok_or_else(|| Error::config("a run needs a model"))?;
        let scales = TargetScales::of(&self.fitted())?;
        if !scales.0.is_empty() {
            model.standardize(&scales)?;
        }
        let bound = match &mut self.optim {
            Some(optim) => {
                let said = optim.bind(&*model)?;
                precision::check(&*model, optim)?;
                model.turns().iter().try_for_each(|turn| optim.take_turn(Some(turn)))?;
                optim.take_turn(None)?;
                said
            }
            None => crate::params::check_distinct(&*model).map(|()| Vec::new())?,
        };
        self.check_excluded()?;
        let classes = self.agree_on_classes()?;
        let fs = self.disk();
        self.line_up(self.val.is_some())?;
        let place = self.comm.place();
        let writes = !self.dry_run && place.is_main();
        let mut made = if writes { Made::on(fs.clone()) } else { Made::default() };
        let (dirs, mut info) = self.folders(&*fs, seed, classes, &mut made)?;
        info.fitted = self.train_data.as_ref().map(|data| Fitted::of(&**data.dataset())).unwrap_or_default();
        let log = if self.dry_run {
            RunLog::capturing()
        } else {
            let of_rank = if place.is_main() { String::new() } else { format!("_rank{}", place.rank) };
            let file = dirs.log.join(format!("{}{of_rank}.log", info.timestamp));
            RunLog::to_file(&*fs, &file, self.level(), self.wall.clone())?
        };
        let dump = self.dump(&dirs.work);
        let vis_data = dirs.log.join(checkpoint::VIS_DATA);
        let backends = std::mem::take(&mut self.vis_backends);
        crate::vis::check_apart(&backends).map_err(|(_, error)| error)?;
        let vis = match writes {
            false => Visualizer::default(),
            true => Visualizer::new(fs.clone(), &vis_data, &dirs.work, self.wall.clone(), backends),
        };
        let config = self.config.as_ref().and_then(|(name, _)| Some(Path::new(name.as_deref()?).to_owned()));
        let home = config.as_deref().map_or(Path::new("."), durable::parent).to_owned();
        let project = Some(home).filter(|_| self.fs.is_none() && !self.dry_run);
        let began = Instant::now();
        let timer = self.timer.take().unwrap_or_else(|| Box::new(move || began.elapsed().as_secs_f64()));
        let hooks = self.line.take().unwrap_or_default();
        let mut state = State {
            progress: Progress { epoch_len, max_epochs, max_iters, by_epoch, ..Progress::default() },
            model,
            optim: self.optim.take(),
            message_hub: MessageHub::default(),
            info,
            dirs,
            log,
            vis,
            project,
            data: self.train_data.clone(),
            evaluated: None,
            profile: Profile::default(),
            planned: Vec::new(),
            comm: self.comm.clone(),
            fs,
            timer,
            batch_size: self.train_data.as_ref().map_or(0, |d| d.samples_of_all() as u64),
            shapes_only: self.shapes_only,
            control: Control::default(),
        };
        if let Some(optim) = &mut state.optim {
            caught_from("a schedule", || {
                optim.set_progress(0, 0);
                Ok(())
            })?;
        }
        if let Some(interrupt) = self.interrupt.take() {
            self.limits.interrupt = interrupt;
        }
        let rollback = Rollback::without(std::mem::take(&mut self.exclude_samples));
        let background = self.background.take();
        let saving =
            Saving::new(self.save_in_step, background, self.limits.clone(), self.overwrite, dump, made);
        let mut session =
            Session { state, hooks, val: self.val.take(), test: self.test.take(), saving, rollback };
        session.leave_out();
        if self.record_calls || self.dry_run {
            session.state.profile.record_calls();
        }
        bound.iter().for_each(|text| session.state.log.warn(text));
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
                begin_from: self.begin_from.take(),
            },
            !self.no_sanity && !self.placeholders,
            self.placeholders,
        ))
    }

    /// The file of the config's dump in a work_dir; none where a file of the config stands.
    pub(super) fn dump(&self, work: &Path) -> Option<PathBuf> {
        let (name, _) = self.config.as_ref()?;
        let config = name.as_deref().map(Path::new);
        let file = config.and_then(Path::file_stem).unwrap_or("config".as_ref());
        let dump = work.join(file).with_extension("yaml");
        // A dump that a person goes on with, where it lies, is theirs: it may have been edited.
        let is_read = |dump: &PathBuf| {
            let read = config.into_iter().chain(self.config_files.iter().map(PathBuf::as_path));
            dump.canonicalize()
                .is_ok_and(|dump| read.filter_map(|c| c.canonicalize().ok()).any(|c| c == dump))
        };
        [dump.clone(), dump.with_extension("resolved.yaml")].into_iter().find(|dump| !is_read(dump))
    }

    /// Gives the seed of the run to the loaders that have none of their own, and asks them and the metrics whether they
    /// work.
    fn seed_loaders(&mut self, seed: u64) -> Result<()> {
        let evaluations = [(&mut self.val, "validation"), (&mut self.test, "test")];
        let evaluated = evaluations.into_iter().filter_map(|(e, name)| Some((&mut e.as_mut()?.data, name)));
        for (data, name) in self.train_data.iter_mut().map(|data| (data, "training")).chain(evaluated) {
            *data = data.clone().run_seed(seed);
            data.check().map_err(|why| Error::config(format!("the {name} data: {why}")))?;
        }
        self.val.iter().chain(&self.test).try_for_each(|evaluation| evaluation.evaluator.check())
    }

    /// Whether what the run starts from is there, before a folder is made for it.
    fn find_start(&self) -> Result<()> {
        let Some(named) = self.load_from.as_ref().filter(|_| !self.dry_run) else { return Ok(()) };
        let (named, work, fs) = (Path::new(named), self.home(), self.disk());
        if !self.resume {
            return checkpoint::locate(&*fs, named, &work).map(drop);
        }
        let path = checkpoint::locate_run(&*fs, named, &work)?;
        // Into a folder that is there already it is read but once.
        if fs.entry(&work).at(&work)?.is_none() { checkpoint::read(&*fs, &path).map(drop) } else { Ok(()) }
    }

    /// Where its files are.
    pub(super) fn disk(&self) -> Arc<dyn FileSystem> {
        self.fs.clone().unwrap_or_else(|| Arc::new(Disk))
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

    /// Batches in an epoch of the training data; 0 without them.
    pub(super) fn epoch_len(&self) -> u64 {
        self.train_data.as_ref().map_or(0, DataLoader::len)
    }

    /// How long the training is; nothing without a loop.
    pub(super) fn totals(&self) -> LoopTotals {
        let none = LoopTotals { epochs: 0, iters: 0, by_epoch: true };
        self.train_loop.as_ref().map_or(none, |train_loop| train_loop.totals(self.epoch_len()))
    }

    /// The work_dir as it was given.
    pub(super) fn home(&self) -> PathBuf {
        self.work_dir.clone().unwrap_or_else(|| "work_dirs/run".into())
    }

    fn level(&self) -> Level {
        match self.log_level {
            LogLevel::Debug => Level::Debug,
            LogLevel::Info => Level::Info,
            LogLevel::Warning => Level::Warn,
            LogLevel::Error => Level::Error,
        }
    }

    /// Adds the hooks to those that are in the run already, and orders them. `validates`: there will be a validation,
    /// even if its data is not here.
    pub(super) fn line_up(&mut self, validates: bool) -> Result<()> {
        let mut cx = self.known_to_hooks();
        let build = |hook: GivenHook| hook.build(&mut cx);
        let mut all = std::mem::take(&mut self.hooks).into_iter().map(build).collect::<Result<Vec<_>>>()?;
        if self.line.is_none() && !self.no_default_hooks {
            let build = |hook: GivenHook| hook.build(&mut cx);
            let defaults = super::slots::default_hooks()?.into_iter().map(build).collect::<Result<_>>()?;
            all = apart::with_defaults(defaults, all);
        }
        let line = self.line.get_or_insert_default();
        for (hook, name, options) in all {
            self.keys.push(line.insert(hook, &name, &options));
        }
        // Without names nothing is known; a run that does not train goes by no metric.
        let unknown = || (validates || self.train_loop.is_none()).then(Vec::new);
        let names = self.val.as_ref().map(|val| val.metric_names(Mode::Val)).or_else(unknown);
        line.resolve(names.as_deref())?;
        self.check_apart()
    }

    /// What hooks may ask when they are made of their keys.
    fn known_to_hooks(&mut self) -> BuildCx {
        let LoopTotals { epochs: max_epochs, iters: max_iters, by_epoch } = self.totals();
        let epoch_len = self.epoch_len();
        let run = Progress { max_epochs, max_iters, epoch_len, by_epoch, ..Progress::default() };
        let trained = self.train_data.as_ref().map(|_| run);
        let mut cx = known_to_hooks(self.settle_seed(), trained, self.val.as_ref());
        self.directions.iter().for_each(|known| cx.provide(known.clone()));
        cx
    }

    /// The hook of a key, once it is added.
    pub(super) fn in_line(&self, key: &str) -> Option<&dyn Hook> {
        self.line.as_ref()?.by_key(key)
    }

    /// The keys of the hooks, in the order in which they came.
    pub(super) fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }

    /// `work_dir/<timestamp>/vis_data` with the config in it; the first rank makes them for all.
    fn folders(
        &self,
        fs: &dyn FileSystem,
        seed: u64,
        classes: Vec<String>,
        made: &mut Made,
    ) -> Result<(Dirs, RunInfo)> {
        let place = self.comm.place();
        let timestamp = if place.is_main() { self.make_folders(fs, made)? } else { String::new() };
        let timestamp = of_first(&*self.comm, timestamp)?;
        let (work, seen) = (self.home(), |dir: &Path| fs.entry(dir).is_ok_and(|entry| entry.is_some()));
        if !place.is_main() && !self.dry_run && !seen(&work.join(&timestamp)) {
            return Err(Error::config(format!(
                "rank {} does not see {}, which rank 0 made: give all ranks a work_dir on a file system that they share",
                place.rank,
                work.join(&timestamp).display()
            )));
        }
        let work = fs.canonical(&work).at(&work)?;
        let experiment_name = match &self.experiment_name {
            Some(name) => format!("{name}_{timestamp}"),
            None => timestamp.clone(),
        };
        Ok((
            Dirs { log: work.join(&timestamp), work },
            RunInfo {
                experiment_name,
                timestamp,
                config: self.config.as_ref().map(|(_, text)| text.clone()).unwrap_or_default(),
                seed,
                classes,
                fitted: Fitted::default(),
                dry_run: self.dry_run,
                placeholders: self.placeholders,
            },
        ))
    }

    /// Makes the folders; gives the name of that of the logs.
    fn make_folders(&self, fs: &dyn FileSystem, made: &mut Made) -> Result<String> {
        let work = self.home();
        made.folder(&work);
        durable::make_dir(fs, &work)?;
        let work = fs.canonical(&work).at(&work)?;
        let now = self.wall.format("%Y%m%d_%H%M%S");
        let (mut timestamp, mut n) = (now.clone(), 1);
        // Two runs may begin within one second, and in one instant: the one that is refused takes its own folder away.
        let log = loop {
            let log = work.join(&timestamp);
            match fs.create_new_dir(&log) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    n += 1;
                    timestamp = format!("{now}_{n}");
                }
                made => break made.at(&log).map(|()| log)?,
            }
        };
        made.logs(&log);
        fs.sync(&work).at(&work)?;
        durable::make_dir(fs, &log.join(checkpoint::VIS_DATA))?;
        if let Some((_, text)) = &self.config {
            let vis_data = log.join(checkpoint::VIS_DATA);
            durable::replace(fs, &vis_data.join("config.yaml"), text.as_bytes())?;
            if !self.config_places.is_empty() && !self.dry_run {
                let places: serde_json::Map<_, _> = self
                    .config_places
                    .iter()
                    .map(|(path, place)| (path.clone(), place.clone().into()))
                    .collect();
                let text = serde_json::Value::Object(places).to_string();
                durable::replace(fs, &vis_data.join("places.json"), text.as_bytes())?;
            }
        }
        Ok(timestamp)
    }
}
