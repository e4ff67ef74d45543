//! The order of samples, and what a loader makes of it.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ndarray::Array3;
use rand::RngExt;
use shanty::base::{Elem, Result, Rng, keyed};
use shanty::config::parse;
use shanty::data::{
    Batch, ClassAwareSampler, DataLoader, DataLoaderConfig, Dataset, LengthGroupedSampler, RepeatAugSampler,
    Sample, SampleWeights, Sampler, Shard, WeightedRandomSampler,
};
use shanty::registry::{self, BuildCx};
use shanty::run::verify::verify;
use shanty::run::{EpochBasedTrainLoop, Limits};
use shanty::testing::{toy_optim, toy_runner};

/// A set of ten samples of class 0, three of class 1 and one of class 2.
fn uneven() -> Vec<i64> {
    [vec![0; 10], vec![1; 3], vec![2]].concat()
}

struct Labelled(Vec<i64>);

impl Dataset for Labelled {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        // Threads finish in any order.
        let busy = keyed(9, "delay", index as u64, std::process::id().into()).random_range(0..200);
        (0..busy).for_each(|_| std::thread::yield_now());
        let draw = f32::from(rng.random::<u16>()) / 65536.0;
        Ok(Sample::new(Array3::from_elem((3, 1, 1), draw), self.0[index]))
    }
    fn length(&self, index: usize) -> Option<usize> {
        Some(index % 5)
    }
    fn peek(&self, index: usize, field: &str) -> Option<shanty::data::Value> {
        (field == "target").then(|| self.0[index].into())
    }
}

fn drawn(sampler: impl Sampler + 'static, passes: u64) -> Vec<i64> {
    let set = uneven();
    let loader = DataLoader::new(Labelled(set.clone())).sampler(sampler).batch_size(1);
    let n = loader.len();
    let batches = loader.batches(0, Some(passes * n)).map(Result::unwrap);
    batches.map(|batch| set[batch.ids[0] as usize]).collect()
}

/// Shares of a class among draws.
fn shares(labels: &[i64]) -> [f64; 3] {
    [0, 1, 2].map(|class| labels.iter().filter(|label| **label == class).count() as f64 / labels.len() as f64)
}

/// Balanced draws are thirds, to four deviations of 14,000 draws; weights by class are their parts of the sum.
#[test]
fn weights_say_how_often_a_class_comes() {
    let near = |labels: &[i64], wanted: [f64; 3]| {
        for (share, p) in shares(labels).iter().zip(wanted) {
            let deviation = (p * (1.0 - p) / labels.len() as f64).sqrt();
            assert!((share - p).abs() <= 4.0 * deviation, "{:?} and not {wanted:?}", shares(labels));
        }
    };
    let of =
        |weights| WeightedRandomSampler { num_samples: Some(7000), ..WeightedRandomSampler::new(weights) };
    near(&drawn(of(SampleWeights::Balanced), 2), [1.0 / 3.0; 3]);
    // 10 · 1, 3 · 2, 1 · 4 of 20.
    let classes = SampleWeights::Classes(vec![("1".into(), 2.0), ("2".into(), 4.0)]);
    near(&drawn(of(classes), 2), [0.5, 0.3, 0.2]);
    let each = (0..14).map(|i| if i < 10 { 0.0 } else { f64::from(i - 9) }).collect();
    // 1 + 2 + 3 of 10, and 4.
    near(&drawn(of(SampleWeights::Each(each)), 2), [0.0, 0.6, 0.4]);
    // None twice: all that count come once.
    let each: Vec<f64> = (0..14).map(|i| f64::from(u8::from(i % 2 == 0))).collect();
    let once = WeightedRandomSampler {
        num_samples: Some(7),
        replacement: false,
        ..WeightedRandomSampler::new(SampleWeights::Each(each))
    };
    let mut order = once.draw(14, 3, 0);
    assert_ne!(order, once.draw(14, 3, 1));
    order.sort_unstable();
    assert_eq!(order, [0, 2, 4, 6, 8, 10, 12]);
    // The first of two drawn without replacement by weights 1 and 3 is the second in 3 of 4 passes.
    let two = WeightedRandomSampler {
        replacement: false,
        ..WeightedRandomSampler::new(SampleWeights::Each(vec![1.0, 3.0]))
    };
    let second = (0..4000).filter(|pass| two.draw(2, 0, *pass)[0] == 1).count() as f64 / 4000.0;
    assert!((second - 0.75).abs() < 4.0 * (0.75f64 * 0.25 / 4000.0).sqrt(), "{second}");
}

