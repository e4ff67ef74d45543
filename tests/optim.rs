//! Optimizers, clipping and schedules against what PyTorch and MMEngine printed (`tests/fixtures/gen_*.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use ndarray::ArrayD;
use serde_json::Value;
use shanty::config::Node;
use shanty::optim::{ClipGrad, OptimWrapper, Optimizer, Schedule, ScheduledParam, Totals};
use shanty::params::all;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;

/// Named tensors with gradients.
#[derive(Default)]
struct Bag(Vec<(String, ArrayD<Elem>, ArrayD<Elem>)>);

impl Bag {
    fn of(values: &Value) -> Self {
        let entry = |(name, v): (&String, &Value)| (name.clone(), array(v), ArrayD::zeros(array(v).shape()));
        Self(values.as_object().unwrap().iter().map(entry).collect())
    }

    fn set_grads(&mut self, grads: &Value) {
        for (name, _, grad) in &mut self.0 {
            grad.assign(&array(&grads[name.as_str()]));
        }
    }
}

impl HostParams for Bag {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        for (name, value, grad) in &self.0 {
            let (value, grad) = (value.view(), Some(grad.view()));
            f(ParamRef { name, layer: "Bag", role: Role::Weight, frozen: false, value, grad });
        }
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for (name, value, grad) in &mut self.0 {
            let (value, grad) = (value.view_mut(), Some(grad.view_mut()));
            f(ParamMut { name, layer: "Bag", role: Role::Weight, frozen: false, value, grad });
        }
    }
}

fn array(v: &Value) -> ArrayD<Elem> {
    let shape: Vec<usize> = serde_json::from_value(v["shape"].clone()).unwrap();
    let data: Vec<f64> = serde_json::from_value(v["data"].clone()).unwrap();
    ArrayD::from_shape_vec(shape, data.into_iter().map(|x| x as Elem).collect()).unwrap()
}

fn close(found: &ArrayD<Elem>, expected: &ArrayD<Elem>, what: &str) {
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-6 + 2e-6 * b.abs(), "{what}: {a} is not {b}");
    }
}

