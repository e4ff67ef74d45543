//! What `train` refuses before its first iteration, `check` refuses too, and nothing that a run takes: mutants of the
//! shipped configs, in one process.
//!
//! `SHANTY_MUTANTS=2000` tries that many, `SHANTY_MUTANT=17` one of them and prints it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rand::RngExt;
use shanty::base::Error;
use shanty::base::{Rng, keyed};
use shanty::config::{Key, Kind, Level, Node, load, parse};
use shanty::plugin::prelude::*;
use shanty::run::{Runner, check};

/// Data that is there, small, and of the shape that the configs expect.
const DATA: &str = "{type: Synthetic, n: 12, shape: [1, 28, 28], pipeline: [{type: Resize, scale: 32}]}";

/// Pictures in colour, through a pipeline that draws.
const COLOURED: &str = "{type: Synthetic, n: 12, shape: [3, 40, 40], classes: 5, pipeline: [{type: RandomResizedCrop, scale: 32, \
    backend: pillow}, {type: RandomFlip, prob: 0.5}, {type: PackInputs}]}";

/// The shipped configs, and one with what they do not use.
fn originals() -> Vec<(String, Node)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut all = Vec::new();
    let files = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let mut set = vec!["default_hooks.logger.interval=1".to_owned()];
        let of_all = |text: &str| ["train", "val", "test"].map(|mode| format!("{mode}_dataloader.{text}"));
        match name {
            "mnist_lenet5" => set.extend(of_all(&format!("dataset={DATA}"))),
            "finetune_resnet18" => {
                set.extend(of_all(&format!("dataset={COLOURED}")).into_iter().chain(of_all("batch_size=4")));
                let small = ["backbone.base_channels=4", "backbone.init_cfg=null", "head.in_channels=32"];
                set.extend(small.map(|text| format!("model.{text}")));
            }
            _ => {}
        }
        all.push((name.to_owned(), load(&path, &set).unwrap()));
    }
    all.push(("wide".to_owned(), parse("wide.yaml", include_str!("fixtures/wide.yaml")).unwrap()));
    all
}

