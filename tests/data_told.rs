//! What `check` and the log of a run say of data that would train, and mean something else than they seem to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;

use shanty::base::Error;
use shanty::config::{Diag, Level, load_all, parse};
use shanty::data::{ArrayDataset, Csv, CsvConfig, DataLoader, Dataset, Part, Split, TextConfig, TextLines};
use shanty::prelude::{EpochBasedTrainLoop, MAE, MSELoss, Sgd, Supervised};
use shanty::registry::{BuildCx, Spec};
use shanty::run::{Runner, check};

const RUN: &str = "\
model: MODEL
train_dataloader:
  batch_size: 4
  dataset: TRAIN
val_dataloader:
  batch_size: 4
  dataset: VAL
val_evaluator: [{type: METRIC}]
val_cfg: {}
train_cfg: {by_epoch: true, max_epochs: 1}
optim_wrapper: {optimizer: {type: SGD, lr: 0.01}}
randomness: {seed: 1}
";

const CLASSES: [&str; 2] = [
    "{type: Supervised, network: [{type: Flatten}, {type: Linear, in_features: WIDTH, out_features: 10}], loss: {type: CrossEntropyLoss}}",
    "Accuracy",
];
const NUMBERS: [&str; 2] = [
    "{type: Supervised, network: [{type: Linear, in_features: WIDTH, out_features: 1}], loss: {type: MSELoss}}",
    "MAE",
];

/// The text of a config in `dir`; `DIR` in the data sets stands for that folder.
fn config([model, metric]: [&str; 2], width: usize, train: &str, val: &str, dir: &Path) -> String {
    let text = RUN.replace("MODEL", model).replace("METRIC", metric).replace("WIDTH", &width.to_string());
    let text = text.replace("TRAIN", train).replace("VAL", val).replace("DIR", dir.to_str().unwrap());
    format!("{text}work_dir: {}/work\n", dir.display())
}

/// What `check` complains of.
fn said(text: &str, dir: &Path) -> Vec<Diag> {
    let path = dir.join("c.yaml");
    fs::write(&path, text).unwrap();
    let checked = load_all(&[&path], &[]).map_err(Error::from).and_then(|loaded| check(&loaded.node, None));
    checked.unwrap_or_else(|error| error.diags().unwrap()).0
}

/// The complaints of this level that have these words.
fn with<'d>(all: &'d [Diag], level: Level, words: &str) -> Vec<&'d Diag> {
    all.iter().filter(|diag| diag.level == level && diag.message.contains(words)).collect()
}

fn line(diag: &Diag) -> usize {
    diag.at.as_ref().unwrap().line_column().0
}

/// A table of 20 rows: a number, a town, and a rent.
fn flats(dir: &Path, name: &str) {
    let rows: String = (0..20).map(|i| format!("{i},{},{}\n", ["Bern", "Chur"][i % 2], 9 + i)).collect();
    fs::write(dir.join(name), format!("rooms,town,rent\n{rows}")).unwrap();
}

/// Floats of this shape: 0, 1, 2 and so on.
fn npy(file: &Path, shape: &[usize]) {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32).collect();
    fs::write(file, npy_of(&values, shape)).unwrap();
}

