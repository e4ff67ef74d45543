//! What happens in one iteration, and how requests of hooks are carried out.

use std::path::PathBuf;
use std::sync::Arc;

use super::Evaluation;
use super::rollback::Rollback;
use super::saving::Saving;
use crate::base::fs::FileSystem;
use crate::base::number::{count, short};
use crate::base::{Error, Result, caught, shapes_only};
use crate::comm::Comm;
use crate::data::{Batch, DataLoader, class_counts};
use crate::hook::{
    Control, Ctx, Dirs, Event, Hooks, MessageHub, Metrics, Mode, Phase, Point, Profile, Progress, RunInfo,
    RunLog, SaveRequest, Step, StopReason,
};
use crate::model::{Model, Outputs, StepCx};
use crate::nn::timed;
use crate::optim::{Group, OptimWrapper, Update};
use crate::vis::{VisEvent, Visualizer};

/// Everything that hooks may see. The public fields are what a custom loop works with.
pub struct State {
    /// Counters.
    pub progress: Progress,
    /// The model.
    pub model: Box<dyn Model>,
    /// The optimizer with its schedules, in a run that trains.
    pub optim: Option<OptimWrapper>,
    /// Scalars.
    pub message_hub: MessageHub,
    /// What is known of the run from its start: seed, name, classes, config.
    pub info: RunInfo,
    /// Folders.
    pub dirs: Dirs,
    /// The text log.
    pub log: RunLog,
    /// The event log.
    pub vis: Visualizer,
    /// The folder whose git commit the log names; none where the run is not on the disk.
    pub(crate) project: Option<PathBuf>,
    /// The training data, in a run that trains.
    pub data: Option<DataLoader>,
    /// The data of the validation or test under way.
    pub(super) evaluated: Option<DataLoader>,
    /// Times of hooks and of the run.
    pub profile: Profile,
    /// What a dry run would have written, with the iteration.
    pub(crate) planned: Vec<(SaveRequest, u64)>,
    /// The processes that train together.
    pub comm: Arc<dyn Comm>,
    pub(crate) fs: Arc<dyn FileSystem>,
    /// Seconds since some instant; a test gives its own.
    pub(crate) timer: Box<dyn FnMut() -> f64 + Send>,
    /// Samples of a training batch, of all ranks.
    pub(crate) batch_size: u64,
    /// Whether steps of the model count by their shapes alone.
    pub(super) shapes_only: bool,
    pub(crate) control: Control,
}

impl State {
    fn ctx(&mut self, point: Point) -> Ctx<'_> {
        self.progress.now = (self.timer)();
        Ctx {
            point,
            progress: &self.progress,
            model: &mut self.model,
            optim: self.optim.as_mut(),
            message_hub: &mut self.message_hub,
            info: &self.info,
            dirs: &self.dirs,
            comm: &*self.comm,
            fs: &*self.fs,
            log: &self.log,
            vis: &mut self.vis,
            data: self.data.as_ref(),
            evaluated: self.evaluated.as_ref(),
            profile: &mut self.profile,
            control: &mut self.control,
        }
    }

    /// What the event log is yet to hear of the text log, and the other way round.
    pub(super) fn tell(&mut self) {
        let warning = |text: String| VisEvent::new("warning").with("text", text);
        for text in self.log.take_untold() {
            self.vis.add(warning(text));
        }
        for complaint in self.vis.complaints() {
            self.log.warn(&complaint.text);
            self.log.take_untold();
            if !complaint.of_log {
                self.vis.add_to_log(warning(complaint.text));
            }
        }
    }

    pub(super) fn failed(&self, who: &str, point: &'static str, source: crate::base::BoxError) -> Error {
        Error::Run { who: who.into(), point, epoch: self.progress.epoch, iter: self.progress.iter, source }
    }
}

/// A run under way: state, hooks, and the evaluations it can do. Loops drive it.
pub struct Session {
    /// What hooks see.
    pub state: State,
    /// The hooks, in their order.
    pub hooks: Hooks,
    pub(crate) val: Option<Evaluation>,
    pub(crate) test: Option<Evaluation>,
    pub(crate) saving: Saving,
    pub(crate) rollback: Rollback,
}

