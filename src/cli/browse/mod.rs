//! `shanty browse`: a sheet of training samples before and after augmentation, with their labels, as one HTML file that
//! asks no network.

use std::path::PathBuf;

use clap::Args;
use ndarray::{Array3, ArrayD};
use serde_json::{Value as Json, json};

use super::output::{self, Output};
use super::{Bare, ConfigArgs, console};
use crate::base::escape::brief;
use crate::base::number::{count, short};
use crate::base::{Error, Result};
use crate::data::{Colors, INPUTS, Origin, Picture, Sample, TARGET, Value};
use crate::run::{Browsed, BrowsedSample, browse};

/// Arguments of `browse`.
#[derive(Debug, Clone, Args)]
pub(super) struct Browse {
    #[command(flatten)]
    config: ConfigArgs,
    /// The HTML file.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// How many samples, at equal distances in the data set.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=1000))]
    samples: u64,
    /// In how many passes each is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    passes: u64,
    #[command(flatten)]
    bare: Bare,
}

const PAGE: &str = include_str!("page.html");

/// Pixels of a side; of larger pictures every second, third, … row and column is shown.
const SIDE: usize = 160;
/// Numbers of a sample that is no picture.
const FEW: usize = 24;

impl Browse {
    pub fn run(self) -> Result<()> {
        let node = self.config.with(&self.bare).resolve()?;
        output::spare_inputs(&self.out, &node)?;
        let out = Output::at(&self.out)?;
        let name = self.config.name();
        let browsed = browse(&node, Some(&name), self.samples as usize, self.passes)?;
        let page = page(&name, &browsed)?;
        if out.write(page.as_bytes())? {
            let shown = count(browsed.samples.len() as u64, "sample");
            console::tell(&format!("{} of {shown}", self.out.display()));
        }
        Ok(())
    }
}

fn page(name: &str, browsed: &Browsed) -> Result<String> {
    let samples: Vec<_> = browsed.samples.iter().map(|sample| card(sample, &browsed.classes)).collect();
    let note = format!(
        "{} of {}: as it is read, then as the first passes of a training get it.",
        count(samples.len() as u64, "sample"),
        browsed.of
    );
    let sheet = json!({"title": format!("training samples of {name}"), "note": note, "samples": samples});
    let data = serde_json::to_string(&sheet).map_err(|e| Error::Other(e.into()))?;
    Ok(PAGE.replacen("{{DATA}}", &data.replace('<', "\\u003c"), 1))
}

fn card(sample: &BrowsedSample, classes: &[String]) -> Json {
    // What comes out of the pipeline has the order of channels that went in.
    let inputs = |sample: &Sample| sample.fields.get(INPUTS).cloned();
    let before = sample.before.as_ref().and_then(inputs);
    let bgr = matches!(&before, Some(Value::Picture(Picture::File(file))) if file.colors == Colors::Bgr);
    let first = before.into_iter().map(|value| part(value, bgr, "as it is read".into()));
    let passes = sample.after.iter().enumerate().filter_map(|(pass, sample)| Some((pass, inputs(sample)?)));
    let after = passes.map(|(pass, value)| part(value, bgr, format!("pass {}", pass + 1)));
    let parts: Vec<_> = first.chain(after).collect();
    let labelled = sample.after.first().or(sample.before.as_ref());
    let label = labelled
        .and_then(|sample| sample.fields.get(TARGET))
        .map_or(String::new(), |target| label(target, classes));
    json!({"parts": parts, "label": label, "origin": origin(sample)})
}

fn origin(sample: &BrowsedSample) -> String {
    match &sample.origin {
        Origin::Position => format!("sample {}", sample.index),
        Origin::File(file) => file.display().to_string(),
        Origin::Row { file: Some(file), id } => format!("{id} of {}", file.display()),
        Origin::Row { file: None, id } => id.to_string(),
    }
}

