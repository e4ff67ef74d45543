//! Data sets in a run: classes by name, fingerprints at resume, samples that cannot be read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ndarray::Array3;
use shanty::base::{Error, Result, Rng};
use shanty::checkpoint::load;
use shanty::config::{Diags, parse};
use shanty::data::{
    Batch, DataLoader, Dataset, Fingerprint, Marks, RepeatDataset, Sample, Subset, Synthetic, survey,
};
use shanty::plugin::prelude::*;
use shanty::run::EpochBasedTrainLoop;
use shanty::run::{Outcome, RunConfig, Runner, RunnerBuilder};
use shanty::testing::toy_optim;
use shanty::testing::toy_runner;

/// Samples of three numbers; some cannot be read. What was read is written down.
#[derive(Clone, Default)]
struct Probe {
    len: usize,
    bad: BTreeSet<usize>,
    reads: Arc<Mutex<BTreeSet<usize>>>,
}

impl Probe {
    fn of(len: usize, bad: &[usize]) -> Self {
        Self { len, bad: bad.iter().copied().collect(), ..Self::default() }
    }
}

impl Dataset for Probe {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize, _: &mut Rng) -> Result<Sample> {
        self.reads.lock().unwrap().insert(index);
        match self.bad.contains(&index) {
            true if index.is_multiple_of(2) => panic!("torn"),
            true => Err(Error::invalid("the file is torn")),
            false => Ok(Sample::new(Array3::from_elem((3, 1, 1), index as f32), 0)),
        }
    }
}

fn of(data: impl Dataset + 'static, max_bad_samples: usize) -> DataLoader {
    DataLoader::new(data).shuffle(true).batch_size(4).max_bad_samples(max_bad_samples)
}

fn run(dir: &Path, data: DataLoader, epochs: u64) -> RunnerBuilder {
    toy_runner(dir, epochs, 4).unwrap().train(data, EpochBasedTrainLoop::new(epochs), toy_optim())
}

#[test]
fn unreadable_samples_are_left_out_whoever_reads_them() {
    let read = |num_workers, max_bad| {
        let loader = of(Probe::of(22, &[3, 8, 17]), max_bad).num_workers(num_workers);
        let batches: Vec<Result<Batch, String>> =
            loader.batches(0, Some(12)).map(|batch| batch.map_err(|e| e.to_string())).collect();
        (batches, loader.bad_samples().iter().map(|(index, _)| *index).collect::<Vec<_>>())
    };
    let (alone, bad) = read(0, 3);
    let ids: Vec<u64> = alone.iter().flat_map(|batch| batch.as_ref().unwrap().ids.clone()).collect();
    assert_eq!(ids.len(), 2 * 19);
    assert!(!ids.iter().any(|id| [3, 8, 17].contains(id)));
    assert_eq!(BTreeSet::from_iter(bad.clone()), BTreeSet::from([3, 8, 17]));
    assert!(alone.iter().flatten().all(|batch| batch.valid == batch.len()));
    for max_bad in [0, 1, 2, 3, 9] {
        let alone = read(0, max_bad);
        assert_eq!(alone.0.iter().any(Result::is_err), max_bad < 3);
        for workers in [1, 2, 5] {
            assert!(read(workers, max_bad) == alone, "{workers} workers, {max_bad} at most");
        }
    }
}

#[test]
fn a_batch_of_unreadable_samples_is_an_iteration_without_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let loader = of(Probe::of(8, &[0, 1, 2, 3]), 4);
    let mut runner = run(dir.path(), loader, 3).build().unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    assert_eq!(runner.session().state.progress.iter, 6);
    assert_eq!(runner.session().unreadable().len(), 4);
    let all = of(Probe::of(4, &[0, 1, 2, 3]), 4);
    let batch = all.batches(0, Some(1)).next().unwrap().unwrap();
    assert!(batch.is_empty() && batch.valid == 0);
}

