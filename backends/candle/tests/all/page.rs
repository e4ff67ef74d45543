//! docs/backends.md shows what is compiled and run here.

use crate::support::{here, train};

/// The text of a file without what stands before its first import, or of a config without its first line.
fn body(path: &str, from: &str) -> String {
    let text = std::fs::read_to_string(here(path)).unwrap();
    text[text.find(from).unwrap()..].to_owned()
}

#[test]
fn the_page_shows_the_examples_word_for_word() {
    let page = std::fs::read_to_string(here("../../docs/backends.md")).unwrap();
    let before = body("examples/loop_before.rs", "use candle_core");
    // How the data come to be tensors is no part of the comparison.
    let before = &before[..before.find("\n/// Pixels").unwrap()];
    for text in [
        before,
        &body("examples/loop_after.rs", "use candle_core"),
        &body("configs/loop_after.yaml", "model:"),
    ] {
        assert!(page.contains(text), "docs/backends.md lacks\n{text}");
    }
}

#[test]
fn the_config_of_the_page_trains() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        train("loop_after", &dir.path().join("run"), &["train_cfg.max_epochs=1"]).status().unwrap().success()
    );
}
