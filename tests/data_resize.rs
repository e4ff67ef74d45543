//! Resizing against values that PyTorch printed (tests/fixtures/gen_resize.py, gen_lenet.py).

#![allow(clippy::unwrap_used)] // helpers of tests

use ndarray::Array3;
use serde::Deserialize;
use shanty::base::keyed;
use shanty::data::{
    Backend, Dataset, Digits, DigitsSplit, Filter, Interpolation, Normalize, Pipeline, Resize, Sample,
    SplitBy, Transform,
};

fn fixture<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[track_caller]
fn close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance, "value {i}: {a}, PyTorch has {b}");
    }
}

#[derive(Deserialize)]
struct Case {
    mode: Interpolation,
    from: (usize, usize, usize),
    to: (usize, usize),
    img: Vec<f32>,
    every: usize,
    out: Vec<f32>,
}

#[test]
fn as_pytorch_interpolates() {
    let cases: Vec<Case> = fixture("resize.json");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let img = Array3::from_shape_vec(case.from, case.img).unwrap();
        let mut sample = Sample::image(img, 0);
        let filter = Filter { backend: Backend::Cv2, interpolation: case.mode };
        let resize = Resize { height: case.to.0, width: case.to.1, keep_ratio: false, filter };
        resize.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap();
        let ours: Vec<f32> =
            sample.picture().unwrap().values().unwrap().iter().copied().step_by(case.every).collect();
        // values up to 255: four units in the last place
        close(&ours, &case.out, 1e-4);
    }
}

#[derive(Deserialize)]
struct Lenet {
    mean: f32,
    std: f32,
    first_image: Vec<f32>,
    first_labels: Vec<i64>,
}

#[test]
fn a_digit_on_its_way_to_lenet() {
    let lenet: Lenet = fixture("lenet5_steps.json");
    let resize = Resize { height: 32, width: 32, keep_ratio: false, filter: Filter::CV2 };
    let normalize = Normalize::new(vec![lenet.mean], vec![lenet.std]).unwrap();
    let pipeline = Pipeline::new(vec![Box::new(resize), Box::new(normalize)]);
    let digits = Digits::load(DigitsSplit::Train, SplitBy::Index).unwrap().with_pipeline(pipeline);
    let get = |i| digits.get(i, &mut keyed(0, "", 0, 0)).unwrap();
    let first = get(0);
    assert_eq!(first.float("inputs").unwrap().shape(), [1, 32, 32]);
    close(first.float("inputs").unwrap().as_slice().unwrap(), &lenet.first_image, 1e-6);
    let labels: Vec<i64> = (0..lenet.first_labels.len()).map(|i| get(i).label().unwrap()).collect();
    assert_eq!(labels, lenet.first_labels);
}
