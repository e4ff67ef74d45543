//! The bits of a training step do not depend on the number of threads.
#![allow(clippy::unwrap_used)] // helpers of tests

mod nets;

use shanty::data::Batch;
use shanty::model::{Model, StepCx};
use shanty::optim::{Amp, AmpDtype, OptimWrapper, Sgd};
use shanty::params::StateDict;

/// Everything that three steps leave behind, network by network.
fn after_steps(threads: usize, dtype: AmpDtype) -> Vec<(&'static str, StateDict)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let train = |(name, mut model, batch): (_, shanty::model::ImageClassifier, Batch)| {
        let amp = Amp { dtype, ..Amp::default() };
        let mut optim = OptimWrapper::new(Sgd::new(0.05).momentum(0.9)).amp(amp);
        for iter in 0..3 {
            let cx = StepCx { seed: 0, iter, loss_scale: optim.loss_scale(batch.len()) };
            optim.gradients(&mut model, |model| model.train_step(&batch, &cx)).unwrap();
            optim.update(&mut model).unwrap();
        }
        (name, StateDict::of(&model).unwrap())
    };
    pool.install(|| nets::all().into_iter().map(train).collect())
}

#[test]
fn one_two_and_three_threads_give_equal_bits() {
    for dtype in [AmpDtype::Float32, AmpDtype::Bfloat16, AmpDtype::Float16] {
        let one = after_steps(1, dtype);
        for threads in [2, 3] {
            for ((name, a), (_, b)) in one.iter().zip(after_steps(threads, dtype)) {
                for ((key, a), (_, b)) in a.0.iter().zip(&b.0) {
                    let same = a.value.iter().zip(&b.value).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{name}: {key} in {dtype:?} with {threads} threads");
                }
            }
        }
    }
}
