//! Numbers whose right value is a closed form or a formula of PyTorch or MMPretrain, where f32 or a name could spoil
//! it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};
use shanty::fusion::{Dca, Fused};
use shanty::nn::{
    Autograd, BatchNorm1d, BufferPool, CrossEntropyLoss, Loss, Module, Param, Tape, Target, Var,
};
use shanty::optim::{Adam, ClipGrad, OptimWrapper, Optimizer, Sgd, Update};
use shanty::params::{HostParams, ParamMut, ParamRef, Role};
use shanty::plugin::prelude::*;
use shanty::registry::Spec;

struct Scores {
    x: Param,
}
shanty::module!(Scores { x });

/// The loss and the gradient of these scores.
fn loss(rows: usize, scores: &[Elem], target: Target<'_>, loss: &CrossEntropyLoss) -> (f64, Vec<Elem>) {
    let x = Array2::from_shape_vec((rows, scores.len() / rows), scores.to_vec()).unwrap().into_dyn();
    let mut inputs = Scores { x: Param::new(x) };
    let mut rng = shanty::base::keyed(0, "test", 0, 0);
    let value = Autograd::default()
        .train(&mut inputs, &mut rng, |inputs, tape, _| {
            let losses = loss.forward(tape.param(&inputs.x), target)?;
            Ok((losses.loss, f64::from(losses.loss.item())))
        })
        .unwrap();
    (value, inputs.x.grad.unwrap().iter().copied().collect())
}

/// The cross entropy of [a, a] is ln 2 at any a, its gradient (-1/2, 1/2): the sum `a + ln 2` must not be formed.
#[test]
fn cross_entropy_keeps_its_digits_at_large_scores() {
    let plain = CrossEntropyLoss::default();
    let smooth = CrossEntropyLoss { label_smoothing: 0.3, ..plain.clone() };
    let q = ndarray::arr2(&[[0.25, 0.75]]).into_dyn();
    for a in [0.0, 1e3, -1e3, 1e6, 1e8, -1e8, 1e20, 1e30, -1e30] {
        for (target, law, grad) in [
            (Target::Classes(&[0]), &plain, [-0.5, 0.5]),
            (Target::Classes(&[1]), &smooth, [0.35, -0.35]),
            (Target::Dense(&q), &plain, [0.25, -0.25]),
        ] {
            let (value, found) = loss(1, &[a, a], target, law);
            assert!((value - 2f64.ln()).abs() < 1e-6, "{value} at {a}, {target:?}");
            assert!(
                found.iter().zip(grad).all(|(f, g)| (f - g).abs() < 1e-6),
                "{found:?} at {a}, {target:?}"
            );
        }
    }
    // ln(1 + e⁻¹) where one score is less by 1, as far as f32 can tell the two apart.
    let (value, _) = loss(1, &[1e6, 1e6 - 1.0], Target::Classes(&[0]), &plain);
    assert!((value - (1.0 + (-1f64).exp()).ln()).abs() < 1e-6, "{value}");
}

#[test]
fn log_softmax_keeps_its_digits_at_large_scores() {
    for a in [1e3, 1e8, -1e8, 1e30] {
        let tape = Tape::without_grad(BufferPool::default());
        let x: Var<'_> = tape.input(ndarray::arr2(&[[a, a, a, a]]).into_dyn().into_shared());
        let y = x.log_softmax(-1).value();
        assert!(y.iter().all(|y| (f64::from(*y) + 4f64.ln()).abs() < 1e-6), "{y:?} at {a}");
    }
}

/// A score that is no number makes a loss that is none: nothing else would tell.
#[test]
fn cross_entropy_of_nan_is_nan() {
    let q = ndarray::arr2(&[[0.25, 0.75]]).into_dyn();
    for scores in
        [[Elem::NAN, Elem::NAN], [Elem::NAN, 1.0], [1.0, Elem::NAN], [Elem::NEG_INFINITY, Elem::NAN]]
    {
        for target in [Target::Classes(&[0]), Target::Dense(&q)] {
            let (value, _) = loss(1, &scores, target, &CrossEntropyLoss::default());
            assert!(value.is_nan(), "{value} of {scores:?}, {target:?}");
        }
    }
}

