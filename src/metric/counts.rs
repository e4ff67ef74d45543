//! What metrics count is plain data: ranks and shards count their own samples, and one adds up what all have counted.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{Error, Result};

/// What a metric has counted of some samples.
pub(super) trait Counts: Serialize + DeserializeOwned {
    /// Adds what was counted of other samples.
    ///
    /// # Errors
    /// When those are of another kind: of more classes, say.
    fn add(&mut self, other: Self) -> Result<()>;
}

/// As another process reads it, every number bit for bit.
pub(super) fn to_bytes(counts: &impl Counts) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(counts, &mut bytes).map_err(|e| Error::invalid(format!("its counts: {e}")))?;
    Ok(bytes)
}

/// Adds what [`to_bytes`] wrote.
pub(super) fn add_bytes(counts: &mut impl Counts, other: &[u8]) -> Result<()> {
    let other = ciborium::from_reader(other);
    counts.add(other.map_err(|e| Error::invalid(format!("these are not the counts of this metric: {e}")))?)
}

/// Adds number by number; what has counted nothing yet becomes the other.
pub(super) fn add_each<T>(
    own: &mut Vec<T>,
    other: Vec<T>,
    what: &str,
    add: impl Fn(&mut T, T),
) -> Result<()> {
    if own.is_empty() {
        *own = other;
    } else if !other.is_empty() {
        if own.len() != other.len() {
            return Err(Error::invalid(format!("{} {what} after {}", other.len(), own.len())));
        }
        own.iter_mut().zip(other).for_each(|(own, other)| add(own, other));
    }
    Ok(())
}

/// The methods of a metric whose counts are this field.
macro_rules! counted {
    ($counts:ident) => {
        fn counted(&self) -> Result<Vec<u8>> {
            $crate::metric::counts::to_bytes(&self.$counts)
        }

        fn merge(&mut self, counted: &[u8]) -> Result<()> {
            $crate::metric::counts::add_bytes(&mut self.$counts, counted)
        }

        fn reset(&mut self) {
            self.$counts = Default::default();
        }
    };
}
pub(super) use counted;

/// How many numbers there were, and their sum.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
pub(super) struct Mean {
    n: u64,
    sum: f64,
}

impl Mean {
    pub(super) fn count(&mut self, value: f64) {
        self.n += 1;
        self.sum += value;
    }

    /// The mean.
    ///
    /// # Errors
    /// Of no number.
    pub(super) fn value(&self) -> Result<f64> {
        match self.n {
            0 => Err(no_sample()),
            n => Ok(self.sum / n as f64),
        }
    }
}

impl Counts for Mean {
    fn add(&mut self, other: Self) -> Result<()> {
        self.n += other.n;
        self.sum += other.sum;
        Ok(())
    }
}

/// What a metric says that has counted nothing.
pub(super) fn no_sample() -> Error {
    Error::invalid("there was no sample")
}
