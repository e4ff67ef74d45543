//! Classes that are rare, and numbers that are large: weights by name or by the counts of the training part, targets
//! that are learnt with mean 0 and deviation 1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, ArrayD, arr1};
use shanty::base::{Error, Rng, Tensor, keyed};
use shanty::config::{Diag, Level, load};
use shanty::data::{ArrayDataset, Csv, CsvConfig, DataLoader, Dataset, Part, Sample, Smote, Value};
use shanty::nn::{
    BufferPool, ClassWeight, CrossEntropyLoss, LabelSmoothLoss, Linear, Loss, MSELoss, MultiMarginLoss,
    NLLLoss, SoftmaxFocalLoss, Tape, Target,
};
use shanty::prelude::{EpochBasedTrainLoop, MAE, R2, Sgd, Supervised};
use shanty::run::{Outcome, Predictor, Runner, check};

/// 12 parts, of which 2 fail: the training part is all of them.
fn parts(dir: &Path) {
    let rows: String =
        (0..12).map(|i| format!("{},{}\n", i % 5, if i % 6 == 5 { "fail" } else { "ok" })).collect();
    fs::write(dir.join("parts.csv"), format!("size,state\n{rows}")).unwrap();
    fs::write(dir.join("new.csv"), "size,state\n1,ok\n2,fail\n3,ok\n4,ok\n").unwrap();
}

fn classified(loss: &str) -> String {
    format!(
        "\
model:
  type: Supervised
  network: [{{type: Linear, in_features: 1, out_features: 2}}]
  loss: {loss}
train_dataloader: {{batch_size: 4, dataset: {{type: Csv, file: DIR/parts.csv, target: state}}}}
val_dataloader: {{batch_size: 4, dataset: {{type: Csv, file: DIR/new.csv, target: state}}}}
val_evaluator: [{{type: Accuracy}}]
val_cfg: {{}}
train_cfg: {{by_epoch: true, max_epochs: 2}}
optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}
randomness: {{seed: 1}}
work_dir: DIR/WORK
"
    )
}

/// The config in `dir`, whose run writes into the folder `work`.
fn written(text: &str, dir: &Path, work: &str) -> PathBuf {
    let path = dir.join(format!("{work}.yaml"));
    fs::write(&path, text.replace("DIR", dir.to_str().unwrap()).replace("WORK", work)).unwrap();
    path
}

fn said(text: &str, dir: &Path) -> Vec<Diag> {
    let node = load(&written(text, dir, "checked"), &[]).map_err(Error::from);
    node.and_then(|node| check(&node, None)).unwrap_or_else(|error| error.diags().unwrap()).0
}

fn complaint(text: &str, dir: &Path, level: Level) -> String {
    let all = said(text, dir);
    let own: Vec<_> = all.iter().filter(|diag| diag.level == level).collect();
    let [diag] = own[..] else { panic!("{all:?}") };
    assert!(diag.at.is_some(), "{diag:?}");
    format!("{} at {}\n{}", diag.message, diag.at.as_ref().unwrap().text(), diag.notes.join("\n"))
}

/// The validation's loss and accuracy at the end of a training.
fn trained(text: &str, dir: &Path, work: &str) -> [f64; 2] {
    let mut runner = Runner::from_file(written(text, dir, work)).unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let metrics = runner.val().unwrap();
    [metrics.get("val_loss").unwrap(), metrics.get("accuracy/top1").unwrap()]
}

/// A weight of a class by its place hit the wrong one when the order was another. Of 12 rows 2 fail and 10 are ok:
/// scikit-learn's `balanced` is 12 / (2 · 2) = 3 and 12 / (2 · 10) = 0.6.
#[test]
fn weights_by_name_and_balanced_are_the_numbers_that_they_stand_for() {
    let dir = tempfile::tempdir().unwrap();
    parts(dir.path());
    for (type_name, key) in [
        ("CrossEntropyLoss", "class_weight"),
        ("CrossEntropyLoss", "weight"),
        ("LabelSmoothLoss, label_smooth_val: 0.1", "class_weight"),
        ("NLLLoss", "weight"),
        ("SoftmaxFocalLoss", "weight"),
        ("MultiMarginLoss", "weight"),
    ] {
        let ends = |weights: &str, work: &str| {
            trained(&classified(&format!("{{type: {type_name}, {key}: {weights}}}")), dir.path(), work)
        };
        let work = |nth: usize| format!("{}{key}{nth}", type_name.split(',').next().unwrap());
        let balanced = ends("balanced", &work(0));
        assert_eq!(balanced, ends("[3.0, 0.6]", &work(1)), "{type_name}");
        assert_eq!(ends("{ok: 0.6, fail: 3.0}", &work(2)), balanced, "{type_name}");
        assert_eq!(ends("{fail: 5}", &work(3)), ends("[5.0, 1.0]", &work(4)), "{type_name}");
        assert_ne!(ends("[0.6, 3.0]", &work(5)), balanced, "{type_name}");
    }
}

