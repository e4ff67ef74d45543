//! Every built-in hook keeps the contract, and for each clause there is a hook that breaks it and is found out.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use shanty::plugin::prelude::*;
use shanty::run::RunnerBuilder;
use shanty::testing::contract_run_of;
use shanty::testing::{Clause, Contract, ToyModel, contract_run, hook_contract};

macro_rules! contracts {
    ($($module:ident: $hook:ident, $yaml:expr $(, $run:expr)?;)+) => {$(
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            hook_contract!($hook, $yaml $(, $run)?);
        }
    )+};
}

contracts! {
    runtime_info: RuntimeInfoHook, "";
    iter_timer: IterTimerHook, "";
    sampler_seed: DistSamplerSeedHook, "";
    logger: LoggerHook, "interval: 2";
    param_scheduler: ParamSchedulerHook, "";
    checkpoint: CheckpointHook, "{interval: 1, key: second, filename_tmpl: 'second_{}', save_best: accuracy/top1}";
    check_invalid_loss: CheckInvalidLossHook, "interval: 1";
    skip_invalid_loss: CheckInvalidLossHook, "action: skip";
    digest: DigestHook, "interval: 3";
    histogram: HistogramHook, "interval: 2";
    ema: EMAHook, "{momentum: 0.1, interval: 2, begin_iter: 2}";
    ema_annealing: EMAHook, "{ema_type: MomentumAnnealingEMA, update_buffers: true}";
    swa: EMAHook, "{ema_type: StochasticWeightAverage, begin_epoch: 2}";
    early_stopping: EarlyStoppingHook, "{monitor: accuracy/top1, patience: 3}";
    precise_bn: PreciseBNHook, "";
    lsuv: LSUVHook, "";
    num_class_check: NumClassCheckHook, "";
    class_num_check: ClassNumCheckHook, "";
    freeze: FreezeHook, "{modules: backbone, begin: 2}", with_number;
    sync_buffers: SyncBuffersHook, "";
    empty_cache: EmptyCacheHook, "";
    profiler: ProfilerHook, "";
    switch_recipe: SwitchRecipeHook, "schedule: [{action_epoch: 2, train_pipeline: [{type: RandomFlip, prob: 1.0}]}]";
    pipeline_switch: PipelineSwitchHook, "{switch_epoch: 1, switch_pipeline: [{type: RandomFlip, prob: 1.0}]}";
    visualization: VisualizationHook, "{enable: true, interval: 2}";
    worst_samples: WorstSamplesHook, "number: 2";
    warmup_param: WarmupParamHook, "{param_name: p, module_name: backbone, warmup_epochs: 1}", with_number;
    mean_teacher: MeanTeacherHook, "momentum: 0.1", with_teacher;
    prepare_tta: PrepareTTAHook, "tta_cfg: {type: AverageClsScoreTTA}";
}

/// A toy with a number that its loss depends on, and a teacher.
struct Rich {
    student: ToyModel,
    teacher: ToyModel,
    p: f64,
    teaches: bool,
    /// The student is frozen.
    still: bool,
}

impl HostParams for Rich {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        self.student.visit(&mut |p| {
            let grad = p.grad.filter(|_| !self.still);
            f(ParamRef { name: "student.weight", grad, ..p });
        });
        if self.teaches {
            self.teacher.visit(&mut |p| f(ParamRef { name: "teacher.weight", grad: None, ..p }));
        }
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let still = self.still;
        self.student.visit_mut(&mut |p| {
            let grad = p.grad.filter(|_| !still);
            f(ParamMut { name: "student.weight", grad, ..p });
        });
        if self.teaches {
            self.teacher.visit_mut(&mut |p| f(ParamMut { name: "teacher.weight", grad: None, ..p }));
        }
    }
}

impl Model for Rich {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.student.train_step(batch, &StepCx { loss_scale: cx.loss_scale * self.p as Elem, ..*cx })
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        self.student.eval_step(batch)
    }
    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.student.init_weights(seed)
    }
    fn set_trainable(&mut self, _module: &str, trainable: bool) -> Result<()> {
        self.still = !trainable;
        Ok(())
    }
    fn number_mut(&mut self, module: &str, name: &str) -> Option<&mut f64> {
        (module == "backbone" && name == "p").then_some(&mut self.p)
    }
}

fn rich(dir: &Path, teaches: bool) -> Result<RunnerBuilder> {
    let (student, teacher) = (ToyModel::new(3), ToyModel::new(3));
    contract_run_of(dir, Rich { student, teacher, p: 0.5, teaches, still: false })
}
fn with_number(dir: &Path) -> Result<RunnerBuilder> {
    rich(dir, false)
}
fn with_teacher(dir: &Path) -> Result<RunnerBuilder> {
    rich(dir, true)
}

fn broken(name: &str, yaml: &str) -> Vec<Clause> {
    Contract::new(name, yaml, contract_run).breaches().into_iter().map(|b| b.clause).collect()
}

