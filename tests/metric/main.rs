//! Metrics against values worked out by hand, and against scikit-learn's.

#![allow(clippy::unwrap_used)] // helpers of tests

mod figures;
mod on_ranks;

use std::collections::BTreeMap;

use approx::assert_relative_eq;
use ndarray::{Array2, ArrayD, arr2};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use shanty::base::{Elem, Result};
use shanty::config::parse;
use shanty::data::{Batch, Fields};
use shanty::metric::{
    Accuracy, Average, CalibrationError, ConfusionMatrix, Evaluator, Item, MAE, Metric, MetricConfig,
    Perplexity, Predictions, SingleLabelMetric,
};
use shanty::registry::{BuildCx, Spec, entries, example};

fn batch(labels: &[i64]) -> Batch {
    Batch::new(ArrayD::zeros(vec![labels.len(), 1]), labels.to_vec())
}

fn feed(metric: &mut dyn Metric, labels: &[i64], scores: &Array2<Elem>) -> Result<()> {
    metric.process(&Predictions::of(&batch(labels), &outputs(scores)))
}

fn outputs(scores: &Array2<Elem>) -> Fields<ArrayD<Elem>> {
    Fields::one("scores", scores.clone().into_dyn())
}

/// One-hot scores for these classes.
fn sure(predicted: &[usize], classes: usize) -> Array2<Elem> {
    Array2::from_shape_fn((predicted.len(), classes), |(i, c)| if predicted[i] == c { 1.0 } else { 0.0 })
}

fn accuracy(topk: &[usize]) -> Accuracy {
    Accuracy::new(topk.to_vec(), vec![Some(0.0)]).unwrap()
}

fn named(pairs: &[(&str, f64)]) -> Vec<(String, f64)> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

/// Samples are (true, predicted) pairs that make up this matrix, rows for the truth.
fn spread(matrix: &[&[usize]]) -> (Vec<i64>, Vec<usize>) {
    let cells =
        matrix.iter().enumerate().flat_map(|(t, row)| row.iter().enumerate().map(move |(p, &n)| (t, p, n)));
    cells.flat_map(|(t, p, n)| std::iter::repeat_n((t as i64, p), n)).unzip()
}

#[test]
fn met_01_counted_over_samples_not_over_batches() {
    let mut metric = accuracy(&[1]);
    for hits in [&[1usize, 1, 1, 1][..], &[1, 1, 1, 1], &[0, 0]] {
        feed(&mut metric, &vec![1; hits.len()], &sure(hits, 2)).unwrap();
    }
    assert_eq!(metric.compute().unwrap(), named(&[("top1", 80.0)]));
}

#[test]
fn met_02_repeats_do_not_count() {
    let hits = [1usize, 0, 1, 1, 0];
    for world in [1usize, 2, 3, 4, 8] {
        for size in [1usize, 2, 5] {
            let mut metric = accuracy(&[1]);
            for rank in 0..world {
                let share: Vec<usize> = (0..5usize.div_ceil(world)).map(|i| i * world + rank).collect();
                for places in share.chunks(size) {
                    let predicted: Vec<usize> = places.iter().map(|&place| hits[place % 5]).collect();
                    let mut batch = batch(&vec![1; places.len()]);
                    batch.valid = places.iter().filter(|&&place| place < 5).count();
                    metric.process(&Predictions::of(&batch, &outputs(&sure(&predicted, 2)))).unwrap();
                }
            }
            assert_eq!(metric.compute().unwrap(), named(&[("top1", 60.0)]), "{world} ranks, batch {size}");
        }
    }
}

#[test]
fn met_05_computing_twice_is_the_same_and_reset_starts_anew() {
    let mut metric = accuracy(&[1]);
    feed(&mut metric, &[0, 1], &sure(&[0, 0], 2)).unwrap();
    assert_eq!(metric.compute().unwrap(), metric.compute().unwrap());
    metric.reset();
    assert!(metric.compute().unwrap_err().to_string().contains("no sample"));
    feed(&mut metric, &[0, 1], &sure(&[0, 1], 2)).unwrap();
    assert_eq!(metric.compute().unwrap(), named(&[("top1", 100.0)]));
}

