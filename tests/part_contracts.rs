//! The contracts of data sets, transforms, metrics and optimizers: the built-in ones keep them, and what breaks them is
//! told.
#![allow(clippy::unwrap_used)] // helpers of tests

use shanty::base::{Elem, Result, Rng};
use shanty::data::{Batch, Dataset, FieldKind, FieldSpec, Fields, Sample, Transform};
use shanty::metric::{Metric, Predictions};
use shanty::ndarray::{ArrayD, arr1, arr2};
use shanty::optim::{Optimizer, ParamStep};
use shanty::testing::{dataset_breach, metric_breach, optimizer_breach, transform_breach};

fn batch() -> Batch {
    Batch::new(arr2(&[[0.0], [0.0], [0.0]]).into_dyn(), vec![0, 1, 1])
}
fn scores() -> Fields<ArrayD<Elem>> {
    Fields::one("scores", arr2(&[[0.9 as Elem, 0.1], [0.2, 0.8], [0.7, 0.3]]).into_dyn())
}
fn numbers() -> Batch {
    Batch::unlabelled(arr2(&[[0.0], [0.0]]).into_dyn()).with("target", arr2(&[[1.0 as Elem], [2.0]]))
}
fn predicted() -> Fields<ArrayD<Elem>> {
    Fields::one("y", arr2(&[[1.5 as Elem], [0.0]]).into_dyn())
}

mod digits {
    use shanty::data::{Digits, DigitsSplit, SplitBy};
    shanty::testing::dataset_contract!(Digits::load(DigitsSplit::Val, SplitBy::Index).unwrap());
}
mod synthetic {
    shanty::testing::dataset_contract!(shanty::data::Synthetic::new(10, [1, 4, 4], 2, 0));
}
mod tasks {
    use shanty::data::{SyntheticTask, Task};
    shanty::testing::dataset_contract!(SyntheticTask::new(Task::Spirals { arms: 3 }, 20, 0));
}
mod smote {
    use shanty::data::{ArrayDataset, Smote};
    use shanty::ndarray::{Array1, Array2};
    fn set() -> Smote {
        let inputs = Array2::from_shape_fn((9, 2), |(n, k)| (n * n + k) as f32);
        let set = ArrayDataset::new("inputs", inputs).unwrap();
        let set = set.with("target", Array1::from_shape_fn(9, |n| i64::from(n < 3))).unwrap();
        Smote::new(Box::new(set), 5, 1.0, 0).unwrap()
    }
    shanty::testing::dataset_contract!(set());
}
mod map_labels {
    use shanty::data::{MapLabels, Sample};
    shanty::testing::transform_contract!(
        MapLabels { field: "target".into(), to: "parity".into(), values: vec![0, 1, 0], classes: Vec::new() },
        [Sample::new(0.5f32, 1), Sample::new(0.5f32, 2)]
    );
}
mod accuracy {
    use super::{batch, scores};
    shanty::testing::metric_contract!(shanty::metric::Accuracy::default(), batch(), scores());
}
mod mae {
    use super::{numbers, predicted};
    shanty::testing::metric_contract!(shanty::metric::MAE::default(), numbers(), predicted());
}
mod r2 {
    use super::{numbers, predicted};
    shanty::testing::metric_contract!(shanty::metric::R2::default(), numbers(), predicted());
}
mod sgd {
    shanty::testing::optimizer_contract!(shanty::optim::Sgd::new(0.1).momentum(0.9));
}
mod adam {
    shanty::testing::optimizer_contract!(shanty::optim::Adam::new(0.1));
}
mod adamw {
    shanty::testing::optimizer_contract!(shanty::optim::Adam::decoupled(0.1));
}
mod adadelta {
    shanty::testing::optimizer_contract!(shanty::optim::Adadelta::default());
}
mod adagrad {
    shanty::testing::optimizer_contract!(shanty::optim::Adagrad::default());
}
mod adamax {
    shanty::testing::optimizer_contract!(shanty::optim::Adamax::default());
}
mod amsgrad {
    shanty::testing::optimizer_contract!(shanty::optim::Adam::new(0.1).amsgrad(true));
}
mod lamb {
    shanty::testing::optimizer_contract!(shanty::optim::Lamb::default());
}
mod lars {
    shanty::testing::optimizer_contract!(shanty::optim::Lars {
        momentum: 0.9,
        ..shanty::optim::Lars::new(0.1)
    });
}
mod lion {
    shanty::testing::optimizer_contract!(shanty::optim::Lion::default());
}
mod nadam {
    shanty::testing::optimizer_contract!(shanty::optim::NAdam::default());
}
mod radam {
    shanty::testing::optimizer_contract!(shanty::optim::RAdam::default());
}
mod rmsprop {
    shanty::testing::optimizer_contract!(shanty::optim::RMSprop {
        momentum: 0.9,
        centered: true,
        ..shanty::optim::RMSprop::default()
    });
}

