//! Every loss, built from its config, against PyTorch's values and gradients at random shapes and at scores of ±1e4
//! (`fixtures/losses.json`, the script is beside it), and what it says of bad targets.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;
use serde_json::{Map, Value};
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::config::Node;
use shanty::module;
use shanty::nn::{Autograd, Loss, Param, Target};
use shanty::registry::{BuildCx, Spec, entries};

/// Allowed error, relative to the largest number of the tensor; the file has ten digits.
const TOLERANCE: f64 = if size_of::<Elem>() == 8 { 1e-9 } else { 1e-5 };

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    fn values(&self) -> ArrayD<Elem> {
        let data = self.data.iter().map(|v| *v as Elem).collect();
        ArrayD::from_shape_vec(IxDyn(&self.shape), data).unwrap()
    }
}

#[derive(Deserialize)]
struct Case {
    loss: String,
    config: Map<String, Value>,
    x: Array,
    target: Array,
    classes: bool,
    lengths: Option<Vec<i64>>,
    output: Array,
    grad: Vec<f64>,
}

struct Scores {
    x: Param,
}
module!(Scores { x });

fn build(name: &str, config: &Map<String, Value>) -> Result<Box<dyn Loss>> {
    let mut config = config.clone();
    config.insert("type".into(), name.into());
    Spec::<dyn Loss>::from_node(&Node::of(name, &config)?)?.build(&mut BuildCx::new(0))
}

/// The loss of these scores and their gradient, where `dy` is that of the loss.
fn run(
    loss: &dyn Loss,
    x: ArrayD<Elem>,
    target: Target<'_>,
    lengths: Option<&[i64]>,
    dy: impl Fn(usize) -> Elem,
) -> Result<(Tensor, ArrayD<Elem>)> {
    let mut scores = Scores { x: Param::new(x) };
    let value =
        Autograd::default().train(&mut scores, &mut keyed(0, "losses", 0, 0), |scores, tape, _| {
            let x = tape.param(&scores.x);
            let found = match lengths {
                Some(lengths) => loss.forward_lengths(x, target, lengths)?,
                None => loss.forward(x, target)?,
            };
            let value = found.loss.value();
            let pattern = (0..value.len()).map(|i| if value.ndim() == 0 { 0.75 } else { dy(i) }).collect();
            let pattern = Tensor::from_shape_vec(value.raw_dim(), pattern).unwrap();
            Ok(((found.loss * tape.input(pattern)).sum(), value))
        })?;
    Ok((value, scores.x.grad.unwrap()))
}

/// The largest error, relative to the largest number.
fn error<'a>(found: impl IntoIterator<Item = &'a Elem>, wanted: &[f64]) -> f64 {
    let scale = wanted.iter().fold(f64::MIN_POSITIVE, |most, v| most.max(v.abs()));
    let each = found.into_iter().zip(wanted).map(|(found, wanted)| (f64::from(*found) - wanted).abs());
    // `max` would drop a NaN.
    each.fold(0.0, |most: f64, error| if error > most || error.is_nan() { error } else { most }) / scale
}

impl Case {
    /// The errors of the value and of the gradient; or what is wrong.
    fn check(&self) -> std::result::Result<(f64, f64), String> {
        let what = format!("{} {:?} of {:?}", self.loss, self.config, self.x.shape);
        let (dense, classes) =
            (self.target.values(), self.target.data.iter().map(|v| *v as i64).collect::<Vec<_>>());
        let target = if self.classes { Target::Classes(&classes) } else { Target::Dense(&dense) };
        let dy = |i: usize| ((7 * i % 5) as Elem - 2.0) / 4.0;
        let (value, grad) = build(&self.loss, &self.config)
            .and_then(|loss| run(&*loss, self.x.values(), target, self.lengths.as_deref(), dy))
            .map_err(|error| format!("{what}: {error}"))?;
        let errors = (error(&value, &self.output.data), error(&grad, &self.grad));
        match value.shape() == self.output.shape && errors.0 <= TOLERANCE && errors.1 <= TOLERANCE {
            true => Ok(errors),
            false => Err(format!("{what}: errors {errors:?}: {value}, PyTorch has {:?}", self.output.data)),
        }
    }
}

