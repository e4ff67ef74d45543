//! Parameter groups and schedules of any number, against the laws that MMEngine and MMPretrain document.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use ndarray::ArrayD;
use shanty::optim::schedule::Linear;
use shanty::optim::{Adam, OptimWrapper, OptimWrapperConfig, ParamwiseConfig, ScheduledParam, Sgd};
use shanty::plugin::prelude::*;

const LR: f64 = 0.01;
const DECAY: f64 = 0.001;

/// One tensor with a gradient of 1.
struct Entry {
    name: &'static str,
    layer: &'static str,
    value: ArrayD<Elem>,
    grad: ArrayD<Elem>,
    frozen: bool,
}

struct Bag(Vec<Entry>);

impl HostParams for Bag {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        for Entry { name, layer, value, grad, frozen } in &self.0 {
            let role = if name.ends_with("bias") { Role::Bias } else { Role::Weight };
            let grad = (!frozen).then(|| grad.view());
            f(ParamRef { name, layer, role, frozen: *frozen, value: value.view(), grad });
        }
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for Entry { name, layer, value, grad, frozen } in &mut self.0 {
            let role = if name.ends_with("bias") { Role::Bias } else { Role::Weight };
            let grad = (!*frozen).then(|| grad.view_mut());
            f(ParamMut { name, layer, role, frozen: *frozen, value: value.view_mut(), grad });
        }
    }
}

fn bag(tensors: &[(&'static str, &'static str, &[usize])]) -> Bag {
    let entry = |(name, layer, shape): &(&'static str, &'static str, &[usize])| Entry {
        name,
        layer,
        value: ArrayD::from_elem(*shape, 1.0),
        grad: ArrayD::from_elem(*shape, 1.0),
        frozen: false,
    };
    Bag(tensors.iter().map(entry).collect())
}

/// The `ExampleModel` of MMEngine's tests of its constructor: `sub.conv1` is depth-wise.
fn example() -> Bag {
    bag(&[
        ("param1", "ExampleModel", &[1]),
        ("conv1.weight", "Conv2d", &[4, 3, 1, 1]),
        ("conv2.weight", "Conv2d", &[2, 4, 1, 1]),
        ("conv2.bias", "Conv2d", &[2]),
        ("bn.weight", "BatchNorm2d", &[2]),
        ("bn.bias", "BatchNorm2d", &[2]),
        ("sub.param1", "SubModel", &[1]),
        ("sub.conv1.weight", "Conv2d", &[2, 1, 1, 1]),
        ("sub.conv1.bias", "Conv2d", &[2]),
        ("sub.gn.weight", "GroupNorm", &[2]),
        ("sub.gn.bias", "GroupNorm", &[2]),
    ])
}

fn config(yaml: &str) -> OptimWrapperConfig {
    let text =
        format!("{{optimizer: {{type: SGD, lr: {LR}, momentum: 0.9, weight_decay: {DECAY}}}, {yaml}}}");
    shanty::config::parse("optim.yaml", &text).unwrap().read_checked().unwrap()
}

fn bound(yaml: &str, model: &dyn Params) -> Result<OptimWrapper> {
    let mut optim = config(yaml).build(&mut BuildCx::new(0))?;
    optim.bind(model)?;
    Ok(optim)
}

/// Each parameter with its multiples of learning rate and weight decay.
#[track_caller]
fn expect(optim: &OptimWrapper, wanted: &[(&str, f64, f64)]) {
    for (name, lr, decay) in wanted {
        let group = optim.group_of(name).unwrap();
        assert!((group.lr() - lr * LR).abs() < 1e-15, "{name}: lr {}", group.lr());
        let own = group.get("weight_decay").unwrap();
        assert!((own - decay * DECAY).abs() < 1e-15, "{name}: weight_decay {own}");
    }
}