fn npy_of(values: &[f32], shape: &[usize]) -> Vec<u8> {
    let lengths: String = shape.iter().map(|n| format!("{n},")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({lengths}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn npz(file: &Path, arrays: &[(&str, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(fs::File::create(file).unwrap());
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut archive, bytes).unwrap();
    }
    archive.finish().unwrap();
}

/// A data set that gave `split` and no `part` was all rows: it was trained on what it was validated with.
#[test]
fn a_split_without_a_part_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    flats(dir.path(), "flats.csv");
    fs::write(dir.path().join("text.txt"), "a\tx\nb\ty\nc\tx\nd\ty\n").unwrap();
    npy(&dir.path().join("x.npy"), &[8, 2]);
    npz(&dir.path().join("x.npz"), &[("inputs", npy_of(&[0.5; 8], &[8, 1]))]);
    for set in [
        "{type: Csv, file: DIR/flats.csv, target: rent",
        "{type: TextLines, file: DIR/text.txt, label_column: 1, length: 1",
        "{type: Npy, files: {inputs: DIR/x.npy, target: DIR/x.npy}",
        "{type: Npz, file: DIR/x.npz",
    ] {
        let set = set.replace("DIR", dir.path().to_str().unwrap());
        let built = |rest: &str| {
            let spec: Spec<dyn Dataset> = parse("c.yaml", &format!("{set}{rest}}}")).unwrap().read().unwrap();
            spec.build(&mut BuildCx::new(0)).map(|set| set.len()).map_err(|error| error.to_string())
        };
        let all = built("").unwrap();
        let text = built(", split: {val: 0.5}").unwrap_err();
        assert!(text.contains("give `part`, which is train, val, test, or all"), "{text}");
        assert!(text.contains("c.yaml:1:"), "{text}");
        assert_eq!(built(", split: {val: 0.5}, part: all"), Ok(all));
        assert_eq!(built(", part: all"), Ok(all));
        assert_eq!(built(", split: {val: 0.5}, part: train"), Ok(all / 2));
        assert_eq!(built(", split: {val: 0.5}, part: val"), Ok(all / 2));
        let text = built(", part: train").unwrap_err();
        assert!(text.contains("there is no `split` that says which samples"), "{text}");
    }
    // A program hears the same.
    let split = Some(Split { val: 0.5, ..Split::default() });
    let table = CsvConfig { split: split.clone(), ..CsvConfig::new(dir.path().join("flats.csv"), "rent") };
    let lines =
        TextConfig { split, label_column: Some(1), ..TextConfig::new(dir.path().join("text.txt"), 1) };
    let refused = [Csv::load(table.clone()).err(), TextLines::load(lines).err()];
    assert!(refused.into_iter().all(|error| error.unwrap().to_string().contains("give `part`")));
    assert_eq!(Csv::load(CsvConfig { part: Some(Part::Val), ..table }).unwrap().len(), 10);
    // The whole config, with the place of `split`.
    let train = "{type: Csv, file: DIR/flats.csv, target: rent,\n    split: {val: 0.5}}";
    let text = config(NUMBERS, 3, train, &train.replace("}}", "}, part: val}"), dir.path());
    let all = said(&text, dir.path());
    let [one] = with(&all, Level::Error, "give `part`")[..] else { panic!("{all:?}") };
    assert_eq!(line(one), 5);
}

/// Rows that are trained on and validated with gave any figure that one likes, and nobody was told.
#[test]
fn rows_of_two_loaders_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    flats(dir.path(), "flats.csv");
    flats(dir.path(), "copy.csv");
    npy(&dir.path().join("x.npy"), &[8, 3]);
    npy(&dir.path().join("y.npy"), &[8, 1]);
    npz(
        &dir.path().join("a.npz"),
        &[("inputs", npy_of(&[0.5; 24], &[8, 3])), ("target", npy_of(&[0.5; 8], &[8, 1]))],
    );
    let table = |rest: &str| format!("{{type: Csv, file: DIR/flats.csv, target: rent{rest}}}");
    let part = |rest: &str| table(&format!(", split: {{{rest}"));
    let npy = |rest: &str| format!("{{type: Npy, files: {{inputs: DIR/x.npy, target: DIR/y.npy}}{rest}}}");
    let npz = |rest: &str| format!("{{type: Npz, file: DIR/a.npz{rest}}}");
    let seen = |train: &str, val: &str| {
        let all = said(&config(NUMBERS, 3, train, val, dir.path()), dir.path());
        assert!(with(&all, Level::Error, "").is_empty(), "{all:?}");
        let shared = with(&all, Level::Warning, "are in `train_dataloader` too");
        shared.first().map(|diag| (diag.message.split(',').next().unwrap().to_owned(), line(diag)))
    };
    let all = |n: usize| Some((format!("all {n} samples"), 7));
    let none = None::<(String, usize)>;
    assert_eq!(seen(&part("val: 0.5}, part: train"), &part("val: 0.5}, part: val")), none);
    assert_eq!(seen(&table(""), &table("")), all(20));
    assert_eq!(seen(&table(""), &table(", id: rooms, features: [rooms, town]")), all(20));
    assert_eq!(
        seen(&table(""), &table("").replace("DIR/", "DIR/../SELF/").replace("SELF", name(dir.path()))),
        all(20)
    );
    assert_eq!(seen(&table(""), &table("").replace("flats", "copy")), Some(("all 20 samples of `val_dataloader` are in `train_dataloader` too: what is measured on them says nothing of new data".to_owned(), 7)));
    assert_eq!(seen(&part("val: 0.5}, part: train"), &part("val: 0.5}, part: train")), all(10));
    assert_eq!(seen(&part("val: 0.5}, part: all"), &part("val: 0.5}, part: val")), all(10));
    let (words, _) = seen(&part("val: 0.5}, part: train"), &part("val: 0.5, seed: 3}, part: val")).unwrap();
    assert!(words.ends_with("of the 10 samples") && !words.starts_with("all"), "{words}");
    assert!(seen(&part("val: 0.2}, part: train"), &part("val: 0.6}, part: val")).is_some());
    let subset = |of: &str, at: &str| format!("{{type: Subset, dataset: {of}, indices: [{at}]}}");
    let repeated = format!("{{type: RepeatDataset, times: 3, dataset: {}}}", subset(&table(""), "0, 1, 2"));
    assert_eq!(seen(&repeated, &subset(&table(""), "3, 4")), none);
    assert_eq!(seen(&repeated, &subset(&table(""), "2, 3")).unwrap().0, "1 of the 2 samples");
    assert_eq!(seen(&npy(""), &npy("")), all(8));
    assert_eq!(seen(&npy(", split: {val: 0.5}, part: train"), &npy(", split: {val: 0.5}, part: val")), none);
    assert_eq!(seen(&npz(", split: {val: 0.5}, part: val"), &npz(", split: {val: 0.5}, part: val")), all(4));
    let other = npz("").replace("a.npz", "./a.npz");
    assert_eq!(seen(&npz(""), &other), all(8));
}

fn name(dir: &Path) -> &str {
    dir.file_name().unwrap().to_str().unwrap()
}

/// The same of pictures: one folder for both, the digits without `test_mode`, a set that says of no sample where it is.
#[test]
fn pictures_of_two_loaders_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let mut images = vec![0u8, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 28, 0, 0, 0, 28];
    images.extend((0..4 * 784).map(|i| (i % 251) as u8));
    for part in ["train", "t10k"] {
        images[17] += 1;
        fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), &images).unwrap();
        fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), [0, 0, 8, 1, 0, 0, 0, 4, 7, 9, 7, 7])
            .unwrap();
    }
    let seen = |width: usize, train: &str, val: &str| {
        let all = said(&config(CLASSES, width, train, val, dir.path()), dir.path());
        assert!(with(&all, Level::Error, "").is_empty(), "{all:?}");
        with(&all, Level::Warning, "are in `train_dataloader` too").len()
    };
    let mnist = "{type: MNIST, data_root: DIR}";
    assert_eq!(seen(784, mnist, mnist), 1);
    assert_eq!(seen(784, mnist, &mnist.replace('}', ", test_mode: true}")), 0);
    assert_eq!(seen(64, "{type: Digits}", "{type: Digits}"), 1);
    assert_eq!(seen(64, "{type: Digits}", "{type: Digits, split: val}"), 0);
    let made = "{type: Synthetic, n: 8, shape: [1, 8, 8], classes: 10, seed: 1}";
    assert_eq!(seen(64, made, made), 1);
    assert_eq!(seen(64, made, &made.replace("seed: 1", "seed: 2")), 0);
}

