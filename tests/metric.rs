//! Metrics against values worked out by hand, and against scikit-learn's.

#![allow(clippy::unwrap_used)] // helpers of tests

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
use shanty::registry::{BuildCx, Spec};

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

/// Samples with the figures that scikit-learn and SciPy give for them, by the metric that counts them.
#[derive(Deserialize)]
struct Case {
    name: String,
    whole: bool,
    target: Vec<Value>,
    scores: Vec<Vec<f64>>,
    expected: BTreeMap<String, BTreeMap<String, Option<f64>>>,
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap()
    }

    /// These samples and what is said of them.
    fn batch(&self, rows: &[usize]) -> (Batch, Fields<ArrayD<Elem>>) {
        let (n, width) = (rows.len(), self.scores[0].len());
        let scores = Array2::from_shape_fn((n, width), |(i, j)| self.scores[rows[i]][j] as f32 as Elem);
        let own: Vec<&[Value]> = rows.iter().map(|row| std::slice::from_ref(&self.target[*row])).collect();
        let own: Vec<&[Value]> = own.into_iter().map(|t| t[0].as_array().map_or(t, Vec::as_slice)).collect();
        let shape = if self.target[0].is_array() { vec![n, own[0].len()] } else { vec![n] };
        let batch = Batch::unlabelled(ArrayD::zeros(vec![n, 1]));
        let flat = own.concat();
        let batch = if self.whole {
            let values = flat.iter().map(|v| v.as_i64().unwrap()).collect();
            batch.with("target", ArrayD::from_shape_vec(shape, values).unwrap())
        } else {
            let values = flat.iter().map(|v| v.as_f64().unwrap() as f32 as Elem).collect();
            batch.with("target", ArrayD::from_shape_vec(shape, values).unwrap())
        };
        (batch, outputs(&scores))
    }

    /// Counts every sample in one of so many evaluators and merges them.
    fn evaluated(&self, config: &str, shards: usize) -> Result<Vec<(String, f64)>> {
        let mut all: Vec<Evaluator> = (0..shards).map(|_| built(config)).collect();
        for (rank, evaluator) in all.iter_mut().enumerate() {
            let own: Vec<usize> = (rank..self.scores.len()).step_by(shards).collect();
            for rows in own.chunks(7) {
                let (batch, outputs) = self.batch(rows);
                evaluator.process(&Predictions::of(&batch, &outputs))?;
            }
        }
        let counted: Vec<_> = all.iter().map(|evaluator| evaluator.counted().unwrap()).collect();
        let mut whole = built(config);
        counted.iter().try_for_each(|counted| whole.merge(counted))?;
        whole.compute()
    }
}

fn built(config: &str) -> Evaluator {
    let spec: Spec<dyn Metric> = parse("c.yaml", config).unwrap().read().unwrap();
    Evaluator::build(&[spec], &mut BuildCx::default()).unwrap()
}

/// Equal figures, in however many parts the samples are counted; and where scikit-learn has none there is none here.
#[test]
fn figures_are_those_of_scikit_learn_for_any_number_of_shards() {
    let (mut figures, mut worst) = (0, 0.0f64);
    for case in Case::all() {
        for (config, expected) in &case.expected {
            let whole = case.evaluated(config, 1);
            for shards in [2, 3, 8] {
                match (&whole, case.evaluated(config, shards)) {
                    (Ok(one), Ok(many)) => {
                        for ((name, one), (other, many)) in one.iter().zip(&many) {
                            assert_eq!(name, other);
                            let near = (one - many).abs() <= 1e-12 * one.abs().max(1.0);
                            assert!(
                                near || one.is_nan() && many.is_nan(),
                                "{}: {config} {one} {many}",
                                case.name
                            );
                        }
                    }
                    (Err(one), Err(many)) => assert_eq!(one.to_string(), many.to_string()),
                    (one, many) => panic!("{}: {config} {one:?} {many:?}", case.name),
                }
            }
            for (name, expected) in expected {
                figures += 1;
                let Some(expected) = expected else {
                    assert!(whole.is_err(), "{}: {config} {whole:?}", case.name);
                    continue;
                };
                let whole = whole.as_ref().unwrap_or_else(|e| panic!("{}: {config}: {e}", case.name));
                let got = whole.iter().find(|(own, _)| own == name);
                let got =
                    got.unwrap_or_else(|| panic!("{}: {config} gives no {name}: {whole:?}", case.name)).1;
                let off = (got - expected).abs() / expected.abs().max(1.0);
                worst = worst.max(off);
                assert!(off < 1e-9, "{}: {config} {name} is {got} and not {expected}", case.name);
            }
        }
    }
    println!("{figures} figures, off by {worst:.1e} at most");
    assert!(figures > 242, "{figures}");
}

