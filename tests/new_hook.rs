//! `shanty new hook NAME`. That the crate compiles and keeps its contract is shown by `hooks/my_hook`, its template,
//! which is a member of the workspace.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::process::{Command, Output};

fn new_hook(dir: &std::path::Path, name: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).current_dir(dir).args(["new", "hook", name]).output().unwrap()
}

#[test]
fn the_crate_is_the_template_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let out = new_hook(dir.path(), "loss_watch");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let read = |file: &str| fs::read_to_string(dir.path().join("loss_watch").join(file)).unwrap();
    let template = |file: &str| {
        let home = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks/my_hook/");
        let text = fs::read_to_string(format!("{home}{file}")).unwrap();
        text.replace("my_hook", "loss_watch").replace("MyHook", "LossWatch")
    };
    for file in ["my.yaml", "src/lib.rs", "src/main.rs", "tests/contract.rs"] {
        assert_eq!(read(file), template(file), "{file}");
    }
    assert!(read("src/lib.rs").contains("dyn Hook, \"LossWatch\" => LossWatch"));
    assert!(read("my.yaml").contains("{type: LossWatch, interval: 10}"));
    assert!(read("src/main.rs").contains("use loss_watch as _;"));
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("[profile.dev.package.\"*\"]\nopt-level = 3\n"), "{manifest}");
    assert!(manifest.contains("name = \"loss_watch\""), "{manifest}");
    assert!(
        manifest.contains(&format!("shanty = {{ path = \"{}\" }}", env!("CARGO_MANIFEST_DIR"))),
        "{manifest}"
    );
}

#[test]
fn nothing_is_overwritten_and_names_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("taken")).unwrap();
    for (name, says) in
        [("taken", "is there already"), ("LossWatch", "it is not in snake_case"), ("fn", "a word of Rust")]
    {
        let out = new_hook(dir.path(), name);
        assert_eq!(out.status.code(), Some(2));
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(text.contains(says), "{text}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