#[test]
fn a_weight_for_no_class_is_refused_with_those_that_there_are() {
    let dir = tempfile::tempdir().unwrap();
    parts(dir.path());
    let of = |loss: &str| complaint(&classified(loss), dir.path(), Level::Error);
    let text = of("{type: CrossEntropyLoss, class_weight: {fial: 5.0}}");
    let words = "names the class `fial`, but the classes in `target` of the training data are fail 2, ok 10 (did you mean `fail`?)";
    assert!(text.contains(words), "{text}");
    assert!(
        of("{type: CrossEntropyLoss, class_weight: balance}")
            .contains("or balanced, not \"balance\" at balance")
    );
    assert!(of("{type: NLLLoss, weight: {fail: 0, ok: 0}}").contains("`weight` lets no class count"));
    assert!(of("{type: NLLLoss, weight: {fail: -1}}").contains("must be"));
    let unknown = classified("{type: CrossEntropyLoss, class_weight: balanced}");
    let set = "{type: SyntheticBlobs, n: 40, classes: 2, features: 1}";
    let all = unknown
        .replace("{type: Csv, file: DIR/parts.csv, target: state}", set)
        .replace("{type: Csv, file: DIR/new.csv, target: state}", set);
    let errors: Vec<_> =
        said(&all, dir.path()).into_iter().filter(|diag| diag.level == Level::Error).collect();
    assert!(errors.is_empty(), "the number of a sample tells its class: {errors:?}");
    let alone: String = unknown
        .lines()
        .filter(|line| !line.starts_with("train") && !line.starts_with("optim"))
        .map(|line| format!("{line}\n"))
        .collect();
    let text = complaint(&alone, dir.path(), Level::Error);
    assert!(text.contains("the classes are those of `train_dataloader`, which is not there"), "{text}");
}

/// A program knows its classes, and gives numbers.
#[test]
fn a_program_gives_numbers() {
    let tape = Tape::new(BufferPool::default());
    let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![0.5, 1.0]).unwrap());
    let losses: [Box<dyn Loss>; 5] = [
        Box::new(CrossEntropyLoss {
            class_weight: Some(ClassWeight::Balanced),
            ..CrossEntropyLoss::default()
        }),
        Box::new(LabelSmoothLoss { class_weight: Some(ClassWeight::Balanced), ..LabelSmoothLoss::new(0.1) }),
        Box::new(NLLLoss { weight: Some(ClassWeight::Balanced), ..NLLLoss::default() }),
        Box::new(SoftmaxFocalLoss {
            weight: Some(ClassWeight::Named(Vec::new())),
            ..SoftmaxFocalLoss::default()
        }),
        Box::new(MultiMarginLoss { weight: Some(ClassWeight::Balanced), ..MultiMarginLoss::default() }),
    ];
    for loss in losses {
        let text = loss.forward(x, Target::Classes(&[1])).err().unwrap().to_string();
        assert!(text.contains("give `ClassWeight::Given` with a number for each class"), "{text}");
    }
}

/// Prices of houses, 1500 the square metre and 40,000 for the ground.
fn prices(dir: &Path) {
    let rows: String = (0..60)
        .map(|i| {
            let area = 50 + (i * 37) % 100;
            format!("{area},{},{}\n", ["Bern", "Chur"][i % 2], 40_000 + 1500 * area + 20_000 * (i % 2))
        })
        .collect();
    fs::write(dir.join("houses.csv"), format!("area,town,price\n{rows}")).unwrap();
    fs::write(dir.join("new.csv"), "area,town\n100,Bern\n120,Chur\n").unwrap();
}

const HOUSES: &str = "\
model:
  type: Supervised
  network: [{type: Linear, in_features: 3, out_features: 1}]
  loss: {type: MSELoss}
