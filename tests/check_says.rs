//! What `check` says of configs that were taken in silence, or refused without a place or a remedy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod said;

use std::fs;
use std::time::Duration;

use said::{Said, WIDE, wide};
use shanty::config::{Level, load_all};
use shanty::run::check;

const TABLE: &str = "\
model:
  type: Supervised
  network: [{type: Linear, in_features: 3, out_features: 1}]
  loss: {type: MSELoss}
train_dataloader: {batch_size: 2, dataset: {type: Csv, file: FILE, target: rent, TRAIN split: {val: 0.5}, part: train}}
val_dataloader: {batch_size: 2, dataset: {type: Csv, file: FILE, target: rent, VAL split: {val: 0.5}, part: val}}
val_evaluator: [{type: METRIC}]
val_cfg: {}
train_cfg: {by_epoch: true, max_epochs: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.01}}
randomness: {seed: 1}
";

/// A table of flats whose rents are these.
fn table(rents: &[&str], change: impl Fn(&str) -> String) -> Said {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<_> = rents
        .iter()
        .enumerate()
        .map(|(i, rent)| format!("{i},{},{rent}", ["Bern", "Chur"][i / 2 % 2]))
        .collect();
    let file = dir.path().join("flats.csv");
    fs::write(&file, format!("rooms,town,rent\n{}\n", rows.join("\n"))).unwrap();
    let text = change(TABLE).replace("FILE", file.to_str().unwrap());
    let text = ["TRAIN ", "VAL "].iter().fold(text, |text, key| text.replace(key, ""));
    Said::of(&text.replace("METRIC", "R2"), dir.path())
}

const RENTS: [&str; 8] = ["900", "1100", "1500", "1700", "1800", "1900", "2000", "2100"];

/// A list that is empty, or a text, meant the default, or the folder in which the run was started.
#[test]
fn what_is_empty_is_no_value() {
    wide("randomness:", "load_from: ''\nrandomness:").has(
        Level::Error,
        "`load_from` must be not empty",
        "''",
    );
    let pretrained = "  init_cfg:\n    - {type: Pretrained, checkpoint: ''}\n";
    wide("  init_cfg:\n", pretrained).has(Level::Error, "`checkpoint` must be not empty", "''");
    table(&RENTS, |t| t.replace("TRAIN", "features: [],")).has(
        Level::Error,
        "`features` must be not empty",
        "[",
    );
    table(&RENTS, |t| t.replace("TRAIN", "classes: [],")).has(
        Level::Error,
        "`classes` must be not empty",
        "[",
    );
    let losses = |t: &str| t.replace("  loss:", "  losses: []\n  loss:");
    table(&RENTS, losses).has(Level::Error, "`losses` must be not empty", "[");
}

/// Weights of which none counts trained for hours at a loss of 0.
#[test]
fn class_weights_that_are_all_0() {
    for key in ["class_weight", "weight"] {
        let given = format!("{key}: [0.0, 0, 0.0]");
        wide("class_weight: [1.0, 2.0, 1.0]", &given).has(Level::Error, "lets no class count", "[");
    }
    assert!(!wide("class_weight: [1.0, 2.0, 1.0]", "class_weight: [0.0, 0, 0.1]").refused);
}

#[test]
fn a_lenet_without_classes_says_what_to_write() {
    let layers = WIDE.find("  backbone:").unwrap()..WIDE.find("  neck:").unwrap();
    let text = WIDE.replacen(&WIDE[layers], "  backbone: {type: LeNet5, num_classes: 0}\n", 1);
    let said = Said::of(&text, tempfile::tempdir().unwrap().path());
    said.has(Level::Error, "give the number of the classes, or leave it out", "0");
}

/// A complaint about a column pointed at the file, and another sign than the file's at nothing.
#[test]
fn a_table_is_complained_of_where_the_config_is_wrong() {
    let of = |from: &'static str, to: &'static str| table(&RENTS, |text| text.replace(from, to));
    of("target: rent", "target: rentt").has(Level::Error, "no column `rentt`", "rentt");
    of("TRAIN", "features: [romms],").has(Level::Error, "no column `romms`", "romms");
    of("TRAIN", "categorical: [tonw],").has(Level::Error, "no column `tonw`", "tonw");
    of("TRAIN", "ignore: [tonw],").has(Level::Error, "no column `tonw`", "tonw");
    of("split: {val: 0.5}", "split: {column: prat}").has(Level::Error, "no column `prat`", "prat");
    of("TRAIN", "delimiter: ';',").has(Level::Error, "looks parted by \",\": leave it out", "';'");
    of("TRAIN", "delimiter: tab,").has(Level::Error, "looks parted by \",\": leave it out", "tab");
}

