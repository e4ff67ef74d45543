//! What a config may say of mixed precision.

use super::*;
use shanty::kernels::Precision;
use shanty::optim::OptimWrapperConfig;
use shanty::prelude::EpochBasedTrainLoop;
use shanty::run::{Runner, RunnerBuilder, check::check};
use shanty::testing::{ToyModel, toy_data};

fn built(yaml: &str) -> std::result::Result<OptimWrapper, String> {
    let node = shanty::config::parse("test", yaml).unwrap();
    let config: OptimWrapperConfig = node.read_checked().map_err(|wrong| wrong.to_string())?;
    config.build(&mut BuildCx::new(0)).map_err(|wrong| wrong.to_string())
}

#[test]
fn keys_and_defaults_are_those_of_mmengine() {
    let sgd = "optimizer: {type: SGD, lr: 0.1}";
    for (more, precision, scale) in [
        ("", Precision::Bf16, 65536.0),
        ("dtype: null, loss_scale: dynamic, use_fsdp: false, ", Precision::Bf16, 65536.0),
        ("dtype: bfloat16, loss_scale: 1.0, ", Precision::Bf16, 1.0),
        ("dtype: float16, loss_scale: 512, ", Precision::F16, 512.0),
        ("dtype: float16, loss_scale: {init_scale: 1024.0, growth_interval: 10}, ", Precision::F16, 1024.0),
        ("dtype: float32, ", Precision::Full, 65536.0),
    ] {
        let optim = built(&format!("{{type: AmpOptimWrapper, {more}{sgd}}}")).unwrap();
        assert_eq!((optim.precision(), optim.amp_scale()), (precision, Some(scale)), "{more}");
    }
    let plain = built(&format!("{{{sgd}}}")).unwrap();
    assert_eq!((plain.precision(), plain.amp_scale()), (Precision::Full, None));
    let part = |more: &str| format!("{{type: AmpOptimWrapper, {more}{sgd}, modules: []}}");
    let several = format!("{{type: OptimWrapperDict, wrappers: {{a: {}, b: {}}}}}", part(""), part(""));
    let several = built(&several).unwrap();
    assert_eq!((several.precision(), several.amp_scale()), (Precision::Bf16, Some(65536.0)));
}

#[test]
fn what_cannot_be_is_refused_with_the_remedy() {
    for (keys, says) in [
        ("type: AmpOptimWrapper, use_fsdp: true", "weights that are sharded among processes"),
        ("type: AmpOptimWrapper, dtype: float64", "float64"),
        ("type: AmpOptimWrapper, loss_scale: static", "a loss scale is dynamic, a number, or"),
        ("type: AmpOptimWrapper, loss_scale: 0", "loss_scale"),
        ("type: AmpOptimWrapper, loss_scale: -1.5", "loss_scale"),
        ("type: AmpOptimWrapper, loss_scale: 1.0e+60", "must be at most 3.4e38"),
        ("type: AmpOptimWrapper, loss_scale: 1.0e-40", "`loss_scale` must be at least 1.2e-38"),
        ("type: AmpOptimWrapper, loss_scale: {init_scal: 2.0}", "init_scale"),
        ("type: AmpOptimWrapper, loss_scale: {growth_factor: 1.0}", "growth_factor"),
        ("type: AmpOptimWrapper, loss_scale: {backoff_factor: 1.0}", "backoff_factor"),
        ("type: AmpOptimWrapper, loss_scale: {growth_interval: 0}", "growth_interval"),
        ("dtype: bfloat16", "`dtype` belongs to `type: AmpOptimWrapper`"),
        ("type: OptimWrapper, loss_scale: dynamic", "`loss_scale` belongs to `type: AmpOptimWrapper`"),
    ] {
        let said = built(&format!("{{{keys}, optimizer: {{type: SGD, lr: 0.1}}}}")).map(drop).unwrap_err();
        assert!(said.contains(says), "{keys}: {said}");
    }
    let several = |a: &str, b: &str, more: &str| {
        let part = |keys: &str| format!("{{{keys}optimizer: {{type: SGD, lr: 0.1}}}}");
        let wrappers = format!("{{a: {}, b: {}}}", part(a), part(b));
        built(&format!("{{type: OptimWrapperDict, wrappers: {wrappers}{more}}}")).map(drop).unwrap_err()
    };
    let amp = "type: AmpOptimWrapper, ";
    for (b, more, says) in [
        ("", "", "the wrappers `a` and `b` differ in `type`, `dtype` or `loss_scale`"),
        ("type: AmpOptimWrapper, loss_scale: 8.0, ", "", "the wrappers `a` and `b` differ"),
        (amp, ", dtype: bfloat16", "`dtype` belongs to each of the `wrappers`"),
    ] {
        let said = several(amp, b, more);
        assert!(said.contains(says), "{b}{more}: {said}");
    }
}

