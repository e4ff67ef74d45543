//! Transforms of pictures against what MMCV, OpenCV and Pillow printed (tests/fixtures/gen_augment.py), and what holds for
//! every transform and every mixing of a batch.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array2, Array3, ArrayD, Axis};
use serde::Deserialize;
use shanty::base::{Elem, Result, Rng, keyed};
use shanty::data::{Batch, DataLoader, Dataset, Pipeline, Sample, Transform};
use shanty::model::{ClsHead, ImageClassifier, Model, StepCx};
use shanty::nn::{Flatten, Linear, Sequential};
use shanty::registry::{BuildCx, Spec, entries, example};

fn transform(config: &str) -> Box<dyn Transform> {
    let spec = Spec::<dyn Transform>::parse(config).unwrap_or_else(|e| panic!("{config}: {e}"));
    spec.build(&mut BuildCx::new(0)).unwrap_or_else(|e| panic!("{config}: {e}"))
}

fn refused(config: &str) -> String {
    let built = Spec::<dyn Transform>::parse(config).map_err(Into::into);
    built.and_then(|spec| spec.build(&mut BuildCx::new(0)).map(drop)).unwrap_err().to_string()
}

#[derive(Deserialize)]
struct Printed {
    shape: (usize, usize, usize),
    img: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    config: String,
    shape: (usize, usize, usize),
    out: String,
}

fn bytes(shape: (usize, usize, usize), hex: &str) -> Array3<u8> {
    let bytes = (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..][..2], 16).unwrap());
    Array3::from_shape_vec(shape, bytes.collect()).unwrap()
}

