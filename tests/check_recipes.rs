//! What `check` knows of a recipe before it is trained: labels that the model has no score for, hooks that never act,
//! transforms in the wrong place; and remedies that are no new mistakes.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod said;

use std::fs;

use said::{Said, WIDE, wide};
use shanty::config::{Level, parse};
use shanty::run::check;

/// Twelve pictures of 2 × 2 pixels by a list, of these classes; `more` stands at the top level.
fn listed(train: [usize; 12], val: [usize; 12], more: &str) -> Said {
    let dir = tempfile::tempdir().unwrap();
    for (part, classes) in [("train", train), ("val", val)] {
        let lines: Vec<_> =
            classes.iter().enumerate().map(|(i, class)| format!("{part}{i}.ppm {class}")).collect();
        fs::write(dir.path().join(format!("{part}.txt")), lines.join("\n")).unwrap();
        for i in 0..12 {
            let picture = [b"P6 2 2 255\n".as_slice(), &[i * 20; 12]].concat();
            fs::write(dir.path().join(format!("{part}{i}.ppm")), picture).unwrap();
        }
    }
    let data = |part: &str| {
        format!(
            "{part}_dataloader: {{batch_size: 2, dataset: {{type: CustomDataset, data_root: {}, ann_file: {part}.txt, \
             pipeline: [{{type: LoadImageFromFile}}]}}}}\n",
            dir.path().display()
        )
    };
    let text = format!(
        "model:\n  type: Supervised\n  network: [{{type: Flatten}}, {{type: Linear, in_features: 12, out_features: 3}}]\n  \
         loss: {{type: CrossEntropyLoss}}\n{}{}val_evaluator: []\nval_cfg: {{}}\ntrain_cfg: {{by_epoch: true, max_epochs: 1}}\n\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.01}}}}\n{more}",
        data("train"),
        data("val")
    );
    Said::of(&text, dir.path())
}

const FINE: [usize; 12] = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2];
const ODD: [usize; 12] = [0, 1, 2, 0, 1, 2, 0, 1, 2, 7, 1, 2];

/// A run met the label after hours, in whichever batch it came.
#[test]
fn a_label_beyond_the_scores_is_known_before_its_sample_is_read() {
    assert!(!listed(FINE, FINE, "").refused);
    let error = "target 7 of sample 0 of the batch is outside the 3 classes";
    for (train, val, mode) in [(ODD, FINE, "train"), (FINE, ODD, "val")] {
        let said = listed(train, val, "");
        let whose = format!("it is sample 9 of `{mode}_dataloader`, counted from 0, that has 7 in `target`");
        assert!(said.refused, "{mode}");
        let told = said.all.iter().find(|(_, text, _)| text.contains(error));
        assert!(told.is_some_and(|(_, text, _)| text.contains(&whose)), "{mode}: {:#?}", said.all);
    }
    assert!(!listed(ODD, FINE, "exclude_samples: [9]\n").refused, "it is not trained on");
}

/// The run ended as if its hooks had done their work.
#[test]
fn hooks_that_begin_behind_the_end_are_told() {
    let save = |more: &str| wide("    interval: 2\n", &format!("    interval: 2\n{more}"));
    save("    save_begin: 9\n").has(
        Level::Warning,
        "only the end is saved, as this lies behind the 4 epochs",
        "9",
    );
    save("    save_begin: 9\n    save_last: false\n").has(
        Level::Warning,
        "nothing is saved, as this lies",
        "9",
    );
    let ema =
        |interval: u64| wide("begin_iter: 1, interval: 2", &format!("begin_iter: 1, interval: {interval}"));
    ema(13).has(Level::Warning, "an interval of 13 is longer than the run of 12 iterations", "13");
    let odd = |said: &Said| {
        said.all.iter().any(|(_, text, _)| text.contains("longer than") || text.contains("never"))
    };
    assert!(!odd(&ema(12)) && !odd(&save("    save_begin: 4\n")));

    let hook = |text: &str| wide("  - {type: NumClassCheckHook}", &format!("  - {text}"));
    let recipe = |epoch: u64| {
        hook(&format!(
            "{{type: SwitchRecipeHook, schedule: [{{action_epoch: {epoch}, train_pipeline: [{{type: Resize, scale: 8}}]}}]}}"
        ))
    };
    let pipeline = |epoch: u64| {
        hook(&format!(
            "{{type: PipelineSwitchHook, switch_epoch: {epoch}, switch_pipeline: [{{type: Resize, scale: 8}}]}}"
        ))
    };
    recipe(5).has(Level::Warning, "never used: it lies behind the 4 epochs of the run", "5");
    pipeline(4).has(Level::Warning, "never used: it lies behind the 4 epochs of the run", "4");
    assert!(!odd(&recipe(4)) && !odd(&pipeline(3)));
}

