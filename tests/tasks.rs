//! Shipped configs of many kinds of task reach their figures in seconds, and the tasks that are made up are what they
//! say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;

use shanty::base::keyed;
use shanty::config::{load, parse};
use shanty::data::{Dataset, Fingerprint, Sample, SyntheticTask, Task};
use shanty::hook::Metrics;
use shanty::registry::{BuildCx, Spec};
use shanty::run::{Outcome, Runner};

fn trained(name: &str) -> Metrics {
    let dir = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    let work_dir = format!("work_dir={}", serde_json::to_string(&dir.path().join("work")).unwrap());
    let node = load(&config, &[work_dir]).unwrap();
    let mut runner = Runner::from_config(&node, Some(&config.to_string_lossy())).unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    runner.val().unwrap()
}

fn at_least(metrics: &Metrics, name: &str, least: f64) {
    let value = metrics.get(name).unwrap();
    assert!(value >= least, "{name} {value}: {metrics:?}");
}

fn at_most(metrics: &Metrics, name: &str, most: f64) {
    let value = metrics.get(name).unwrap();
    assert!(value <= most, "{name} {value}: {metrics:?}");
}

#[test]
fn several_labels_at_once() {
    at_least(&trained("weather_labels.yaml"), "multi-label/f1-score", 90.0);
}

#[test]
fn text_by_characters() {
    at_least(&trained("words_chars.yaml"), "accuracy/top1", 98.0);
}

/// Words as long as they are: an LSTM, and letters that look at each other.
#[test]
fn text_of_any_length() {
    at_least(&trained("words_lstm.yaml"), "accuracy/top1", 97.0);
    at_least(&trained("words_transformer.yaml"), "accuracy/top1", 95.0);
}

/// Which numbers a sum has can only be guessed, at their first letters; all else follows, the result with some thought.
#[test]
fn a_language_model() {
    at_least(&trained("sums_language_model.yaml"), "aAcc", 80.0);
}

/// The noise of what goes in has a deviation of 0.05, the waves one of 0.5.
#[test]
fn a_sequence_of_numbers_to_a_number() {
    let metrics = trained("waves_mlp.yaml");
    at_most(&metrics, "mae", 0.04);
    at_least(&metrics, "r2", 0.99);
}

#[test]
fn two_heads_with_weights() {
    let metrics = trained("digits_two_heads.yaml");
    at_least(&metrics, "accuracy/top1", 95.0);
    at_least(&metrics, "multi-label/f1-score", 96.0);
}

/// The postage has a deviation of 2.8, of which 0.1 is noise; picture and table give it only together.
#[test]
fn a_picture_and_a_table_with_skips_and_two_heads() {
    let metrics = trained("parcels_two_inputs.yaml");
    at_least(&metrics, "accuracy/top1", 95.0);
    at_most(&metrics, "mae", 0.5);
}

/// From a pixel alone the three classes overlap: their means are one apart, and the noise has a deviation of a half.
#[test]
fn a_class_for_every_pixel() {
    at_least(&trained("shapes_masks.yaml"), "mIoU", 88.0);
}

/// Nothing can do better than the noise that 4 numbers do not carry: 20 of 24 parts of 0.05², which is 0.0021.
#[test]
fn an_autoencoder() {
    let metrics = trained("waves_autoencoder.yaml");
    at_most(&metrics, "mse", 0.004);
    assert!(metrics.get("mse").unwrap() > 0.0021, "{metrics:?}");
}

fn get(set: &SyntheticTask, index: usize) -> Sample {
    set.get(index, &mut keyed(9, "", index as u64, 0)).unwrap()
}

fn numbers(sample: &Sample) -> Vec<f32> {
    sample.float("inputs").unwrap().iter().copied().collect()
}

fn clean(task: Task) -> SyntheticTask {
    SyntheticTask::new(task, 60, 5).with_noise(0.0)
}

