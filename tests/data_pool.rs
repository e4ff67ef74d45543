//! The runner trains on a thread of rayon's pool: samples whose transforms use the pool must still arrive when that
//! thread is its only one.

#![allow(clippy::unwrap_used)] // helpers of tests

use ndarray::Array3;
use rayon::prelude::*;
use shanty::base::{Elem, Result, Rng};
use shanty::data::{DataLoader, Dataset, Sample};

/// Each sample is the sum of 0..=index, taken on the pool.
struct Sums;

impl Dataset for Sums {
    fn len(&self) -> usize {
        8
    }
    fn get(&self, index: usize, _: &mut Rng) -> Result<Sample> {
        let sum: usize = (0..=index).into_par_iter().sum();
        Ok(Sample::new(Array3::from_elem((1, 1, 1), sum as f32), 0))
    }
}

#[test]
fn a_thread_of_the_pool_that_waits_for_a_batch_works_for_it() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let loader = DataLoader::new(Sums).batch_size(2).num_workers(2);
    rayon::scope(|_| {
        let all: Vec<Elem> = loader
            .batches(0, None)
            .take(4)
            .flat_map(|batch| batch.unwrap().inputs().unwrap().clone().into_iter())
            .collect();
        assert_eq!(all, [0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 21.0, 28.0]);
        // Workers that are dismissed in the middle of a batch need the pool to come to their end.
        drop(loader.batches(0, None).next());
    });
}