/// The count of unreadable samples goes through a stop: the run ends as it would have, or fails where it would have.
#[test]
fn unreadable_samples_are_counted_through_a_resume() {
    let end = |cut: Option<u64>, most: usize| {
        let dir = tempfile::tempdir().unwrap();
        let make = || run(dir.path(), of(Probe::of(24, &[1, 6, 20]), most), 2);
        if let Some(cut) = cut {
            let stop = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
                if cx.progress.iter == cut {
                    cx.stop("cut");
                }
                Ok(())
            };
            if let Err(error) = make().on(Point::AfterTrainIter, stop).build().unwrap().train() {
                return Err(error.to_string());
            }
        }
        make().resume(cut.is_some()).build().unwrap().train().map_err(|e| e.to_string())?;
        let last = load(&dir.path().join("epoch_2")).unwrap();
        Ok((last.model, last.optimizer, last.meta.unreadable))
    };
    let whole = end(None, 3).unwrap();
    assert_eq!(whole.2.len(), 3);
    let failure = end(None, 2).unwrap_err();
    assert!(failure.contains("the data in train_dataloader, epoch 0, iteration"), "{failure}");
    assert!(failure.contains("2 samples are left out, and max_bad_samples is 2"), "{failure}");
    for cut in [1, 3, 5, 6, 9] {
        assert!(end(Some(cut), 3).unwrap() == whole, "cut at {cut}");
        assert_eq!(end(Some(cut), 2).unwrap_err(), failure, "cut at {cut}");
    }
}

#[test]
fn excluded_samples_are_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let probe = Probe::of(16, &[5]);
    let loader = of(probe.clone(), 0).num_workers(2);
    let mut runner = run(dir.path(), loader, 2).exclude_samples(vec![11, 5]).build().unwrap();
    runner.train().unwrap();
    let expected: BTreeSet<usize> = (0..16).filter(|i| ![5, 11].contains(i)).collect();
    assert_eq!(*probe.reads.lock().unwrap(), expected);
    // A sample that is not there cannot be left out.
    let dir = tempfile::tempdir().unwrap();
    let error =
        run(dir.path(), of(Probe::of(16, &[]), 0), 1).exclude_samples(vec![16]).build().err().unwrap();
    assert!(error.to_string().contains("names sample 16, but the training data have 16 samples"), "{error}");
}

#[test]
fn a_survey_finds_what_cannot_be_read() {
    let found = survey(&Probe::of(50, &[3, 8, 17]), 0, &[17]).unreadable;
    assert_eq!(found.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 8]);
    assert!(found[0].1.contains("the file is torn") && found[1].1.contains("panicked: torn"), "{found:?}");
}

/// Named samples, the rest of the set as `Synthetic`.
struct Named(Vec<&'static str>);

impl Dataset for Named {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize, _: &mut Rng) -> Result<Sample> {
        Ok(Sample::new(Array3::from_elem((3, 1, 1), index as f32), 0))
    }
    fn mark(&self, marks: &mut Marks) {
        self.0.iter().for_each(|name| marks.name(name.as_bytes()));
    }
}

#[test]
fn a_fingerprint_tells_sets_apart() {
    let base = || Synthetic::new(6, [1, 2, 2], 2, 0);
    let of = |data: &dyn Dataset| Fingerprint::of(data);
    let changes = |a: &dyn Dataset, b: &dyn Dataset| of(a).changes(&of(b)).join("; ");
    assert_eq!(changes(&base(), &base()), "");
    assert_eq!(changes(&base(), &Synthetic::new(7, [1, 2, 2], 2, 0)), "6 samples then, 7 now");
    assert_eq!(changes(&base(), &Synthetic::new(6, [1, 2, 2], 2, 1)), "other contents of samples");
    assert_eq!(changes(&base(), &base().with_noise(0.5)), "other contents of samples");
    assert_eq!(changes(&base(), &Synthetic::new(6, [1, 4, 1], 2, 0)), "other contents of samples");
    let classes = changes(&base(), &Synthetic::new(6, [1, 2, 2], 3, 0));
    assert!(classes.starts_with("classes [0, 1] then, [0, 1, 2] now"), "{classes}");
    assert!(changes(&Named(vec!["a", "b"]), &Named(vec!["b", "a"])).contains("another order"));
    let part = |indices: &[usize]| Subset::new(Box::new(base()), indices.to_vec()).unwrap();
    assert!(changes(&part(&[0, 1]), &part(&[1, 0])).contains("another order"));
    let twice = RepeatDataset::new(Box::new(base()), 2).unwrap();
    assert_eq!(changes(&base(), &twice), "6 samples then, 12 now");
    // A name of one sample is not the beginning of another's.
    assert_ne!(of(&Named(vec!["ab", "c"])), of(&Named(vec!["a", "bc"])));
}

