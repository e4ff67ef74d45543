//! From a config to a runner: the same builder that a program uses.

use std::path::Path;
use std::sync::Arc;

use super::config::EvalConfig;
use super::ranks::{shard, sync_batchnorm};
use super::slots::{hooks, misplaced};
use super::spelt_out::spelt_out;
use super::stand_in::StandInData;
use super::written::Written;
use super::{Evaluation, LoopTotals, RunConfig, RunnerBuilder, checks, meet};
use crate::base::{Result, memory};
use crate::comm::{Comm, Solo};
use crate::config::{Diag, Diags, Kind, Level, Node, OneOrMany};
use crate::data::{DataLoader, DataLoaderConfig, Fitted, StandIn, class_counts};
use crate::hook::Progress;
use crate::metric::{Evaluator, Metric};
use crate::nn::TrainedClasses;
use crate::optim::{ScheduledParam, Totals};
use crate::registry::{BuildCx, Collected, Spec, build_apart};
use crate::vis::{Given, check_apart};

/// Values of a config whose places are noted beside its dump: a report shows no more.
const PLACES: usize = 2000;

/// What a run is put together for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run: what is missing is an error.
    Run,
    /// To be evaluated, as the checkpoint in `load_from` was trained: its means, categories and vocabularies count, and
    /// the training data are only opened where it does not say what they were like.
    Evaluate,
    /// To predict: as to evaluate, and the data that the config names may be gone too.
    Predict,
    /// To be looked at: weights are only sizes, and data that is not on this machine is a warning.
    Look,
}

/// The parts of a run, and what is odd about them.
pub(super) struct Assembled {
    pub builder: RunnerBuilder,
    pub config: RunConfig,
    /// Warnings, and what is absent.
    pub odd: Diags,
    /// Where the config writes each hook, by its key.
    pub hooks: Vec<(Arc<str>, Node)>,
    /// In place of data that are not on this machine.
    pub stand_ins: Vec<StandInData>,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// What further parts are built with.
    pub cx: BuildCx,
}

/// Builds the parts of the run that a config describes. Whoever checks, plans, trains or tests a config comes through
/// here. `seed`: that of a run that begins, where the config has none; if not given one is drawn.
///
/// # Errors
/// All that is wrong with the config and its parts, each with its place.
pub(super) fn assemble(
    node: &Node,
    name: Option<&str>,
    purpose: Purpose,
    seed: Option<u64>,
) -> Result<Assembled> {
    assemble_among(node, name, purpose, seed, Arc::new(Solo::default()))
}

/// The same for one of several processes.
pub(super) fn assemble_among(
    node: &Node,
    name: Option<&str>,
    purpose: Purpose,
    seed: Option<u64>,
    comm: Arc<dyn Comm>,
) -> Result<Assembled> {
    let config = RunConfig::read(node).map_err(|wrong| unread(node, purpose, wrong))?;
    let beside = RunnerBuilder::of(None).comm(comm).draw_seed()?;
    let mut parts = Assembler::new(&config, node, name, purpose, seed, beside);
    parts.data();
    parts.model();
    parts.optimizer();
    parts.backends();
    let hooks = parts.hooks();
    let odd = parts.odd(&hooks)?;
    let Assembler { mut builder, weight_bytes, stand_ins, cx, .. } = parts;
    let notes = odd.0.iter().map(Diag::untitled);
    builder = builder.notes(config.notes().into_iter().chain(notes).collect());
    builder.written = Some(Arc::new(Written::of(&config, node, &builder, &hooks, purpose)));
    Ok(Assembled { builder, config, odd, hooks, stand_ins, weight_bytes, cx })
}

/// What is wrong with a config that cannot be read, and with those of its parts that can.
fn unread(node: &Node, purpose: Purpose, mut wrong: Diags) -> Diags {
    let mut cx = BuildCx::new(0);
    // Hooks ask the metrics for their names.
    let metrics = node.get("val_evaluator").filter(|metrics| !metrics.is_null());
    let metrics = metrics.map(|metrics| {
        let specs: OneOrMany<Spec<dyn Metric>> = metrics.read()?;
        Evaluator::build(&specs.0, &mut cx)
    });
    let passed: &[&str] = match metrics {
        None => &[],
        Some(Ok(evaluator)) => {
            cx.provide(evaluator.directions());
            &[]
        }
        Some(Err(_)) => &["hook"],
    };
    // What is wrong with the data is told; losses that count classes need them.
    cx.provide(TrainedClasses(None));
    let node = spelt_out(node);
    let copies = copies_of_weights(node.get("optim_wrapper").is_some_and(|optim| !optim.is_null()));
    let (mut more, _) = memory::accounted(true, copies, || build_apart::<RunConfig>(&node, passed, &mut cx));
    missing_is_told(purpose, &mut more);
    wrong.extend(more.0);
    wrong
}