/// PyTorch has a value and a gradient for each of these; none of them may be infinite or NaN here.
#[test]
fn every_loss_equals_pytorch_at_random_shapes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/losses.json");
    let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut worst: BTreeMap<&str, (usize, f64, f64)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let own = worst.entry(&case.loss).or_default();
        match case.check() {
            Ok((forward, backward)) => *own = (own.0 + 1, own.1.max(forward), own.2.max(backward)),
            Err(what) => wrong.push(what),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    for (loss, (n, forward, backward)) in &worst {
        println!("{loss:26} {n} shapes, worst error {forward:.1e} forward, {backward:.1e} backward");
        assert!(*n >= 22, "{loss}");
    }
    let registered: Vec<_> = entries("loss").map(|entry| entry.name).collect();
    assert_eq!(worst.keys().copied().collect::<Vec<_>>(), registered, "a loss without PyTorch's values");
}

/// What a loss of this config says of these targets.
fn refusal(config: &str, shape: &[usize], target: Target<'_>) -> String {
    let spec = Spec::<dyn Loss>::parse(config).unwrap();
    let loss = match spec.build(&mut BuildCx::new(0)) {
        Ok(loss) => loss,
        Err(error) => return error.to_string(),
    };
    let x = ArrayD::from_elem(shape, 0.5);
    run(&*loss, x, target, None, |_| 1.0).err().map_or_else(String::new, |error| error.to_string())
}