/// A class weight of MMPretrain divides by the samples, one of PyTorch by the weights of the targets: scores 0, weights
/// 1 and 3, targets 0, 0, 1 give ln 2 · 5 / 3 and ln 2.
#[test]
fn class_weights_mean_what_their_name_means() {
    let parse = |keys: &str| {
        let spec = Spec::<dyn Loss>::parse(&format!("{{type: CrossEntropyLoss, {keys}}}")).unwrap();
        spec.build(&mut BuildCx::new(0))
    };
    let value = |keys: &str| {
        let law = parse(keys).unwrap();
        let tape = Tape::new(BufferPool::default());
        let x = tape.input(Array2::zeros((3, 2)).into_dyn().into_shared());
        f64::from(law.forward(x, Target::Classes(&[0, 0, 1])).unwrap().loss.item())
    };
    let ln2 = 2f64.ln();
    assert!((value("class_weight: [1, 3]") - ln2 * 5.0 / 3.0).abs() < 1e-6);
    assert!((value("weight: [1, 3]") - ln2).abs() < 1e-6);
    assert!((value("class_weight: [1, 3], average: weights") - ln2).abs() < 1e-6);
    assert!((value("class_weight: [1, 3], reduction: sum") - ln2 * 5.0).abs() < 1e-5);
    let error = parse("class_weight: [1, 3], weight: [1, 3]").err().unwrap().to_string();
    assert!(error.contains("not both"), "{error}");
}

/// One weight with a gradient of which a test decides.
#[derive(Default)]
struct One {
    value: Array1<Elem>,
    grad: Array1<Elem>,
    /// A second name for the same tensor.
    twice: bool,
}

impl One {
    fn new(value: Elem, grad: Elem) -> Self {
        Self { value: Array1::from_elem(1, value), grad: Array1::from_elem(1, grad), twice: false }
    }
}

impl HostParams for One {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        for name in ["one.weight", "again.weight"].iter().take(1 + usize::from(self.twice)) {
            let (value, grad) = (self.value.view().into_dyn(), Some(self.grad.view().into_dyn()));
            f(ParamRef { name, layer: "One", role: Role::Weight, frozen: false, value, grad });
        }
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for name in ["one.weight", "again.weight"].iter().take(1 + usize::from(self.twice)) {
            let (value, grad) = (self.value.view_mut().into_dyn(), Some(self.grad.view_mut().into_dyn()));
            f(ParamMut { name, layer: "One", role: Role::Weight, frozen: false, value, grad });
        }
    }
    fn zero_grads(&mut self) {}
}

/// PyTorch's `torch.optim.Adam` in f64, its betas and bias corrections never rounded.
fn adam(betas: (f64, f64), lr: f64, grads: impl Iterator<Item = f64>) -> f64 {
    let (mut w, mut m, mut v) = (0.0, 0.0, 0.0);
    for (t, g) in (1..).zip(grads) {
        m += (1.0 - betas.0) * (g - m);
        v = betas.1 * v + (1.0 - betas.1) * g * g;
        let (c1, c2) = (1.0 - betas.0.powi(t), 1.0 - betas.1.powi(t));
        w -= lr / c1 * m / (v.sqrt() / c2.sqrt() + 1e-8);
    }
    w
}

/// The first step on a gradient of 0.5 is -0.0999999980 with lr 0.1, to three roundings of f32 (7.5e-9 each).
#[test]
fn adam_begins_with_the_closed_form() {
    let mut one = One::new(0.0, 0.5);
    let mut optim = OptimWrapper::new(Adam::new(0.1));
    optim.update(&mut one).unwrap();
    assert!((f64::from(one.value[0]) + 0.099_999_998_0).abs() < 2.3e-8, "{}", one.value[0]);
}

/// Many betas, also ones so near to 1 that `1 - β` in f32 would have no digit right.
#[test]
fn adam_follows_the_formula_for_betas_near_one() {
    for betas in [(0.9, 0.999), (0.9, 0.999_999), (0.99, 0.999_999_9), (0.0, 0.5)] {
        let config = Adam::new(1e-3).betas(betas.0, betas.1);
        let (mut one, mut optim) = (One::new(0.0, 0.0), OptimWrapper::new(config));
        let grads = || (0..50).map(|i| f64::from((i * 7 % 5) as f32 * 0.25 + 0.125));
        for g in grads() {
            one.grad[0] = g as Elem;
            optim.update(&mut one).unwrap();
        }
        let want = adam(betas, 1e-3, grads());
        assert!(
            (f64::from(one.value[0]) / want - 1.0).abs() < 5e-5,
            "{betas:?}: {} is not {want}",
            one.value[0]
        );
    }
}

