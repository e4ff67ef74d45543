//! A sample of a validation or test as people look at it: its picture, what is true and what is predicted.

use ndarray::{Array2, ArrayD, ArrayView1, ArrayViewD, Axis, Ix1, Ix3};

use crate::config::{Node, parse};
use crate::data::{Colors, INPUTS, TARGET, Value};
use crate::plugin::prelude::*;
use crate::vis::Drawing;

/// What a sample is, and what a model says of it.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The picture, and of masks the true one and the predicted one; nothing of what is no picture.
    pub panels: Vec<Drawing>,
    pub truth: Option<String>,
    pub prediction: String,
    /// Whether a class, or all labels, are those that are true.
    pub right: Option<bool>,
}

/// What is known of the data under evaluation before a sample is looked at.
pub(super) struct Viewer {
    input: String,
    outputs: Vec<Compared>,
    bgr: bool,
    style: Style,
}

/// How a class is told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    /// By its number, its name in brackets, as MMPretrain has it; else by its name.
    pub numbered: bool,
    /// With its score.
    pub score: bool,
}

/// What the model predicts, and the field that it is compared with.
struct Compared {
    output: String,
    field: String,
    /// Of its classes, or of its numbers.
    names: Vec<String>,
}

impl Viewer {
    pub fn of(cx: &Ctx<'_>, step: &Step<'_>, style: Style) -> Self {
        let reads = cx.model.reads();
        let names_of = |field: &str| {
            let known = cx.evaluated.and_then(|data| data.names_of(field));
            known.unwrap_or_else(|| if field == TARGET { cx.info.classes.clone() } else { Vec::new() })
        };
        let compared = |output: &str| {
            let known = reads.outputs.iter().find(|(own, _)| own == output);
            let field = known.map_or(TARGET, |(_, field)| field).to_owned();
            Compared { output: output.to_owned(), names: names_of(&field), field }
        };
        let section = if cx.progress.phase == Phase::Test { "test_dataloader" } else { "val_dataloader" };
        let config = parse("config.yaml", &cx.info.config).ok();
        let config = config.as_ref().and_then(|config: &Node| config.get(section));
        let order = cx.evaluated.map(|data| data.channel_order(config));
        Self {
            input: reads.inputs.first().cloned().unwrap_or_else(|| INPUTS.to_owned()),
            outputs: step.outputs.predictions.names().map(compared).collect(),
            bgr: order == Some(Colors::Bgr),
            style,
        }
    }

    /// A sample of a batch; no side of its picture is longer than `side`.
    pub fn look(&self, step: &Step<'_>, row: usize, side: usize) -> Shown {
        let input = step.batch.get(&self.input).and_then(|column| column.value(row));
        let mut shown = Shown { panels: self.picture(input, side).into_iter().collect(), ..Shown::default() };
        let (mut truths, mut predictions) = (Vec::new(), Vec::new());
        for compared in &self.outputs {
            let Some(values) = step.outputs.predictions.get(&compared.output) else { continue };
            if values.shape().first().is_none_or(|rows| row >= *rows) {
                continue;
            }
            let target = step.batch.get(&compared.field).and_then(|column| column.value(row));
            let said = self.said(values.index_axis(Axis(0), row), target.as_ref(), &compared.names, side);
            let named = |text: String| match self.outputs.len() {
                1 => text,
                _ => format!("{} {text}", compared.output),
            };
            truths.extend(said.truth.map(named));
            predictions.push(named(said.prediction));
            shown.panels.extend(said.panels);
            shown.right = match (shown.right, said.right) {
                (Some(one), Some(other)) => Some(one && other),
                (one, other) => one.or(other),
            };
        }
        shown.truth = (!truths.is_empty()).then(|| truths.join("; "));
        shown.prediction = predictions.join("; ");
        shown
    }

    fn picture(&self, input: Option<Value>, side: usize) -> Option<Drawing> {
        let planes: ArrayD<f32> = match input? {
            Value::Float(values) => values,
            Value::Picture(picture) => picture.packed().ok()?.into_dyn(),
            _ => return None,
        };
        let planes = planes.into_dimensionality::<Ix3>().ok()?;
        let is_one = matches!(planes.dim(), (1 | 3, high, wide) if high > 1 && wide > 1);
        is_one.then(|| Drawing::of_values(planes.view(), self.bgr, side))
    }

    fn class(&self, class: usize, names: &[String], score: Option<f64>) -> String {
        let score = score.filter(|_| self.style.score).map_or(String::new(), |score| format!(", {score:.2}"));
        match names.get(class) {
            Some(name) if self.style.numbered => format!("{class}{score} ({name})"),
            Some(name) => format!("{name}{score}"),
            None => format!("{class}{score}"),
        }
    }

