//! Rooms import only downwards: ARCHITECTURE.md's table, enforced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

/// A room and its level. Rooms of one level do not import each other, except as [`MAY_ALSO`] says.
const LEVELS: &[(&str, u32)] = &[
    ("base", 0),
    ("config", 1),
    ("registry", 1),
    ("params", 1),
    ("kernels", 1),
    ("data", 2),
    ("nn", 3),
    ("model", 5),
    ("optim", 5),
    ("metric", 5),
    ("vis", 5),
    ("checkpoint", 4),
    ("hook", 6),
    ("hook/builtin", 8),
    ("prelude", 7),
    ("run", 8),
    ("testing", 9),
    ("cli", 10),
];

/// Neighbours that know each other, each with its reason.
const MAY_ALSO: &[(&str, &str)] = &[
    // A spec is read from a node, and a node hands itself over to the spec that reads it.
    ("config", "registry"),
    ("registry", "config"),
    // `Pretrained` reads the weights of a checkpoint.
    ("nn", "checkpoint"),
    // The typed `log_processor:` of a config is a parameter of a built-in hook.
    ("run", "hook/builtin"),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The room of a path below `src` or of a module path, longest name first.
fn room(path: &str) -> Option<(&'static str, u32)> {
    let is_in =
        |name: &str| path.strip_prefix(name).is_some_and(|r| r.is_empty() || r.starts_with(['/', '.']));
    LEVELS.iter().filter(|(name, _)| is_in(name)).max_by_key(|(name, _)| name.len()).copied()
}

#[test]
fn rooms_import_only_downwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let own = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        let Some((home, level)) = room(&own) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (at, _) in code.match_indices("crate::") {
                if code[..at].ends_with('$') {
                    continue;
                }
                let used: String =
                    code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                let Some((target, above)) = room(&used.replace("::", "/")) else { continue };
                let allowed = target == home || above < level || MAY_ALSO.contains(&(home, target));
                if !allowed {
                    wrong.push(format!(
                        "{own}:{}: {home} (level {level}) imports {target} (level {above})",
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not go down:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_belongs_to_a_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let own = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        assert!(matches!(own.as_str(), "lib.rs" | "main.rs") || room(&own).is_some(), "{own} is in no room");
    }
}

#[test]
fn nothing_below_the_command_line_prints() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files.iter().filter(|f| !f.starts_with(src.join("cli"))) {
        let text = fs::read_to_string(file).unwrap();
        let code = text.lines().map(|l| l.split("//").next().unwrap_or_default());
        for (number, line) in code.enumerate() {
            let prints =
                ["println!(", "print!(", "eprintln!(", "eprint!(", "dbg!("].iter().any(|p| line.contains(p));
            assert!(!prints, "{}:{} prints", file.display(), number + 1);
        }
    }
}

#[test]
fn config_structs_stay_readable_by_our_deserializer() {
    // These attributes make serde buffer values, which loses places and the check of unknown keys.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("hooks"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, l)| l.trim_start().starts_with("#[serde("))
        {
            for banned in ["flatten", "untagged", "tag ="] {
                assert!(!line.contains(banned), "{}:{}: #[serde({banned})]", file.display(), number + 1);
            }
        }
    }
}

#[test]
fn files_stay_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for file in files {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 450, "{} has {lines} lines", file.display());
    }
}
