//! What `check` knows of a recipe before it is trained: labels that the model has no score for, hooks that never act,
//! transforms in the wrong place; and remedies that are no new mistakes.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod said;

use said::{WIDE, wide};
use shanty::config::{Level, parse};
use shanty::run::check;

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
    through("{type: Pad, size_divisor: 8}").has(Level::Error, "`pad_size_divisor`", "size_divisor");
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
