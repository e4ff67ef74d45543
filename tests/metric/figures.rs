//! Figures that scikit-learn gives, in any number of parts.

use super::*;

/// Samples with the figures that scikit-learn and SciPy give for them, by the metric that counts them.
#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    whole: bool,
    target: Vec<Value>,
    scores: Vec<Vec<f64>>,
    pub(super) expected: BTreeMap<String, BTreeMap<String, Option<f64>>>,
}

impl Case {
    pub(super) fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../fixtures/metrics.json")).unwrap()
    }

    pub(super) fn len(&self) -> usize {
        self.target.len()
    }

    /// These samples and what is said of them.
    pub(super) fn batch(&self, rows: &[usize]) -> (Batch, Fields<ArrayD<Elem>>) {
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
    pub(super) fn evaluated(&self, config: &str, shards: usize) -> Result<Vec<(String, f64)>> {
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

pub(super) fn built(config: &str) -> Evaluator {
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

/// What a classifier without a head predicts was refused by Accuracy alone: others took its features for scores.
#[test]
fn features_are_no_scores_of_any_metric_of_classes() {
    let of_numbers =
        ["DumpResults", "MAE", "MSE", "RMSE", "MAPE", "R2", "PearsonCorrCoef", "SpearmanCorrCoef"];
    let mut seen = 0;
    for entry in entries("metric").filter(|entry| !of_numbers.contains(&entry.name)) {
        let (batch, features) = (batch(&[0, 1]), ArrayD::from_elem(vec![2, 4], 0.25));
        let said = |name: &'static str, output: Option<&str>| {
            let outputs: Fields<ArrayD<Elem>> = Fields::one(name, features.clone());
            let mut metric =
                Spec::<dyn Metric>::parse(&example(entry)).unwrap().build(&mut BuildCx::default()).unwrap();
            let done = metric.process(&Predictions { output, ..Predictions::of(&batch, &outputs) });
            done.map_or_else(|error| error.to_string(), |()| String::new())
        };
        let refused = said("features", None);
        assert!(refused.contains("predicts `features`") && refused.contains("`head: null`"), "{refused}");
        assert!(!said("scores", None).contains("`features`"), "{}", entry.name);
        assert!(!said("features", Some("features")).contains("`head: null`"), "{}", entry.name);
        seen += 1;
    }
    assert!(seen > 14, "{seen} metrics");
}