/// Other training data at resume made another run of it, silently or with advice about the batch size.
#[test]
fn training_data_that_changed_are_an_error_unless_allowed() {
    let data = |n, seed, batch_size| of(Synthetic::new(n, [3, 1, 1], 2, seed), 0).batch_size(batch_size);
    let resumed = |cut: u64, second: DataLoader, allow: bool| {
        let dir = tempfile::tempdir().unwrap();
        let stop = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
            if cx.progress.iter == cut {
                cx.stop("cut");
            }
            Ok(())
        };
        let mut first = run(dir.path(), data(16, 0, 4), 3).on(Point::AfterTrainIter, stop).build().unwrap();
        first.train().unwrap();
        let mut second = run(dir.path(), second, 3).resume(true).allow_data_changes(allow).build().unwrap();
        second.train().map(|_| second.session().state.progress.iter).map_err(|e| e.to_string())
    };
    for cut in [3, 4, 6] {
        let longer = resumed(cut, data(20, 0, 4), false).unwrap_err();
        assert!(
            longer.contains("the training data are not those of the checkpoint: 16 samples then, 20 now"),
            "{longer}"
        );
        assert!(longer.contains("`allow_data_changes: true`") && !longer.contains("batch_size"), "{longer}");
        assert!(resumed(cut, data(16, 1, 4), false).unwrap_err().contains("other contents of samples"));
        assert_eq!(resumed(cut, data(20, 0, 4), true), Ok(15));
        // Another batch size is no other data: samples are counted, and an epoch is 8 batches now.
        assert_eq!(resumed(cut, data(16, 0, 2), false), Ok(24));
    }
    // Three batches into an epoch that has only one now.
    let shorter = resumed(3, data(4, 0, 4), true).unwrap_err();
    assert!(
        shorter.contains("3 of them into an epoch that has only 1 now") && !shorter.contains("batch_size"),
        "{shorter}"
    );
    let batch = resumed(3, data(16, 0, 8), false).unwrap_err();
    assert!(
        batch.contains("no whole number of this run's batches") && batch.contains("batch_size 4"),
        "{batch}"
    );
}

const RUN: &str = "
model:
  type: ImageClassifier
  backbone: {type: Sequential, layers: [{type: Flatten}, {type: Linear, in_features: 64, out_features: 3}]}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
train_dataloader: {batch_size: 16, dataset: {type: Synthetic, n: 32, classes: 3}}
val_dataloader: {batch_size: 16, dataset: {type: Synthetic, n: 32, classes: VAL}}
val_cfg: {}
val_evaluator: {type: Accuracy}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}
train_cfg: {by_epoch: true, max_epochs: 1}
";

#[test]
fn classes_of_validation_must_be_classes_of_training() {
    let of = |val: &str| shanty::run::check(&parse("c.yaml", &RUN.replace("VAL", val)).unwrap(), None);
    assert!(of("3").is_ok() && of("2").is_ok());
    let text = of("5").unwrap_err().to_string();
    assert!(
        text.contains("c.yaml:7:")
            && text.contains("the class \"3\" of [0, 1, 2, 3, 4] is not among [0, 1, 2]"),
        "{text}"
    );

    let dir = tempfile::tempdir().unwrap();
    let train = of_three(["cat", "dog", "elk"]);
    let with = |val| {
        let accuracy = shanty::metric::Accuracy::new(vec![1], vec![None]).unwrap();
        run(dir.path(), train.clone(), 1).val(val, accuracy).build().map(drop).map_err(|e| e.to_string())
    };
    assert!(with(of_three(["elk", "cat", "dog"])).is_ok());
    assert!(
        with(of_three(["elk", "cat", "fox"])).unwrap_err().starts_with("val_dataloader: the class \"fox\"")
    );
    let labels = |names| of_three(names).with_classes(&["cat", "dog", "elk"].map(String::from)).unwrap();
    let batch = |loader: DataLoader| loader.batches(0, Some(1)).next().unwrap().unwrap();
    let turned = batch(labels(["elk", "cat", "dog"]));
    let by_id: Vec<(u64, i64)> = turned.ids.iter().copied().zip(turned.labels().unwrap().to_vec()).collect();
    assert_eq!(BTreeSet::from_iter(by_id), BTreeSet::from([(0, 2), (1, 0), (2, 1)]));
}