/// After ten million steps β^t is 0 and the corrections are 1: the step of a constant gradient is the learning rate.
#[test]
fn adam_is_itself_after_ten_million_steps() {
    let mut adam = OptimWrapper::new(Adam::new(0.5));
    let mut one = One::new(0.0, 1.0);
    adam.update(&mut one).unwrap();
    let mut record = adam.save_state(&one).unwrap();
    record.data["steps"]["one.weight"] = 10_000_000u64.into();
    record.tensors.values_mut().for_each(|mean| mean.fill(0.0));
    adam.load_state(record, &mut one).unwrap();
    (one.value[0], one.grad[0]) = (0.0, 1.0);
    // Empty running means at a large t: m = 0.1, v = 0.001 without correction.
    adam.update(&mut one).unwrap();
    let want = -0.5 * 0.1 / (0.001f64.sqrt() + 1e-8);
    assert!((f64::from(one.value[0]) - want).abs() < 1e-6, "{} is not {want}", one.value[0]);
}

/// `1 - dampening` in f64: with 0.9 f32 gives 0.100000024.
#[test]
fn sgd_takes_its_dampening_exactly() {
    let spec = Spec::<dyn Optimizer>::parse("{type: SGD, lr: 1.0, momentum: 0.5, dampening: 0.9}").unwrap();
    let mut optim = OptimWrapper::boxed(spec.build(&mut BuildCx::new(0)).unwrap());
    let mut one = One::new(0.0, 1.0);
    for _ in 0..2 {
        optim.update(&mut one).unwrap();
    }
    // b = 1, then 0.5 + 0.1: the weight is -1.6.
    assert!((f64::from(one.value[0]) + 1.6).abs() < 1e-7, "{}", one.value[0]);
}

/// The running mean of a constant 1 after n batches is 1 - 0.9ⁿ: no digit is lost to `1 - 0.1f32`.
#[test]
fn running_statistics_follow_the_closed_form() {
    let mut norm = BatchNorm1d::new(1);
    let mut rng = shanty::base::keyed(0, "test", 0, 0);
    for n in 1..=60 {
        let tape = Tape::without_grad(BufferPool::default());
        let x = tape.input(ndarray::arr2(&[[0.0], [2.0]]).into_dyn().into_shared());
        norm.forward(x, &mut shanty::nn::Forward::new(true, &mut rng)).unwrap();
        let mut mean = 0.0;
        norm.visit(&mut |p| {
            if p.name == "running_mean" {
                mean = f64::from(p.value[[0]]);
            }
        });
        assert!((mean - (1.0 - 0.9f64.powi(n))).abs() < 2e-7, "{mean} after {n}");
    }
}

/// A tensor under two names would be stepped, decayed, counted and averaged twice: it is refused with both.
#[test]
fn a_tensor_under_two_names_is_refused() {
    let mut tied = One { twice: true, ..One::new(1.0, 3.0) };
    let mut optim = OptimWrapper::new(Sgd::new(0.1).weight_decay(0.1)).clip(ClipGrad::by_norm(1.0));
    let error = optim.update(&mut tied).unwrap_err().to_string();
    assert!(error.contains("`one.weight` and `again.weight` are one tensor"), "{error}");
    assert_eq!(tied.value[0], 1.0, "nothing moved");
    tied.twice = false;
    let Update::Stepped(norm) =
        OptimWrapper::new(Sgd::new(0.1)).clip(ClipGrad::by_norm(9.0)).update(&mut tied).unwrap()
    else {
        panic!("skipped")
    };
    assert_eq!(norm, Some(3.0), "counted once");
}

/// The same for a whole model, before anything is trained, and for two tensors of one name.
#[test]
fn a_model_with_a_tensor_under_two_names_is_refused() {
    struct Tied(One);
    impl HostParams for Tied {
        fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
            self.0.visit(f);
        }
        fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
            self.0.visit_mut(f);
        }
    }
    impl Model for Tied {
        fn train_step(&mut self, _: &Batch, _: &StepCx) -> Result<Outputs> {
            Ok(Outputs::default())
        }
        fn eval_step(&mut self, _: &Batch) -> Result<Outputs> {
            Ok(Outputs::default())
        }
        fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
            Ok(Vec::new())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let tied = Tied(One { twice: true, ..One::new(1.0, 1.0) });
    let error = shanty::run::Runner::builder(tied).work_dir(dir.path()).build().err().unwrap().to_string();
    assert!(error.contains("`one.weight` and `again.weight`"), "{error}");
    shanty::params::check_distinct(&One::new(1.0, 1.0)).unwrap();
}