#[test]
fn top_k_and_thresholds() {
    let scores = ndarray::arr2(&[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.2, 0.45, 0.35]]);
    let labels = [0, 1, 0];
    let mut metric = accuracy(&[1, 2, 3]);
    feed(&mut metric, &labels, &scores).unwrap();
    let third = 100.0 / 3.0;
    let expected = [third, 2.0 * third, 100.0];
    for ((name, value), (k, expected)) in metric.compute().unwrap().iter().zip([1, 2, 3].iter().zip(expected))
    {
        assert_eq!(name, &format!("top{k}"));
        assert_relative_eq!(*value, expected, epsilon = 1e-12);
    }

    let mut metric = Accuracy::new(vec![2], vec![None, Some(0.3), Some(0.5)]).unwrap();
    assert_eq!(metric.names(), ["top2_no-thr", "top2_thr-0.30", "top2_thr-0.50"]);
    let scores = ndarray::arr2(&[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.45, 0.2, 0.35]]);
    feed(&mut metric, &labels, &scores).unwrap();
    // above the threshold, not at it: neither 0.3 > 0.3 nor 0.5 > 0.5 is a hit
    let values: Vec<f64> = metric.compute().unwrap().into_iter().map(|(_, v)| v).collect();
    assert_relative_eq!(values[..], [100.0, 2.0 * third, 0.0], epsilon = 1e-12);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let text = |labels: &[i64], scores: &Array2<Elem>| {
        feed(&mut accuracy(&[5]), labels, scores).unwrap_err().to_string()
    };
    assert!(text(&[0], &sure(&[0], 3)).contains("topk 5 is more than the 3 classes"));
    assert!(
        text(&[0, 7], &sure(&[0, 0], 5)).contains("sample 1 has label 7, but the scores are for 5 classes")
    );
    assert!(text(&[-1], &sure(&[0], 5)).contains("sample 0 has label -1"));
    assert!(text(&[0, 1], &sure(&[0], 5)).contains("scores of shape [1, 5] for 2 samples: expected [2, …]"));
    let (one, none) = (batch(&[0]), Fields::default());
    let nothing = Predictions::of(&one, &none);
    assert!(accuracy(&[1]).process(&nothing).unwrap_err().to_string().contains("gives no scores"));
    assert!(Accuracy::new(vec![0], vec![None]).is_err());
}

#[test]
fn met_04_precision_and_recall_are_not_swapped() {
    let (labels, predicted) = spread(&[&[8, 2], &[1, 9]]);
    let items = vec![Item::Precision, Item::Recall, Item::F1Score, Item::Support];
    let value = |average| {
        let mut metric = SingleLabelMetric::new(vec![Some(0.0)], items.clone(), average, Some(2)).unwrap();
        feed(&mut metric, &labels, &sure(&predicted, 2)).unwrap();
        let values = metric.compute().unwrap();
        assert_eq!(values.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>(), metric.names());
        values
    };
    // classes: P = 8/9, 9/11; R = 8/10, 9/10; F1 = 16/19, 18/21
    let got = value(Some(Average::Macro));
    let expected = [
        ("precision", 85.353_535_353_535_35),
        ("recall", 85.0),
        ("f1-score", 50.0 * (16.0 / 19.0 + 18.0 / 21.0)),
        ("support", 20.0),
    ];
    for ((name, value), (expected_name, expected)) in got.iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert_relative_eq!(*value, expected, epsilon = 1e-10);
    }
    let micro = value(Some(Average::Micro));
    assert_eq!(micro[..2], named(&[("precision_micro", 85.0), ("recall_micro", 85.0)]));
    let each = value(None);
    assert_eq!(each[2..4], named(&[("recall_classwise/0", 80.0), ("recall_classwise/1", 90.0)]));
    assert_eq!(each[6..], named(&[("support_classwise/0", 10.0), ("support_classwise/1", 10.0)]));
}

