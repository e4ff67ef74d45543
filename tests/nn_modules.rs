//! The tree of modules: what is replaced, what works as in evaluation, what is traced.

#![allow(clippy::unwrap_used)] // helpers of tests

use ndarray::{Array1, Ix2};
use shanty::base::{Elem, Tensor, keyed};
use shanty::config::parse;
use shanty::data::{Batch, Column};
use shanty::model::{LeNet5, Model, ResNet, ResNetConfig, StepCx};
use shanty::nn::init::init_weights;
use shanty::nn::{
    Autograd, BatchNorm1d, BufferPool, Conv2d, Dropout, Forward, Identity, Linear, Module, ModuleTree,
    Sequential, Tape, find, named_modules, named_parameters, replace, set_eval, set_trainable, tie_weights,
    tied_names,
};
use shanty::params::{HostParams, Info, Set, StateDict};
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
        (
            &mut resnet,
            "conv1",
            "`conv1` is a fixed part of its network, which takes no other type than `Conv2d` there",
        ),
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

/// The token model of the tests below: an embedding, a hidden layer, and scores for each token.
fn tied_model(keys: &str) -> shanty::base::Result<Box<dyn Model>> {
    let yaml = format!(
        "type: Supervised\nnetwork:\n  type: Sequential\n  layers:\n    tokens: {{type: Embedding, num_embeddings: 5, \
         embedding_dim: 3}}\n    hidden: {{type: Linear, in_features: 3, out_features: 3}}\n    scores: {{type: Linear, \
         in_features: 3, out_features: 5, bias: false}}\nloss: {{type: MSELoss}}\n{keys}"
    );
    let spec: Spec<dyn Model> = parse("net.yaml", &yaml)?.read()?;
    let mut model = spec.build(&mut BuildCx::new(0))?;
    model.init_weights(3)?;
    Ok(model)
}

const TIE: &str = "tie_weights: [[network.scores.weight, network.tokens.weight]]";

/// Weights that a config ties are one parameter: saved once, with the gradient of both places, moved once; a file that
/// has both names, or the other one, is read.
#[test]
fn weights_tied_in_a_config_are_one_parameter() {
    let tokens = ndarray::ArrayD::from_shape_vec(vec![4, 2], vec![0, 3, 1, 1, 4, 2, 0, 2]).unwrap();
    let target = ndarray::ArrayD::from_shape_fn(vec![4, 2, 5], |i| (i[0] + 2 * i[1] + i[2]) as Elem / 7.0);
    let batch = Batch { ids: (0..4).collect(), valid: 4, ..Batch::default() };
    let batch = batch.with("inputs", Column::Int(tokens)).with("target", Column::Float(target));
    let step = StepCx { seed: 0, iter: 0, loss_scale: 1.0 };
    let (mut tied, mut plain) = (tied_model(TIE).unwrap(), tied_model("").unwrap());
    let names = |model: &dyn Model| {
        let mut names = Vec::new();
        model.infos(&mut |info| names.push(info.name.to_owned()));
        names
    };
    assert_eq!(names(&*tied), ["network.tokens.weight", "network.hidden.weight", "network.hidden.bias"]);
    assert_eq!(tied.tied(), [("network.scores.weight".to_owned(), "network.tokens.weight".to_owned())]);
    // The same numbers in both places of the other: its two gradients are the two terms of ours.
    let state = StateDict::of(&*tied).unwrap();
    let mut twice = state.clone();
    twice.0.push(("network.scores.weight".into(), state.get("network.tokens.weight").unwrap().clone()));
    assert!(twice.load_into(&mut *plain).unwrap().is_exact());
    let before = [tied.eval_step(&batch).unwrap(), plain.eval_step(&batch).unwrap()];
    assert_eq!(before[0].predictions, before[1].predictions);
    let losses = [tied.train_step(&batch, &step).unwrap(), plain.train_step(&batch, &step).unwrap()];
    assert_eq!(losses[0].loss(), losses[1].loss());
    let grads = |model: &dyn Model| {
        let mut found = std::collections::BTreeMap::new();
        let all = |_: &Info<'_>| true;
        model
            .read(Set::Grads, &all, &mut |p, grad| drop(found.insert(p.name.to_owned(), grad.to_owned())))
            .unwrap();
        found
    };
    let (ours, theirs) = (grads(&*tied), grads(&*plain));
    let sum = &theirs["network.tokens.weight"] + &theirs["network.scores.weight"];
    assert!(ours["network.tokens.weight"].iter().zip(&sum).all(|(a, b)| (a - b).abs() < 1e-6));
    // Moved once, both places move.
    let all = |_: &Info<'_>| true;
    tied.edit(Set::Values, &all, &mut |p, mut value| {
        if p.name == "network.tokens.weight" {
            value += 0.5;
        }
    })
    .unwrap();
    let mut moved = StateDict::of(&*tied).unwrap();
    moved.0.push(("network.scores.weight".into(), moved.get("network.tokens.weight").unwrap().clone()));
    moved.load_into(&mut *plain).unwrap();
    let after = [tied.eval_step(&batch).unwrap(), plain.eval_step(&batch).unwrap()];
    assert_eq!(after[0].predictions, after[1].predictions);
    assert_ne!(after[0].predictions, before[0].predictions);
}