/// A program is told in its log.
#[test]
fn a_program_is_told_of_samples_that_it_shares() {
    let dir = tempfile::tempdir().unwrap();
    let data = || {
        let x = ndarray::Array2::from_shape_fn((8, 1), |(i, _)| i as f32);
        ArrayDataset::new("inputs", x.clone()).unwrap().with("target", x).unwrap()
    };
    let log = |name: &str, train: ArrayDataset, val: ArrayDataset| {
        let work = dir.path().join(name);
        Runner::builder(Supervised::new(shanty::nn::Linear::new(1, 1), MSELoss::default()))
            .train(DataLoader::new(train), EpochBasedTrainLoop::new(1), Sgd::new(0.01))
            .val(DataLoader::new(val), MAE::default())
            .work_dir(&work)
            .build()
            .unwrap()
            .train()
            .unwrap();
        log_of(&work)
    };
    let text = log("same", data(), data());
    assert!(text.contains("all 8 samples of `val_dataloader` are in `train_dataloader` too"), "{text}");
    let (train, val) = data().holdout(0.5, 0).unwrap();
    assert!(!log("apart", train, val).contains("too"));
}

fn log_of(work: &Path) -> String {
    let runs = fs::read_dir(work).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = runs.flat_map(|run| fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path()));
    let logs = files.filter(|file| file.extension().is_some_and(|ending| ending == "log"));
    logs.map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// The order of the classes was nowhere to be read before a training, nor how many samples each has.