/// MMPretrain begins the biases of a vision transformer's feed-forward network at N(0, 1e-6²).
#[test]
fn biases_of_the_feed_forward_network_begin_as_in_mmpretrain() {
    let mut ffn = shanty::nn::FFN::new(64, 4096, 0.0);
    shanty::nn::init::init_weights(&mut ffn, 0).unwrap();
    let mut found = BTreeMap::new();
    ffn.visit(&mut |p| drop(found.insert(p.name.to_owned(), p.value.to_owned())));
    let bias = found["layers.0.0.bias"].mapv(f64::from);
    let n = bias.len() as f64;
    let std = (bias.mapv(|b| b * b).sum() / n).sqrt();
    // The estimates of mean and deviation from 4096 draws stray by 1.6 % and 1.1 % of the deviation.
    assert!((std / 1e-6 - 1.0).abs() < 0.05 && (bias.sum() / n).abs() < 0.08e-6, "{std}");
    assert!(found["layers.1.bias"].iter().all(|b| b.abs() < 6e-6));
}

/// The features of both kinds behind the maps of discriminant correlation analysis are those of NumPy's solvers; behind
/// them each direction is correlated with its counterpart and with no other.
#[test]
fn fused_features_are_those_of_the_paper() {
    #[derive(serde::Deserialize)]
    struct Case {
        classes: Vec<usize>,
        x: Vec<Vec<f64>>,
        y: Vec<Vec<f64>>,
        xs: Vec<Vec<f64>>,
        ys: Vec<Vec<f64>>,
    }
    let array = |rows: &[Vec<f64>]| Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j]);
    let cases: Vec<Case> = serde_json::from_str(include_str!("fixtures/dca.json")).unwrap();
    for case in &cases {
        let (x, y) = (array(&case.x), array(&case.y));
        let dca = Dca::fit(x.view(), y.view(), &case.classes).unwrap();
        let (xs, ys) = dca.transform(x.view(), y.view()).unwrap();
        for (own, theirs) in [(&xs, array(&case.xs)), (&ys, array(&case.ys))] {
            assert_eq!(own.dim(), theirs.dim());
            assert!((own - &theirs).iter().all(|d| d.abs() < 1e-9), "{own} {theirs}");
        }
        let common = xs.t().dot(&ys);
        let off = (&common - &Array2::<f64>::eye(dca.directions())).mapv(f64::abs);
        assert!(off.iter().all(|d| *d < 1e-9), "{common}");
        let concat = dca.fuse(x.view(), y.view(), Fused::Concat).unwrap();
        assert_eq!(concat.ncols(), 2 * dca.directions());
        assert_eq!(dca.fuse(x.view(), y.view(), Fused::Sum).unwrap(), &xs + &ys);
        // The numbers of the classes mean nothing.
        let renamed: Vec<usize> = case.classes.iter().map(|class| 7 * class + 3).collect();
        assert_eq!(Dca::fit(x.view(), y.view(), &renamed).unwrap(), dca);
    }
    let (x, y) = (array(&cases[0].x), array(&cases[0].y));
    let text =
        |x: &Array2<f64>, classes: &[usize]| Dca::fit(x.view(), y.view(), classes).unwrap_err().to_string();
    assert!(text(&x, &[0; 3]).contains("rows of features for 3 samples"));
    assert!(text(&x, &[4; 30]).contains("two classes at least are wanted, and there are 1"));
    assert!(
        text(&Array2::ones((30, 2)), &cases[0].classes)
            .contains("do not differ in the means of the first features")
    );
    let mut odd = x.clone();
    odd[[7, 1]] = f64::NAN;
    assert!(
        text(&odd, &cases[0].classes).contains("sample 7 has a value that is not finite among the first")
    );
    let dca = Dca::fit(x.view(), y.view(), &cases[0].classes).unwrap();
    let narrow = Array2::<f64>::zeros((2, 3));
    assert!(
        dca.transform(narrow.view(), narrow.view()).unwrap_err().to_string().contains("were learnt from")
    );
}
