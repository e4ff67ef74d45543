//! The tape, the pool and the tree of modules.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use ndarray::{ArrayD, IxDyn};
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::module;
use shanty::nn::{
    Autograd, BatchNorm2d, Buffer, BufferPool, Child, Conv2d, CrossEntropyLoss, Dropout, Flatten, Forward,
    Linear, Loss, MaxPool2d, Module, ModuleTree, ModuleVisitor, Param, ReLU, Residual, Sequential, Tape,
    Target, Var, find, named_children, named_modules, set_trainable, walk,
};
use shanty::params::{HostParams, Params, Role, StateDict};

fn net() -> Sequential {
    let block = Residual::new(Sequential::default().with(Linear::new(8, 8)).with(ReLU::default()));
    Sequential::default()
        .with(Conv2d::new(1, 2, 3))
        .with(BatchNorm2d::new(2))
        .with(ReLU::default())
        .with(MaxPool2d::new(2))
        .with(Flatten::default())
        .with(Dropout::default())
        .with(block)
        .with(Linear::new(8, 3))
}

fn images() -> Tensor {
    Tensor::from_shape_fn(IxDyn(&[4, 1, 6, 6]), |i| ((i[0] * 7 + i[2] * 3 + i[3] * 5) % 11) as Elem * 0.1)
}

fn step(net: &mut Sequential, autograd: &mut Autograd, iter: u64) -> Elem {
    let loss = CrossEntropyLoss::default();
    autograd
        .train(net, &mut keyed(0, "step", iter, 0), |net, tape, cx| {
            let scores = net.forward(tape.input(images()), cx)?;
            let losses = loss.forward(scores, Target::Classes(&[0, 1, 2, 0]))?;
            Ok((losses.loss, losses.loss.item()))
        })
        .unwrap()
}

fn update(net: &mut Sequential, lr: Elem) {
    net.visit_mut(&mut |mut p| {
        if let Some(mut grad) = p.grad {
            p.value.scaled_add(-lr, &grad);
            grad.fill(0.0);
        }
    });
}

fn addresses(net: &Sequential) -> Vec<(*const Elem, Option<*const Elem>)> {
    let mut all = Vec::new();
    net.visit(&mut |p| all.push((p.value.as_ptr(), p.grad.map(|g| g.as_ptr()))));
    all
}

/// Weights and gradients stay where they are in memory, and after two steps no buffer is made any more.
#[test]
fn memory_is_steady() {
    let (mut net, mut autograd) = (net(), Autograd::default());
    let first = step(&mut net, &mut autograd, 0);
    update(&mut net, 0.1);
    step(&mut net, &mut autograd, 1);
    update(&mut net, 0.1);
    let (misses, bytes, before) = (autograd.pool().misses(), autograd.pool().bytes(), addresses(&net));
    let mut last = 0.0;
    for iter in 2..40 {
        last = step(&mut net, &mut autograd, iter);
        update(&mut net, 0.1);
    }
    assert_eq!((autograd.pool().misses(), autograd.pool().bytes()), (misses, bytes));
    assert_eq!(addresses(&net), before);
    assert!(last < first, "{first} {last}");
}

/// Tensors that come from outside do not pile up in the pool, nor do those that leave it.
#[test]
fn the_pool_does_not_grow() {
    let mut autograd = Autograd::default();
    let mut module = Linear::new(4, 4);
    let mut bytes = Vec::new();
    for _ in 0..5 {
        let kept = autograd
            .train(&mut module, &mut keyed(0, "", 0, 0), |module, tape, cx| {
                let x = tape.input(Tensor::ones(IxDyn(&[8, 4])));
                let y = module.forward(x, cx)?;
                let y = tape.op("double", y.value() * 2.0, [y], |dy| Ok([Some(dy.to_owned() * 2.0)]));
                Ok((y.mean(), y.value()))
            })
            .unwrap();
        assert_eq!(kept.len(), 32);
        bytes.push(autograd.pool().bytes());
    }
    assert!(bytes[2..].iter().all(|b| *b == bytes[1]), "{bytes:?}");
}