/// Perplexity of a batch of three tokens whose mean loss is 1, and of one whose loss is 3: e to the mean over tokens. A
/// target of -100 is no token.
#[test]
fn perplexity_is_counted_over_tokens() {
    let mut metric = Perplexity::default();
    for (losses, targets) in [(&[1.0, 1.0, 1.0][..], &[0i64, 0, 0][..]), (&[3.0, 9.0], &[0, -100])] {
        let scores = Array2::from_shape_fn((losses.len(), 2), |(i, c)| {
            let p = f64::exp(-losses[i]);
            (if c == 0 { p } else { 1.0 - p }) as Elem
        });
        feed(&mut metric, targets, &scores).unwrap();
    }
    let value = || metric.compute().unwrap()[0].1;
    assert_relative_eq!(value(), 1.5f64.exp(), epsilon = 1e-6);
    assert_eq!(value(), value());
    // Places of a sequence count one by one: [N, K, T] with targets [N, T].
    let mut of_places = Perplexity::default();
    let scores = ArrayD::from_shape_vec(vec![1, 2, 2], vec![0.5, 0.25, 0.5, 0.75]).unwrap();
    let batch = Batch::unlabelled(ArrayD::zeros(vec![1, 1])).with("target", arr2(&[[0i64, 1]]));
    of_places.process(&Predictions::of(&batch, &Fields::one("scores", scores))).unwrap();
    assert_relative_eq!(of_places.compute().unwrap()[0].1, (1.0 / 0.375f64).sqrt(), epsilon = 1e-6);
}

/// Labels of -1 are in doubt: they do not count, or count as the VOC metrics are told.
#[test]
fn labels_in_doubt_do_not_count() {
    let batch = Batch::unlabelled(ArrayD::zeros(vec![3, 1]));
    let batch = batch.with("target", arr2(&[[1i64, 0], [-1, 1], [0, 1]]));
    let outputs = outputs(&arr2(&[[0.9, 0.1], [0.8, 0.9], [0.2, 0.4]]));
    let value = |config: &str| {
        let mut evaluator = built(config);
        evaluator.process(&Predictions::of(&batch, &outputs)).unwrap();
        evaluator.compute().unwrap()[0].1
    };
    for (key, precision, ap) in [("null", 100.0, 100.0), ("true", 100.0, 100.0), ("false", 75.0, 100.0)] {
        let with = |name: &str| format!("{{type: VOC{name}, difficult_as_positive: {key}}}");
        assert_relative_eq!(value(&with("MultiLabelMetric")), precision);
        assert_relative_eq!(value(&with("AveragePrecision")), ap);
    }
    assert_relative_eq!(value("{type: MultiLabelMetric}"), 100.0);
}