/// Classes or categories of the validation that are not those of the training were passed over.
#[test]
fn parts_of_a_table_do_not_contradict_each_other() {
    let by_town = |train: &'static str, val: &'static str| {
        table(&RENTS, |text| {
            let text = text.replace("target: rent", "target: town").replace("features: 3", "features: 2");
            let text = text.replace("MSELoss", "CrossEntropyLoss").replace("METRIC", "Accuracy");
            text.replace("out_features: 1", "out_features: 2").replace("TRAIN", train).replace("VAL", val)
        })
    };
    assert!(!by_town("classes: [Bern, Chur],", "classes: [Bern, Chur],").refused);
    assert!(!by_town("", "").refused);
    let other = "`classes` names [Chur, Bern], but the training data, or the checkpoint, [Bern, Chur]";
    by_town("classes: [Bern, Chur],", "classes: [Chur, Bern],").has(Level::Error, other, "[");
    by_town("", "classes: [Chur, Bern],").has(Level::Error, other, "[");
    let numbers = table(&RENTS, |text| text.replace("VAL", "categorical: [rooms],"));
    numbers.has(Level::Error, "`categorical` names the column `rooms`", "rooms");
}

/// Two batches of equal targets were taken for a validation that cannot work.
#[test]
fn figures_that_a_few_samples_lack_are_no_mistake() {
    let mut rents = ["5"; 40];
    (rents[38], rents[39]) = ("7", "9");
    assert!(!table(&rents, str::to_owned).refused);
    let large = ["3.0e38", "-3.0e38", "3.3e38", "-3.3e38"];
    let large: Vec<_> = (0..16).map(|i| large[i % 4]).collect();
    assert!(!table(&large, str::to_owned).refused);
}

/// One score for yes and no is no score for each of two classes.
#[test]
fn an_accuracy_over_one_score_names_the_metric_that_is_meant() {
    let said = table(&RENTS, |text| {
        let text = text.replace("target: rent", "target: town").replace("features: 3", "features: 2");
        text.replace("MSELoss", "BCEWithLogitsLoss").replace("METRIC", "Accuracy")
    });
    said.has(Level::Error, "which `MultiLabelMetric` counts", "Accuracy");
}

/// An `init_cfg` for a layer that is nowhere left the weights as they were drawn.
#[test]
fn initial_weights_for_layers_that_are_not_there() {
    let layer = |to: &str| wide("layer: Conv2d, a", to);
    layer("layer: GroupNorm, a").has(
        Level::Warning,
        "`ImageClassifier` has no layer `GroupNorm`",
        "GroupNorm",
    );
    layer("layer: [Conv2d, LayerNorm], a").has(Level::Warning, "no layer `LayerNorm`", "LayerNorm");
    let over = "layer: Conv2d, override: {name: head, type: Normal, layer: Conv2d}, a";
    layer(over).has(Level::Warning, "an override is for everything in `head`", "Conv2d");
    wide("{type: Kaiming, layer: Conv2d, a", "{type: Kaiming, a").has(
        Level::Warning,
        "for which `layer`",
        "Kaiming",
    );
    for known in
        ["layer: _ConvNd, a", "layer: [Conv2d, Linear], a", "layer: Conv2d, override: {name: neck}, a"]
    {
        let said = layer(known);
        assert!(!said.all.iter().any(|(_, text, _)| text.contains("layer")), "{known}: {:#?}", said.all);
    }
}

