//! The names in a file of weights, and how they become those of the model.

use std::collections::HashSet;

use crate::base::{Error, Result};
use crate::model::Model;
use crate::params::{LoadReport, Prefix, StateDict};

/// Gives the model the form of weights in which batch norms are. How many batch norms are gone.
pub(super) fn take_fused_form(model: &mut dyn Model, state: &StateDict) -> Result<usize> {
    let names: HashSet<&str> = state.0.iter().map(|(name, _)| name.as_str()).collect();
    model.take_fused_form(&|name| names.contains(name))
}

/// A file of a library that saves a parameter under each of its names gives it to the model once. What is odd about
/// that.
pub(super) fn tied(state: &mut StateDict, tied: &[(String, String)]) -> Vec<String> {
    let mut odd = Vec::new();
    for (gone, stays) in tied {
        let at = |name: &str| state.0.iter().position(|(own, _)| own == name);
        match (at(gone), at(stays)) {
            (Some(i), None) => state.0[i].0.clone_from(stays),
            (Some(i), Some(j)) => {
                if state.0[i].1.value != state.0[j].1.value {
                    odd.push(format!(
                        "`{gone}` and `{stays}` are one in the model, and differ in the file: `{stays}` is taken"
                    ));
                }
                state.0.remove(i);
            }
            (None, _) => {}
        }
    }
    odd
}

/// What makes weights fit that do not.
pub(super) fn remedy(report: &LoadReport) -> String {
    let is_norm = |name: &String| name.ends_with(".running_var");
    if report.loaded.is_empty() {
        return renaming(report);
    }
    if report.missing.iter().any(is_norm) && report.unexpected.iter().all(|name| name.ends_with(".bias")) {
        return "if batch norms were fused into the layers before them, say `load_options: {fused: true}`"
            .to_owned();
    }
    let all = report.loaded.len() + report.missing.len() + report.mismatched.len();
    if report.loaded.len() * 2 < all {
        return format!(
            "they are those of another network, it seems: {} of {all} tensors fit; with `load_options: {{strict: false}}` the \
             rest would begin anew",
            report.loaded.len()
        );
    }
    "set `load_options: {strict: false}` to take what fits".to_owned()
}

/// How the names of a file in which nothing fits could be made to.
fn renaming(report: &LoadReport) -> String {
    match report.prefix() {
        None if !report.mismatched.is_empty() => {
            "the names fit and the shapes do not: they are the weights of a model of other sizes".to_owned()
        }
        Some(Prefix::InFile(prefix)) => {
            let pattern = prefix.replace('.', r"\.");
            format!(
                "its names have `{prefix}` before them: `load_options: {{revise_keys: [['^{pattern}', '']]}}`"
            )
        }
        Some(Prefix::InModel(prefix)) => format!(
            "the model's names have `{prefix}` before them: `load_options: {{revise_keys: [['^', '{prefix}']]}}`, or \
             `init_cfg: {{type: Pretrained, checkpoint: …}}` in that part of the model"
        ),
        None => "rename its tensors with `load_options.revise_keys`, or torchvision's with `from: torchvision` there".to_owned(),
    }
}

/// A pattern of `revise_keys`.
pub(super) fn pattern(text: &str) -> Result<regex_lite::Regex> {
    regex_lite::Regex::new(text)
        .map_err(|e| Error::config(format!("`revise_keys` has a bad pattern `{text}`: {e}")))
}

/// Renames tensors by regular expressions, one after the other.
pub(super) fn revise(state: &mut StateDict, rules: &[(String, String)]) -> Result<()> {
    for (text, replacement) in rules {
        let pattern = pattern(text)?;
        for (name, _) in &mut state.0 {
            *name = pattern.replace_all(name, replacement.as_str()).into_owned();
        }
    }
    Ok(())
}
