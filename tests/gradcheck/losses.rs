//! Every loss with all that a config can say of it.

use shanty::base::{Elem, Result, Tensor};
use shanty::config::{Node, parse};
use shanty::module;
use shanty::nn::{Forward, Loss, Module, Target, Var};
use shanty::registry::{BuildCx, Spec};

use super::probe::{check, random, spaced};

/// A loss of a config with its targets, as a module.
struct Compared {
    loss: Box<dyn Loss>,
    classes: Option<Vec<i64>>,
    dense: Tensor,
}
module!(Compared {});

impl Compared {
    fn of(config: &str, classes: Option<Vec<i64>>, dense: Tensor) -> Self {
        let node: Node = parse("loss.yaml", config).unwrap();
        let spec: Spec<dyn Loss> = node.read().unwrap();
        Self { loss: spec.build(&mut BuildCx::new(0)).unwrap(), classes, dense }
    }
}

impl Module for Compared {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        let dense = self.dense.to_owned().into_owned();
        let target = match &self.classes {
            Some(classes) => Target::Classes(classes),
            None => Target::Dense(&dense),
        };
        Ok(self.loss.forward(x, target)?.loss)
    }
}

const REDUCTIONS: [&str; 3] = ["mean", "sum", "none"];

/// 0, 1 or the class to be ignored.
fn classes(n: usize) -> Vec<i64> {
    (0..n).map(|i| [0, 2, -7, 1, 1][i % 5]).collect()
}

#[test]
fn cross_entropy_of_samples_and_pixels() {
    let options = [
        "",
        ", ignore_index: -7, loss_weight: 0.3",
        ", ignore_index: -7, label_smoothing: 0.2, class_weight: [1, 2, 0.5]",
        ", ignore_index: -7, label_smoothing: 0.2, weight: [1, 2, 0.5]",
        ", ignore_index: -7, weight: [1, 2, 0.5], average: batch",
    ];
    for reduction in REDUCTIONS {
        for extra in options {
            let config = format!("{{type: CrossEntropyLoss, reduction: {reduction}{extra}}}");
            for shape in [&[5, 3][..], &[2, 3, 2, 3]] {
                let rows = shape.iter().product::<usize>() / 3;
                let classes: Vec<i64> = match extra {
                    "" => classes(rows).into_iter().map(|class| class.max(0)).collect(),
                    _ => classes(rows),
                };
                check(&config, random(shape), true, Compared::of(&config, Some(classes), random(&[1])));
            }
        }
        let config = format!("{{type: CrossEntropyLoss, reduction: {reduction}, label_smoothing: 0.2}}");
        for shape in [&[4, 3][..], &[2, 3, 2]] {
            let soft = Tensor::from_shape_fn(shape, |i| (i[0] + 2 * i[1]) as Elem * 0.1);
            check(&config, random(shape), true, Compared::of(&config, None, soft));
        }
    }
}

/// Targets lie between the values that are compared with them, so that no difference goes over a kink.
#[test]
fn losses_of_values() {
    let options = [
        "MSELoss",
        "L1Loss",
        "SmoothL1Loss, beta: 0.31",
        "SmoothL1Loss, beta: 0",
        "HuberLoss, delta: 0.31",
        "SoftMarginLoss",
        "HingeLoss, margin: 0.31",
        "HingeLoss, margin: 0.31, p: 2",
        "HingeEmbeddingLoss, margin: 0.31",
    ];
    for reduction in REDUCTIONS {
        for kind in options {
            let config = format!("{{type: {kind}, reduction: {reduction}, loss_weight: 0.7}}");
            for shape in [&[4, 1][..], &[3, 4], &[2, 3, 2, 2]] {
                let target = Tensor::zeros(shape);
                check(&config, spaced(shape), true, Compared::of(&config, None, target));
            }
        }
    }
}

#[test]
fn yes_and_no() {
    for reduction in REDUCTIONS {
        for (shape, weights) in
            [(&[5, 1][..], "[3]"), (&[3, 4], "[3, 0.5, 1, 2]"), (&[2, 4, 2, 2], "[3, 0.5, 1, 2]")]
        {
            for weight in [String::new(), format!(", pos_weight: {weights}, loss_weight: 0.7")] {
                let config = format!("{{type: BCEWithLogitsLoss, reduction: {reduction}{weight}}}");
                // Shares of a yes count too.
                let target = Tensor::from_shape_fn(shape, |i| {
                    (ndarray::Dimension::slice(&i).iter().sum::<usize>() % 3) as Elem / 2.0
                });
                check(&config, random(shape), true, Compared::of(&config, None, target));
            }
        }
    }
}

/// Yes and no, and shares of a yes, for each score.
fn some_yes(shape: &[usize]) -> Tensor {
    let place = |i: &[usize]| i.iter().sum::<usize>();
    Tensor::from_shape_fn(shape, |i| (place(ndarray::Dimension::slice(&i)) % 3) as Elem / 2.0)
}

