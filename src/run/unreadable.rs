//! Batches as they come from a loader, and the samples that are missing in them.

use super::{Session, State};
use crate::base::{Error, Result};
use crate::data::{Batch, DataLoader, SampleError};
use crate::hook::Phase;

/// What a loader could not give, in the words of the run.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct NotGiven {
    text: String,
    pub source: Error,
}

impl Session {
    /// The batch that a loader gave. What went wrong is told with its place in the run, samples that were left out are
    /// named.
    ///
    /// # Errors
    /// The loader's, with the epoch and the iteration.
    pub fn received(&self, batch: Result<Batch>, data: &DataLoader) -> Result<Batch> {
        let progress = &self.state.progress;
        let loader = self.loader_in_use();
        let (most, count) = (data.most_bad_samples(), data.bad_samples().len());
        for (nth, (index, why)) in data.new_bad_samples() {
            let text = format!(
                "{loader}: sample {index} cannot be read and is left out ({nth} of at most {most}): {why}"
            );
            self.state.log.warn(text);
        }
        batch.map_err(|error| {
            let text = match SampleError::of(&error) {
                Some(_) if most > 0 => {
                    format!("{error}; {count} samples are left out, and max_bad_samples is {most}")
                }
                Some(sample) => {
                    // A transform may refuse all samples, which is the config's doing, or a few.
                    let few = if sample.transform().is_empty() { "" } else { "where few samples are so, " };
                    format!(
                        "{error}; {few}`max_bad_samples: N` in the loader leaves up to N such samples out, `shanty check --data` \
                         lists them all"
                    )
                }
                None => error.to_string(),
            };
            let (epoch, iter) = (progress.epoch, progress.iter);
            let source = Box::new(NotGiven { text, source: error });
            Error::Run { who: "the data".into(), point: loader, epoch, iter, source }
        })
    }

    /// An iteration of which all samples are left out: it counts, and nothing happens in it. A pass of nothing else is
    /// an error, or a run without data would end as if it had learned something.
    pub(super) fn empty_iter(&mut self) -> Result<()> {
        self.take_hold()?;
        self.saving.idle += 1;
        self.state.progress.iter += 1;
        self.state.progress.batch += 1;
        self.saving.made = self.state.progress.iter;
        if let (Some(data), Some(pass)) = (&self.state.data, self.state.progress.ended_pass())
            && !self.any_rank(!data.nothing_left(pass)?)?
        {
            return Err(self.nothing_to_train());
        }
        self.check_interrupts()
    }

    /// The end of a run that has left out all of its training data.
    pub(super) fn nothing_to_train(&self) -> Error {
        let State { progress, log, dirs, info, data, .. } = &self.state;
        let excluded = &self.rollback.excluded;
        if !excluded.is_empty() {
            log.warn(format_args!("training samples that were left out by their numbers: {excluded:?}"));
        }
        let (total, unreadable) = (data.as_ref().map_or(0, |d| d.dataset().len()), self.unreadable().len());
        let list = dirs.log.join(format!("{}.log", info.timestamp));
        let source = format!(
            "no sample is left to train on: of {total}, {} are left out by `exclude_samples` or CheckInvalidLossHook's \
             `rollback`, {unreadable} because they cannot be read ({} lists them); mend the data or what makes the loss \
             invalid (a smaller lr), then `--resume`",
            excluded.len(),
            list.display()
        );
        let (epoch, iter) = (progress.epoch, progress.iter);
        Error::Run { who: "the data".into(), point: "train_dataloader", epoch, iter, source: source.into() }
    }

    /// The end of a validation or test of which all samples are left out.
    pub(super) fn nothing_to_evaluate(&self, data: &DataLoader) -> Error {
        let (epoch, iter) = (self.state.progress.epoch, self.state.progress.iter);
        let source = format!(
            "no sample is left to evaluate: all {} that were read cannot be (the log lists them); mend the data",
            data.bad_samples().len()
        );
        let point = self.loader_in_use();
        Error::Run { who: "the data".into(), point, epoch, iter, source: source.into() }
    }

    fn loader_in_use(&self) -> &'static str {
        match self.state.progress.phase {
            Phase::Val => "val_dataloader",
            Phase::Test => "test_dataloader",
            _ => "train_dataloader",
        }
    }

    /// The samples of the training data that were left out because they cannot be read, with the reason.
    pub fn unreadable(&self) -> Vec<(usize, String)> {
        self.state.data.as_ref().map(DataLoader::bad_samples).unwrap_or_default()
    }

    /// At the end of a run: how many samples it had to do without, and which.
    pub(super) fn report_unreadable(&self) {
        for (name, data) in self.loaders() {
            let bad = data.bad_samples();
            if !bad.is_empty() {
                let lines: Vec<String> =
                    bad.iter().map(|(index, why)| format!("sample {index}: {why}")).collect();
                let (count, lines) = (bad.len(), lines.join("\n"));
                let text = format!("unreadable samples of the {name} that were left out: {count}\n{lines}");
                self.state.log.warn(text);
            }
        }
    }
}
