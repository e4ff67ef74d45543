//! From a CSV file to predictions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::{Path, PathBuf};

use ndarray::arr1;
use shanty::base::keyed;
use shanty::config::{Node, load, parse};
use shanty::data::{Csv, CsvConfig, Dataset, Delimiter, Encoding, Fields, Fitted, Missing, Part, Unknown};
use shanty::hook::Metrics;
use shanty::registry::{BuildCx, Spec};
use shanty::run::{Outcome, Predictor, Runner};

fn shipped(name: &str, dir: &Path, set: &[&str]) -> (PathBuf, Node) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    let work_dir = format!("work_dir={}", serde_json::to_string(&dir.join("work")).unwrap());
    let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).chain([work_dir]).collect();
    let node = load(&config, &set).unwrap();
    (config, node)
}

fn trained(name: &str, dir: &Path) -> (Node, Metrics) {
    let (config, node) = shipped(name, dir, &[]);
    let mut runner = Runner::from_config(&node, Some(&config.to_string_lossy())).unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    (node, runner.val().unwrap())
}

fn with_weights(dir: &Path, name: &str, checkpoint: &str) -> Node {
    let load_from =
        format!("load_from={}", serde_json::to_string(&dir.join("work").join(checkpoint)).unwrap());
    shipped(name, dir, &[&load_from]).1
}

/// Of a key that only the training part decides, another value was taken in silence.
#[test]
fn what_the_fit_decides_is_the_same_for_all_data() {
    let dir = tempfile::tempdir().unwrap();
    let config = table(dir.path(), "a,b,y\n1,2,3\n2,4,5\n");
    let mut fitted = Fitted::default();
    Csv::load(config.clone()).unwrap().fitted(&mut fitted);
    let mut cx = BuildCx::new(0);
    cx.provide(fitted);
    let mut built = |keys: &str| {
        let yaml = format!("{{type: Csv, file: {:?}, target: y, {keys}}}", config.file);
        Spec::<dyn Dataset>::parse(&yaml)
            .unwrap()
            .build(&mut cx)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    built("standardize: true, features: [a, b]").unwrap();
    built("unknown: ignore").unwrap();
    for (keys, why) in [
        ("standardize: false", "`standardize` is false, but true for the training data, or the checkpoint"),
        ("missing: mean", "`missing` is mean, but error for the training data"),
        ("missing: 0.5", "`missing` is 0.5, but error"),
        ("standardize_target: true", "`standardize_target` is true, but false"),
        ("ignore: [b]", "`ignore` names the column `b`, which goes in for the training data"),
        ("id: a", "`id` names the column `a`, which goes in"),
        (
            "classes: [x, y]",
            "`classes` names the classes of `y`, whose values are numbers in the training data",
        ),
    ] {
        let text = built(keys).unwrap_err();
        assert!(text.contains(why), "{keys}: {text}");
    }
}

/// The noise in the prices has a deviation of 12, a mean distance of 9.6: nothing can be nearer on average.
#[test]
fn a_price_is_learnt_from_a_table_and_predicted() {
    let dir = tempfile::tempdir().unwrap();
    let (_, metrics) = trained("houses_mlp.yaml", dir.path());
    assert!(metrics.get("r2").unwrap() > 0.95, "{metrics:?}");
    assert!(metrics.get("mae").unwrap() < 22.0, "{metrics:?}");
    assert!(metrics.get("val_loss").unwrap() > 0.0, "{metrics:?}");

    // A file without prices, in which the checkpoint's means and districts count.
    let file = dir.path().join("new.csv");
    std::fs::write(&file, "age,area,rooms,district,garden\n20,100,4,harbour,no\n,100,4,centre,yes\n")
        .unwrap();
    let mut model =
        Predictor::from_config(&with_weights(dir.path(), "houses_mlp.yaml", "epoch_60"), None).unwrap();
    let data = model.data(&[file]).unwrap();
    let batch = data.batches(0, Some(1)).next().unwrap().unwrap();
    assert_eq!((batch.len(), batch.get("target")), (2, None));
    let outputs = model.predict(&batch).unwrap();
    let prices = outputs.predictions.get("prediction").unwrap();
    // 40 + 190 + 24 - 60 tanh(0.5) + 40, as the script makes them.
    assert_eq!(prices.shape(), [2, 1]);
    assert!((prices[[0, 0]] - 266.3).abs() < 40.0, "{prices}");
    assert!(prices[[1, 0]] > prices[[0, 0]], "{prices}");
}

#[test]
fn a_class_is_learnt_from_a_table_with_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let (_, metrics) = trained("shops_mlp.yaml", dir.path());
    assert!(metrics.get("accuracy/top1").unwrap() > 80.0, "{metrics:?}");
    let model =
        Predictor::from_config(&with_weights(dir.path(), "shops_mlp.yaml", "epoch_20"), None).unwrap();
    assert_eq!(model.classes(), ["rarely", "sometimes", "often"]);
}