/// A wave of 100 epochs in a run of 300 went down, up and down again; a rate of 0 learnt nothing.
#[test]
fn schedules_that_do_not_come_to_their_end_are_told() {
    let cosine = |keys: &str| {
        wide(
            "{type: MultiStepLR, milestones: [2, 3], gamma: 0.5}",
            &format!("{{type: CosineAnnealingLR, {keys}}}"),
        )
    };
    cosine("T_max: 3").has(
        Level::Warning,
        "at its lowest after 3 of the 4 epochs of the schedule, and rises again",
        "3",
    );
    cosine("T_max: 2, begin: 1").has(Level::Warning, "after 2 of the 3 epochs of the schedule", "2");
    for fine in ["T_max: 4", "T_max: 3, begin: 1", "T_max: 3, end: 3", "eta_min: 0"] {
        assert!(!cosine(fine).all.iter().any(|(_, text, _)| text.contains("rises again")), "{fine}");
    }
    let poly = "  - {type: PolyLR, power: 0.9, eta_min: 0.0001, begin: 1, end: 4}\n";
    let none = WIDE.replacen("lr: 0.001", "lr: 0.0", 1).replacen(poly, "", 1);
    let none = Said::of(&none, tempfile::tempdir().unwrap().path());
    none.has(Level::Warning, "the learning rate is 0 in all of the run", "0.0");
    let some = wide("lr: 0.001", "lr: 0.001");
    assert!(!some.all.iter().any(|(_, text, _)| text.contains("nothing is learnt")), "{:#?}", some.all);
}

/// `CachePictures` behind what has read the file kept nothing, in silence.
#[test]
fn a_cache_behind_other_transforms_is_refused() {
    let cache = "{type: CachePictures, transforms: [{type: Resize, scale: 8}], cache_dir: work_dirs/none, max_gib: 1}";
    let through = |pipeline: &str| wide("noise: 0.5", &format!("noise: 0.5, pipeline: [{pipeline}]"));
    let said = through(&format!("{{type: RandomFlip, prob: 0.5}}, {cache}"));
    let told =
        said.all.iter().any(|(_, text, _)| text.contains("CachePictures keeps nothing here: `RandomFlip`"));
    assert!(said.refused && told, "{:#?}", said.all);
    assert!(!through(cache).refused);
}

/// What was proposed was refused in its turn, or led elsewhere.
#[test]
fn a_remedy_is_no_new_mistake() {
    let twice = wide("max_epochs: 4,", "max_epochs: 4, max_epoch: 3,");
    twice.has(Level::Error, "`max_epochs` stands there already: keep one of the two", "max_epoch");
    assert!(!twice.all.iter().any(|(_, text, _)| text.contains("fix:")), "{:#?}", twice.all);
    let through = |pipeline: &str| wide("noise: 0.5", &format!("noise: 0.5, pipeline: [{pipeline}]"));
    through("{type: Resize, scale_factor: 0.5}").has(Level::Error, "may only be null", "scale_factor");
    through("{type: Collect, keys: [img]}").has(Level::Error, "fix: PackInputs", "Collect");
    through("{type: torchvision/RandomHorizontalFlip}").has(
        Level::Error,
        "fix: RandomFlip",
        "torchvision/RandomHorizontalFlip",
    );
    let optimizer =
        "optimizer: {type: AdamW, lr: 0.001, betas: [0.9, 0.999], eps: 0.00000001, weight_decay: 0.01}";
    wide(optimizer, "optimizer: {type: SAM}").has(Level::Error, "`sam: {rho: 0.05}` stands beside", "SAM");
    let generator = wide(optimizer, &format!("generator: {{{optimizer}}}"));
    generator.has(Level::Error, "wrappers: {generator: {modules: …, optimizer: …}}", "generator");
    wide("norm_type: 2.0", "clip_value: 2.0").has(
        Level::Error,
        "`clip_value` belongs to a clip_grad of `type: value`",
        "{",
    );
    let erased = through("{type: RandomErasing, erase_prob: 1.0, fill_color: [1, 2]}");
    let few =
        erased.all.iter().any(|(_, text, _)| text.contains("where few samples are so, `max_bad_samples"));
    assert!(erased.refused && few, "{:#?}", erased.all);
}

/// A list of weights with one mistake was a picture of forty lines.
#[test]
fn of_one_mistake_in_many_places_some_are_shown() {
    let weights = ["-1"; 12].join(", ");
    let text = WIDE.replacen(
        "sampler: {type: DefaultSampler, shuffle: true}",
        &format!("sampler: {{type: WeightedRandomSampler, weights: [{weights}]}}"),
        1,
    );
    let error = check(&parse("c.yaml", &text).unwrap(), None).unwrap_err().to_string();
    assert_eq!(error.matches("and here").count(), 8, "{error}");
    assert!(error.contains("and in 3 further places"), "{error}");
}