#[test]
fn a_score_below_the_threshold_is_no_prediction() {
    let thrs = vec![Some(0.0), Some(0.7)];
    let items = vec![Item::Precision, Item::Recall];
    let mut metric = SingleLabelMetric::new(thrs, items, Some(Average::Micro), None).unwrap();
    feed(&mut metric, &[0, 1, 1], &ndarray::arr2(&[[0.6, 0.4], [0.1, 0.9], [0.8, 0.2]])).unwrap();
    let third = 100.0 / 3.0;
    let expected = [
        ("precision_micro", 2.0 * third),
        ("recall_micro", 2.0 * third),
        ("precision_thr-0.70_micro", 50.0),
        ("recall_thr-0.70_micro", third),
    ];
    let got = metric.compute().unwrap();
    assert_eq!(got[2].0, "precision_thr-0.70_micro");
    for ((_, value), (_, expected)) in got.iter().zip(expected) {
        assert_relative_eq!(*value, expected, epsilon = 1e-10);
    }
}

#[test]
fn the_matrix_has_rows_for_the_truth() {
    let (labels, predicted) = spread(&[&[8, 2, 0], &[1, 9, 3], &[0, 0, 0]]);
    let table = |normalize| {
        let mut metric = ConfusionMatrix::new(normalize);
        for half in [0..10, 10..labels.len()] {
            feed(&mut metric, &labels[half.clone()], &sure(&predicted[half], 3)).unwrap();
        }
        metric.tables().remove(0).1.values().clone()
    };
    assert_eq!(table(false), ndarray::arr2(&[[8., 2., 0.], [1., 9., 3.], [0., 0., 0.]]));
    let sums: Vec<f64> = table(true).rows().into_iter().map(|row| row.sum()).collect();
    assert_relative_eq!(sums[..], [1.0, 1.0, 0.0], epsilon = 1e-12);
    assert_relative_eq!(table(true)[[1, 2]], 3.0 / 13.0);
}

#[test]
fn the_evaluator_prefixes_and_refuses_equal_names() {
    let two = || -> Vec<Box<dyn Metric>> { vec![Box::new(accuracy(&[1])), Box::new(accuracy(&[1, 2]))] };
    let error = Evaluator::new(two()).err().unwrap();
    assert!(error.to_string().contains("named accuracy/top1") && error.exit_code() == 2, "{error}");
    let prefixes =
        [None, Some("second".to_owned())].map(|prefix| MetricConfig { prefix, ..Default::default() });
    let mut evaluator = Evaluator::with_options(prefixes.into_iter().zip(two()).collect()).unwrap();
    assert_eq!(evaluator.names(), ["accuracy/top1", "second/top1", "second/top2"]);
    evaluator.process(&Predictions::of(&batch(&[0]), &outputs(&sure(&[1], 2)))).unwrap();
    // the label comes second, but a score of exactly 0 is not above the default threshold
    let expected = named(&[("accuracy/top1", 0.0), ("second/top1", 0.0), ("second/top2", 0.0)]);
    assert_eq!(evaluator.evaluate().unwrap(), expected);
    assert!(evaluator.evaluate().is_err(), "the samples were forgotten");
}

proptest! {
    /// Top-1 accuracy, micro recall and the diagonal of the matrix are three ways to count the same.
    #[test]
    fn three_ways_to_count_hits(
        rows in prop::collection::vec((0i64..4, prop::array::uniform4(0.01f32..1.0)), 1..40), size in 1usize..7,
    ) {
        let mut top1 = accuracy(&[1]);
        let mut micro = SingleLabelMetric::new(vec![None], vec![Item::Recall], Some(Average::Micro), None).unwrap();
        let mut matrix = ConfusionMatrix::new(false);
        for part in rows.chunks(size) {
            let labels: Vec<i64> = part.iter().map(|(label, _)| *label).collect();
            let scores = Array2::from_shape_fn((part.len(), 4), |(i, c)| part[i].1[c] as Elem);
            for metric in [&mut top1 as &mut dyn Metric, &mut micro, &mut matrix] {
                feed(metric, &labels, &scores).unwrap();
            }
        }
        let share = 100.0 * matrix.counts().diag().sum() as f64 / rows.len() as f64;
        prop_assert!((top1.compute().unwrap()[0].1 - share).abs() < 1e-9);
        prop_assert!((micro.compute().unwrap()[0].1 - share).abs() < 1e-9);
    }
}
