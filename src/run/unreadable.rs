//! Batches as they come from a loader, and the samples that are missing in them.

use super::Session;
use crate::base::{Error, Result};
use crate::data::{Batch, DataLoader, SampleError};
use crate::hook::Phase;

impl Session {
    /// The batch that a loader gave. What went wrong is told with its place in the run, samples that were left out are named.
    ///
    /// # Errors
    /// The loader's, with the epoch and the iteration.
    pub fn received(&self, batch: Result<Batch>, data: &DataLoader) -> Result<Batch> {
        let clock = &self.state.clock;
        let loader = match clock.phase {
            Phase::Val => "val_dataloader",
            Phase::Test => "test_dataloader",
            _ => "train_dataloader",
        };
        let (most, count) = (data.max_bad_samples(), data.bad_samples().len());
        for (nth, (index, why)) in data.new_bad_samples() {
            let text = format!(
                "{loader}: sample {index} cannot be read and is left out ({nth} of at most {most}): {why}"
            );
            self.state.log.warn(text);
        }
        batch.map_err(|error| {
            let unreadable = matches!(&error, Error::Other(source) if source.is::<SampleError>());
            let source = match unreadable {
                true if most > 0 => format!("{error}; {count} samples are left out, and max_bad_samples is {most}"),
                true => format!(
                    "{error}; `max_bad_samples: N` in the loader leaves up to N such samples out, `shanty check --data` lists \
                     them all"
                ),
                false => error.to_string(),
            };
            let (epoch, iter) = (clock.epoch, clock.iter);
            Error::Run { who: "the data".into(), point: loader, epoch, iter, source: source.into() }
        })
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