/// The weights of the norm, which no checkpoint has, were 0 as in a model that is only measured: every prediction was
/// the same.
#[test]
fn what_a_loose_checkpoint_lacks_begins_as_in_training() {
    let dir = tempfile::tempdir().unwrap();
    let few = ["train_cfg.max_epochs=1", "default_hooks.checkpoint.interval=1"];
    let (config, node) = shipped("houses_mlp.yaml", dir.path(), &few);
    let mut runner = Runner::from_config(&node, Some(&config.to_string_lossy())).unwrap();
    runner.train().unwrap();
    let load_from = format!("load_from={}", serde_json::to_string(&dir.path().join("work/epoch_1")).unwrap());
    let norm = "model.network.1={type: BatchNorm1d, num_features: 64}";
    let set = [load_from.as_str(), norm, "load_options.strict=false"];
    let (_, node) = shipped("houses_mlp.yaml", dir.path(), &set);
    let mut model = Predictor::from_config(&node, None).unwrap();
    let batch = model.data(&[]).unwrap().batches(0, Some(1)).next().unwrap().unwrap();
    let outputs = model.predict(&batch).unwrap();
    let prices = outputs.predictions.get("prediction").unwrap();
    assert!(prices.iter().any(|price| *price != prices[[0, 0]]), "{prices}");
}

/// The model asks for a field that no data set gives: said before training, at the place, with the nearest name.
#[test]
fn a_field_that_no_data_set_gives_is_a_mistake_of_the_config() {
    let dir = tempfile::tempdir().unwrap();
    for (change, name) in [("model.target=targt", "targt"), ("model.inputs=input", "input")] {
        let (_, node) = shipped("houses_mlp.yaml", dir.path(), &[change]);
        let text = shanty::run::check(&node, None).unwrap_err().to_string();
        assert!(text.contains(&format!("the model reads the field `{name}`")), "{text}");
        assert!(text.contains("but the data of train_dataloader give inputs, target"), "{text}");
        let near = if name == "targt" { "did you mean `target`?" } else { "did you mean `inputs`?" };
        assert!(text.contains(near), "{text}");
    }
    let (_, node) = shipped(
        "houses_mlp.yaml",
        dir.path(),
        &["train_dataloader.dataset.pipeline=[{type: Resize, scale: 8}]"],
    );
    let text = shanty::run::check(&node, None).unwrap_err().to_string();
    assert!(
        text.contains(
            "`Resize` does not fit here: it works on a picture, and `inputs` is floats of shape [9]"
        ),
        "{text}"
    );
}

fn table(dir: &Path, text: &str) -> CsvConfig {
    let file = dir.join("table.csv");
    std::fs::write(&file, text).unwrap();
    CsvConfig::new(file, "y")
}

fn inputs(set: &dyn Dataset, index: usize) -> Vec<f32> {
    set.get(index, &mut keyed(0, "", 0, 0)).unwrap().float("inputs").unwrap().iter().copied().collect()
}

/// Of the column x the rows 1 and 3 train: mean 2, deviation 1. The other rows must not count.
#[test]
fn what_is_fitted_is_fitted_on_the_training_part_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = table(dir.path(), "x,kind,y,part\n1,a,1,train\n1000,b,2,val\n3,a,3,train\n,a,4,val\n");
    let split = shanty::data::Split { column: Some("part".into()), ..Default::default() };
    let config = CsvConfig { split: Some(split), part: Some(Part::Train), missing: Missing::Mean, ..config };
    let train = Csv::load(CsvConfig { unknown: Unknown::Ignore, ..config.clone() }).unwrap();
    let val = train.part(Part::Val).unwrap();
    assert_eq!([inputs(&train, 0), inputs(&train, 1)], [[-1.0, 1.0], [1.0, 1.0]]);
    assert_eq!([inputs(&val, 0), inputs(&val, 1)], [[998.0, 0.0], [0.0, 1.0]]);
    let strict = Csv::load(config).unwrap();
    let text = strict.part(Part::Val).err().unwrap().to_string();
    assert!(
        text.contains("table.csv:3, column 2 (`kind`): the training part has no \"b\" here, but [a]"),
        "{text}"
    );
}