/// A target that means nothing to a loss is refused by the loss's name: a class out of range, a yes or no that is none,
/// probabilities that are none, too few values, classes where numbers belong and the other way round.
#[test]
fn bad_targets_are_refused_by_name() {
    let numbers = ArrayD::from_elem(vec![2, 3], 1.5);
    let negative = ArrayD::from_elem(vec![2, 3], -0.5);
    let (dense, below) = (Target::Dense(&numbers), Target::Dense(&negative));
    let few = Target::Classes(&[0]);
    for (config, shape, target, texts) in [
        ("{type: NLLLoss}", &[2, 3][..], Target::Classes(&[0, 3]), ["`NLLLoss`", "target 3 of sample 1"]),
        ("{type: NLLLoss}", &[2, 3], few, ["`NLLLoss`", "1 targets where 2 belong"]),
        ("{type: NLLLoss}", &[2, 3], dense, ["`NLLLoss`", "classes"]),
        ("{type: NLLLoss, weight: [1, 2]}", &[2, 3], Target::Classes(&[0, 1]), ["`weight`", "2 numbers"]),
        ("{type: MultiMarginLoss}", &[2, 3], Target::Classes(&[0, -1]), ["`MultiMarginLoss`", "target -1"]),
        ("{type: MultiMarginLoss}", &[2, 3, 2], Target::Classes(&[0, 1]), ["`MultiMarginLoss`", "[N, K]"]),
        (
            "{type: MultiLabelMarginLoss}",
            &[1, 3],
            Target::Classes(&[0, 5, -1]),
            ["`MultiLabelMarginLoss`", "target 5 of sample 0"],
        ),
        ("{type: MultiLabelSoftMarginLoss}", &[2, 3], dense, ["`MultiLabelSoftMarginLoss`", "0 to 1"]),
        (
            "{type: HingeLoss}",
            &[2, 1],
            Target::Classes(&[1, 2]),
            ["`HingeLoss`", "value 1 of the target is 2"],
        ),
        ("{type: HingeEmbeddingLoss}", &[2, 3], dense, ["`HingeEmbeddingLoss`", "-1 or 0 for no"]),
        ("{type: SoftMarginLoss}", &[2, 3], dense, ["`SoftMarginLoss`", "is 1.5"]),
        (
            "{type: CosineEmbeddingLoss}",
            &[2, 2, 4],
            Target::Classes(&[1, 7]),
            ["`CosineEmbeddingLoss`", "is 7"],
        ),
        (
            "{type: CosineEmbeddingLoss}",
            &[2, 3],
            Target::Classes(&[1, 1]),
            ["`CosineEmbeddingLoss`", "pairs"],
        ),
        ("{type: TripletMarginLoss}", &[2, 3], dense, ["`TripletMarginLoss`", "classes"]),
        ("{type: TripletMarginLoss}", &[2], few, ["`TripletMarginLoss`", "[N, 3, D]"]),
        ("{type: KLDivLoss}", &[2, 3], below, ["`KLDivLoss`", "`log_target: true`"]),
        ("{type: KLDivLoss}", &[2, 3], Target::Classes(&[1; 6]), ["`KLDivLoss`", "numbers"]),
        ("{type: HuberLoss}", &[2, 1], Target::Classes(&[1, 2]), ["`HuberLoss`", "numbers"]),
        ("{type: BCEWithLogitsLoss}", &[2, 1], Target::Classes(&[1, 2]), ["`BCEWithLogitsLoss`", "0 to 1"]),
        ("{type: BCELoss}", &[2, 3], below, ["`BCELoss`", "0 to 1"]),
        ("{type: FocalLoss}", &[2, 3], Target::Classes(&[0, 3]), ["`FocalLoss`", "target 3 of sample 1"]),
        ("{type: FocalLoss}", &[2, 3], dense, ["`FocalLoss`", "0 to 1"]),
        ("{type: SoftmaxFocalLoss}", &[2, 3], Target::Classes(&[0, 3]), ["`SoftmaxFocalLoss`", "target 3"]),
        ("{type: DiceLoss}", &[1, 2, 2], Target::Classes(&[0, 2]), ["`DiceLoss`", "target 2"]),
        ("{type: DiceLoss, use_sigmoid: false}", &[1, 1, 2], few, ["`DiceLoss`", "always 1"]),
        ("{type: DiceLoss}", &[1, 2, 2], few, ["`DiceLoss`", "1 targets where 2 belong"]),
        ("{type: LabelSmoothLoss, label_smooth_val: 0.1}", &[2, 3], few, ["1 targets", "2 rows"]),
        (
            "{type: LabelSmoothLoss, label_smooth_val: 0.1, num_classes: 4}",
            &[2, 3],
            Target::Classes(&[0, 1]),
            ["`LabelSmoothLoss`", "`num_classes` is 4"],
        ),
        (
            "{type: LabelSmoothLoss, label_smooth_val: 0.1, mode: multi_label, use_sigmoid: false}",
            &[2, 3],
            Target::Classes(&[0, 1]),
            ["multi_label", "`use_sigmoid`"],
        ),
        ("{type: CTCLoss, blank: 3}", &[1, 2, 3], Target::Classes(&[1]), ["`CTCLoss`", "`blank` is 3"]),
        ("{type: CTCLoss}", &[1, 2, 3], Target::Classes(&[3]), ["`CTCLoss`", "target 3 of sample 0"]),
        ("{type: CTCLoss}", &[1, 4, 3], Target::Classes(&[1, -1, 2]), ["`CTCLoss`", "label 2 of sample 0"]),
        ("{type: CTCLoss}", &[2, 3], Target::Classes(&[1, 1]), ["`CTCLoss`", "[N, T, C]"]),
    ] {
        let found = refusal(config, shape, target);
        assert!(
            texts.iter().all(|text| found.contains(text)),
            "{config} of {shape:?}, {target:?}: {found:?}"
        );
    }
    let probabilities = refusal("{type: BCELoss}", &[1, 1], Target::Classes(&[1]));
    assert_eq!(probabilities, "", "0.5 is a probability");
}

