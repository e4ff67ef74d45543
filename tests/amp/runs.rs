//! Runs with mixed precision: what hooks see, what a resume goes on with, what other ranks know.

use std::sync::{Arc, Mutex};

use super::*;
use shanty::checkpoint::{digest, load};
use shanty::hook::Mode;
use shanty::kernels::{Precision, precision};
use shanty::optim::SamConfig;
use shanty::prelude::{Accuracy, ArrayDataset, DataLoader, EpochBasedTrainLoop};
use shanty::run::verify::verify;
use shanty::run::{Limits, Runner, RunnerBuilder};
use shanty::testing::{STOCHASTIC_NET, ToyModel, ranks, toy_data};

/// Twelve iterations of a network with batch norm and dropout, in windows of two.
fn config(dir: &Path, wrapper: &str, hooks: &str, more: &str) -> String {
    format!(
        "
{STOCHASTIC_NET}
train_dataloader:
  batch_size: 6
  dataset: {{type: Synthetic, n: 36, shape: [3, 2, 2], classes: 3}}
  sampler: {{type: DefaultSampler, shuffle: true}}
optim_wrapper: {{{wrapper}, optimizer: {{type: SGD, lr: 0.1, momentum: 0.9}}}}
train_cfg: {{by_epoch: true, max_epochs: 2}}
randomness: {{seed: 5}}
default_hooks: {{logger: {{type: LoggerHook, interval: 1}}}}
custom_hooks: [{hooks}]
work_dir: {}
{more}
",
        dir.display()
    )
}

/// A scale that single precision has no room for beside six samples, and that grows at once where it has.
const OVERFLOWING: &str =
    "type: AmpOptimWrapper, accumulative_counts: 2, loss_scale: {init_scale: 3.0e+38, growth_interval: 2}";

fn builder(yaml: &str) -> shanty::base::Result<RunnerBuilder> {
    RunnerBuilder::from_config(&shanty::config::parse("test", yaml)?, Some("test.yaml"))
}

/// Notes the norm of the gradients that hooks see, and the scale that is logged of each update.
#[derive(Default)]
struct Noted {
    norms: Vec<f64>,
    scales: Vec<f64>,
}

impl Hook for Noted {
    fn after_backward(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        self.norms.push(cx.model.norm(shanty::params::Set::Grads, 2.0, &shanty::params::all)?);
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        self.scales.extend(cx.message_hub.scalar(Mode::Train, "loss_scale").and_then(|s| s.current()));
        Ok(())
    }
}

fn trained(yaml: &str) -> Runner {
    let mut runner = builder(yaml).unwrap().build().unwrap();
    runner.add_hook(Noted::default()).unwrap();
    runner.train().unwrap();
    runner
}

/// A power of two is taken from a gradient without a trace, whatever comes between.
#[test]
fn a_scale_alone_changes_no_bit() {
    for more in ["", ", clip_grad: {max_norm: 0.5}", ", accumulative_counts: 4"] {
        let [plain, amp] = ["type: OptimWrapper", "type: AmpOptimWrapper, dtype: float32"].map(|kind| {
            let dir = tempfile::tempdir().unwrap();
            let runner = trained(&config(dir.path(), &format!("{kind}{more}"), "", ""));
            let noted = &runner.hook::<Noted>().unwrap();
            let end = load(&dir.path().join("epoch_2")).unwrap();
            (end.model, noted.norms.clone(), noted.scales.clone())
        });
        assert_eq!(plain.0, amp.0, "{more}");
        assert_eq!(plain.1, amp.1, "{more}");
        assert!(plain.2.is_empty() && amp.2.iter().all(|scale| *scale == 65536.0), "{:?}", amp.2);
    }
}

/// The scale falls until there is room, grows, and falls again; hooks that look for bad steps find none.
#[test]
fn an_overflow_leaves_its_step_out_and_is_no_bad_step() {
    let dir = tempfile::tempdir().unwrap();
    let hook = "{type: CheckInvalidLossHook, interval: 1, check: all}, {type: HistogramHook, interval: 2}";
    let runner = trained(&config(dir.path(), OVERFLOWING, hook, ""));
    let noted = runner.hook::<Noted>().unwrap();
    let scales: Vec<f64> = noted.scales.clone();
    assert!(scales.windows(2).any(|w| w[1] == w[0] / 2.0), "{scales:?}");
    let overflows = noted.norms.iter().filter(|norm| !norm.is_finite()).count();
    assert!(overflows > 0 && overflows < noted.norms.len(), "{:?}", noted.norms);
    let log = std::fs::read_dir(&runner.session().state.dirs.log).unwrap();
    let log = log.map(|f| f.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "log")).unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("mixed precision: bfloat16, loss scale 3e+38 at first"), "{log}");
    assert!(log.contains("this update is skipped, the next scale is 1.5e+38"), "{log}");
    assert_eq!(log.matches("this update is skipped").count(), overflows);
}

