//! The runner: train, validate or test what was put together.

use std::path::Path;
use std::sync::Arc;

use super::assemble::{Purpose, assemble_among};
use super::eval::REHEARSED;
use super::given::{check_made, known_to_hooks, type_name};
use super::pool::on_pool;
use super::resume::Plan;
use super::written::Written;
use super::{ExitReason, RunnerBuilder, Session, State, TrainLoop};
use crate::base::{Error, Result, caught_from};
use crate::comm::{Comm, Solo};
use crate::config::Node;
use crate::data::{Batch, DataLoader};
use crate::hook::{Control, Event, Hook, HookConfig, Metrics, Mode, Phase, StopReason};
use crate::kernels::{Precision, with_precision};
use crate::model::{Model, Outputs};

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The schedule is complete.
    Finished,
    /// A hook asked to stop.
    Stopped(StopReason),
    /// Someone outside asked to leave. A checkpoint is committed; the run can be resumed.
    Interrupted(ExitReason),
}

/// A run: built from a config or by [`Runner::builder`], then trained, validated, tested.
pub struct Runner {
    session: Session,
    train: Option<(Box<dyn TrainLoop>, DataLoader)>,
    plan: Plan,
    prepared: bool,
    sanity_check: bool,
    /// Where a config writes the parts.
    written: Option<Arc<Written>>,
    /// What is odd about the weights that were loaded.
    odd_weights: Option<String>,
}

impl Runner {
    /// Puts a run of this model together in Rust.
    pub fn builder(model: impl Model) -> RunnerBuilder {
        RunnerBuilder::of(Some(Box::new(model)))
    }

    /// Builds what a resolved config describes. `name` is the config's file name: it names the experiment, the dump
    /// and the default work_dir.
    ///
    /// # Errors
    /// All mistakes of the config at once; a folder that cannot be made.
    pub fn from_config(node: &Node, name: Option<&str>) -> Result<Self> {
        RunnerBuilder::from_config(node, name)?.build()
    }

    /// As [`from_config`](Self::from_config), to evaluate the weights in `load_from`: data are seen as those were that
    /// the weights were trained with.
    ///
    /// # Errors
    /// As there.
    pub fn to_evaluate(node: &Node, name: Option<&str>) -> Result<Self> {
        Self::to_evaluate_among(node, name, Arc::new(Solo::default()))
    }

    /// The same as one of several processes, each of which calls this with the same config.
    ///
    /// # Errors
    /// As there.
    pub fn to_evaluate_among(node: &Node, name: Option<&str>, comm: Arc<dyn Comm>) -> Result<Self> {
        assemble_among(node, name, Purpose::Evaluate, None, comm)?.builder.build()
    }