impl Session {
    /// Calls the hooks of a point, then does what they asked for.
    ///
    /// # Errors
    /// The first failure of a hook, or of what was asked.
    pub fn fire(&mut self, mut event: Event<'_>) -> Result<()> {
        if !matches!(event.point(), Point::BeforeTrainIter | Point::AfterBackward | Point::AfterTrainIter) {
            // What a device cannot give any more may be why the run has failed.
            self.settle()
                .or_else(|error| if event.point() == Point::OnError { Ok(()) } else { Err(error) })?;
        }
        let mut cx = self.state.ctx(event.point());
        let done = self.hooks.dispatch(&mut event, &mut cx);
        self.state.tell();
        done?;
        self.apply_requests()
    }

    /// Lets a hook put other weights into the model that are to be evaluated, or take them away.
    pub(super) fn evaluate_also(&mut self, index: usize, begins: bool) -> Result<Option<&'static str>> {
        let point = Point::AfterValEpoch;
        let mut cx = self.state.ctx(point);
        let Some(slot) = self.hooks.slots().get_mut(index) else { return Ok(None) };
        let key = Arc::clone(&slot.key);
        let done = caught(|| slot.hook.evaluate_also(&mut cx, begins));
        done.map_err(|e| self.state.failed(&format!("hook `{key}`"), point.name(), e))
    }

    /// Notes what the run is doing.
    pub fn enter(&mut self, phase: Phase) {
        self.state.progress.phase = phase;
    }

    /// Whether a hook asked to stop.
    pub fn stopping(&self) -> bool {
        self.state.control.stop.is_some()
    }

    /// Who asked to stop, and why.
    pub fn stop_reason(&self) -> Option<StopReason> {
        let asked = self.state.control.stop.as_ref()?;
        Some(StopReason { by: self.hooks.key(asked.by).to_owned(), reason: asked.what.clone() })
    }

    /// One training iteration: the model's step, the update when it is due, and their four points.
    ///
    /// # Errors
    /// The first failure of a hook, the model or the optimizer.
    pub fn train_iter(&mut self, batch: Batch) -> Result<()> {
        self.next_iter(batch)?;
        self.settle()
    }

    /// Waits for the numbers that a device still has.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.state.message_hub.settle()
    }

    /// The same for a loop whose hooks are all that look at its numbers: those that no hook reads may stay on a device.
    pub(super) fn next_iter(&mut self, mut batch: Batch) -> Result<()> {
        if self.nobody_has_samples(&batch)? {
            return self.empty_iter();
        }
        (self.saving.mid_step, self.saving.idle) = (true, 0);
        self.fire(Event::BeforeTrainIter(&mut batch))?;
        if self.state.progress.iter == self.saving.began_at {
            // For whoever measures how long a start takes: `RUST_LOG=info,shanty=debug`.
            log::debug!(target: "shanty", "iteration {} begins", self.state.progress.iter + 1);
        }
        self.begin_alike()?;
        let mut outputs = self.step_or_turns(&mut batch)?;
        self.state.progress.iter += 1;
        self.state.progress.batch += 1;
        self.after_iter(Step { batch: &mut batch, outputs: &mut outputs })?;
        if let Some(data) = &self.state.data {
            data.recycle(batch);
        }
        self.saving.made = self.state.progress.iter;
        self.roll_back_if_asked()?;
        self.check_interrupts()
    }

    /// Gradients of a batch, and the update if it is due: all optimizers together, or each in its turn. The loss of
    /// several turns is their sum.
    fn step_or_turns(&mut self, batch: &mut Batch) -> Result<Outputs> {
        let turns = self.state.model.turns();
        if turns.is_empty() {
            return self.step(batch, None);
        }
        let (mut all, mut total) = (Outputs::default(), 0.0);
        for turn in turns {
            let optim = self.state.optim.as_mut();
            optim.map_or(Ok(()), |optim| optim.take_turn(Some(turn)))?;
            let mut own = self.step(batch, Some(turn))?;
            own.settle()?;
            total += own.loss().unwrap_or(0.0);
            let named = own.vars.iter().map(|(name, value)| match &**name {
                "loss" | "grad_norm" | "loss_scale" => (format!("{turn}.{name}").into(), *value),
                _ => (name.clone(), *value),
            });
            all.vars.extend(named);
        }
        self.state.optim.as_mut().map_or(Ok(()), |optim| optim.take_turn(None))?;
        all.vars.insert(0, ("loss".into(), total));
        Ok(all)
    }

    fn step(&mut self, batch: &mut Batch, turn: Option<&str>) -> Result<Outputs> {
        let began = self.state.profile.begin();
        let (outputs, passes) = timed(began.is_some(), || self.train_step(batch, turn));
        let mut outputs = outputs?;
        self.mean_of_ranks(&mut outputs, batch.len())?;
        if !outputs.has("loss") && !self.state.info.placeholders {
            return Err(self.no_loss(&outputs));
        }
        self.state.profile.end("train_step", began);
        self.state.profile.passed(passes);
        self.take_hold()?;
        if self.window_is_full(batch.len())? {
            self.fire(Event::AfterBackward(Step { batch, outputs: &mut outputs }))?;
            let began = self.state.profile.begin();
            self.update(&mut outputs)?;
            self.state.profile.end("optimizer", began);
        }
        Ok(outputs)
    }

    /// Forward, loss and backward: gradients are added up. A rank that has no sample while others have adds nothing.
    fn train_step(&mut self, batch: &Batch, turn: Option<&str>) -> Result<Outputs> {
        let State { model, optim, progress, info, shapes_only: by_shapes, .. } = &mut self.state;
        let loss_scale = optim.as_ref().map_or(1.0, |o| o.loss_scale(batch.len()));
        let cx = StepCx { seed: info.seed, iter: progress.iter, loss_scale };
        let pass = |model: &mut dyn Model| {
            shapes_only(*by_shapes, || match turn {
                _ if batch.is_empty() => Ok(Outputs::default()),
                Some(turn) => model.train_turn(turn, batch, &cx),
                None => model.train_step(batch, &cx),
            })
        };
        caught(|| match optim {
            Some(optim) => Ok(optim.gradients(&mut **model, pass)?),
            None => Ok(pass(&mut **model)?),
        })
        .map_err(|e| self.state.failed("the model", "training", e))
    }

    /// What is said of a model that does not tell what it optimised: all that watches a training would be blind.
    fn no_loss(&self, outputs: &Outputs) -> Error {
        let name = self.state.model.name();
        let given: Vec<&str> = outputs.vars.iter().map(|(name, _)| name.as_ref()).collect();
        let text = format!(
            "`{name}` gives no `loss`, but [{}]: its `train_step` names the number that it optimised, \
             `outputs.vars.push((\"loss\".into(), loss))`",
            given.join(", ")
        );
        self.state.failed("the model", "training", text.into())
    }

    /// Counts the batch; true when its gradients complete an update.
    fn window_is_full(&mut self, samples: usize) -> Result<bool> {
        let State { model, optim, progress, .. } = &mut self.state;
        let Some(optim) = optim else { return Ok(false) };
        let ends_epoch = progress.by_epoch && progress.batch + 1 == progress.epoch_len;
        let due = optim.backward_done(samples, ends_epoch || progress.iter + 1 == progress.max_iters);
        if due {
            optim.finish_window(&mut **model)?;
        }
        Ok(due)
    }

    fn update(&mut self, outputs: &mut Outputs) -> Result<()> {
        let skips = self.state.control.skip_update.take().is_some();
        let skips = self.any_rank(skips)?;
        let State { progress, model, optim, log, .. } = &mut self.state;
        let Some(optim) = optim else { return Ok(()) };
        if skips {
            optim.clear(&mut **model)?;
            return Ok(());
        }
        let (scale, may_overflow) = (optim.amp_scale(), optim.may_overflow());
        let update = caught(|| Ok(optim.update(&mut **model)?)).map_err(|e| {
            let who = format!("the optimizer `{}`", optim.name());
            Error::Run { who, point: "update", epoch: progress.epoch, iter: progress.iter, source: e }
        })?;
        let norm = match update {
            Update::Stepped(norm) => norm,
            Update::Skipped(norm) => {
                log.warn(format_args!("the norm of the gradients is {norm}: this update is skipped"));
                Some(norm)
            }
            Update::Overflowed { from, to } => {
                let (from, next) = (short(from), short(to));
                let text = format!(
                    "the gradients are not finite with a loss scale of {from}: this update is skipped"
                );
                match may_overflow {
                    true if next != from => log.info(format_args!("{text}, the next scale is {next}")),
                    _ => log.warn(text),
                }
                None
            }
        };
        let told = [("grad_norm", norm), ("loss_scale", scale)];
        outputs.vars.extend(told.into_iter().filter_map(|(name, value)| Some((name.into(), value?))));
        Ok(())
    }

    /// Saves and validations that hooks asked for. Inside a save or a validation they wait for the outermost call.
    pub(super) fn apply_requests(&mut self) -> Result<()> {
        if self.state.control.hold > 0 {
            return Ok(());
        }
        let saves = std::mem::take(&mut self.state.control.saves);
        if self.state.control.rollback.is_some() {
            // What this iteration led to is about to be undone.
            return Ok(());
        }
        // First, so that a checkpoint of now knows it.
        self.snapshot_if_asked()?;
        for request in saves {
            self.save(&request)?;
        }
        if std::mem::take(&mut self.state.control.validate) && self.has_val() {
            self.val()?;
        }
        Ok(())
    }

    /// Whether the run has validation data.
    pub fn has_val(&self) -> bool {
        self.val.is_some()
    }

    /// One pass over the validation data.
    ///
    /// # Errors
    /// The first failure of a hook, the model, the data or a metric; no validation data.
    pub fn val(&mut self) -> Result<Metrics> {
        let mut val = self.val.take().ok_or_else(|| Error::config(lacks("validation", "val")))?;
        let metrics = self.evaluate(&mut val, Mode::Val);
        self.val = Some(val);
        self.state.progress.validated = Some(self.state.progress.iter);
        if metrics.is_ok() {
            self.agree()?;
        }
        self.apply_requests()?;
        metrics
    }

    /// One pass over the test data.
    ///
    /// # Errors
    /// As [`val`](Self::val).
    pub fn test(&mut self) -> Result<Metrics> {
        let mut test = self.test.take().ok_or_else(|| Error::config(lacks("test", "test")))?;
        let metrics = self.evaluate(&mut test, Mode::Test);
        self.test = Some(test);
        self.apply_requests()?;
        metrics
    }

    fn evaluate(&mut self, what: &mut Evaluation, mode: Mode) -> Result<Metrics> {
        self.state.control.hold += 1;
        let before = self.state.progress.phase;
        let began = self.state.profile.begin();
        self.state.evaluated = Some(what.data.clone());
        let metrics = what.run(self, mode);
        self.state.evaluated = None;
        self.state.profile.end(mode.name(), began);
        self.enter(before);
        self.state.control.hold -= 1;
        metrics
    }

    pub(crate) fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        let State { model, shapes_only: by_shapes, .. } = &mut self.state;
        caught(|| Ok(shapes_only(*by_shapes, || model.eval_step(batch))?))
            .map_err(|e| self.state.failed("the model", "evaluation", e))
    }
}

