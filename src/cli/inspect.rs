//! `shanty check`, `config` and `list`: nothing is built or trained.

use super::{ConfigArgs, console};
use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::registry;
use crate::run::RunConfig;

pub(super) fn check(args: &ConfigArgs) -> Result<()> {
    RunConfig::read(&args.resolve()?)?;
    console::say(&format!("{} is fine", args.name()));
    Ok(())
}

pub(super) fn config(args: &ConfigArgs) -> Result<()> {
    console::say(args.resolve()?.to_yaml().trim_end());
    Ok(())
}

pub(super) fn list(kind: Option<&str>) -> Result<()> {
    registry::check()?;
    let kinds: Vec<_> = registry::kinds().map(|kind| kind.name).collect();
    if let Some(wanted) = kind.filter(|k| !kinds.contains(k)) {
        let hint = nearest(wanted, kinds.iter().copied())
            .map(|k| format!("; did you mean `{k}`?"))
            .unwrap_or_default();
        return Err(Error::config(format!(
            "there is no kind `{wanted}`{hint} Known are {}",
            kinds.join(", ")
        )));
    }
    for name in kinds.iter().filter(|k| kind.is_none_or(|wanted| wanted == **k)) {
        console::say(&format!("{name}:"));
        for entry in registry::entries(name) {
            let doc = entry.doc().next().unwrap_or_default();
            console::say(&format!("  {:<24} {doc}", entry.name));
        }
    }
    Ok(())
}
