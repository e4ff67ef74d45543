//! `docs/promises.md` names a test for each promise: each of them is there.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

#[test]
fn every_promise_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    let mut promises = 0;
    for row in rows {
        let held_by = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let tests: Vec<_> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            let one = root.join("tests").join(file).with_extension("rs");
            // A test of several files is a folder.
            let parts = fs::read_dir(root.join("tests").join(file)).into_iter().flatten();
            let paths = parts.map(|part| part.unwrap().path()).chain(one.exists().then_some(one));
            let text: String = paths.map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
            let at = text.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("no test `{test}`"));
            assert!(text[..at].contains("#[test]"), "{test} is no test");
        }
        promises += 1;
    }
    assert!(promises > 30, "{promises} promises were found");
}