/// Computes by means of its own, as a network of another library.
struct Foreign(ToyModel);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ForeignConfig {}

register! {
    /// A model that has single precision alone.
    dyn Model, "ForeignForTests" => fn Foreign::from_config
}

impl Foreign {
    fn from_config(_: ForeignConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self(ToyModel::new(3)))
    }
}

impl HostParams for Foreign {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        self.0.visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.0.visit_mut(f);
    }
}

impl Model for Foreign {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.0.train_step(batch, cx)
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        self.0.eval_step(batch)
    }
    fn computes_in(&self, precision: Precision) -> bool {
        precision == Precision::Full
    }
    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.0.init_weights(seed)
    }
}

/// Who does not compute in fewer bits says so at the key that asks for them, to a check and to a training alike.
#[test]
fn a_model_of_single_precision_is_trained_in_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let config = |wrapper: &str, val: &str| {
        let data = "{batch_size: 2, dataset: {type: Synthetic, n: 4, shape: [3, 1, 1], classes: 2}}";
        let text = format!(
            "model: {{type: ForeignForTests}}\ntrain_dataloader: {data}\nval_dataloader: {data}\n\
             val_evaluator: {{type: Accuracy}}\nval_cfg: {val}\noptim_wrapper: {wrapper}\n\
             train_cfg: {{by_epoch: true, max_epochs: 1}}\nwork_dir: {}\noverwrite: true\n",
            dir.path().display()
        );
        shanty::config::parse("c.yaml", &text).unwrap()
    };
    let sgd = "optimizer: {type: SGD, lr: 0.1}";
    let several = format!(
        "{{type: OptimWrapperDict, wrappers: {{toy: {{type: AmpOptimWrapper, dtype: float16, {sgd}}}}}}}"
    );
    for (wrapper, val, at, says) in [
        (
            format!("{{type: AmpOptimWrapper, {sgd}}}"),
            "{}",
            "c.yaml:6:23",
            "bfloat16: say `type: OptimWrapper`",
        ),
        (several, "{}", "c.yaml:6:51", "float16: say `type: OptimWrapper`"),
        (format!("{{{sgd}}}"), "{fp16: true}", "c.yaml:5:17", "bfloat16: leave `fp16` out"),
    ] {
        let node = config(&wrapper, val);
        let checked = check(&node, Some("c.yaml")).unwrap_err().to_string();
        let trained = RunnerBuilder::from_config(&node, Some("c.yaml")).err().unwrap().to_string();
        for said in [checked, trained] {
            assert!(said.contains(&format!("`Foreign` does not compute in {says}")), "{said}");
            assert!(said.contains(at), "{at}: {said}");
        }
    }
    let scaled = config(&format!("{{type: AmpOptimWrapper, dtype: float32, {sgd}}}"), "{}");
    RunnerBuilder::from_config(&scaled, Some("c.yaml")).unwrap().build().unwrap().train().unwrap();
    let optim = OptimWrapper::new(Sgd::new(0.1)).amp(Amp::default());
    let run = Runner::builder(Foreign(ToyModel::new(3)))
        .train(toy_data(2, true).unwrap(), EpochBasedTrainLoop::new(1), optim)
        .work_dir(dir.path().join("program"));
    let said = run.build().err().unwrap().to_string();
    assert!(said.contains("`Foreign` does not compute in bfloat16"), "{said}");
}
