//! Data loaders and metrics as configs write them.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::PathBuf;

use ndarray::{ArrayD, arr2};
use shanty::base::Result;
use shanty::config::{OneOrMany, parse};
use shanty::data::{Batch, DataLoader, DataLoaderConfig, Shard};
use shanty::metric::{Evaluator, Metric, Predictions};
use shanty::registry::{BuildCx, Spec};

fn config(yaml: &str) -> DataLoaderConfig {
    parse("c.yaml", yaml).unwrap().read_checked().unwrap()
}

fn loader(yaml: &str) -> Result<DataLoader> {
    config(yaml).build(7, Shard::SOLO, &mut BuildCx::new(7))
}

/// What is wrong with it, be it seen while reading or while building.
fn refusal(yaml: &str) -> String {
    match parse("c.yaml", yaml).unwrap().read_checked::<DataLoaderConfig>() {
        Err(diags) => diags.to_string(),
        Ok(config) => {
            let error = config.build(0, Shard::SOLO, &mut BuildCx::new(0)).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        }
    }
}

fn first(loader: &DataLoader) -> Batch {
    loader.batches(0, Some(1)).next().unwrap().unwrap()
}

#[test]
fn a_whole_loader() {
    let text = "
batch_size: 64
num_workers: 2
persistent_workers: true
pin_memory: true
dataset:
  type: Digits
  split: train
  pipeline:
    - {type: Resize, scale: 32}
    - {type: RandomCrop, crop_size: [30, 28], padding: 2}
    - {type: RandomFlip, prob: 0.5, direction: [horizontal, vertical]}
    - {type: Pad, size: [28, 32], pad_val: -1}
    - {type: Normalize, mean: 8, std: 4}
    - {type: PackInputs}
sampler: {type: DefaultSampler, shuffle: true}
collate_fn: {type: default_collate}
";
    let loader = loader(text).unwrap();
    // 1,498 / 64 = 23.4
    assert_eq!(loader.len(), 24);
    assert_eq!(loader.dataset().classes().unwrap().len(), 10);
    let batch = first(&loader);
    assert_eq!(batch.inputs().unwrap().shape(), [64, 1, 32, 28]);
    // Padded behind the crop, then normalised: (-1 - 8) / 4 in the last two rows.
    assert!(batch.inputs().unwrap().slice(ndarray::s![.., .., 30.., ..]).iter().all(|&v| v == -2.25));
    let keys: Vec<&str> = config(text).ignored().iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, ["persistent_workers", "pin_memory"]);
}

mod own {
    use shanty::data::{Collate, DefaultCollate, Sample};
    use shanty::plugin::prelude::*;

    /// Stacks samples the other way round, beginning with as many as are asked for.
    #[derive(Debug, Clone, Deserialize, JsonSchema)]
    pub struct Backwards {
        /// How many samples are left.
        #[schemars(range(min = 1))]
        first: usize,
    }

    impl Collate for Backwards {
        fn collate(&self, samples: Vec<Sample>) -> Result<shanty::data::Batch> {
            DefaultCollate {}.collate(samples.into_iter().take(self.first).rev().collect())
        }
    }

    register! {
        /// Stacks the first samples the other way round.
        dyn Collate, "backwards_collate" => Backwards
    }
}

/// A collate function of one's own is a type like any other: its keys are those of the config, and so are its mistakes.
#[test]
fn a_collate_function_of_ones_own_is_named_in_a_config() {
    let of = |collate: &str| {
        format!(
            "{{batch_size: 4,\n collate_fn: {collate},\n sampler: {{type: DefaultSampler, shuffle: false}}, \
             dataset: {{type: Digits, split: val}}}}"
        )
    };
    for workers in [0, 2] {
        let text = of("{type: backwards_collate, first: 3}").replacen(
            '{',
            &format!("{{num_workers: {workers}, "),
            1,
        );
        assert_eq!(first(&loader(&text).unwrap()).ids, [2, 1, 0]);
    }
    for (collate, says) in [
        ("{type: backwards_collate}", "first"),
        ("{type: backwards_collate, first: 0}", "first"),
        ("{type: backward_collate, first: 1}", "backwards_collate"),
        ("{type: default_collate, first: 1}", "unknown key `first`"),
        ("{type: DefaultSampler}", "unknown collate `DefaultSampler`"),
    ] {
        let text = refusal(&of(collate));
        assert!(text.contains(says) && text.contains("c.yaml:2:"), "{collate}: {text}");
    }
}

