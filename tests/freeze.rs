//! What is frozen is not moved, decayed or counted, and its batch norms are those of evaluation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use shanty::nn::{Module, named_modules};
use shanty::params::StateDict;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::verify::verify;
use shanty::run::{Limits, Runner, RunnerBuilder};

fn config(dir: &Path, resume: bool, model: &str, hooks: &str) -> String {
    let data = "batch_size: 4, dataset: {type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3}";
    format!(
        "
model:
  type: ImageClassifier
  backbone:
    type: Sequential
    layers:
      - {{type: Flatten}}
      - {{type: Linear, in_features: 12, out_features: 6}}
      - {{type: BatchNorm1d, num_features: 6}}
      - {{type: ReLU}}
      - {{type: Linear, in_features: 6, out_features: 5}}
      - {{type: BatchNorm1d, num_features: 5}}
      - {{type: Linear, in_features: 5, out_features: 3}}
  head: {{type: ClsHead}}
  {model}
train_dataloader: {{{data}, sampler: {{type: DefaultSampler, shuffle: true}}}}
optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1, momentum: 0.9, weight_decay: 0.1}}, clip_grad: {{max_norm: 100}}}}
train_cfg: {{by_epoch: true, max_epochs: 3}}
randomness: {{seed: 5}}
custom_hooks: [{hooks}]
work_dir: {}
resume: {resume}
",
        dir.display()
    )
}

fn runner(dir: &Path, resume: bool, model: &str, hooks: &str, limits: Limits) -> Result<Runner> {
    let node = shanty::config::parse("test", &config(dir, resume, model, hooks))?;
    RunnerBuilder::from_config(&node, Some("test.yaml"))?.limits(limits).build()
}

/// Names of the tensors that a training of three epochs moved.
fn moved(model: &str, hooks: &str) -> Vec<String> {
    struct Begin(StateDict);
    impl Hook for Begin {
        fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
            self.0 = StateDict::of(&**cx.model).unwrap();
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut runner = runner(dir.path(), false, model, hooks, Limits::default()).unwrap();
    runner.add_hook(Begin(StateDict::default())).unwrap();
    runner.train().unwrap();
    let begin = runner.hook::<Begin>().unwrap().0.clone();
    let end = StateDict::of(runner.model().unwrap()).unwrap();
    let pairs = begin.0.into_iter().zip(end.0);
    pairs.filter(|(a, b)| a != b).map(|((name, _), _)| name).collect()
}

/// Neither weights nor running statistics below a frozen module move, by gradient or by decay; all others do.
#[test]
fn a_frozen_module_stays_as_it_was() {
    let all = moved("", "");
    assert_eq!(all.len(), 16, "{all:?}");
    for hooks in ["", "{type: EMAHook, momentum: 0.1}", "{type: PreciseBNHook, num_samples: 8}"] {
        let found = moved("frozen: ['backbone.1', 'backbone.2']", hooks);
        assert!(!found.iter().any(|name| name.starts_with("backbone.1.") || name.starts_with("backbone.2.")));
        let rest: Vec<_> =
            all.iter().filter(|n| !n.starts_with("backbone.1.") && !n.starts_with("backbone.2.")).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), rest, "{hooks}");
    }
}

/// Everything frozen: there is no gradient, no norm, and no update.
#[test]
fn a_model_that_is_frozen_whole_is_only_looked_at() {
    assert_eq!(moved("frozen: [backbone]", ""), Vec::<String>::new());
}

#[test]
fn a_module_that_is_not_there_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let error =
        runner(dir.path(), false, "frozen: [backbon]", "", Limits::default()).err().unwrap().to_string();
    assert!(error.contains("the model has no module `backbon`; did you mean `backbone`?"), "{error}");
}

#[test]
fn a_frozen_run_resumes_exactly_at_every_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let hooks = "{type: EMAHook, momentum: 0.1}";
    let make = |dir: &Path, resume: bool, limits: Limits| {
        runner(dir, resume, "frozen: ['backbone.1', 'backbone.2']", hooks, limits)
    };
    for cut in verify(&make, |total| (1..total).collect(), scratch.path(), &mut |_| ()).unwrap() {
        assert_eq!(cut.difference, None, "cut after {}", cut.at);
    }
}

fn resnet(keys: &str) -> Result<Box<dyn Module>> {
    let spec =
        Spec::<dyn Module>::parse(&format!("{{type: ResNet_CIFAR, depth: 8, base_channels: 4{keys}}}"))
            .unwrap();
    spec.build(&mut BuildCx::new(0))
}

/// Names of the parameters that have a gradient after a step, and of the buffers that moved.
fn trained(mut net: Box<dyn Module>) -> (Vec<String>, Vec<String>) {
    let mut rng = shanty::base::keyed(0, "test", 0, 0);
    let before = StateDict::of(&*net).unwrap();
    shanty::nn::Autograd::default()
        .train(&mut net, &mut rng, |net, tape, cx| {
            let x = ndarray::ArrayD::from_shape_fn(vec![2, 3, 8, 8], |i| {
                (i[0] + i[1] * i[2]) as Elem - i[3] as Elem
            });
            let y = net.forward(tape.input(x.into_shared()), cx)?;
            Ok((y.mean(), ()))
        })
        .unwrap();
    let (mut grads, mut moved) = (Vec::new(), Vec::new());
    let mut kept = before.0.into_iter();
    net.visit(&mut |p| {
        let (_, old) = kept.next().unwrap();
        if p.grad.is_some() {
            grads.push(p.name.to_owned());
        }
        if p.role == Role::Buffer && p.value != old.value {
            moved.push(p.name.to_owned());
        }
    });
    (grads, moved)
}

