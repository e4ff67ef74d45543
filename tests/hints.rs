//! What `check` and the reader of configs say so that a person finds what was meant: names of other libraries, keys of
//! default hooks, layers before their loss, places of overrides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod said;

use std::fs;

use said::{Said, WIDE, wide};
use shanty::config::{Level, load_all};
use shanty::run::check;

/// A training on numbers whose last layer and loss are these.
fn ended(layers: &str, loss: &str) -> Said {
    let text = format!(
        "model: {{type: Supervised, network: {layers}, loss: {{type: {loss}}}}}\n\
         train_dataloader: {{batch_size: 4, dataset: {{type: SyntheticBlobs, n: 16, features: 4, classes: 3}}}}\n\
         train_cfg: {{by_epoch: true, max_epochs: 1}}\noptim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\n"
    );
    Said::of(&text, tempfile::tempdir().unwrap().path())
}

/// A softmax before a loss that takes one itself, and raw scores where logarithms are wanted, train badly and in silence.
#[test]
fn a_loss_says_what_it_wants_of_the_last_layer() {
    let linear = "{type: Linear, in_features: 4, out_features: 3}";
    for (last, keys) in [("Softmax", ", dim: 1"), ("LogSoftmax", ", dim: 1"), ("Sigmoid", "")] {
        let said = ended(&format!("[{linear}, {{type: {last}{keys}}}]"), "CrossEntropyLoss");
        said.has(Level::Warning, &format!("ends with {last}, and CrossEntropyLoss takes raw scores"), last);
        let cure = format!("leave out the {last}");
        assert!(said.all.iter().any(|(_, text, _)| text.contains(&cure)), "{:#?}", said.all);
    }
    // What changes no scores does not hide it, nor does a Sequential within.
    let nested =
        format!("[{{type: Sequential, layers: [{linear}, {{type: Softmax, dim: 1}}]}}, {{type: Dropout}}]");
    ended(&nested, "SoftmaxFocalLoss").has(Level::Warning, "SoftmaxFocalLoss takes raw scores", "Softmax");
    let raw = ended(&format!("[{linear}]"), "NLLLoss");
    raw.has(Level::Warning, "NLLLoss does not take raw scores, and the network ends with Linear", "Linear");
    assert!(raw.all.iter().any(|(_, text, _)| text.contains("or take CrossEntropyLoss")), "{:#?}", raw.all);
    let twice = ended(&format!("[{linear}, {{type: Softmax, dim: 1}}]"), "NLLLoss");
    twice.has(Level::Warning, "the network ends with Softmax", "Softmax");
    for (layers, loss) in [
        (format!("[{linear}, {{type: LogSoftmax, dim: 1}}]"), "NLLLoss"),
        (format!("[{linear}]"), "CrossEntropyLoss"),
    ] {
        let said = ended(&layers, loss);
        assert!(!said.all.iter().any(|(_, text, _)| text.contains("raw scores")), "{:#?}", said.all);
    }
}

/// Names of other libraries led to the nearest spelling, MAELoss to MSELoss.
#[test]
fn a_type_under_the_name_of_another_library_is_known() {
    let loss = |name: &str| {
        let said = ended("[{type: Linear, in_features: 4, out_features: 3}]", name);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        fs::write(&path, format!("model: {{type: Supervised, network: [], loss: {{type: {name}}}}}\n"))
            .unwrap();
        let node = load_all(&[&path], &[]).unwrap().node;
        let diags = check(&node, None).unwrap_err().diags().unwrap();
        assert!(said.refused);
        diags.0.iter().find(|diag| diag.message.contains("unknown loss")).unwrap().suggestion.clone().unwrap()
    };
    for (name, meant) in [
        ("MAELoss", "L1Loss"),
        ("mean_absolute_error", "L1Loss"),
        ("MAE", "L1Loss"),
        ("MSE", "MSELoss"),
        ("CELoss", "CrossEntropyLoss"),
        ("SparseCategoricalCrossentropy", "CrossEntropyLoss"),
        ("BCE", "BCEWithLogitsLoss"),
        ("NLL", "NLLLoss"),
        ("MSELos", "MSELoss"),
    ] {
        assert_eq!(loss(name), meant, "{name}");
    }
}

