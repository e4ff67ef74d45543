//! Tables of metrics reach the text log, `vis_data/tables.json`, and whoever asks `shanty test`; a resumed run has each
//! once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shanty::config::{load, parse};
use shanty::model::{Model, Outputs, StepCx};
use shanty::params::{HostParams, ParamMut, ParamRef};
use shanty::plugin::prelude::*;
use shanty::run::{EpochBasedTrainLoop, Runner};
use shanty::testing::{ToyModel, toy_data, toy_optim, toy_runner, toy_runner_of};

fn shops(work: &Path, resume: bool) -> Runner {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/shops_mlp.yaml");
    let set = [
        format!("work_dir={}", serde_json::to_string(work).unwrap()),
        "train_cfg.max_epochs=3".into(),
        "train_cfg.val_interval=1".into(),
        "default_hooks.checkpoint.interval=1".into(),
        format!("resume={resume}"),
    ];
    Runner::from_config(&load(&config, &set).unwrap(), Some("shops.yaml")).unwrap()
}

fn vis_data(runner: &Runner) -> PathBuf {
    runner.session().state.dirs.log.join("vis_data")
}

fn lines(runner: &Runner) -> Vec<Value> {
    let text = fs::read_to_string(vis_data(runner).join("tables.json")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Fails at this point once so many epochs are done.
struct Killer(Point, u64);

impl Hook for Killer {
    fn on_event(&mut self, cx: &mut Ctx<'_>, _: &mut Event<'_>) -> HookResult {
        if cx.point == self.0 && cx.progress.epoch == self.1 { Err("killed".into()) } else { Ok(()) }
    }
}

/// They were counted and thrown away. A row and a column has the name of its class.
#[test]
fn a_table_of_each_validation_is_written_with_the_names_of_the_classes() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = shops(dir.path(), false);
    runner.train().unwrap();
    let all = lines(&runner);
    let steps: Vec<&Value> = all.iter().map(|line| &line["step"]).collect();
    assert_eq!(steps, [&json!(1), &json!(2), &json!(3)]);
    let classes = json!(["rarely", "sometimes", "often"]);
    for line in &all {
        assert_eq!((&line["name"], &line["mode"]), (&json!("confusion_matrix/result"), &json!("val")));
        assert_eq!((&line["rows"], &line["columns"]), (&classes, &classes));
        assert_eq!(line["axes"], json!(["truth", "prediction"]));
    }
    let metrics = runner.val().unwrap();
    let (_, table) = &metrics.tables()[0];
    let (all, right) = (table.values().sum(), table.values().diag().sum());
    assert!((metrics.get("accuracy/top1").unwrap() - 100.0 * right / all).abs() < 1e-9, "{table}");
    let log = runner.session().state.dirs.log.clone();
    let log = log.join(log.file_name().unwrap()).with_extension("log");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains(&format!("confusion_matrix/result:\n{table}\n")), "{log}");
}

/// Wherever a run is cut, the table of a validation stands there once: that of the epoch before, and the one that was
/// owed.
#[test]
fn no_table_is_lost_or_written_twice_by_a_resumed_run() {
    let whole = tempfile::tempdir().unwrap();
    let mut runner = shops(whole.path(), false);
    runner.train().unwrap();
    let expected = lines(&runner);
    for point in [Point::BeforeVal, Point::AfterVal, Point::BeforeTrainEpoch] {
        for epoch in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            let mut first = shops(dir.path(), false);
            first.add_hook(Killer(point, epoch)).unwrap();
            first.train().unwrap_err();
            let mut second = shops(dir.path(), true);
            second.train().unwrap();
            assert_eq!(lines(&second), expected, "{point:?} {epoch}");
        }
    }
}

/// A run without tables has no file of them.
#[test]
fn a_run_without_tables_has_no_file_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = toy_runner(dir.path(), 1, 3).unwrap().build().unwrap();
    runner.train().unwrap();
    assert!(!vis_data(&runner).join("tables.json").exists());
}