/// Chance left a rare class out of a part. Each part has its share now, if that is asked for.
#[test]
fn every_part_has_its_share_of_every_class() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..120)
        .map(|i| format!("{i},{},{}\n", i * i % 7, if i % 12 == 5 { "rare" } else { "common" }))
        .collect();
    let config = table(dir.path(), &format!("x,z,y\n{rows}"));
    let of = |seed, stratify, target: &str| {
        let split = shanty::data::Split { val: 0.2, test: 0.1, seed, stratify, column: None };
        let target = shanty::config::OneOrMany(vec![target.to_owned()]);
        CsvConfig { split: Some(split), part: Some(Part::Train), target, ..config.clone() }
    };
    let rare = |set: &Csv| {
        let of = |index| set.get(index, &mut keyed(0, "", 0, 0)).unwrap().label() == Some(1);
        (0..set.len()).filter(|index| of(*index)).count()
    };
    for seed in 0..10 {
        let train = Csv::load(of(seed, true, "y")).unwrap();
        let [val, test] = [Part::Val, Part::Test].map(|part| train.part(part).unwrap());
        assert_eq!(
            [&train, &val, &test].map(|set| (set.len(), rare(set))),
            [(84, 7), (24, 2), (12, 1)],
            "seed {seed}"
        );
    }
    let by_chance = (0..10).map(|seed| rare(&Csv::load(of(seed, false, "y")).unwrap()));
    assert!(by_chance.collect::<std::collections::HashSet<_>>().len() > 1);

    let refused = |config: CsvConfig| Csv::load(config).err().unwrap().to_string();
    let text = refused(of(0, true, "z"));
    assert!(text.contains("`split.stratify` needs a class, and `z` is a number"), "{text}");
    let named = CsvConfig { categorical: vec!["z".into()], ..of(0, true, "z") };
    Csv::load(named).unwrap();
    let target = shanty::config::OneOrMany(vec!["y".into(), "z".into()]);
    let text = refused(CsvConfig { target, ..of(0, true, "y") });
    assert!(text.contains("`split.stratify` needs one `target`"), "{text}");
    let split = shanty::data::Split { column: Some("z".into()), stratify: true, ..Default::default() };
    let text = refused(CsvConfig { split: Some(split), ..of(0, true, "y") });
    assert!(text.contains("`split.stratify` is for shares"), "{text}");
}

/// Nothing said which columns a run learns from, and as what. A date became as many categories as there are days, and
/// the first new day was an error without a cure.
#[test]
fn the_columns_are_told_and_a_date_has_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    let days: String =
        (1..10).map(|day| format!("2026-11-{day:02},{day},{},{day}.5\n", ["sun", "rain"][day % 2])).collect();
    let config = table(dir.path(), &format!("day,hours,sky,y\n{days}"));
    let set = Csv::load(config.clone()).unwrap();
    assert_eq!(set.summary().unwrap(), "numbers y from numbers hours and categories day (9), sky (2)");
    let new = dir.path().join("new.csv");
    std::fs::write(&new, "day,hours,sky\n2026-12-01,3,sun\n").unwrap();
    let text = set.file(&new).err().unwrap().to_string();
    assert!(text.contains("new.csv:2, column 1 (`day`): the training part has no \"2026-12-01\""), "{text}");
    let cure = "dates, numbers of rows and free text are no categories: `ignore: [day]` leaves the column out, `id: day` makes \
                it the name of the row; `unknown: ignore` passes over a new category";
    assert!(text.ends_with(cure), "{text}");
    std::fs::write(&new, "day,hours,sky\n2026-11-01,3,fog\n").unwrap();
    let text = set.file(&new).err().unwrap().to_string();
    assert!(
        text.contains("[rain, sun]: `unknown: ignore` passes over a new category; `ignore: [sky]`"),
        "{text}"
    );
    std::fs::write(&new, "day,hours,sky\n2026-12-01,3,sun\n").unwrap();
    let without = Csv::load(CsvConfig { ignore: vec!["day".into()], ..config }).unwrap();
    assert_eq!(without.file(&new).unwrap().len(), 1);
    let header: Vec<String> = (0..40).map(|n| format!("x{n}")).collect();
    let row = "1,".repeat(40);
    let wide = table(dir.path(), &format!("{},y\n{row}a\n{row}b\n", header.join(",")));
    let told = Csv::load(wide).unwrap().summary().unwrap();
    assert_eq!(
        told,
        "categories y (2) from numbers x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, … (40 in all)"
    );
}

