//! Models as people write them.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use ndarray::{ArrayD, Dimension};
use shanty::base::{Elem, Result};
use shanty::config::parse;
use shanty::data::Batch;
use shanty::model::{Model, Outputs, StepCx};
use shanty::params::{Info, Set, StateDict};
use shanty::registry::{BuildCx, Spec};

fn try_build(yaml: &str) -> Result<Box<dyn Model>> {
    let spec: Spec<dyn Model> = parse("c.yaml", yaml)?.read()?;
    spec.build(&mut BuildCx::new(0))
}

fn build(yaml: &str) -> Box<dyn Model> {
    try_build(yaml).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(yaml: &str) -> String {
    try_build(yaml).err().map(|e| e.to_string()).unwrap_or_else(|| panic!("{yaml} was not refused"))
}

/// Small images that differ from class to class.
fn batch(shape: &[usize]) -> Batch {
    let inputs = ArrayD::from_shape_fn(shape, |i| ((i[0] * 7 + i[1] * 3 + i[shape.len() - 1]) % 5) as Elem);
    Batch::new(inputs, (0..shape[0] as i64).map(|i| i % 3).collect())
}

fn train(model: &mut dyn Model, batch: &Batch) -> Outputs {
    model.train_step(batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap_or_else(|e| panic!("{e}"))
}

fn names(model: &dyn Model) -> Vec<String> {
    StateDict::of(model).unwrap().0.into_iter().map(|(name, _)| name).collect()
}

/// `lenet5_mnist` of MMPretrain, with the preprocessor where its runner puts it.
const LENET: &str = "
type: ImageClassifier
backbone: {type: LeNet5, num_classes: 10}
neck: null
head: {type: ClsHead, loss: {type: CrossEntropyLoss, loss_weight: 1.0}, topk: [1], cal_acc: false}
data_preprocessor: {type: ClsDataPreprocessor, mean: [33.46], std: [78.87], num_classes: 10}
";

#[test]
fn lenet5_of_the_reference_is_read_and_trains() {
    let mut model = build(LENET);
    assert_eq!(StateDict::of(&*model).unwrap().0.iter().map(|(_, t)| t.value.len()).sum::<usize>(), 61_706);
    let report = model.init_weights(0).unwrap();
    assert!(
        report[0].starts_with(
            "backbone.features.0.weight - [6, 1, 5, 5]: PyTorch's default: uniform within 1/sqrt(25)"
        ),
        "{report:?}"
    );
    let outputs = train(&mut *model, &batch(&[4, 1, 32, 32]));
    assert_eq!(outputs.vars.len(), 1);
    assert!((outputs.loss().unwrap() - 10f64.ln()).abs() < 0.3, "{outputs:?}");
}

#[test]
fn the_init_cfg_of_the_model_reaches_its_layers() {
    let yaml =
        format!("{LENET}init_cfg: [{{type: Kaiming, layer: Conv2d}}, {{type: Xavier, layer: Linear}}]");
    let report = build(&yaml).init_weights(0).unwrap();
    let by = |rule: &str| report.iter().filter(|line| line.contains(rule)).count();
    assert_eq!((by("KaimingInit"), by("XavierInit"), report.len()), (6, 4, 10));
}

#[test]
fn a_network_needs_no_rust() {
    let yaml = "
type: ImageClassifier
backbone:
  type: Sequential
  init_cfg: {type: Constant, val: 0.25, layer: Conv2d}
  layers:
    - {type: Conv2d, in_channels: 1, out_channels: 4, kernel_size: 3, init_cfg: {type: Constant, val: 0.5, layer: Conv2d}}
    - {type: BatchNorm2d, num_features: 4}
    - {type: ReLU}
    - {type: Conv2d, in_channels: 4, out_channels: 4, kernel_size: 3}
neck: {type: GlobalAveragePooling}
head: {type: LinearClsHead, num_classes: 3, in_channels: 4, cal_acc: true, topk: [1, 2]}
";
    let mut model = build(yaml);
    let report = model.init_weights(0).unwrap();
    assert_eq!(
        report[0],
        "backbone.0.weight - [4, 1, 3, 3]: ConstantInit: val=0.5, bias=0 (mean 0.5, std 0)"
    );
    assert_eq!(
        report[4],
        "backbone.3.weight - [4, 4, 3, 3]: ConstantInit: val=0.25, bias=0 (mean 0.25, std 0)"
    );
    assert!(
        report[6].starts_with("head.fc.weight - [3, 4]: NormalInit: mean=0, std=0.01, bias=0"),
        "{}",
        report[6]
    );
    let outputs = train(&mut *model, &batch(&[6, 1, 8, 8]));
    let logged: Vec<_> = outputs.vars.iter().map(|(name, _)| name.as_ref()).collect();
    assert_eq!(logged, ["loss", "accuracy_top-1", "accuracy_top-2"]);
    assert_eq!(
        names(&*model),
        [
            "backbone.0.weight",
            "backbone.0.bias",
            "backbone.1.weight",
            "backbone.1.bias",
            "backbone.1.running_mean",
            "backbone.1.running_var",
            "backbone.1.num_batches_tracked",
            "backbone.3.weight",
            "backbone.3.bias",
            "head.fc.weight",
            "head.fc.bias",
        ]
    );
    let scores = model.eval_step(&batch(&[6, 1, 8, 8])).unwrap().scores().cloned().unwrap();
    assert_eq!(scores.shape(), [6, 3]);
    assert!(scores.outer_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5), "probabilities");
}

#[test]
fn a_perceptron_is_one_line() {
    let mut model = build(
        "{type: ImageClassifier, backbone: {type: MLP, sizes: [12, 5, 3], activation: {type: Tanh}}, head: {type: ClsHead}}",
    );
    let all = [
        "backbone.layers.0.weight",
        "backbone.layers.0.bias",
        "backbone.layers.1.weight",
        "backbone.layers.1.bias",
    ];
    assert_eq!(names(&*model), all);
    model.init_weights(0).unwrap();
    for shape in [&[4, 12][..], &[4, 3, 2, 2]] {
        assert!(train(&mut *model, &batch(shape)).loss().unwrap().is_finite());
    }
}

/// The layers of 4 → 3 → 2 by hand: tanh between, nothing behind.
#[test]
fn a_perceptron_computes_what_it_says() {
    let mut model = build(
        "{type: ImageClassifier, backbone: {type: MLP, sizes: [2, 2, 2], activation: {type: Tanh}}, head: {type: ClsHead}}",
    );
    let by_place = &mut |p: &Info<'_>, mut value: ndarray::ArrayViewMutD<'_, Elem>| {
        let start: Elem = if p.name.contains("layers.0") { 0.5 } else { -0.25 };
        value.indexed_iter_mut().for_each(|(i, v)| *v = start + i.slice().iter().sum::<usize>() as Elem);
    };
    model.edit(Set::Values, &shanty::params::all, by_place).unwrap();
    let x = ndarray::array![[0.1, -0.3]].into_dyn();
    let scores = model.eval_step(&Batch::new(x, vec![0])).unwrap().scores().cloned().unwrap();
    let h = [(0.5 * 0.1 - 1.5 * 0.3 + 0.5f64).tanh(), (1.5 * 0.1 - 2.5 * 0.3 + 1.5f64).tanh()];
    let y = [-0.25 * h[0] + 0.75 * h[1] - 0.25, 0.75 * h[0] + 1.75 * h[1] + 0.75];
    let p0 = 1.0 / (1.0 + (y[1] - y[0]).exp());
    assert!((f64::from(scores[[0, 0]]) - p0).abs() < 1e-6, "{} for {p0}", scores[[0, 0]]);
}

#[test]
fn the_linear_head_begins_small_unless_told_otherwise() {
    let last = |init_cfg: &str| {
        let head = format!("{{type: LinearClsHead, num_classes: 10, in_channels: 200{init_cfg}}}");
        let mut model =
            build(&format!("{{type: ImageClassifier, backbone: {{type: Flatten}}, head: {head}}}"));
        let report = model.init_weights(0).unwrap();
        let mut largest: Elem = 0.0;
        let weight = |p: &Info<'_>| p.name == "head.fc.weight";
        let note = &mut |_: &Info<'_>, value: ndarray::ArrayViewD<'_, Elem>| {
            largest = value.iter().fold(0.0, |m, v| m.max(v.abs()));
        };
        model.read(Set::Values, &weight, note).unwrap();
        (report[0].clone(), largest)
    };
    let (line, largest) = last("");
    assert!(
        line.contains("NormalInit: mean=0, std=0.01, bias=0") && (0.02..0.06).contains(&largest),
        "{largest}"
    );
    let (line, largest) = last(", init_cfg: null");
    assert!(
        line.contains("PyTorch's default: uniform within 1/sqrt(200)") && (0.065..0.0708).contains(&largest),
        "{largest}"
    );
    let (line, largest) = last(", init_cfg: {type: Constant, val: 2, layer: Linear}");
    assert!(line.contains("ConstantInit: val=2, bias=0") && largest == 2.0);
}

#[test]
fn smoothing_and_mixed_targets_go_through_the_preprocessor() {
    let model = |extra: &str| {
        let preprocessor = format!("{{num_classes: 3{extra}}}");
        let mut model = build(&format!(
            "{{type: ImageClassifier, backbone: {{type: MLP, sizes: [4, 3]}}, head: {{type: ClsHead}}, data_preprocessor: {preprocessor}}}"
        ));
        model.init_weights(0).unwrap();
        model
    };
    let batch = batch(&[6, 4]);
    let (classes, onehot) = (train(&mut *model(""), &batch), train(&mut *model(", to_onehot: true"), &batch));
    assert!((classes.loss().unwrap() - onehot.loss().unwrap()).abs() < 1e-6);
}

#[test]
fn mistakes_are_refused_where_they_stand() {
    let cases = [
        ("backbone: {type: LeNet5, num_clases: 10}", "num_clases"),
        ("backbone: {type: LeNet}", "unknown module `LeNet`"),
        ("backbone: {type: MLP, sizes: [3]}", "sizes"),
        ("head: {type: LinearClsHead, num_classes: 0, in_channels: 3}", "num_classes"),
        ("head: {type: ClsHead, topk: 0}", "`topk` must be at least 1"),
        ("head: {type: ClsHead, loss: {type: CrossEntropy}}", "unknown loss `CrossEntropy`"),
        ("data_preprocessor: {mean: [1], st: [2]}", "st"),
        ("data_preprocessor: {mean: [1]}", "`mean` and `std` go together"),
        ("data_preprocessor: {type: ClsDataPreprocessor, to_onehot: true}", "needs `num_classes`"),
        (
            "data_preprocessor: {type: ImgDataPreprocessor, bgr_to_rgb: true, rgb_to_bgr: true}",
            "undo each other",
        ),
        ("train_cfg: {augments: [{type: Mixup}]}", "alpha"),
        ("init_cfg: {type: Kaiming, lyer: Conv2d}", "lyer"),
    ];
    for (line, expected) in cases {
        let key = line.split(':').next().unwrap();
        let rest: Vec<_> = ["type: ImageClassifier", "backbone: {type: LeNet5}", "head: {type: ClsHead}"]
            .into_iter()
            .filter(|other| !other.starts_with(key))
            .collect();
        let error = refused(&format!("{}\n{line}\n", rest.join("\n")));
        assert!(error.contains(expected) && error.contains("c.yaml:"), "{line}: {error}");
    }
    assert!(refused("{type: ImageClassifier, backbone: {type: LeNet5}}").contains("head"));
}

#[test]
fn an_accuracy_beyond_the_classes_is_an_error() {
    let mut model = build(
        "{type: ImageClassifier, backbone: {type: MLP, sizes: [4, 3]}, head: {type: ClsHead, cal_acc: true, topk: [1, 5]}}",
    );
    let error = model.train_step(&batch(&[6, 4]), &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap_err();
    assert_eq!(error.to_string(), "`topk` asks for the best 5 of 3 classes");
}

/// `Supervised` passed over what its preprocessor made of the labels: `to_onehot` and mixed targets were without
/// effect.
#[test]
fn targets_of_the_preprocessor_reach_every_loss() {
    let mut model = build(
        "{type: Supervised, network: [{type: Flatten}], loss: {type: MSELoss}, \
         data_preprocessor: {type: ClsDataPreprocessor, to_onehot: true, num_classes: 3}}",
    );
    let rows = ndarray::arr3(&[[[1.0], [0.0], [0.0]], [[0.0], [0.5], [1.0]]]).into_dyn();
    let batch = Batch::new(rows.insert_axis(ndarray::Axis(3)), vec![0, 2]);
    // The second row is a half away in one of six places.
    let outputs = model.eval_step(&batch).unwrap();
    assert_eq!(outputs.sample_losses.as_deref(), Some(&[0.0, 0.25 / 3.0][..]));
    let mixed = ndarray::arr2(&[[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]]);
    let outputs = model.eval_step(&batch.with("gt_score", mixed)).unwrap();
    assert_eq!(outputs.sample_losses.as_deref(), Some(&[0.0, 0.0][..]));
}