/// The paths of all values but the top, as steps.
fn places(node: &Node, path: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    let children: Vec<&Node> = match &*node.kind {
        Kind::Map(entries) => entries.iter().map(|(_, value)| value).collect(),
        Kind::Seq(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    for (i, child) in children.into_iter().enumerate() {
        path.push(i);
        all.push(path.clone());
        places(child, path, all);
        path.pop();
    }
}

/// The tree with the container of the value at `path` changed by `change`, which gets the value's position.
fn changed(node: &Node, path: &[usize], change: &mut dyn FnMut(&mut Kind, usize)) -> Node {
    let mut kind = (*node.kind).clone();
    match path {
        [at] => change(&mut kind, *at),
        [at, rest @ ..] => match &mut kind {
            Kind::Map(entries) => entries[*at].1 = changed(&entries[*at].1, rest, change),
            Kind::Seq(items) => items[*at] = changed(&items[*at], rest, change),
            _ => {}
        },
        [] => {}
    }
    of_kind(node, kind)
}

/// The place of `node` with another value.
fn of_kind(node: &Node, kind: Kind) -> Node {
    let mut other = node.clone();
    other.kind = Arc::new(kind);
    other
}

/// A value that nobody meant.
fn odd(old: &Node, rng: &mut Rng, types: &[String]) -> Kind {
    let numbers = [
        Kind::Int(0),
        Kind::Int(-1),
        Kind::Int(1),
        Kind::Int(3),
        Kind::Int(11),
        Kind::Int(1000),
        Kind::Int(1_000_000_000),
        Kind::Int(70_000),
        Kind::Uint(u64::MAX),
        Kind::Int(i64::MAX),
        Kind::Int(1 << 40),
        Kind::Float(0.5),
        Kind::Float(-0.5),
        Kind::Float(1.0),
        Kind::Float(2.5),
        Kind::Float(1e300),
        Kind::Float(1e-300),
        Kind::Float(f64::NAN),
        Kind::Float(f64::INFINITY),
        Kind::Float(f64::NEG_INFINITY),
    ];
    let near = match &*old.kind {
        Kind::Int(n) => {
            [n.saturating_sub(1), n.saturating_add(1), n.saturating_mul(2), n / 2].map(Kind::Int).to_vec()
        }
        Kind::Float(x) => [x - 1.0, x + 1.0, x * 2.0, x / 2.0].map(Kind::Float).to_vec(),
        _ => numbers.to_vec(),
    };
    let number = |rng: &mut Rng| {
        let from = if rng.random_bool(0.5) { &near[..] } else { &numbers };
        from[rng.random_range(0..from.len())].clone()
    };
    match (&*old.kind, rng.random_range(0..6)) {
        (_, 0) => Kind::Null,
        (Kind::Str(_), 1 | 2) => Kind::Str(types[rng.random_range(0..types.len())].clone()),
        (Kind::Str(text), 3) => Kind::Str(format!("{text}x")),
        (Kind::Str(_), 4) => Kind::Str(String::new()),
        (Kind::Bool(b), 1..=4) => Kind::Bool(!b),
        (Kind::Seq(items), 1) if !items.is_empty() => {
            let twice = items[rng.random_range(0..items.len())].clone();
            Kind::Seq(items.iter().cloned().chain([twice]).collect())
        }
        (Kind::Seq(items), 2) if items.len() > 1 => Kind::Seq(items.iter().rev().cloned().collect()),
        (Kind::Seq(_), 3) => Kind::Seq(Vec::new()),
        (Kind::Map(_), 3) => Kind::Map(Vec::new()),
        (_, 5) => Kind::Seq(vec![old.clone(), of_kind(old, number(rng))]),
        _ => number(rng),
    }
}

/// The strings and the names of types that a config holds.
fn words(node: &Node, all: &mut Vec<String>) {
    all.extend(node.as_str().map(str::to_owned));
    node.entries().iter().for_each(|(_, value)| words(value, all));
    node.items().iter().for_each(|item| words(item, all));
}

/// Another type of the same kind as `name`.
fn akin(name: &str, rng: &mut Rng) -> Option<String> {
    let (kind, _) = shanty::registry::find(name).next()?;
    let all: Vec<_> = shanty::registry::entries(kind).map(|entry| entry.name).collect();
    Some(all[rng.random_range(0..all.len())].to_owned())
}

/// A change of the whole: parts that are missing, or a loader whose last batch is a sample.
fn rebuilt(original: &Node, rng: &mut Rng) -> (Node, String) {
    let mode = ["train", "val", "test"][rng.random_range(0..3)];
    let parts = [format!("{mode}_dataloader"), format!("{mode}_cfg"), format!("{mode}_evaluator")];
    let of_key = |node: &Node, key: &str, change: &dyn Fn(&Node) -> Node| {
        let entries = node.entries().iter();
        let entries = entries.map(|(k, v)| (k.clone(), if k.text == key { change(v) } else { v.clone() }));
        of_kind(node, Kind::Map(entries.collect()))
    };
    match rng.random_range(0..3) {
        0 => {
            let part = &parts[rng.random_range(0..3)];
            (without(original, part), format!("without {part}"))
        }
        1 => {
            let node = parts.iter().fold(original.clone(), |node, part| without(&node, part));
            (node, format!("without all of {mode}"))
        }
        _ => {
            let size = [1, 5, 11, 12, 13][rng.random_range(0..5)];
            let change = |loader: &Node| of_key(loader, "batch_size", &|old| of_kind(old, Kind::Int(size)));
            (of_key(original, &parts[0], &change), format!("{mode} in batches of {size}"))
        }
    }
}

/// One mutant; what was done to it in words.
fn mutant(original: &Node, rng: &mut Rng) -> (Node, String) {
    let mut all = Vec::new();
    places(original, &mut Vec::new(), &mut all);
    if rng.random_bool(0.1) {
        return rebuilt(original, rng);
    }
    let mut strings = Vec::new();
    words(original, &mut strings);
    let kinds = [
        "module",
        "transform",
        "dataset",
        "hook",
        "optimizer",
        "param_scheduler",
        "metric",
        "loss",
        "head",
        "initializer",
    ];
    let types: Vec<String> = kinds
        .iter()
        .flat_map(|kind| shanty::registry::entries(kind).map(|entry| entry.name.to_owned()))
        .collect();
    let path = all[rng.random_range(0..all.len())].clone();
    let mut what = String::new();
    let node = changed(original, &path, &mut |kind, at| match kind {
        Kind::Map(entries) => {
            let name = entries[at].0.text.clone();
            let string = entries[at].1.as_str().map(str::to_owned);
            match rng.random_range(0..12) {
                0 => {
                    what = format!("without `{name}`");
                    entries.remove(at);
                }
                8 | 9 if string.is_some() => {
                    let other = match (name.as_str(), &string) {
                        ("type", Some(old)) => akin(old, rng).unwrap_or_default(),
                        _ => strings[rng.random_range(0..strings.len())].clone(),
                    };
                    what = format!("`{name}: {other}`");
                    entries[at].1 = of_kind(&entries[at].1, Kind::Str(other));
                }
                10 => {
                    let other = rng.random_range(0..entries.len());
                    what = format!("`{name}` at place {other}");
                    entries.swap(at, other);
                }
                1 => {
                    what = format!("`{name}` misspelt");
                    let key = Key { text: format!("{name}x"), ..entries[at].0.clone() };
                    entries[at].0 = key;
                }
                _ => {
                    let new = odd(&entries[at].1, rng, &types);
                    entries[at].1 = of_kind(&entries[at].1, new);
                    what = format!("`{name}: {}`", entries[at].1.to_yaml().trim());
                }
            }
        }
        Kind::Seq(items) => match rng.random_range(0..5) {
            4 => {
                let other = rng.random_range(0..items.len());
                what = format!("item {at} at place {other}");
                items.swap(at, other);
            }
            0 => {
                what = format!("without item {at}");
                items.remove(at);
            }
            1 => {
                what = format!("item {at} twice");
                items.insert(at, items[at].clone());
            }
            _ => {
                let new = odd(&items[at], rng, &types);
                items[at] = of_kind(&items[at], new);
                what = format!("item {at}: `{}`", items[at].to_yaml().trim());
            }
        },
        _ => {}
    });
    (node, what)
}

/// The last hook in line: the first iteration is done.
struct Reached;
impl Hook for Reached {
    fn priority(&self) -> Priority {
        Priority::HIGHEST
    }
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        cx.stop("reached");
        Ok(())
    }
}

/// What keeps a training from its first iteration.
fn refused(node: &Node) -> Option<String> {
    let mut runner = match Runner::from_config(node, Some("mutant.yaml")) {
        Ok(runner) => runner,
        Err(error) => return Some(error.to_string()),
    };
    if node.get("train_dataloader").is_none_or(Node::is_null) {
        return None;
    }
    runner.add_hook(Reached).unwrap();
    match runner.train() {
        Err(error) if runner.session().state.progress.iter == 0 => Some(error.to_string()),
        _ => None,
    }
}

/// Iterations that a run goes through to show that it takes a config: an epoch of the longest of the originals, and
/// more.
const ENOUGH: u64 = 50;

/// Ends a training that has shown enough.
struct Enough;
impl Hook for Enough {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        if cx.progress.iter >= ENOUGH {
            cx.stop("enough");
        }
        Ok(())
    }
}

