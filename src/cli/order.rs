//! The order of arguments. `--set` takes all changes behind it, `--resume` may take a checkpoint, and a config may
//! stand behind both: what a person means is told apart here, before clap sees it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::checkpoint::POINTER;

/// Options that are followed by any number of changes.
const CHANGES: [&str; 2] = ["--set", "--cfg-options"];
/// Endings of files with weights: `--resume` refuses them with the right word, so they must reach it.
const WEIGHTS: [&str; 6] = ["safetensors", "pth", "pt", "bin", "ckpt", "npz"];

/// The same arguments, each option with its value in one: `--set a=1 b=2 c.yaml` becomes `--set=a=1 --set=b=2 c.yaml`.
pub(super) fn sorted(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut sorted = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            sorted.push(argument);
            break;
        }
        if let Some(option) = CHANGES.iter().find(|option| argument == **option) {
            // The first value belongs to the option whatever it is; clap says so if it is missing or no change.
            let first = arguments.next_if(|value| !is_option(value));
            if first.is_none() {
                sorted.push(argument);
            }
            sorted.extend(first.map(|value| joined(option, &value)));
            while let Some(value) = arguments.next_if(|value| is_change(value)) {
                sorted.push(joined(option, &value));
            }
        } else if argument == "--resume" {
            let checkpoint =
                arguments.next_if(|value| !is_option(value) && !is_change(value) && !is_config(value));
            sorted.push(checkpoint.map_or(argument, |path| joined("--resume", &path)));
        } else {
            sorted.push(argument);
        }
    }
    sorted.extend(arguments);
    sorted
}

fn joined(option: &str, value: &OsStr) -> OsString {
    let mut whole = OsString::from(format!("{option}="));
    whole.push(value);
    whole
}

fn is_option(argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    text.starts_with("--") && text.len() > 2 || matches!(&*text, "-h" | "-q" | "-v")
}

/// `a.b=1`, `a+=1`, `~a`, and no file of that name.
fn is_change(argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    !text.starts_with('-') && (text.contains('=') || text.starts_with('~')) && !Path::new(argument).exists()
}

/// By its ending; or a file that is no file of weights, since checkpoints are directories.
fn is_config(argument: &OsStr) -> bool {
    let path = Path::new(argument);
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let named = |names: &[&str]| path.file_name().is_some_and(|own| names.iter().any(|name| own == *name));
    let manifest = named(&["manifest.json", "state.json", POINTER]);
    match ending.as_str() {
        "yaml" | "yml" | "py" => true,
        "json" => !manifest,
        ending => !WEIGHTS.contains(&ending) && !manifest && path.is_file(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_take_what_is_theirs() {
        let cases = [
            ("check --set a=1 b=2 c.yaml", "check --set=a=1 --set=b=2 c.yaml"),
            (
                "check c.yaml --cfg-options a=1 ~b d+=[1]",
                "check c.yaml --cfg-options=a=1 --cfg-options=~b --cfg-options=d+=[1]",
            ),
            ("train --resume c.yaml", "train --resume c.yaml"),
            ("train --resume epoch_2 c.yaml a=1", "train --resume=epoch_2 c.yaml a=1"),
            ("train c.yaml --resume a=1", "train c.yaml --resume a=1"),
            ("train c.yaml --resume --work-dir w", "train c.yaml --resume --work-dir w"),
            ("train c.yaml --resume=x y=1", "train c.yaml --resume=x y=1"),
            (
                "train c.yaml --resume w/epoch_1/model.safetensors",
                "train c.yaml --resume=w/epoch_1/model.safetensors",
            ),
            ("check --set --format json c.yaml", "check --set --format json c.yaml"),
            ("check --set x -- --set y", "check --set=x -- --set y"),
        ];
        for (given, wanted) in cases {
            let sorted = sorted(given.split(' ').map(OsString::from));
            let text: Vec<_> = sorted.iter().map(|a| a.to_string_lossy()).collect();
            assert_eq!(text.join(" "), wanted);
        }
    }
}