#[test]
fn classes_are_told_with_their_numbers_of_samples() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..20).map(|i| format!("{i},{}\n", if i % 5 == 0 { "fail" } else { "ok" })).collect();
    fs::write(dir.path().join("parts.csv"), format!("size,state\n{rows}")).unwrap();
    let part = |part: &str| {
        format!(
            "{{type: Csv, file: DIR/parts.csv, target: state, split: {{val: 0.5, stratify: true}}, part: {part}}}"
        )
    };
    let text = config(CLASSES, 1, &part("train"), &part("val"), dir.path());
    let path = dir.path().join("c.yaml");
    fs::write(&path, &text).unwrap();
    Runner::from_file(&path).unwrap().train().unwrap();
    let log = log_of(&dir.path().join("work"));
    assert!(log.contains("columns of the training data: categories state (2) from numbers size\n"), "{log}");
    assert!(log.contains("classes in `target` of the training data: fail 2, ok 8\n"), "{log}");
    // Of one class there is nothing to learn.
    let rows = fs::read_to_string(dir.path().join("parts.csv")).unwrap().replace("fail", "ok");
    fs::write(dir.path().join("one.csv"), rows).unwrap();
    let one = |part: &str| {
        format!("{{type: Csv, file: DIR/one.csv, target: state, split: {{val: 0.5}}, part: {part}}}")
    };
    let all = said(&config(CLASSES, 1, &one("train"), &one("val"), dir.path()), dir.path());
    assert_eq!(
        with(&all, Level::Warning, "all training samples are of the class \"ok\" in `target`").len(),
        1,
        "{all:?}"
    );
    fs::write(&path, text).unwrap();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_shanty"))
        .args(["check", "--data", "c.yaml"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(text.matches("  classes in `target`: fail 2, ok 8\n").count(), 2, "{text}");
}

/// Columns that went in and teach nothing, and fields that nobody reads, were taken in silence.
#[test]
fn columns_and_fields_that_teach_nothing_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |column: &str, value: &dyn Fn(usize) -> String, keys: &str| {
        let rows: String = (0..20).map(|i| format!("{},{},{}\n", value(i), i * i % 7, i % 3)).collect();
        fs::write(dir.path().join("t.csv"), format!("{column},x,y\n{rows}")).unwrap();
        let table = |part: &str| {
            format!(
                "{{type: Csv, file: DIR/t.csv, target: y, unknown: ignore, {keys} split: {{val: 0.5}}, part: {part}}}"
            )
        };
        let all = said(&config(NUMBERS, 2, &table("train"), &table("val"), dir.path()), dir.path());
        let odd: Vec<_> = with(&all, Level::Warning, "goes in, and")
            .iter()
            .map(|diag| (line(diag), diag.message.clone()))
            .collect();
        assert!(odd.len() < 2 && odd.iter().all(|(line, _)| *line == 4), "{odd:?}");
        odd.first().map(|(_, message)| {
            message.split("goes in, and ").nth(1).unwrap().split(':').next().unwrap().to_owned()
        })
    };
    let nameless = Some("has no name, as the index that pandas writes".to_owned());
    let count: &dyn Fn(usize) -> String = &|i| i.to_string();
    assert_eq!(told("", count, ""), nameless);
    assert_eq!(told("Unnamed: 0", &|i| (i * i).to_string(), ""), nameless);
    assert_eq!(told("", count, "ignore: [\"\"],"), None);
    assert_eq!(told("", count, "id: \"\","), None);
    assert_eq!(told("nr", count, ""), Some("numbers the rows".to_owned()));
    assert_eq!(told("nr", &|i| (1019 - i).to_string(), ""), Some("numbers the rows".to_owned()));
    assert_eq!(told("nr", &|i| (i * 7 % 20).to_string(), ""), Some("numbers the rows".to_owned()));
    assert_eq!(told("nr", count, "features: [nr, x],"), None, "whoever names it means it");
    assert_eq!(told("nr", &|i| (i / 2).to_string(), ""), None);
    let texts = Some("has another text in nearly each row".to_owned());
    assert_eq!(told("day", &|i| format!("2026-01-{i:02}"), ""), texts);
    assert_eq!(told("who", &|i| format!("person {i}"), ""), texts);
    assert_eq!(told("town", &|i| format!("town {}", i % 3), ""), None);

    flats(dir.path(), "flats.csv");
    let table = |part: &str| {
        format!(
            "{{type: Csv, file: DIR/flats.csv, target: rent, features: [rooms, town], encoding: integer, split: {{val: 0.5}}, part: {part}}}"
        )
    };
    let text = config(NUMBERS, 1, &table("train"), &table("val"), dir.path());
    let all = said(&text, dir.path());
    let idle = with(&all, Level::Warning, "nothing reads the field `categories` of the training data");
    assert_eq!(idle.iter().map(|diag| line(diag)).collect::<Vec<_>>(), [4], "{all:?}");
    assert!(idle[0].notes[0].contains("`inputs: [inputs, categories]`"), "{all:?}");
    let read = text
        .replace("network:", "inputs: [inputs, categories], network:")
        .replace("in_features: 1", "in_features: 2");
    assert!(said(&read, dir.path()).is_empty());
    let arrays = [
        ("inputs", npy_of(&[0.5; 8], &[8, 1])),
        ("target", npy_of(&[0.5; 8], &[8, 1])),
        ("sigma", npy_of(&[0.5; 8], &[8, 1])),
    ];
    npz(&dir.path().join("a.npz"), &arrays);
    let set = "{type: Npz, file: DIR/a.npz, split: {val: 0.5}, part: PART}";
    let text = config(NUMBERS, 1, &set.replace("PART", "train"), &set.replace("PART", "val"), dir.path());
    assert_eq!(with(&said(&text, dir.path()), Level::Warning, "nothing reads the field `sigma`").len(), 1);
    let measured = text.replace("{type: MAE}", "{type: MAE, target: sigma}");
    assert!(with(&said(&measured, dir.path()), Level::Warning, "nothing reads").is_empty());
}