#[test]
fn weights_that_do_not_fit_are_errors_at_the_sampler() {
    let of = |sampler: &str, dataset: &str| {
        let text = format!("{{batch_size: 2,\n sampler: {sampler},\n dataset: {dataset}}}");
        match parse("c.yaml", &text).unwrap().read_checked::<DataLoaderConfig>() {
            Ok(config) => config.build(0, Shard::SOLO, &mut BuildCx::new(0)).err().map(|e| e.to_string()),
            Err(diags) => Some(diags.to_string()),
        }
    };
    let digits = "{type: Digits, split: val}";
    let weighted = |weights: &str| of(&format!("{{type: WeightedRandomSampler, {weights}}}"), digits);
    assert_eq!(weighted("weights: balanced"), None);
    assert_eq!(weighted("weights: {'3': 10, '7': 0}, num_samples: 1000"), None);
    for (weights, says) in [
        ("weights: [1, 2]", "`weights` are 2, and the data set has 299 samples"),
        ("weights: {three: 1}", "`weights` names the class `three`, but the classes are [0, 1"),
        ("weights: {'3': -1}", "-1"),
        ("weights: [.nan]", "must be a finite number"),
        ("weights: even", "or balanced, not \"even\""),
        (
            "weights: balanced, num_samples: 300, replacement: false",
            "299 samples are more than 0, and a pass draws 300, none of them twice",
        ),
        ("num_samples: 3", "weights"),
    ] {
        let text = weighted(weights).unwrap();
        assert!(text.contains(says) && text.contains("c.yaml:2:"), "{weights}: {text}");
    }
    let text = of("{type: ClassAwareSampler}", "{type: SyntheticRegression}").unwrap();
    assert!(
        text.contains("does not tell the classes of its samples") && text.contains("c.yaml:2:"),
        "{text}"
    );
    // Numbers to be predicted are no classes; the classes of made-up sets are known by the numbers of their samples.
    for sampler in ["{type: ClassAwareSampler}", "{type: WeightedRandomSampler, weights: balanced}"] {
        let text = of(sampler, "{type: SyntheticRegression}").unwrap();
        assert!(text.contains("those are no classes. Draw by `DefaultSampler`"), "{text}");
        for made in ["Synthetic", "SyntheticBlobs", "SyntheticSpirals"] {
            assert_eq!(of(sampler, &format!("{{type: {made}, n: 20}}")), None, "{sampler} {made}");
        }
    }
    let text = of("{type: SequentialSampler, subsample_type: sequential, round_up: false}", digits).unwrap();
    assert!(text.contains("`subsample_type: sequential` goes with `round_up: true`"), "{text}");
}

/// Three classes in turn, each of them exhausted before one of its samples comes again.
#[test]
fn classes_come_in_turn() {
    let labels = drawn(ClassAwareSampler::default(), 3);
    for pass in labels.chunks(14) {
        for turn in pass[..12].chunks(3) {
            let mut turn = turn.to_vec();
            turn.sort_unstable();
            assert_eq!(turn, [0, 1, 2]);
        }
    }
    assert_ne!(labels[..12], labels[14..26]);
    let twice = drawn(ClassAwareSampler { num_sample_class: 2, seed: None }, 1);
    assert!(twice.chunks(2).all(|two| two[0] == two[1]), "{twice:?}");
}

/// DeiT's: a third of the samples, three times each in a row, and each time augmented anew.
#[test]
fn repeated_samples_are_augmented_anew() {
    let loader = DataLoader::new(Labelled(uneven())).sampler(RepeatAugSampler::default()).batch_size(14);
    let batch = loader.batches(0, Some(1)).next().unwrap().unwrap();
    assert_eq!(batch.len(), 14);
    let draws: Vec<Elem> = batch.inputs().unwrap().iter().step_by(3).copied().collect();
    for (ids, draws) in batch.ids.chunks_exact(3).zip(draws.chunks_exact(3)) {
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert!(draws[0] != draws[1] && draws[1] != draws[2] && draws[0] != draws[2], "{draws:?}");
    }
    let kept = RepeatAugSampler { shuffle: false, num_repeats: 2, seed: None };
    assert_eq!(kept.draw(5, 0, 7), [0, 0, 1, 1, 2]);
    // Two ranks take turns: each gets another copy.
    let order = |rank| kept.order(6, 0, 0, Shard { rank, world: 2 });
    assert_eq!((order(0), order(1)), (vec![0, 1, 2], vec![0, 1, 2]));
}