train_dataloader:
  batch_size: 8
  sampler: {type: DefaultSampler, shuffle: true}
  dataset: &houses {type: Csv, file: DIR/houses.csv, target: price, KEY split: {val: 0.25}, part: train}
val_dataloader: {batch_size: 8, dataset: {<<: *houses, part: val}}
val_evaluator: [{type: MAE}, {type: R2}]
val_cfg: {}
train_cfg: {by_epoch: true, max_epochs: 40}
optim_wrapper: {optimizer: {type: SGD, lr: 0.05}}
randomness: {seed: 1}
work_dir: DIR/WORK
";

/// A price of 10^5 trained to an R² below 0 without a word. It is told of, and can be learnt with mean 0 and deviation
/// 1: metrics and predictions are in the unit of the price.
#[test]
fn large_numbers_are_learnt_by_their_deviation_and_told_in_their_unit() {
    let dir = tempfile::tempdir().unwrap();
    prices(dir.path());
    let text = complaint(&HOUSES.replace("KEY ", ""), dir.path(), Level::Warning);
    assert!(text.contains("the target `price` has mean 206311") && text.contains("and deviation "), "{text}");
    assert!(text.contains("`standardize_target: true` of a `Csv`"), "{text}");
    let scaled = HOUSES.replace("KEY", "standardize_target: true,");
    assert!(said(&scaled, dir.path()).is_empty());

    let config = written(&scaled, dir.path(), "scaled");
    let mut runner = Runner::from_file(&config).unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let metrics = runner.val().unwrap();
    assert!(metrics.get("r2").unwrap() > 0.999, "{metrics:?}");
    // The line is exact: what is left is a small part of the deviation, some 45,000.
    assert!((1e-6..500.0).contains(&metrics.get("mae").unwrap()), "{metrics:?}");
    assert!(metrics.get("val_loss").unwrap() < 1e-3, "{metrics:?}");

    // What is predicted needs nothing but the checkpoint and the config.
    let checkpoint = dir.path().join("scaled/epoch_40");
    let set = format!("load_from={}", serde_json::to_string(&checkpoint).unwrap());
    let mut model = Predictor::from_config(&load(&config, &[set]).unwrap(), None).unwrap();
    let data = model.data(&[dir.path().join("new.csv")]).unwrap();
    let outputs = model.predict(&data.batches(0, Some(1)).next().unwrap().unwrap()).unwrap();
    let prices = outputs.predictions.get("prediction").unwrap();
    for (at, price) in [190_000.0, 240_000.0].into_iter().enumerate() {
        assert!((prices[[at, 0]] - price).abs() < 1000.0, "{prices}");
    }
}

/// Of a time in seconds 32 bits hold the first digits only, and no metric shows it.
#[test]
fn numbers_that_32_bits_cannot_tell_apart_are_told() {
    let dir = tempfile::tempdir().unwrap();
    prices(dir.path());
    let seconds = |i| 1_700_000_000 + 128 * (i % 4);
    let rows: String =
        (0..40).map(|i| format!("{},{},{}\n", 50 + i % 13, ["Bern", "Chur"][i % 2], seconds(i))).collect();
    fs::write(dir.path().join("houses.csv"), format!("area,town,price\n{rows}")).unwrap();
    let config = HOUSES.replace("KEY", "standardize_target: true,");
    let text = complaint(&config, dir.path(), Level::Warning);
    // Between 2^30 and 2^31 numbers of 24 bits are 128 apart.
    assert!(text.contains("the target `price` has mean 1.7e+09 and deviation 1"), "{text}");
    assert!(text.contains("two numbers of 32 bits are 128 apart there"), "{text}");
}

/// A run that goes on takes the means of its checkpoint, and ends as one that was not stopped.
#[test]
fn a_resumed_run_learns_in_the_same_unit() {
    let dir = tempfile::tempdir().unwrap();
    prices(dir.path());
    let scaled =
        HOUSES.replace("KEY", "standardize_target: true,").replace("max_epochs: 40", "max_epochs: 4");
    let ends = |work: &str, text: &str| {
        let mut runner = Runner::from_file(written(text, dir.path(), work)).unwrap();
        runner.train().unwrap();
        let metrics = runner.val().unwrap();
        ["mae", "r2", "val_loss"].map(|name| metrics.get(name).unwrap().to_bits())
    };
    let whole = ends("whole", &scaled);
    ends("cut", &scaled.replace("max_epochs: 4", "max_epochs: 2"));
    assert_eq!(ends("cut", &format!("{scaled}resume: true\n")), whole);
    let text = HOUSES.replace("KEY ", "").replace("WORK", "cut") + "resume: true\n";
    let error = Runner::from_file(written(&text, dir.path(), "cut")).err().unwrap().to_string();
    assert!(
        error.contains("`standardize_target` is false, but true for the training data, or the checkpoint"),
        "{error}"
    );
}