/// Parts of a schedule that lie behind the end of the run did nothing, and nobody was told.
#[test]
fn what_never_acts_in_the_run_is_told() {
    let schedule = |to: &str| wide("{type: MultiStepLR, milestones: [2, 3], gamma: 0.5}", to);
    let idle = "changes nothing in the 4 epochs of the run";
    schedule("{type: MultiStepLR, milestones: [20, 30], gamma: 0.5}").has(Level::Warning, idle, "[");
    // Of milestones that are met in part, those that are not.
    for (range, at) in [("", "30"), (", begin: 1, end: 3", "3")] {
        let half = schedule(&format!("{{type: MultiStepLR, milestones: [1, {at}], gamma: 0.5{range}}}"));
        half.has(Level::Warning, "this milestone is never met", at);
        let milestones = half.all.iter().filter(|(_, text, _)| text.contains("milestone")).count();
        assert_eq!(milestones, 1, "{:#?}", half.all);
    }
    schedule("{type: StepLR, step_size: 10, gamma: 0.5}").has(Level::Warning, idle, "10");
    schedule("{type: StepLR, step_size: 100, gamma: 0.5, by_epoch: false}").has(Level::Warning, idle, "100");
    schedule("{type: MultiStepMomentum, milestones: [9]}").has(Level::Warning, idle, "[");
    schedule("{type: ConstantLR, factor: 1.0}").has(Level::Warning, idle, "1.0");
    wide("end: 2, by_epoch: false", "end: 200, by_epoch: false").has(
        Level::Warning,
        "the run has 12 iterations",
        "200",
    );
    let val = |to: &str| wide("val_begin: 1, val_interval: 2, dynamic_intervals: [[3, 1]]", to);
    val("val_begin: 5").has(Level::Warning, "nothing is validated", "5");
    val("val_interval: 9").has(Level::Warning, "only the end is validated", "9");
    val("dynamic_intervals: [[9, 1]]").has(Level::Warning, "this never acts", "9");
    let save = "    by_epoch: false\n    interval: 50\n";
    wide("    interval: 2\n", save).has(Level::Warning, "longer than the run of 12 iterations", "50");
    let fine = wide("gamma: 0.5", "gamma: 0.25");
    assert!(!fine.all.iter().any(|(_, text, _)| text.contains("nothing in")), "{:#?}", fine.all);
}

/// A key that only some other type has was suggested for a place where that type is not.
#[test]
fn a_key_of_another_type_is_no_suggestion() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, WIDE.replacen("weight_decay: 0.01}", "weight_decay: 0.01, num_features: 4}", 1))
        .unwrap();
    let node = load_all(&[&path], &[]).unwrap().node;
    let diags = check(&node, None).unwrap_err().diags().unwrap();
    let diag = diags.0.iter().find(|diag| diag.message.contains("num_features")).unwrap();
    assert_eq!(diag.suggestion, None);
    assert!(diag.notes.contains(&"`num_features` is a key of `BatchNorm2d`".to_owned()), "{diags}");
}

const MNIST: &str = "\
model:
  type: ImageClassifier
  backbone: {type: Sequential, layers: [{type: Flatten}]}
  head: {type: LinearClsHead, num_classes: 10, in_channels: 784}
train_dataloader: {batch_size: 8, dataset: {type: MNIST, data_root: no/where}}
val_dataloader: {batch_size: 8, dataset: {type: MNIST, data_root: no/where, test_mode: true}}
val_evaluator: {type: Accuracy, topk: [1]}
val_cfg: {}
train_cfg: {by_epoch: true, max_epochs: 2}
optim_wrapper: {optimizer: {type: SGD, lr: 0.01}}
";

/// A data set that is not on this machine hid that the layers do not fit what its pipeline makes.
#[test]
fn layers_are_tried_without_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let of = |from: &str, to: &str| Said::of(&MNIST.replace(from, to), dir.path());
    let fine = of("no/where", "no/where");
    fine.has(Level::Warning, "tried on a sample of the shape that the pipeline makes", "no/where");
    of("in_channels: 784", "in_channels: 785").has(Level::Error, "785", "LinearClsHead");
    let resized = "no/where, pipeline: [{type: Resize, scale: 32}]";
    of("no/where", resized).has(Level::Error, "1024", "LinearClsHead");
    of("topk: [1]", "topk: [11]").has(Level::Error, "topk 11", "[");
    // Of pictures in files nobody knows the size, unless the pipeline gives them one.
    let folder = |pipeline: &str, inputs: &str| {
        let sets = format!("{{type: ImageFolder, data_root: no/where, pipeline: [{pipeline}]}}");
        let text = MNIST.replace("{type: MNIST, data_root: no/where, test_mode: true}", &sets);
        let text = text.replace("{type: MNIST, data_root: no/where}", &sets);
        Said::of(&text.replace("784", inputs), dir.path())
    };
    let crop = "{type: LoadImageFromFile}, {type: RandomResizedCrop, scale: 8}, {type: PackInputs}";
    assert!(!folder(crop, "192").refused);
    folder(crop, "191").has(Level::Error, "191", "LinearClsHead");
    let gray = crop.replace("File}", "File, color_type: grayscale}");
    assert!(!folder(&gray, "64").refused);
    let unknown = folder("{type: LoadImageFromFile}, {type: PackInputs}", "5");
    unknown.has(Level::Warning, "whether the layers fit them was not checked", "no/where");
}

