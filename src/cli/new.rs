//! `shanty new hook NAME`: a crate for a hook of one's own.
//!
//! The template is the workspace's own `hooks/my_hook`, so that what is written compiles and keeps the contract.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::console;
use crate::base::error::IoContext;
use crate::base::{Error, Result};

const FILES: [(&str, &str); 3] = [
    ("src/lib.rs", include_str!("../../hooks/my_hook/src/lib.rs")),
    ("src/main.rs", include_str!("../../hooks/my_hook/src/main.rs")),
    ("tests/contract.rs", include_str!("../../hooks/my_hook/tests/contract.rs")),
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
            "{} holds the hook {}: `cargo test` holds it to its contract, `cargo run -- train CONFIG` runs with it",
            dir.display(),
            camel(&name)
        ));
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain || name == "shanty" {
        return Err(Error::config(format!("`{name}` cannot be a crate's name: write it like `grad_noise`")));
    }
    Ok(())
}

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
        for wrong in ["GradNoise", "2x", "a-b", "", "shanty"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