/// Classes have no deviation, and yes and no none that one learns by.
#[test]
fn what_is_no_number_is_not_scaled() {
    let dir = tempfile::tempdir().unwrap();
    prices(dir.path());
    let scaled = HOUSES.replace("KEY", "standardize_target: true,");
    let text = scaled.replace("target: price", "target: town").replace("in_features: 3", "in_features: 2");
    let all = said(&text, dir.path());
    assert!(all[0].message.contains("`standardize_target` is for numbers to predict"), "{all:?}");
    let text = scaled
        .replace("MSELoss", "BCEWithLogitsLoss")
        .replace("[{type: MAE}, {type: R2}]", "[{type: MultiLabelMetric}]");
    let all = said(&text, dir.path());
    assert!(
        all.iter().any(|diag| diag.message.contains("the loss of `target` predicts yes and no")),
        "{all:?}"
    );
    let rows = fs::read_to_string(dir.path().join("houses.csv")).unwrap();
    fs::write(dir.path().join("houses.csv"), rows.replace("Bern", "3").replace("Chur", "5")).unwrap();
    // Of two columns each has its own scale, and one that is small enough is not told of.
    let both = HOUSES.replace("KEY ", "").replace("target: price", "target: [price, town]");
    let both = both.replace("in_features: 3, out_features: 1", "in_features: 1, out_features: 2");
    let text = complaint(&both, dir.path(), Level::Warning);
    assert!(text.contains("`price`"), "{text}");
}

/// The same in a program.
#[test]
fn a_program_learns_by_the_deviation() {
    let dir = tempfile::tempdir().unwrap();
    prices(dir.path());
    let table = CsvConfig::new(dir.path().join("houses.csv"), "price").holdout(0.25, 0);
    let trained = |table: CsvConfig, name: &str| {
        let train = Csv::load(table).unwrap();
        let val = train.part(Part::Val).unwrap();
        assert_eq!((train.len(), val.len()), (45, 15));
        let mut runner = Runner::builder(Supervised::new(Linear::new(3, 1), MSELoss::default()))
            .train(DataLoader::new(train).batch_size(8), EpochBasedTrainLoop::new(40), Sgd::new(0.05))
            .val(DataLoader::new(val).batch_size(8), (MAE::default(), R2::default()))
            .seed(0)
            .work_dir(dir.path().join(name))
            .build()
            .unwrap();
        runner.train().unwrap();
        runner.val().unwrap().get("r2").unwrap()
    };
    assert!(trained(CsvConfig { standardize_target: true, ..table }, "scaled") > 0.999);
}

/// 3 points of class 1 far from 9 of class 0, none of class 2 and 4 of class 3.
fn points() -> Box<dyn Dataset> {
    let label = |n: usize| [1i64, 3, 0][[3, 7, 16].iter().position(|end| n < *end).unwrap_or(2)];
    let inputs =
        Array2::from_shape_fn((16, 2), |(n, k)| label(n) as f32 * 100.0 + ((n * 7 + k * 3) % 11) as f32);
    let set = ArrayDataset::new("inputs", inputs).unwrap();
    Box::new(set.with("target", Array1::from_shape_fn(16, label)).unwrap())
}

fn every(set: &dyn Dataset) -> Vec<Sample> {
    (0..set.len()).map(|at| set.get(at, &mut keyed(0, "", 0, 0)).unwrap()).collect()
}

fn counts(set: &dyn Dataset) -> [usize; 4] {
    let all = every(set);
    [0, 1, 2, 3].map(|class| all.iter().filter(|sample| sample.label() == Some(class)).count())
}

fn length(d: &ArrayD<f32>) -> f32 {
    d.iter().map(|v| v * v).sum::<f32>().sqrt()
}

