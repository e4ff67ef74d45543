//! Batch norms that share their statistics among processes, here threads, against one process with all samples.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::sync::Arc;

use rand::RngExt;
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::comm::Comm;
use shanty::config::parse;
use shanty::model::{ResNet, ResNetConfig};
use shanty::module;
use shanty::nn::{
    Autograd, BatchNorm2d, BnThen, Forward, Module, Param, Sequential, SyncBatchNorm, Var,
    checkpoint_activations, convert_sync_batchnorm, named_modules, revert_sync_batchnorm,
};
use shanty::params::HostParams;
use shanty::registry::{BuildCx, Spec};
use shanty::testing::ranks;

fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = keyed(seed, "ranks", 0, 0);
    Tensor::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0 as Elem))
}

/// A norm whose input has a gradient.
struct Probe {
    x: Param,
    norm: SyncBatchNorm,
}

module!(Probe { x, norm });

impl Module for Probe {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let input = x.tape().param(&self.x);
        self.norm.forward_then(input, BnThen { add: None, relu: BnThen::RELU }, cx)
    }
}

/// Output, gradients of input, weight and bias, and running statistics of a step with the loss `Σ y dy`.
#[derive(Debug, Clone)]
struct Found {
    y: Tensor,
    dx: Tensor,
    of_norm: [Tensor; 2],
    running: [Tensor; 2],
}

fn step(x: Tensor, dy: Tensor, group: Option<Arc<dyn Comm>>) -> Result<Found> {
    let channels = x.shape()[1];
    let mut norm = SyncBatchNorm::new(channels);
    norm.visit_mut(&mut |mut p| {
        if p.name == "weight" || p.name == "bias" {
            p.value.assign(&noise(9 + p.name.len() as u64, &[channels]));
        }
    });
    let mut probe = Probe { x: Param::new(x.clone()), norm };
    let mut autograd = Autograd::default();
    if let Some(group) = group {
        autograd.beside(group);
    }
    let y = autograd.train(&mut probe, &mut keyed(0, "step", 0, 0), |probe, tape, cx| {
        let y = probe.forward(tape.input(Tensor::zeros(vec![1])), cx)?;
        Ok(((y * tape.input(dy.clone())).sum(), y.value()))
    })?;
    let mut tensors = std::collections::BTreeMap::new();
    probe.visit(&mut |p| {
        tensors.insert(p.name.to_owned(), p.value.to_owned().into_shared());
        tensors.insert(format!("{}.grad", p.name), p.grad.map_or(x.clone(), |g| g.to_owned().into_shared()));
    });
    let take = |name: &str| tensors[name].clone();
    Ok(Found {
        y,
        dx: take("x.grad"),
        of_norm: ["norm.weight.grad", "norm.bias.grad"].map(take),
        running: ["norm.running_mean", "norm.running_var"].map(take),
    })
}

fn near(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    let far = a.iter().zip(b).fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
    assert!(far < 2e-5, "{what}: {far:e}");
}

/// What one sample a rank, unequal parts and a rank without samples give is what one process gives for all of them:
/// outputs, gradients and running statistics.
#[test]
fn ranks_with_unequal_parts_are_one_process_with_the_whole_batch() {
    for (seed, counts) in
        [&[3usize, 5][..], &[1, 1], &[0, 4], &[2, 1, 6], &[1, 0, 1], &[4, 3, 2, 1]].iter().enumerate()
    {
        let n: usize = counts.iter().sum();
        let shift = if seed % 2 == 0 { 0.0 } else { 30.0 };
        let (x, dy) =
            (noise(seed as u64, &[n, 3, 2, 2]) + shift as Elem, noise(seed as u64 + 50, &[n, 3, 2, 2]));
        let (x, dy) = (x.into_shared(), dy);
        let whole = step(x.clone(), dy.clone(), None).unwrap();
        let part = |all: &Tensor, rank: usize| {
            let from: usize = counts[..rank].iter().sum();
            all.slice_axis(ndarray::Axis(0), (from..from + counts[rank]).into()).to_owned().into_shared()
        };
        let parts =
            ranks(counts.len(), |rank, group| step(part(&x, rank), part(&dy, rank), Some(group))).unwrap();
        for (rank, found) in parts.iter().enumerate() {
            near(&found.y, &part(&whole.y, rank), "output");
            near(&found.dx, &part(&whole.dx, rank), "gradient of the input");
            for (of_rank, of_one) in found.running.iter().zip(&whole.running) {
                near(of_rank, of_one, "running statistics");
            }
            assert_eq!(found.running, parts[0].running, "equal bits on all ranks");
        }
        for (i, of_one) in whole.of_norm.iter().enumerate() {
            let sum =
                parts.iter().fold(Tensor::zeros(vec![3]), |sum, part| (sum + &part.of_norm[i]).into_shared());
            near(&sum, of_one, "gradients of weight and bias");
        }
    }
}