/// Gradients add up until they are zeroed, and a step that fails changes none.
#[test]
fn gradients_accumulate() {
    let mut module = Linear::of(Param::full(&[1, 1], 3.0), None);
    let mut autograd = Autograd::default();
    let mut go = |module: &mut Linear, fail: bool| {
        autograd.train(module, &mut keyed(0, "", 0, 0), |module, tape, cx| {
            let y = module.forward(tape.input(Tensor::from_elem(vec![2, 1], 5.0)), cx)?;
            Ok((if fail { y } else { y.sum() }, ()))
        })
    };
    go(&mut module, false).unwrap();
    go(&mut module, false).unwrap();
    let error = go(&mut module, true).unwrap_err().to_string();
    assert!(error.contains("[2, 1]") && error.contains("mean"), "{error}");
    assert_eq!(module.weight.grad, Some(ArrayD::from_elem(vec![1, 1], 20.0)));
}

/// A frozen parameter gets no gradient, and nothing is computed for it or for plain inputs.
#[test]
fn frozen_parameters() {
    let mut net = net();
    set_trainable(&mut net, "0", false).unwrap();
    assert!(set_trainable(&mut net, "nowhere", false).unwrap_err().to_string().contains("nowhere"));
    step(&mut net, &mut Autograd::default(), 0);
    let mut with = Vec::new();
    net.visit(&mut |p| with.extend(p.grad.map(|_| p.name.to_owned())));
    assert_eq!(with, ["1.weight", "1.bias", "6.body.0.weight", "6.body.0.bias", "7.weight", "7.bias"]);

    let tape = Tape::new(BufferPool::default());
    let x = tape.input(images());
    assert!(!x.relu().requires_grad());
    assert!(tape.param(&Param::full(&[1], 0.0)).requires_grad());
    let quiet = Tape::without_grad(BufferPool::default());
    assert!(!quiet.param(&Param::full(&[1], 0.0)).requires_grad());
}

/// An op whose input is plain data is told so.
#[test]
fn gradients_of_data_are_not_computed() {
    let mut module = Linear::new(2, 2);
    let tape = Tape::new(BufferPool::default());
    let (data, weight) = (tape.input(Tensor::ones(IxDyn(&[2]))), tape.param(&module.weight));
    let seen = std::rc::Rc::new(std::cell::Cell::new(None));
    let told = seen.clone();
    let y = tape.node("told", Tensor::ones(IxDyn(&[])), &[data, weight], move |_, grads| {
        told.set(Some((grads.wants(0), grads.wants(1))));
        grads.add(0, vec![1.0; 2]);
        grads.add(1, vec![1.0; 4]);
    });
    let id = y.id();
    tape.backward(id, &mut module).unwrap();
    assert_eq!(seen.get(), Some((false, true)));
    assert_eq!(module.weight.grad, Some(ArrayD::ones(vec![2, 2])));
}

/// A copy of a module is another module: no gradient of one goes to the other.
#[test]
fn clones_are_apart() {
    struct Pair {
        student: Linear,
        teacher: Linear,
    }
    module!(Pair { student, teacher });
    let student = Linear::new(2, 2);
    let mut pair = Pair { teacher: student.clone(), student };
    Autograd::default()
        .train(&mut pair, &mut keyed(0, "", 0, 0), |pair, tape, cx| {
            let y = pair.student.forward(tape.input(Tensor::ones(IxDyn(&[1, 2]))), cx)?;
            Ok((y.sum(), ()))
        })
        .unwrap();
    assert!(pair.student.weight.grad.is_some() && pair.teacher.weight.grad.is_none());
}

/// The names of the reference library, in the order of the fields.
#[test]
fn state_dict_names() {
    let state = StateDict::of(&net()).unwrap();
    let names: Vec<(&str, Role)> = state.0.iter().map(|(n, t)| (n.as_str(), t.role)).collect();
    let wanted = [
        ("0.weight", Role::Weight),
        ("0.bias", Role::Bias),
        ("1.weight", Role::Weight),
        ("1.bias", Role::Bias),
        ("1.running_mean", Role::Buffer),
        ("1.running_var", Role::Buffer),
        ("1.num_batches_tracked", Role::Counter),
        ("6.body.0.weight", Role::Weight),
        ("6.body.0.bias", Role::Bias),
        ("7.weight", Role::Weight),
        ("7.bias", Role::Bias),
    ];
    assert_eq!(names, wanted);
    assert_eq!(state.get("1.num_batches_tracked").unwrap().value.shape(), [0usize; 0]);
    let boxed: Box<dyn Module> = Box::new(net());
    let params: &dyn Params = &*boxed;
    assert_eq!(StateDict::of(params).unwrap().0.len(), wanted.len());
}