/// What cannot be tied is told by its name; if one of those that are tied is frozen, all are.
#[test]
fn weights_that_cannot_be_tied_are_refused() {
    for (keys, says) in [
        (
            "tie_weights: [[network.scores.weight, network.token.weight]]",
            "no parameter `network.token.weight`; did you mean `network.tokens.weight`?",
        ),
        (
            "tie_weights: [[network.hidden.weight, network.tokens.weight]]",
            "`network.tokens.weight` has the shape [5, 3] and `network.hidden.weight` [3, 3]",
        ),
        ("tie_weights: [[network.tokens.weight]]", "two parameters or more"),
        ("tie_weights: [[]]", "two parameters or more"),
        ("tie_weights: [[network.tokens.weight, network.tokens.weight]]", "named twice"),
        (
            "tie_weights: [[network.scores.weight, network.tokens.weight], [network.tokens.weight, network.scores.weight]]",
            "`network.scores.weight` and `network.tokens.weight` are tied already: name one of them",
        ),
        (&format!("{TIE}\nfrozen: [network.scores, network.hidden]"), ""),
    ] {
        match tied_model(keys) {
            Err(error) => assert!(!says.is_empty() && error.to_string().contains(says), "{keys}: {error}"),
            Ok(model) => {
                assert_eq!(says, "");
                model.infos(&mut |info| assert!(info.frozen, "{}", info.name));
            }
        }
    }
}

/// Lists that share a parameter tie all of theirs, in whichever order they come: the second took the value away from those
/// that the first had tied.
#[test]
fn lists_that_share_a_parameter_are_one() {
    let layer = || Linear::new(3, 3).bias(false);
    let names = ["0.weight", "1.weight", "2.weight", "3.weight"];
    let [a, b, c, d] = names;
    let lists: [&[&[&str]]; 5] = [
        &[&names],
        &[&[c, d], &[b, c], &[a, b]],
        &[&[a, b], &[c, d], &[d, a]],
        &[&[b, d], &[c, a], &[d, c]],
        &[&[d, a], &[b, d], &[d, c]],
    ];
    for lists in lists {
        let mut net = Sequential::new().with(layer()).with(layer()).with(layer()).with(layer());
        init_weights(&mut net, 5).unwrap();
        lists.iter().for_each(|list| tie_weights(&mut net, list).unwrap());
        assert_eq!(named_parameters(&net).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), [a]);
        let mut gone = tied_names(&net);
        gone.sort();
        assert_eq!(gone, [b, c, d].map(|name| (name.to_owned(), a.to_owned())));
        let weight = named_parameters(&net)[0].1.value.clone().into_dimensionality::<Ix2>().unwrap();
        let found = Autograd::default()
            .eval(&mut net, &mut keyed(0, "", 0, 0), |net, tape, cx| {
                let x = tape.input(Tensor::from_elem(vec![1, 3], 1.0));
                Ok(net.forward(x, cx)?.value().into_owned())
            })
            .unwrap();
        let wanted = (0..4).fold(Array1::<Elem>::ones(3), |x, _| weight.dot(&x));
        assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{lists:?}: {found} {wanted}");
    }
}

