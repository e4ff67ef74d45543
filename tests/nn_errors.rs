//! Mistakes of one's own networks: a forgotten field, a wrong shape, a wrong backward. Each is told with its place.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use ndarray::{ArrayD, IxDyn};
use shanty::base::{Elem, Error, Result, Tensor, keyed};
use shanty::nn::{
    Autograd, Flatten, Forward, Linear, MaxPool2d, Module, ModuleTree, Param, ReLU, Sequential, Tanh, Var,
};
use shanty::params::{HostParams, StateDict};

/// What a step of training says, and what one of evaluation.
fn steps<M: Module>(net: &mut M, x: &Tensor) -> [Result<()>; 2] {
    let mut autograd = Autograd::default();
    let train = autograd.train(net, &mut keyed(0, "test", 0, 0), |net, tape, cx| {
        Ok((net.forward(tape.input(x.clone()), cx)?.powi(2).mean().sqrt(), ()))
    });
    let eval = autograd.eval(net, &mut keyed(0, "test", 0, 0), |net, tape, cx| {
        net.forward(tape.input(x.clone()), cx).map(|_| ())
    });
    [train, eval]
}

fn told<M: Module>(net: &mut M, x: &Tensor) -> String {
    let before = StateDict::of(net).unwrap();
    let [train, eval] = steps(net, x).map(|step| step.unwrap_err().to_string());
    assert_eq!(train, eval);
    assert_eq!(before, StateDict::of(net).unwrap());
    net.visit(&mut |p| assert!(p.grad.is_none(), "{}", p.name));
    train
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(IxDyn(shape))
}

/// A regression whose scale was left out of `module!`: it trained with the scale as it was, and nobody was told.
#[test]
fn a_forgotten_parameter_is_told_with_its_op_and_its_layer() {
    struct Net {
        body: Sequential,
        scale: Param,
    }
    shanty::module!(Net { body });
    impl Module for Net {
        fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
            Ok(self.body.forward(x, cx)? * x.tape().param(&self.scale))
        }
    }
    let body = Sequential::default().with(Linear::new(4, 8)).with(ReLU::default()).with(Linear::new(8, 3));
    let mut net = Net { body, scale: Param::full(&[3], 1.0) };
    let text = told(&mut net, &ones(&[2, 4]));
    let wanted = "`mul`, after `body.2` uses a parameter of shape [3] that `Net` does not list: it would be neither trained \
                  nor saved. Name its field in `module!`";
    assert!(text.contains(wanted), "{text}");
    // What is frozen on purpose may stay outside.
    net.scale.trainable = false;
    assert!(steps(&mut net, &ones(&[2, 4])).into_iter().all(|step| step.is_ok()));
}

#[test]
fn a_forgotten_layer_is_told() {
    struct Net {
        first: Linear,
        second: Linear,
    }
    shanty::module!(Net { second });
    impl Module for Net {
        fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
            let x = self.first.forward(x, cx)?.tanh();
            self.second.forward(x, cx)
        }
    }
    let text = told(&mut Net { first: Linear::new(4, 8), second: Linear::new(8, 3) }, &ones(&[2, 4]));
    assert!(
        text.starts_with("`linear`, before `second` uses a parameter of shape [8, 4] that `Net` does"),
        "{text}"
    );
}

/// A copy that is made during the step is another parameter.
#[test]
fn a_copy_of_a_parameter_is_told() {
    struct Net {
        scale: Param,
    }
    shanty::module!(Net { scale });
    impl Module for Net {
        fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
            Ok(x * x.tape().param(&self.scale.clone()))
        }
    }
    let text = told(&mut Net { scale: Param::full(&[3], 1.0) }, &ones(&[3]));
    assert!(text.starts_with("`mul` uses a parameter of shape [3] that `Net` does not list"), "{text}");
}

/// A network of fields that name no child in their forward, and one of a `Sequential`.
struct Fields {
    backbone: Sequential,
    fc: Linear,
    pool: MaxPool2d,
}
shanty::module!(Fields { backbone, fc, pool });
impl Module for Fields {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = self.backbone.forward(x, cx)?;
        let x = if x.shape().len() == 4 { self.pool.forward(x, cx)?.flatten(1, -1) } else { x };
        self.fc.forward(x, cx)
    }
}