#[test]
fn walks_over_the_tree() {
    let mut net = net();
    let names: Vec<String> =
        named_modules(&net).iter().map(|(path, m)| format!("{path} {}", m.type_name())).collect();
    assert_eq!(
        names,
        [
            " Sequential",
            "0 Conv2d",
            "1 BatchNorm2d",
            "2 ReLU",
            "3 MaxPool2d",
            "4 Flatten",
            "5 Dropout",
            "6 Residual",
            "6.body Sequential",
            "6.body.0 Linear",
            "6.body.1 ReLU",
            "7 Linear"
        ]
    );
    assert_eq!(named_children(&net).len(), 8);
    assert_eq!(find(&net, "6.body.0").unwrap().type_name(), "Linear");
    assert!(find(&net, "6.nothing").is_none());
    assert_eq!(find(&net, "1").unwrap().families(), ["_BatchNorm", "_NormBase"]);

    #[derive(Default)]
    struct Trace(Vec<String>);
    impl ModuleVisitor for Trace {
        fn enter(&mut self, path: &str, module: &mut dyn ModuleTree) -> Result<()> {
            let mut params = 0;
            module.visit_children(&mut |_, part| params += usize::from(matches!(part, Child::Param(_))));
            self.0.push(format!("+{path}:{params}"));
            Ok(())
        }
        fn leave(&mut self, path: &str, _: &mut dyn ModuleTree) -> Result<()> {
            self.0.push(format!("-{path}"));
            Ok(())
        }
    }
    let mut trace = Trace::default();
    walk(find_block(&mut net), &mut trace).unwrap();
    assert_eq!(trace.0, ["+:0", "+body:0", "+body.0:2", "-body.0", "+body.1:0", "-body.1", "-body", "-"]);
}

fn find_block(net: &mut Sequential) -> &mut dyn ModuleTree {
    shanty::nn::find_mut(net, "6").unwrap()
}

/// Optional fields, lists and buffers in one's own module.
#[test]
fn fields_of_any_kind() {
    struct Own {
        scale: Option<Param>,
        offset: Option<Param>,
        heads: Vec<Linear>,
        extra: Option<Box<dyn Module>>,
        seen: Buffer,
    }
    module!(Own: "_Head" { scale, offset, heads, extra, seen });
    impl Module for Own {
        fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
            Ok(x)
        }
    }
    let own = Own {
        scale: Some(Param::full(&[1], 1.0)),
        offset: None,
        heads: vec![Linear::new(1, 1), Linear::new(1, 1)],
        extra: Some(Box::new(Linear::new(1, 1))),
        seen: Buffer::full(&[], 0.0),
    };
    let names: Vec<String> = StateDict::of(&own).unwrap().0.into_iter().map(|(n, _)| n).collect();
    let wanted =
        ["scale", "heads.0.weight", "heads.0.bias", "heads.1.weight", "heads.1.bias", "extra.weight"];
    assert_eq!(names[..6], wanted);
    assert_eq!(names[6..], ["extra.bias", "seen"]);
    assert_eq!((own.type_name(), own.families()), ("Own", &["_Head"][..]));
    assert!(own.offset.is_none());
}

/// The bits of trained weights do not depend on the number of threads.
#[test]
fn threads_do_not_matter() {
    let train = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let conv = |c, k| Conv2d::new(c, k, 3);
            let mut net = Sequential::default()
                .with(conv(3, 16))
                .with(BatchNorm2d::new(16))
                .with(ReLU::default())
                .with(MaxPool2d::new(2))
                .with(conv(16, 24))
                .with(Flatten::default())
                .with(Dropout::default())
                .with(Linear::new(24 * 13 * 13, 10));
            let x = Tensor::from_shape_fn(IxDyn(&[32, 3, 32, 32]), |i| {
                (i[0] * 7 + i[1] + i[2] * i[3]) as Elem % 1.7
            });
            let labels: Vec<i64> = (0..32).map(|i| i % 10).collect();
            let mut autograd = Autograd::default();
            for iter in 0..3 {
                autograd
                    .train(&mut net, &mut keyed(0, "step", iter, 0), |net, tape, cx| {
                        let scores = net.forward(tape.input(x.clone()), cx)?;
                        let losses = CrossEntropyLoss::default().forward(scores, Target::Classes(&labels))?;
                        Ok((losses.loss, ()))
                    })
                    .unwrap();
                update(&mut net, 0.05);
            }
            StateDict::of(&net).unwrap()
        })
    };
    let one = train(1);
    assert!(one.0.iter().all(|(_, t)| t.value.iter().all(|v| v.is_finite())));
    assert_eq!(train(3), one);
}