/// MMPretrain's `frozen_stages`: 0 is the stem, n the stem and n stages; `norm_eval` leaves scales and shifts trained.
#[test]
fn frozen_stages_and_norm_eval_are_those_of_mmpretrain() {
    let stage = |name: &str| name.split('.').next().unwrap().to_owned();
    for (frozen, first) in [(-1, "conv1"), (0, "layer1"), (1, "layer2"), (2, "layer3")] {
        let (grads, moved) = trained(resnet(&format!(", frozen_stages: {frozen}")).unwrap());
        assert_eq!(stage(&grads[0]), first, "{frozen}");
        assert_eq!(stage(&moved[0]), if frozen < 0 { "bn1" } else { first }, "{frozen}");
    }
    let (grads, moved) = trained(resnet(", frozen_stages: 3").unwrap());
    assert!(grads.is_empty() && moved.is_empty());
    let (all, _) = trained(resnet("").unwrap());
    let (grads, moved) = trained(resnet(", norm_eval: true").unwrap());
    assert_eq!(grads, all, "scales and shifts are trained");
    assert!(moved.is_empty(), "{moved:?}");
    let error = resnet(", frozen_stages: 4").err().unwrap().to_string();
    assert!(error.contains("`frozen_stages: 4`, but there are 3 stages"), "{error}");
    assert!(named_modules(&*resnet("").unwrap()).iter().any(|(path, _)| path == "layer1.0"));
}

/// The hook's epochs count from 1: what is frozen until the second stays through the first, and is trained then.
#[test]
fn the_freeze_hook_holds_modules_for_some_epochs() {
    let still = |hook: &str| {
        let all = moved("", "");
        let found = moved("", hook);
        all.into_iter().filter(|name| !found.contains(name)).collect::<Vec<_>>()
    };
    let frozen = ["backbone.1.weight", "backbone.1.bias"];
    assert_eq!(still("{type: FreezeHook, modules: backbone.1}"), frozen);
    assert_eq!(still("{type: FreezeHook, modules: backbone.1, end: 3}"), Vec::<String>::new());
    assert_eq!(still("{type: FreezeHook, modules: [backbone.1], begin: 3}"), Vec::<String>::new());
    // In an epoch in which it is frozen a weight stays bit for bit, and moves in the others.
    let courses = |hook: &str| {
        struct Course(Vec<StateDict>);
        impl Hook for Course {
            fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
                self.0.push(StateDict::of(&**cx.model)?);
                Ok(())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut runner = runner(dir.path(), false, "", hook, Limits::default()).unwrap();
        runner.add_hook(Course(Vec::new())).unwrap();
        runner.train().unwrap();
        let course = &runner.hook::<Course>().unwrap().0;
        let weight = |epoch: usize| course[epoch].get("backbone.1.weight").unwrap().value.clone();
        (weight(0), weight(1), weight(2))
    };
    let (one, two, three) = courses("{type: FreezeHook, modules: backbone.1, begin: 2, end: 3}");
    assert!(one == two && two != three);
    let dir = tempfile::tempdir().unwrap();
    for (hook, says) in [
        (
            "{type: FreezeHook, modules: backbone.1, begin: 2, end: 2}",
            "`end: 2` must be above `begin`, which is 2",
        ),
        ("{type: FreezeHook, modules: backbone.1, begin: 4}", "`begin: 4`, but the run has 3 epochs"),
    ] {
        let said = runner(dir.path(), false, "", hook, Limits::default()).err().unwrap().to_string();
        assert!(said.contains(says), "{said}");
    }
    let mut wrong =
        runner(dir.path(), false, "", "{type: FreezeHook, modules: backbone.9}", Limits::default()).unwrap();
    let said = wrong.train().unwrap_err().to_string();
    assert!(said.contains("the model has no module `backbone.9`"), "{said}");
    // Of a later epoch a check knows it too.
    let later = config(dir.path(), false, "", "{type: FreezeHook, modules: backbone.9, begin: 2}");
    let node = shanty::config::parse("test", &later).unwrap();
    let said = shanty::run::check::check(&node, Some("test.yaml")).unwrap_err().to_string();
    assert!(said.contains("the model has no module `backbone.9`"), "{said}");
}

/// The log says that a module is trained again where it is; at the end of the run nothing is.
#[test]
fn what_is_frozen_to_the_end_is_not_trained_again() {
    let told = |end: &str| {
        let dir = tempfile::tempdir().unwrap();
        let hook = format!("{{type: FreezeHook, modules: backbone.1{end}}}");
        let mut runner = runner(dir.path(), false, "", &hook, Limits::default()).unwrap();
        runner.train().unwrap();
        let mut frozen = 0;
        runner.model().unwrap().infos(&mut |p| frozen += usize::from(p.frozen));
        assert_eq!(frozen, 0, "the model is left as it was");
        let state = &runner.session().state;
        let log = state.dirs.log.join(format!("{}.log", state.info.timestamp));
        let log = std::fs::read_to_string(log).unwrap();
        ["from now on frozen: backbone.1", "from now on trained again: backbone.1"]
            .map(|line| log.matches(line).count())
    };
    assert_eq!((told(""), told(", end: 3")), ([1, 0], [1, 1]));
}

#[test]
fn a_run_that_freezes_for_an_epoch_resumes_exactly_at_every_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let hook = "{type: FreezeHook, modules: ['backbone.1', 'backbone.2'], begin: 2, end: 3}";
    let make = |dir: &Path, resume: bool, limits: Limits| runner(dir, resume, "", hook, limits);
    for cut in verify(&make, |total| (1..total).collect(), scratch.path(), &mut |_| ()).unwrap() {
        assert_eq!(cut.difference, None, "cut after {}", cut.at);
    }
}
