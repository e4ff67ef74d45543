//! What a config will do, without doing it: the real loop and the real hooks walk through the whole schedule with a
//! model that has names but no weights, data that has a length but no values, and a disk that only keeps a list.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::dry_model::DryRunModel;
use super::{Evaluation, RunnerBuilder, Session};
use crate::base::fs::{Append, Entry, FileSystem, Fill, Lock};
use crate::base::{Error, Result, Rng};
use crate::config::{Diag, Diags, Level, Node};
use crate::data::{DataLoader, Dataset, Sample};
use crate::hook::{Ctx, Event, Hook, HookConfig, HookResult, Point, Priority, SaveRequest};
use crate::optim::{Group, OptimWrapper};

/// The key of the hook that takes notes; it is not part of the plan.
const SCRIBE: &str = "the plan";

/// Iterations that a plan goes through: some seconds of them.
const MOST_ITERS: u64 = 3_000_000;

/// A schedule, computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunPlan {
    /// Iterations of the whole run.
    pub total_iters: u64,
    /// Batches in an epoch.
    pub epoch_len: u64,
    /// What goes in and what is predicted, where the data set has found that out by itself.
    pub data: Option<String>,
    /// The learning rate of each group, one value an iteration, as used in it.
    pub lr: Vec<(String, Vec<f64>)>,
    /// The same of every other number that a schedule moves: `momentum`, `weight_decay of norm`.
    pub numbers: Vec<(String, Vec<f64>)>,
    /// The parameter groups, where there are several, with their sizes and numbers.
    pub groups: Vec<String>,
    /// All hooks in their order, each with the calls in which it does something.
    pub hooks: Vec<HookCalls>,
    /// Every checkpoint that is written, in order.
    pub checkpoints: Vec<PlannedCheckpoint>,
    /// The iterations after which the run validates.
    pub validations: Vec<u64>,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// What looks like a mistake, and what a plan cannot know.
    pub warnings: Vec<String>,
}

/// A hook, and when it does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCalls {
    /// The hook's key.
    pub hook: String,
    /// Its priority.
    pub priority: Priority,
    /// By point, in the order of the lifecycle: completed iterations at each call.
    pub calls: Vec<(Point, Vec<u64>)>,
}

/// A checkpoint that will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCheckpoint {
    /// Its directory.
    pub name: String,
    /// Completed iterations.
    pub iter: u64,
    /// Whether it is still there at the end of the run.
    pub kept: bool,
}

/// The plan of a config, for a run that starts from the beginning.
///
/// The data sets are opened for their lengths, and the model is built for the names and sizes of its weights; nothing
/// is read from either.
///
/// # Errors
/// The mistakes of the config, as a run would report them; a hook that fails; a run of more than three million
/// iterations.
pub fn plan(node: &Node, name: Option<&str>) -> Result<RunPlan> {
    let assembled = super::assemble::assemble(node, name, super::assemble::Purpose::Look, None)?;
    let absent: Vec<_> = assembled.odd.0.iter().filter(|diag| diag.absent).cloned().collect();
    if !absent.is_empty() {
        // The length of an epoch is the data's.
        let as_error = |diag| Diag { level: Level::Error, ..diag };
        return Err(Diags(absent.into_iter().map(as_error).collect()).into());
    }
    let odd: Vec<_> = assembled.odd.0.iter().map(Diag::untitled).collect();
    let data = assembled.builder.train_data.as_ref().and_then(|data| data.dataset().summary());
    let (mut builder, weight_bytes) = (assembled.builder.with_placeholders()?, assembled.weight_bytes);
    let notes = Arc::new(Mutex::new(Notes::default()));
    let scribe = Box::new(PlanRecorder(Arc::clone(&notes)));
    let options = HookConfig { priority: Some(Priority::LOWEST), ..HookConfig::default() };
    builder = builder.resume(false).start_from(None).boxed_hook(scribe, SCRIBE, options);
    let iters = builder.totals().iters;
    if iters > MOST_ITERS {
        return Err(Error::config(format!(
            "the run has {iters} iterations: a plan goes through each of them, and through {MOST_ITERS} at most"
        )));
    }
    let mut runner = builder.build()?;
    runner.train()?;
    let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
    let session = runner.session();
    let (progress, profile) = (&session.state.progress, &session.state.profile);
    let mut calls: BTreeMap<usize, BTreeMap<Point, Vec<u64>>> = BTreeMap::new();
    for call in profile.calls() {
        calls.entry(call.hook).or_default().entry(call.point).or_default().push(call.iter);
    }
    let hooks = session.hooks.order().enumerate().map(|(at, (hook, priority))| HookCalls {
        hook: hook.to_owned(),
        priority,
        calls: calls.remove(&at).into_iter().flatten().collect(),
    });
    let mut planned = RunPlan {
        total_iters: progress.max_iters,
        epoch_len: progress.epoch_len,
        data,
        lr: notes.lr,
        numbers: notes.numbers,
        groups: notes.groups,
        hooks: hooks.filter(|hook| hook.hook != SCRIBE).collect(),
        checkpoints: checkpoints(&session.state.planned),
        validations: notes.validations,
        weight_bytes,
        warnings: odd
            .into_iter()
            .chain(session.state.log.warnings().into_iter().map(|(text, _)| text))
            .collect(),
    };
    let more = warnings(&planned, session);
    planned.warnings.extend(more);
    Ok(planned)
}

