//! The tree of modules: what is replaced, what works as in evaluation, what is traced.

#![allow(clippy::unwrap_used)] // helpers of tests

use shanty::base::{Elem, Tensor, keyed};
use shanty::config::parse;
use shanty::model::{LeNet5, ResNet, ResNetConfig};
use shanty::nn::{
    Autograd, BatchNorm1d, BufferPool, Conv2d, Dropout, Forward, Identity, Linear, Module, ModuleTree,
    Sequential, Tape, find, named_modules, named_parameters, replace, set_eval, set_trainable,
};
use shanty::params::{HostParams, StateDict};
use shanty::registry::{BuildCx, Spec};

fn build(yaml: &str) -> Box<dyn Module> {
    let spec: Spec<dyn Module> = parse("net.yaml", yaml).unwrap().read().unwrap();
    spec.build(&mut BuildCx::new(0)).unwrap()
}

/// The output in training for an input of ones.
fn trained(net: &mut dyn Module, shape: &[usize]) -> Vec<Elem> {
    let tape = Tape::new(BufferPool::default());
    let mut rng = keyed(0, "test", 0, 0);
    let x = tape.input(Tensor::from_elem(shape, 1.0));
    let y = net.forward(x, &mut Forward::new(true, &mut rng)).unwrap();
    y.value().iter().copied().collect()
}

#[test]
fn a_module_of_a_config_may_work_as_in_evaluation() {
    let mut drops = build("[{type: Dropout, p: 0.5}]");
    assert!(trained(&mut *drops, &[1, 64]).contains(&0.0));
    for yaml in [
        "[{type: Dropout, p: 0.5, eval: true}]",
        "{type: Sequential, layers: [{type: Dropout, p: 0.5}], eval: true}",
    ] {
        assert_eq!(trained(&mut *build(yaml), &[1, 64]), [1.0; 64], "{yaml}");
    }
    // Its neighbours are trained, and so are its own weights; its statistics stay.
    let mut net = build("[{type: BatchNorm1d, num_features: 2, eval: true}, {type: Dropout, p: 0.5}]");
    let mut rng = keyed(0, "test", 0, 0);
    let tape_len = 64;
    Autograd::default()
        .train(&mut net, &mut rng, |net, tape, cx| {
            let y = net.forward(tape.input(Tensor::from_elem(vec![tape_len, 2], 3.0)), cx)?;
            assert!(y.value().iter().any(|v| *v == 0.0) && y.value().iter().any(|v| (*v - 6.0).abs() < 1e-3));
            Ok((y.sum(), ()))
        })
        .unwrap();
    net.visit(&mut |p| match p.name {
        "0.running_mean" => assert!(p.value.iter().all(|v| *v == 0.0)),
        "0.weight" => assert!(p.grad.unwrap().iter().all(|g| *g != 0.0)),
        _ => {}
    });
    assert_eq!(named_modules(&*net).len(), 3, "the key makes no module of its own");
}

#[test]
fn eval_can_be_set_and_taken_back_anywhere_in_containers() {
    let inner = Sequential::new().named("drop", Dropout::new(0.5));
    let mut net = Sequential::new().with(Identity::new()).with(inner);
    let names = |net: &Sequential| StateDict::of(net).unwrap().0.len() + named_modules(net).len();
    let before = names(&net);
    for path in ["1.drop", "1"] {
        set_eval(&mut net, path, true).unwrap();
        assert_eq!(trained(&mut net, &[1, 64]), [1.0; 64], "{path}");
        set_eval(&mut net, path, false).unwrap();
        assert!(trained(&mut net, &[1, 64]).contains(&0.0), "{path}");
    }
    assert_eq!(names(&net), before);
}

