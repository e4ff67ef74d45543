//! Activations that are computed again on the way back: the same bits, in less memory.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::Path;
use std::time::Instant;

use shanty::base::{Result, Tensor, keyed};
use shanty::config::parse;
use shanty::kernels::Act;
use shanty::module;
use shanty::nn::{
    Autograd, AvgPool2d, BatchNorm1d, Concat, Conv2d, Dropout, Flatten, Forward, GELU, Identity, Linear,
    MaxPool2d, Module, Parallel, Residual, Select, Sequential, Var, checkpoint_activations,
    init::init_weights, named_modules,
};
use shanty::params::{HostParams, StateDict};
use shanty::run::Runner;

/// Twenty blocks with all that could go wrong: statistics, noise, skips, and the block's input itself as a part.
fn deep() -> Sequential {
    let mut net = Sequential::new();
    for _ in 0..20 {
        let body = Sequential::new()
            .with(Linear::new(48, 96))
            .with(BatchNorm1d::new(96))
            .with(GELU::new())
            .with(Dropout::new(0.2))
            .with(Linear::new(96, 48));
        net = net.with(Residual::new(body));
    }
    net
}

/// All gradients and buffers after two steps, the bytes of the buffers of a step, and its seconds.
fn steps(net: &mut Sequential, shape: &[usize]) -> (Vec<(String, Vec<f32>)>, usize, f64) {
    init_weights(net, 3).unwrap();
    let (mut autograd, mut time) = (Autograd::default(), 0.0);
    for step in 0..2 {
        let begun = Instant::now();
        autograd
            .train(net, &mut keyed(1, "noise", step, 0), |net, tape, cx| {
                let x = Tensor::from_shape_fn(shape, |i| {
                    let [rows, cols] = [i[0], (1..shape.len()).map(|axis| i[axis]).sum()];
                    ((rows * 7 + cols * 3) % 11) as f32 / 5.0 - 1.0
                });
                let y = net.forward(tape.input(x), cx)?;
                Ok(((y * y).mean(), ()))
            })
            .unwrap();
        time = begun.elapsed().as_secs_f64();
    }
    let mut found = Vec::new();
    net.visit(&mut |p| {
        let values = p.grad.unwrap_or(p.value);
        found.push((p.name.to_owned(), values.iter().copied().collect()));
    });
    (found, autograd.pool().bytes(), time)
}

#[test]
fn gradients_are_the_same_bits_in_less_memory() {
    let (wanted, all, plain) = steps(&mut deep(), &[64, 48]);
    let every: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let bodies: Vec<String> = (0..20).map(|i| format!("{i}.body")).collect();
    let nested: Vec<String> = (0..20).flat_map(|i| [format!("{i}.body.2"), i.to_string()]).collect();
    let one = vec!["7.body.0".to_owned()];
    for (paths, least) in [(every, 2.5), (bodies, 2.0), (nested, 2.0), (one, 0.5)] {
        let mut net = deep();
        paths.iter().for_each(|path| checkpoint_activations(&mut net, path).unwrap());
        assert_eq!(named_modules(&net).len(), named_modules(&deep()).len());
        let (found, bytes, again) = steps(&mut net, &[64, 48]);
        for ((name, wanted), (_, found)) in wanted.iter().zip(&found) {
            assert!(
                wanted.iter().zip(found).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{name}: {}",
                paths[0]
            );
        }
        println!("{}: {bytes} of {all} bytes, {again:.4} s beside {plain:.4} s", paths[0]);
        assert!(bytes as f64 * least <= all as f64, "{}: {bytes} of {all}", paths[0]);
    }
}

/// A pooling takes the slope of the activation before it, which it does not know of where it is computed again: of several
/// gradients the bits must not tell.
#[test]
fn a_pooling_beside_another_consumer_gives_the_same_bits() {
    for act in [Act::Tanh, Act::Relu] {
        let build = || {
            let branches = Concat::new()
                .with(Conv2d::new(3, 2, 2).stride(2))
                .with(MaxPool2d::new(2))
                .with(AvgPool2d::new(2))
                .with(Conv2d::new(3, 2, 2).stride(2));
            let first = Sequential::new().with(Conv2d::new(1, 3, 3)).with(Activation(act));
            first.with(branches).with(Flatten::new()).with(Linear::new(10 * 9, 1))
        };
        let (wanted, ..) = steps(&mut build(), &[16, 1, 8, 8]);
        for path in ["2.1", "2.2", "2"] {
            let mut net = build();
            checkpoint_activations(&mut net, path).unwrap();
            assert_eq!(steps(&mut net, &[16, 1, 8, 8]).0, wanted, "{act:?} {path}");
        }
    }
}