/// Three samples, one of each class.
fn of_three(names: [&'static str; 3]) -> DataLoader {
    struct Three(Vec<String>);
    impl Dataset for Three {
        fn len(&self) -> usize {
            3
        }
        fn get(&self, index: usize, _: &mut Rng) -> Result<Sample> {
            Ok(Sample::new(Array3::<f32>::zeros((3, 1, 1)), index as i64))
        }
        fn classes(&self) -> Option<&[String]> {
            Some(&self.0)
        }
    }
    of(Three(names.map(String::from).to_vec()), 0)
}

/// What needs no file is made by `check` too: it says what `train` would say.
#[test]
fn check_knows_the_sizes_of_data_that_need_no_file() {
    let check = |dataset: &str, more: &str| {
        let train = "train_dataloader: {batch_size: 16, dataset: {type: Synthetic, n: 32, classes: 3}}";
        let text = RUN
            .replace("VAL", "3")
            .replace(train, &format!("train_dataloader: {{batch_size: 16, dataset: {dataset}}}"));
        assert!(text.contains(dataset));
        shanty::run::check(&parse("c.yaml", &format!("{text}{more}")).unwrap(), None)
            .map(drop)
            .map_err(|d| d.to_string())
    };
    let set = "{type: Synthetic, n: 32, classes: 3}";
    assert_eq!(check(set, "exclude_samples: [31]"), Ok(()));
    for (dataset, more, says) in [
        (set, "exclude_samples: [3, 32]", "there is no sample 32: the training data have 32"),
        ("{type: Synthetic, n: 0, classes: 3}", "", "no batch to load"),
        ("{type: Synthetic, classes: 3, shape: [60000, 60000, 60000]}", "", "one image for each class takes"),
        ("{type: Subset, first: 33, dataset: {type: Synthetic, n: 32, classes: 3}}", "", "has 32 samples"),
        (
            "{type: RepeatDataset, times: 4294967296, dataset: {type: RepeatDataset, times: 4294967296, dataset: {type: Synthetic, n: 3, classes: 3}}}",
            "",
            "more than",
        ),
        (
            "{type: RepeatDataset, times: 4294967295, dataset: {type: Synthetic, n: 10000000, classes: 3}}",
            "",
            " takes ",
        ),
    ] {
        let text = check(dataset, more).unwrap_err();
        assert!(text.contains(says) && text.contains("--> c.yaml:"), "{dataset}: {text}");
    }
}

/// The same slip in three loaders filled the screen three times.
#[test]
fn one_mistake_in_three_loaders_is_told_once_with_three_places() {
    let loader = "{batch_size: 16, dataset: {type: Synthetic, n: 32, classes: 3, pipeline: [{type: Resise, scale: 8}]}}";
    let one = |key: &str| {
        format!("{key}_dataloader: {loader}\n{key}_cfg: {{}}\n{key}_evaluator: {{type: Accuracy}}\n")
    };
    let text = RUN
        .replace("VAL", "3")
        .lines()
        .filter(|line| !line.starts_with("val_"))
        .collect::<Vec<_>>()
        .join("\n");
    let text = text.replace("{batch_size: 16, dataset: {type: Synthetic, n: 32, classes: 3}}", loader);
    let text = format!("{text}\n{}{}", one("val"), one("test"));
    let diags: Diags = RunConfig::read(&parse("c.yaml", &text).unwrap()).unwrap_err();
    assert_eq!(diags.0.len(), 3, "{diags}");
    assert_eq!(diags.to_json().as_array().unwrap().len(), 3);
    let shown = diags.to_string();
    assert_eq!(shown.matches("error: ").count(), 1, "{shown}");
    assert_eq!(shown.matches("and here").count(), 2, "{shown}");
    // Values out of range are no other kind.
    let other = text.replace("Resise", "Resize").replace("batch_size: 16", "batch_size: 0");
    let diags: Diags = RunConfig::read(&parse("c.yaml", &other).unwrap()).unwrap_err();
    assert_eq!((diags.0.len(), diags.to_string().matches("error: ").count()), (3, 1), "{diags}");
    // Two different mistakes stay two.
    let other = text.replacen("Resise", "Resize", 1).replacen("scale: 8", "skale: 8", 1);
    let diags: Diags = RunConfig::read(&parse("c.yaml", &other).unwrap()).unwrap_err();
    assert_eq!((diags.0.len(), diags.to_string().matches("error: ").count()), (3, 2), "{diags}");
}

#[test]
fn a_run_of_the_config_trains_with_fewer_classes_to_validate() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{}work_dir: {}\n", RUN.replace("VAL", "2"), dir.path().display());
    let mut runner = Runner::from_config(&parse("c.yaml", &text).unwrap(), Some("c.yaml")).unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let meta = load(&dir.path().join("epoch_1")).unwrap().meta;
    assert_eq!(meta.data.keys().collect::<Vec<_>>(), ["training data", "validation data"]);
    assert_eq!(
        (meta.data["training data"].len, meta.classes),
        (32, vec!["0".into(), "1".into(), "2".into()])
    );
}