/// A run as its dump describes it: what was to become of an earlier one in its folder is no part of it, and who trains by
/// the dump has not asked for it.
fn as_dumped(node: &Node) -> Node {
    let entries = node.entries().iter().filter(|(key, _)| key.text != "overwrite").cloned().collect();
    Node::new(Kind::Map(entries), node.place().clone())
}

/// How often the memory of the weights is taken: once, and where they are trained again for their gradients and for
/// what an optimizer keeps of each.
fn copies_of_weights(trained: bool) -> u64 {
    if trained { 3 } else { 1 }
}

/// What is not on the machine that looks at a config need not be missing where it runs.
fn missing_is_told(purpose: Purpose, found: &mut Diags) {
    for diag in found.0.iter_mut().filter(|diag| diag.absent && purpose == Purpose::Look) {
        diag.level = Level::Warning;
        diag.notes.push("paths are taken from the folder in which the run is started".into());
    }
}

/// A run under construction: parts that cannot be built are left out, and told together at the end.
struct Assembler<'a> {
    config: &'a RunConfig,
    node: &'a Node,
    purpose: Purpose,
    builder: RunnerBuilder,
    cx: BuildCx,
    /// Whether the training is put together.
    trains: bool,
    errors: Collected,
    /// The specs of the schedules that could be built.
    schedules: Vec<Node>,
    stand_ins: Vec<StandInData>,
    weight_bytes: u64,
}