/// A score of a BCELoss that is no probability is refused; one that is no number makes a loss that is none, in all.
#[test]
fn scores_that_are_no_numbers_make_losses_that_are_none() {
    let bce = build("BCELoss", &Map::new()).unwrap();
    let error = run(&*bce, ArrayD::from_elem(vec![1, 1], 1.5), Target::Classes(&[1]), None, |_| 1.0);
    assert!(error.err().unwrap().to_string().contains("BCEWithLogitsLoss"));
    let values = ArrayD::from_elem(vec![2, 2], 1.0);
    for entry in entries("loss") {
        let mut config = Map::new();
        if entry.name == "LabelSmoothLoss" {
            config.insert("label_smooth_val".into(), 0.1.into());
        }
        let (shape, target): (&[usize], _) = match entry.name {
            "CTCLoss" => (&[2, 1, 2], Target::Classes(&[1, 1])),
            "CosineEmbeddingLoss" => (&[2, 2], Target::Classes(&[1, -1])),
            "TripletMarginLoss" => (&[2, 3, 2], Target::Classes(&[1, 1])),
            "MultiLabelMarginLoss" => (&[2, 2], Target::Classes(&[0, -1, 1, -1])),
            "CrossEntropyLoss" | "NLLLoss" | "MultiMarginLoss" | "SoftmaxFocalLoss" => {
                (&[2, 2], Target::Classes(&[0, 1]))
            }
            _ => (&[2, 2], Target::Dense(&values)),
        };
        let loss = build(entry.name, &config).unwrap();
        let x = ArrayD::from_elem(shape, Elem::NAN);
        let (value, _) = run(&*loss, x, target, None, |_| 1.0).unwrap();
        assert!(value.iter().all(|v| v.is_nan()), "{}: {value}", entry.name);
    }
}

/// A mean over nothing is 0 and asks for nothing, where PyTorch has NaN: every sample ignored, a batch without a triplet.
#[test]
fn a_mean_over_nothing_is_zero() {
    for (config, shape, target) in [
        ("{type: NLLLoss}", &[2, 3][..], Target::Classes(&[-100, -100])),
        ("{type: SoftmaxFocalLoss, ignore_index: 7}", &[2, 3], Target::Classes(&[7, 7])),
        ("{type: CrossEntropyLoss}", &[2, 3], Target::Classes(&[-100, -100])),
        ("{type: TripletMarginLoss}", &[2, 3], Target::Classes(&[1, 1])),
        ("{type: CTCLoss, zero_infinity: true}", &[1, 1, 3], Target::Classes(&[1, 2])),
    ] {
        let loss = Spec::<dyn Loss>::parse(config).unwrap().build(&mut BuildCx::new(0)).unwrap();
        let (value, grad) = run(&*loss, ArrayD::from_elem(shape, 0.5), target, None, |_| 1.0).unwrap();
        assert_eq!(value.first(), Some(&0.0), "{config}");
        assert!(grad.iter().all(|g| *g == 0.0), "{config}: {grad}");
    }
    let short = build("CTCLoss", &Map::new()).unwrap();
    let x = || ArrayD::from_elem(vec![1, 1, 3], 0.5);
    let (value, _) = run(&*short, x(), Target::Classes(&[1, 2]), None, |_| 1.0).unwrap();
    assert_eq!(value.first(), Some(&Elem::INFINITY), "as in PyTorch");
    let error = run(&*short, x(), Target::Classes(&[1]), Some(&[2]), |_| 1.0).err().unwrap().to_string();
    assert!(error.contains("sequence 0 is to have length 2") && error.contains("1 steps"), "{error}");
    let error =
        run(&*build("MSELoss", &Map::new()).unwrap(), x(), Target::Classes(&[1]), Some(&[2]), |_| 1.0);
    assert!(error.err().unwrap().to_string().contains("`lengths` are for losses of sequences"));
}

