//! Two batches are validated before a training begins: what cannot work is known in seconds, and nothing of it remains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shanty::config::parse;
use shanty::metric::{Metric, Predictions};
use shanty::plugin::prelude::*;
use shanty::run::{EpochBasedTrainLoop, Runner, RunnerBuilder};
use shanty::testing::{ToyModel, toy_data};

fn config(dir: &Path, rest: &str) -> shanty::config::Node {
    let text = format!(
        "model:\n  type: ImageClassifier\n  backbone: [{{type: Flatten}}, {{type: Linear, in_features: 64, out_features: 8}}, \
         {{type: BatchNorm1d, num_features: 8}}, {{type: Dropout, p: 0.5}}, \
         {{type: Linear, in_features: 8, out_features: 10}}]\n  head: {{type: ClsHead}}\n\
         train_dataloader: {{batch_size: 8, dataset: {{type: Synthetic, n: 32}}}}\n\
         val_dataloader: {{batch_size: 8, dataset: {{type: Synthetic, n: 32}}}}\nval_cfg: {{}}\n\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1, momentum: 0.9}}}}\n\
         train_cfg: {{by_epoch: true, max_epochs: 2}}\nrandomness: {{seed: 3}}\nwork_dir: {}\n{rest}",
        dir.display()
    );
    parse("run.yaml", &text).unwrap()
}

const ACCURACY: &str = "val_evaluator: {type: Accuracy}\n";

/// Everything that a run leaves behind, but for times and dates.
fn result(sanity: bool) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::from_config(&config(dir.path(), ACCURACY), None).unwrap();
    if !sanity {
        runner.skip_sanity_check();
    }
    runner.train().unwrap();
    let last = shanty::checkpoint::load(&dir.path().join("epoch_2")).unwrap();
    let scalars = runner.session().state.dirs.log.join("vis_data/scalars.json");
    let lines = std::fs::read_to_string(scalars).unwrap();
    let times = regex_lite::Regex::new(r#""(val/)?(time|data_time|memory|eta)":[^,}]*"#).unwrap();
    let lines = lines.lines().map(|line| times.replace_all(line, "").into_owned()).collect();
    (format!("{:?}", shanty::checkpoint::digest::parts(&last)), lines)
}

#[test]
fn weights_state_and_scalars_do_not_depend_on_it() {
    assert_eq!(result(true), result(false));
}

#[test]
fn a_metric_that_cannot_work_is_known_before_the_first_iteration() {
    let dir = tempfile::tempdir().unwrap();
    let node = config(dir.path(), "val_evaluator: {type: Accuracy, topk: [1, 50]}\n");
    let mut runner = Runner::from_config(&node, None).unwrap();
    let error = runner.train().unwrap_err().to_string();
    assert!(
        error.contains("topk 50 is more than the 10 classes") && error.contains("`--no-sanity`"),
        "{error}"
    );
    assert_eq!(runner.session().state.progress.iter, 0);
    let mut runner = Runner::from_config(&node, None).unwrap();
    runner.skip_sanity_check();
    assert!(runner.train().is_err());
    assert_eq!(runner.session().state.progress.iter, 4, "after the first epoch");
}

/// A metric that gives other values than it says, and a hook that goes by one of them.
struct Liar(Arc<AtomicU64>);
impl Metric for Liar {
    fn process(&mut self, _: &Predictions<'_>) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn compute(&self) -> Result<Vec<(String, f64)>> {
        Ok(vec![("truth".into(), 1.0)])
    }
    fn reset(&mut self) {}
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A toy run with this metric; the batches that it counted before the training began.
fn run(dir: &Path, counted: &Arc<AtomicU64>) -> (RunnerBuilder, Arc<AtomicU64>) {
    let before = Arc::new(AtomicU64::new(u64::MAX));
    let (seen, count) = (Arc::clone(&before), Arc::clone(counted));
    let builder = Runner::builder(ToyModel::new(3))
        .train(toy_data(4, true).unwrap(), EpochBasedTrainLoop::new(4), shanty::optim::Sgd::new(0.1))
        .val(toy_data(4, false).unwrap(), Liar(Arc::clone(counted)))
        .work_dir(dir)
        .seed(0)
        .on(Point::BeforeTrain, move |_, _| {
            seen.store(count.load(Ordering::Relaxed), Ordering::Relaxed);
            Ok(())
        });
    (builder, before)
}

#[test]
fn a_value_that_only_the_data_shows_to_be_absent_is_missed_before_the_training() {
    let dir = tempfile::tempdir().unwrap();
    let counted = Arc::default();
    let (builder, _) = run(dir.path(), &counted);
    let stopping = shanty::hook::builtin::EarlyStoppingHook::new("accuracy");
    let error = builder.hook(stopping).build().unwrap().train().unwrap_err().to_string();
    assert!(error.contains("reads the metric `accuracy`") && error.contains("it gives truth"), "{error}");
}

#[test]
fn a_resumed_run_and_one_that_leaves_it_out_count_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let counted = Arc::default();
    let (builder, before) = run(dir.path(), &counted);
    builder
        .on(Point::AfterTrainIter, |cx, _| {
            if cx.progress.iter == 5 {
                cx.stop("far enough");
            }
            Ok(())
        })
        .build()
        .unwrap()
        .train()
        .unwrap();
    assert_eq!(before.load(Ordering::Relaxed), 2);
    let already = counted.load(Ordering::Relaxed);
    let (builder, before) = run(dir.path(), &counted);
    builder.resume(true).build().unwrap().train().unwrap();
    assert_eq!(before.load(Ordering::Relaxed), already, "mid-run it was validated before");
    let (builder, before) = run(&dir.path().join("other"), &Arc::default());
    builder.sanity_check(false).build().unwrap().train().unwrap();
    assert_eq!(before.load(Ordering::Relaxed), 0);
}

/// A checkpoint gives all weights: the file that the first ones came from may be gone.
#[test]
fn val_does_not_read_the_pretrained_file_when_a_checkpoint_is_given() {
    let dir = tempfile::tempdir().unwrap();
    Runner::from_config(&config(dir.path(), ACCURACY), None).unwrap().train().unwrap();
    let weights = dir.path().join("weights.safetensors");
    std::fs::copy(dir.path().join("epoch_1/model.safetensors"), &weights).unwrap();
    let mut node = config(dir.path(), ACCURACY).to_yaml();
    let init = format!("  init_cfg: {{type: Pretrained, checkpoint: {}}}\n  head:", weights.display());
    node = node.replacen("  head:", &init, 1);
    let with = |load_from: Option<&str>| {
        let load_from = load_from.map(|name| format!("load_from: {}\n", dir.path().join(name).display()));
        let text = format!("{node}\n{}", load_from.unwrap_or_default());
        Runner::from_config(&parse("run.yaml", &text).unwrap(), None).unwrap()
    };
    let metrics = with(Some("epoch_2")).val().unwrap();
    std::fs::remove_file(&weights).unwrap();
    assert!(with(None).val().is_err(), "without a checkpoint it is needed");
    assert_eq!(with(Some("epoch_2")).val().unwrap(), metrics);
}