/// `with_cp` of a backbone recomputes its blocks: the same bits of loss and gradients.
#[test]
fn with_cp_of_a_backbone_changes_no_bit() {
    let config = |backbone: &str, with_cp: bool| {
        format!(
            "{{type: ImageClassifier, backbone: {{{backbone}, with_cp: {with_cp}}}, head: {{type: LinearClsHead, num_classes: 3, in_channels: 24}}}}"
        )
    };
    let arch = "arch: {embed_dims: 24, num_layers: 3, num_heads: 3, feedforward_channels: 48}";
    let vit = format!(
        "type: VisionTransformer, {arch}, img_size: 16, patch_size: 8, drop_rate: 0.1, drop_path_rate: 0.2, layer_scale_init_value: 0.5, pre_norm: true"
    );
    let batch = Batch::new(
        ndarray::ArrayD::from_shape_fn(vec![4, 3, 16, 16], |i| {
            (i[0] * 3 + i[2] * 5 + i[3]) as Elem % 7.0 - 3.0
        }),
        vec![0, 1, 2, 0],
    );
    let run = |with_cp: bool| {
        let spec: Spec<dyn Model> = parse("net.yaml", &config(&vit, with_cp)).unwrap().read().unwrap();
        let mut model = spec.build(&mut BuildCx::new(0)).unwrap();
        model.init_weights(0).unwrap();
        let loss = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap().loss();
        let mut grads = Vec::new();
        let all = |_: &Info<'_>| true;
        model.read(Set::Grads, &all, &mut |_, grad| grads.push(grad.to_owned())).unwrap();
        (loss, grads, model.buffer_bytes().unwrap())
    };
    let ((loss, grads, bytes), (plain_loss, plain_grads, plain_bytes)) = (run(true), run(false));
    assert_eq!((loss, grads), (plain_loss, plain_grads));
    assert!(bytes < plain_bytes, "{bytes} {plain_bytes}");
    // A network without blocks says so.
    let spec: Spec<dyn Model> = parse("net.yaml", &config("type: LeNet5", true)).unwrap().read().unwrap();
    let error = spec.build(&mut BuildCx::new(0)).err().unwrap().to_string();
    assert!(error.contains("has no list of blocks"), "{error}");
}

/// Branches that go by the names of the inputs go by their order too.
#[test]
fn branches_in_another_order_than_the_inputs_are_refused() {
    let model = |inputs: &str| -> shanty::base::Result<Box<dyn Model>> {
        let yaml = format!(
            "{{type: Supervised, inputs: [{inputs}], network: [{{type: Parallel, branches: {{a: {{type: Linear, in_features: 2, \
             out_features: 2}}, b: {{type: Linear, in_features: 3, out_features: 2}}}}}}], loss: {{type: MSELoss}}}}"
        );
        let spec: Spec<dyn Model> = parse("net.yaml", &yaml)?.read()?;
        spec.build(&mut BuildCx::new(0))
    };
    assert!(model("a, b").is_ok() && model("x, y").is_ok());
    let error = model("b, a").err().unwrap().to_string();
    assert!(error.contains("branches a, b are in another order than `inputs: [b, a]`"), "{error}");
}

/// What cannot be meant is told while a model is built.
#[test]
fn a_model_without_trained_weights_and_biases_said_twice_are_told() {
    let yaml = "{type: Supervised, network: {type: Linear, in_features: 2, out_features: 1}, loss: {type: MSELoss}, frozen: [network]}";
    let spec: Spec<dyn Model> = parse("net.yaml", yaml).unwrap().read().unwrap();
    let mut cx = BuildCx::new(0);
    spec.build(&mut cx).unwrap();
    let told: Vec<String> = cx.take_warnings().0.iter().map(|diag| diag.render(false)).collect();
    assert!(
        told.len() == 1 && told[0].contains("`frozen` holds every parameter: there is nothing to train"),
        "{told:?}"
    );

    let yaml = "{type: Linear, in_features: 2, out_features: 1, init_cfg: {type: Normal, layer: Linear, bias: 0, bias_prob: 0.1}}";
    let spec: Spec<dyn Module> = parse("net.yaml", yaml).unwrap().read().unwrap();
    let error = spec.build(&mut BuildCx::new(0)).err().unwrap().to_string();
    assert!(error.contains("`bias` and `bias_prob` both say"), "{error}");
}
