//! A run with every built-in hook on, stopped and resumed at 20 random iterations, ends byte for byte as one that was
//! not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::BTreeMap;
use std::path::Path;

use rand::RngExt;
use shanty::base::keyed;
use shanty::data::{DataLoader, Synthetic};
use shanty::hook::HookConfig;
use shanty::metric::Accuracy;
use shanty::model::{ClsHead, ImageClassifier};
use shanty::nn::{BatchNorm2d, Dropout, Flatten, Linear, Sequential, Traced};
use shanty::optim::{OptimWrapper, Sgd};
use shanty::plugin::prelude::*;
use shanty::registry::{Spec, entries};
use shanty::run::{EpochBasedTrainLoop, Outcome, Runner, RunnerBuilder};

/// Every built-in hook but the six default ones, which are there anyway.
const HOOKS: [&str; 20] = [
    "{type: CheckInvalidLossHook, interval: 1}",
    "{type: DigestHook, interval: 3}",
    "{type: EMAHook, momentum: 0.1, interval: 2, begin_iter: 3}",
    "{type: EarlyStoppingHook, monitor: accuracy/top1, patience: 99}",
    "{type: HistogramHook, interval: 4}",
    "{type: PreciseBNHook, num_samples: 8}",
    "{type: LSUVHook}",
    "{type: NumClassCheckHook}",
    "{type: ClassNumCheckHook}",
    "{type: FreezeHook, modules: backbone, end: 2}",
    "{type: SyncBuffersHook}",
    "{type: EmptyCacheHook}",
    "{type: VisualizationHook, enable: true, interval: 3}",
    "{type: WorstSamplesHook, number: 2}",
    "{type: SwitchRecipeHook, schedule: [{action_epoch: 2, train_pipeline: [{type: RandomFlip, prob: 0.5}]}]}",
    "{type: PipelineSwitchHook, switch_epoch: 3, switch_pipeline: []}",
    "{type: WarmupParamHook, param_name: p, module_name: student.backbone.2, warmup_epochs: 2}",
    "{type: MeanTeacherHook, momentum: 0.2}",
    "{type: PrepareTTAHook, tta_cfg: {type: AverageClsScoreTTA}}",
    "{type: ProfilerHook, by_epoch: false, profile_times: 1}",
];
const DEFAULT: [&str; 6] = [
    "RuntimeInfoHook",
    "IterTimerHook",
    "DistSamplerSeedHook",
    "LoggerHook",
    "ParamSchedulerHook",
    "CheckpointHook",
];
const EPOCHS: u64 = 4;
const BATCHES: usize = 4;

struct Taught {
    student: ImageClassifier,
    teacher: ImageClassifier,
}
shanty::module!(Taught { student, teacher });

impl Model for Taught {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.student.train_step(batch, cx)
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        self.teacher.eval_step(batch)
    }
    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.student.init_weights(seed)
    }
    fn trace(&mut self, batch: &Batch) -> Result<Vec<Traced>> {
        self.student.trace(batch)
    }
    fn set_trainable(&mut self, module: &str, trainable: bool) -> Result<()> {
        self.student.set_trainable(module, trainable)
    }
    fn number_mut(&mut self, module: &str, name: &str) -> Option<&mut f64> {
        shanty::nn::find_mut(self, module)?.number_mut(name)
    }
}

fn net() -> ImageClassifier {
    let layers = Sequential::new().with(BatchNorm2d::new(1)).with(Flatten::default());
    let layers = layers.with(Dropout::new(0.5)).with(Linear::new(9, 2));
    ImageClassifier::new(layers, ClsHead::default())
}

fn images(batches: usize) -> DataLoader {
    let data = Synthetic::new(batches * 4, [1, 3, 3], 2, 0);
    DataLoader::new(data).batch_size(4).shuffle(true).num_workers(2).seed(7)
}

fn run(dir: &Path) -> RunnerBuilder {
    let optim = OptimWrapper::new(Sgd::new(0.1).momentum(0.9)).accumulate(3);
    let mut builder = Runner::builder(Taught { student: net(), teacher: net() })
        .train(images(BATCHES), EpochBasedTrainLoop::new(EPOCHS), optim)
        .val(images(2), Accuracy::new(vec![1], vec![None]).unwrap())
        .work_dir(dir)
        .seed(3)
        .timer(|| 0.0)
        .on(Point::AfterTrainIter, |_, _| Ok(()));
    let mut cx = BuildCx::new(3);
    for text in HOOKS {
        let spec = Spec::<dyn Hook>::parse(text).unwrap();
        let options: HookConfig = spec.extra.clone();
        builder = builder.boxed_hook(spec.build(&mut cx).unwrap(), spec.name(), options);
    }
    builder
}

#[test]
fn the_list_has_every_built_in_hook() {
    let listed: Vec<String> =
        HOOKS.iter().map(|text| Spec::<dyn Hook>::parse(text).unwrap().name().to_owned()).collect();
    let built_in = entries("hook").filter(|e| e.origin.krate() == "shanty").map(|e| e.name);
    let missing: Vec<_> =
        built_in.filter(|name| !DEFAULT.contains(name) && !listed.iter().any(|l| l == name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The files of the last checkpoint; of `state.json` what does not name the run or its folder.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let home = dir.join(format!("epoch_{EPOCHS}"));
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(home).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut bytes = std::fs::read(&path).unwrap();
        match name.as_str() {
            "manifest.json" => continue,
            "state.json" => {
                let mut state: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                for key in ["experiment_name", "run", "log_dir", "events"] {
                    state["meta"][key] = serde_json::Value::Null;
                }
                // Names of the checkpoints that this run wrote.
                state["hooks"]["CheckpointHook"] = serde_json::Value::Null;
                bytes = state.to_string().into_bytes();
            }
            _ => {}
        }
        files.insert(name, bytes);
    }
    files
}

#[test]
fn twenty_random_cuts_end_in_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    assert_eq!(run(whole.path()).build().unwrap().train().unwrap(), Outcome::Finished);
    let expected = files(whole.path());
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        ["hooks.safetensors", "model.safetensors", "optimizer.safetensors", "state.json"]
    );
    let mut rng = keyed(20, "cuts", 0, 0);
    for _ in 0..20 {
        let cut = rng.random_range(1..EPOCHS * BATCHES as u64);
        let dir = tempfile::tempdir().unwrap();
        let stop = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
            if cx.progress.iter == cut {
                cx.stop("cut");
            }
            Ok(())
        };
        let mut first = run(dir.path()).on(Point::AfterTrainIter, stop).build().unwrap();
        assert!(matches!(first.train().unwrap(), Outcome::Stopped(_)));
        let mut second = run(dir.path()).resume(true).build().unwrap();
        assert_eq!(second.train().unwrap(), Outcome::Finished);
        for (name, bytes) in files(dir.path()) {
            assert!(bytes == expected[&name], "cut after iteration {cut}: {name} differs");
        }
    }
}
