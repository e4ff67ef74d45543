//! `shanty predict`: what a checkpoint says of data, as a table.

use std::path::{Path, PathBuf};

use clap::Args;

use super::evaluate::refuse_swapped;
use super::output::{self, Output};
use super::predictions::Predictions;
use super::{Bare, ConfigArgs, console};
use crate::base::{Error, Result};
use crate::run::{Names, Predictor, quoted};

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub(super) struct Predict {
    #[command(flatten)]
    config: ConfigArgs,
    /// The checkpoint: a directory of ours, a name in the work_dir, `latest` or `best`, a work_dir, or a file of
    /// weights.
    checkpoint: PathBuf,
    /// Files to predict instead of the config's test data, read in the same way; of pictures their folders too.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Where the predictions go: a file that ends in .csv, .jsonl or .npy.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Compute batch norms, sums and activations with the convolution or linear map before them: fewer walks over
    /// memory, and equal but for rounding.
    #[arg(long, conflicts_with = "features")]
    fused: bool,
    /// Write what this module gives (`backbone`, or another for which `summary` shows an output) in place of
    /// predictions.
    #[arg(long, value_name = "MODULE")]
    features: Option<String>,
    #[command(flatten)]
    bare: Bare,
}

/// How predictions are written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Csv,
    Jsonl,
    Npy,
}

impl Form {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::Jsonl),
            Some("npy") => Ok(Self::Npy),
            _ => Err(Error::config(format!(
                "`--out {}`: the file's ending says how predictions are written: .csv, .jsonl or .npy",
                path.display()
            ))),
        }
    }
}

impl Predict {
    pub fn run(self) -> Result<()> {
        refuse_swapped(&self.config.config, &self.checkpoint, "predict")?;
        let form = Form::of(&self.out)?;
        let mut config = self.config.with(&self.bare);
        output::spare_inputs(&self.out, &config.resolve()?)?;
        config.set.extend([format!("load_from={}", quoted(&self.checkpoint)?), "resume=false".into()]);
        let node = config.resolve()?;
        output::spare_inputs(&self.out, &node)?;
        output::spare(&self.out, &self.input)?;
        let out = Output::at(&self.out)?;
        let mut model = Predictor::from_config(&node, Some(&config.name()))?;
        if self.fused {
            model.fuse()?;
        }
        let data = model.data(&self.input)?;
        // Of files that are given to be predicted nobody knows the truth.
        let targets = if self.input.is_empty() { model.targets() } else { Vec::new() };
        let mut all = Predictions::default();
        for batch in data.batches(0, Some(data.len())) {
            let batch = batch?;
            let ids = &batch.ids[..batch.valid];
            if let Some(module) = &self.features {
                all.add(module, &model.features(&batch, module)?, ids.len(), || Names::Unknown)?;
            } else {
                let outputs = model.predict(&batch)?;
                for (name, values) in outputs.predictions.iter() {
                    all.add(name, values, ids.len(), || model.names(name))?;
                }
            }
            ids.iter().for_each(|position| all.sample(*position, data.dataset().origin(*position as usize)));
            all.targets(&batch, &targets);
            data.recycle(batch);
        }
        if let odd @ 1.. = all.not_finite() {
            log::warn!(
                "the predictions of {odd} of {} samples are NaN or infinite: look for such numbers in the data \
                 (`shanty check --data`) and in the log of the training",
                all.len()
            );
        }
        let bytes = match form {
            Form::Csv => all.csv()?,
            Form::Jsonl => all.jsonl(),
            Form::Npy => all.npy()?,
        };
        if out.write(&bytes)? {
            let what = if self.features.is_some() { "feature vectors" } else { "predictions" };
            console::say(&format!("{} {what} in {}", all.len(), self.out.display()));
        }
        Ok(())
    }
}
