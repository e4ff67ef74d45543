//! What both crates ask of several processes, here threads, that train one network: gradients are summed by way of the
//! host.

use shanty::base::Result;
use shanty::data::DataLoader;
use shanty::model::Model;
use shanty::optim::{Adam, ClipGrad, OptimWrapper};
use shanty::params::StateDict;
use shanty::run::{IterBasedTrainLoop, Runner};
use shanty::testing::ranks;

/// A network with this dropout, and what it is trained with.
pub type Make<M> = fn(f64) -> Result<(M, DataLoader)>;

/// The weights of each rank after 30 steps with so many samples in all.
fn trained<M: Model + 'static>(make: Make<M>, world: usize, dropout: f64) -> Vec<StateDict> {
    let dir = tempfile::tempdir().unwrap();
    ranks(world, |_, comm| {
        let (model, data) = make(dropout)?;
        let optim = OptimWrapper::new(Adam::decoupled(0.01)).accumulate(2).clip(ClipGrad::by_norm(0.5));
        let mut runner = Runner::builder(model)
            .train(data.batch_size(8 / world).shuffle(true), IterBasedTrainLoop::new(30), optim)
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

/// Two ranks with halves of a batch are one with the whole.
pub fn two_ranks_are_one<M: Model + 'static>(make: Make<M>) {
    let (one, two) = (trained(make, 1, 0.0), trained(make, 2, 0.0));
    assert_eq!(two[0], two[1]);
    assert!(distance(&one[0], &two[0]) < 1e-5, "{}", distance(&one[0], &two[0]));
}

/// Each rank drops what it likes, and all keep the same weights.
pub fn ranks_with_dropout_stay_together<M: Model + 'static>(make: Make<M>) {
    let two = trained(make, 2, 0.5);
    assert_eq!(two[0], two[1]);
    assert!(distance(&trained(make, 1, 0.5)[0], &two[0]) > 1e-3);
}