fn printed() -> Printed {
    let path = format!("{}/tests/fixtures/augment.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What a transform makes of a picture, with the draws of this address.
fn applied(transform: &dyn Transform, mut sample: Sample, draw: u64) -> Array3<f32> {
    transform.apply(&mut sample, &mut keyed(0, "augment", draw, 0)).unwrap();
    sample.picture().unwrap().values().unwrap().clone()
}

/// Grey levels by which a transform may differ from its library: sums of many weights are rounded otherwise.
fn tolerance(config: &str) -> f32 {
    if config.contains("lanczos") || config.contains("EfficientNetCenterCrop") { 1.0 } else { 0.0 }
}

#[test]
fn pixels_are_those_of_mmcv_opencv_and_pillow() {
    let printed = printed();
    let img = bytes(printed.shape, &printed.img);
    let mut worst: BTreeMap<String, f32> = BTreeMap::new();
    for case in &printed.cases {
        let kind = case.config.trim_start_matches("{type: ").split([',', '}']).next().unwrap();
        let transform = transform(&case.config);
        let expected = bytes(case.shape, &case.out).mapv(f32::from);
        let ours = applied(&*transform, Sample::of_bytes(img.clone(), 0), 0);
        let off = (&ours - &expected).iter().fold(0.0f32, |worst, v| worst.max(v.abs()));
        assert!(off <= tolerance(&case.config), "{}: off by {off}", case.config);
        let slot = worst.entry(kind.to_owned()).or_default();
        *slot = slot.max(off);
        // A picture that has been mirrored is the mirrored picture.
        let flip = transform_of_flip();
        let mut mirrored = Sample::of_bytes(img.clone(), 0);
        flip.apply(&mut mirrored, &mut keyed(0, "", 0, 0)).unwrap();
        let turned = img.slice(ndarray::s![..;-1, ..;-1, ..]).to_owned();
        let (a, b) =
            (applied(&*transform, mirrored, 0), applied(&*transform, Sample::of_bytes(turned, 0), 0));
        assert_eq!(a, b, "{}", case.config);
    }
    assert_eq!(printed.cases.len(), 106, "{worst:?}");
}

fn transform_of_flip() -> Box<dyn Transform> {
    transform("{type: RandomFlip, prob: 1, direction: diagonal}")
}

/// Values that are bytes are changed as bytes are, those that are none are refused with the remedy; pixels of any values
/// are moved.
#[test]
fn images_of_values_are_changed_as_bytes_or_refused() {
    let img = Array3::from_shape_fn((6, 7, 3), |(y, x, c)| ((40 * y + 31 * x + 77 * c) % 256) as u8);
    for kind in ["AutoContrast", "Equalize", "Invert", "TrivialAugment"] {
        let changed = transform(&example(entries("transform").find(|entry| entry.name == kind).unwrap()));
        for draw in 0..20 {
            let of_bytes = applied(&*changed, Sample::of_bytes(img.clone(), 0), draw);
            let of_values = applied(&*changed, Sample::image(img.mapv(f32::from), 0), draw);
            assert!((&of_bytes - &of_values).iter().all(|off| off.abs() <= 1.0), "{kind} {draw}");
        }
    }
    let invert = transform("{type: Invert, prob: 1}");
    for (value, said) in [(-1.5, "-1.5 to"), (300.0, "to 300"), (f32::NAN, "NaN to"), (0.5, "to 0.5")] {
        let mut sample = Sample::image(Array3::from_elem((2, 2, 1), value), 0);
        let text = invert.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap_err().to_string();
        assert!(text.contains(said) && text.contains("it comes before `Normalize`"), "{text}");
    }
    let rotate = transform("{type: Rotate, angle: 180, prob: 1, pad_val: -9}");
    let img = Array3::from_shape_fn((3, 4, 1), |(y, x, _)| (4 * y + x) as f32 / 100.0 - 0.05);
    let turned = applied(&*rotate, Sample::image(img.clone(), 0), 0);
    assert_eq!(turned, img.slice(ndarray::s![..;-1, ..;-1, ..]).to_owned());
}

/// Bicubic weights overshoot beside edges: values that could be bytes stay such, and can be inverted afterwards.
#[test]
fn values_that_could_be_bytes_stay_so_where_pixels_move() {
    // As handwritten digits are: whole numbers from 0 to 16.
    let img = Array3::from_shape_fn((8, 8, 1), |(y, x, _)| if (x + y) % 3 == 0 { 16u8 } else { 0 });
    for moved in ["Shear, magnitude: 0.3", "Rotate, angle: 20", "Translate, magnitude: 0.3"] {
        for interpolation in ["bicubic", "lanczos"] {
            let moved = format!("{{type: {moved}, prob: 1, interpolation: {interpolation}}}");
            let both = format!("{{type: Compose, transforms: [{moved}, {{type: Invert, prob: 1}}]}}");
            let (moved, both) = (transform(&moved), transform(&both));
            for draw in 0..8 {
                let of_values = applied(&*both, Sample::image(img.mapv(f32::from), 0), draw);
                let of_bytes = applied(&*both, Sample::of_bytes(img.clone(), 0), draw);
                assert_eq!(of_values, of_bytes);
                // What is no byte is not cut off.
                let scaled = img.mapv(|v| f32::from(v) / 8.0 - 1.0);
                let out = applied(&*moved, Sample::image(scaled, 0), draw);
                assert!(out.iter().any(|v| *v < 0.0));
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_remedy() {
    for (config, said) in [
        ("{type: Rotate}", "give either `angle` or `magnitude_range`"),
        ("{type: Rotate, angle: 3, magnitude_range: [0, 3]}", "give either `angle` or `magnitude_range`"),
        ("{type: Rotate, magnitude_range: [0, 3], magnitude_key: thr}", "the strength is `angle` here"),
        ("{type: Shear, magnitude_range: [0, .inf]}", "`magnitude_range` must be a finite number"),
        ("{type: Shear, magnitude_range: [0, 1], total_level: 0}", "`total_level` must be greater than 0"),
        ("{type: Shear, magnitude_range: [0, 1], magnitude_std: most}", "magnitude_std"),
        ("{type: Shear, magnitude: 1, interpolation: hamming}", "nearest, bilinear, bicubic or lanczos"),
        ("{type: Posterize, bits: 9}", "bits"),
        (
            "{type: RandAugment, policies: tim_increasing, num_policies: 2, magnitude_level: 9}",
            "timm_increasing",
        ),
        ("{type: RandAugment, policies: [], num_policies: 2, magnitude_level: 9}", "names no transform"),
        ("{type: RandAugment, policies: [{type: Rotat}], num_policies: 2, magnitude_level: 9}", "Rotat"),
        ("{type: AutoAugment, policies: imagenet, hparams: {pad_vla: 3}}", "pad_vla"),
        ("{type: RandomErasing, min_area_ratio: 0.5, max_area_ratio: 0.2}", "`min_area_ratio: 0.5` is above"),
        ("{type: RandomErasing, fill_std: 3}", "`fill_std` is for `mode: rand`"),
        ("{type: RandomErasing, aspect_range: [3, 1]}", "`aspect_range`"),
        ("{type: RandomChoice, transforms: [{type: Invert}], prob: [0.5]}", "they sum to 1"),
        ("{type: ColorJitter, hue: 0.7}", "`hue`"),
        ("{type: ColorJitter, hue: 0.2, backend: cv2}", "leave `backend: cv2` out"),
        ("{type: Lighting, eigval: [1, 2], eigvec: [[1, 2, 3]]}", "`eigvec` has three rows"),
        ("{type: EfficientNetRandomCrop, scale: 8, aspect_ratio_range: [2, 1]}", "`aspect_ratio_range`"),
    ] {
        let text = refused(config);
        assert!(text.contains(said), "{config}: {text}");
    }
    let cut = transform("{type: Cutout, shape: 2, prob: 1, pad_val: [1, 2]}");
    let mut sample = Sample::of_bytes(Array3::zeros((4, 4, 3)), 0);
    let text = cut.apply(&mut sample, &mut keyed(0, "", 0, 0)).unwrap_err().to_string();
    assert!(text.contains("`pad_val` has 2 numbers for a picture of 3 channels"), "{text}");
}

/// `hparams` reach every transform that has the key and does not give it; levels reach those with a range.
#[test]
fn rand_augment_hands_on_its_level_and_hparams() {
    let img = Array3::from_elem((8, 8, 3), 200u8);
    let config = "{type: RandAugment, num_policies: 1, magnitude_level: 5, hparams: {pad_val: [1, 2, 3]}, policies: \
                  [{type: Translate, magnitude_range: [0, 0.5], prob: 1, random_negative_prob: 0, magnitude_level: 9}]}";
    let out = applied(&*transform(config), Sample::of_bytes(img.clone(), 0), 0);
    // Level 5 of 10: a quarter of 8 pixels.
    for (x, column) in out.axis_iter(Axis(1)).enumerate() {
        let expected = if x < 2 { [1.0, 2.0, 3.0] } else { [200.0; 3] };
        assert!(column.outer_iter().all(|pixel| pixel.to_vec() == expected), "column {x}");
    }
    let own = config.replace("prob: 1,", "prob: 1, pad_val: 7,");
    assert_eq!(applied(&*transform(&own), Sample::of_bytes(img, 0), 0)[[0, 0, 1]], 7.0);
}

/// Any picture at all goes through every policy: no size, depth or value makes them fail but what is said.
#[test]
fn pictures_of_all_shapes_go_through_every_policy() {
    let all = ["timm_increasing", "simple_increasing", "trivial_wide"].map(|name| {
        format!(
            "{{type: RandAugment, policies: {name}, num_policies: 3, magnitude_level: 10, magnitude_std: 9}}"
        )
    });
    let auto = "{type: AutoAugment, policies: imagenet, hparams: {interpolation: bicubic}}".to_owned();
    for config in all.iter().chain([&auto]) {
        let transform = transform(config);
        for (at, shape) in
            [(1, 1, 1), (1, 9, 3), (7, 1, 3), (2, 2, 4), (16, 16, 3), (5, 4, 2)].into_iter().enumerate()
        {
            for draw in 0..40 {
                let img = Array3::from_shape_fn(shape, |(y, x, c)| (91 * y + 37 * x + 11 * c + at) as u8);
                assert_eq!(applied(&*transform, Sample::of_bytes(img, 0), draw).dim(), shape);
            }
        }
    }
}

/// Samples of one kind, changed by a pipeline.
struct Through {
    pipeline: Pipeline,
    sample: fn(usize) -> Sample,
    asked: AtomicUsize,
}

impl Dataset for Through {
    fn len(&self) -> usize {
        12
    }
    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }
    /// Sooner or later, so that batches come in any order.
    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        (0..self.asked.fetch_add(7, Ordering::Relaxed) % 5).for_each(|_| std::thread::yield_now());
        pipeline.apply((self.sample)(index), rng)
    }
}

fn picture(index: usize) -> Sample {
    Sample::of_bytes(
        Array3::from_shape_fn((9, 9, 3), |(y, x, c)| (31 * y + 17 * x + 83 * c + 5 * index) as u8),
        1,
    )
}

fn values(index: usize) -> Sample {
    Sample::image(Array3::from_elem((9, 9, 3), index as f32), 1)
}

fn sequence(index: usize) -> Sample {
    Sample::new(Array2::from_shape_fn((9, 3), |(t, f)| (10 * t + f + index) as f32), 1)
}

/// Batches are bit for bit the same for any number of workers, and for a run that goes on in the middle of an epoch, with
/// every transform that there is.
#[test]
fn workers_and_resumes_change_no_value_of_any_transform() {
    // What cannot be made of its example alone.
    let config = |name: &str| match name {
        "Compose" => {
            Some("{type: Compose, transforms: [{type: RandomFlip, prob: 0.5}, {type: Invert}]}".to_owned())
        }
        "MapLabels" => Some("{type: MapLabels, values: [1, 0]}".to_owned()),
        "RandomCrop" | "CenterCrop" => Some(format!("{{type: {name}, crop_size: 4}}")),
        "RandomGrayscale" => Some("{type: RandomGrayscale, prob: 0.5, keep_channels: true}".to_owned()),
        "RandomWindow" => Some("{type: RandomWindow, length: 4}".to_owned()),
        _ => None,
    };
    let mut seen = 0;
    for entry in entries("transform") {
        let config = config(entry.name).unwrap_or_else(|| example(entry));
        let of_sequences = ["AddNoise", "TimeMask", "FeatureMask", "RandomWindow"].contains(&entry.name);
        let sample = match entry.name {
            // What has been read already is not read again; images of values never were.
            "LoadImageFromFile" | "CachePictures" => values,
            _ if of_sequences => sequence,
            _ => picture,
        };
        let batches = |workers: usize, from: u64| -> Vec<Batch> {
            let pipeline = Pipeline::new(vec![transform(&config)]);
            let set = Through { pipeline, sample, asked: AtomicUsize::new(0) };
            let loader = DataLoader::new(set).batch_size(4).shuffle(true).seed(3).num_workers(workers);
            loader.batches(from, Some(6)).map(|b| b.unwrap_or_else(|e| panic!("{config}: {e}"))).collect()
        };
        let whole = batches(0, 0);
        for (workers, from) in [(1, 4), (2, 0), (8, 0)] {
            assert_eq!(batches(workers, from), whole[from as usize..], "{config} with {workers} workers");
        }
        seen += 1;
    }
    assert!(seen > 30, "{seen} transforms");
}

fn classifier(train_cfg: &str, head: &str) -> Result<Box<dyn Model>> {
    let config = format!(
        "{{type: ImageClassifier, backbone: {{type: Sequential, layers: [{{type: Flatten}}, {{type: Linear, in_features: 48, \
         out_features: 3}}]}}, head: {{type: ClsHead{head}}}, train_cfg: {train_cfg}}}"
    );
    let mut model = Spec::<dyn Model>::parse(&config)?.build(&mut BuildCx::new(0))?;
    model.init_weights(0)?;
    Ok(model)
}

fn batch() -> Batch {
    let pixels = (0..4 * 48).map(|i| ((i * 37) % 101) as Elem / 50.0 - 1.0).collect();
    Batch::new(ArrayD::from_shape_vec(vec![4, 3, 4, 4], pixels).unwrap(), vec![0, 1, 2, 1])
}

/// The mixed loss is the loss of mixed inputs with mixed targets: of a linear classifier, by hand.
#[test]
fn mixed_batches_have_the_loss_of_their_mixed_targets() {
    let step = |iter| StepCx { seed: 7, iter, loss_scale: 1.0 };
    let loss = |model: &mut dyn Model, iter| model.train_step(&batch(), &step(iter)).unwrap().loss().unwrap();
    let plain = "{}";
    for ways in [
        "{augments: {type: Mixup, alpha: 0.8}}",
        "{augments: [{type: Mixup, alpha: 0.8}, {type: CutMix, alpha: 1.0}]}",
        "{augments: [{type: CutMix, alpha: 1.0, cutmix_minmax: [0.3, 0.9]}, {type: ResizeMix, alpha: 1.0}], probs: [0.5, 0.5]}",
    ] {
        for losses in ["", ", loss: {type: LabelSmoothLoss, label_smooth_val: 0.1, mode: original}"] {
            let mut mixed = classifier(ways, losses).unwrap();
            let mut own = classifier(plain, losses).unwrap();
            let values: Vec<f64> = (0..6).map(|iter| loss(&mut *mixed, iter)).collect();
            // A pure function of seed and iteration.
            assert!(
                values.iter().enumerate().rev().all(|(iter, value)| loss(&mut *mixed, iter as u64) == *value)
            );
            assert!(values.iter().all(|value| value.is_finite() && *value != loss(&mut *own, 0)), "{ways}");
            // An evaluation is not mixed.
            let eval = |model: &mut dyn Model| model.eval_step(&batch()).unwrap().sample_losses;
            assert_eq!(eval(&mut *mixed), eval(&mut *own));
        }
    }
    // Probabilities of 0 leave every batch alone.
    let mut never = classifier("{augments: {type: Mixup, alpha: 0.8}, probs: 0.0}", "").unwrap();
    assert_eq!(loss(&mut *never, 3), loss(&mut *classifier(plain, "").unwrap(), 3));
}

/// With a classifier that always says the same, the loss of any mixture is ln 3; and weights move as by PyTorch's
/// `cross_entropy` with probabilities.
#[test]
fn mixtures_keep_the_sum_of_a_target() {
    let linear = Sequential::new().with(Flatten::new()).with(Linear::new(48, 3));
    let ways: Vec<Box<dyn shanty::model::BatchAugment>> = vec![Box::new(shanty::model::Mixup::new(0.5))];
    let augments = shanty::model::BatchAugments::new(ways);
    let mut model = ImageClassifier::new(linear, ClsHead::default()).augments(augments);
    model.init_weights(0).unwrap();
    shanty::params::HostParams::visit_mut(&mut model, &mut |mut p| p.value.fill(0.0));
    for iter in 0..5 {
        let step = StepCx { seed: 0, iter, loss_scale: 1.0 };
        let loss = model.train_step(&batch(), &step).unwrap().loss().unwrap();
        assert!((loss - 3f64.ln()).abs() < 1e-6, "{loss}");
    }
}

#[test]
fn right_answers_are_not_counted_among_mixed_targets() {
    let text =
        classifier("{augments: {type: Mixup, alpha: 0.8}}", ", cal_acc: true").err().unwrap().to_string();
    assert!(text.contains("`cal_acc` counts right answers, and mixed targets have none"), "{text}");
    assert!(classifier("{augments: []}", ", cal_acc: true").is_ok());
    let text =
        classifier("{augments: [{type: Mixup, alpha: 1}], probs: [0.5, 0.5]}", "").err().unwrap().to_string();
    assert!(text.contains("`probs` has 2 numbers for 1 `augments`"), "{text}");
    let text =
        classifier("{augments: {type: CutMix, alpha: 1, cutmix_minmax: [0.9, 0.1]}}", "").err().unwrap();
    assert!(text.to_string().contains("the smaller one first"), "{text}");
}

/// Labels of pictures without a class of the head are refused by name, mixed or not.
#[test]
fn mixing_wants_classes() {
    let mut model = classifier("{augments: {type: Mixup, alpha: 0.8}}", "").unwrap();
    let strange = Batch::new(ArrayD::zeros(vec![2, 3, 4, 4]), vec![0, 3]);
    let step = StepCx { seed: 0, iter: 0, loss_scale: 1.0 };
    let text = model.train_step(&strange, &step).unwrap_err().to_string();
    assert!(text.contains("label 3 of sample 1 is none of the 3 classes"), "{text}");
}