/// Says one thing and gives another.
struct Liar;
impl Dataset for Liar {
    fn len(&self) -> usize {
        2
    }
    fn get(&self, _: usize, _: &mut Rng) -> Result<Sample> {
        Ok(Sample::new(arr1(&[1.0f32, 2.0]), 0))
    }
    fn fields(&self) -> Option<Fields<FieldSpec>> {
        Some(Fields::one("inputs", FieldSpec::new(FieldKind::Float, &[3])))
    }
}

/// Numbers its answers, whoever asks.
#[derive(Default)]
struct Counts(std::sync::atomic::AtomicU64);
impl Counts {
    fn next(&self) -> f32 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as f32
    }
}
impl Dataset for Counts {
    fn len(&self) -> usize {
        2
    }
    fn get(&self, _: usize, _: &mut Rng) -> Result<Sample> {
        Ok(Sample::new(self.next(), 0))
    }
}
impl Transform for Counts {
    fn apply(&self, sample: &mut Sample, _: &mut Rng) -> Result<()> {
        sample.fields.set("inputs", self.next());
        Ok(())
    }
}

/// A mean that a reset does not touch.
#[derive(Default)]
struct Sticky(f64);
impl Metric for Sticky {
    fn process(&mut self, predictions: &Predictions<'_>) -> Result<()> {
        self.0 += predictions.ids().len() as f64;
        Ok(())
    }
    fn compute(&self) -> Result<Vec<(String, f64)>> {
        Ok(vec![("n".to_owned(), self.0)])
    }
    fn reset(&mut self) {}
    fn names(&self) -> Vec<String> {
        vec!["n".to_owned()]
    }
}

/// Stands still.
#[derive(Debug, Clone)]
struct Still(f64);
impl Optimizer for Still {
    fn numbers(&mut self) -> Vec<(&'static str, &mut f64)> {
        vec![("lr", &mut self.0)]
    }
    fn state(&self) -> &'static [&'static str] {
        &[]
    }
    fn step(&self, _: ParamStep<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_breaks_a_contract_is_told() {
    let said = |result: Result<()>| result.unwrap_err().to_string();
    let text = said(dataset_breach(&Liar));
    assert!(
        text.contains("`inputs` is declared as floats of shape [3], and is floats of shape [2]"),
        "{text}"
    );
    let text = said(dataset_breach(&Counts::default()));
    assert!(text.contains("has to come from `rng`"), "{text}");
    let text = said(transform_breach(&Counts::default(), &[Sample::new(0.5f32, 0)]));
    assert!(text.contains("has to come from `rng`"), "{text}");
    let text = said(metric_breach(&mut Sticky::default(), &Predictions::of(&batch(), &scores())));
    assert!(text.contains("after a reset"), "{text}");
    let text = said(optimizer_breach(Still(0.1)));
    assert!(text.contains("a step changes nothing"), "{text}");
}