/// The names of MMPretrain, with thresholds and numbers of labels in them.
#[test]
fn names_of_multi_label_figures_are_mmpretrains() {
    for (config, name) in [
        ("{type: MultiLabelMetric, items: precision}", "multi-label/precision"),
        ("{type: MultiLabelMetric, items: precision, thr: 0.3}", "multi-label/precision_thr-0.30"),
        (
            "{type: MultiLabelMetric, items: recall, thr: 0.3, average: micro}",
            "multi-label/recall_thr-0.30_micro",
        ),
        ("{type: MultiLabelMetric, items: recall, topk: 1}", "multi-label/recall_top1"),
        (
            "{type: MultiLabelMetric, items: recall, topk: 1, average: null}",
            "multi-label/recall_top1_classwise/*",
        ),
        ("{type: AveragePrecision}", "multi-label/mAP"),
        ("{type: AveragePrecision, average: null}", "multi-label/AP_classwise/*"),
    ] {
        assert_eq!(built(config).names(), [name], "{config}");
    }
    let both: Spec<dyn Metric> =
        parse("c.yaml", "{type: MultiLabelMetric, thr: 0.5, topk: 1}").unwrap().read().unwrap();
    let text = Evaluator::build(&[both], &mut BuildCx::default()).err().unwrap().to_string();
    assert!(text.contains("give either `thr` or `topk`"), "{text}");
}

/// Counts of other classes or of another metric are refused, and a metric of one's own that cannot be merged says so.
#[test]
fn counts_that_do_not_belong_together_are_refused() {
    let counted = |classes: usize, metric: &mut dyn Metric| {
        feed(metric, &[0], &sure(&[0], classes)).unwrap();
        metric.counted().unwrap()
    };
    let mut matrix = ConfusionMatrix::new(false);
    let three = counted(3, &mut matrix);
    let text = {
        let mut other = ConfusionMatrix::new(false);
        counted(2, &mut other);
        other.merge(&three).unwrap_err().to_string()
    };
    assert!(text.contains("scores for 3 classes after 2"), "{text}");
    for bytes in [&[][..], &[0xff], b"text"] {
        let text = matrix.merge(bytes).unwrap_err().to_string();
        assert!(text.contains("these are not the counts of this metric"), "{text}");
    }
    assert!(MAE::default().merge(&three).is_err());
    let mut evaluator = Evaluator::new(vec![Box::new(MAE::default())]).unwrap();
    assert!(
        evaluator.merge(&[]).unwrap_err().to_string().contains("of 0 metrics are merged with those of 1")
    );

    struct Own;
    impl Metric for Own {
        fn process(&mut self, _: &Predictions<'_>) -> Result<()> {
            Ok(())
        }
        fn compute(&self) -> Result<Vec<(String, f64)>> {
            Ok(Vec::new())
        }
        fn reset(&mut self) {}
        fn names(&self) -> Vec<String> {
            Vec::new()
        }
    }
    assert!(Own.counted().unwrap_err().to_string().contains("Own cannot be counted in parts"));
}

/// The bins of a reliability diagram, each with its upper end.
#[test]
fn the_table_of_a_calibration_has_its_bins() {
    let mut metric = CalibrationError::new(4);
    let scores = arr2(&[[0.75, 0.25], [0.25, 0.75], [0.0, 1.0], [0.5, 0.5]]);
    feed(&mut metric, &[0, 0, 1, 0], &scores).unwrap();
    let (name, table) = metric.tables().remove(0);
    assert_eq!(
        (name.as_str(), table.rows()),
        ("bins", &["0.25 to 0.5", "0.5 to 0.75", "0.75 to 1"].map(String::from)[..])
    );
    assert_eq!(*table.values(), arr2(&[[1.0, 1.0, 0.5], [2.0, 0.5, 0.75], [1.0, 1.0, 1.0]]));
    let values = metric.compute().unwrap();
    assert_relative_eq!(values[0].1, (0.5 + 2.0 * 0.25) / 4.0);
    assert_relative_eq!(values[1].1, 0.5);
}

/// One NaN among the scores is seen in the figure, and is no rank.
#[test]
fn scores_that_are_no_numbers_show() {
    let scores = arr2(&[[0.2, 0.8], [Elem::NAN, Elem::NAN], [0.7, 0.3]]);
    for config in ["{type: LogLoss}", "{type: BrierScore}", "{type: Perplexity}", "{type: CalibrationError}"]
    {
        let mut evaluator = built(config);
        evaluator.process(&Predictions::of(&batch(&[1, 1, 0]), &outputs(&scores))).unwrap();
        assert!(evaluator.compute().unwrap()[0].1.is_nan(), "{config}");
    }
}
