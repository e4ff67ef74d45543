//! `shanty predict`: names of classes for every head, and files of every kind in place of the config's data.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod offline;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn shanty(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap()
}

fn config(name: &str) -> String {
    format!("{}/configs/{name}.yaml", env!("CARGO_MANIFEST_DIR"))
}

/// Trains two iterations of a config in `dir`.
fn trained(dir: &Path, config: &str) {
    let out = shanty(
        dir,
        &[
            "train",
            config,
            "--work-dir",
            "work",
            "--set",
            "train_cfg={by_epoch: false, max_iters: 2, val_interval: 2}",
            "--set",
            "default_hooks.checkpoint.by_epoch=false",
            "--set",
            "default_hooks.checkpoint.interval=2",
        ],
    );
    assert!(out.status.success(), "{out:?}");
}

fn predicted(dir: &Path, config: &str, out: &str, input: &[&str]) -> String {
    let mut args = vec!["predict", config, "work/iter_2", "--out", out];
    if !input.is_empty() {
        args.push("--input");
        args.extend(input);
    }
    let said = shanty(dir, &args);
    assert!(said.status.success(), "{said:?}");
    fs::read_to_string(dir.join(out)).unwrap()
}

/// What is said where `input` cannot be predicted.
fn refused(dir: &Path, config: &str, input: &[&str]) -> String {
    let args = [&["predict", config, "work/iter_2", "--out", "out.csv", "--input"], input].concat();
    let said = shanty(dir, &args);
    assert!(!said.status.success() && !dir.join("out.csv").exists(), "{said:?}");
    String::from_utf8(said.stderr).unwrap()
}

fn columns(csv: &str) -> Vec<&str> {
    csv.lines().next().unwrap().split(',').collect()
}

fn rows(jsonl: &str) -> Vec<Value> {
    jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Only one head had names. The second one here says yes or no: its classes are those of the field that it is compared
/// with.
#[test]
fn every_head_has_the_names_of_its_own_classes() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("digits_two_heads");
    trained(dir.path(), &config);
    let csv = predicted(dir.path(), &config, "out.csv", &[]);
    let digits: Vec<String> = (0..10).map(|digit| format!("digit_{digit}")).collect();
    let mut expected = vec!["id", "digit_class", "digit_class_id"];
    expected.extend(digits.iter().map(String::as_str));
    expected.extend(["odd_class", "odd_class_id", "odd_odd"]);
    assert_eq!(columns(&csv), expected);
    for row in rows(&predicted(dir.path(), &config, "out.jsonl", &[])) {
        let odd = row["odd"].as_f64().unwrap();
        assert_eq!(row["odd_class"], if odd >= 0.5 { "odd" } else { "even" });
        assert_eq!(row["odd_probability"].as_f64().unwrap(), odd.max(1.0 - odd));
        let scores: Vec<f64> = row["digit"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        let best = row["digit_class"].as_str().unwrap().parse::<usize>().unwrap();
        assert!(scores.iter().all(|p| *p <= scores[best]), "{row}");
    }
}

/// Several labels are called as their columns are, a pixel has a class.
#[test]
fn labels_and_pixels_have_names_and_classes() {
    let dir = tempfile::tempdir().unwrap();
    let weather = config("weather_labels");
    trained(dir.path(), &weather);
    assert_eq!(columns(&predicted(dir.path(), &weather, "w.csv", &[])), ["id", "rain", "storm", "fog"]);
    let first = &rows(&predicted(dir.path(), &weather, "w.jsonl", &[]))[0];
    assert!(first["prediction"]["storm"].as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)), "{first}");

    let dir = tempfile::tempdir().unwrap();
    let shapes = config("shapes_masks");
    trained(dir.path(), &shapes);
    let first = &rows(&predicted(dir.path(), &shapes, "s.jsonl", &[]))[0];
    let at = |class: usize| first["scores"][class][3][5].as_f64().unwrap();
    let best = (0..3).max_by(|a, b| at(*a).total_cmp(&at(*b))).unwrap();
    assert_eq!(first["class_ids"][3][5], best);
    assert_eq!(first["class_ids"].as_array().unwrap().len(), 16);
}

