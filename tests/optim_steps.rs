//! Fifty steps of every optimizer, alone and with groups, windows, clipping and schedules, against PyTorch's and the
//! papers' formulas (`tests/fixtures/gen_optim_steps.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::BTreeSet;

use ndarray::{Array1, ArrayD};
use serde_json::{Value, json};
use shanty::config::{Node, parse};
use shanty::optim::{
    Muon, OptimWrapper, OptimWrapperConfig, SamConfig, Schedule, ScheduledParam, Sgd, Totals,
};
use shanty::plugin::prelude::*;
use shanty::registry::Spec;

/// Named tensors with gradients.
#[derive(Default, Clone)]
struct Bag(Vec<(String, ArrayD<Elem>, ArrayD<Elem>)>);

impl Bag {
    fn of(params: &Value, only: Option<&Value>) -> Self {
        let wanted = |name: &&String| only.is_none_or(|only| only.as_array().unwrap().contains(&json!(name)));
        let all = params.as_object().unwrap();
        let entry =
            |name: &String| (name.clone(), array(&all[name]), ArrayD::zeros(array(&all[name]).shape()));
        Self(all.keys().filter(wanted).map(entry).collect())
    }

    fn add_grads(&mut self, grads: &Value, factor: Elem) {
        for (name, _, grad) in &mut self.0 {
            grad.scaled_add(factor, &array(&grads[name.as_str()]));
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

/// The fixture's parameters and gradients, and its cases.
fn fixture() -> (Value, Vec<Value>) {
    let path = format!("{}/tests/fixtures/optim_steps.json", env!("CARGO_MANIFEST_DIR"));
    let mut lines: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    (lines.remove(0), lines)
}

/// A wrapper as a config says it.
fn wrapper(text: &str) -> OptimWrapper {
    let node: Node = parse("optim.yaml", text).unwrap();
    node.read_checked::<OptimWrapperConfig>().unwrap().build(&mut BuildCx::new(0)).unwrap()
}

/// The `optim_wrapper` of a case.
fn config_of(case: &Value) -> String {
    let mut optimizer = case["attrs"].clone();
    optimizer["type"] = case["type"].clone();
    let mut config = json!({ "optimizer": optimizer });
    for key in ["paramwise_cfg", "clip_grad", "sam"] {
        if let Some(value) = case.get(key) {
            config[key] = value.clone();
        }
    }
    if let Some(samples) = case.get("samples") {
        config["accumulative_counts"] = json!(samples.as_array().unwrap().len());
    }
    config.to_string().replace("\"inf\"", ".inf")
}

/// Within 1e-5 of the tensor's norm.
fn close(bag: &Bag, expected: &Value, what: &str) {
    for (name, value, _) in &bag.0 {
        let expected = array(&expected[name.as_str()]);
        let norm = |a: &ArrayD<Elem>| a.iter().map(|v| (*v as f64).powi(2)).sum::<f64>().sqrt();
        let off = norm(&(value - &expected)) / norm(&expected);
        assert!(off <= 1e-5, "{what}, {name}: {off:.1e} off: {value} is not {expected}");
    }
}

/// State goes through a checkpoint now and then without a trace.
fn resumed(optim: OptimWrapper, config: &str, bag: &mut Bag) -> OptimWrapper {
    let saved = optim.save_state(bag).unwrap();
    let mut anew = wrapper(config);
    anew.bind(bag).unwrap();
    anew.load_state(saved, bag).unwrap();
    anew
}

#[test]
fn every_optimizer_follows_its_formula_for_fifty_steps() {
    let (given, cases) = fixture();
    let mut tried = BTreeSet::new();
    for case in cases.iter().filter(|case| case.get("samples").is_none()) {
        let (what, config) = (format!("{} {}", case["type"], case["name"]), config_of(case));
        let (mut bag, mut optim) = (Bag::of(&given["params"], case.get("only_of")), wrapper(&config));
        optim.bind(&bag).unwrap();
        for (step, grads) in given["grads"].as_array().unwrap().iter().enumerate() {
            optim
                .gradients(&mut bag, |bag| {
                    match case.get("sam") {
                        None => bag.add_grads(grads, 1.0),
                        // The loss is a sum of log cosh(w - x).
                        Some(_) => bag.0.iter_mut().for_each(|(name, w, g)| {
                            *g += &(&*w - &array(&grads[name.as_str()])).mapv(Elem::tanh);
                        }),
                    }
                    Ok(())
                })
                .unwrap();
            optim.update(&mut bag).unwrap();
            if let Some(after) = case["after"].get((step + 1).to_string()) {
                close(&bag, after, &format!("{what}, step {}", step + 1));
                optim = resumed(optim, &config, &mut bag);
            }
        }
        tried.insert(case["type"].as_str().unwrap().to_owned());
    }
    let known: BTreeSet<_> =
        shanty::registry::entries("optimizer").map(|entry| entry.name.to_owned()).collect();
    assert_eq!(tried, known, "every registered optimizer has a case");
}

#[test]
fn groups_windows_clipping_and_schedules_together_follow_pytorch() {
    let (given, cases) = fixture();
    for case in cases.iter().filter(|case| case.get("samples").is_some()) {
        let (what, config) = (format!("{} {}", case["type"], case["name"]), config_of(case));
        let samples: Vec<usize> = serde_json::from_value(case["samples"].clone()).unwrap();
        // From one to zero in 20 updates, which an epoch each counts.
        let falling = || {
            let spec =
                Spec::<dyn Schedule>::parse("{type: LinearLR, start_factor: 1.0, end_factor: 0.0}").unwrap();
            let totals = Totals { max_epochs: 21, max_iters: 84, epoch_len: 4 };
            let shape = spec.build(&mut BuildCx::new(0)).unwrap();
            ScheduledParam::from_options(shape, spec.name(), &spec.extra, true, totals).unwrap()
        };
        let mut bag = Bag::of(&given["params"], None);
        let mut optim = wrapper(&config).schedule(falling());
        optim.bind(&bag).unwrap();
        let (grads, mut updates) = (given["grads"].as_array().unwrap(), 0);
        for (step, grad) in grads.iter().enumerate() {
            optim.set_progress(updates, step as u64);
            let n = samples[step % 4];
            bag.add_grads(grad, optim.loss_scale(n));
            if step % 4 == 2 {
                // In the middle of a window.
                let saved = optim.save_state(&bag).unwrap();
                optim = wrapper(&config).schedule(falling());
                optim.bind(&bag).unwrap();
                optim.load_state(saved, &mut bag).unwrap();
                optim.set_progress(updates, step as u64);
            }
            if optim.backward_done(n, step + 1 == grads.len()) {
                optim.finish_window(&mut bag).unwrap();
                optim.update(&mut bag).unwrap();
                bag.0.iter_mut().for_each(|(_, _, grad)| grad.fill(0.0));
                updates += 1;
                if let Some(after) = case["after"].get(updates.to_string()) {
                    close(&bag, after, &format!("{what}, update {updates}"));
                }
            }
        }
        assert_eq!(updates, 13, "12 whole windows and one of two batches");
    }
}

/// The parts of a large tensor are computed by many threads.
#[test]
fn threads_do_not_change_a_step() {
    let steps = |optimizer: &str, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let wave = |k: f32| {
            ArrayD::from_shape_fn(vec![301, 499], |at| (k * (at[0] * 499 + at[1]) as f32).sin() as Elem)
        };
        let mut bag = Bag(vec![("w".into(), wave(0.37), ArrayD::zeros(vec![301, 499]))]);
        let mut optim = wrapper(&format!("{{optimizer: {{type: {optimizer}, lr: 0.1}}}}"));
        pool.install(|| {
            for step in 0..3 {
                bag.0[0].2 = wave(0.11 + step as f32);
                optim.update(&mut bag).unwrap();
            }
        });
        bag.0[0].1.iter().map(|w| w.to_bits()).collect::<Vec<_>>()
    };
    for optimizer in shanty::registry::entries("optimizer").map(|entry| entry.name) {
        let one = steps(optimizer, 1);
        assert!(one == steps(optimizer, 2) && one == steps(optimizer, 3), "{optimizer}");
    }
}

/// `k` micro-batches are one batch, to the rounding of a sum, also in a window that is cut short.
#[test]
fn a_window_of_unequal_batches_is_one_batch() {
    let data: Vec<Elem> = (0..23).map(|i| (i as Elem * 0.7).sin()).collect();
    let mean_grad = |w: Elem, part: &[Elem]| part.iter().map(|x| w - x).sum::<Elem>() / part.len() as Elem;
    for micro in [1, 2, 3, 5, 8] {
        let one = || Bag(vec![("w".into(), ArrayD::zeros(vec![1]), ArrayD::zeros(vec![1]))]);
        let adam = "{optimizer: {type: Adam, lr: 0.1}, clip_grad: {max_norm: 0.2}}";
        let (mut small, mut large) = (one(), one());
        let mut window = wrapper(adam).accumulate(3);
        let mut whole = wrapper(adam);
        let mut open: Vec<Elem> = Vec::new();
        let parts: Vec<_> = data.chunks(micro).collect();
        for (at, part) in parts.iter().enumerate() {
            small.0[0].2[[0]] += window.loss_scale(part.len()) * mean_grad(small.0[0].1[[0]], part);
            open.extend(*part);
            if window.backward_done(part.len(), at + 1 == parts.len()) {
                window.finish_window(&mut small).unwrap();
                window.update(&mut small).unwrap();
                large.0[0].2[[0]] = mean_grad(large.0[0].1[[0]], &open);
                whole.update(&mut large).unwrap();
                open.clear();
                let (a, b) = (small.0[0].1[[0]], large.0[0].1[[0]]);
                assert!((a - b).abs() <= 8.0 * Elem::EPSILON, "micro-batches of {micro}: {a} is not {b}");
            }
        }
    }
}

/// SAM leaves the sums of an open window apart from the gradient by which it climbs, and the weights where they were.
#[test]
fn sam_climbs_by_each_batch_alone() {
    // The loss is w⁴/4 at each of two elements.
    let pass = |bag: &mut Bag| {
        let (_, w, g) = &mut bag.0[0];
        *g += &w.mapv(|w| w * w * w);
        Ok(())
    };
    let start = || Array1::from(vec![3.0, 4.0]).into_dyn();
    let mut bag = Bag(vec![("w".into(), start(), ArrayD::zeros(vec![2]))]);
    let mut optim = OptimWrapper::new(Sgd::new(0.1)).sam(SamConfig { rho: 0.5 }).accumulate(2);
    assert!(optim.gradients(&mut bag, pass).is_err(), "it has not met the model");
    optim.bind(&bag).unwrap();
    for _ in 0..2 {
        optim.gradients(&mut bag, pass).unwrap();
        optim.backward_done(1, false);
    }
    assert_eq!(bag.0[0].1, start());
    let norm = (27.0f64 * 27.0 + 64.0 * 64.0).sqrt();
    for (found, w) in bag.0[0].2.iter().zip([3.0f64, 4.0]) {
        let there = 2.0 * (w + 0.5 * w.powi(3) / norm).powi(3);
        assert!((f64::from(*found) - there).abs() < 1e-5 * there, "{found} is not {there}");
    }
    // A gradient that is not finite is nobody's direction: it is left to the clipping, and the weights are as they were.
    let mut bad = Bag(vec![("w".into(), start(), ArrayD::zeros(vec![2]))]);
    let mut passes = 0;
    let mut optim = OptimWrapper::new(Sgd::new(0.1)).sam(SamConfig::default());
    optim.bind(&bad).unwrap();
    let nan = |bag: &mut Bag| {
        passes += 1;
        bag.0[0].2.fill(Elem::NAN);
        Ok(())
    };
    optim.gradients(&mut bad, nan).unwrap();
    assert!(passes == 1 && bad.0[0].1 == start() && bad.0[0].2.iter().all(|g| g.is_nan()));
}

/// PyTorch documents that biases and embeddings need another optimizer.
#[test]
fn muon_refuses_what_is_no_matrix_before_the_first_step() {
    let bag = Bag(vec![("fc.bias".into(), ArrayD::zeros(vec![3]), ArrayD::zeros(vec![3]))]);
    let said = OptimWrapper::new(Muon::default()).bind(&bag).unwrap_err().to_string();
    assert!(said.contains("`fc.bias` has shape [3]") && said.contains("OptimWrapperDict"), "{said}");
}

/// LAMB cuts the gradients itself; one that is not finite leaves everything as it is.
#[test]
fn lamb_skips_a_gradient_that_is_not_finite() {
    let start = ArrayD::from_elem(vec![2], 1.0);
    let mut bag = Bag(vec![("w".into(), start.clone(), ArrayD::from_elem(vec![2], Elem::INFINITY))]);
    let mut optim = wrapper("{optimizer: {type: Lamb}}");
    let update = optim.update(&mut bag).unwrap();
    assert!(matches!(update, shanty::optim::Update::Skipped(norm) if !norm.is_finite()), "{update:?}");
    assert_eq!(bag.0[0].1, start);
}

/// `custom_keys` set switches and betas, and say what there is where a name is wrong.
#[test]
fn groups_have_switches_and_betas() {
    let bag = || {
        let one = |name: &str| (name.to_owned(), ArrayD::zeros(vec![2]), ArrayD::zeros(vec![2]));
        Bag(vec![one("bn.weight"), one("fc.weight")])
    };
    let bound = |text: &str| {
        let config = parse("optim.yaml", text).unwrap().read_checked::<OptimWrapperConfig>().unwrap();
        let mut optim = config.build(&mut BuildCx::new(0))?;
        optim.bind(&bag()).map(|_| optim.groups().iter().map(|group| group.describe()).collect::<Vec<_>>())
    };
    let lars = "optimizer: {type: LARS, lr: 0.1, weight_decay: 0.1}";
    let groups = bound(&format!(
        "{{{lars}, paramwise_cfg: {{custom_keys: {{bn: {{decay_mult: 0, lars_exclude: true}}}}}}}}"
    ));
    assert!(groups.unwrap()[0].ends_with(", lars_exclude"));
    let adam = "optimizer: {type: Adam, lr: 0.1}";
    let groups =
        bound(&format!("{{{adam}, paramwise_cfg: {{custom_keys: {{bn: {{betas: [0.5, 0.75]}}}}}}}}"));
    assert!(groups.unwrap()[0].contains("beta1 0.5, beta2 0.75"));
    for (keys, says) in [
        (
            "{bn: {lars_exclude: true}}",
            "Adam has no switch `lars_exclude` that a group may set. It has: amsgrad",
        ),
        ("{bn: {eps: [0.1, 0.2]}}", "`eps` of `bn` is one number, not a list"),
        ("{bn: {betas: [0.1, -0.2]}}", "`beta2` of `bn` must be 0 or more, not -0.2"),
    ] {
        let said = bound(&format!("{{{adam}, paramwise_cfg: {{custom_keys: {keys}}}}}"));
        assert!(said.as_ref().is_err_and(|e| e.to_string().contains(says)), "{keys}: {said:?}");
    }
}

/// Muon for the matrices and AdamW for what is left are what each of them does alone, and go through a checkpoint.
#[test]
fn several_optimizers_share_the_parameters() {
    let both = "
type: OptimWrapperDict
wrappers:
  conv: {modules: conv, optimizer: {type: SGD, lr: 0.1}, clip_grad: {max_norm: 0.1}}
  hidden: {ndim: 2, optimizer: {type: Muon, lr: 0.02}}
  rest: {modules: [], optimizer: {type: AdamW, lr: 0.01, weight_decay: 0.3}}
";
    let (given, _) = fixture();
    let grads = given["grads"].as_array().unwrap();
    let (mut bag, mut optim) = (Bag::of(&given["params"], None), wrapper(both));
    optim.bind(&bag).unwrap();
    assert_eq!(optim.name(), "conv: SGD, hidden: Muon, rest: AdamW");
    let groups: Vec<_> = optim.groups().iter().map(|group| group.name().to_owned()).collect();
    assert_eq!(groups, ["conv", "hidden", "rest"]);
    assert_eq!(optim.group_of("fc.weight").unwrap().name(), "hidden");
    let alone = [
        (
            json!(["conv.weight", "conv.bias"]),
            "{optimizer: {type: SGD, lr: 0.1}, clip_grad: {max_norm: 0.1}}",
        ),
        (json!(["fc.weight", "tall.weight"]), "{optimizer: {type: Muon, lr: 0.02}}"),
        (json!(["fc.bias"]), "{optimizer: {type: AdamW, lr: 0.01, weight_decay: 0.3}}"),
    ];
    let mut alone = alone.map(|(only, text)| (Bag::of(&given["params"], Some(&only)), wrapper(text)));
    for grads in &grads[..6] {
        bag.add_grads(grads, 1.0);
        optim.update(&mut bag).unwrap();
        optim = resumed(optim, both, &mut bag);
        for (bag, optim) in &mut alone {
            bag.add_grads(grads, 1.0);
            optim.update(bag).unwrap();
        }
    }
    for (name, value, _) in alone.iter().flat_map(|(bag, _)| &bag.0) {
        assert_eq!(&bag.0.iter().find(|(n, ..)| n == name).unwrap().1, value, "{name}");
    }
    for (wrappers, says) in [
        ("{conv: {optimizer: {type: SGD, lr: 0.1}}}", "no optimizer moves `fc."),
        (
            "{cnv: {optimizer: {type: Adam}}, rest: {modules: [], optimizer: {type: Adam}}}",
            "`cnv` moves no parameter",
        ),
    ] {
        let said =
            wrapper(&format!("{{type: OptimWrapperDict, wrappers: {wrappers}}}")).bind(&bag).unwrap_err();
        assert!(said.to_string().contains(says), "{said}");
    }
    for (text, says) in [
        ("{type: OptimWrapperDict}", "needs `wrappers`"),
        ("{}", "`optimizer` is missing"),
        (
            "{optimizer: {type: Adam}, wrappers: {a: {optimizer: {type: Adam}}}}",
            "belong to `type: OptimWrapperDict`",
        ),
        (
            "{type: OptimWrapperDict, clip_grad: {max_norm: 1}, wrappers: {a: {optimizer: {type: Adam}}}}",
            "`clip_grad` belongs to each of the `wrappers`",
        ),
    ] {
        let config = parse("optim.yaml", text).unwrap().read_checked::<OptimWrapperConfig>().unwrap();
        let said = config.build(&mut BuildCx::new(0)).err().unwrap().to_string();
        assert!(said.contains(says), "{text}: {said}");
    }
}

/// In its turn an optimizer alone limits and moves; gradients cannot be accumulated between turns.
#[test]
fn optimizers_take_turns() {
    let text = "{type: OptimWrapperDict, wrappers: {a: {optimizer: {type: SGD, lr: 1.0}}, b: {optimizer: {type: SGD, lr: 1.0}}}}";
    let one = |name: &str| (name.to_owned(), ArrayD::zeros(vec![1]), ArrayD::from_elem(vec![1], 1.0));
    let mut bag = Bag(vec![one("a.w"), one("b.w")]);
    let mut optim = wrapper(text);
    optim.bind(&bag).unwrap();
    optim.take_turn(Some("b")).unwrap();
    optim.update(&mut bag).unwrap();
    assert_eq!((bag.0[0].1[[0]], bag.0[1].1[[0]]), (0.0, -1.0));
    assert_eq!((bag.0[0].2[[0]], bag.0[1].2[[0]]), (0.0, 0.0), "the gradients of the others are dropped");
    let said = optim.take_turn(Some("c")).unwrap_err().to_string();
    assert!(said.contains("`c` in turn, and the optim_wrapper has a, b"), "{said}");
    assert!(wrapper(text).accumulate(2).take_turn(Some("a")).is_err());
}