fn fixture(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn spec_of<T: ?Sized + shanty::registry::Registrable>(value: &Value) -> Option<Spec<T>> {
    let known = shanty::registry::entries(T::KIND).any(|e| Some(e.name) == value["type"].as_str());
    known.then(|| Node::of("fixture", value).unwrap().read::<Spec<T>>().unwrap())
}

#[test]
fn optimizers_follow_pytorch() {
    let mut tried = Vec::new();
    for case in fixture("optim.json").iter().filter(|c| c["params"].is_object()) {
        let mut attrs = case["attrs"].clone();
        attrs["type"] = case["op"].clone();
        // Left out of shanty: gradient ascent.
        if attrs.get("maximize").is_some() {
            continue;
        }
        let Some(spec) = spec_of::<dyn Optimizer>(&attrs) else { continue };
        let mut optim = OptimWrapper::boxed(spec.build(&mut BuildCx::new(0)).unwrap());
        let mut bag = Bag::of(&case["params"]);
        for step in 0..case["grads"].as_array().unwrap().len() {
            optim.groups_mut()[0].set("lr", case["lrs"][step].as_f64().unwrap()).unwrap();
            bag.set_grads(&case["grads"][step]);
            optim.update(&mut bag).unwrap();
            for (name, value, _) in &bag.0 {
                let what = format!("{} {}, step {step}, {name}", case["op"], case["name"]);
                close(value, &array(&case["after"][step][name.as_str()]), &what);
            }
            // State goes through a checkpoint at each step without a trace.
            let saved = optim.save_state(&bag).unwrap();
            optim = OptimWrapper::boxed(spec.build(&mut BuildCx::new(0)).unwrap());
            optim.load_state(saved, &mut bag).unwrap();
        }
        tried.push(format!("{} {}", case["op"], case["name"]));
    }
    assert!(tried.iter().filter(|t| t.contains("SGD")).count() >= 8, "{tried:?}");
}

#[test]
fn clipping_follows_pytorch() {
    for case in fixture("optim.json").iter().filter(|c| c["op"].as_str().unwrap().starts_with("clip_grad")) {
        let mut attrs = case["attrs"].clone();
        attrs["type"] = if case["op"] == "clip_grad_norm" { "norm".into() } else { "value".into() };
        // PyTorch writes the largest norm as a text in JSON.
        let clip: ClipGrad = match Node::of("fixture", &attrs).unwrap().read() {
            Ok(clip) => clip,
            Err(_) => {
                attrs["norm_type"] = Value::Null;
                let mut clip: ClipGrad = Node::of("fixture", &without_null(&attrs)).unwrap().read().unwrap();
                clip.norm_type = f64::INFINITY;
                clip
            }
        };
        let mut bag = Bag::of(&case["grads"]);
        bag.set_grads(&case["grads"]);
        let found = clip.apply(&mut bag, &all).unwrap();
        if let Some(norm) = case["total_norm"].as_f64() {
            let shanty::optim::Clipped::Norm(Some(own)) = found else { panic!("{found:?}") };
            assert!((own - norm).abs() <= 1e-6 * norm.max(1e-6), "{}: {own} is not {norm}", case["name"]);
        }
        for (name, _, grad) in &bag.0 {
            close(grad, &array(&case["after"][name.as_str()]), &format!("{} {name}", case["name"]));
        }
    }
}

fn without_null(v: &Value) -> Value {
    Value::Object(
        v.as_object()
            .unwrap()
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    )
}

/// CLP-01
#[test]
fn a_norm_that_is_no_number_leaves_everything_as_it_is() {
    for bad in [Elem::INFINITY, Elem::NAN] {
        let bag = || {
            let one = ArrayD::from_elem(vec![2], 1.0);
            let mut grad = one.clone();
            grad[[0]] = bad;
            Bag(vec![("w".into(), one, grad)])
        };
        let mut skipped = OptimWrapper::new(shanty::optim::Sgd::new(1.0)).clip(ClipGrad::by_norm(1.0));
        let mut w = bag();
        assert!(
            matches!(skipped.update(&mut w).unwrap(), shanty::optim::Update::Skipped(n) if !n.is_finite())
        );
        assert_eq!(w.0[0].1, ArrayD::from_elem(vec![2], 1.0));
        let strict = ClipGrad { error_if_nonfinite: true, ..ClipGrad::by_norm(1.0) };
        assert!(OptimWrapper::new(shanty::optim::Sgd::new(1.0)).clip(strict).update(&mut bag()).is_err());
    }
}

/// CLP-02
#[test]
fn nonsense_limits_are_refused_with_their_place() {
    for (yaml, says) in [
        ("{max_norm: -1}", "max_norm"),
        ("{max_norm: 0}", "max_norm"),
        ("{max_norm: .nan}", "max_norm"),
        ("{max_norm: '1.0'}", "max_norm"),
        ("{type: value}", "clip_value"),
        ("{}", "max_norm"),
    ] {
        let node = shanty::config::parse("clip.yaml", yaml).unwrap();
        let read = node.read_checked::<ClipGrad>().map_err(Error::from);
        let error = read.and_then(|c| c.check()).unwrap_err().to_string();
        assert!(error.contains(says), "{yaml}: {error}");
    }
    let unlimited =
        shanty::config::parse("clip.yaml", "{max_norm: .inf}").unwrap().read_checked::<ClipGrad>().unwrap();
    unlimited.check().unwrap();
}

/// ACC-02 and ACC-04: gradients of a window are weighted by samples; clipping and decay come once an update.
#[test]
fn a_window_is_one_large_batch() {
    let mut optim = OptimWrapper::new(shanty::optim::Sgd::new(1.0)).accumulate(4);
    let mut w = Bag(vec![("w".into(), ArrayD::zeros(vec![1]), ArrayD::zeros(vec![1]))]);
    let mut after = Vec::new();
    for batch in 0..10 {
        // The mean gradient of every batch is 1; the last one is smaller than the others.
        let samples = if batch == 9 { 2 } else { 8 };
        w.0[0].2[[0]] += optim.loss_scale(samples);
        if optim.backward_done(samples, batch == 9) {
            optim.finish_window(&mut w).unwrap();
            optim.update(&mut w).unwrap();
            after.push(w.0[0].1[[0]]);
        }
    }
    assert_eq!(after, [-1.0, -2.0, -3.0]);
}

#[test]
fn schedules_follow_mmengine() {
    let mut tried = 0;
    for case in fixture("schedules.json") {
        // Ours differs on purpose: a schedule of one step reaches its end, and gamma of an epoch stays one of an epoch
        // when it is converted to iterations.
        let name = case["name"].as_str().unwrap();
        if name.ends_with("one_step") || name == "converted_exponential" {
            continue;
        }
        let specs: Option<Vec<_>> =
            case["param_scheduler"].as_array().unwrap().iter().map(spec_of::<dyn Schedule>).collect();
        let Some(specs) = specs else { continue };
        let (epochs, len) = (case["epochs"].as_u64().unwrap(), case["epoch_length"].as_u64().unwrap());
        let base = case["base_lr"].as_f64().unwrap();
        let totals = Totals { max_epochs: epochs, max_iters: epochs * len, epoch_len: len };
        let schedules: Vec<_> = specs
            .iter()
            .map(|s| {
                let shape = s.build(&mut BuildCx::new(0)).unwrap();
                ScheduledParam::from_options(shape, s.name(), &s.extra, true, totals).unwrap()
            })
            .collect();
        let by_iter = case["by"] == "iter";
        for (k, expected) in case["values"].as_array().unwrap().iter().enumerate() {
            let k = k as u64;
            let (epoch, iter) = if by_iter { (k / len, k) } else { (k, k * len) };
            let lr = schedules.iter().fold(base, |lr, s| s.apply(lr, base, epoch, iter));
            let expected = expected.as_f64().unwrap();
            assert!((lr - expected).abs() <= 1e-9 * base, "{} at {k}: {lr} is not {expected}", case["name"]);
        }
        tried += 1;
    }
    assert!(tried >= 20, "{tried} schedules were compared");
}

fn schedule(yaml: &str, by_epoch: bool, totals: (u64, u64, u64)) -> Result<ScheduledParam> {
    let spec = Spec::<dyn Schedule>::parse(yaml).unwrap();
    let totals = Totals { max_epochs: totals.0, max_iters: totals.1, epoch_len: totals.2 };
    let shape = spec.build(&mut BuildCx::new(0))?;
    ScheduledParam::from_options(shape, spec.name(), &spec.extra, by_epoch, totals)
}

/// RES-10, SCH-01, SCH-08
#[test]
fn schedules_are_functions_of_progress() {
    let cosine = |horizon| schedule("{type: CosineAnnealingLR}", false, (1, horizon, horizon)).unwrap();
    // A longer horizon on resume is recomputed, not continued upwards.
    assert!((cosine(80).apply(0.1, 0.1, 0, 40) - 0.05).abs() < 1e-12);
    assert!(cosine(80).apply(0.1, 0.1, 0, 79) < 1e-4);
    // Beyond the end it stays where it was.
    assert_eq!(cosine(40).apply(0.1, 0.1, 0, 40), cosine(40).apply(0.1, 0.1, 0, 39));
    // A warm-up as long as the run, or of one step, is finite.
    let warm = |n| schedule(&format!("{{type: LinearLR, end: {n}}}"), false, (1, 10, 10)).unwrap();
    assert_eq!(warm(10).apply(0.1, 0.1, 0, 10), 0.1);
    assert_eq!(warm(1).apply(0.1, 0.1, 0, 0), 0.1);
    // Ten epochs of 250 iterations, by iteration.
    let converted = "{type: CosineAnnealingLR, by_epoch: true, convert_to_iter_based: true, T_max: 10}";
    let converted = schedule(converted, true, (10, 2500, 250)).unwrap();
    assert!((converted.apply(1.0, 1.0, 5, 1250) - 0.5).abs() < 1e-12);
    let half = "{type: LinearLR, begin: 0.5, by_epoch: true, convert_to_iter_based: true}";
    assert_eq!(schedule(half, true, (10, 2500, 250)).unwrap().range(), (125, 2500, false));
    assert!(schedule("{type: LinearLR, begin: 5, end: 4}", true, (10, 10, 1)).is_err());
    // A warm-up of no steps is none.
    let none = schedule("{type: LinearLR, start_factor: 0.1, begin: 0, end: 0}", true, (10, 10, 1)).unwrap();
    assert_eq!((0..10).map(|epoch| none.apply(0.5, 0.5, epoch, epoch)).collect::<Vec<_>>(), [0.5; 10]);
}

/// SCH-02
#[test]
fn a_floor_is_a_value_or_a_ratio() {
    let at_end = |yaml: &str| schedule(yaml, false, (1, 200, 200)).unwrap().apply(0.1, 0.1, 0, 100);
    assert!((at_end("{type: CosineAnnealingLR, T_max: 100, eta_min: 0.01}") - 0.01).abs() < 1e-12);
    assert!((at_end("{type: CosineAnnealingLR, T_max: 100, eta_min_ratio: 0.01}") - 0.001).abs() < 1e-12);
    let both =
        Spec::<dyn Schedule>::parse("{type: CosineAnnealingLR, eta_min: 0.1, eta_min_ratio: 0.1}").unwrap();
    assert!(both.build(&mut BuildCx::new(0)).is_err());
}