/// A table without the column to predict, with gaps in it, with values in it that training never saw: all the same.
#[test]
fn a_table_is_predicted_whatever_stands_in_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("shops_mlp");
    trained(dir.path(), &config);
    let whole = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/data/shops.csv")).unwrap();
    let lines: Vec<Vec<&str>> = whole.lines().take(6).map(|line| line.split(',').collect()).collect();
    let target = lines[0].iter().position(|name| *name == "comes_back").unwrap();
    let with = |file: &str, cell: &dyn Fn(usize) -> Option<&'static str>| {
        let line = |(at, line): (usize, &Vec<&str>)| {
            let mut line = line.clone();
            match cell(at) {
                Some(text) if at > 0 => line[target] = text,
                Some(_) => {}
                None => drop(line.remove(target)),
            }
            line.join(",")
        };
        let text: Vec<String> = lines.iter().enumerate().map(line).collect();
        fs::write(dir.path().join(file), text.join("\n")).unwrap();
    };
    with("without.csv", &|_| None);
    with("gaps.csv", &|at| Some(if at % 2 == 0 { "" } else { "often" }));
    with("new.csv", &|_| Some("never"));
    let expected = predicted(dir.path(), &config, "0.csv", &["without.csv"]);
    assert_eq!(
        (columns(&expected)[..4].to_vec(), expected.lines().count()),
        (vec!["id", "class", "class_id", "rarely"], 6)
    );
    for file in ["gaps.csv", "new.csv"] {
        assert_eq!(predicted(dir.path(), &config, "1.csv", &[file]), expected, "{file}");
    }
    assert_eq!(predicted(dir.path(), &config, "2.csv", &["without.csv", "gaps.csv"]).lines().count(), 11);
    fs::write(dir.path().join("few.csv"), "customer,part\n1,val\n").unwrap();
    let text = refused(dir.path(), &config, &["few.csv"]);
    assert!(text.contains("few.csv:1: there is no column"), "{text}");
    let text = refused(dir.path(), &config, &["nowhere.csv"]);
    assert!(text.contains("nowhere.csv"), "{text}");
}

