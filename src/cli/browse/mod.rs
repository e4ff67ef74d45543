//! `shanty browse`: a sheet of training samples before and after augmentation, with their labels, as one HTML file that
//! asks no network, or as one picture.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde_json::{Value as Json, json};

use super::output::{self, Output};
use super::{Bare, ConfigArgs, console};
use crate::base::number::count;
use crate::base::{Error, Result};
use crate::data::{Colors, INPUTS, Sample, TARGET, Value};
use crate::run::{Browsed, BrowsedSample, browse};
use crate::vis::{Drawing, Rgb};

/// Arguments of `browse`.
#[derive(Debug, Clone, Args)]
pub(super) struct Browse {
    #[command(flatten)]
    config: ConfigArgs,
    /// The file: a picture if it ends in .png, else HTML.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// How many samples, at equal distances in the data set.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=1000))]
    samples: u64,
    /// In how many passes each is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    passes: u64,
    /// Write over a file that is no sheet of an earlier `browse`.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    bare: Bare,
}

const PAGE: &str = include_str!("page.html");

/// Pixels of a side; of larger pictures each pixel that is shown is the mean of several.
const SIDE: usize = 160;
/// Pixels between two states of a sample, and between samples, in a sheet that is a picture.
const BETWEEN: [usize; 2] = [4, 20];
/// Pixels of a row of such a sheet, if one sample is not wider.
const ROW: usize = 1500;
/// States of samples that such a sheet may show: each takes up to 0.3 MB of memory, some of it thrice.
const STATES: u64 = 600;
const LIGHT: Rgb = [230, 233, 237];
const SOFT: Rgb = [160, 166, 174];

impl Browse {
    pub fn run(self) -> Result<()> {
        let node = self.config.with(&self.bare).resolve()?;
        output::spare_inputs(&self.out, &node)?;
        let is_picture = self.out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
        if is_picture && self.samples * (self.passes + 1) > STATES {
            return Err(Error::config(format!(
                "a picture of {} in {} is too large to be looked at: give fewer `--samples` or `--passes`, or write .html",
                count(self.samples, "sample"),
                count(self.passes + 1, "state")
            )));
        }
        let is_own = |begin: &[u8]| match is_picture {
            true => Drawing::is_own(begin),
            false => begin.starts_with(PAGE.split_once("<html").map_or(PAGE, |(begin, _)| begin).as_bytes()),
        };
        let out = Output::of_own(&self.out, is_own, "sheet of samples", self.overwrite)?;
        let name = self.config.name();
        let browsed = browse(&node, Some(&name), self.samples as usize, self.passes)?;
        let cards: Vec<_> = browsed.samples.iter().map(|sample| Card::of(sample, &browsed)).collect();
        let bytes =
            if is_picture { sheet(&cards).png()? } else { page(&name, &cards, browsed.of)?.into_bytes() };
        if out.write(&bytes)? {
            let shown = count(browsed.samples.len() as u64, "sample");
            console::tell(&format!("{} of {shown}", self.out.display()));
        }
        Ok(())
    }
}

/// A sample on a sheet.
struct Card {
    parts: Vec<Part>,
    label: String,
    origin: String,
}

/// One state of a sample: a picture, or its numbers in a line.
struct Part {
    shown: std::result::Result<Drawing, String>,
    caption: String,
}

impl Card {
    fn of(sample: &BrowsedSample, browsed: &Browsed) -> Self {
        let inputs = |sample: &Sample| sample.fields.get(INPUTS).cloned();
        let before = sample.before.as_ref().and_then(inputs);
        let [read, given] = [browsed.read, browsed.colors].map(|order| order == Colors::Bgr);
        let first = before.into_iter().map(|value| Part::of(value, read, "as it is read".into()));
        let passes =
            sample.after.iter().enumerate().filter_map(|(pass, sample)| Some((pass, inputs(sample)?)));
        let after = passes.map(|(pass, value)| Part::of(value, given, format!("pass {}", pass + 1)));
        let labelled = sample.after.first().or(sample.before.as_ref());
        let target = labelled.and_then(|sample| sample.fields.get(TARGET));
        Self {
            parts: first.chain(after).collect(),
            label: target.map_or(String::new(), |target| target.told(&browsed.classes)),
            origin: sample.origin.told(sample.index),
        }
    }

    fn json(&self) -> Result<Json> {
        let part = |part: &Part| {
            Ok::<_, Error>(match &part.shown {
                Ok(drawn) => json!({"png": BASE64_STANDARD.encode(drawn.png()?), "width": drawn.size().0,
                                    "height": drawn.size().1, "caption": part.caption}),
                Err(text) => json!({"text": text, "caption": part.caption}),
            })
        };
        let parts = self.parts.iter().map(part).collect::<Result<Vec<_>>>()?;
        Ok(json!({"parts": parts, "label": self.label, "origin": self.origin}))
    }

    fn drawn(&self) -> Drawing {
        let part = |part: &Part| match &part.shown {
            Ok(drawn) => drawn.clone().at_least(SIDE).captioned(&[(part.caption.clone(), SOFT)]),
            Err(text) => {
                let texts = [(text.clone(), LIGHT), (part.caption.clone(), SOFT)];
                Drawing::blank(2 * SIDE, 1, [0; 3]).captioned(&texts)
            }
        };
        let parts: Vec<_> = self.parts.iter().map(part).collect();
        Drawing::beside(&parts, BETWEEN[0])
            .captioned(&[(self.label.clone(), LIGHT), (self.origin.clone(), SOFT)])
    }
}

impl Part {
    fn of(value: Value, bgr: bool, caption: String) -> Self {
        let text = |text: String| Self { shown: Err(text), caption: caption.clone() };
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
            other => return text(other.told(&[])),
        };
        let (_, height, width) = planes.dim();
        let caption = format!("{caption}, {width} × {height}");
        Self { shown: Ok(Drawing::of_values(planes.view(), bgr, SIDE)), caption }
    }
}

fn page(name: &str, cards: &[Card], of: usize) -> Result<String> {
    let samples = cards.iter().map(Card::json).collect::<Result<Vec<_>>>()?;
    let note = format!(
        "{} of {of}: as it is read, then as the first passes of a training get it.",
        count(samples.len() as u64, "sample"),
    );
    let sheet = json!({"title": format!("training samples of {name}"), "note": note, "samples": samples});
    let data = serde_json::to_string(&sheet).map_err(|e| Error::Other(e.into()))?;
    Ok(PAGE.replacen("{{DATA}}", &data.replace('<', "\\u003c"), 1))
}

/// The samples in rows.
fn sheet(cards: &[Card]) -> Drawing {
    let (mut rows, mut row): (Vec<Drawing>, Vec<Drawing>) = (Vec::new(), Vec::new());
    for card in cards {
        let drawn = card.drawn();
        let width = row.iter().map(|drawn| drawn.size().0).sum::<usize>() + drawn.size().0;
        if width > ROW && !row.is_empty() {
            rows.push(Drawing::beside(&std::mem::take(&mut row), BETWEEN[1]));
        }
        row.push(drawn);
    }
    rows.push(Drawing::beside(&row, BETWEEN[1]));
    Drawing::below(&rows, BETWEEN[1])
}