const MIXED: &str = "
model:
  type: ImageClassifier
  backbone: {type: Sequential, layers: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 3}]}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
  train_cfg: {augments: {type: Mixup, alpha: 0.8}}
train_dataloader: {batch_size: 4, dataset: {type: Synthetic, n: 8, shape: [3, 2, 2], classes: 3}}
train_cfg: {by_epoch: true, max_epochs: 1}
optim_wrapper: {optimizer: {type: SGD, lr: 0.01}}
";

/// Complaints of a part that has no key for them stand at the part, not at the model that holds it.
#[test]
fn a_part_that_is_wrong_inside_of_the_model_is_pointed_at() {
    let dir = tempfile::tempdir().unwrap();
    let of = |from: &str, to: &str| Said::of(&MIXED.replace(from, to), dir.path());
    assert!(!of("", "").refused);
    // What takes classes alone gets shares of them from mixed samples.
    for loss in ["SoftmaxFocalLoss", "MultiMarginLoss"] {
        of("CrossEntropyLoss", loss).has(Level::Error, "are for CrossEntropyLoss", loss);
    }
    let layers = "Sequential, layers: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 3}]";
    let performer = "T2T_ViT, embed_dims: 12, num_layers: 1, t2t_cfg: {use_performer: true}";
    of(layers, performer).has(Level::Error, "`use_performer: true` is not here", "true");
}

/// The processor's time of this thread: what else the machine does is not in it, nor what the rehearsal of the run
/// computes on a thread of the pool.
fn busy() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// What was quadratic in the number of lines: a repeated key took ten seconds at half of this.
#[test]
fn long_configs_are_read_in_a_time_that_grows_with_them() {
    const LINES: usize = 40_000;
    let rows = |row: &dyn Fn(usize) -> String| (0..LINES).map(row).collect::<String>();
    let many = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("base.yaml"), format!("env_cfg:\n{}", rows(&|i| format!("  k{i}: {i}\n"))))
            .unwrap();
        let began = busy();
        let said = Said::of(text, dir.path());
        assert!(busy().saturating_sub(began) < Duration::from_secs(20), "{:.200}", text);
        said
    };
    let seed = "randomness: {seed: 1}";
    let repeated = many(&format!("{WIDE}{}", "lr: 1\n".repeat(LINES)));
    assert_eq!(repeated.all.len(), 1, "one key is one mistake");
    many(&WIDE.replace(seed, &format!("randomness:\n{}", "  seed: 1\n".repeat(LINES))));
    many(&WIDE.replace(seed, &format!("randomness:\n  seed: 1\n{}", rows(&|i| format!("  k{i}: 1\n")))));
    many(&format!("{WIDE}env_cfg:\n{0}{0}", rows(&|i| format!("  k{i}: 1\n"))));
    many(&format!("{WIDE}exclude_samples: [{}]\n", "a, ".repeat(LINES)));
    many(
        &WIDE.replace("custom_hooks:\n", &format!("custom_hooks:\n{}", "  - {type: Timer}\n".repeat(LINES))),
    );
    many(&format!("_base_: base.yaml\nenv_cfg:\n{}", rows(&|i| format!("  k{i}: 1{i}\n"))));
    many(&format!(
        "_base_: base.yaml\nx:\n{}",
        rows(&|i| format!("  k{i}: '{{{{_base_.env_cfg.kk{i}}}}}'\n"))
    ));
}

const FEW: &str = "\
model: {type: Supervised, network: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 2}], loss: {type: CrossEntropyLoss}}
train_dataloader: {batch_size: 4, dataset: &d {type: Synthetic, n: 12, shape: [3, 2, 2], classes: 2}}
val_dataloader: {batch_size: 4, dataset: *d}
val_cfg: {}
val_evaluator: [{type: Accuracy}]
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {by_epoch: true, max_epochs: 1}
randomness: {seed: 1}
";

fn few(from: &str, to: &str) -> Said {
    assert!(FEW.contains(from), "{from}");
    Said::of(&FEW.replacen(from, to, 1), tempfile::tempdir().unwrap().path())
}