    /// Reads, resolves and builds a config file.
    ///
    /// # Errors
    /// As [`from_config`](Self::from_config), and what the file itself has wrong.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let node = crate::config::load(path, &[])?;
        Self::from_config(&node, Some(&path.to_string_lossy()))
    }

    pub(super) fn new(
        session: Session,
        train: Option<(Box<dyn TrainLoop>, DataLoader)>,
        plan: Plan,
        sanity_check: bool,
        prepared: bool,
    ) -> Self {
        Self { session, train, plan, prepared, sanity_check, written: None, odd_weights: None }
    }

    /// From now on an error of the first steps is told where the config writes what it is about.
    pub(super) fn written(mut self, written: Arc<Written>) -> Self {
        self.written = Some(written);
        self
    }

    /// A mistake of the config, with its place. What goes wrong later is none: the config could begin.
    fn placed(&self, mode: &str, error: Error) -> Error {
        match &self.written {
            None => error,
            Some(written) if !self.prepared => written.unstarted(error, self.plan.resume),
            Some(written) => written.failed(mode, error),
        }
    }

    /// Trains without validating two batches first; see [`RunnerBuilder::sanity_check`].
    pub fn skip_sanity_check(&mut self) {
        self.sanity_check = false;
    }

    /// Trains from the start, or from the checkpoint to resume, to the end of the schedule or a stop.
    ///
    /// The loop holds a thread of rayon's global pool until it ends. Runners on several threads of a program share the
    /// pool: what is more than it has threads waits its turn.
    ///
    /// # Errors
    /// The first failure; every hook's `on_error` was called then. A work_dir that another run holds is refused before
    /// any hook is called.
    pub fn train(&mut self) -> Result<Outcome> {
        let Some(mut training) = self.train.take() else {
            let error = Error::config(
                "this run has nothing to train: give `train_dataloader`, `train_cfg` and `optim_wrapper`, in a program \
                 `.train(data, loop, optimizer)`",
            );
            return Err(match &self.written {
                Some(written) => written.unbuilt(error),
                None => error,
            });
        };
        if self.plan.options.fused {
            self.train = Some(training);
            let why = "`load_options.fused`: in fused weights there are no batch norms left to train, they are for `val`, \
                       `test` and `predict`; train from the checkpoint that they were made of";
            return Err(Error::config(why));
        }
        let begins = !self.plan.resume && !self.prepared;
        let result = self.session.begin(begins).and_then(|()| {
            let result = self.guarded(|runner| {
                let (train_loop, data) = &mut training;
                runner.session.fire(Event::BeforeRun)?;
                runner.prepare()?;
                runner.session.compare_classes();
                // The data of now, not those at the first save.
                runner.session.begin_log()?;
                runner.session.saving.began_at = runner.session.state.progress.iter;
                if runner.sanity_check && runner.session.state.progress.iter == 0 {
                    runner.session.sanity_check()?;
                    runner.session.try_training()?;
                }
                if !runner.session.is_yet_to_begin() {
                    runner.session.take_hold()?;
                }
                caught_from("the training loop", || train_loop.run(&mut runner.session, data))?;
                // A loop of one's own may have made no step.
                runner.session.take_hold()?;
                runner.session.join()?;
                runner.session.enter(Phase::Idle);
                runner.session.fire(Event::AfterRun)
            });
            // A run that is resumed has made its first steps; what fails in it then is no mistake of its config.
            let first =
                self.session.saving.made == 0 && (!self.prepared || self.session.state.progress.iter == 0);
            result.map_err(|error| if first { self.placed("train", error) } else { error })
        });
        let outcome = result.map(|()| match (self.session.interrupted(), self.session.stop_reason()) {
            (Some(reason), _) => Outcome::Interrupted(reason.clone()),
            (None, Some(reason)) => Outcome::Stopped(reason),
            (None, None) => Outcome::Finished,
        });
        let (reason, detail) = match &outcome {
            Ok(Outcome::Finished) => ("finished", None),
            Ok(Outcome::Stopped(stop)) => ("stopped", Some(format!("{}: {}", stop.by, stop.reason))),
            Ok(Outcome::Interrupted(reason)) => ("interrupted", Some(reason.to_string())),
            Err(error) => ("failed", Some(error.to_string())),
        };
        self.session.end_log(reason, detail);
        self.session.end();
        self.train = Some(training);
        outcome
    }

    /// Validates the weights as they are (after `load_from`, if given).
    ///
    /// # Errors
    /// The first failure; no validation data.
    pub fn val(&mut self) -> Result<Metrics> {
        self.evaluate("val", Session::val)
    }

    /// Tests the weights as they are (after `load_from`, if given).
    ///
    /// # Errors
    /// The first failure; no test data.
    pub fn test(&mut self) -> Result<Metrics> {
        self.evaluate("test", Session::test)
    }

    fn evaluate(&mut self, mode: &str, what: fn(&mut Session) -> Result<Metrics>) -> Result<Metrics> {
        let mut metrics = Metrics::default();
        let result = self.guarded(|runner| {
            runner.session.fire(Event::BeforeRun)?;
            runner.prepare()?;
            runner.session.made_stays();
            runner.session.take_classes()?;
            runner.session.begin_log()?;
            metrics = what(&mut runner.session)?;
            runner.session.fire(Event::AfterRun)
        });
        match &result {
            Ok(()) => self.session.end_log("finished", None),
            Err(error) => self.session.end_log("failed", Some(error.to_string())),
        }
        match result {
            Ok(()) => Ok(metrics),
            Err(error) if self.session.state.progress.eval_batch <= REHEARSED => {
                Err(self.placed(mode, error))
            }
            Err(error) => Err(error),
        }
    }

    /// A run within one process begins with clean requests and all hooks enabled, and tells all hooks when it fails.
    fn guarded(&mut self, run: impl FnOnce(&mut Self) -> Result<()> + Send) -> Result<()> {
        self.session.state.control = Control::default();
        let anew = self.session.state.progress.iter == 0;
        let reset = caught_from("the reset of a hook", || {
            let main = self.session.is_main();
            self.session.hooks.reset(anew, main);
            Ok(())
        });
        // This may be within another run, of another precision: in one of its hooks.
        let result = reset.and_then(|()| {
            on_pool(|| caught_from("the run", || with_precision(Precision::Full, || run(self))))
        });
        self.session.report_unreadable();
        let Session { state, hooks, .. } = &self.session;
        if state.progress.iter > 0 {
            state.log.detail(format_args!(
                "time of hooks, from samples:\n{}",
                state.profile.hook_table(hooks.keys())
            ));
        }
        hooks.failures().iter().for_each(|line| state.log.warn(line));
        if let Err(error) = &result {
            self.session.state.control = Control { hold: 1, ..Control::default() };
            let told = self.session.fire(Event::OnError(error));
            // Only now have all hooks put back what they held.
            self.session.save_after_failure();
            told?;
        }
        result
    }

    /// Weights, once a runner: resumed, or initialised and then loaded over.
    fn prepare(&mut self) -> Result<()> {
        if self.prepared {
            return Ok(());
        }
        self.fill()?;
        self.prepared = true;
        Ok(())
    }

    /// Two batches through the validation, of which no hook hears.
    pub(super) fn rehearse_validation(&mut self) -> Result<()> {
        self.evaluate("val", |session| session.rehearse_validation().map(|()| Metrics::default())).map(drop)
    }

    /// From now on the run does not validate.
    pub(super) fn drop_validation(&mut self) {
        self.session.val = None;
    }

    /// What is odd about the weights that were loaded.
    pub(super) fn odd_weights(&self) -> Option<&str> {
        self.odd_weights.as_deref()
    }

    /// Whether the weights are in place.
    pub(super) fn is_prepared(&self) -> bool {
        self.prepared
    }

    fn fill(&mut self) -> Result<()> {
        if self.plan.resume {
            if super::resume::resume(&mut self.session, &self.plan)? {
                return Ok(());
            }
            let begins = self.session.saving.run.is_empty();
            self.session.look_at_dirs(begins)?;
            self.session.saving.to_take = Some(begins);
        }
        let load_from = if self.plan.resume { &self.plan.begin_from } else { &self.plan.load_from };
        let load_from = load_from.as_ref();
        // A strict load gives every weight: initial ones, and the files that they may come from, are not asked for.
        if load_from.is_none() || !self.plan.options.strict {
            let state = &mut self.session.state;
            let drawn =
                caught_from("the model's init_weights", || state.model.init_weights(state.info.seed))?;
            for line in drawn {
                state.log.detail(line);
            }
        }
        match load_from {
            Some(path) => {
                let (path, options) = (Path::new(path), &self.plan.options);
                self.odd_weights = super::resume::load_weights(&mut self.session, path, options)?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Puts the weights in place and does nothing else: for predictions.
    pub(super) fn load(&mut self) -> Result<()> {
        self.guarded(|runner| {
            runner.session.fire(Event::BeforeRun)?;
            runner.prepare()?;
            runner.session.made_stays();
            Ok(())
        })
    }

    /// The classes that the loaded weights know; none where their checkpoint names none.
    pub(super) fn classes(&self) -> &[String] {
        &self.session.rollback.classes
    }

    /// What the model says of a batch.
    pub(super) fn predict(&mut self, batch: &Batch) -> Result<Outputs> {
        self.session.eval_step(batch)
    }

    /// Evaluates in fewer walks over memory: see [`Model::fuse`].
    ///
    /// # Errors
    /// When the model has nothing that could be fused.
    pub fn fuse(&mut self) -> Result<()> {
        let model = &mut self.session.state.model;
        if model.fuse(true) {
            return Ok(());
        }
        Err(Error::config(format!("`{}` cannot be fused: leave out `--fused`", model.name())))
    }

    /// Adds a hook where it belongs in the order of the others.
    ///
    /// # Errors
    /// As [`RunnerBuilder::build`], when its options do not fit, when it cannot stand anywhere, or goes by a metric that there is not; the run is as
    /// before then.
    pub fn add_hook<H: Hook>(&mut self, hook: H) -> Result<()> {
        let name = type_name::<H>();
        let State { info, progress, .. } = &self.session.state;
        let run = self.train.as_ref().map(|_| progress.clone());
        check_made(&hook, name, &known_to_hooks(info.seed, run, self.session.val.as_ref()))?;
        let names = self.session.val.as_ref().map(|val| val.metric_names(Mode::Val));
        // A run that does not train goes by no metric.
        let names = names.or_else(|| self.train.is_none().then(Vec::new));
        let hooks = &mut self.session.hooks;
        let before = hooks.keys().to_vec();
        hooks.insert(Box::new(hook), name, &HookConfig::default());
        hooks.resolve(names.as_deref()).inspect_err(|_| hooks.put_back(&before))
    }

    /// Writes down every call in which a hook does something: [`Profile::calls`](crate::hook::Profile::calls).
    pub fn record_calls(&mut self) {
        self.session.state.profile.record_calls();
    }

    /// The model with its weights: as they are trained, or as a training would begin with them, drawn or loaded.
    ///
    /// # Errors
    /// As [`train`](Self::train), while the weights are put in place.
    pub fn model(&mut self) -> Result<&mut dyn Model> {
        if !self.prepared {
            self.load()?;
        }
        Ok(&mut *self.session.state.model)
    }

    /// The first hook of this type.
    pub fn hook<T: Hook>(&self) -> Option<&T> {
        self.session.hooks.get()
    }

    /// The session: counters, message_hub, folders.
    pub fn session(&self) -> &Session {
        &self.session
    }
}
