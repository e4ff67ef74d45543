//! Samples that cannot be read: how many a loader bears, and which they were.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{Error, Result};

/// A sample that could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("sample {index}: {source}")]
pub struct SampleError {
    /// Its position in the data set.
    pub index: usize,
    /// What the data set, or a transform, said.
    pub source: Error,
}

impl SampleError {
    /// The sample that an error of a loader is about, if it is about one.
    pub fn of(error: &Error) -> Option<&Self> {
        let Error::Other(source) = error else { return None };
        source.downcast_ref()
    }

    /// The transform that refused it, as positions in its pipeline from the outside in; empty where it was none.
    pub fn transform(&self) -> Vec<usize> {
        super::transform::path_in(&self.source)
    }
}

/// The samples that a loader has left out because they cannot be read.
pub(super) struct Unreadable {
    /// How many different ones it bears.
    pub(super) most: usize,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// Position and reason, in the order in which their batches were given out.
    samples: Vec<(usize, String)>,
    /// How many of them were told as news.
    told: usize,
}

impl Unreadable {
    pub(super) fn new(most: usize) -> Self {
        Self { most, found: Mutex::default() }
    }

    /// Counts the samples of a batch that is given out, so that the count does not depend on who was ahead.
    pub(super) fn count(&self, errors: Vec<SampleError>) -> Result<()> {
        for error in errors {
            let found = &mut self.lock().samples;
            if found.iter().any(|(index, _)| *index == error.index) {
                continue;
            }
            if found.len() >= self.most {
                return Err(Error::Other(Box::new(error)));
            }
            found.push((error.index, error.source.to_string()));
        }
        Ok(())
    }

    pub(super) fn found(&self) -> Vec<(usize, String)> {
        self.lock().samples.clone()
    }

    pub(super) fn news(&self) -> Vec<(usize, (usize, String))> {
        let mut found = self.lock();
        let (told, count) = (found.told, found.samples.len());
        found.told = count;
        (1..).zip(found.samples.iter().cloned()).skip(told).collect()
    }

    /// Samples that count already, with what is known about them.
    pub(super) fn remember(&self, samples: Vec<(usize, String)>) {
        *self.lock() = Found { told: samples.len(), samples };
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is the machine that fails, and not the sample: such a sample must not be left out, for the next run would
/// read it.
pub(super) fn of_the_machine(error: &Error) -> bool {
    // ENOMEM, ENFILE and EMFILE, which have no name in the standard library.
    matches!(error, Error::Io { source, .. } if matches!(source.raw_os_error(), Some(12 | 23 | 24)))
}