fn lacks(what: &str, key: &str) -> String {
    format!(
        "this run has no {what} data: give `{key}_dataloader`, `{key}_cfg` and `{key}_evaluator`, in a program \
         `.{key}(data, metrics)`"
    )
}

impl Session {
    /// The first lines of a run's log: versions, seed, notes, the order of the hooks.
    pub(super) fn announce(&self, notes: &[String]) {
        let State { log, info, progress, .. } = &self.state;
        log.info(format_args!("shanty {}, experiment {}", env!("CARGO_PKG_VERSION"), info.experiment_name));
        let threads = count(rayon::current_num_threads() as u64, "thread");
        let threads = match self.state.comm.place().world {
            1 => threads,
            world => format!("{world} ranks of {threads}"),
        };
        log.info(format_args!(
            "{} {}, {threads}, seed {}",
            std::env::consts::OS,
            std::env::consts::ARCH,
            info.seed
        ));
        log.info(super::environment::line(self.state.project.as_deref()));
        if progress.max_iters > 0 {
            let (epochs, iters) =
                (count(progress.max_epochs, "epoch"), count(progress.max_iters, "iteration"));
            log.info(format_args!("{epochs}, {iters}, {} an epoch", count(progress.epoch_len, "batch")));
        }
        if let Some(data) = self.state.data.as_ref().and_then(|data| data.dataset().summary()) {
            log.info(format_args!("columns of the training data: {data}"));
        }
        for classes in self.state.data.iter().flat_map(|data| class_counts(&**data.dataset())) {
            log.info(format_args!("classes in `{}` of the training data: {classes}", classes.field));
        }
        notes.iter().for_each(|note| log.warn(note));
        if let Some(amp) = self.state.optim.as_ref().and_then(OptimWrapper::describe_amp) {
            log.info(format_args!("mixed precision: {amp}"));
        }
        if let Some(optim) = self.state.optim.as_ref().filter(|optim| optim.groups().len() > 1) {
            let groups: Vec<_> = optim.groups().iter().map(Group::describe).collect();
            log.info(format_args!("parameter groups of {}:\n{}", optim.name(), groups.join("\n")));
        }
        let line: Vec<_> =
            self.hooks.order().map(|(key, priority)| format!("({priority:<12}) {key}")).collect();
        log.info(format_args!("hooks in the order in which they are called:\n{}", line.join("\n")));
        if !info.config.is_empty() {
            log.detail(format_args!("config:\n{}", info.config));
        }
    }
}