#[test]
fn a_run_that_overflows_is_the_same_wherever_it_is_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |dir: &Path, resume: bool, limits: Limits| {
        let text = config(dir, OVERFLOWING, "{type: EMAHook, momentum: 0.1}", &format!("resume: {resume}"));
        builder(&text)?.limits(limits).build()
    };
    let cuts = verify(&make, |total| (1..total).collect(), scratch.path(), &mut |_| ()).unwrap();
    assert_eq!(cuts.len(), 11);
    for cut in cuts {
        assert_eq!(cut.difference, None, "cut after {}", cut.at);
    }
}

/// The pixels of this sample are NaN.
struct Poison(u64);

impl Hook for Poison {
    fn before_train_iter(&mut self, _cx: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        if let Some(row) = batch.ids.iter().position(|id| *id == self.0) {
            batch.inputs_mut().unwrap().index_axis_mut(ndarray::Axis(0), row).fill(Elem::NAN);
        }
        Ok(())
    }
}

/// A loss that is none is a bad step, not an overflow: the scale stays, and goes back with everything else.
#[test]
fn a_run_that_goes_back_ends_like_one_that_never_had_the_sample() {
    let wrapper = "type: AmpOptimWrapper, loss_scale: {init_scale: 1024.0, growth_interval: 2}";
    let [bad, clean] = ["", "exclude_samples: [17]"].map(|more| {
        let dir = tempfile::tempdir().unwrap();
        let hook = "{type: CheckInvalidLossHook, action: rollback, check: all, rollback_steps: 3}";
        let mut runner = builder(&config(dir.path(), wrapper, hook, more)).unwrap().build().unwrap();
        runner.add_hook(Poison(17)).unwrap();
        runner.train().unwrap();
        let mut end = load(&dir.path().join("epoch_2")).unwrap();
        // Only the hook itself knows that it went back.
        end.hooks.remove("CheckInvalidLossHook");
        end.rollback = None;
        end
    });
    assert_eq!(digest::first_difference(&bad, &clean), None);
    let saved = &bad.optimizer.as_ref().unwrap().data["loss_scaler"];
    assert_eq!(saved["scale"].as_f64(), Some(65536.0), "12 steps, of which each second doubles it: {saved}");
}

/// One rank's gradient is infinite, and all leave the step out.
#[test]
fn ranks_agree_on_an_overflow() {
    let dir = tempfile::tempdir().unwrap();
    let seen = ranks(2, |_, comm| {
        let x = ndarray::Array2::from_shape_fn((16, 3), |(n, _)| if n == 5 { 1e9 } else { n as Elem / 16.0 });
        let data = DataLoader::new(ArrayDataset::new("inputs", x)?).batch_size(2);
        let loss_scale = LossScale::Dynamic(DynamicScale { init_scale: 1e30, ..DynamicScale::default() });
        let optim = OptimWrapper::new(Sgd::new(0.1)).amp(Amp { loss_scale, ..Amp::default() });
        let mut runner = Runner::builder(ToyModel::new(3))
            .train(data, EpochBasedTrainLoop::new(2), optim)
            .hook(Noted::default())
            .work_dir(dir.path())
            .comm(comm)
            .seed(3)
            .build()?;
        runner.train()?;
        let weight = shanty::params::StateDict::of(&*runner.session().state.model)?;
        Ok((runner.hook::<Noted>().unwrap().scales.clone(), weight))
    })
    .unwrap();
    let (scales, weight) = &seen[0];
    assert_eq!(seen[1], seen[0]);
    assert_eq!(scales.len(), 8);
    assert!(scales.iter().any(|scale| *scale < 9e29), "{scales:?}");
    assert!(weight.0.iter().all(|(_, t)| t.value.iter().all(|w| w.abs() < 2.0)), "the sample never counted");
}