/// The first complaint of the commands that run the config, and whether it came before anything was done.
fn complaint(node: &Node) -> Option<(Error, bool)> {
    let mut runner = match Runner::from_config(node, Some("mutant.yaml")) {
        Ok(runner) => runner,
        Err(error) => return Some((error, true)),
    };
    runner.add_hook(Enough).unwrap();
    let given = |key: &str| node.get(key).is_some_and(|loader| !loader.is_null());
    if given("train_dataloader")
        && let Err(error) = runner.train()
    {
        let first = runner.session().state.progress.iter == 0;
        return Some((error, first));
    }
    let val = if given("val_dataloader") { runner.val().err() } else { None };
    let test = || if given("test_dataloader") { runner.test().err() } else { None };
    val.or_else(test).map(|error| (error, false))
}

/// Where an error of a config points, if it is one.
fn pointed(error: &Error) -> Option<BTreeSet<String>> {
    let errors = error.as_diags()?.0.iter().filter(|diag| diag.level == Level::Error);
    errors.map(|diag| diag.at.as_ref().map(ToString::to_string)).collect()
}

/// How a run tells a mistake otherwise than the check does: with another exit code, or at another place.
fn otherwise(checked: &Error, node: &Node) -> Option<String> {
    let (error, first) = complaint(node)?;
    if !first {
        return None;
    }
    let (found, told) = (pointed(checked)?, pointed(&error));
    match told {
        Some(told) if told.is_subset(&found) && error.exit_code() == checked.exit_code() => None,
        _ => Some(format!("check: {checked}\n… but train ({}): {error}", error.exit_code())),
    }
}