#[test]
fn multipliers_follow_mmengine() {
    let rules = "paramwise_cfg: {bias_lr_mult: 2, bias_decay_mult: 0.5, norm_decay_mult: 0, dwconv_decay_mult: 0.1, \
                 flat_decay_mult: 0.3}";
    let optim = bound(rules, &example()).unwrap();
    expect(
        &optim,
        &[
            ("param1", 1.0, 0.3),
            ("conv1.weight", 1.0, 1.0),
            ("conv2.weight", 1.0, 1.0),
            ("conv2.bias", 2.0, 0.5),
            ("bn.weight", 1.0, 0.0),
            ("bn.bias", 1.0, 0.0),
            ("sub.param1", 1.0, 0.3),
            ("sub.conv1.weight", 1.0, 0.1),
            ("sub.conv1.bias", 2.0, 0.5),
            ("sub.gn.weight", 1.0, 0.0),
            ("sub.gn.bias", 1.0, 0.0),
        ],
    );
    let names: Vec<_> = optim.groups().iter().map(|group| group.name().to_owned()).collect();
    assert_eq!(names, ["flat", "default", "bias", "norm", "dwconv"]);
}

/// A rule that is not given lets the next one decide: with `bias_decay_mult` alone the biases of norms follow it, with
/// `dwconv_decay_mult` alone a depth-wise bias, with `flat_decay_mult` alone everything of one axis.
#[test]
fn rules_that_are_not_given_fall_through() {
    let (bias, flat, both) = (("bn.bias", 1.0, 0.5), ("bn.weight", 1.0, 0.3), ("sub.conv1.bias", 1.0, 0.1));
    expect(
        &bound("paramwise_cfg: {bias_decay_mult: 0.5}", &example()).unwrap(),
        &[bias, ("bn.weight", 1.0, 1.0)],
    );
    expect(
        &bound("paramwise_cfg: {flat_decay_mult: 0.3}", &example()).unwrap(),
        &[flat, ("conv2.bias", 1.0, 0.3)],
    );
    expect(
        &bound("paramwise_cfg: {dwconv_decay_mult: 0.1}", &example()).unwrap(),
        &[both, ("bn.bias", 1.0, 1.0)],
    );
    // The learning rate of biases leaves those of norms alone.
    let optim = bound("paramwise_cfg: {bias_lr_mult: 2}", &example()).unwrap();
    expect(&optim, &[("bn.bias", 1.0, 1.0), ("sub.gn.bias", 1.0, 1.0), ("conv2.bias", 2.0, 1.0)]);
}

/// MMEngine's second case: the longest key decides, and alone.
#[test]
fn the_longest_key_decides() {
    let rules = "paramwise_cfg: {norm_decay_mult: 0.5, custom_keys: {param1: {lr_mult: 10}, \
                 sub: {lr_mult: 0.1, decay_mult: 0}, sub.gn: {lr_mult: 0.01}}}";
    let optim = bound(rules, &example()).unwrap();
    expect(
        &optim,
        &[
            ("param1", 10.0, 1.0),
            ("conv2.bias", 1.0, 1.0),
            ("bn.bias", 1.0, 0.5),
            ("sub.param1", 10.0, 1.0),
            ("sub.conv1.weight", 0.1, 0.0),
            ("sub.conv1.bias", 0.1, 0.0),
            ("sub.gn.weight", 0.01, 1.0),
            ("sub.gn.bias", 0.01, 1.0),
        ],
    );
    // Equally long: the first in the alphabet. A parameter of the model itself has a dot before its name.
    let rules = "paramwise_cfg: {custom_keys: {conv1: {lr_mult: 3}, conv2: {lr_mult: 5}, bconv: {lr_mult: 7}, \
                 .param1: {lr_mult: 11}}}";
    let odd = bag(&[("conv2.bconv.conv1", "X", &[2, 2]), ("param1", "X", &[2])]);
    expect(&bound(rules, &odd).unwrap(), &[("conv2.bconv.conv1", 7.0, 1.0), ("param1", 11.0, 1.0)]);
}

/// A dot too many at the front, as a config of MMPretrain's has it: MMEngine finds no parameter and says nothing.
#[test]
fn a_key_with_a_dot_too_many_is_told() {
    let rules = "paramwise_cfg: {custom_keys: {.sub.conv1: {lr_mult: 10}}}";
    let mut optim = bound(rules, &example()).unwrap();
    expect(&optim, &[("sub.conv1.weight", 1.0, 1.0)]);
    let told = optim.bind(&example()).unwrap();
    assert!(told.iter().any(|text| text.contains("`sub.conv1` is what is meant")), "{told:?}");
    let error = bound(&rules.replace("conv1", "conv9"), &example()).err().unwrap().to_string();
    assert!(error.contains("`.sub.conv9` of `custom_keys` is part of no parameter's name"), "{error}");
}