/// An activation as a module.
struct Activation(Act);

module!(Activation {});

impl Module for Activation {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x.activate(self.0))
    }
}

/// A parameter that is used within and without, a part that is frozen, and several inputs.
#[test]
fn shared_and_frozen_parameters_and_several_inputs() {
    let build = || {
        let branches =
            Parallel::new().with(Linear::new(3, 4)).with(Sequential::new().with(Linear::new(2, 4)));
        let mut net = Sequential::new()
            .with(Sequential::new().with(branches).with(Linear::new(8, 8)))
            .with(Residual::new(Linear::new(8, 8)).shortcut(Identity::new()));
        init_weights(&mut net, 0).unwrap();
        shanty::nn::set_trainable(&mut net, "0.0.1", false).unwrap();
        net
    };
    let grads = |net: &mut Sequential| {
        Autograd::default()
            .train(net, &mut keyed(0, "", 0, 0), |net, tape, cx| {
                let xs = [
                    tape.input(Tensor::from_elem(vec![5, 3], 0.5)),
                    tape.input(Tensor::from_elem(vec![5, 2], 2.0)),
                ];
                // The whole is called twice: its parameters are used in two segments.
                let y = net.forward_all(&xs, cx)? + net.forward_all(&xs, cx)?.powi(2);
                Ok((y.sum(), ()))
            })
            .unwrap();
        let mut found = Vec::new();
        net.visit(&mut |p| found.push((p.name.to_owned(), p.grad.map(|grad| grad.to_owned()))));
        found
    };
    let wanted = grads(&mut build());
    assert!(wanted.iter().any(|(_, grad)| grad.is_none()));
    for paths in [&["0"][..], &["0.0"], &["0.0", "0"], &["1.body"], &["0", "1", "1.body"]] {
        let mut net = build();
        paths.iter().for_each(|path| checkpoint_activations(&mut net, path).unwrap());
        assert_eq!(grads(&mut net), wanted, "{paths:?}");
    }
    let mut only = Sequential::new().with(Sequential::new().with(Select::input(0)));
    assert!(checkpoint_activations(&mut only, "1").unwrap_err().to_string().contains("no module `1`"));
}

#[test]
fn a_config_names_the_modules() {
    let run = |more: &str| {
        let dir = tempfile::tempdir().unwrap();
        let work = serde_json::to_string(Path::new(&dir.path().join("work"))).unwrap();
        let text = format!(
            "
model:
  type: Supervised
  network:
    - {{type: Flatten}}
    - [{{type: Linear, in_features: 12, out_features: 16}}, {{type: BatchNorm1d, num_features: 16}}, {{type: Dropout, p: 0.3}}]
    - {{type: Linear, in_features: 16, out_features: 3}}
  loss: {{type: CrossEntropyLoss}}
train_dataloader: {{batch_size: 4, dataset: {{type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3}}}}
optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1, momentum: 0.9}}}}
train_cfg: {{by_epoch: true, max_epochs: 2}}
randomness: {{seed: 5}}
work_dir: {work}
{more}
"
        );
        let mut runner = Runner::from_config(&parse("c.yaml", &text)?, Some("c.yaml"))?;
        runner.train()?;
        StateDict::of(&*runner.session().state.model)
    };
    let wanted = run("").unwrap();
    let found = run("activation_checkpointing: [network.1]").unwrap();
    for ((name, a), (_, b)) in wanted.0.iter().zip(&found.0) {
        assert_eq!(a.value, b.value, "{name}");
    }
    let error = run("activation_checkpointing: network.9").err().unwrap().to_string();
    assert!(error.contains("the model has no module `network.9`") && error.contains("c.yaml:"), "{error}");
}