/// What MMEngine's loaders and data sets take besides: what would mean nothing passes, the rest is refused with the
/// reason. Draws are by seed, pass and sample, so that there is no worker to be seeded.
#[test]
fn keys_of_mmengines_loaders() {
    let of = |more: &str, set: &str| {
        format!(
            "{{batch_size: 2,\n num_workers: 1, {more}dataset: {{type: CIFAR10, data_root: no/where{set}}}}}"
        )
    };
    for more in
        ["worker_init_fn: null, ", "disable_subprocess_warning: true, ", "timeout: 0, ", "in_order: true, "]
    {
        let read = parse("c.yaml", &of(more, "")).unwrap().read_checked::<DataLoaderConfig>();
        assert!(read.is_ok(), "{more}: {:?}", read.err());
    }
    for set in [
        ", filter_cfg: {}",
        ", filter_cfg: null",
        ", max_refetch: 1000",
        ", indices: 7",
        ", indices: [3, 0, -1]",
    ] {
        let read = parse("c.yaml", &of("", set)).unwrap().read_checked::<DataLoaderConfig>();
        assert!(read.is_ok(), "{set}: {:?}", read.err());
    }
    for (more, set, says) in [
        ("worker_init_fn: {type: mine}, ", "", "workers are threads without a state of their own"),
        ("in_order: false, ", "", "batches come in their order"),
        ("timeout: -1, ", "", "timeout"),
        ("", ", filter_cfg: {filter_empty_gt: true}", "filter_empty_gt"),
        ("", ", max_refetch: -1", "max_refetch"),
        ("", ", indices: some", "indices"),
    ] {
        let text = refusal(&of(more, set));
        assert!(text.contains(says) && text.contains("c.yaml:2:"), "{more}{set}: {text}");
    }
}

#[test]
fn the_workers_of_a_config_change_nothing() {
    let batches = |workers: usize, sampler: &str| -> Vec<Batch> {
        let text = format!(
            "{{batch_size: 100, num_workers: {workers}, prefetch_factor: 1, sampler: {{type: {sampler}}}, dataset: {{type: \
             Digits, split: val, pipeline: [{{type: RandomFlip, prob: 0.5}}, {{type: RandomCrop, crop_size: 8, padding: 1}}]}}}}"
        );
        loader(&text).unwrap().batches(1, Some(8)).map(Result::unwrap).collect()
    };
    for sampler in ["DefaultSampler", "InfiniteSampler"] {
        let alone = batches(0, sampler);
        assert_eq!(alone.len(), 7);
        for workers in [1, 2, 4] {
            assert!(batches(workers, sampler) == alone, "{sampler} with {workers} workers");
        }
    }
}

