//! Reads every sample of a data set once, to know beforehand which ones a run would stumble over.

use ndarray::Array3;
use rayon::prelude::*;

use crate::base::{Result, Rng, caught_from, keyed};

use super::{Dataset, Picture, Pipeline, Sample, Transform, Value};

/// The samples of `dataset` that cannot be read, or that its pipeline refuses in the first pass of a run of this seed,
/// each with the reason. Those `without` are not read. The threads of rayon's pool share the work.
pub fn unreadable(dataset: &dyn Dataset, seed: u64, without: &[u64]) -> Vec<(usize, String)> {
    let whole = Pipeline::new(vec![Box::new(Decode)]);
    let read = |index: usize| -> Result<()> {
        let rng = || keyed(seed, "augment", 0, index as u64);
        // A pipeline may decode a part of a picture only: without it all of the file is read.
        if dataset.has_pipeline() {
            dataset.get_through(index, &mut rng(), &whole)?;
        }
        dataset.get(index, &mut rng()).map(drop)
    };
    let failure =
        |index: usize| caught_from("the data set", || read(index)).err().map(|e| (index, e.to_string()));
    let wanted = (0..dataset.len()).into_par_iter().filter(|index| !without.contains(&(*index as u64)));
    wanted.filter_map(failure).collect()
}

/// Reads all of the pictures, and keeps nothing of them: as values they would take four times the memory.
struct Decode;

impl Transform for Decode {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        for (_, value) in sample.fields.iter_mut() {
            if let Value::Picture(picture) = value {
                picture.bytes()?;
                *picture = Picture::Values(Array3::default((1, 1, 1)));
            }
        }
        Ok(())
    }
}