/// A classifier of thirty classes has more than a log can show: the file has all of it.
#[test]
fn a_large_table_is_shortened_in_the_log_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "{{work_dir: {}, model: {{type: Supervised, network: [{{type: Flatten}}, {{type: Linear, in_features: 4, out_features: 30}}], \
         loss: {{type: CrossEntropyLoss}}}}, val_evaluator: {{type: ConfusionMatrix}}, val_cfg: {{}}, \
         val_dataloader: {{batch_size: 30, dataset: {{type: Synthetic, n: 60, shape: [1, 2, 2], classes: 30}}}}}}",
        serde_json::to_string(dir.path()).unwrap()
    );
    let mut runner = Runner::from_config(&parse("c.yaml", &text).unwrap(), None).unwrap();
    runner.val().unwrap();
    let rows = lines(&runner)[0]["values"].as_array().unwrap().len();
    assert_eq!(rows, 30);
    let log = runner.session().state.dirs.log.clone();
    let log = fs::read_to_string(log.join(log.file_name().unwrap()).with_extension("log")).unwrap();
    assert!(log.contains("(the first 20 × 20 of 30 × 30)"), "{log}");
}

#[cfg(feature = "cli")]
#[test]
fn the_command_prints_tables_and_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    shops(dir.path(), false).train().unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/shops_mlp.yaml");
    let out = dir.path().join("out.json");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shanty"));
    command.args(["test", config]).arg(dir.path().join("epoch_3")).arg("--out").arg(&out);
    let work_dir = format!("work_dir={}", dir.path().join("test").display());
    let said = command.args(["--set", &work_dir]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(
        said.status.success() && text.contains("confusion_matrix/result:\ntruth \\ prediction  "),
        "{said:?}"
    );
    let written: Value = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
    let table = &written["confusion_matrix/result"];
    assert_eq!(table["axes"], json!(["truth", "prediction"]), "nothing said which axis is the truth");
    assert_eq!((&table["rows"][2], &table["columns"][2]), (&json!("often"), &json!("often")));
    let right = table["values"][2][2].as_u64().unwrap().to_string();
    let line = text.lines().find(|line| line.starts_with("often")).unwrap();
    assert!(line.ends_with(&right), "{line}");
    // Each customer of the validation data is in the row of what is true of him.
    let shops = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/data/shops.csv")).unwrap();
    let often = shops.lines().filter(|line| line.contains("often") && line.contains("val")).count() as u64;
    let row: u64 = table["values"][2].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(row, often);
}

/// A model that forgets to say what it optimised.
struct Silent(ToyModel);

impl HostParams for Silent {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        self.0.visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.0.visit_mut(f);
    }
}

impl Model for Silent {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> shanty::base::Result<Outputs> {
        let mut outputs = self.0.train_step(batch, cx)?;
        outputs.vars[0].0 = "cost".into();
        Ok(outputs)
    }
    fn eval_step(&mut self, batch: &Batch) -> shanty::base::Result<Outputs> {
        self.0.eval_step(batch)
    }
    fn init_weights(&mut self, seed: u64) -> shanty::base::Result<Vec<String>> {
        self.0.init_weights(seed)
    }
}

/// It was accepted, and the log, the check for NaN and `save_best` had nothing to go by.
#[test]
fn a_model_that_gives_no_loss_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (data, model) = (toy_data(3, true).unwrap(), Silent(ToyModel::new(3)));
    let runner = toy_runner_of(dir.path(), model, data, EpochBasedTrainLoop::new(1), toy_optim()).unwrap();
    let text = runner.build().unwrap().train().unwrap_err().to_string();
    assert!(text.contains("`Silent` gives no `loss`, but [cost]"), "{text}");
    assert!(text.contains("outputs.vars.push((\"loss\".into(), loss))"), "{text}");
}