/// Each hook was compared with all others, and each metric, and each schedule.
#[test]
fn many_parts_are_checked_in_a_time_that_grows_with_them() {
    let many = |before: &str, item: &dyn Fn(usize) -> String| {
        let items: String = (0..20_000).map(|n| format!("  - {}\n", item(n))).collect();
        let began = busy();
        let said = few("randomness: {seed: 1}\n", &format!("randomness: {{seed: 1}}\n{before}\n{items}"));
        let took = busy().saturating_sub(began);
        assert!(took < Duration::from_secs(10), "{before}: {took:?}");
        said
    };
    assert!(!many("custom_hooks:", &|_| "{type: DigestHook}".into()).refused);
    assert!(many("custom_hooks:", &|_| "{type: EMAHook}".into()).refused);
    let beside = |n| format!("{{type: DigestHook, after: [DigestHook#{}]}}", if n > 1 { n } else { 2 });
    assert!(!many("custom_hooks:", &beside).refused);
    assert!(many("custom_hooks:", &|_| "{type: DigestHook, after: [DigestHook]}".into()).refused);
    many("param_scheduler:", &|_| "{type: ConstantLR, factor: 0.9, end: 1}".into());
    many("param_scheduler:", &|_| "{type: CosineAnnealingLR, end: 1}".into());
    let metrics: String = (0..20_000).map(|n| format!("{{type: Accuracy, prefix: p{n}}}, ")).collect();
    let began = busy();
    assert!(!few("[{type: Accuracy}]", &format!("[{metrics}]")).refused);
    let took = busy().saturating_sub(began);
    assert!(took < Duration::from_secs(10), "metrics: {took:?}");
}

/// Of models from some fifty million numbers in a layer the layers were not tried on the data: what does not fit was
/// found by the training.
#[test]
fn a_large_model_is_tried_too() {
    for layer in [
        "{type: LayerNorm, normalized_shape: 71000000}",
        "{type: BatchNorm1d, num_features: 71000000}",
        "{type: Linear, in_features: 1, out_features: 71000000}",
    ] {
        let said = few("{type: Linear, in_features: 12, out_features: 2}", layer);
        let told = said.all.iter().any(|(level, text, place)| {
            *level == Level::Error && text.starts_with("the model: `network.1`") && layer.contains(place)
        });
        assert!(told && said.refused, "{layer}: {:#?}", said.all);
    }
}

/// What somebody wrote was quoted whole, whatever its length.
#[test]
fn what_is_quoted_is_shortened() {
    let (word, words) = ("A".repeat(100_000), "ab ".repeat(30_000));
    for (from, to) in [
        ("lr: 0.1", "lr: 1".to_owned() + &"1".repeat(100_000)),
        ("lr: 0.1", format!("lr: 0.1, {}_: 1", "m".repeat(900))),
        ("type: SGD", format!("type: {word}")),
        ("type: SGD", format!("type: \"{words}\"")),
        ("max_epochs: 1", format!("max_epochs: {words}")),
        ("max_epochs: 1", format!("max_epochs: -{}", "9".repeat(50_000))),
        ("randomness: {seed: 1}\n", format!("load_from: {word}\n")),
        ("randomness: {seed: 1}\n", format!("load_from: \"{{{{${word}}}}}\"\n")),
        (
            "randomness: {seed: 1}\n",
            format!("randomness: {{seed: 1}}\ncustom_hooks: [{{type: DigestHook, after: [{word}]}}]\n"),
        ),
        ("shape: [3, 2, 2]", format!("shape: [{}]", "3, ".repeat(20_000))),
        (
            "{type: Accuracy}",
            format!("{{type: Accuracy, prefix: \"{words}\"}}, {{type: Accuracy, prefix: \"{words}\"}}"),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        fs::write(&path, FEW.replacen(from, &to, 1)).unwrap();
        let checked = load_all(&[&path], &[])
            .map_err(shanty::base::Error::from)
            .and_then(|loaded| check(&loaded.node, None));
        let text = checked.unwrap_err().diags().unwrap().render(false);
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest < 1500, "{longest} letters: {from} {:.60}: {text:.3000}", to);
    }
}

/// A file that is no text was to be "a finite number".
#[test]
fn a_number_in_place_of_a_text_is_told_by_its_kind() {
    for number in [".nan", ".inf", "-.inf", "3"] {
        let said = few(
            "{type: Synthetic, n: 12, shape: [3, 2, 2], classes: 2}",
            &format!("{{type: Csv, file: {number}}}"),
        );
        assert!(
            said.refused && said.all.iter().all(|(_, text, _)| !text.contains("finite")),
            "{:#?}",
            said.all
        );
        assert!(
            said.all.iter().any(|(_, text, at)| text.contains("`file`") && at == number),
            "{:#?}",
            said.all
        );
    }
}
