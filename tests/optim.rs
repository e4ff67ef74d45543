//! Optimizers, clipping and schedules against what PyTorch and MMEngine printed (`tests/fixtures/gen_*.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use ndarray::ArrayD;
use serde_json::{Value, json};
use shanty::config::Node;
use shanty::optim::{ClipGrad, OptimWrapper, Optimizer, Schedule, ScheduledParam, Score, Sgd, Totals};
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

/// Powers beyond f64 in either direction: the norm of a high order is all but the largest number.
#[test]
fn norms_of_high_order_neither_overflow_nor_vanish() {
    for unit in [1e-3, 1.0, 1e3] {
        let grads = ndarray::arr1(&[0.3 * unit, -0.2 * unit, 0.0]).into_dyn();
        let mut bag = Bag(vec![("w".into(), grads.clone(), grads)]);
        let clip = ClipGrad { norm_type: 1000.0, ..ClipGrad::by_norm(1e-6) };
        let shanty::optim::Clipped::Norm(Some(norm)) = clip.apply(&mut bag, &all).unwrap() else { panic!() };
        approx::assert_relative_eq!(norm, f64::from(0.3 * unit), max_relative = 1e-6);
    }
}

/// Of optimizers in turns each has its own count: one that steps does not hide one that never does.
#[test]
fn an_optimizer_that_never_steps_in_its_turns_ends_the_run() {
    use shanty::optim::{Share, Update};
    let of = |module: &str| Share { modules: vec![module.into()], ndim: None };
    let sgd = || OptimWrapper::new(shanty::optim::Sgd::new(1.0));
    let mut optim = OptimWrapper::several([
        ("generator", of("g"), sgd()),
        ("discriminator", of("d"), sgd().clip(ClipGrad::by_norm(1.0))),
    ]);
    let mut round = || {
        let (one, bad) = (ndarray::arr1(&[1.0]).into_dyn(), ndarray::arr1(&[Elem::NAN]).into_dyn());
        let mut bag = Bag(vec![("g.w".into(), one.clone(), one.clone()), ("d.w".into(), one, bad)]);
        optim.take_turn(Some("generator")).unwrap();
        assert!(matches!(optim.update(&mut bag), Ok(Update::Stepped(_))));
        bag.0[1].2.fill(Elem::NAN);
        optim.take_turn(Some("discriminator")).unwrap();
        optim.update(&mut bag)
    };
    assert!((0..99).all(|_| matches!(round(), Ok(Update::Skipped(_)))));
    assert!(round().is_err());
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
        let (epochs, len) = (case["epochs"].as_u64().unwrap(), case["epoch_length"].as_u64().unwrap());
        let totals = Totals { max_epochs: epochs, max_iters: epochs * len, epoch_len: len };
        let (mut optim, number, base) = optimizer_of(&case);
        for spec in case["param_scheduler"].as_array().unwrap() {
            let spec = spec_of::<dyn Schedule>(spec).unwrap_or_else(|| panic!("{spec}"));
            let shape = spec.build(&mut BuildCx::new(0)).unwrap();
            let schedule = ScheduledParam::from_options(shape, spec.name(), &spec.extra, true, totals);
            optim = optim.schedule(schedule.unwrap());
        }
        let by_iter = case["by"] == "iter";
        for (k, expected) in case["values"].as_array().unwrap().iter().enumerate() {
            let k = k as u64;
            let (epoch, iter) = if by_iter { (k / len, k) } else { (k, k * len) };
            optim.set_progress(epoch, iter);
            let value = optim.groups()[0].get(&number).unwrap();
            let expected = expected.as_f64().unwrap();
            assert!((value - expected).abs() <= 1e-9 * base, "{name} at {k}: {value} is not {expected}");
            if let Some(loss) = case["val_losses"].get(epoch as usize).and_then(Value::as_f64) {
                let score = |name: &str| (name == "loss").then_some(Score { value: loss, greater: None });
                optim.observe(epoch + 1, iter + len, &score).unwrap();
            }
        }
        tried += 1;
    }
    assert!(tried >= 75, "{tried} schedules were compared");
}

