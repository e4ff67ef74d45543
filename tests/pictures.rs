//! Pictures of every kind against what Pillow makes of them (tests/fixtures/gen_pictures.py), sizes against OpenCV and
//! Pillow (gen_resized.py).
#![cfg(feature = "images")]
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::Array3;
use std::process::Command;

use serde::Deserialize;
use shanty::base::keyed;
use shanty::config::parse;
use shanty::data::{
    Backend, Colors, DataLoader, DataLoaderConfig, Filter, Interpolation, PictureFile, RandomResizedCrop,
    Sample, Shard, Transform,
};
use shanty::registry::BuildCx;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures")
}

fn file(name: &str, colors: Colors) -> Sample {
    Sample::of_file(PictureFile { colors, ..PictureFile::new(folder().join(name)) }, 0)
}

fn read(name: &str, colors: Colors) -> Array3<u8> {
    file(name, colors).picture().unwrap().bytes().unwrap().unwrap().to_array()
}

#[derive(Deserialize)]
struct About {
    mode: String,
    height: usize,
    width: usize,
}

/// Name, mode, and red, green and blue by Pillow.
fn pillow() -> Vec<(String, String, Array3<u8>)> {
    let text = std::fs::read_to_string(folder().join("pillow.json")).unwrap();
    let names: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let values = std::fs::read(folder().join("pillow.bin")).unwrap();
    let mut rest = &values[..];
    let all = names.into_iter().map(|(name, about)| {
        let about: About = serde_json::from_value(about).unwrap();
        let (own, after) = rest.split_at(about.height * about.width * 3);
        rest = after;
        (name, about.mode, Array3::from_shape_vec((about.height, about.width, 3), own.to_vec()).unwrap())
    });
    all.collect()
}