    fn said(
        &self,
        values: ArrayViewD<'_, Elem>,
        target: Option<&Value>,
        names: &[String],
        side: usize,
    ) -> Shown {
        if let Some([predicted, truth]) = target.and_then(|target| masks(&values, target)) {
            let right = predicted.iter().zip(&truth).filter(|(own, truth)| own == truth).count();
            let share = 100.0 * right as f64 / truth.len().max(1) as f64;
            let panels = [truth, predicted].map(|mask| Drawing::of_classes(mask.view(), side)).to_vec();
            return Shown {
                panels,
                prediction: format!("{share:.1} % of the pixels are right"),
                ..Shown::default()
            };
        }
        if let Ok(scores) = values.view().into_dimensionality::<Ix1>() {
            let said = self.classes(scores, target, names).or_else(|| self.labels(scores, target, names));
            if let Some(said) = said {
                return said;
            }
        }
        let numbers = Value::Float(values.mapv(|value| f64::from(value) as f32));
        Shown {
            truth: target.map(|target| target.told(&[])),
            prediction: numbers.told(&[]),
            ..Shown::default()
        }
    }

    /// One class of several, each with a score; or the second of two, with the only one.
    fn classes(
        &self,
        scores: ArrayView1<'_, Elem>,
        target: Option<&Value>,
        names: &[String],
    ) -> Option<Shown> {
        let truth = match target {
            Some(Value::Int(truth)) if truth.len() == 1 => usize::try_from(truth.first().copied()?).ok(),
            None if names.len() > 1 => None,
            _ => return None,
        };
        let (best, score) = match (scores.len(), names.len()) {
            (1, 2) => {
                let score = f64::from(*scores.first()?);
                (usize::from(score >= 0.5), score.max(1.0 - score))
            }
            (classes, known) if classes > 1 && (target.is_some() || classes == known) => best(scores)?,
            _ => return None,
        };
        Some(Shown {
            truth: truth.map(|truth| self.class(truth, names, None)),
            prediction: self.class(best, names, Some(score)),
            right: truth.map(|truth| truth == best),
            ..Shown::default()
        })
    }

