//! `shanty new hook NAME`: a crate for a hook of one's own.
//!
//! The template is the workspace's own `hooks/my_hook`, so that what is written compiles and keeps the contract.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::console;
use crate::base::error::IoContext;
use crate::base::escape::escaped;
use crate::base::{Error, Result};
use crate::registry;

// `hooks/my_hook` is the same crate, compiled and tested; a package of shanty cannot hold another package's files.
const FILES: [(&str, &str); 4] = [
    ("my.yaml", include_str!("template/my.yaml")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("src/main.rs", include_str!("template/main.rs.txt")),
    ("tests/contract.rs", include_str!("template/contract.rs.txt")),
];

/// Arguments of `new`.
#[derive(Debug, Clone, Args)]
pub(super) struct New {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// A crate with a hook, its contract test and its own runner binary.
    Hook {
        /// The crate's name in snake_case: `grad_noise` gives the hook `GradNoise`.
        name: String,
        /// The folder; the name if absent.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Where shanty's sources are.
        #[arg(long, value_name = "DIR", default_value = env!("CARGO_MANIFEST_DIR"))]
        shanty: PathBuf,
    },
}

impl New {
    pub fn run(self) -> Result<()> {
        let What::Hook { name, dir, shanty } = self.what;
        check_name(&name)?;
        let dir = dir.unwrap_or_else(|| name.clone().into());
        if dir.exists() {
            return Err(Error::config(format!("{} is there already: choose another --dir", dir.display())));
        }
        write(&dir, "Cargo.toml", &manifest(&name, &shanty))?;
        for (file, template) in FILES {
            write(&dir, file, &template.replace("my_hook", &name).replace("MyHook", &camel(&name)))?;
        }
        console::say(&format!(
            "{} holds the hook {}: `cargo test` holds it to its contract, `cargo run -- train my.yaml` in it trains with it",
            dir.display(),
            camel(&name)
        ));
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let refused = |why: &str| {
        let name = escaped(name);
        Err(Error::config(format!(
            "`{name}` cannot be the name of a hook's crate: {why}; write it like `grad_noise`"
        )))
    };
    if !plain {
        return refused("it is not in snake_case");
    }
    if name.len() > LONGEST {
        return refused("it is too long");
    }
    if KEYWORDS.contains(&name) {
        return refused("it is a word of Rust");
    }
    if CRATES.contains(&name) {
        return refused("a crate or a folder that its build uses has this name");
    }
    let hook = camel(name);
    if TYPES.contains(&hook.as_str()) {
        return refused(&format!("its hook `{hook}` would hide a type that it uses"));
    }
    if registry::find(&hook).next().is_some() {
        return refused(&format!("its hook `{hook}` would have the name of a type of shanty"));
    }
    Ok(())
}

/// Bytes of a crate's name: files that are named after it get longer names still.
const LONGEST: usize = 64;
/// Rust's keywords, those that it keeps for later too.
const KEYWORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "union", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];
/// Crates that the template names or that are always there, and what Cargo keeps for itself.
const CRATES: [&str; 16] = [
    "shanty",
    "serde",
    "schemars",
    "core",
    "std",
    "alloc",
    "proc_macro",
    "test",
    "build",
    "deps",
    "examples",
    "incremental",
    "contract",
    "main",
    "lib",
    "doc",
];
/// Types that the template, the prelude and the derives in it name.
const TYPES: [&str; 51] = [
    "State",
    "Record",
    "BoxError",
    "Elem",
    "Error",
    "Rng",
    "Checkpoint",
    "CheckpointSaved",
    "Metrics",
    "Mode",
    "OnError",
    "Phase",
    "Point",
    "Priority",
    "SaveRequest",
    "HookOrder",
    "HookState",
    "Model",
    "Outputs",
    "StepCx",
    "ParamMut",
    "ParamRef",
    "Params",
    "Role",
    "BuildCx",
    "Hook",
    "Ctx",
    "Step",
    "HookResult",
    "Event",
    "Progress",
    "MessageHub",
    "Batch",
    "Deserialize",
    "Serialize",
    "JsonSchema",
    "Debug",
    "Clone",
    "Default",
    "Option",
    "Some",
    "None",
    "Result",
    "Ok",
    "Err",
    "Box",
    "String",
    "Vec",
    "Send",
    "Sized",
    "Self",
];

/// `GradNoise` of `grad_noise`.
fn camel(name: &str) -> String {
    let word = |w: &str| w[..1].to_ascii_uppercase() + &w[1..];
    name.split('_').filter(|w| !w.is_empty()).map(word).collect()
}

fn manifest(name: &str, shanty: &Path) -> String {
    let shanty = toml_string(&shanty.to_string_lossy());
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nshanty = {{ path = {shanty} }}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\
         schemars = \"1\"\n\n\
         # Networks are slow without optimisation: shanty has it in a debug build too.\n\
         [profile.dev.package.\"*\"]\nopt-level = 3\n\n\
         # It stands alone, wherever it lies.\n[workspace]\n"
    )
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn write(dir: &Path, file: &str, text: &str) -> Result<()> {
    let path = dir.join(file);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at(parent)?;
    }
    fs::write(&path, text).at(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_types() {
        assert_eq!(camel("grad_noise"), "GradNoise");
        assert_eq!(camel("x2_y"), "X2Y");
        assert!(check_name("grad_noise").is_ok());
        for (wrong, why) in [
            ("GradNoise", "snake_case"),
            ("2x", "snake_case"),
            ("a-b", "snake_case"),
            ("", "snake_case"),
            ("shanty", "a crate"),
            ("serde", "a crate"),
            ("test", "a crate"),
            ("fn", "word of Rust"),
            ("gen", "word of Rust"),
            ("state", "would hide a type"),
            ("hook", "would hide a type"),
            ("some", "would hide a type"),
            ("logger_hook", "name of a type of shanty"),
            (&"a".repeat(300), "too long"),
        ] {
            let said = check_name(wrong).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains("write it like `grad_noise`"), "{wrong}: {said}");
        }
    }
}
