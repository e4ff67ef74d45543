//! The event log of a run and the backends that show it: what is in them, that nothing stands in them twice, and that
//! none of them ends a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod board;
mod config;
mod failures;
#[cfg(all(unix, feature = "cli"))]
mod looked_at;
mod pictures;
mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use shanty::base::WallClock;
use shanty::base::fs::Disk;
use shanty::config::parse;
use shanty::hook::{HookConfig, builtin::LoggerHook};
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::{IterBasedTrainLoop, Outcome, Runner, RunnerBuilder, check};
use shanty::testing::{JudgedDisk, Op, Verdict, toy_data, toy_optim, toy_runner};
use shanty::vis::{PrometheusVisBackend, VisConfig, Visualizer, read_events};

use board::scalars_of_tensorboard;

fn backend(yaml: &str) -> (Box<dyn VisBackend>, String, VisConfig) {
    let spec = Spec::<dyn VisBackend>::parse(yaml).unwrap();
    (spec.build(&mut BuildCx::new(0)).unwrap(), spec.name().to_owned(), spec.extra.clone())
}

fn with(mut builder: RunnerBuilder, backends: &[&str]) -> RunnerBuilder {
    for yaml in backends {
        let (backend, name, config) = backend(yaml);
        builder = builder.boxed_vis_backend(backend, &name, config);
    }
    builder
}

const ALL: [&str; 3] = ["{type: LocalVisBackend}", "{type: CsvVisBackend}", "{type: TensorboardVisBackend}"];

fn vis_data(runner: &Runner) -> PathBuf {
    runner.session().state.dirs.log.join("vis_data")
}

fn events(dir: &Path) -> Vec<VisEvent> {
    read_events(&Disk, &dir.join("events.jsonl")).unwrap()
}

fn text_log(runner: &Runner) -> String {
    let state = &runner.session().state;
    fs::read_to_string(state.dirs.log.join(format!("{}.log", state.info.timestamp))).unwrap()
}

fn kinds(events: &[VisEvent]) -> Vec<&str> {
    events.iter().map(VisEvent::kind).collect()
}

fn steps(events: &[VisEvent], kind: &str) -> Vec<u64> {
    events.iter().filter(|event| event.kind() == kind).map(VisEvent::step).collect()
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// A run with a fixed time of day, in which a line is logged each iteration.
fn every_step(dir: &Path, resume: bool) -> RunnerBuilder {
    let wall = WallClock::new(|| std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_764_000_000_250));
    with(toy_runner(dir, 3, 4).unwrap().hook(LoggerHook::every(1)), &ALL).resume(resume).wall_clock(wall)
}

#[test]
fn the_event_log_tells_a_run_from_its_beginning_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = every_step(dir.path(), false)
        .on(Point::BeforeTrainEpoch, |cx, _| {
            if cx.progress.epoch == 1 {
                cx.log.warn("odd");
            }
            Ok(())
        })
        .build()
        .unwrap();
    runner.train().unwrap();
    let events = events(&vis_data(&runner));
    let epoch = ["train", "train", "train", "train", "val", "checkpoint"];
    let told: Vec<_> = kinds(&events).into_iter().filter(|kind| *kind != "warning").collect();
    assert_eq!(told.first(), Some(&"run"));
    assert_eq!(told.last(), Some(&"end"));
    for kind in epoch {
        let expected = if kind == "train" { 12 } else { 3 };
        assert_eq!(told.iter().filter(|told| **told == kind).count(), expected, "{kind}: {told:?}");
    }
    let run = &events[0];
    for key in
        ["shanty", "os", "arch", "cpu_features", "threads", "memory", "seed", "command", "data", "log_dir"]
    {
        assert!(run.get(key).is_some_and(|value| !value.is_null()), "{key}");
    }
    assert!((run.wall_time() - 1_764_000_000.25).abs() < 1e-6, "{}", run.wall_time());
    let train = events.iter().find(|event| event.kind() == "train").unwrap();
    assert_eq!((train.get("epoch"), train.get("iter"), train.step()), (Some(&json!(1)), Some(&json!(1)), 1));
    assert!(train.scalars().any(|(name, _)| name == "loss"));
    let val = events.iter().rfind(|event| event.kind() == "val").unwrap();
    assert_eq!((val.get("epoch"), val.get("iter"), val.step()), (Some(&json!(3)), Some(&json!(12)), 3));
    let saved = events.iter().find(|event| event.kind() == "checkpoint").unwrap();
    assert_eq!((saved.text("path"), saved.get("iter")), ("epoch_1", Some(&json!(4))));
    assert!(events.iter().any(|event| event.kind() == "warning" && event.text("text") == "odd"));
    let end = events.last().unwrap();
    assert_eq!((end.text("reason"), end.get("iter")), ("finished", Some(&json!(12))));
}