/// A model that notes in which precision it is asked.
struct Probe {
    toy: ToyModel,
    seen: Arc<Mutex<Vec<Precision>>>,
}

impl HostParams for Probe {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        self.toy.visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.toy.visit_mut(f);
    }
}

impl Model for Probe {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> shanty::base::Result<Outputs> {
        self.seen.lock().unwrap().push(precision());
        self.toy.train_step(batch, cx)
    }
    fn eval_step(&mut self, batch: &Batch) -> shanty::base::Result<Outputs> {
        self.seen.lock().unwrap().push(precision());
        self.toy.eval_step(batch)
    }
    fn init_weights(&mut self, seed: u64) -> shanty::base::Result<Vec<String>> {
        self.toy.init_weights(seed)
    }
}

/// Forward and backward passes of a training, both of sharpness-aware minimisation, and nothing else: MMEngine validates
/// without autocast unless `val_cfg` says `fp16`.
#[test]
fn training_is_in_its_precision_and_validation_is_not() {
    use Precision::{Bf16, F16, Full};
    for (dtype, expected) in [(AmpDtype::Bfloat16, Bf16), (AmpDtype::Float16, F16), (AmpDtype::Float32, Full)]
    {
        for sam in [false, true] {
            let (dir, seen) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(Vec::new())));
            let optim = OptimWrapper::new(Sgd::new(0.1)).amp(Amp { dtype, ..Amp::default() });
            let optim = if sam { optim.sam(SamConfig::default()) } else { optim };
            let probe = Probe { toy: ToyModel::new(3), seen: Arc::clone(&seen) };
            let mut runner = Runner::builder(probe)
                .train(toy_data(2, true).unwrap(), EpochBasedTrainLoop::new(1), optim)
                .val(toy_data(1, false).unwrap(), Accuracy::default())
                .sanity_check(false)
                .work_dir(dir.path())
                .seed(0)
                .build()
                .unwrap();
            // Whoever calls may compute in another one.
            shanty::kernels::with_precision(F16, || runner.train()).unwrap();
            let passes = if sam { 4 } else { 2 };
            let seen = seen.lock().unwrap();
            assert_eq!(seen[..passes], vec![expected; passes], "{dtype:?}, sam {sam}");
            assert_eq!(seen[passes..], [Full], "{dtype:?}, sam {sam}");
        }
    }
}

static ASKED: Mutex<Vec<Precision>> = Mutex::new(Vec::new());

/// Notes in which precision a forward pass is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
struct PrecisionProbe {}

shanty::module!(PrecisionProbe {});

impl shanty::nn::Module for PrecisionProbe {
    fn forward<'t>(
        &mut self,
        x: shanty::nn::Var<'t>,
        _cx: &mut shanty::nn::Forward<'_>,
    ) -> shanty::base::Result<shanty::nn::Var<'t>> {
        ASKED.lock().unwrap().push(precision());
        Ok(x)
    }
}

register! {
    /// Notes in which precision it is called.
    dyn shanty::nn::Module, "PrecisionProbe" => PrecisionProbe
}

#[test]
fn fp16_of_a_val_cfg_is_bfloat16_as_autocast_has_it_on_a_cpu() {
    for (fp16, expected) in [(false, Precision::Full), (true, Precision::Bf16)] {
        let dir = tempfile::tempdir().unwrap();
        let data = "dataset: {type: Synthetic, n: 6, shape: [3, 2, 2], classes: 3}, sampler: {type: DefaultSampler, shuffle: false}";
        let val = format!(
            "val_dataloader: {{batch_size: 6, {data}}}\nval_evaluator: {{type: Accuracy}}\nval_cfg: {{fp16: {fp16}}}\n"
        );
        let test = val.replace("val_", "test_");
        let yaml = config(dir.path(), "type: OptimWrapper", "", &(val + &test));
        let yaml = yaml.replace("- {type: Flatten}", "- {type: PrecisionProbe}\n      - {type: Flatten}");
        let node = shanty::config::parse("test", &yaml).unwrap();
        let mut runner = Runner::to_evaluate(&node, Some("test.yaml")).unwrap();
        for evaluate in [Runner::val, Runner::test] {
            ASKED.lock().unwrap().clear();
            evaluate(&mut runner).unwrap();
            assert_eq!(ASKED.lock().unwrap()[..], [expected], "fp16: {fp16}");
        }
    }
}