#[test]
fn a_wrong_shape_is_told_with_the_path_of_the_layer() {
    let net = |backbone: Sequential, fc| Fields { backbone, fc, pool: MaxPool2d::new(2) };
    let flat = || Sequential::default().with(Linear::new(4, 8)).with(Tanh {});
    let text = told(&mut net(flat().with(Linear::new(9, 8)), Linear::new(8, 3)), &ones(&[2, 4]));
    assert!(
        text.starts_with("`backbone.2`: a linear map of 9 features got an input of shape [2, 8]"),
        "{text}"
    );
    let text = told(&mut net(flat(), Linear::new(7, 3)), &ones(&[2, 4]));
    assert!(text.starts_with("`fc`: a linear map of 7 features"), "{text}");
    // Without a parameter of its own: by its place in the container, or by what came before.
    let text = told(&mut net(flat().with(MaxPool2d::new(2)), Linear::new(8, 3)), &ones(&[2, 4]));
    assert!(text.starts_with("`backbone.2`: max pooling wants images"), "{text}");
    let conv = Sequential::default().with(Linear::new(1, 2));
    let text = told(&mut net(conv, Linear::new(8, 3)), &ones(&[2, 2, 1, 1]));
    assert!(text.starts_with("after `backbone.0`: "), "{text}");
    let nested =
        Sequential::default().with(Linear::new(4, 8)).with(flat().with(Flatten { start_dim: 5, end_dim: 6 }));
    let text = told(&mut net(nested, Linear::new(8, 3)), &ones(&[2, 4]));
    assert!(
        text.starts_with("`backbone.1.0`: a linear map of 4 features got an input of shape [2, 8]"),
        "{text}"
    );
}

/// An op whose backward is `back`.
struct Own {
    weight: Param,
    back: fn(&ArrayD<Elem>) -> Result<[Option<ArrayD<Elem>>; 2]>,
}
shanty::module!(Own { weight });
impl Module for Own {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let (tape, back) = (x.tape(), self.back);
        let weight = tape.param(&self.weight);
        Ok(tape.op("cube", x.value() * weight.value(), [x, weight], move |dy| back(&dy.to_owned())))
    }
}

#[test]
fn a_wrong_backward_is_told_with_its_op_and_its_layer() {
    let step = |back: fn(&ArrayD<Elem>) -> Result<[Option<ArrayD<Elem>>; 2]>| {
        let mut net =
            Sequential::default().with(Linear::new(3, 2)).with(Own { weight: Param::full(&[2], 1.0), back });
        let [train, eval] = steps(&mut net, &ones(&[4, 3]));
        assert!(eval.is_ok());
        net.visit(&mut |p| assert!(p.grad.is_none(), "{}", p.name));
        train.unwrap_err().to_string()
    };
    assert_eq!(
        step(|dy| Ok([None, Some(dy.clone())])),
        "`1`: the backward of `cube` failed: it gives input 1, of shape [2], a gradient of shape [4, 2]"
    );
    assert_eq!(
        step(|dy| Ok([Some(dy.t().to_owned()), None])),
        "`1`: the backward of `cube` failed: it gives input 0, of shape [4, 2], a gradient of shape [2, 4]"
    );
    assert_eq!(
        step(|_| Err(Error::invalid("the table is empty"))),
        "`1`: the backward of `cube` failed: the table is empty"
    );
    let text = step(|dy| Ok([Some(dy + &ArrayD::<Elem>::ones(vec![7])), None]));
    assert!(text.starts_with("`1`: the backward of `cube` failed: it panicked: "), "{text}");
}

/// The raw way: a buffer of a wrong length, an input that is not there.
#[test]
fn a_wrong_gradient_of_a_node_is_told() {
    let step = |input: usize, len: usize| {
        let mut net = Linear::new(2, 2);
        let tape = shanty::nn::Tape::new(Default::default());
        let y = tape.node("own", ones(&[]), &[tape.param(&net.weight)], move |_, grads| {
            grads.add(input, vec![1.0; len]);
        });
        let id = y.id();
        tape.backward(id, &mut net).map(|_| net.weight.grad.is_some())
    };
    assert!(step(0, 4).unwrap());
    let wanted =
        "`Linear`: the backward of `own` failed: it gives input 0, of shape [2, 2], a gradient of 3 elements";
    assert_eq!(step(0, 3).unwrap_err().to_string(), wanted);
    assert!(step(1, 4).unwrap_err().to_string().contains("it has no input 1"));
}

/// A step that looked at no result in between is told all the same.
#[test]
fn a_loss_of_one_line_that_does_not_fit_is_told() {
    let mut net = Linear::new(3, 2);
    let target = ones(&[5]);
    let error = Autograd::default()
        .train(&mut net, &mut keyed(0, "test", 0, 0), |net, tape, cx| {
            let y = net.forward(tape.input(ones(&[4, 3])), cx)?;
            Ok(((y - tape.input(target)).powi(2).mean().sqrt(), ()))
        })
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "after `Linear`: `sub` wants shapes that broadcast, got [4, 2] and [5]: counted from the last, two axes are equal or \
         one is 1"
    );
    assert_eq!(net.type_name(), "Linear");
}
