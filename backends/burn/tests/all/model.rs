//! What a network of burn does in a run beyond the contract of models: names, checkpoints, chance, freezing, optimizers.

use shanty::base::Elem;
use shanty::data::Batch;
use shanty::model::{ClsHead, ImageClassifier, LinearClsHead, Model, StepCx};
use shanty::ndarray::{ArrayD, IxDyn};
use shanty::nn::GlobalAveragePooling;
use shanty::optim::{Adam, Optimizer};
use shanty::params::{OptimState, Params, Set, StateDict, all, update_by_transfer};
use shanty_burn::BurnModel;

use crate::mlp::{Mlp, MlpConfig};
use crate::resnet::{ResNet, ResNetConfig};

fn pictures() -> Batch {
    let pixel = |at: IxDyn| ((at[0] * 64 + at[2] * 8 + at[3]) as Elem * 0.37).sin();
    Batch::new(ArrayD::from_shape_fn(IxDyn(&[6, 1, 8, 8]), pixel), vec![0, 1, 2, 3, 4, 5])
}

fn two_layers(dropout: f64) -> BurnModel<Mlp> {
    BurnModel::new(move |device| Mlp::new(&MlpConfig { hidden: 16, dropout, ..MlpConfig::default() }, device))
        .unwrap()
}

fn step(model: &mut dyn Model, iter: u64) -> f64 {
    model.train_step(&pictures(), &StepCx { seed: 5, iter, loss_scale: 1.0 }).unwrap().loss().unwrap()
}

fn tensors(model: &dyn Params, set: Set) -> Vec<(String, ArrayD<Elem>)> {
    let mut found = Vec::new();
    model.read(set, &all, &mut |p, v| found.push((p.name.to_owned(), v.to_owned()))).unwrap();
    found
}

/// Names and shapes are those of PyTorch: norms have weight and bias, a linear map has [out, in].
#[test]
fn tensors_are_named_as_in_pytorch() {
    let mut told = Vec::new();
    two_layers(0.0).infos(&mut |p| told.push(format!("{} {:?} {:?} {}", p.name, p.shape, p.role, p.layer)));
    assert_eq!(
        told,
        [
            "fc1.weight [16, 64] Weight Linear",
            "fc1.bias [16] Bias Linear",
            "norm.weight [16] Weight BatchNorm",
            "norm.bias [16] Bias BatchNorm",
            "norm.running_mean [16] Buffer BatchNorm",
            "norm.running_var [16] Buffer BatchNorm",
            "fc2.weight [10, 16] Weight Linear",
            "fc2.bias [10] Bias Linear",
        ]
    );
}

/// A checkpoint of shanty's residual network fits that of burn and the other way round, and both predict the same.
#[test]
fn checkpoints_are_exchanged_by_name() {
    let shape = shanty::model::ResNetConfig {
        base_channels: Some(4),
        in_channels: 1,
        ..shanty::model::ResNetConfig::new(8)
    };
    let ours = || {
        let backbone = shanty::model::ResNet::cifar(&shape).unwrap();
        let head = LinearClsHead::new(10, 16, ClsHead::default());
        ImageClassifier::new(backbone, head).neck(GlobalAveragePooling::default())
    };
    let mut burn =
        BurnModel::new(|device| ResNet::new(&ResNetConfig { channels: 4, ..Default::default() }, device))
            .unwrap();
    let near = |a: &mut dyn Model, b: &mut dyn Model| {
        let (a, b) = (a.eval_step(&pictures()).unwrap(), b.eval_step(&pictures()).unwrap());
        let (a, b) = (a.scores().unwrap().clone(), b.scores().unwrap().clone());
        assert_eq!(a.shape(), b.shape());
        a.iter().zip(&b).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} and {b}"));
    };
    let mut own = ours();
    own.init_weights(3).unwrap();
    step(&mut own, 0);
    let report = StateDict::of(&own).unwrap().load_into(&mut burn).unwrap();
    assert!(report.is_exact(), "{report:#}");
    near(&mut own, &mut burn);
    burn.init_weights(4).unwrap();
    step(&mut burn, 0);
    let report = StateDict::of(&burn).unwrap().load_into(&mut own).unwrap();
    assert!(report.is_exact(), "{report:#}");
    near(&mut own, &mut burn);
}

/// A further layer does not change what the others begin with.
#[test]
fn initial_weights_go_by_the_path() {
    let fc2 = |norm: bool| {
        let config = MlpConfig { hidden: 16, norm, ..MlpConfig::default() };
        let mut model = BurnModel::new(move |device| Mlp::new(&config, device)).unwrap();
        model.init_weights(9).unwrap();
        tensors(&model, Set::Values).into_iter().find(|(name, _)| name == "fc2.weight").unwrap()
    };
    assert_eq!(fc2(true), fc2(false));
    // U(-1/4, 1/4), of 16 inputs.
    let (_, weight) = fc2(true);
    let largest = weight.iter().fold(0.0, |most: Elem, w| most.max(w.abs()));
    assert!((0.23..0.25).contains(&largest), "{largest}");
}