/// Masks: a pixel that is ignored changes neither the loss nor gets a gradient.
#[test]
fn ignored_pixels_have_no_part_in_a_dice() {
    let dice = build("DiceLoss", &Map::new()).unwrap();
    let x = |far| ArrayD::from_shape_vec(vec![1, 2, 2], vec![0.5, far, -0.5, 3.0 * far]).unwrap();
    let of = |far| run(&*dice, x(far), Target::Classes(&[1, 255]), None, |_| 1.0).unwrap();
    let ((near, grad), (far, _)) = (of(0.1), of(2.0));
    assert_eq!(near, far);
    assert_eq!((grad[[0, 0, 1]], grad[[0, 1, 1]]), (0.0, 0.0));
    assert!(grad[[0, 0, 0]] > 0.0 && grad[[0, 1, 0]] < 0.0, "{grad}");
}

/// MMPretrain's `use_sigmoid`: the binary cross entropy added up over the classes, the mean over the samples. Classes are
/// the same as rows of yes and no, `use_soft` changes nothing of rows of probabilities, and what a softmax alone has is
/// refused beside it.
#[test]
fn a_cross_entropy_of_yes_and_no_is_added_up_over_classes() {
    let of = |keys: &str| Spec::<dyn Loss>::parse(&format!("{{type: CrossEntropyLoss, {keys}}}")).unwrap();
    let built = |keys: &str| of(keys).build(&mut BuildCx::new(0));
    let x = [0.5, -1.0, 2.0, -0.25, 0.0, 1.5];
    let (weight, yes) = ([1.0, 2.0, 0.5], [3.0, 1.0, 2.0]);
    let cost = |x: f64| (1.0 + x.exp()).ln();
    let one = |i: usize| {
        let is = [2, 0][i / 3] == i % 3;
        weight[i % 3] * if is { yes[i % 3] * cost(-x[i]) } else { cost(x[i]) }
    };
    let wanted = 2.0 * (0..6).map(one).sum::<f64>() / 2.0;
    let loss = built(
        "use_sigmoid: true, loss_weight: 2.0, class_weight: [1.0, 2.0, 0.5], pos_weight: [3.0, 1.0, 2.0]",
    );
    let loss = loss.unwrap();
    let scores = || ArrayD::from_shape_vec(vec![2, 3], x.map(|x| x as Elem).to_vec()).unwrap();
    let rows = ArrayD::from_shape_vec(vec![2, 3], vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0]).unwrap();
    let (by_class, slope) = run(&*loss, scores(), Target::Classes(&[2, 0]), None, |_| 1.0).unwrap();
    let (by_row, _) = run(&*loss, scores(), Target::Dense(&rows), None, |_| 1.0).unwrap();
    assert_eq!(by_class, by_row);
    assert!((f64::from(by_class[[]]) / wanted - 1.0).abs() < 1e-6, "{by_class} is not {wanted}");
    // The slope of a no is its weight times the sigmoid, and `run` takes three quarters of the loss.
    let sigmoid = 0.75 / (1.0 + (-0.5f64).exp());
    assert!((f64::from(slope[[0, 0]]) - sigmoid).abs() < 1e-6, "{slope}");
    let soft = |keys: &str| {
        run(&*built(keys).unwrap(), scores(), Target::Dense(&rows), None, |_| 1.0).unwrap().0[[]]
    };
    assert_eq!(soft("use_soft: true"), soft("use_soft: false"));
    for (keys, wanted) in [
        ("use_sigmoid: true, label_smoothing: 0.1", "`label_smoothing` is for a softmax"),
        ("use_sigmoid: true, use_soft: true", "`use_soft` is for a softmax"),
        ("pos_weight: [1.0]", "needs `use_sigmoid: true`"),
    ] {
        let error = built(keys).err().unwrap().to_string();
        assert!(error.contains(wanted), "{keys}: {error}");
    }
}