/// A number of the optimizer in a key is meant as it stands.
#[test]
fn a_key_sets_any_number_of_the_optimizer() {
    let rules = "paramwise_cfg: {custom_keys: {bn: {lr: 0.5, momentum: 0.25, lr_mult: 3}}}";
    let optim = bound(rules, &example()).unwrap();
    let group = optim.group_of("bn.weight").unwrap();
    assert_eq!((group.lr(), group.get("momentum"), group.name()), (0.5, Some(0.25), "bn"));
    let error = bound("paramwise_cfg: {custom_keys: {bn: {momentun: 0.5}}}", &example()).err().unwrap();
    assert!(error.to_string().contains("SGD has no number `momentun`; did you mean `momentum`?"), "{error}");
}

#[test]
fn a_rule_without_effect_is_an_error() {
    for (rules, says) in [
        (
            "custom_keys: {sub.bn: {lr_mult: 2}}",
            "`sub.bn` of `custom_keys` is part of no parameter's name; did you mean `sub.gn`?",
        ),
        ("custom_keys: {'': {lr_mult: 2}}", "an empty key"),
        ("custom_keys: {bn: {lr_mult: -1}}", "must be 0 or more"),
        ("layer_decay_rate: 0.5", "needs `constructor: LearningRateDecayOptimWrapperConstructor`"),
    ] {
        let error = bound(&format!("paramwise_cfg: {{{rules}}}"), &example()).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
    let by_layer = "constructor: LearningRateDecayOptimWrapperConstructor";
    for (rules, says) in [
        ("layer_decay_rate: 0.5", "which is known of a VisionTransformer only"),
        ("bias_lr_mult: 2", "`bias_lr_mult` does nothing"),
        ("custom_keys: {bn: {lr_mult: 2}}", "the layer decides the learning rate"),
    ] {
        let error = bound(&format!("{by_layer}, paramwise_cfg: {{{rules}}}"), &example()).err().unwrap();
        assert!(error.to_string().contains(says), "{error}");
    }
    let text = "{optimizer: {type: SGD, lr: 0.1}, paramwise_cfg: {norm_decay_mult: 0}}";
    let config: OptimWrapperConfig =
        shanty::config::parse("optim.yaml", text).unwrap().read_checked().unwrap();
    let error = config.build(&mut BuildCx::new(0)).err().unwrap().to_string();
    assert!(error.contains("`norm_decay_mult` multiplies the optimizer's `weight_decay`"), "{error}");
}

/// Frozen parameters are in no group; a tensor under two names is refused, or trained once.
#[test]
fn frozen_and_shared_parameters() {
    let mut model = example();
    model.0[1].frozen = true;
    let optim = bound("paramwise_cfg: {norm_decay_mult: 0}", &model).unwrap();
    assert!(optim.group_of("conv1.weight").is_none() && optim.group_of("conv2.weight").is_some());

    struct Twice(Bag);
    impl HostParams for Twice {
        fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
            self.0.visit(f);
            self.0.visit(&mut |p| f(ParamRef { name: &format!("again.{}", p.name), ..p }));
        }
        fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
            self.0.visit_mut(f);
            self.0.visit_mut(&mut |p| f(ParamMut { name: &format!("again.{}", p.name), ..p }));
        }
    }
    let mut twice = Twice(bag(&[("fc.weight", "Linear", &[2])]));
    let error = bound("accumulative_counts: 1", &twice).err().unwrap().to_string();
    assert!(error.contains("`fc.weight` and `again.fc.weight` are one tensor"), "{error}");
    let rules = "clip_grad: {max_norm: 100}, accumulative_counts: 2, paramwise_cfg: {bypass_duplicate: true}";
    let mut optim = config(rules).build(&mut BuildCx::new(0)).unwrap();
    assert!(optim.bind(&twice).unwrap()[0].contains("`again.fc.weight` is `fc.weight`"));
    // The sum of two samples is halved once, counted once and taken once: 1 - lr (0.5 + wd).
    optim.backward_done(1, false);
    optim.backward_done(1, false);
    optim.finish_window(&mut twice).unwrap();
    let shanty::optim::Update::Stepped(Some(norm)) = optim.update(&mut twice).unwrap() else { panic!() };
    assert!((norm - 0.5f64.sqrt()).abs() < 1e-6, "{norm}");
    let end = f64::from(twice.0.0[0].value[[0]]);
    assert!((end - (1.0 - LR * (0.5 + DECAY))).abs() < 1e-6, "{end}");
}

