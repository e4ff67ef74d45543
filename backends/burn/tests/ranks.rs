//! Several processes, here threads, that train one network of burn: gradients are summed by way of the host.
#![allow(clippy::unwrap_used)] // helpers of tests

use shanty::data::{DataLoader, Synthetic};
use shanty::optim::{Adam, ClipGrad, OptimWrapper};
use shanty::params::StateDict;
use shanty::run::{IterBasedTrainLoop, Runner};
use shanty::testing::ranks;
use shanty_burn::BurnModel;

#[path = "../examples/mlp.rs"]
mod mlp;

/// The weights of each rank after 30 steps with so many samples in all.
fn trained(world: usize, dropout: f64) -> Vec<StateDict> {
    let dir = tempfile::tempdir().unwrap();
    ranks(world, |_, comm| {
        let config = mlp::MlpConfig { hidden: 16, dropout, norm: false, ..Default::default() };
        let data = DataLoader::new(Synthetic::new(240, [1, 8, 8], 10, 0)).batch_size(8 / world).shuffle(true);
        let optim = OptimWrapper::new(Adam::decoupled(0.01)).accumulate(2).clip(ClipGrad::by_norm(0.5));
        let mut runner = Runner::builder(BurnModel::new(move |device| mlp::Mlp::new(&config, device))?)
            .train(data, IterBasedTrainLoop::new(30), optim)
            .work_dir(dir.path())
            .seed(3)
            .comm(comm)
            .build()?;
        runner.train()?;
        StateDict::of(runner.model()?)
    })
    .unwrap()
}

fn distance(a: &StateDict, b: &StateDict) -> f32 {
    let pairs = a.0.iter().zip(&b.0).flat_map(|(a, b)| a.1.value.iter().zip(&b.1.value));
    pairs.fold(0.0, |max, (a, b)| max.max((a - b).abs()))
}

#[test]
fn two_ranks_with_halves_of_a_batch_are_one_with_the_whole() {
    let (one, two) = (trained(1, 0.0), trained(2, 0.0));
    assert_eq!(two[0], two[1]);
    assert!(distance(&one[0], &two[0]) < 1e-5, "{}", distance(&one[0], &two[0]));
}

/// Each rank drops what it likes, and all keep the same weights.
#[test]
fn ranks_with_dropout_stay_together() {
    let two = trained(2, 0.5);
    assert_eq!(two[0], two[1]);
    assert!(distance(&trained(1, 0.5)[0], &two[0]) > 1e-3);
}