/// What cannot be replaced says so, and what replaces takes the name of its place.
#[test]
fn modules_are_replaced_by_name() {
    let mut net = build(
        "{type: Residual, body: [{type: Linear, in_features: 2, out_features: 2}, {type: ReLU}], shortcut: {type: Identity}}",
    );
    let old = replace(&mut net, "body.1", Linear::new(2, 2)).unwrap();
    assert_eq!(old.type_name(), "ReLU");
    let names: Vec<String> = named_parameters(&*net).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]);
    replace(&mut net, "body", Identity::new()).unwrap();
    replace(&mut net, "shortcut", Identity::new()).unwrap();
    assert_eq!(trained(&mut *net, &[1, 2]), [2.0, 2.0]);
    replace(&mut net, "", Identity::new()).unwrap();
    assert_eq!(net.type_name(), "Identity");

    let mut lenet = LeNet5::new(Some(10), 1).unwrap();
    let mut resnet = ResNet::new(&ResNetConfig::new(18)).unwrap();
    let fixed: [(&mut dyn ModuleTree, &str, &str); 2] = [
        (&mut lenet, "features.99", "the model has no module `features.99`"),
        (&mut resnet, "conv1", "the place of `conv1` takes no other type than `Conv2d`"),
    ];
    for (net, path, text) in fixed {
        let error = replace(net, path, Identity::new()).err().unwrap().to_string();
        assert!(error.starts_with(text), "{error}");
        let error = set_eval(net, path, true).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn the_text_of_a_model_is_nested_and_counts() {
    let mut net = build(
        "
- {type: Conv2d, in_channels: 1, out_channels: 4, kernel_size: 3, bias: false}
- type: Concat
  branches: {skip: {type: Identity}, deep: [{type: BatchNorm2d, num_features: 4}]}
",
    );
    set_trainable(&mut net, "0", false).unwrap();
    let text = "\
Sequential(  # 44 parameters, 36 of them frozen
  (0): Conv2d(weight=[4, 1, 3, 3])  # 36 parameters, frozen
  (1): Concat(  # 8 parameters
    (skip): Identity()
    (deep): Sequential(  # 8 parameters
      (0): BatchNorm2d(weight=[4], bias=[4], running_mean=[4], running_var=[4])  # 8 parameters
    )
  )
)";
    assert_eq!((&*net as &dyn ModuleTree).to_string(), text);
}

/// Work and outputs are known by layer, whether a network calls its layers by name or not; two uses of a layer add up.
#[test]
fn a_trace_knows_each_layer() {
    struct Own {
        conv: Conv2d,
        norm: BatchNorm1d,
        fc: Linear,
    }
    shanty::module!(Own { conv, norm, fc });
    impl Module for Own {
        fn forward<'t>(
            &mut self,
            x: shanty::nn::Var<'t>,
            cx: &mut Forward<'_>,
        ) -> shanty::base::Result<shanty::nn::Var<'t>> {
            let x = self.conv.forward(x, cx)?.flatten(1, -1);
            let x = self.norm.forward(x, cx)?;
            let x = self.fc.forward(x, cx)?;
            self.fc.forward(x.relu(), cx)?.matmul(x.transpose(0, 1)).checked()
        }
    }
    let net = Own { conv: Conv2d::new(1, 2, 3).padding(1), norm: BatchNorm1d::new(8), fc: Linear::new(8, 8) };
    let mut net = Sequential::new().named("own", net);
    let (_, traced) = Autograd::default()
        .trace(&mut net, &mut keyed(0, "", 0, 0), |net, tape, cx| {
            net.forward(tape.input(Tensor::from_elem(vec![3, 1, 2, 2], 1.0)), cx).map(drop)
        })
        .unwrap();
    let shape = |at: usize| traced[at].output.as_ref().unwrap().shape().to_vec();
    let found: Vec<_> = traced.iter().map(|m| (&*m.path, m.parameters, m.work.multiply_adds)).collect();
    let (conv, fc, product) = (3 * 2 * 4 * 9, 3 * 8 * 8, 3 * 3 * 8);
    let all = conv + 2 * fc + product;
    let wanted = [
        ("", 108, all),
        ("own", 108, all),
        ("own.conv", 20, conv),
        ("own.norm", 16, 0),
        ("own.fc", 72, 2 * fc),
    ];
    assert_eq!(found, wanted);
    assert_eq!(traced[0].work.activations, 3 * 8 + 2 * 3 * 8 + 3 * 3);
    assert_eq!((shape(1), shape(2), shape(3)), (vec![3, 3], vec![3, 2, 2, 2], vec![3, 8]));
    assert_eq!(find(&net, "own.fc").unwrap().type_name(), "Linear");
}