/// MMPretrain's `get_layer_depth` of a transformer with two blocks: rate³ for the embeddings, rate² and rate for the
/// blocks, 1 for what is behind them and for the head.
#[test]
fn learning_rates_fall_by_layer() {
    let model = bag(&[
        ("backbone.cls_token", "VisionTransformer", &[1, 1, 4]),
        ("backbone.pos_embed", "VisionTransformer", &[1, 5, 4]),
        ("backbone.patch_embed.projection.weight", "Conv2d", &[4, 3, 2, 2]),
        ("backbone.layers.0.ln1.weight", "LayerNorm", &[4]),
        ("backbone.layers.0.attn.qkv.weight", "Linear", &[12, 4]),
        ("backbone.layers.1.attn.qkv.bias", "Linear", &[12]),
        ("backbone.ln1.bias", "LayerNorm", &[4]),
        ("head.fc.weight", "Linear", &[2, 4]),
    ]);
    let rules = "constructor: LearningRateDecayOptimWrapperConstructor, paramwise_cfg: {layer_decay_rate: 0.5, \
                 norm_decay_mult: 0, bias_decay_mult: 0.25, custom_keys: {.cls_token: {decay_mult: 0.0}}}";
    let optim = bound(rules, &model).unwrap();
    expect(
        &optim,
        &[
            ("backbone.cls_token", 0.125, 0.0),
            ("backbone.pos_embed", 0.125, 1.0),
            ("backbone.patch_embed.projection.weight", 0.125, 1.0),
            ("backbone.layers.0.ln1.weight", 0.25, 0.0),
            ("backbone.layers.0.attn.qkv.weight", 0.25, 1.0),
            ("backbone.layers.1.attn.qkv.bias", 0.5, 0.25),
            ("backbone.ln1.bias", 1.0, 0.0),
            ("head.fc.weight", 1.0, 1.0),
        ],
    );
    assert_eq!(optim.group_of("backbone.layers.0.ln1.weight").unwrap().name(), "layer_1 norm");
}

/// The linear scaling rule multiplies each group once, bound before or after.
#[test]
fn scaling_reaches_every_group() {
    for bind_first in [true, false] {
        let model = example();
        let mut optim = OptimWrapper::new(Sgd::new(LR).weight_decay(DECAY))
            .paramwise(ParamwiseConfig { bias_lr_mult: Some(2.0), ..ParamwiseConfig::default() });
        if bind_first {
            optim.bind(&model).unwrap();
        }
        optim.scale_lr(4.0).unwrap();
        optim.bind(&model).unwrap();
        expect(&optim, &[("conv1.weight", 4.0, 1.0), ("conv2.bias", 8.0, 1.0)]);
        assert_eq!(optim.base().lr(), 4.0 * LR);
    }
}

/// One plain step on a gradient of 1 moves each weight by its own learning rate.
#[test]
fn each_group_steps_with_its_own_numbers() {
    let mut model = bag(&[("a.weight", "Linear", &[2, 2]), ("b.weight", "Linear", &[2, 2])]);
    let rules = "paramwise_cfg: {custom_keys: {b: {lr_mult: 10, decay_mult: 0, momentum: 0}}}";
    let mut optim = bound(rules, &model).unwrap();
    optim.update(&mut model).unwrap();
    for (entry, wanted) in model.0.iter().zip([1.0 - LR * (1.0 + DECAY), 1.0 - 10.0 * LR]) {
        assert!((f64::from(entry.value[[0, 0]]) - wanted).abs() < 1e-6, "{}", entry.value);
    }
    let saved = optim.save_state(&model).unwrap();
    let slots: Vec<_> = saved.tensors.keys().map(String::as_str).collect();
    assert_eq!(slots, ["momentum.a.weight"], "what has no momentum keeps none");
}