/// A later checkpoint of the same name replaces the earlier one, and of a series the newest few stay.
fn checkpoints(saves: &[(SaveRequest, u64)]) -> Vec<PlannedCheckpoint> {
    let mut all: Vec<(PlannedCheckpoint, &str)> = Vec::new();
    for (request, iter) in saves {
        all.retain(|(c, _)| c.name != request.name);
        let new = PlannedCheckpoint { name: request.name.clone(), iter: *iter, kept: true };
        all.push((new, &request.series));
        let series = all.iter_mut().rev().filter(|(c, series)| c.kept && *series == request.series);
        series.skip(request.keep.unwrap_or(usize::MAX)).for_each(|(c, _)| c.kept = false);
    }
    all.into_iter().map(|(planned, _)| planned).collect()
}

fn warnings(plan: &RunPlan, session: &Session) -> Vec<String> {
    let mut all = Vec::new();
    if session.has_val() && plan.validations.is_empty() {
        all.push("there is validation data, but the run ends before the first validation".into());
    }
    if !plan.checkpoints.iter().any(|c| c.kept) {
        all.push("no checkpoint is left at the end: the result of the run would be lost".into());
    }
    for (group, lr) in &plan.lr {
        let of = if plan.lr.len() == 1 { String::new() } else { format!(" of group {group}") };
        let idle = lr.iter().filter(|v| **v == 0.0).count();
        if idle > 0 {
            all.push(format!("the learning rate{of} is 0 in {idle} of {} iterations", lr.len()));
        }
        if lr.iter().any(|v| !v.is_finite() || *v < 0.0) {
            all.push(format!("the learning rate{of} leaves the positive numbers"));
        }
    }
    for (hook, metric) in session.hooks.metric_readers().filter(|_| session.has_val()) {
        let metric = if metric == "*" { "the first metric" } else { metric };
        all.push(format!(
            "hook `{hook}` goes by {metric}, which is not known before the run: what it saves for it, or a stop, is not in \
             this plan"
        ));
    }
    all
}

/// What the recorder wrote down.
#[derive(Debug, Default)]
struct Notes {
    groups: Vec<String>,
    lr: Vec<(String, Vec<f64>)>,
    numbers: Vec<(String, Vec<f64>)>,
    validations: Vec<u64>,
}

/// The last hook of all: notes what the others see.
struct PlanRecorder(Arc<Mutex<Notes>>);

impl Hook for PlanRecorder {
    fn priority(&self) -> Priority {
        Priority::LOWEST
    }