/// The log of a run begins with it, and a plan tells it.
#[test]
fn the_columns_stand_in_the_log_and_in_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let columns =
        "categories comes_back (3) from numbers visits, spent and categories channel (3), member (2)";
    let (config, node) = shipped("shops_mlp.yaml", dir.path(), &["train_cfg.max_epochs=1"]);
    assert_eq!(shanty::run::plan(&node, None).unwrap().data.as_deref(), Some(columns));
    let mut runner = Runner::from_config(&node, Some(&config.to_string_lossy())).unwrap();
    runner.train().unwrap();
    let log = runner.session().state.dirs.log.clone();
    let log = std::fs::read_to_string(log.join(log.file_name().unwrap()).with_extension("log")).unwrap();
    assert!(log.contains(&format!("columns of the training data: {columns}\n")), "{log}");
}

/// `classes` are names of one target's classes: beside several targets they had no effect.
#[test]
fn classes_are_those_of_one_target() {
    let dir = tempfile::tempdir().unwrap();
    let classes = Some(vec!["x".to_owned(), "y".to_owned()]);
    let config = CsvConfig { classes, ..table(dir.path(), "a,b,c\n1,x,3\n2,y,4\n") };
    let of = |target: &[&str]| {
        let target = target.iter().map(|name| (*name).to_owned()).collect();
        Csv::load(CsvConfig { target: shanty::config::OneOrMany(target), ..config.clone() })
    };
    assert_eq!(of(&["b"]).unwrap().classes().unwrap(), ["x", "y"]);
    let several = of(&["b", "c"]).err().unwrap().to_string();
    assert!(several.starts_with("`classes` are those of one `target`, and there are 2"), "{several}");
}

#[test]
fn every_slip_in_a_file_has_its_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |text: &str| Csv::load(table(dir.path(), text)).err().unwrap().to_string();
    let cases = [
        ("x,y\n1,2\n3\n", "table.csv:3: 1 values where the first line names 2 columns"),
        ("x,x,y\n1,2,3\n", "table.csv:1: two columns are called \"x\""),
        ("x,y\n", "no row below the names of the columns"),
        ("x,yy\n1,2\n", "table.csv:1: there is no column `y`: there are x, yy (did you mean `yy`?)"),
        ("x,y\n1,2\n,3\n", "table.csv:3, column 1 (`x`): the value is missing"),
        ("x,y\n1,2\n2,\n", "table.csv:3, column 2 (`y`): the value to be predicted is missing"),
        ("x,y\n1,2\n2,2\n3,2\n4o,2\n", "table.csv:5, column 1 (`x`): \"4o\" is no number, as most values"),
    ];
    for (text, expected) in cases {
        let found = refused(text);
        assert!(found.contains(expected), "{text:?}: {found}");
    }
    let text = refused("x,y\n1,1e999\n2,2\n");
    assert!(text.contains("table.csv:2, column 2 (`y`): \"1e999\" is no finite number of 32 bits"), "{text}");
}

#[test]
fn categories_may_be_integers_and_targets_of_both_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let config = table(dir.path(), "x,kind,y,z\n1,b,1.5,no\n2,a,2.5,yes\n");
    let config = CsvConfig { encoding: Encoding::Integer, standardize: false, ..config };
    let config = CsvConfig { target: shanty::config::OneOrMany(vec!["y".into(), "z".into()]), ..config };
    let set = Csv::load(config).unwrap();
    let names: Vec<String> =
        set.fields().unwrap().iter().map(|(name, spec)| format!("{name}: {spec}")).collect();
    assert_eq!(
        names,
        [
            "inputs: floats of shape [1]",
            "categories: integers of shape [1]",
            "y: floats of shape [1]",
            "z: integers, one a sample"
        ]
    );
    let sample = set.get(1, &mut keyed(0, "", 0, 0)).unwrap();
    assert_eq!(sample.int("categories").unwrap(), &arr1(&[1i64]).into_dyn());
    assert_eq!((sample.float("y").unwrap()[[0]], sample.int("z").unwrap().first()), (2.5, Some(&1)));
    assert!(!Fitted::of(&set).is_empty());
}

