//! The order of samples, and what a loader makes of it.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ndarray::Array3;
use rand::RngExt;
use shanty::base::{Elem, Result, Rng, keyed};
use shanty::config::parse;
use shanty::data::{
    ClassAwareSampler, DataLoader, DataLoaderConfig, Dataset, RepeatAugSampler, RepeatFactorSampler, Sample,
    SampleWeights, Sampler, Shard, WeightedRandomSampler,
};
use shanty::registry::BuildCx;

/// A set of ten samples of class 0, three of class 1 and one of class 2.
pub fn uneven() -> Vec<i64> {
    [vec![0; 10], vec![1; 3], vec![2]].concat()
}

pub struct Labelled(pub Vec<i64>);

impl Dataset for Labelled {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        // Threads finish in any order, as now and then one waits for the others.
        if keyed(9, "delay", index as u64, std::process::id().into()).random_range(0..8) == 0 {
            std::thread::yield_now();
        }
        let draw = f32::from(rng.random::<u16>()) / 65536.0;
        Ok(Sample::new(Array3::from_elem((3, 1, 1), draw), self.0[index]))
    }
    fn length(&self, index: usize) -> Option<usize> {
        Some(index % 5)
    }
    /// Every third picture is upright.
    fn picture_size(&self, index: usize) -> Result<Option<[usize; 2]>> {
        Ok(Some(if index.is_multiple_of(3) { [4, 3] } else { [3, 4] }))
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
    let text = of("{type: RepeatFactorSampler, oversample_thr: 0.5}", "{type: SyntheticRegression}").unwrap();
    assert!(text.contains("those are no classes. Draw by `DefaultSampler`"), "{text}");
    let text = of("{type: RepeatFactorSampler, oversample_thr: 1.5}", digits).unwrap();
    assert!(text.contains("oversample_thr") && text.contains("c.yaml:2:"), "{text}");
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

/// LVIS's: r = sqrt(0.5 / f) is 1 for 10 of 14, sqrt(7 / 3) for 3 of 14 and sqrt(7) for 1 of 14. Each sample comes r
/// times, rounded up or down anew in each pass, and r times in the mean; a pass is as long as the sum, 17.23, rounded.
#[test]
fn rare_classes_come_as_often_as_lvis_says() {
    let loader = DataLoader::new(Labelled(uneven())).sampler(RepeatFactorSampler::new(0.5)).batch_size(1);
    assert_eq!(loader.len(), 17);
    let sampler = RepeatFactorSampler::new(0.5).for_data(&Labelled(uneven()), 1).unwrap().unwrap();
    let (passes, mut all) = (600, [0usize; 14]);
    let mut rounded = [[usize::MAX, 0]; 14];
    for pass in 0..passes {
        let mut times = [0usize; 14];
        sampler.draw(14, 0, pass).into_iter().for_each(|index| times[index] += 1);
        for (index, n) in times.into_iter().enumerate() {
            all[index] += n;
            rounded[index] = [rounded[index][0].min(n), rounded[index][1].max(n)];
        }
    }
    let factor = |index: usize| [1.0, (7f64 / 3.0).sqrt(), 7f64.sqrt()][uneven()[index] as usize];
    let bounds = |index| [factor(index).floor() as usize, factor(index).ceil() as usize];
    assert_eq!(rounded, std::array::from_fn(bounds));
    // The 0.23 that a pass is too short for are taken from four samples, and chance adds four deviations of a draw of
    // one in two.
    for (index, n) in all.into_iter().enumerate() {
        let mean = n as f64 / passes as f64;
        assert!(
            (mean - factor(index)).abs() < 0.23 / 2.0 + 4.0 * 0.5 / (passes as f64).sqrt(),
            "{index}: {mean}"
        );
    }
    // Rounded anew in each pass, and the same whenever it is asked for; in the order of the data where it is said.
    let kept = RepeatFactorSampler { shuffle: false, ..RepeatFactorSampler::new(1.0) };
    let drawn = kept.for_data(&Labelled(vec![0, 0, 0, 0, 0, 0, 1, 1]), 1).unwrap().unwrap();
    // sqrt(8 / 6) six times and 2 twice: 10.93 in all, so that one of the six comes again.
    assert!((0..20).all(|pass| drawn.draw(8, 0, pass).is_sorted() && drawn.draw(8, 0, pass).len() == 11));
    let several: std::collections::BTreeSet<_> = (0..20).map(|pass| drawn.draw(8, 0, pass)).collect();
    assert!(several.len() > 2 && several.iter().all(|order| order.ends_with(&[6, 6, 7, 7])), "{several:?}");
    assert_eq!(drawn.draw(8, 3, 7), drawn.draw(8, 3, 7));
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