/// Lines behind the checkpoint are not taken over: what the cut run logged after it comes again.
#[test]
fn nothing_stands_twice_in_any_view_after_a_kill_and_a_resume() {
    let whole_dir = tempfile::tempdir().unwrap();
    let mut whole = every_step(whole_dir.path(), false).build().unwrap();
    whole.train().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let kill = |cx: &mut Ctx<'_>, _: &mut Event<'_>| match cx.progress.iter {
        10 => Err("killed".into()),
        _ => Ok(()),
    };
    every_step(dir.path(), false).on(Point::BeforeTrainIter, kill).build().unwrap().train().unwrap_err();
    // As a kill leaves it: without an emergency checkpoint.
    fs::remove_dir_all(dir.path().join("emergency_iter_10")).ok();
    let mut cut = every_step(dir.path(), true).build().unwrap();
    cut.train().unwrap();
    let (whole, cut) = (vis_data(&whole), vis_data(&cut));
    let told = events(&cut);
    assert_eq!(steps(&told, "train"), (1..=12).collect::<Vec<_>>());
    assert_eq!(steps(&told, "val"), [1, 2, 3]);
    assert_eq!(kinds(&told).iter().filter(|kind| **kind == "run").count(), 1);
    assert_eq!(kinds(&told).iter().filter(|kind| **kind == "end").count(), 1);
    let resumed = told.iter().find(|event| event.kind() == "resume").unwrap();
    assert_eq!((resumed.text("checkpoint"), resumed.get("iter")), ("epoch_2", Some(&json!(8))));
    let saved: Vec<_> =
        told.iter().filter(|event| event.kind() == "checkpoint").map(|e| e.text("path")).collect();
    assert_eq!(saved, ["epoch_1", "epoch_2", "epoch_3"]);
    // All but what is measured by a clock.
    let timeless = |name: &str| !["time", "data_time", "memory", "val/time", "val/data_time"].contains(&name);
    let scalars = |dir: &Path| -> Vec<Vec<(String, f64)>> {
        let lines = shanty::vis::read_scalars(&dir.join("scalars.json")).unwrap();
        lines.into_iter().map(|line| line.into_iter().filter(|(n, _)| timeless(n)).collect()).collect()
    };
    assert_eq!(scalars(&cut), scalars(&whole));
    assert_eq!(scalars(&cut).len(), 15);
    let board = |dir: &Path| {
        let mut all = scalars_of_tensorboard(dir);
        all.retain(|tag, _| timeless(tag));
        all
    };
    assert_eq!(board(&cut), board(&whole));
    assert_eq!(
        board(&cut)["loss"].iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        (1..=12).collect::<Vec<_>>()
    );
    for (file, lines) in [("train.csv", 13), ("val.csv", 4)] {
        let (here, there) = (rows(&cut.join(file)), rows(&whole.join(file)));
        assert_eq!((here.len(), &here[0]), (lines, &there[0]));
        assert!(here.iter().all(|row| row.len() == here[0].len()));
        let step = |row: &Vec<String>| row[0].clone();
        assert_eq!(here.iter().map(step).collect::<Vec<_>>(), there.iter().map(step).collect::<Vec<_>>());
    }
}

/// A scalar that appears later is a column at the end; names with commas are quoted; what is not finite is told.
#[test]
fn a_late_column_leaves_earlier_rows_empty() {
    let dir = tempfile::tempdir().unwrap();
    let mut vis = Visualizer::new(
        Arc::new(Disk),
        dir.path(),
        dir.path(),
        WallClock::default(),
        ALL.iter().map(|yaml| backend(yaml)).collect(),
    );
    vis.begin(VisEvent::new).unwrap();
    vis.add_scalars(&[("loss", 0.5)], 1);
    vis.add_scalars(&[("loss", f64::NAN), ("a,b", 2.0), ("step", 7.0)], 2);
    let text = fs::read_to_string(dir.path().join("scalars.csv")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "step,epoch,iter,wall_time,loss,\"a,b\",step");
    assert!(lines[1].starts_with("1,,,2") && lines[1].ends_with(",0.5,,"), "{text}");
    assert!(lines[2].starts_with("2,,,2") && lines[2].ends_with(",NaN,2,7"), "{text}");
    let told = events(dir.path());
    assert_eq!(told[2].scalars().map(|(name, _)| name).collect::<Vec<_>>(), ["loss", "a,b", "step"]);
    assert_eq!(told[2].step(), 2);
}

/// A run that goes back tells its scalars again; what was saved and said meanwhile stays.
#[test]
fn what_a_rollback_undoes_goes_from_every_view() {
    let dir = tempfile::tempdir().unwrap();
    let backends = ALL.iter().map(|yaml| backend(yaml)).collect();
    let mut vis = Visualizer::new(Arc::new(Disk), dir.path(), dir.path(), WallClock::default(), backends);
    vis.begin(VisEvent::new).unwrap();
    vis.add_scalars(&[("loss", 1.0)], 1);
    let before = vis.written();
    vis.add_scalars(&[("loss", 2.0)], 2);
    vis.add(VisEvent::new("warning").with("text", "back"));
    vis.add_scalars(&[("loss", 3.0)], 3);
    vis.rewind(before).unwrap();
    vis.add_scalars(&[("loss", 4.0)], 2);
    let told = events(dir.path());
    assert_eq!(kinds(&told), ["run", "scalars", "warning", "scalars"]);
    assert_eq!(steps(&told, "scalars"), [1, 2]);
    assert_eq!(scalars_of_tensorboard(dir.path())["loss"], [(1, 1.0), (2, 4.0)]);
    assert_eq!(
        rows(&dir.path().join("scalars.csv")).iter().map(|row| row[0].clone()).collect::<Vec<_>>(),
        ["step", "1", "2"]
    );
    let lines = shanty::vis::read_scalars(&dir.path().join("scalars.json")).unwrap();
    assert_eq!(
        lines,
        [[("loss".into(), 1.0), ("step".into(), 1.0)], [("loss".into(), 4.0), ("step".into(), 2.0)]]
    );
}