/// A made-up sample lies between two of its class; the others stand before it as they were, and the same seed makes the
/// same ones.
#[test]
fn made_up_samples_lie_between_two_of_their_class() {
    let own = every(&*points());
    let smote = |k, ratio, seed| Smote::new(points(), k, ratio, seed).unwrap();
    let made = every(&smote(2, 1.0, 0));
    assert_eq!(counts(&smote(2, 1.0, 0)), [9, 9, 0, 9]);
    assert_eq!(made[..16], own[..]);
    for sample in &made[16..] {
        let alike = own.iter().filter(|other| other.label() == sample.label());
        let alike: Vec<&ArrayD<f32>> = alike.map(|other| other.float("inputs").unwrap()).collect();
        let x = sample.float("inputs").unwrap();
        let between = |a: &ArrayD<f32>, b: &ArrayD<f32>| {
            (length(&(x - a)) + length(&(b - x)) - length(&(b - a))).abs() < 1e-3
        };
        assert!(alike.iter().any(|a| alike.iter().any(|b| a != b && between(a, b))), "{x}");
    }
    assert_eq!(every(&smote(2, 1.0, 0)), made);
    assert_ne!(every(&smote(2, 1.0, 1)), made);
    assert_eq!(counts(&smote(2, 0.5, 0)), [9, 5, 0, 5]);
    assert_eq!(smote(2, 0.0, 0).len(), 16);
    // What is peeked at before a training is what is read in it.
    let set = smote(2, 1.0, 0);
    for (at, sample) in made.iter().enumerate() {
        assert_eq!(set.peek(at, "target").as_ref(), sample.fields.get("target"), "{at}");
    }
}

/// With one neighbour each made-up sample is on the way to the nearest one of its class: none is between 1.5 and 8.
#[test]
fn made_up_samples_go_to_the_nearest() {
    let x = [0.0f32, 1.0, 1.5, 8.0, 8.5].iter().chain(&[50.0; 60]).copied().collect::<Array1<f32>>();
    let target = Array1::from_shape_fn(65, |n| i64::from(n < 5));
    let set =
        ArrayDataset::new("inputs", x.insert_axis(ndarray::Axis(1))).unwrap().with("target", target).unwrap();
    let set = Smote::new(Box::new(set), 1, 1.0, 3).unwrap();
    let made: Vec<f32> =
        every(&set)[65..].iter().map(|sample| sample.float("inputs").unwrap()[[0]]).collect();
    assert_eq!(made.len(), 55);
    assert!(made.iter().all(|x| (0.0..=1.5).contains(x) || (8.0..=8.5).contains(x)), "{made:?}");
}

#[test]
fn a_sample_that_has_no_way_to_go_is_refused() {
    struct Three(Value, Value);
    impl Dataset for Three {
        fn len(&self) -> usize {
            3
        }
        fn get(&self, index: usize, _: &mut Rng) -> shanty::base::Result<Sample> {
            Ok(Sample::new(self.0.clone(), if index == 0 { self.1.clone() } else { Value::from(0i64) }))
        }
    }
    let text = |inputs: Value, label: Value| {
        Smote::new(Box::new(Three(inputs, label)), 5, 1.0, 0).err().unwrap().to_string()
    };
    let numbers = || Value::from(arr1(&[1.0f32]));
    assert!(text(numbers(), 1i64.into()).contains("class 1 has one alone"));
    assert!(text(numbers(), (-1i64).into()).contains("the `target` of sample 0 is no class"));
    assert!(text(numbers(), 0.5f32.into()).contains("the `target` of sample 0 is no class"));
    assert!(text(Value::from("a".to_owned()), 0i64.into()).contains("holds text"));
}

/// In a config it stands around the training data, whose classes are then counted with the made-up samples.
#[test]
fn a_config_wraps_its_training_data() {
    let dir = tempfile::tempdir().unwrap();
    parts(dir.path());
    let plain = classified("{type: CrossEntropyLoss}");
    let table = "dataset: {type: Csv, file: DIR/parts.csv, target: state}";
    let text = plain.replacen(
        table,
        "dataset: {type: Smote, dataset: {type: Csv, file: DIR/parts.csv, target: state}}",
        1,
    );
    assert_ne!(plain, text);
    let mut runner = Runner::from_file(written(&text, dir.path(), "smote")).unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let log = runner.session().state.dirs.log.clone();
    let log = fs::read_to_string(log.join(log.file_name().unwrap()).with_extension("log")).unwrap();
    assert!(log.contains("fail 10, ok 10"), "{log}");
}