/// A key of a default hook wanted the hook's type beside it, unless a base had it.
#[test]
fn a_slot_of_the_default_hooks_knows_its_type() {
    let slots = |text: &str| {
        let text = format!(
            "model: {{type: Supervised, network: [{{type: Linear, in_features: 4, out_features: 3}}], \
             loss: {{type: CrossEntropyLoss}}}}\n\
             train_dataloader: {{batch_size: 4, dataset: {{type: SyntheticBlobs, n: 16, features: 4, classes: 3}}}}\n\
             train_cfg: {{by_epoch: true, max_epochs: 9}}\noptim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\n\
             default_hooks: {text}\n"
        );
        Said::of(&text, tempfile::tempdir().unwrap().path())
    };
    for fine in ["{logger: {interval: 5}}", "{checkpoint: {interval: 2, max_keep_ckpts: 1}, timer: {}}"] {
        let said = slots(fine);
        assert!(!said.refused, "{fine}: {:#?}", said.all);
    }
    slots("{logger: {intreval: 5}}").has(Level::Error, "unknown key `intreval` of `LoggerHook`", "intreval");
    slots("{logger: {tpye: LoggerHook}}").has(Level::Error, "this hook has no `type`", "tpye");
    slots("{mine: {interval: 5}}").has(Level::Error, "this hook has no `type`", "mine");
}

/// `lr=0.1` was an unknown key.
#[test]
fn a_key_with_an_equals_sign_is_a_key() {
    let said = wide("{type: AdamW, lr: 0.001", "{type: AdamW, lr=0.001");
    said.has(Level::Error, "unknown key `lr=0.001` of `AdamW`\na config writes `key: value`", "lr=0.001");
    wide("{type: AdamW, lr: 0.001", "{type: AdamW, lr = 0.001").has(
        Level::Error,
        "a config writes `key: value`",
        "lr = 0.001",
    );
}

/// Another spelling of a metric was told to lack a `rule`.
#[test]
fn a_metric_in_capitals_is_the_one_that_is_meant() {
    let numbers = |hook: &str| {
        let data = "{batch_size: 4, dataset: {type: SyntheticRegression, n: 16, features: 4}}";
        let text = format!(
            "model: {{type: Supervised, network: [{{type: Linear, in_features: 4, out_features: 1}}], \
             loss: {{type: MSELoss}}}}\ntrain_dataloader: {data}\nval_dataloader: {data}\nval_cfg: {{}}\n\
             val_evaluator: [{{type: MAE}}, {{type: R2}}]\ntrain_cfg: {{by_epoch: true, max_epochs: 1}}\n\
             optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\n{hook}\n"
        );
        Said::of(&text, tempfile::tempdir().unwrap().path())
    };
    for (hook, name, meant) in [
        ("default_hooks: {checkpoint: {save_best: MAE}}", "MAE", "mae"),
        ("default_hooks: {checkpoint: {save_best: [mae, R2]}}", "R2", "r2"),
        ("custom_hooks: [{type: EarlyStoppingHook, monitor: MAE}]", "MAE", "mae"),
    ] {
        numbers(hook).has(
            Level::Error,
            &format!("the validation gives no `{name}`: did you mean `{meant}`?"),
            name,
        );
    }
    let other = numbers("default_hooks: {checkpoint: {save_best: quality}}");
    other.has(Level::Error, "the validation gives no `quality`: it gives mae, r2", "quality");
    numbers("default_hooks: {checkpoint: {save_best: RMSE}}").has(
        Level::Error,
        "the validation gives no `RMSE`: it gives mae, r2",
        "RMSE",
    );
}

/// What other libraries call a figure of a classifier was answered with a list at best; a figure of numbers was told to
/// lack a `rule`.
#[test]
fn a_monitor_by_another_name_is_answered_with_the_one_that_is_written() {
    let classes = |hook: &str| {
        let data = "{batch_size: 4, dataset: {type: SyntheticBlobs, n: 16, features: 4, classes: 3}}";
        let text = format!(
            "model: {{type: Supervised, network: [{{type: Linear, in_features: 4, out_features: 3}}], \
             loss: {{type: CrossEntropyLoss}}}}\ntrain_dataloader: {data}\nval_dataloader: {data}\nval_cfg: {{}}\n\
             val_evaluator: [{{type: Accuracy}}, {{type: SingleLabelMetric}}, {{type: ROCAUC}}]\n\
             train_cfg: {{by_epoch: true, max_epochs: 1}}\n\
             optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\n{hook}\n"
        );
        Said::of(&text, tempfile::tempdir().unwrap().path())
    };
    for (name, meant) in [
        ("acc", "accuracy/top1"),
        ("top1", "accuracy/top1"),
        ("accuracy", "accuracy/top1"),
        ("val_acc", "accuracy/top1"),
        ("val_accuracy", "accuracy/top1"),
        ("accuracy_top-1", "accuracy/top1"),
        ("loss", "val_loss"),
        ("f1", "single-label/f1-score"),
        ("f1_score", "single-label/f1-score"),
        ("precision", "single-label/precision"),
        ("auc", "roc_auc"),
        ("AUROC", "roc_auc"),
    ] {
        for hook in [
            format!("default_hooks: {{checkpoint: {{save_best: {name}}}}}"),
            format!("custom_hooks: [{{type: EarlyStoppingHook, monitor: {name}}}]"),
        ] {
            let said = classes(&hook);
            let answers = [format!("did you mean `{meant}`?"), format!("fix: {meant}")];
            let answered = |text: &str| answers.iter().any(|answer| text.contains(answer));
            let errors = said.all.iter().filter(|(level, ..)| *level == Level::Error);
            assert!(
                errors.clone().count() == 1 && errors.clone().all(|e| answered(&e.1)),
                "{hook}: {:#?}",
                said.all
            );
        }
    }
    for name in ["mae", "rmse", "quality", "mIoU"] {
        let said = classes(&format!("default_hooks: {{checkpoint: {{save_best: {name}}}}}"));
        let listed = said.all.iter().any(|(_, text, _)| text.contains("it gives accuracy/top1"));
        assert!(said.refused && listed, "{name}: {:#?}", said.all);
    }
}