/// As `call` says, or the text of its panic.
fn caught<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!(
            "PANIC {}",
            text.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
        ))
    })
}

#[test]
fn what_training_refuses_before_its_first_iteration_is_refused_by_check() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (count, only) = (number("SHANTY_MUTANTS").unwrap_or(200), number("SHANTY_MUTANT"));
    let originals = originals();
    let dir = tempfile::tempdir().unwrap();
    let (mut wrong, mut passed) = (Vec::new(), 0);
    for seed in only.map_or(0..count, |one| one..one + 1) {
        let mut rng = keyed(seed, "mutant", 0, 0);
        let (name, original) = &originals[seed as usize % originals.len()];
        let (node, what) = mutant(original, &mut rng);
        // Whoever mutates the folder must not write into somebody's files.
        let work_dir = dir.path().join(seed.to_string()).to_string_lossy().into_owned();
        let node = parse("mutant.yaml", &without(&node, "work_dir").to_yaml())
            .and_then(|node| with(&node, &work_dir));
        let Ok(node) = node else { continue };
        // The last line before an abort says whose fault it is.
        eprintln!("{seed} {name}: {what}");
        if only.is_some() {
            println!("{}", node.to_yaml());
        }
        let checked = caught(|| check(&node, Some("mutant.yaml")).map_err(|e| e.to_string()));
        match &checked {
            // Another machine may have the data.
            Ok(odd) if odd.0.iter().any(|diag| diag.absent) => passed += 1,
            Err(text) if text.starts_with("PANIC") => {
                wrong.push(format!("{seed} {name}, {what}: check: {text}"))
            }
            Err(text) if !text.contains(" --> ") => {
                wrong.push(format!("{seed} {name}, {what}: check names no place: {text}"));
            }
            Err(text) if caught(|| Ok(complaint(&node).is_none())).unwrap_or(false) => {
                wrong.push(format!("{seed} {name}, {what}: a run takes what check refuses: {text}"));
            }
            Err(_) => {
                let _ = std::fs::remove_dir_all(&work_dir);
                let other = caught(|| match check(&node, Some("mutant.yaml")) {
                    Ok(_) => Ok(None),
                    Err(error) => Ok(otherwise(&error, &node)),
                });
                let other = other.unwrap_or_else(Some);
                wrong.extend(other.map(|text| format!("{seed} {name}, {what}: {text}")));
            }
            Ok(_) => {
                passed += 1;
                let trained = caught(|| refused(&node).map_or(Ok(()), Err));
                wrong.extend(trained.err().map(|text| format!("{seed} {name}, {what}: train: {text}")));
            }
        }
        if only.is_some() {
            println!("{:?}", checked.map(drop));
        }
        let _ = std::fs::remove_dir_all(&work_dir);
    }
    println!("{passed} of {count} mutants pass the check, {} disagreements", wrong.len());
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(only.is_some() || passed > count / 10, "only {passed} of {count} pass");
}

fn without(node: &Node, key: &str) -> Node {
    let entries = node.entries().iter().filter(|(k, _)| k.text != key).cloned().collect();
    of_kind(node, Kind::Map(entries))
}

fn with(node: &Node, work_dir: &str) -> Result<Node, shanty::config::Diags> {
    let text = format!("{}\nwork_dir: {work_dir}\n", node.to_yaml());
    parse("mutant.yaml", &text)
}
