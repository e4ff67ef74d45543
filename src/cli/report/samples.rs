//! The worst samples of a report, and what is true against what is predicted: what WorstSamplesHook kept.

use serde_json::{Value, json};

use super::rounded;
use crate::base::escape::brief;
use crate::cli::run_files::RunFiles;

/// Letters of all pictures together: they take a third of a megabyte.
const PICTURES: usize = 320_000;
/// Samples of all runs together.
const SAMPLES: usize = 200;
/// Pairs of all runs together: they take an eighth.
const PAIRS: usize = 8_000;
/// Numbers of a run of which the residuals are shown.
const NUMBERS: usize = 6;

/// Of each run that kept some: its name, the samples, the residuals.
pub(super) fn worst(runs: &[RunFiles], names: &[String]) -> Vec<Value> {
    let kept: Vec<_> =
        runs.iter().zip(names).filter_map(|(run, name)| Some((run.worst.as_ref()?, name))).collect();
    let several = kept.len().max(1);
    kept.into_iter().map(|(worst, name)| of_run(worst, name, several)).collect()
}

fn of_run(worst: &Value, name: &str, several: usize) -> Value {
    let list = |key: &str| worst[key].as_array().map_or(&[][..], Vec::as_slice);
    let mut room = PICTURES / several;
    let samples: Vec<_> =
        list("samples").iter().take(SAMPLES / several).map(|sample| shown(sample, &mut room)).collect();
    let numbers = &list("residuals").iter().take(NUMBERS).collect::<Vec<_>>();
    let most = PAIRS / several / numbers.len().max(1);
    let residuals: Vec<_> = numbers.iter().map(|residuals| pairs(residuals, most)).collect();
    let mode = if worst["mode"] == "test" { "test" } else { "validation" };
    let of = |key: &str| worst[key].as_u64().unwrap_or_default();
    // A process that only evaluates counts nothing.
    let after = match (of("epoch"), of("iter")) {
        (0, 0) => String::new(),
        (0, iter) => format!(", after iteration {iter}"),
        (epoch, _) => format!(", after epoch {epoch}"),
    };
    let note = format!("Of the last {mode}{after}: the largest losses of {} samples.", of("of"));
    json!({"run": name, "note": note, "samples": samples, "residuals": residuals})
}

/// A sample; its picture as long as there is room for it.
fn shown(sample: &Value, room: &mut usize) -> Value {
    let text = |key: &str| sample[key].as_str().map(|text| brief(text).into_owned());
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    let png = sample["png"].as_str().filter(|png| png.len() <= *room && png.bytes().all(is_letter));
    *room -= png.map_or(0, str::len);
    json!({"name": text("name"), "truth": text("truth"), "prediction": text("prediction"),
           "right": sample["right"].as_bool(), "loss": number(&sample["loss"]), "png": png})
}

/// What is true and what is predicted, in at most so many pairs.
fn pairs(residuals: &Value, most: usize) -> Value {
    let all = |key: &str| residuals[key].as_array().map_or(&[][..], Vec::as_slice);
    let stride = all("true").len().div_ceil(most.max(1)).max(1);
    let numbers = |key: &str| all(key).iter().step_by(stride).map(number).collect::<Vec<_>>();
    let name = residuals["name"].as_str().map(|name| brief(name).into_owned());
    json!({"name": name, "of": residuals["of"].as_u64(), "x": numbers("true"), "y": numbers("predicted")})
}

/// What is no finite number is a gap.
fn number(value: &Value) -> Value {
    value.as_f64().map_or(Value::Null, rounded)
}
