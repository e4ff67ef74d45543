//! What `check` knows of a recipe before it is trained: labels that the model has no score for, hooks that never act,
//! transforms in the wrong place; and remedies that are no new mistakes.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod said;

use said::wide;

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
