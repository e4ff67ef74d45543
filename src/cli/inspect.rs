//! `shanty config`, `describe` and `list`: nothing is trained or written.

use super::{ConfigArgs, console};
use crate::base::escape::escaped;
use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::registry;
use crate::run::RunConfig;

/// Where a value comes from and what its key means.
pub(super) fn explain(args: &ConfigArgs, key: &str) -> Result<()> {
    console::say_to_fit(registry::explain::<RunConfig>(&args.resolve()?, key)?.trim_end());
    Ok(())
}

/// The JSON Schema of a whole config.
pub(super) fn schema() -> Result<()> {
    let schema = registry::schema::<RunConfig>();
    console::say(&serde_json::to_string_pretty(&schema).map_err(|e| Error::Other(e.into()))?);
    Ok(())
}

/// Everything about a registered type, in each kind that has one of this name.
pub(super) fn describe(name: &str) -> Result<()> {
    let mut found = registry::find(name).peekable();
    if found.peek().is_none() {
        let all: Vec<_> =
            registry::kinds().flat_map(|kind| registry::entries(kind.name)).map(|e| e.name).collect();
        let hint = match name {
            "OptimWrapper" | "AmpOptimWrapper" => {
                "; it is the `type` of a section, which `shanty explain CONFIG optim_wrapper` describes:"
                    .to_owned()
            }
            _ => meant(name, &all),
        };
        return Err(Error::config(format!(
            "there is no type `{}`{hint} `shanty list` shows all",
            escaped(name)
        )));
    }
    for (kind, entry) in found {
        console::say_to_fit(registry::describe(kind, entry).trim_end());
    }
    Ok(())
}

/// `; did you mean …?`: the name nearest to a wrong one, else names that it is a part of; `:` where there is none.
fn meant(wrong: &str, names: &[&str]) -> String {
    let lower = wrong.to_lowercase();
    let holds = |name: &&str| lower.len() > 2 && name.to_lowercase().contains(&lower);
    let near: Vec<&str> = match nearest(wrong, names.iter().copied()) {
        Some(name) => vec![name],
        None => names.iter().copied().filter(holds).take(3).collect(),
    };
    match near.as_slice() {
        [] => ":".to_owned(),
        near => format!("; did you mean `{}`?", near.join("` or `")),
    }
}

pub(super) fn config(args: &ConfigArgs) -> Result<()> {
    console::say(args.resolve()?.to_yaml().trim_end());
    Ok(())
}

pub(super) fn list(kind: Option<&str>) -> Result<()> {
    registry::check()?;
    let kinds: Vec<_> = registry::kinds().map(|kind| kind.name).collect();
    if let Some(wanted) = kind.filter(|k| !kinds.contains(k)) {
        let hint = meant(wanted, &kinds);
        let (wanted, known) = (escaped(wanted), kinds.join(", "));
        return Err(Error::config(format!("there is no kind `{wanted}`{hint} known are {known}")));
    }
    for name in kinds.iter().filter(|k| kind.is_none_or(|wanted| wanted == **k)) {
        console::say(&format!("{name}:"));
        for entry in registry::entries(name) {
            let doc = entry.doc().next().unwrap_or_default();
            console::say_to_fit(&format!("  {:<24} {doc}", entry.name));
        }
    }
    Ok(())
}