#[test]
fn dropout_has_the_stream_of_its_iteration() {
    let mut model = two_layers(0.5);
    let losses: Vec<f64> = [0, 1, 0].into_iter().map(|iter| step(&mut model, iter)).collect();
    assert_eq!(losses[0], losses[2]);
    assert!((losses[0] - losses[1]).abs() > 1e-4, "{losses:?}");
}

/// burn's generator is one for the process: who trains beside others draws the same all the same.
#[test]
fn models_in_one_process_do_not_disturb_each_other() {
    let trained = || {
        let mut model = two_layers(0.5);
        model.init_weights(1).unwrap();
        (0..20).map(|iter| step(&mut model, iter)).collect::<Vec<_>>()
    };
    let alone = trained();
    std::thread::scope(|scope| {
        let beside: Vec<_> = (0..4).map(|_| scope.spawn(trained)).collect();
        beside.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), alone));
    });
}

/// Running statistics are those of the last step, also where burn has only noted them yet, and on another thread.
#[test]
fn running_statistics_are_never_late() {
    let mean = |model: &BurnModel<Mlp>| tensors(model, Set::Values).swap_remove(4);
    let mut once = two_layers(0.0);
    step(&mut once, 0);
    let (name, once) = mean(&once);
    assert_eq!(name, "norm.running_mean");
    let mut model = two_layers(0.0);
    step(&mut model, 0);
    let beside = std::thread::spawn(move || {
        step(&mut model, 1);
        model
    });
    let mut model = beside.join().unwrap();
    step(&mut model, 2);
    // Equal weights and batch: m = 0.1 x, then 0.9 m + 0.1 x = 1.9 m, then 2.71 m.
    let (_, thrice) = mean(&model);
    once.iter().zip(&thrice).for_each(|(a, b)| assert!((2.71 * a - b).abs() < 1e-6, "{a} and {b}"));
}

#[test]
fn a_module_is_frozen_and_freed() {
    let mut model = two_layers(0.0);
    let gradients = |model: &mut BurnModel<Mlp>| {
        step(model, 0);
        let names: Vec<String> = tensors(model, Set::Grads).into_iter().map(|(name, _)| name).collect();
        model.clear_grads().unwrap();
        names
    };
    assert_eq!(gradients(&mut model).len(), 6);
    model.set_trainable("fc1", false).unwrap();
    assert_eq!(gradients(&mut model), ["norm.weight", "norm.bias", "fc2.weight", "fc2.bias"]);
    let mut frozen = Vec::new();
    model.infos(&mut |p| frozen.extend(p.frozen.then(|| p.name.to_owned())));
    assert_eq!(frozen, ["fc1.weight", "fc1.bias"]);
    // A norm that is frozen keeps its statistics.
    model.set_trainable("norm", false).unwrap();
    let before = tensors(&model, Set::Values);
    assert_eq!(gradients(&mut model), ["fc2.weight", "fc2.bias"]);
    assert_eq!(tensors(&model, Set::Values), before);
    model.set_trainable("fc1", true).unwrap();
    assert_eq!(gradients(&mut model), ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
    let error = model.set_trainable("fc3", false).unwrap_err().to_string();
    assert_eq!(error, "the network has no module `fc3` with weights: there are fc1, fc2, norm");
}

/// The state of an optimizer that burn computes is taken over by one that it does not.
#[test]
fn state_moves_to_an_optimizer_of_the_host() {
    let rules: [Box<dyn Optimizer>; 3] =
        [Box::new(Adam::new(0.01)), Box::new(Adam::new(0.01).amsgrad(true)), Box::new(Adam::new(0.01))];
    let (mut model, mut host) = (two_layers(0.0), two_layers(0.0));
    let (mut state, mut state_of_host) = (OptimState::default(), OptimState::default());
    for (iter, rule) in rules.iter().enumerate() {
        StateDict::of(&model).unwrap().load_into(&mut host).unwrap();
        step(&mut model, iter as u64);
        step(&mut host, iter as u64);
        model.update(&|_| Some(&**rule), &mut state).unwrap();
        update_by_transfer(&mut host, &|_| Some(&**rule), &mut state_of_host).unwrap();
        for ((name, a), (_, b)) in tensors(&model, Set::Values).iter().zip(tensors(&host, Set::Values)) {
            a.iter().zip(&b).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{iter}, {name}: {a} and {b}"));
        }
        model.clear_grads().unwrap();
        host.clear_grads().unwrap();
        assert_eq!(state.steps(), state_of_host.steps());
    }
}