/// The closed form: [1, 2, 3] and [10] have mean 4, variance 12.5 and unbiased 16.667, whichever rank holds how many.
#[test]
fn a_mean_of_ranks_is_weighted_by_their_counts() {
    let column = |values: &[f32]| {
        Tensor::from_shape_vec(vec![values.len(), 1], values.iter().map(|v| *v as Elem).collect()).unwrap()
    };
    for (parts, mean, var) in
        [(&[&[1.0, 2.0, 3.0][..], &[10.0]][..], 0.4, 0.9 + 0.1 * 50.0 / 3.0), (&[&[2.0], &[6.0]], 0.4, 1.7)]
    {
        let all = ranks(parts.len(), |rank, group| {
            let x = column(parts[rank]);
            step(x.clone(), Tensor::ones(x.raw_dim()).into_shared(), Some(group))
        });
        for found in all.unwrap() {
            assert!((f64::from(found.running[0][0]) - mean).abs() < 1e-6, "{found:?}");
            assert!((f64::from(found.running[1][0]) - var).abs() < 1e-6, "{found:?}");
        }
    }
    // One value has no variance, whoever holds it.
    let alone = ranks(2, |rank, group| {
        let x = if rank == 0 { column(&[1.0]) } else { Tensor::zeros(vec![0, 1]) };
        step(x.clone(), x, Some(group)).map(drop)
    });
    assert!(alone.unwrap_err().to_string().contains("one value per channel"));
    // A rank that leaves ends the step of the others.
    let left = ranks(2, |rank, group| match rank {
        0 => Ok(()),
        _ => step(noise(1, &[2, 3]), noise(2, &[2, 3]), Some(group)).map(drop),
    });
    assert!(left.unwrap_err().to_string().contains("another rank has left"));
}

/// Activations that are computed again on the way back sum again, on all ranks.
#[test]
fn sums_are_made_again_with_activations_that_are_computed_again() {
    let grads = |recompute: bool| {
        let all = ranks(2, |rank, group| {
            let inner = Sequential::new().named("bn", BatchNorm2d::new(2).sync(true));
            let mut net = Sequential::new().named("block", inner);
            if recompute {
                checkpoint_activations(&mut net, "block")?;
            }
            let mut autograd = Autograd::default();
            autograd.beside(group);
            autograd.train(&mut net, &mut keyed(0, "step", 0, 0), |net, tape, cx| {
                let y = net.forward(tape.input(noise(rank as u64, &[rank + 1, 2, 3, 3])), cx)?;
                Ok(((y * y * y).sum(), ()))
            })?;
            let mut grads = Vec::new();
            net.visit(&mut |p| grads.extend(p.grad.map(|g| g.to_owned())));
            Ok(grads)
        });
        all.unwrap()
    };
    assert_eq!(grads(true), grads(false));
}

/// One process computes the bits of a batch norm; all norms of a network are turned and turned back; a config names
/// them as MMCV does.
#[test]
fn one_process_has_the_bits_of_a_batch_norm_and_networks_are_converted() {
    let mut resnet = ResNet::cifar(&ResNetConfig::new(20)).unwrap();
    let kinds = |net: &ResNet| {
        let all = named_modules(net).into_iter().map(|(_, module)| module.type_name());
        let count = |name: &str| all.clone().filter(|kind| *kind == name).count();
        [count("BatchNorm2d"), count("SyncBatchNorm")]
    };
    let scores = |net: &mut ResNet| {
        let mut autograd = Autograd::default();
        autograd
            .train(net, &mut keyed(0, "step", 0, 0), |net, tape, cx| {
                let y = net.forward(tape.input(noise(3, &[4, 3, 32, 32])), cx)?;
                Ok((y.sum(), y.value()))
            })
            .unwrap()
    };
    let norms = kinds(&resnet)[0];
    let before = scores(&mut resnet);
    assert_eq!(convert_sync_batchnorm(&mut resnet), norms);
    assert_eq!(kinds(&resnet), [0, norms]);
    assert_eq!(scores(&mut resnet), before);
    assert_eq!(revert_sync_batchnorm(&mut resnet), norms);
    assert_eq!(kinds(&resnet), [norms, 0]);
    for name in ["SyncBatchNorm", "SyncBN", "MMSyncBN", "BN", "BN1d"] {
        let yaml = format!("{{type: {name}, num_features: 3, momentum: 0.2}}");
        let spec: Spec<dyn Module> = parse("net.yaml", &yaml).unwrap().read().unwrap();
        let built = spec.build(&mut BuildCx::new(0)).unwrap();
        let kind = if name.contains("Sync") {
            "SyncBatchNorm"
        } else if name == "BN" {
            "BatchNorm2d"
        } else {
            "BatchNorm1d"
        };
        assert_eq!(built.type_name(), kind);
    }
}