/// The optimizer of a case, the number that its schedules move, and what it begins with.
fn optimizer_of(case: &Value) -> (OptimWrapper, String, f64) {
    let number = case["number"].as_str().unwrap_or("lr").to_owned();
    let base = case["base"].as_f64().unwrap();
    let mut config = match (case["adam"] == true, number.as_str()) {
        (true, "momentum") => json!({ "type": "AdamW", "lr": 0.1, "betas": [base, 0.99] }),
        (true, _) => json!({ "type": "AdamW", "lr": 0.1 }),
        _ => json!({ "type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.05 }),
    };
    if !(case["adam"] == true && number == "momentum") {
        config[&number] = base.into();
    }
    let spec = spec_of::<dyn Optimizer>(&config).unwrap();
    (OptimWrapper::boxed(spec.build(&mut BuildCx::new(0)).unwrap()), number, base)
}

/// What a plateau has seen is part of the checkpoint: a run that was cut reduces when the other one does.
#[test]
fn a_plateau_goes_on_where_it_was() {
    let yaml = "{type: ReduceOnPlateauLR, monitor: val_loss, factor: 0.5, patience: 2, cooldown: 1}";
    let made = || OptimWrapper::new(Sgd::new(0.8)).schedule(schedule(yaml, true, (40, 40, 1)).unwrap());
    let loss = |epoch: u64| 1.0 - (epoch.min(6) as f64) * 0.1 + (epoch % 3) as f64 * 0.01;
    let see = |optim: &mut OptimWrapper, epoch: u64| {
        let score = |_: &str| Some(Score { value: loss(epoch), greater: Some(false) });
        optim.observe(epoch + 1, epoch + 1, &score).unwrap();
        optim.set_progress(epoch + 1, epoch + 1);
        optim.groups()[0].lr()
    };
    let mut whole = made();
    let rates: Vec<_> = (0..30).map(|epoch| see(&mut whole, epoch)).collect();
    assert!(rates[0] == 0.8 && rates[29] < 0.1, "{rates:?}");
    for cut in [1, 7, 9, 10, 11, 20] {
        let (mut first, mut bag) = (made(), Bag::default());
        for epoch in 0..cut {
            see(&mut first, epoch);
        }
        let record = first.save_state(&bag).unwrap();
        let mut second = made();
        second.load_state(record, &mut bag).unwrap();
        let rest: Vec<_> = (cut..30).map(|epoch| see(&mut second, epoch)).collect();
        assert_eq!(rest, rates[cut as usize..], "cut after {cut}");
    }
    // A validation without the value says so.
    let told = made().observe(1, 1, &|_| None).unwrap_err().to_string();
    assert!(told.contains("`val_loss`"), "{told}");
}

/// Schedules of our own, by their formulas.
#[test]
fn warmup_stable_decay_and_formulas_give_what_they_say() {
    let at = |yaml: &str, n: u64| -> Vec<f64> {
        let made = schedule(yaml, false, (1, n, n)).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        (0..n).map(|t| made.apply(0.4, 0.4, 0, t)).collect()
    };
    let near = |found: Vec<f64>, expected: &[f64], what: &str| {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{what}: {found:?} is not {expected:?}");
        }
    };
    let wsd = |more: &str| at(&format!("{{type: WarmupStableDecayLR, warmup: 2, decay: 4{more}}}"), 8);
    near(wsd(""), &[0.0, 0.2, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1], "linear");
    let half = 0.2 * (1.0 + std::f64::consts::FRAC_1_SQRT_2);
    near(wsd(", decay_type: cosine"), &[0.0, 0.2, 0.4, 0.4, 0.4, half, 0.2, 0.4 - half], "cosine");
    let root = |u: f64| 0.4 * (1.0 - u.sqrt());
    near(
        wsd(", decay_type: one_minus_sqrt, start_factor: 0.5"),
        &[0.2, 0.3, 0.4, 0.4, 0.4, root(0.25), root(0.5), root(0.75)],
        "one minus sqrt",
    );
    near(wsd(", end_factor: 0.5"), &[0.0, 0.2, 0.4, 0.4, 0.4, 0.35, 0.3, 0.25], "a floor");
    let formula = at(r#"{type: ExpressionLR, expression: "lr * min(1, t/4) * cos(pi * t / T)"}"#, 6);
    let expected: Vec<f64> = (0..6u32)
        .map(|t| 0.4 * (f64::from(t) / 4.0).min(1.0) * (std::f64::consts::PI * f64::from(t) / 6.0).cos())
        .collect();
    near(formula, &expected, "a formula");
    near(at(r#"{type: ExpressionLR, expression: "base / (1 + t)"}"#, 3), &[0.4, 0.2, 0.4 / 3.0], "inverse");
}

#[test]
fn schedules_that_do_not_fit_say_why() {
    for (yaml, says) in [
        ("{type: CosineRestartLR, periods: [3, 4], eta_min: 0}", "1 numbers for 2 `periods`"),
        ("{type: CosineRestartLR, periods: [3]}", "give `eta_min` or `eta_min_ratio`"),
        ("{type: CosineRestartLR, periods: [3], eta_min: 0.1, eta_min_ratio: 0.1}", "not both"),
        ("{type: OneCycleLR, eta_max: 0.1, total_steps: 5}", "the cycle has 5 steps and the schedule 20"),
        ("{type: ReduceOnPlateauLR, factor: 1.0}", "`factor` must be below 1"),
        ("{type: WarmupStableDecayLR, warmup: 15, decay: 6}", "do not fit into the 20"),
        ("{type: OneCycleParamScheduler, eta_max: 0.1}", "`param_name` is missing"),
    ] {
        let told = schedule(yaml, false, (1, 20, 20)).map(drop).unwrap_err().to_string();
        assert!(told.contains(says), "{yaml}: {told}");
    }
    let typo = Spec::<dyn Schedule>::parse(r#"{type: ExpressionLR, expression: "lr * tt"}"#).unwrap_err();
    assert!(
        typo.to_string().contains("`tt` is no name") && typo.to_string().contains("character 6"),
        "{typo}"
    );
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