/// The name of a config without its folder and its end.
fn stem(name: &str) -> String {
    Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The work_dir of a config that names none.
pub(crate) fn default_work_dir(name: Option<&str>) -> String {
    format!("work_dirs/{}", name.map_or("run".to_owned(), stem))
}

impl<'a> Assembler<'a> {
    fn new(
        config: &'a RunConfig,
        node: &'a Node,
        name: Option<&str>,
        purpose: Purpose,
        seed: Option<u64>,
        builder: RunnerBuilder,
    ) -> Self {
        let stem = name.map(stem);
        let work_dir = config.work_dir.clone().unwrap_or_else(|| default_work_dir(name));
        let mut builder = builder
            .without_default_hooks()
            .work_dir(&work_dir)
            .config_text(name, as_dumped(node).to_yaml())
            .log_level(config.log_level)
            .start_from(config.load_from.clone())
            .resume(config.resume)
            .load_options(config.load_options.clone())
            .async_save(config.async_save)
            .exclude_samples(config.exclude_samples.clone())
            .allow_hook_changes(config.allow_hook_changes)
            .allow_data_changes(config.allow_data_changes)
            .overwrite(config.overwrite);
        builder.config_files = node.files().into_iter().map(Into::into).collect();
        let place = |(path, value): (String, &Node)| (path, value.def.to_string());
        builder.config_places = node.leaves().into_iter().take(PLACES).map(place).collect();
        if let Some(experiment) = config.experiment_name.clone().or(stem) {
            builder = builder.experiment_name(experiment);
        }
        builder.seed = config.randomness.seed.or(seed.filter(|_| !config.resume));
        let mut cx = BuildCx::new(builder.settle_seed());
        cx.provide(config.log_processor.clone());
        let (evaluates, mut trains) = (matches!(purpose, Purpose::Evaluate | Purpose::Predict), true);
        if config.resume || evaluates {
            let fits = super::resume::saved_fits(Path::new(&work_dir), config.load_from.as_deref());
            trains = !evaluates || fits.is_empty();
            if evaluates {
                builder.known = fits.clone();
            }
            cx.provide(fits);
        }
        let (errors, schedules, stand_ins) = (Collected::default(), Vec::new(), Vec::new());
        let mut parts = Self {
            config,
            node,
            purpose,
            builder,
            cx,
            trains,
            errors,
            schedules,
            stand_ins,
            weight_bytes: 0,
        };
        parts.builder.launcher = config.launcher;
        parts.builder.patience = parts.errors.take(meet::patience(config.env_cfg.as_ref())).flatten();
        parts
    }

    fn at(&self, key: &str) -> &'a Node {
        self.node.get(key).unwrap_or(self.node)
    }

    fn change(&mut self, change: impl FnOnce(RunnerBuilder) -> RunnerBuilder) {
        self.builder = change(std::mem::replace(&mut self.builder, RunnerBuilder::of(None)));
    }

    /// Loaders, loops and evaluators.
    fn data(&mut self) {
        let config = self.config;
        let trained = config.train_dataloader.as_ref().filter(|_| self.trains);
        let train = self.loader(trained, "train");
        if config.train_dataloader.is_some() {
            let counted = train.as_ref().map(|data| class_counts(&**data.dataset()));
            let kept = || self.cx.get::<Fitted>().filter(|_| !self.trains).and_then(Fitted::class_counts);
            let classes = TrainedClasses(counted.or_else(kept));
            self.cx.provide(classes);
        }
        if let Some(data) = train {
            self.change(|builder| builder.train_data(data));
        }
        if let Some(train_cfg) = config.train_cfg.as_ref().filter(|_| self.trains) {
            let built = train_cfg.build(&mut self.cx);
            if let Some(train_loop) = self.errors.take_on(built, self.at("train_cfg")) {
                self.change(|builder| builder.boxed_loop(train_loop));
            }
        }
        if let Some(mut val) = self.evaluation(&config.val_dataloader, &config.val_evaluator, "val") {
            val.precision = EvalConfig::precision(config.val_cfg.as_ref());
            self.cx.provide(val.directions());
            self.change(|builder| builder.validation(val));
        }
        if let Some(mut test) = self.evaluation(&config.test_dataloader, &config.test_evaluator, "test") {
            test.precision = EvalConfig::precision(config.test_cfg.as_ref());
            self.change(|builder| builder.testing(test));
        }
    }

    fn loader(&mut self, config: Option<&DataLoaderConfig>, mode: &'static str) -> Option<DataLoader> {
        let config = config?;
        if self.purpose == Purpose::Look {
            StandIn::ask(&mut self.cx);
        }
        let built = config.build(self.cx.seed, shard(&*self.builder.comm), &mut self.cx);
        let sample = StandIn::taken(&mut self.cx);
        let odd = self.cx.take_warnings().0.into_iter().map(|diag| diag.on(config.dataset.node()));
        self.errors.0.extend(odd);
        let built = self.errors.take_on(built, self.at(&format!("{mode}_dataloader")));
        if let (None, Some(sample)) = (&built, sample)
            && let Some(data) = config.over_stand_in(sample, &mut self.cx)
        {
            self.stand_ins.push(StandInData { mode, data, evaluator: None });
        }
        built
    }

    fn evaluation(
        &mut self,
        data: &Option<DataLoaderConfig>,
        evaluator: &Option<OneOrMany<Spec<dyn Metric>>>,
        mode: &'static str,
    ) -> Option<Evaluation> {
        let read = self.purpose != Purpose::Predict || self.trains;
        let data = self.loader(data.as_ref().filter(|_| read), mode);
        let evaluator = Evaluator::build(&evaluator.as_ref()?.0, &mut self.cx);
        let evaluator = self.errors.take_on(evaluator, self.at(&format!("{mode}_evaluator")))?;
        match (data, self.stand_ins.iter_mut().find(|data| data.mode == mode)) {
            (Some(data), _) => return Some(Evaluation::new(data, evaluator)),
            (None, Some(stand_in)) => stand_in.evaluator = Some(evaluator),
            // Hooks ask the metrics for their names.
            (None, None) if mode == "val" => {
                self.cx.provide(evaluator.directions());
                self.builder.directions = Some(evaluator.directions());
            }
            (None, None) => {}
        }
        None
    }

    /// The model. To look at it, its weights are not drawn.
    fn model(&mut self) {
        let spec = &self.config.model;
        let copies = copies_of_weights(self.trains && self.config.optim_wrapper.is_some());
        let mut build = |placeholders| memory::accounted(placeholders, copies, || spec.build(&mut self.cx));
        // Of zeros, which take no memory: whether all of it fits is known before the first weight is drawn.
        let (mut built, bytes) = build(true);
        if self.purpose != Purpose::Look && built.is_ok() {
            built = build(false).0;
        }
        if let Some(mut model) = self.errors.take_on(built, spec.node()) {
            for module in self.config.activation_checkpointing.iter().flat_map(|all| all.iter()) {
                let done = model.checkpoint_activations(module);
                self.errors.take_on(done, self.at("activation_checkpointing"));
            }
            let syncs = self.config.sync_bn.filter(|_| self.builder.comm.place().world > 1);
            let odd = syncs.and_then(|_| sync_batchnorm(&mut *model));
            self.errors.0.extend(odd.map(|odd| odd.on(self.at("sync_bn"))));
            self.builder.model = Some(model);
        }
        // A model that is built twice is odd once.
        for odd in self.cx.take_warnings().0 {
            if !self.errors.0.0.contains(&odd) {
                self.errors.0.extend([odd]);
            }
        }
        self.weight_bytes = bytes;
    }

    fn optimizer(&mut self) {
        let Some(config) = self.config.optim_wrapper.as_ref().filter(|_| self.trains) else { return };
        let built = config.build(&mut self.cx);
        let Some(mut optim) = self.errors.take_on(built, self.at("optim_wrapper")) else { return };
        if let (Some(scale), Some(train)) = (&self.config.auto_scale_lr, &self.config.train_dataloader)
            && scale.enable
        {
            let of_all = train.batch_size as f64 * self.builder.comm.place().world as f64;
            let scaled = optim.scale_lr(of_all / scale.base_batch_size as f64);
            self.errors.take_on(scaled, self.at("auto_scale_lr"));
        }
        if let Some(model) = &self.builder.model {
            let place = self.at("optim_wrapper");
            let bound = optim.bind(&**model).map(drop);
            self.errors.take_on(bound, place.get("paramwise_cfg").unwrap_or(place));
        }
        let LoopTotals { epochs: max_epochs, iters: max_iters, by_epoch } = self.builder.totals();
        let epoch_len = self.builder.epoch_len();
        let totals = Totals { max_epochs, max_iters, epoch_len: epoch_len.max(1) };
        for spec in self.config.param_scheduler.iter().flat_map(|s| &s.0) {
            let Some(shape) = self.errors.take(spec.build(&mut self.cx)) else { continue };
            let schedule = ScheduledParam::from_options(shape, spec.name(), &spec.extra, by_epoch, totals)
                .and_then(|schedule| schedule.check(optim.groups()).map(|()| schedule));
            if let Some(schedule) = self.errors.take_on(schedule, spec.node()) {
                self.schedules.push(spec.node().clone());
                optim = optim.schedule(schedule);
            }
        }
        self.change(|builder| builder.optim(optim));
    }

    /// Where the events go.
    fn backends(&mut self) {
        let specs = self.config.backends();
        let mut given: Vec<Given> = Vec::new();
        for spec in specs {
            if let Some(backend) = self.errors.take(spec.build(&mut self.cx)) {
                given.push((backend, spec.name().to_owned(), spec.extra.clone()));
            }
        }
        if let (Err((at, error)), true) = (check_apart(&given), given.len() == specs.len()) {
            self.errors.0.extend(specs.get(at).map(|spec| Diag::error(error.to_string()).on(spec.node())));
        }
        self.builder.vis_backends = given;
    }

    /// The hooks, in their order; gives their keys with their places.
    fn hooks(&mut self) -> Vec<(Arc<str>, Node)> {
        let LoopTotals { epochs: max_epochs, iters: max_iters, by_epoch } = self.builder.totals();
        let epoch_len = self.builder.epoch_len();
        if self.builder.train_data.is_some() {
            self.cx.provide(Progress { max_epochs, max_iters, epoch_len, by_epoch, ..Progress::default() });
        }
        let specs = hooks(self.config);
        let mut nodes = Vec::new();
        for spec in self.errors.take_on(specs, self.at("default_hooks")).unwrap_or_default() {
            if let Some(hook) = self.errors.take(spec.build(&mut self.cx)) {
                self.change(|builder| builder.boxed_hook(hook, spec.name(), spec.extra.clone()));
                nodes.push(spec.node().clone());
            }
        }
        if let Some(interval) = self.config.digest_interval {
            self.change(|builder| builder.hook(crate::hook::builtin::DigestHook::every(interval)));
            nodes.push(self.at("digest_interval").clone());
        }
        let lined_up = self.builder.line_up(self.config.val_evaluator.is_some());
        let hooks: Vec<_> = self.builder.keys().iter().cloned().zip(nodes).collect();
        if let Err(error) = lined_up {
            let diag = misplaced(error, &hooks);
            self.errors.0.extend([diag]);
        }
        hooks
    }

    /// What is odd and no error; all that is one.
    fn odd(&mut self, hooks: &[(Arc<str>, Node)]) -> Result<Diags> {
        let mut found = std::mem::take(&mut self.errors.0);
        missing_is_told(self.purpose, &mut found);
        let Self { config, node, ref builder, ref schedules, .. } = *self;
        found.extend(checks::of(&checks::RunParts { config, node, builder, schedules, hooks }));
        if found.has_errors() { Err(found.into()) } else { Ok(found) }
    }
}