/// A class by its name, numbers as they are.
fn label(target: &Value, classes: &[String]) -> String {
    let named = |class: i64| usize::try_from(class).ok().and_then(|class| classes.get(class)).cloned();
    match target {
        Value::Int(class) if class.len() == 1 => {
            let class = class.first().copied().unwrap_or_default();
            named(class).unwrap_or_else(|| class.to_string())
        }
        Value::Int(values) => few(values, |value| value.to_string()),
        Value::Float(values) => few(values, |value| short(f64::from(*value))),
        Value::Text(text) => brief(text).into_owned(),
        Value::Picture(_) => "a picture".into(),
    }
}

fn few<T>(values: &ArrayD<T>, shown: impl Fn(&T) -> String) -> String {
    let texts: Vec<_> = values.iter().take(FEW).map(shown).collect();
    let more = if values.len() > FEW { format!(", … ({:?})", values.shape()) } else { String::new() };
    format!("{}{more}", texts.join(", "))
}

/// One state of a sample: a picture, or its numbers in a line.
fn part(value: Value, bgr: bool, caption: String) -> Json {
    let text = |text: String| json!({"text": text, "caption": caption});
    let planes = match value {
        Value::Picture(picture) => match picture.packed() {
            Ok(planes) => planes,
            Err(why) => return text(why.to_string()),
        },
        Value::Float(values) if matches!(values.shape(), [1 | 3 | 4, _, _]) => {
            match values.into_dimensionality::<ndarray::Ix3>() {
                Ok(planes) => planes,
                Err(why) => return text(why.to_string()),
            }
        }
        other => return text(label(&other, &[])),
    };
    let (_, height, width) = planes.dim();
    let step = height.max(width).div_ceil(SIDE).max(1);
    let (high, wide) = (height.div_ceil(step), width.div_ceil(step));
    let caption = format!("{caption}, {width} × {height}");
    json!({"width": wide, "height": high, "rgb": base64(&pixels(&planes, step, bgr)), "caption": caption})
}

/// Bytes of red, green and blue. Values that are none of bytes are stretched from the smallest to the largest.
fn pixels(planes: &Array3<f32>, step: usize, bgr: bool) -> Vec<u8> {
    let (channels, height, width) = planes.dim();
    let finite = planes.iter().copied().filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    // Digits of 0 to 16 would be black.
    let are_bytes = low >= 0.0 && high <= 255.0 && high > 32.0;
    let (low, scale) =
        if are_bytes { (0.0, 1.0) } else { (low, 255.0 / (high - low).max(f32::MIN_POSITIVE)) };
    let mut bytes = Vec::with_capacity(height.div_ceil(step) * width.div_ceil(step) * 3);
    for y in (0..height).step_by(step) {
        for x in (0..width).step_by(step) {
            for color in 0..3 {
                let channel = if channels < 3 {
                    0
                } else if bgr {
                    2 - color
                } else {
                    color
                };
                // What is no number becomes black.
                bytes.push(((planes[[channel, y, x]] - low) * scale).round() as u8);
            }
        }
    }
    bytes
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().enumerate().fold(0u32, |bits, (i, byte)| bits | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4648.
    #[test]
    fn base64_is_that_of_the_standard() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn values_become_bytes_in_the_order_of_a_screen() {
        let bytes = Array3::from_shape_vec((3, 1, 2), vec![10.0, 20.0, 30.0, 40.0, 50.0, 60.0]).unwrap();
        assert_eq!(pixels(&bytes, 1, false), [10, 30, 50, 20, 40, 60]);
        assert_eq!(pixels(&bytes, 1, true), [50, 30, 10, 60, 40, 20]);
        assert_eq!(pixels(&bytes, 2, false), [10, 30, 50]);
        let normalised = Array3::from_shape_vec((1, 1, 3), vec![-1.0, 0.0, f32::NAN]).unwrap();
        assert_eq!(pixels(&normalised, 1, false), [0, 0, 0, 255, 255, 255, 0, 0, 0]);
    }
}
