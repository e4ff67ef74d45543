//! Modules import only downwards: the table of ARCHITECTURE.md, enforced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

/// What ARCHITECTURE.md says: the level of each module, and the neighbours that know each other.
struct Levels {
    modules: Vec<(String, u32)>,
    neighbours: Vec<(String, String)>,
}

impl Levels {
    /// Reads the table `| level | module | holds |` and the list "- `a` imports `b`: reason" that follows it.
    fn read() -> Self {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
        let section = text.split("\n## ").find(|s| s.starts_with("Modules and levels")).unwrap();
        let (mut modules, mut neighbours) = (Vec::new(), Vec::new());
        for line in section.lines() {
            // What stands between backticks.
            let named = |text: &str| -> Vec<String> {
                text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
            };
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if let [_, level, names, _, _] = cells[..]
                && let Ok(level) = level.parse()
            {
                modules.extend(named(names).into_iter().map(|name| (name, level)));
            } else if let Some((pair, _)) = line.strip_prefix("- ").and_then(|l| l.split_once(':')) {
                let [a, b] = named(pair).try_into().unwrap();
                neighbours.push((a, b));
            }
        }
        Self { modules, neighbours }
    }

    /// The module of a path below `src` or of a module path, longest name first.
    fn module(&self, path: &str) -> Option<&(String, u32)> {
        let is_in = |name: &str| {
            path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
        };
        self.modules.iter().filter(|(name, _)| is_in(name)).max_by_key(|(name, _)| name.len())
    }

    fn allows(&self, from: &(String, u32), to: &(String, u32)) -> bool {
        let known = |(a, b): &(String, String)| (a, b) == (&from.0, &to.0);
        from.0 == to.0 || to.1 < from.1 || self.neighbours.iter().any(known)
    }
}

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

#[test]
fn the_table_is_read() {
    let levels = Levels::read();
    assert_eq!(levels.module("base/fs.rs").unwrap().1, 0);
    assert_eq!(levels.module("hook/builtin/ema.rs").unwrap().0, "hook/builtin");
    assert!(levels.modules.len() >= 18, "{:?}", levels.modules);
    // A module stands in the table once, and every neighbour in it.
    for (name, _) in &levels.modules {
        assert_eq!(levels.modules.iter().filter(|m| m.0 == *name).count(), 1, "{name}");
    }
    for (a, b) in &levels.neighbours {
        assert!(levels.modules.iter().any(|m| m.0 == *a) && levels.modules.iter().any(|m| m.0 == *b));
        assert!(levels.module(a).unwrap().1 <= levels.module(b).unwrap().1, "{a} stands above {b} anyway");
    }
}

#[test]
fn modules_import_only_downwards() {
    let levels = Levels::read();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let own = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        let Some(home) = levels.module(&own) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (at, _) in code.match_indices("crate::") {
                if code[..at].ends_with('$') {
                    continue;
                }
                let used: String =
                    code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                let Some(target) = levels.module(&used.replace("::", "/")) else { continue };
                if !levels.allows(home, target) {
                    wrong.push(format!(
                        "{own}:{}: {} (level {}) imports {} (level {})",
                        number + 1,
                        home.0,
                        home.1,
                        target.0,
                        target.1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not go down:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_belongs_to_a_module_of_the_table() {
    let levels = Levels::read();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let own = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        let listed = matches!(own.as_str(), "lib.rs" | "main.rs") || levels.module(&own).is_some();
        assert!(listed, "{own} belongs to no module of the table in ARCHITECTURE.md");
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
    for dir in ["src", "tests", "examples", "hooks"] {
        sources(&root.join(dir), &mut files);
    }
    for file in files {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 450, "{} has {lines} lines", file.display());
    }
}