fn worst(a: &Array3<u8>, b: &Array3<u8>) -> u8 {
    assert_eq!(a.dim(), b.dim());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// CMYK came out dark, with the memory of the previous picture in its last quarter; all other kinds may as well not
/// differ.
#[test]
fn every_kind_of_picture_is_what_pillow_makes_of_it() {
    let (mut by_mode, mut wrong) = (BTreeMap::<String, u8>::new(), Vec::new());
    let all = pillow();
    assert!(all.len() >= 32, "{}", all.len());
    for (name, mode, expected) in &all {
        let most = worst(&read(name, Colors::Rgb), expected);
        let kind = format!("{} {mode}", &name[name.len() - 3..]);
        let entry = by_mode.entry(kind).or_default();
        *entry = most.max(*entry);
        println!("{name}: {most}");
        let limit = if name.ends_with(".png") { 0 } else { 2 };
        if most > limit {
            wrong.push(format!("{name}: {most}"));
        }
    }
    println!("{} pictures, largest difference by kind: {by_mode:?}", all.len());
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Colours of progressive files, and those of half the columns, had the padding behind the rims mixed in: values were
/// off by up to 113 and 53.
#[test]
fn every_sampling_of_every_kind_baseline_and_progressive_is_what_pillow_makes_of_it() {
    let text = std::fs::read_to_string(folder().join("table.json")).unwrap();
    let lines: Vec<(String, usize, usize, usize)> = serde_json::from_str(&text).unwrap();
    let values = std::fs::read(folder().join("table.bin")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut by_kind = BTreeMap::<&str, u8>::new();
    let (mut all, mut three) = (0, 0);
    let mut rest = &values[..];
    for (kind, len, height, width) in &lines {
        let (jpeg, after) = rest.split_at(*len);
        let (own, after) = after.split_at(height * width * 3);
        rest = after;
        let path = dir.path().join("x.jpg");
        std::fs::write(&path, jpeg).unwrap();
        let mut read = Sample::of_file(PictureFile { colors: Colors::Rgb, ..PictureFile::new(path) }, 0);
        let read = read.picture().unwrap().bytes().unwrap().unwrap().to_array();
        assert_eq!(read.dim(), (*height, *width, 3));
        let most = by_kind.entry(kind).or_default();
        for off in read.iter().zip(own).map(|(a, b)| a.abs_diff(*b)) {
            *most = off.max(*most);
            (all, three) = (all + 1, three + usize::from(off > 2));
        }
    }
    by_kind.iter().for_each(|(kind, most)| println!("{kind}: {most}"));
    println!("{three} of {all} values are off by more than 2");
    assert!(rest.is_empty() && by_kind.len() == 92, "{}", by_kind.len());
    // Cosine transforms that are rounded differently, by 1 in brightness and by 1 in colour, which counts 1.77 times.
    let wrong: Vec<_> = by_kind.iter().filter(|(_, most)| **most > 3).collect();
    assert!(wrong.is_empty() && three * 2_000 < all, "{three} of {all}, {wrong:?}");
}

/// What lies below a window is not decoded; that changes nothing within it.
#[test]
fn a_window_of_every_kind_is_the_same_whether_the_rest_is_decoded_or_not() {
    for (name, ..) in pillow() {
        let crop = RandomResizedCrop { area: [0.02, 1.0], ..RandomResizedCrop::new(7, 5) };
        for (draw, colors) in (0..30).flat_map(|draw| [(draw, Colors::Bgr), (draw, Colors::Gray)]) {
            let [mut whole, mut part] = [(); 2].map(|()| file(&name, colors));
            whole.picture().unwrap().bytes().unwrap();
            for sample in [&mut whole, &mut part] {
                crop.apply(sample, &mut keyed(0, "augment", draw, 0)).unwrap();
            }
            assert_eq!(part, whole, "{name}, draw {draw}");
        }
    }
}

/// That of its colours; of a JPEG its luma, which is not cut off where the colours are.
#[test]
fn one_channel_is_the_lightness_of_three() {
    for (name, mode, expected) in pillow() {
        let light = read(&name, Colors::Gray);
        // A colour that was cut off at 0 or 255 has lost its lightness.
        let whole = |rgb: &[f64; 3]| mode != "RGB" || rgb.iter().all(|v| (1.0..=254.0).contains(v));
        let differences: Vec<f64> = light
            .indexed_iter()
            .map(|((y, x, _), &value)| (value, [0, 1, 2].map(|c| f64::from(expected[[y, x, c]]))))
            .filter(|(_, rgb)| whole(rgb))
            .map(|(value, [r, g, b])| (f64::from(value) - (0.299 * r + 0.587 * g + 0.114 * b)).abs())
            .collect();
        let (most, sum) =
            differences.iter().fold((0.0, 0.0), |(most, sum): (f64, f64), d| (most.max(*d), sum + d));
        match (name.ends_with(".png"), mode.as_str()) {
            (true, _) => assert!(most <= 0.51, "{name}: {most}"),
            (_, "RGB") => {
                let n = differences.len();
                assert!(n == 0 || sum / (n as f64) < 6.0, "{name}: {sum} over {n}");
            }
            _ => assert!(most <= 2.5, "{name}: {most}"),
        }
    }
}

#[derive(Deserialize)]
struct Resized {
    from: (usize, usize),
    img: Vec<u8>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    backend: Backend,
    interpolation: Interpolation,
    to: (usize, usize),
    out: Vec<u8>,
}

/// Values outside of 0..=255 that kernels with negative weights make are cut off, for bytes as for values.
#[test]
fn every_way_of_resizing_is_that_of_its_library() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resized.json");
    let Resized { from, img, cases } = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 55);
    let img = Array3::from_shape_vec((from.0, from.1, 1), img).unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let filter = Filter::new(case.backend, case.interpolation).unwrap();
        let whole = RandomResizedCrop {
            max_attempts: 0,
            aspect: [0.01, 100.0],
            filter,
            ..RandomResizedCrop::new(case.to.1, case.to.0)
        };
        let apply = |mut sample: Sample| {
            whole.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap();
            sample
        };
        let mut bytes = apply(Sample::of_bytes(img.clone(), 0));
        let bytes = bytes.picture().unwrap().bytes().unwrap().unwrap().to_array();
        let most = bytes.iter().zip(&case.out).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let values =
            apply(Sample::image(img.mapv(f32::from), 0)).picture().unwrap().values().unwrap().clone();
        // OpenCV lets floats be what they become; the fixture holds bytes.
        let values = values.iter().map(|v| v.clamp(0.0, 255.0));
        let most_of_values =
            values.zip(&case.out).map(|(a, b)| (a - f32::from(*b)).abs()).fold(0.0, f32::max);
        println!(
            "{:?} {:?} to {:?}: {most}, values {most_of_values}",
            case.backend, case.interpolation, case.to
        );
        if most > 1 || most_of_values > 1.5 {
            wrong.push(format!(
                "{:?} {:?} {:?}: {most} {most_of_values}",
                case.backend, case.interpolation, case.to
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn loader(workers: usize) -> DataLoader {
    let yaml = format!(
        "{{batch_size: 7, num_workers: {workers}, sampler: {{type: DefaultSampler, shuffle: true}}, dataset: {{type: ImageFolder, \
         data_root: '{}', with_label: false, pipeline: [{{type: LoadImageFromFile}}, {{type: RandomResizedCrop, scale: [9, 12]}}, \
         {{type: RandomFlip, prob: 0.5}}, {{type: Normalize, mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}}, \
         {{type: PackInputs}}]}}}}",
        folder().display()
    );
    let config: DataLoaderConfig = parse("c.yaml", &yaml).unwrap().read_checked().unwrap();
    config.build(3, Shard::SOLO, &mut BuildCx::new(3)).unwrap()
}

/// A hash of all bits of two passes, batches being given back as runs do.
fn digest(workers: usize) -> u64 {
    let loader = loader(workers);
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for batch in loader.batches(0, Some(2 * loader.len())) {
        let batch = batch.unwrap();
        for value in batch.inputs().unwrap() {
            hash = (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
        }
        loader.recycle(batch);
    }
    hash
}

/// Called by the test below in a process of its own; alone it says what the digest is.
#[test]
fn print_the_digest_of_all_pictures() {
    println!("digest {:016x}", digest(0));
}

/// What a batch holds depends on no worker, no process, and nothing that memory held before.
#[test]
fn all_pictures_are_the_same_for_any_workers_process_and_stale_memory() {
    let alone = digest(0);
    for workers in [1, 2, 4] {
        assert_eq!(digest(workers), alone, "{workers} workers");
    }
    for stale in ["ff", "7b", "00", "keep"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["print_the_digest_of_all_pictures", "--exact", "--nocapture"])
            .env("SHANTY_STALE", stale)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(text.contains(&format!("digest {alone:016x}")), "{stale}: {text}");
    }
    println!(
        "digest {alone:016x} for 0, 1, 2 and 4 workers, in 4 other processes with stale memory ff, 7b, 00 and kept"
    );
}