    /// Labels that are given or not, each by a score of its own.
    fn labels(
        &self,
        scores: ArrayView1<'_, Elem>,
        target: Option<&Value>,
        names: &[String],
    ) -> Option<Shown> {
        let truth: Vec<f64> = match target? {
            Value::Int(truth) => truth.iter().map(|given| *given as f64).collect(),
            Value::Float(truth) => truth.iter().map(|given| f64::from(*given)).collect(),
            _ => return None,
        };
        let is_switch = |value: &f64| *value == 0.0 || *value == 1.0;
        let is_share = |score: &Elem| (0.0..=1.0).contains(&f64::from(*score));
        let labels = truth.len() == scores.len() && truth.len() > 1;
        if !labels || !truth.iter().all(is_switch) || !scores.iter().all(is_share) {
            return None;
        }
        let list = |given: &dyn Fn(usize) -> Option<String>| {
            let all: Vec<_> = (0..truth.len()).filter_map(given).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        let is_true = |class: usize| truth.get(class).is_some_and(|given| *given == 1.0);
        let score = |class: usize| scores.get(class).map_or(0.0, |score| f64::from(*score));
        Some(Shown {
            truth: Some(list(&|class| is_true(class).then(|| self.class(class, names, None)))),
            prediction: list(&|class| {
                (score(class) >= 0.5).then(|| self.class(class, names, Some(score(class))))
            }),
            right: Some((0..truth.len()).all(|class| is_true(class) == (score(class) >= 0.5))),
            ..Shown::default()
        })
    }
}

/// The class of the largest score, the first one among equals; none of NaN.
fn best(scores: ArrayView1<'_, Elem>) -> Option<(usize, f64)> {
    let all = scores.iter().map(|score| f64::from(*score)).enumerate();
    let better = |best: Option<(usize, f64)>, (class, score): (usize, f64)| match best {
        Some((_, least)) if score.is_nan() || score <= least => best,
        None if score.is_nan() => None,
        _ => Some((class, score)),
    };
    all.fold(None, better)
}

/// The predicted class and the true one at each place, of what has classes at places: of scores [K, H, W], or of one
/// score for yes or no.
fn masks(values: &ArrayViewD<'_, Elem>, target: &Value) -> Option<[Array2<i64>; 2]> {
    let is_share = |score: &Elem| (0.0..=1.0).contains(&f64::from(*score));
    let truth = match target {
        Value::Int(truth) => truth.clone(),
        // Numbers at places, as those of an autoencoder, are no mask.
        Value::Float(truth)
            if truth.iter().all(|given| [0.0, 1.0].contains(given)) && values.iter().all(is_share) =>
        {
            truth.mapv(|given| i64::from(given == 1.0))
        }
        _ => return None,
    };
    let shape = truth.shape().to_vec();
    let size = match shape[..] {
        [high, wide] | [1, high, wide] => (high, wide),
        _ => return None,
    };
    let truth = truth.into_shape_with_order(size).ok()?;
    let predicted = match *values.shape() {
        [high, wide] | [1, high, wide] if (high, wide) == size => {
            let given: Vec<i64> = values.iter().map(|score| i64::from(f64::from(*score) >= 0.5)).collect();
            Array2::from_shape_vec(size, given).ok()?
        }
        [_, high, wide] if (high, wide) == size => {
            let planes = values.view().into_dimensionality::<Ix3>().ok()?;
            let class = |(y, x): (usize, usize)| {
                best(planes.slice(ndarray::s![.., y, x])).map_or(0, |(class, _)| class as i64)
            };
            Array2::from_shape_fn(size, class)
        }
        _ => return None,
    };
    Some([predicted, truth])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{arr1, arr2, arr3};

    fn said(values: ArrayD<Elem>, target: Option<Value>, names: &[&str], style: Style) -> Shown {
        let viewer = Viewer { input: INPUTS.into(), outputs: Vec::new(), bgr: false, style };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        viewer.said(values.view(), target.as_ref(), &names, 100)
    }

    /// The texts of MMPretrain's UniversalVisualizer: number, score with two digits, name in brackets.
    #[test]
    fn a_class_is_told_as_mmpretrain_tells_it() {
        let style = Style { numbered: true, score: true };
        let scores = || arr1::<Elem>(&[0.25, 0.625, 0.125]).into_dyn();
        let shown = said(scores(), Some(Value::from(0i64)), &["cat", "dog", "cow"], style);
        assert_eq!((shown.truth.as_deref(), &*shown.prediction), (Some("0 (cat)"), "1, 0.62 (dog)"));
        assert_eq!(shown.right, Some(false));
        let plain = said(scores(), Some(Value::from(1i64)), &[], Style::default());
        assert_eq!((plain.truth.as_deref(), &*plain.prediction, plain.right), (Some("1"), "1", Some(true)));
        let of_nan =
            said(arr1::<Elem>(&[Elem::NAN, Elem::NAN]).into_dyn(), Some(Value::from(1i64)), &[], style);
        assert_eq!((&*of_nan.prediction, of_nan.right), ("NaN, NaN", None));
    }

    #[test]
    fn labels_numbers_and_one_of_two_are_told() {
        let style = Style { numbered: false, score: true };
        let two = ["no", "yes"];
        let yes = said(arr1::<Elem>(&[0.75]).into_dyn(), Some(Value::from(1i64)), &two, style);
        assert_eq!(
            (yes.truth.as_deref(), &*yes.prediction, yes.right),
            (Some("yes"), "yes, 0.75", Some(true))
        );
        let scores = || arr1::<Elem>(&[0.75, 0.5, 0.0]).into_dyn();
        let labels = Value::from(arr1(&[1i64, 0, 0]));
        let told = said(scores(), Some(labels), &["a", "b", "c"], style);
        assert_eq!((told.truth.as_deref(), &*told.prediction), (Some("a"), "a, 0.75, b, 0.50"));
        assert_eq!(told.right, Some(false));
        let numbers = said(scores(), Some(Value::from(arr1(&[0.5f32, 2.0, 3.0]))), &["a", "b", "c"], style);
        assert_eq!((numbers.truth.as_deref(), &*numbers.prediction), (Some("0.5, 2, 3"), "0.75, 0.5, 0"));
        let unknown = said(arr1::<Elem>(&[12.5]).into_dyn(), None, &[], style);
        assert_eq!((unknown.truth, &*unknown.prediction), (None, "12.5"));
    }

    #[test]
    fn masks_are_drawn_beside_each_other() {
        let scores = arr3::<Elem, _, _>(&[[[0.9, 0.2]], [[0.1, 0.8]]]).into_dyn();
        let shown = said(scores, Some(Value::from(arr2(&[[0i64, 0]]))), &[], Style::default());
        assert_eq!((shown.panels.len(), &*shown.prediction), (2, "50.0 % of the pixels are right"));
        let yes = said(
            arr2::<Elem, _>(&[[0.9, 0.2]]).into_dyn(),
            Some(Value::from(arr3(&[[[1f32, 0.0]]]))),
            &[],
            Style::default(),
        );
        assert_eq!((yes.panels.len(), &*yes.prediction), (2, "100.0 % of the pixels are right"));
    }
}