#[test]
fn sets_made_of_sets() {
    let len =
        |dataset: &str| loader(&format!("{{batch_size: 1, dataset: {dataset}}}")).unwrap().dataset().len();
    assert_eq!(len("{type: Digits}"), 1498);
    assert_eq!(len("{type: Digits, split: val, split_by: tail}"), 297);
    assert_eq!(len("{type: Subset, first: 5, dataset: {type: Digits}}"), 5);
    assert_eq!(len("{type: RepeatDataset, times: 3, dataset: {type: Digits, split: val}}"), 897);
    assert_eq!(len("{type: ConcatDataset, datasets: [{type: Digits}, {type: Digits, split: val}]}"), 1797);

    // Pixels of the parts, in the order of the whole.
    let concat = "{type: ConcatDataset, datasets: [
        {type: Subset, indices: [3, 1], dataset: {type: Synthetic}},
        {type: RepeatDataset, times: 2, dataset: {type: Synthetic, n: 2}}]}";
    let text =
        format!("{{batch_size: 6, sampler: {{type: DefaultSampler, shuffle: false}}, dataset: {concat}}}");
    let whole = first(&loader(&text).unwrap());
    let text = "{batch_size: 4, sampler: {type: DefaultSampler, shuffle: false}, dataset: {type: Synthetic}}";
    let part = first(&loader(text).unwrap());
    assert_eq!(whole.labels().unwrap(), [3, 1, 0, 1, 0, 1]);
    for (i, from) in [3, 1, 0, 1, 0, 1].into_iter().enumerate() {
        assert_eq!(
            whole.inputs().unwrap().index_axis(ndarray::Axis(0), i),
            part.inputs().unwrap().index_axis(ndarray::Axis(0), from)
        );
    }
    assert_eq!(whole.ids, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn num_batch_per_epoch_cuts_an_epoch() {
    let loader = loader("{batch_size: 10, num_batch_per_epoch: 3, dataset: {type: Digits}}").unwrap();
    assert_eq!(loader.len(), 3);
    assert!(loader.batches(0, Some(3)).all(|batch| batch.unwrap().ids.iter().all(|&id| id < 30)));
}

#[test]
fn mistakes_are_named_with_their_place() {
    let digits = "dataset: {type: Digits}";
    let cases = [
        (format!("{{batch_size: 0, {digits}}}"), "c.yaml:1:14"),
        (format!("{{batch_size: 1, num_worker: 2, {digits}}}"), "num_workers"),
        (format!("{{batch_size: 1499, drop_last: true, {digits}}}"), "n 1498 samples, batch 1499, drop_last true"),
        (format!("{{batch_size: 1499, drop_last: true, {digits}}}"), "c.yaml:1:"),
        ("{batch_size: 1, dataset: {type: Digits, split: test}}".into(), "val"),
        ("{batch_size: 1, dataset: {type: Digit}}".into(), "Digits"),
        ("{batch_size: 1, dataset: {type: MNIST, data_root: /nowhere}}".into(), "t10k-labels-idx1-ubyte"),
        ("{batch_size: 1, dataset: {type: MNIST, split: train, test_mode: true}}".into(), "leave one out"),
        ("{batch_size: 1, dataset: {type: Subset, dataset: {type: Digits}}}".into(), "either `indices` or `first`"),
        ("{batch_size: 1, dataset: {type: Subset, first: 1499, dataset: {type: Digits}}}".into(), "`first` is 1499, but the data set has 1498 samples"),
        (
            "{batch_size: 1, dataset: {type: ConcatDataset, datasets: [{type: Digits}, {type: Synthetic, classes: 2}]}}".into(),
            "data sets 0 and 1 have different classes",
        ),
    ];
    for (yaml, expected) in cases {
        let text = refusal(&yaml);
        assert!(text.contains(expected), "{yaml}\n{text}");
    }
    let transforms = [
        ("{type: Resize, scale: 0}", "scale"),
        ("{type: Resize, scale: [1, 2, 3]}", "`scale` is one number or a list of two"),
        ("{type: Resize, scale: 8, interpolation: cubic}", "bilinear"),
        ("{type: Pad}", "either `size` or `padding`"),
        ("{type: Pad, padding: [1, 2, 3]}", "1, 2 or 4 numbers"),
        ("{type: RandomFlip, prob: 1.5}", "1.5"),
        ("{type: RandomFlip, prob: [0.5, 0.25]}", "one for each of the 1 directions"),
        (
            "{type: RandomCrop, crop_size: 4, padding: 1, padding_mode: edge, pad_val: 3}",
            "`pad_val` is for `padding_mode: constant`",
        ),
        ("{type: Normalize, mean: [0, 1], std: 1}", "2 and 1"),
        ("{type: PackInputs}, {type: Resize, scale: 8}", "transforms of pictures come before `PackInputs`"),
    ];
    for (transform, expected) in transforms {
        let text = refusal(&format!("{{batch_size: 1, dataset: {{type: Digits, pipeline: [{transform}]}}}}"));
        assert!(text.contains(expected), "{transform}\n{text}");
    }
}

fn evaluator(yaml: &str) -> Result<Evaluator> {
    let specs: OneOrMany<Spec<dyn Metric>> = parse("c.yaml", yaml).unwrap().read()?;
    Evaluator::build(&specs, &mut BuildCx::new(0))
}

#[test]
fn metrics_one_or_many() {
    let names = |yaml: &str| evaluator(yaml).unwrap().names();
    assert_eq!(names("{type: Accuracy}"), ["accuracy/top1"]);
    assert_eq!(names("{type: Accuracy, topk: [1, 5]}"), ["accuracy/top1", "accuracy/top5"]);
    assert_eq!(
        names("{type: Accuracy, topk: 5, thrs: [0.5, null]}"),
        ["accuracy/top5_thr-0.50", "accuracy/top5_no-thr"]
    );
    assert_eq!(
        names(
            "[{type: Accuracy}, {type: SingleLabelMetric, items: [recall], prefix: sl}, {type: ConfusionMatrix}]"
        ),
        ["accuracy/top1", "sl/recall"]
    );
    assert_eq!(
        names("{type: SingleLabelMetric, average: null, items: recall, num_classes: 2}"),
        ["single-label/recall_classwise/0", "single-label/recall_classwise/1"]
    );
    let refused = |yaml: &str| evaluator(yaml).err().unwrap().to_string();
    assert!(refused("[{type: Accuracy}, {type: Accuracy, topk: [1, 2]}]").contains("named accuracy/top1"));
    assert!(refused("{type: Accuracy, topk: 0}").contains("topk"));
    assert!(refused("{type: Accuracy, top_k: 1}").contains("topk"));
    assert!(refused("{type: Acuracy}").contains("Accuracy"));
}

#[test]
fn null_asks_for_no_threshold_and_absence_for_zero() {
    // A hit by its place, but with a score of 0.
    let value = |yaml: &str| {
        let batch = Batch::new(ArrayD::zeros(vec![1, 1]), vec![0]);
        let mut evaluator = evaluator(yaml).unwrap();
        evaluator
            .process(&Predictions::of(
                &batch,
                &shanty::data::Fields::one("scores", arr2(&[[0.0, -1.0]]).into_dyn()),
            ))
            .unwrap();
        evaluator.evaluate().unwrap()[0].1
    };
    assert_eq!(value("{type: Accuracy, thrs: null}"), 100.0);
    assert_eq!(value("{type: Accuracy}"), 0.0);
}

/// Reads the real files where they are: `data/mnist`, or the folder that `SHANTY_MNIST` names.
#[test]
fn mnist_as_its_authors_made_it() {
    let folder = std::env::var_os("SHANTY_MNIST").map_or_else(|| PathBuf::from("data/mnist"), PathBuf::from);
    if !folder.exists() {
        println!(
            "skipped: no MNIST in {}; set SHANTY_MNIST to the folder of its four files",
            folder.display()
        );
        return;
    }
    let of = |mode| {
        let text = format!(
            "{{batch_size: 128, dataset: {{type: MNIST, data_root: '{}', test_mode: {mode}, pipeline: [{{type: Resize, scale: \
             32}}, {{type: PackInputs}}]}}, sampler: {{type: DefaultSampler, shuffle: false}}}}",
            folder.display()
        );
        loader(&text).unwrap()
    };
    let (train, test) = (of(false), of(true));
    assert_eq!((train.dataset().len(), test.dataset().len(), train.len()), (60_000, 10_000, 469));
    assert_eq!(first(&train).labels().unwrap()[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    assert_eq!(first(&test).labels().unwrap()[..5], [7, 2, 1, 0, 4]);
    assert_eq!(first(&train).inputs().unwrap().shape(), [128, 1, 32, 32]);
}
