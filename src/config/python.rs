//! Python configs are recognised, and answered with the command that makes YAML of them.

use std::path::Path;

use super::source::{Loc, Source};
use super::{Diag, Diags};

/// Refuses a file that is called `.py`; `asked` is the place that names it.
pub(super) fn refuse_file(path: &Path, asked: Option<&Loc>) -> Result<(), Diags> {
    if path.extension().is_none_or(|ending| ending != "py") {
        return Ok(());
    }
    let diag = refusal(&path.display().to_string());
    Err(match asked {
        Some(at) => diag.at(at.clone()).note("then name the YAML file here"),
        None => diag,
    }
    .into())
}

/// The complaints about a file that could not be read, or the one that it is Python.
pub(super) fn refused(source: &Source, diags: Diags) -> Diags {
    if looks_like(&source.text) { refusal(&source.name).into() } else { diags }
}

/// Whether a text assigns at the beginning of a line, as Python does and YAML does not.
pub(super) fn looks_like(text: &str) -> bool {
    text.lines().any(|line| {
        let name = line.trim_end().split_once('=').map(|(name, value)| (name.trim_end(), value.trim_start()));
        name.is_some_and(|(name, value)| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !name.is_empty()
                && name.chars().all(is_name)
                && (value.starts_with(['[', '{', '\'', '"', '(']) || value.starts_with("dict("))
        })
    })
}

fn refusal(name: &str) -> Diag {
    let yaml = Path::new(name).with_extension("yaml");
    Diag::error(format!("{name} is a Python config: shanty reads YAML"))
        .note(format!(
            "MMEngine writes it as YAML, with its base files in it: python -c \"from mmengine.config import Config; \
             Config.fromfile('{name}').dump('{}')\"",
            yaml.display()
        ))
}