/// Weights of classes have another key in every other loss, and the key that is spelt alike is another thing.
#[test]
fn weights_of_classes_are_found_by_any_key() {
    let linear = "[{type: Linear, in_features: 4, out_features: 3}]";
    let fix = |loss: &str| {
        let said = ended(linear, loss);
        assert!(said.refused, "{loss}: {:#?}", said.all);
        let fix = |(_, text, _): (Level, String, String)| Some(text.split_once("fix: ")?.1.to_owned());
        said.all.into_iter().filter_map(fix).collect::<Vec<_>>()
    };
    for loss in ["SoftmaxFocalLoss", "NLLLoss", "MultiMarginLoss"] {
        for key in ["class_weight", "class_weights", "weights"] {
            assert_eq!(fix(&format!("{loss}, {key}: balanced")), ["weight"], "{loss} {key}");
        }
        assert!(!ended(linear, &format!("{loss}, weight: [1.0, 2.0, 3.0]")).refused);
        assert!(fix(&format!("{loss}, pos_weight: [1.0]")).is_empty(), "`loss_weight` is another thing");
    }
    for key in ["class_weight", "class_weights"] {
        assert_eq!(fix(&format!("BCEWithLogitsLoss, {key}: balanced")), ["pos_weight"]);
        assert!(fix(&format!("FocalLoss, {key}: balanced")).is_empty(), "`loss_weight` is another thing");
    }
    assert_eq!(fix("LabelSmoothLoss, label_smooth_val: 0.1, weight: balanced"), ["class_weight"]);
    assert_eq!(fix("CrossEntropyLoss, class_weights: balanced"), ["class_weight"]);
    for loss in
        ["BCEWithLogitsLoss, weight", "BCEWithLogitsLoss, pos_weight", "MultiLabelSoftMarginLoss, weight"]
    {
        for value in ["balanced", "{a: 2.0}"] {
            let said = ended(linear, &format!("{loss}: {value}"));
            let told =
                said.all.iter().any(|(_, text, _)| text.contains("weights of labels are a list of numbers"));
            assert!(said.refused && told, "{loss}: {value} {:#?}", said.all);
        }
    }
    for (value, words) in [("{}", "no class is named"), ("[]", "no class has a number")] {
        for loss in ["CrossEntropyLoss, class_weight", "CrossEntropyLoss, weight", "NLLLoss, weight"] {
            ended(linear, &format!("{loss}: {value}")).has(Level::Error, words, &value[..1]);
        }
    }
}

/// A mistake that an override makes was shown at the line that it had replaced a value of.
#[test]
fn a_mistake_of_an_override_is_shown_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, WIDE).unwrap();
    let work = format!("work_dir={}", dir.path().join("work").display());
    let set = [work, "model.backbone.layers.1.num_features=8".to_owned()];
    let node = load_all(&[&path], &set).unwrap().node;
    let diags = check(&node, None).unwrap_err().diags().unwrap();
    let places: Vec<_> =
        diags.0.iter().filter_map(|diag| Some(diag.at.as_ref()?.source().name.clone())).collect();
    assert!(places.iter().any(|name| name == "command line"), "{diags}");
}

/// It was not said from where the path of a base is counted.
#[test]
fn the_path_of_a_base_is_counted_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, "_base_: nowhere/base.yaml\n").unwrap();
    let diags = load_all(&[&path], &[]).unwrap_err();
    let note =
        format!("counted from the folder of the file that names it, which is {}", dir.path().display());
    assert!(diags.0[0].notes.iter().any(|own| own.ends_with(&note)), "{diags}");
}

/// A plan kept to itself what `check` finds odd.
#[test]
fn a_plan_tells_what_is_odd() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    fs::write(&path, WIDE.replacen("milestones: [2, 3]", "milestones: [2, 30]", 1)).unwrap();
    let work = format!("work_dir={}", dir.path().join("work").display());
    let node = load_all(&[&path], &[work]).unwrap().node;
    let warnings = shanty::run::plan(&node, None).unwrap().warnings.join("\n");
    assert!(
        warnings.contains("this milestone is never met") && warnings.contains("c.yaml:44:"),
        "{warnings}"
    );
}