/// Scores whose differences are all on one side of each margin, by more than the step.
#[test]
fn losses_of_classes() {
    let smooth = "LabelSmoothLoss, label_smooth_val: 0.2, class_weight: [1, 2, 0.5]";
    for reduction in REDUCTIONS {
        for (kind, shapes) in [
            ("NLLLoss, ignore_index: -7, weight: [1, 2, 0.5]", &[&[5, 3][..], &[2, 3, 2, 3]][..]),
            ("SoftmaxFocalLoss, ignore_index: -7, gamma: 1.5", &[&[5, 3], &[2, 3, 2, 3]]),
            ("SoftmaxFocalLoss, ignore_index: -7, gamma: 0, weight: [1, 2, 0.5]", &[&[5, 3]]),
            ("MultiMarginLoss, margin: 0.32", &[&[5, 3]]),
            ("MultiMarginLoss, margin: 0.32, p: 2, weight: [1, 2, 0.5]", &[&[5, 3]]),
            (smooth, &[&[5, 3]]),
            (&format!("{smooth}, mode: classy_vision"), &[&[5, 3]]),
            (&format!("{smooth}, mode: multi_label, pos_weight: [1, 3, 2]"), &[&[5, 3]]),
            ("FocalLoss, gamma: 1.5", &[&[5, 3], &[2, 3, 2]]),
            ("DiceLoss, ignore_index: -7, use_sigmoid: false", &[&[5, 3], &[2, 3, 2, 3]]),
            ("DiceLoss, ignore_index: -7, naive_dice: true", &[&[2, 3, 2, 3]]),
        ] {
            let config = format!("{{type: {kind}, reduction: {reduction}, loss_weight: 0.7}}");
            for shape in shapes {
                let rows = shape.iter().product::<usize>() / 3;
                let ignores = kind.contains("ignore_index");
                let classes = classes(rows).into_iter().map(|own| if ignores { own } else { own.max(0) });
                let compared = Compared::of(&config, Some(classes.collect()), random(&[1]));
                check(&config, spaced(shape), true, compared);
            }
        }
    }
}

#[test]
fn losses_of_labels_and_distributions() {
    for (kind, shape) in [
        ("MultiLabelSoftMarginLoss, weight: [3, 0.5, 1, 2]", &[3, 4][..]),
        ("BCEWithLogitsLoss, weight: [3, 0.5, 1, 2]", &[2, 4, 3]),
        ("FocalLoss, gamma: 0.5, alpha: 0.6", &[3, 4]),
        ("DiceLoss", &[3, 4]),
        ("KLDivLoss", &[2, 4, 3]),
        ("KLDivLoss, log_target: true", &[3, 4]),
    ] {
        let batchmean = kind.starts_with("KLDivLoss").then_some("batchmean");
        for reduction in REDUCTIONS.into_iter().chain(batchmean) {
            let config = format!("{{type: {kind}, reduction: {reduction}, loss_weight: 0.7}}");
            check(&config, random(shape), true, Compared::of(&config, None, some_yes(shape)));
        }
    }
    for reduction in REDUCTIONS {
        let config = format!("{{type: BCELoss, reduction: {reduction}, weight: [3, 0.5]}}");
        let probabilities = random(&[3, 2]).mapv(|x| 0.5 + x * 0.4);
        check(&config, probabilities.into_shared(), true, Compared::of(&config, None, some_yes(&[3, 2])));
        let config = format!("{{type: MultiLabelMarginLoss, reduction: {reduction}}}");
        let labels = vec![2, 0, -1, 1, 1, -1, 0, 0];
        check(&config, spaced(&[2, 4]), true, Compared::of(&config, Some(labels), random(&[1])));
    }
}

#[test]
fn losses_of_vectors() {
    for reduction in REDUCTIONS {
        let config = format!("{{type: CosineEmbeddingLoss, reduction: {reduction}, margin: -0.9}}");
        for shape in [&[4, 2, 3][..], &[4, 6]] {
            check(&config, random(shape), true, Compared::of(&config, Some(vec![1, -1, 0, 1]), random(&[1])));
        }
        for more in ["", ", swap: true", ", p: 3", ", hard_mining: true", ", margin: 0.3, swap: true"] {
            let config = format!("{{type: TripletMarginLoss, reduction: {reduction}{more}}}");
            let of = |classes: &[i64]| Compared::of(&config, Some(classes.to_vec()), random(&[1]));
            check(&config, random(&[2, 3, 4]), true, of(&[0, 0]));
            check(&config, random(&[5, 4]), true, of(&[0, 1, 0, 1, 1]));
        }
    }
}

/// Two samples: labels that repeat, which need a blank between them, and none.
#[test]
fn sequences_of_labels() {
    for reduction in REDUCTIONS {
        let config = format!("{{type: CTCLoss, reduction: {reduction}, blank: 2}}");
        let labels = vec![0, 0, 1, -1, -1, -1];
        check(&config, random(&[2, 6, 3]), true, Compared::of(&config, Some(labels), random(&[1])));
    }
}