/// An id was the position within the part that was taken. It is the row of the file, or what a column says of it.
#[test]
fn ids_are_those_of_the_file() {
    let data = |name: &str| {
        let text =
            fs::read_to_string(format!("{}/configs/data/{name}.csv", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let lines = text.lines().skip(1);
        lines.map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let ids = |csv: &str| {
        csv.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let dir = tempfile::tempdir().unwrap();
    let shops = config("shops_mlp");
    trained(dir.path(), &shops);
    let val = data("shops").into_iter().filter(|row| row.last().unwrap() == "val");
    assert_eq!(
        ids(&predicted(dir.path(), &shops, "p.csv", &[])),
        val.map(|row| row[0].clone()).collect::<Vec<_>>()
    );

    // What a row predicts alone it predicts under its number in the whole file.
    let dir = tempfile::tempdir().unwrap();
    let houses = config("houses_mlp");
    trained(dir.path(), &houses);
    let part = predicted(dir.path(), &houses, "p.csv", &[]);
    let file = format!("{}/configs/data/houses.csv", env!("CARGO_MANIFEST_DIR"));
    let whole = predicted(dir.path(), &houses, "all.csv", &[&file]);
    let rows: Vec<&str> = whole.lines().collect();
    assert_eq!(rows.len(), data("houses").len() + 1);
    assert!(part.lines().count() > 10 && part.lines().skip(1).all(|line| rows.contains(&line)), "{part}");
    let numbers: Vec<usize> = ids(&part).iter().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.is_sorted() && *numbers.last().unwrap() > numbers.len(), "{numbers:?}");

    // Rows of several files have their file beside their number.
    let head: Vec<String> = fs::read_to_string(&file).unwrap().lines().take(3).map(str::to_owned).collect();
    fs::write(dir.path().join("a.csv"), head.join("\n")).unwrap();
    fs::write(dir.path().join("b.csv"), head.join("\n")).unwrap();
    let both = predicted(dir.path(), &houses, "both.csv", &["a.csv", "b.csv"]);
    assert_eq!(columns(&both), ["id", "file", "prediction"]);
    let places: Vec<String> =
        both.lines().skip(1).map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect();
    assert_eq!(places, ["0,a.csv", "1,a.csv", "0,b.csv", "1,b.csv"]);
}

/// Empty lines count, as an editor counts them.
#[test]
fn lines_are_called_by_their_number_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let words = config("words_chars");
    trained(dir.path(), &words);
    fs::write(dir.path().join("a.txt"), "abe\n\nkilo\n").unwrap();
    let ids: Vec<u64> = rows(&predicted(dir.path(), &words, "a.jsonl", &["a.txt"]))
        .iter()
        .map(|row| row["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [0, 2]);
}

/// Classes without names are called by their numbers; the samples by their rows in the arrays.
#[test]
fn arrays_are_predicted_by_row_and_class() {
    let dir = tempfile::tempdir().unwrap();
    let npy = |name: &str, kind: &str, shape: &str, values: &[u8]| {
        let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let start =
            [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        fs::write(dir.path().join(name), [&start, values].concat()).unwrap();
    };
    let inputs: Vec<u8> = (0..40).flat_map(|n| (n as f32).to_le_bytes()).collect();
    npy("x.npy", "<f4", "20, 2", &inputs);
    npy("y.npy", "|u1", "20,", &[0, 1, 2, 1].repeat(5));
    let text = "{model: {type: Supervised, network: [{type: Linear, in_features: 2, out_features: 3}], \
                loss: {type: CrossEntropyLoss}}, optim_wrapper: {optimizer: {type: SGD, lr: 0.0001}}, \
                default_hooks: {checkpoint: {type: CheckpointHook}}, val_cfg: {}, val_evaluator: {type: Accuracy}, \
                val_dataloader: {batch_size: 2, dataset: {type: Npy, files: {inputs: x.npy, target: y.npy}, \
                split: {val: 0.5, seed: 1, stratify: true}, part: val}}, \
                train_cfg: {by_epoch: false, max_iters: 2}, train_dataloader: {batch_size: 4, dataset: {type: Npy, \
                files: {inputs: x.npy, target: y.npy}, split: {val: 0.5, seed: 1, stratify: true}, part: train}}}";
    fs::write(dir.path().join("c.yaml"), text).unwrap();
    trained(dir.path(), "c.yaml");
    let part = predicted(dir.path(), "c.yaml", "p.csv", &[]);
    assert_eq!(columns(&part), ["id", "class", "class_id", "0", "1", "2"]);
    let whole = predicted(dir.path(), "c.yaml", "all.csv", &["x.npy"]);
    assert_eq!((part.lines().count(), whole.lines().count()), (11, 21));
    assert!(part.lines().all(|line| whole.lines().any(|other| other == line)), "{part}\n{whole}");

    // The arrays of the training may be gone: what `target` was is kept.
    fs::rename(dir.path().join("x.npy"), dir.path().join("new.npy")).unwrap();
    fs::remove_file(dir.path().join("y.npy")).unwrap();
    assert_eq!(predicted(dir.path(), "c.yaml", "new.csv", &["new.npy"]), whole);
}

/// Lines with or without their class.
#[test]
fn a_text_is_predicted_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("words_chars");
    trained(dir.path(), &config);
    fs::write(dir.path().join("a.txt"), "abe\nkilo\n").unwrap();
    fs::write(dir.path().join("b.tsv"), "abe\tklingon\nkilo\n").unwrap();
    let plain = predicted(dir.path(), &config, "a.csv", &["a.txt"]);
    assert_eq!((plain.lines().count(), columns(&plain).len()), (3, 6));
    assert_eq!(predicted(dir.path(), &config, "b.csv", &["b.tsv"]), plain);
}

#[cfg(feature = "images")]
fn png(path: std::path::PathBuf, gray: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 4, 4);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[gray; 16]).unwrap();
}

/// Pictures were refused. Their names stand beside what is predicted.
#[cfg(feature = "images")]
#[test]
fn pictures_and_folders_of_them_are_predicted_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (class, gray) in [("dark", 10), ("light", 240)] {
        (0..4).for_each(|i| png(dir.path().join(format!("d/{class}/{i}.png")), gray + i));
    }
    png(dir.path().join("new/deep/b.png"), 3);
    png(dir.path().join("new/a.png"), 250);
    fs::write(dir.path().join("new/notes.txt"), "no picture").unwrap();
    let text = "{model: {type: Supervised, network: [{type: Flatten}, {type: Linear, in_features: 48, out_features: 2}], \
                loss: {type: CrossEntropyLoss}}, optim_wrapper: {optimizer: {type: SGD, lr: 0.0001}}, \
                default_hooks: {checkpoint: {type: CheckpointHook}}, val_cfg: {}, val_evaluator: {type: Accuracy}, \
                val_dataloader: {batch_size: 2, dataset: &d {type: ImageFolder, data_root: d, pipeline: [{type: LoadImageFromFile}]}}, \
                train_cfg: {by_epoch: false, max_iters: 2}, train_dataloader: {batch_size: 4, dataset: *d}}";
    fs::write(dir.path().join("c.yaml"), text).unwrap();
    trained(dir.path(), "c.yaml");
    let csv = predicted(dir.path(), "c.yaml", "p.csv", &["new", "d/dark/0.png"]);
    assert_eq!(columns(&csv), ["id", "file", "class", "class_id", "dark", "light"]);
    let files: Vec<&str> = csv.lines().skip(1).map(|line| line.split(',').nth(1).unwrap()).collect();
    assert_eq!(files, ["new/a.png", "new/deep/b.png", "d/dark/0.png"]);
    // The same picture by its place in the config's data says the same.
    let all = predicted(dir.path(), "c.yaml", "all.csv", &[]);
    let tail = |csv: &str| {
        let line = csv.lines().find(|line| line.contains("d/dark/0.png")).unwrap().to_owned();
        line.split_once(',').unwrap().1.to_owned()
    };
    assert_eq!(tail(&csv), tail(&all));
    let text = refused(dir.path(), "c.yaml", &["new/notes.txt"]);
    assert!(text.contains("new/notes.txt"), "{text}");
    let text = refused(dir.path(), "c.yaml", &["nowhere.png"]);
    assert!(text.contains("nowhere.png"), "{text}");
    // The folders of the training may be gone: the checkpoint knows the classes.
    fs::rename(dir.path().join("d"), dir.path().join("e")).unwrap();
    let moved = predicted(dir.path(), "c.yaml", "q.csv", &["new", "e/dark/0.png"]);
    assert_eq!(moved.replace("e/dark", "d/dark"), csv);
    fs::rename(dir.path().join("e"), dir.path().join("d")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let text = refused(dir.path(), "c.yaml", &["empty"]);
    assert!(text.contains("empty: no picture"), "{text}");
}

/// Made-up data and arrays of a program read no files.
#[test]
fn data_that_read_no_files_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("waves_mlp");
    trained(dir.path(), &config);
    let text = refused(dir.path(), &config, &["x.npy"]);
    assert!(text.contains("does not read files: leave out `--input`"), "{text}");
}

/// A config over tables of its own: so many columns `a`, `b`, … go in, `y` is predicted.
fn on_tables(dir: &Path, loss: &str, outputs: usize, set: &str) -> String {
    let part = |part: &str| format!("{{batch_size: 4, dataset: {}}}", set.replace("PART", part));
    let text = format!(
        "model: {{type: Supervised, network: [{{type: Linear, in_features: 4, out_features: {outputs}}}], \
         loss: {{type: {loss}}}, init_cfg: {{type: Constant, val: 1.0, layer: Linear}}}}\n\
         train_dataloader: {}\nval_dataloader: {}\nval_cfg: {{}}\nval_evaluator: {{type: MAE}}\n\
         train_cfg: {{by_epoch: false, max_iters: 2}}\noptim_wrapper: {{optimizer: {{type: SGD, lr: 1.0e-9}}}}\n\
         default_hooks: {{checkpoint: {{type: CheckpointHook, save_best: BEST}}}}\nrandomness: {{seed: 1}}\n",
        part("train"),
        part("val")
    );
    // The hook asks the metric, whose data are not opened, which way it is better.
    let (metric, best) =
        if loss.starts_with("CrossEntropyLoss") { ("Accuracy", "accuracy/top1") } else { ("MAE", "mae") };
    let text = text.replace("type: MAE", &format!("type: {metric}")).replace("BEST", best);
    fs::write(dir.join("c.yaml"), text).unwrap();
    "c.yaml".to_owned()
}

/// Predictions asked for the training's file, although the checkpoint keeps what was fitted on it; so did `val`, whose
/// rows are in a file of their own. What is predicted is the same to the letter, wherever the files are.
#[test]
fn files_of_the_training_may_be_gone() {
    let rows = |n: usize, y: &dyn Fn(usize) -> String| {
        (0..n)
            .map(|i| format!("{i},{},{},{},{}\n", i % 3, i % 5, ["x", "y"][i % 2], y(i)))
            .collect::<String>()
    };
    let classes = |i: usize| ["low", "high"][i / 4 % 2].to_owned();
    let numbers = |i: usize| (i * i).to_string();
    // Three numbers, of which one is left out, and a category of two values: four inputs.
    let csv = "{type: Csv, file: PART.csv, target: y, ignore: [n]}";
    let subset = format!("{{type: Subset, first: 6, dataset: {csv}}}");
    let several = format!("{{type: ConcatDataset, datasets: [{csv}, {csv}]}}");
    let cases: [(&str, usize, &str, &dyn Fn(usize) -> String); 4] = [
        // The loss of a validation is weighted by the training's classes.
        ("CrossEntropyLoss, class_weight: balanced", 2, csv, &classes),
        ("MSELoss", 1, csv, &numbers),
        ("MSELoss", 1, &subset, &numbers),
        ("CrossEntropyLoss", 2, &several, &classes),
    ];
    for (loss, outputs, set, y) in cases {
        let dir = tempfile::tempdir().unwrap();
        let config = on_tables(dir.path(), loss, outputs, set);
        for (file, n) in [("train.csv", 20), ("val.csv", 9), ("new.csv", 5)] {
            fs::write(dir.path().join(file), format!("n,a,b,c,y\n{}", rows(n, y))).unwrap();
        }
        trained(dir.path(), &config);
        let before = predicted(dir.path(), &config, "0.csv", &["new.csv"]);
        assert_eq!(before.lines().count(), 6, "{before}");
        let evaluated = || {
            let out = shanty(dir.path(), &["val", &config, "work/iter_2"]);
            assert!(out.status.success(), "{out:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        let metrics = evaluated();
        fs::remove_file(dir.path().join("train.csv")).unwrap();
        assert_eq!(evaluated(), metrics, "{set}");
        fs::remove_file(dir.path().join("val.csv")).unwrap();
        assert_eq!(predicted(dir.path(), &config, "1.csv", &["new.csv"]), before, "{set}");
        let text = String::from_utf8(shanty(dir.path(), &["val", &config, "work/iter_2"]).stderr).unwrap();
        assert!(text.contains("val.csv"), "{text}");
    }
}

/// The same of lines of text with their vocabulary.
#[test]
fn texts_of_the_training_may_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(config("words_chars")).unwrap();
    let words = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/data/words.tsv");
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::copy(words, dir.path().join("data/words.tsv")).unwrap();
    let bases = format!("{}/configs/_base_", env!("CARGO_MANIFEST_DIR"));
    let text = text.replace("_base_: _base_/", &format!("_base_: {bases}/"));
    fs::write(dir.path().join("c.yaml"), text).unwrap();
    trained(dir.path(), "c.yaml");
    fs::write(dir.path().join("a.txt"), "abe\nkilo\n").unwrap();
    let before = predicted(dir.path(), "c.yaml", "0.csv", &["a.txt"]);
    fs::remove_file(dir.path().join("data/words.tsv")).unwrap();
    assert_eq!(predicted(dir.path(), "c.yaml", "1.csv", &["a.txt"]), before);
}

/// Without test data the validation's were predicted, without a word.
#[test]
fn whose_data_are_predicted_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let houses = config("houses_mlp");
    trained(dir.path(), &houses);
    let said = |more: &[&str]| {
        let args = ["predict", &houses, "work/iter_2", "--out", "o.csv"];
        let out = shanty(dir.path(), &[&args, more].concat());
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    assert_eq!(said(&[]), "");
    let warning = |what: &str| format!("warning: the config has no test data: its {what} data are predicted");
    let off = ["test", "val"]
        .map(|mode| ["dataloader", "cfg", "evaluator"].map(|key| format!("{mode}_{key}=null")));
    let off: Vec<&str> = off.iter().flatten().map(String::as_str).collect();
    assert!(said(&off[..3]).starts_with(&warning("validation")), "{}", said(&off[..3]));
    assert!(said(&off).starts_with(&warning("training")), "{}", said(&off));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/data/houses.csv");
    assert_eq!(said(&["--input", file]), "");
}
