//! `shanty lr-find`: the range test of a learning rate.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{self, Output};
use super::{Bare, ConfigArgs, Format, console, plot};
use crate::base::Result;
use crate::base::number::short;
use crate::run::{LrCurve, Sweep, lr_find};

/// Arguments of `lr-find`.
#[derive(Debug, Clone, Args)]
pub(super) struct LrFind {
    #[command(flatten)]
    config: ConfigArgs,
    /// The rate of the first step.
    #[arg(long, default_value_t = 1e-7)]
    first: f64,
    /// The rate of the last step.
    #[arg(long, default_value_t = 10.0)]
    last: f64,
    /// Training steps; fewer if the loss diverges before.
    #[arg(long, default_value_t = 100)]
    steps: u64,
    /// Draw the losses into this SVG file too.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    bare: Bare,
}

impl LrFind {
    pub fn run(self, format: Format) -> Result<()> {
        let node = self.config.with(&self.bare).resolve()?;
        self.svg.iter().try_for_each(|svg| output::spare_inputs(svg, &node))?;
        let svg = self.svg.as_deref().map(Output::at).transpose()?;
        let sweep = Sweep { first: self.first, last: self.last, steps: self.steps };
        let curve = lr_find(&node, Some(&self.config.name()), sweep)?;
        if let Some(svg) = svg {
            let line = [("loss".to_owned(), curve.losses.clone())];
            svg.write(plot::svg("loss", &range(&curve), &line).as_bytes())?;
        }
        console::say(&match format {
            Format::Text => text(&curve),
            Format::Json => json!({
                "lr": curve.rates,
                "loss": curve.losses,
                "diverged": curve.diverged,
                "suggestion": curve.suggestion(),
                "tenth_of_lowest": curve.tenth_of_lowest(),
            })
            .to_string(),
        });
        Ok(())
    }
}

fn range(curve: &LrCurve) -> String {
    match (curve.rates.first(), curve.rates.last()) {
        (Some(first), Some(last)) => {
            format!(
                "learning rates from {first:.1e} to {last:.1e}, each greater than the one before by one factor"
            )
        }
        _ => "no step".to_owned(),
    }
}

fn text(curve: &LrCurve) -> String {
    let mut text = format!("loss, smoothed\n{}{}\n", plot::ascii(&curve.losses), range(curve));
    if curve.diverged {
        text += "the loss diverged at the next step\n";
    }
    text += &match curve.suggestion() {
        Some(rate) => format!("\nsuggestion: {rate:.1e}, where the loss falls most steeply"),
        None => "\nno suggestion: the loss falls at none of these rates".to_owned(),
    };
    if let Some(rate) = curve.tenth_of_lowest().filter(|_| curve.suggestion().is_some()) {
        text += &format!("; {rate:.1e} is a tenth of where it is lowest ({})", short(rate * 10.0));
    }
    text
}