    fn on_event(&mut self, cx: &mut Ctx<'_>, event: &mut Event<'_>) -> HookResult {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::BeforeTrainIter(_) => {
                if let Some(optim) = &cx.optim {
                    notes.take(optim);
                }
                Ok(())
            }
            Event::BeforeVal => {
                notes.validations.push(cx.progress.iter);
                Ok(())
            }
            _ => cx.unsubscribe(),
        }
    }
}

impl Notes {
    /// The learning rates of all groups, and whatever else a schedule moves.
    fn take(&mut self, optim: &OptimWrapper) {
        let groups = optim.groups();
        let named = |number: &str, group: &Group| {
            if groups.len() == 1 { number.to_owned() } else { format!("{number} of {}", group.name()) }
        };
        if self.groups.is_empty() && groups.len() > 1 {
            self.groups = groups.iter().map(Group::describe).collect();
        }
        for group in groups {
            let name = if groups.len() == 1 { "lr" } else { group.name() };
            note(&mut self.lr, name, group.lr());
            let mut moved: Vec<_> = optim.schedules().iter().filter_map(|s| s.number_of(group)).collect();
            moved.sort_unstable();
            moved.dedup();
            for number in moved.into_iter().filter(|number| *number != "lr") {
                note(&mut self.numbers, &named(number, group), group.get(number).unwrap_or(0.0));
            }
        }
    }
}

fn note(curves: &mut Vec<(String, Vec<f64>)>, name: &str, value: f64) {
    match curves.iter_mut().find(|(known, _)| known == name) {
        Some((_, values)) => values.push(value),
        None => curves.push((name.to_owned(), vec![value])),
    }
}

/// Puts stand-ins that compute nothing in the place of data and model.
impl RunnerBuilder {
    pub(super) fn with_placeholders(mut self) -> Result<Self> {
        if let Some(data) = self.train_data.take() {
            self.train_data = Some(dry_run_data(&data)?);
        }
        if let Some(val) = self.val.take() {
            self.val = Some(val.with_placeholders()?);
        }
        if let Some(model) = self.model.take() {
            self.model = Some(Box::new(DryRunModel::of(&*model)));
        }
        self.test = None;
        self.placeholders = true;
        Ok(self.dry())
    }

    /// The same run, which writes nothing and whose hooks know it.
    pub(super) fn dry(mut self) -> Self {
        self.fs = Some(Arc::new(NullStorage));
        self.dry_run = true;
        self
    }
}

impl Evaluation {
    fn with_placeholders(self) -> Result<Self> {
        Ok(Self { data: dry_run_data(&self.data)?, placeholders: true, ..self })
    }
}

/// As many batches, of one empty sample each.
fn dry_run_data(data: &DataLoader) -> Result<DataLoader> {
    let stand_in = DryRunData { len: data.len() as usize, classes: data.classes().map(<[_]>::to_vec) };
    let loader = DataLoader::new(stand_in);
    loader.check().map(|()| loader)
}

/// A disk that takes everything and keeps nothing.
struct NullStorage;

impl FileSystem for NullStorage {
    fn entry(&self, _: &Path) -> io::Result<Option<Entry>> {
        Ok(None)
    }
    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Ok(Vec::new())
    }
    fn open(&self, _: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn write_with(&self, _: &Path, _: u64, fill: Fill<'_>) -> io::Result<()> {
        fill(&mut io::sink())
    }
    fn append(&self, _: &Path) -> io::Result<Box<dyn Append>> {
        Ok(Box::new(NullStorage))
    }
    fn sync(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, _: &Path, _: &str) -> io::Result<Result<Box<dyn Lock>, String>> {
        Ok(Ok(Box::new(NullStorage)))
    }
}

impl Append for NullStorage {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Lock for NullStorage {}

struct DryRunData {
    len: usize,
    classes: Option<Vec<String>>,
}

impl Dataset for DryRunData {
    fn len(&self) -> usize {
        self.len
    }
    fn get(&self, _: usize, _: &mut Rng) -> Result<Sample> {
        Ok(Sample::new(0.0f32, 0))
    }
    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }
}
