//! Reads every sample of a data set once, to know beforehand which ones a run would stumble over.

use std::collections::BTreeMap;

use ndarray::Array3;
use rayon::prelude::*;

use crate::base::{Result, Rng, caught_from, keyed};

use super::{Dataset, Picture, Pipeline, Sample, Transform, Value};

/// What became of reading every sample.
#[derive(Debug, Default)]
pub struct Surveyed {
    /// The samples that cannot be read, or that their pipeline refuses in the first pass, each with the reason.
    pub unreadable: Vec<(usize, String)>,
    /// Of each field of whole numbers the samples that have the smallest and the largest of all.
    pub extremes: Vec<[usize; 2]>,
}

/// The smallest and the largest number of each field, each with the first sample that has it.
type Extremes = BTreeMap<String, [(i64, usize); 2]>;

/// Reads the samples of `dataset` as the first pass of a run of this seed makes them, but for those `without`. The
/// threads of rayon's pool share the work.
pub fn survey(dataset: &dyn Dataset, seed: u64, without: &[u64]) -> Surveyed {
    let whole = Pipeline::new(vec![Box::new(Decode)]);
    let read = |index: usize| -> Result<Extremes> {
        let rng = || keyed(seed, "augment", 0, index as u64);
        // A pipeline may decode a part of a picture only: without it all of the file is read.
        if dataset.has_pipeline() {
            dataset.get_through(index, &mut rng(), &whole)?;
        }
        Ok(extremes(index, &dataset.get(index, &mut rng())?))
    };
    let wanted = (0..dataset.len()).into_par_iter().filter(|index| !without.contains(&(*index as u64)));
    let of = |index: usize| match caught_from("the data set", || read(index)) {
        Ok(own) => (Vec::new(), own),
        Err(error) => (vec![(index, error.to_string())], Extremes::new()),
    };
    let (unreadable, found) = wanted.map(of).reduce(Default::default, |(mut bad, mut all), (more, own)| {
        bad.extend(more);
        for (name, [low, high]) in own {
            let known = all.entry(name).or_insert([low, high]);
            *known = [known[0].min(low), if high.0 > known[1].0 { high } else { known[1] }];
        }
        (bad, all)
    });
    let extremes = found.into_values().map(|[(_, low), (_, high)]| [low, high]).collect();
    Surveyed { unreadable, extremes }
}

fn extremes(index: usize, sample: &Sample) -> Extremes {
    let of = |(name, value): (&str, &Value)| {
        let Value::Int(numbers) = value else { return None };
        let (low, high) = (numbers.iter().min()?, numbers.iter().max()?);
        Some((name.to_owned(), [(*low, index), (*high, index)]))
    };
    sample.fields.iter().filter_map(of).collect()
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