#[test]
fn a_hook_that_cannot_be_built_is_found_out() {
    assert_eq!(broken("EMAHook", "momentum: 2.0"), [Clause::Builds]);
    assert_eq!(broken("NoSuchHook", ""), [Clause::Builds]);
}

/// Takes any keys.
struct Greedy;
impl Hook for Greedy {}
register! {
    /// Breaks RefusesUnknownKeys.
    dyn Hook, "Greedy" => fn Greedy::of
}

impl Greedy {
    fn of(_: shanty::config::Node, _: &mut BuildCx) -> Result<Self> {
        Ok(Greedy)
    }
}

#[test]
fn a_hook_that_takes_any_key_is_found_out() {
    assert_eq!(broken("Greedy", ""), [Clause::RefusesUnknownKeys]);
}

/// Says one thing and does another.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Elsewhere {
    /// Declares a read where it does nothing, instead of a point.
    reads: bool,
}
impl Hook for Elsewhere {
    fn order(&self) -> HookOrder {
        if self.reads {
            return HookOrder::default().reads(Point::AfterTrainEpoch, "train/loss");
        }
        HookOrder::default().at(&[Point::AfterTrainIter])
    }
    fn before_train_iter(&mut self, _cx: &mut Ctx<'_>, _batch: &mut Batch) -> HookResult {
        Ok(())
    }
}
register! {
    /// Breaks KeepsToItsPoints.
    dyn Hook, "Elsewhere" => Elsewhere
}

#[test]
fn a_hook_that_is_elsewhere_is_found_out() {
    assert_eq!(broken("Elsewhere", ""), [Clause::KeepsToItsPoints]);
    assert_eq!(broken("Elsewhere", "reads: true"), [Clause::KeepsToItsPoints]);
}

/// Counts its calls in the message hub, and loses the count on the way.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Forgetful {
    /// Saves its count, but does not take it back.
    saves: bool,
    #[serde(skip)]
    calls: Lossy,
}
/// Not what it was when it comes back.
#[derive(Debug, Clone, Default)]
struct Lossy(u64);
impl HookState for Lossy {
    fn save(&self) -> HookResult<Record> {
        Record::of(&self.0)
    }
    fn load(&mut self, _: Record) -> HookResult {
        Ok(())
    }
    fn reset(&mut self) {
        self.0 = 0;
    }
}
impl Hook for Forgetful {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        self.calls.0 += 1;
        cx.message_hub.update_info("calls", self.calls.0 as f64);
        Ok(())
    }
    fn state(&mut self) -> Option<&mut dyn HookState> {
        if self.saves { Some(&mut self.calls) } else { None }
    }
}
register! {
    /// Breaks StateRoundTrips and ResumesExactly.
    dyn Hook, "Forgetful" => Forgetful
}

#[test]
fn a_hook_that_loses_its_state_is_found_out() {
    assert_eq!(broken("Forgetful", ""), [Clause::ResumesExactly]);
    assert_eq!(broken("Forgetful", "saves: true"), [Clause::StateRoundTrips, Clause::ResumesExactly]);
}

/// Takes the weights away for a validation, and keeps them if it fails.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Thief {
    /// Fails in on_error, too.
    clumsy: bool,
}
impl Thief {
    fn turn(cx: &mut Ctx<'_>) -> HookResult {
        Ok(cx.model.edit(Set::Values, &shanty::params::all, &mut |_, mut w| w.mapv_inplace(|w| -w))?)
    }
}
impl Hook for Thief {
    fn before_val_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if self.clumsy { Ok(()) } else { Self::turn(cx) }
    }
    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, _: &Metrics) -> HookResult {
        if self.clumsy { Ok(()) } else { Self::turn(cx) }
    }
    fn on_error(&mut self, _: &mut Ctx<'_>, _: &Error) -> HookResult {
        if self.clumsy { Err("dropped it".into()) } else { Ok(()) }
    }
}
register! {
    /// Breaks SurvivesFailures.
    dyn Hook, "Thief" => Thief
}

#[test]
fn a_hook_that_does_not_put_back_is_found_out() {
    assert_eq!(broken("Thief", ""), [Clause::SurvivesFailures]);
    assert_eq!(broken("Thief", "clumsy: true"), [Clause::SurvivesFailures]);
}

/// Remembers other runs.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Gossip {}
impl Hook for Gossip {
    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        cx.message_hub.update_info("runs", RUNS.fetch_add(1, Ordering::SeqCst) as f64);
        Ok(())
    }
}
register! {
    /// Breaks RunsTwice.
    dyn Hook, "Gossip" => Gossip
}

#[test]
fn a_hook_that_remembers_other_runs_is_found_out() {
    assert_eq!(broken("Gossip", ""), [Clause::ResumesExactly, Clause::RunsTwice]);
}