#[test]
fn without_noise_the_tasks_are_what_they_say() {
    let blobs = clean(Task::Blobs { classes: 3, features: 4 });
    for index in 0..9 {
        assert_eq!(get(&blobs, index).label(), Some((index % 3) as i64));
        assert_eq!(numbers(&get(&blobs, index)), numbers(&get(&blobs, index + 3)));
    }
    assert_ne!(numbers(&get(&blobs, 0)), numbers(&get(&blobs, 1)));

    let spirals = clean(Task::Spirals { arms: 2 });
    for index in 0..60 {
        let (point, arm) = (numbers(&get(&spirals, index)), (index % 2) as f64);
        let (x, y) = (f64::from(point[0]), f64::from(point[1]));
        let angle = 5.0 * x.hypot(y) + arm * std::f64::consts::PI;
        assert!((x.hypot(y) * angle.cos() - x).abs() < 1e-5 && (x.hypot(y) * angle.sin() - y).abs() < 1e-5);
    }

    // Five samples give the weights of four numbers: the product of the first two is known.
    let regression = clean(Task::Regression { features: 2 });
    let sample = |index| {
        let sample = get(&regression, index);
        let (x, y) = (numbers(&sample), sample.float("target").unwrap()[[0]]);
        (f64::from(x[0]), f64::from(x[1]), f64::from(y) - f64::from(x[0]) * f64::from(x[1]))
    };
    let ((a, b, p), (c, d, q)) = (sample(0), sample(1));
    let (u, v) = ((p * d - b * q) / (a * d - b * c), (a * q - p * c) / (a * d - b * c));
    for index in 2..60 {
        let (x, z, y) = sample(index);
        assert!((u * x + v * z - y).abs() < 1e-4, "{u} {v} {index}");
    }
}

/// Of sin(p + k s) three values in a row give the next: x₂ = 2 cos(s) x₁ - x₀.
#[test]
fn a_sequence_goes_on_to_its_target() {
    let set = clean(Task::Sequences { length: 8 });
    for index in 0..60 {
        let sample = get(&set, index);
        let mut all: Vec<f64> = numbers(&sample).into_iter().map(f64::from).collect();
        all.push(f64::from(sample.float("target").unwrap()[[0]]));
        let wave = |k: usize| (all[k + 2] + all[k]) * all[1] - (all[2] + all[0]) * all[k + 1];
        assert!((0..7).all(|k| wave(k).abs() < 1e-5), "{all:?}");
    }
}

#[test]
fn a_mask_says_which_pixels_are_bright_and_dark() {
    let set = clean(Task::Shapes { size: 16 });
    let mut seen = [0; 3];
    for index in 0..60 {
        let sample = get(&set, index);
        let mask = sample.int("target").unwrap();
        assert_eq!(
            (mask.shape(), sample.float("inputs").unwrap().shape()),
            (&[16, 16][..], &[1, 16, 16][..])
        );
        for (pixel, class) in numbers(&sample).into_iter().zip(mask) {
            assert_eq!(pixel, [0.0, 1.0, -1.0][*class as usize]);
            seen[*class as usize] += 1;
        }
    }
    assert!(seen.iter().all(|n| *n > 500), "{seen:?}");
}

#[test]
fn samples_depend_on_seed_and_number_alone() {
    for task in [
        Task::Blobs { classes: 3, features: 2 },
        Task::Spirals { arms: 3 },
        Task::Regression { features: 3 },
        Task::Sequences { length: 5 },
        Task::Shapes { size: 8 },
    ] {
        let set = || SyntheticTask::new(task, 30, 1);
        let later = set().starting_at(12);
        assert_eq!(get(&set(), 15), get(&later, 3), "{task:?}");
        assert_ne!(numbers(&get(&set(), 15)), numbers(&get(&set(), 18)), "{task:?}");
        assert_ne!(
            numbers(&get(&set(), 15)),
            numbers(&get(&SyntheticTask::new(task, 30, 2), 15)),
            "{task:?}"
        );
        assert_ne!(Fingerprint::of(&set()), Fingerprint::of(&later));
    }
}

/// What no machine has is refused before it is made; other numbers of a config reach the task.
#[test]
fn sizes_of_a_config_are_checked() {
    let built = |text: &str| {
        let spec: Spec<dyn Dataset> = parse("c.yaml", text).unwrap().read()?;
        spec.build(&mut BuildCx::new(0))
    };
    for text in [
        "{type: SyntheticShapes, size: 0}",
        "{type: SyntheticShapes, size: 99999}",
        "{type: SyntheticBlobs, noise: -1}",
    ] {
        assert!(built(text).is_err(), "{text}");
    }
    let set = built("{type: SyntheticBlobs, n: 7, classes: 4, features: 3, noise: 0.5, start: 2, seed: 9}")
        .unwrap();
    let same =
        SyntheticTask::new(Task::Blobs { classes: 4, features: 3 }, 7, 9).with_noise(0.5).starting_at(2);
    assert_eq!(Fingerprint::of(&*set), Fingerprint::of(&same));
}
