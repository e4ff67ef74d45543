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
        let soft = Tensor::from_shape_fn(vec![4, 3], |i| (i[0] + 2 * i[1]) as Elem * 0.1);
        check(&config, random(&[4, 3]), true, Compared::of(&config, None, soft));
    }
}

/// Targets lie between the values that are compared with them, so that no difference goes over a kink.
#[test]
fn losses_of_values() {
    let options = ["MSELoss", "L1Loss", "SmoothL1Loss, beta: 0.31", "SmoothL1Loss, beta: 0"];
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