fn schedule(yaml: &str) -> Result<ScheduledParam> {
    let spec = shanty::registry::Spec::<dyn shanty::optim::Schedule>::parse(yaml)?;
    let totals = shanty::optim::Totals { max_epochs: 10, max_iters: 100, epoch_len: 10 };
    ScheduledParam::from_options(spec.build(&mut BuildCx::new(0))?, spec.name(), &spec.extra, false, totals)
}

/// A schedule moves its number, in its group, from the group's own base; all else stays.
#[test]
fn a_schedule_moves_any_number_of_one_group() {
    let model = example();
    let mut optim = config("paramwise_cfg: {bias_decay_mult: 0.5, bias_lr_mult: 2}")
        .build(&mut BuildCx::new(0))
        .unwrap()
        .schedule(schedule("{type: LinearParamScheduler, param_name: weight_decay, start_factor: 0.0, end: 3, group: bias}").unwrap())
        .schedule(schedule("{type: LinearMomentum, start_factor: 0.5, end: 3}").unwrap())
        .schedule(schedule("{type: MultiStepLR, milestones: [1]}").unwrap());
    optim.bind(&model).unwrap();
    optim.set_progress(0, 1);
    let of = |name: &str, number: &str| optim.group_of(name).unwrap().get(number).unwrap();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    near(of("conv2.bias", "weight_decay"), 0.5 * DECAY * 0.5);
    near(of("conv2.weight", "weight_decay"), DECAY);
    near(of("conv2.weight", "momentum"), 0.9 * 0.75);
    near(of("conv2.weight", "lr"), 0.1 * LR);
    near(of("conv2.bias", "lr"), 0.2 * LR);
    near(optim.base().lr(), 0.1 * LR);
    near(optim.base().get("weight_decay").unwrap(), DECAY);
}

/// MMEngine's momentum of an optimizer with betas is the first of them.
#[test]
fn momentum_is_beta1_where_there_are_betas() {
    let momentum =
        ScheduledParam::new(Linear { start_factor: 0.5, end_factor: 1.0 }, 0, 3, false).number("momentum");
    let mut optim = OptimWrapper::new(Adam::new(0.1).betas(0.8, 0.9)).schedule(momentum);
    optim.set_progress(0, 0);
    assert_eq!((optim.groups()[0].get("beta1"), optim.groups()[0].get("beta2")), (Some(0.4), Some(0.9)));
}

#[test]
fn a_schedule_that_moves_nothing_is_an_error() {
    for (yaml, says) in [
        ("{type: LinearParamScheduler}", "`param_name` is missing"),
        ("{type: LinearLR, param_name: eps}", "write `type: LinearParamScheduler` to move eps"),
        ("{type: CosineAnnealingMomentum, param_name: lr}", "moves momentum"),
    ] {
        let error = schedule(yaml).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
    for (yaml, says) in [
        (
            "{type: StepParamScheduler, step_size: 1, param_name: weight_decai}",
            "did you mean `weight_decay`?",
        ),
        ("{type: LinearParamScheduler, param_name: eps}", "SGD has no number `eps`"),
        ("{type: LinearLR, group: biass}", "the group `biass`, which there is not; did you mean `bias`?"),
    ] {
        let optim = config("paramwise_cfg: {bias_decay_mult: 0.5}").build(&mut BuildCx::new(0)).unwrap();
        let error = optim.schedule(schedule(yaml).unwrap()).bind(&example()).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Numbers that do not fit together are found in Rust too.
#[test]
fn an_optimizer_is_checked_when_it_meets_its_model() {
    let mut optim = OptimWrapper::new(Sgd::new(0.1).nesterov(true));
    let error = optim.update(&mut example()).unwrap_err().to_string();
    assert!(error.contains("`nesterov: true` needs a momentum"), "{error}");
}