/// Two heads with weights: the sum that is optimised is that of the parts, and each head has its prediction.
#[test]
fn several_heads_are_trained_together() {
    use shanty::data::Batch;
    use shanty::model::{Model, StepCx};
    let node = parse(
        "model.yaml",
        "{type: Supervised, network: [{type: Linear, in_features: 3, out_features: 4}, {type: ReLU}],
          heads: {digit: {type: Linear, in_features: 4, out_features: 5}, odd: {type: Linear, in_features: 4, out_features: 1}},
          losses: [{head: digit, loss: {type: CrossEntropyLoss}}, {head: odd, target: parity, weight: 0.5, loss: {type: BCEWithLogitsLoss}}]}",
    );
    let spec: shanty::registry::Spec<dyn Model> = node.unwrap().read().unwrap();
    let mut model = spec.build(&mut shanty::registry::BuildCx::new(0)).unwrap();
    model.init_weights(0).unwrap();
    let batch =
        Batch::new(ndarray::ArrayD::from_elem(vec![2, 3], 0.5), vec![1, 4]).with("parity", vec![1i64, 0]);
    let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap();
    let parts = outputs.get("loss_digit").unwrap() + outputs.get("loss_odd").unwrap();
    assert!((outputs.loss().unwrap() - parts).abs() < 1e-6, "{outputs:?}");
    let predicted = model.eval_step(&batch).unwrap();
    let shapes: Fields<Vec<usize>> =
        predicted.predictions.iter().map(|(name, v)| (name.to_owned().into(), v.shape().to_vec())).collect();
    assert_eq!(shapes.iter().collect::<Vec<_>>(), [("digit", &vec![2, 5]), ("odd", &vec![2, 1])]);
    let mean = predicted.sample_losses.unwrap().iter().map(|l| f64::from(*l)).sum::<f64>() / 2.0;
    assert!((mean - parts).abs() < 1e-5);
}

/// Tables as people and programs write them: what is no table, and what is no column to learn from, has its remedy.
#[test]
fn a_table_from_the_wild_is_refused_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let of = |text: &str| {
        Csv::load(table(dir.path(), text)).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let prices = |price: &dyn Fn(usize) -> String| {
        (0..12).map(|i| format!("{},{}\n", i * i, price(i))).collect::<String>()
    };
    for (text, words) in [
        (
            "x;y\n1;2\n",
            "table.csv:1: the first line is one name, and looks parted by \";\": give `delimiter: ';'`",
        ),
        ("x\ty\n1\t2\n", "looks parted by \"tab\": give `delimiter: tab`"),
        ("x|y\n1|2\n", "looks parted by \"|\": give `delimiter: '|'`"),
        (
            "Report\nx,y\n1,2\n",
            "table.csv:2: 2 values where the first line names 1 columns: what stands above the names",
        ),
        ("x,y\n\"1,2\n3,4\n", "a quotation mark is opened there, and not closed on its line"),
        ("1,2\n3,4\n", "the first line should name the columns, and looks like a row"),
        ("x,y\n1,\n2,\n", "the column `y` has no value in the training part: there is nothing to predict"),
        (
            "x,y,\n1,2,\n2,3,\n",
            "the column `` has no value in the training part: `ignore: [\"\"]` leaves it out",
        ),
        (
            "x,y\n1,2\na,3\nb,3\n,4\n",
            "(`x`): the value is missing: `missing: mean` fills gaps in numbers, and takes a category",
        ),
        ("x,y\n1,2\ninf,3\n", "table.csv:3, column 1 (`x`): \"inf\" is no finite number of 32 bits"),
    ] {
        let said = of(text);
        assert!(said.contains(words), "{text:?}: {said}");
    }
    let written: [&dyn Fn(usize) -> String; 9] = [
        &|i| format!("\"{i},5\""),
        &|i| if i % 4 == 0 { "3".to_owned() } else { format!("\"{i},5\"") },
        &|i| format!("\"1,{i:03}.5\""),
        &|i| format!("$1{i}"),
        &|i| format!("{i} €"),
        &|i| format!("{i}%"),
        &|i| format!("1'{i:03}"),
        &|i| format!("1 {i:03}"),
        &|i| format!("-$1{i}"),
    ];
    for price in written {
        let said = of(&format!("x,y\n{}", prices(price)));
        assert!(
            said.contains("(`y`): \"") && said.contains("is a number for people: write it with a point"),
            "{said}"
        );
    }
    let piped = table(dir.path(), "x|y\n1|2\n");
    assert_eq!(Csv::load(CsvConfig { delimiter: Delimiter::Pipe, ..piped }).unwrap().len(), 1);
    // What is text stays text.
    for value in ["10-20", "a 1", "5.3.1", "v1,2", "True"] {
        assert_eq!(of(&format!("x,y\n\"{value}\",1\nother,2\n")), "");
    }
}