/// Every registered sampler: batches are those of an uncut run from any cut on, for any number of workers and any rank.
#[test]
fn every_sampler_goes_on_where_it_was_cut() {
    let mut count = 0;
    for entry in registry::entries("sampler") {
        let more = if entry.name == "WeightedRandomSampler" { ", weights: balanced" } else { "" };
        let make = |workers: usize, world: usize, rank: usize| {
            let text = format!("{{type: {}{more}}}", entry.name);
            let sampler =
                registry::Spec::<dyn Sampler>::parse(&text).unwrap().build(&mut BuildCx::new(0)).unwrap();
            DataLoader::new(Labelled(uneven()))
                .sampler(sampler)
                .batch_size(3)
                .seed(5)
                .num_workers(workers)
                .shard(Shard { rank, world })
        };
        let read = |loader: DataLoader, from: u64| -> Vec<Batch> {
            loader.batches(from, Some(13)).map(Result::unwrap).collect()
        };
        for (world, rank) in [(1, 0), (2, 1), (3, 2)] {
            let whole = read(make(0, world, rank), 0);
            for (workers, cut) in [(0, 1), (1, 4), (2, 0), (2, 7), (8, 0), (8, 5)] {
                assert_eq!(
                    read(make(workers, world, rank), cut),
                    whole[cut as usize..],
                    "{}, {workers} workers, cut at {cut}",
                    entry.name
                );
            }
        }
        count += 1;
        // A training over it ends as one that was not cut.
        let run = |dir: &Path, resume: bool, limits: Limits| {
            let loader = make(2, 1, 0);
            let runner = toy_runner(dir, 3, 4)?.train(loader, EpochBasedTrainLoop::new(3), toy_optim());
            runner.resume(resume).limits(limits).build()
        };
        let scratch = tempfile::tempdir().unwrap();
        for cut in verify(&run, |_| vec![2, 7], scratch.path(), &mut |_| ()).unwrap() {
            assert_eq!(cut.difference, None, "{}, cut after {}", entry.name, cut.at);
        }
    }
    assert!(count >= 7, "{count}");
}

/// Batches of as long samples, but for those at the seams of lengths: each sample once, another order in every pass.
#[test]
fn batches_are_grouped_by_length() {
    let set = || Labelled((0..103).collect());
    let loader = DataLoader::new(set()).sampler(LengthGroupedSampler::default()).batch_size(4);
    let n = loader.len();
    let pass = |pass: u64| -> Vec<Vec<u64>> {
        loader.batches(pass * n, Some((pass + 1) * n)).map(|batch| batch.unwrap().ids).collect()
    };
    let (first, second) = (pass(0), pass(1));
    assert_ne!(first, second);
    for batches in [&first, &second] {
        let mut all: Vec<u64> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<u64>>());
        let mixed = batches.iter().filter(|ids| ids.iter().any(|id| id % 5 != ids[0] % 5)).count();
        assert!(mixed <= 4, "{mixed} batches of several lengths, of five lengths");
        assert!(batches.windows(2).any(|two| two[0][0] % 5 < two[1][0] % 5), "batches are shuffled, too");
    }
    let untold = super::folders::loader("{type: Digits}").unwrap();
    let error = DataLoader::new(untold.dataset().clone()).sampler(LengthGroupedSampler::default()).check();
    assert!(error.unwrap_err().to_string().contains("does not tell how long sample 0 is"));
}

/// A disk that does not answer hung the run; what is read is named, and nobody waits for who is stuck.
#[test]
fn a_batch_that_does_not_come_is_an_error_with_its_samples() {
    struct Stuck(Mutex<Receiver<()>>);
    impl Dataset for Stuck {
        fn len(&self) -> usize {
            8
        }
        fn get(&self, index: usize, _: &mut Rng) -> Result<Sample> {
            if index == 5 {
                let _ = self.0.lock().unwrap().recv();
            }
            Ok(Sample::new(0.5f32, 0))
        }
    }
    let (release, wait) = channel();
    let loader = DataLoader::new(Stuck(Mutex::new(wait))).batch_size(2).num_workers(2);
    let loader = loader.timeout(Duration::from_millis(40));
    let mut batches = loader.batches(0, Some(4));
    assert_eq!(batches.next().unwrap().unwrap().ids, [0, 1]);
    assert_eq!(batches.next().unwrap().unwrap().ids, [2, 3]);
    let text = batches.next().unwrap().unwrap_err().to_string();
    assert_eq!(text, "no batch came within the 0.04 s of `timeout`; its workers read samples 5");
    assert_eq!(batches.next().unwrap().unwrap().ids, [6, 7]);
    drop(batches);
    drop(release);
    let config = |text: &str| parse("c.yaml", text).unwrap().read_checked::<DataLoaderConfig>().unwrap();
    let of = |text: &str| config(text).build(0, Shard::SOLO, &mut BuildCx::new(0)).map(drop);
    assert!(of("{batch_size: 2, num_workers: 1, timeout: 2.5, dataset: {type: Digits}}").is_ok());
    let text = of("{batch_size: 2, timeout: 2.5, dataset: {type: Digits}}").unwrap_err().to_string();
    assert!(
        text.contains("`timeout` is for workers: set num_workers") && text.contains("c.yaml:1:"),
        "{text}"
    );
}
