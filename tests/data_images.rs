//! Pictures from the disk: decoding, resizing and folders, against what Pillow and torchvision made of the same files
//! (tests/fixtures/gen_images.py).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::{Path, PathBuf};

use shanty::base::Result;
use shanty::config::parse;
use shanty::data::{DataLoader, DataLoaderConfig, Shard};
use shanty::registry::BuildCx;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images").join(name)
}

fn loader(yaml: &str) -> Result<DataLoader> {
    let config: DataLoaderConfig = parse("c.yaml", yaml).unwrap().read_checked().unwrap();
    config.build(7, Shard::SOLO, &mut BuildCx::new(7))
}

fn refusal(dataset: &str) -> String {
    loader(&format!("{{batch_size: 1, dataset: {dataset}}}")).err().expect(dataset).to_string()
}

/// Two classes with two and one pictures, a file that is none, and an empty class.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("444.jpg", "dog/b.JPG"),
        ("420.jpg", "dog/a.jpeg"),
        ("scene.png", "cat/deep/er.png"),
        ("rgb.png", "cat/note.txt"),
    ] {
        let to = dir.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture(from), to).unwrap();
    }
    dir
}

/// The loaders of docs/pictures.md; nothing is built, so no file need be there.
#[test]
fn the_documented_configs_are_read() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pictures.md")).unwrap();
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let node = parse("pictures.md", block).unwrap();
        for (key, loader) in node.entries() {
            assert!(["train_dataloader", "val_dataloader"].contains(&&*key.text));
            loader.read_checked::<DataLoaderConfig>().unwrap();
        }
    }
}

#[test]
#[cfg(not(feature = "images"))]
fn a_program_without_decoders_says_how_to_get_them() {
    let dir = folder();
    let text = refusal(&format!("{{type: ImageFolder, data_root: '{}'}}", dir.path().display()));
    assert!(text.contains("without the feature `images`") && text.contains("--features images"), "{text}");
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
}

#[cfg(feature = "images")]
mod with_decoders {
    use super::*;

    use ndarray::Array3;
    use shanty::base::keyed;
    use shanty::data::{
        Backend, Batch, CenterCrop, Colors, Dataset, Direction, Edge, Filter, ImageFolder, Interpolation,
        LoadImageFromFile, Normalize, PictureFile, Pipeline, RandomFlip, RandomResizedCrop, ResizeEdge,
        Sample, Transform,
    };

    /// A file's pixels: height, width, channels.
    fn read(name: &str, colors: Colors) -> Array3<u8> {
        let file = PictureFile { colors, ..PictureFile::new(fixture(name)) };
        Sample::of_file(file, 0).picture().unwrap().bytes().expect(name).unwrap().to_array()
    }

    fn rgb(name: &str) -> Array3<u8> {
        read(name, Colors::Rgb)
    }

    fn apply(transform: &dyn Transform, mut sample: Sample, draw: u64) -> Sample {
        transform.apply(&mut sample, &mut keyed(0, "augment", draw, 0)).unwrap();
        sample
    }

    fn rgb_file(name: &str) -> Sample {
        Sample::of_file(PictureFile { colors: Colors::Rgb, ..PictureFile::new(fixture(name)) }, 0)
    }

    /// Largest and mean difference.
    #[track_caller]
    fn differences(a: &Array3<u8>, b: &Array3<u8>) -> (u8, f64) {
        assert_eq!(a.dim(), b.dim());
        let all: Vec<u8> = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).collect();
        (
            all.iter().copied().max().unwrap(),
            all.iter().map(|&d| f64::from(d)).sum::<f64>() / all.len() as f64,
        )
    }

    /// What gen_images.py put into the PNG files.
    fn pattern(y: usize, x: usize, c: usize) -> u8 {
        [20 * y + x, 9 * x, 1023 - 7 * y - 5 * x][c] as u8
    }

    #[test]
    fn png_files_of_every_kind_are_exact() {
        let expected = Array3::from_shape_fn((10, 12, 3), |(y, x, c)| pattern(y, x, c));
        assert_eq!(rgb("rgb.png"), expected);
        assert_eq!(rgb("rgba.png"), expected, "transparency is left out");
        let mut swapped = expected.clone();
        swapped.invert_axis(ndarray::Axis(2));
        assert_eq!(read("rgb.png", Colors::Bgr), swapped);
        let gray = Array3::from_shape_fn((10, 12, 3), |(y, x, _)| pattern(y, x, 0));
        assert_eq!(rgb("gray.png"), gray);
        assert_eq!(rgb("gray16.png"), gray, "the upper 8 of 16 bits");
        let one = gray.slice(ndarray::s![.., .., ..1]).to_owned();
        assert_eq!(read("gray.png", Colors::Gray), one);
        let palette = Array3::from_shape_fn((10, 12, 3), |(y, x, c)| {
            let i = pattern(y, x, 0) % 8;
            [30 * i, 255 - 20 * i, 5 * i][c]
        });
        assert_eq!(rgb("palette.png"), palette);
        // 0.299 R + 0.587 G + 0.114 B
        let light = read("rgb.png", Colors::Gray);
        for ((y, x, _), &value) in light.indexed_iter() {
            let [r, g, b] = [0, 1, 2].map(|c| f64::from(pattern(y, x, c)));
            assert!((f64::from(value) - (0.299 * r + 0.587 * g + 0.114 * b)).abs() <= 0.502, "{y} {x}");
        }
    }

    #[test]
    fn jpeg_files_are_what_libjpeg_makes_of_them() {
        for (name, reference) in
            [("420", "420"), ("422", "422"), ("444", "444"), ("progressive", "420"), ("restart", "420")]
        {
            let ours = rgb(&format!("{name}.jpg"));
            let (most, mean) = differences(&ours, &rgb(&format!("{reference}_pillow.png")));
            assert!(most <= 2 && mean < 0.02, "{name}: largest difference {most}, mean {mean}");
        }
        let gray = read("gray.jpg", Colors::Gray);
        let (most, _) = differences(&gray, &read("gray_pillow.png", Colors::Gray));
        assert!(most <= 1, "{most}");
        let wide = rgb("gray.jpg");
        assert!(wide.indexed_iter().all(|((y, x, _), &v)| v == gray[[y, x, 0]]));
    }

    #[test]
    fn a_picture_is_turned_as_its_camera_was_held() {
        let stored = rgb("420.jpg");
        let (h, w, _) = stored.dim();
        // orientation 6: what is stored left is shown on top, what is stored at the bottom left
        let shown = rgb("turned.jpg");
        assert_eq!(shown.dim(), (w, h, 3));
        assert!(shown.indexed_iter().all(|((y, x, c), &v)| v == stored[[h - 1 - x, y, c]]));
        let as_stored =
            LoadImageFromFile { colors: Colors::Rgb, turn: false, ..LoadImageFromFile::default() };
        let mut sample = apply(&as_stored, rgb_file("turned.jpg"), 0);
        assert_eq!(sample.picture().unwrap().bytes().unwrap().unwrap().to_array(), stored);
    }

    #[test]
    fn a_window_is_the_same_whether_the_rest_is_decoded_or_not() {
        for name in
            ["420.jpg", "422.jpg", "444.jpg", "gray.jpg", "progressive.jpg", "restart.jpg", "turned.jpg"]
        {
            let crop = RandomResizedCrop { area: [0.02, 1.0], ..RandomResizedCrop::new(17, 13) };
            for draw in 0..150 {
                let mut whole = rgb_file(name);
                whole.picture().unwrap().bytes().unwrap();
                let (mut whole, mut part) = (apply(&crop, whole, draw), apply(&crop, rgb_file(name), draw));
                let [whole, part] = [&mut whole, &mut part]
                    .map(|s| s.picture().unwrap().bytes().unwrap().unwrap().to_array());
                assert_eq!(part, whole, "{name}, draw {draw}");
            }
        }
    }

    #[test]
    fn windows_are_resized_as_torchvision_does() {
        let scene = rgb("scene.png");
        let mut cases = 0;
        for path in std::fs::read_dir(fixture("")).unwrap().map(|e| e.unwrap().path()) {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let Some(rest) = stem.strip_prefix("scene_") else { continue };
            let (kernel, rest) = rest.split_once('_').unwrap();
            let n: Vec<usize> = rest.split('_').map(|n| n.parse().unwrap()).collect();
            let interpolation =
                if kernel == "bicubic" { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let window = scene.slice(ndarray::s![n[0]..n[0] + n[2], n[1]..n[1] + n[3], ..]).to_owned();
            let whole = RandomResizedCrop {
                max_attempts: 0,
                aspect: [0.01, 100.0],
                filter: Filter { backend: Backend::Pillow, interpolation },
                ..RandomResizedCrop::new(n[5], n[4])
            };
            let expected = rgb(path.file_name().unwrap().to_str().unwrap());
            let mut of_bytes = apply(&whole, Sample::of_bytes(window.clone(), 0), 0);
            let (most, mean) =
                differences(&of_bytes.picture().unwrap().bytes().unwrap().unwrap().to_array(), &expected);
            assert!(most <= 1 && mean < 0.15, "{stem}: {most}, {mean}");
            // Values are not rounded: half a step more.
            let of_values = apply(&whole, Sample::image(window.mapv(f32::from), 0), 0)
                .picture()
                .unwrap()
                .values()
                .unwrap()
                .clone();
            let clipped = of_values.mapv(|v| v.clamp(0.0, 255.0));
            for (ours, theirs) in clipped.iter().zip(&expected) {
                assert!((ours - f32::from(*theirs)).abs() <= 1.5, "{stem}: {ours}, torchvision has {theirs}");
            }
            cases += 1;
        }
        assert_eq!(cases, 8);
    }

    #[test]
    fn without_smoothing_it_is_the_plain_interpolation() {
        let resize = ResizeEdge { scale: 13, edge: Edge::Short, filter: Filter::CV2 };
        let scene = rgb("scene.png");
        let mut bytes = apply(&resize, Sample::of_bytes(scene.clone(), 0), 0);
        let bytes = bytes.picture().unwrap().bytes().unwrap().unwrap().to_array();
        // reference: int(13 * 70 / 52) = 17
        assert_eq!(bytes.dim(), (13, 17, 3));
        // `Resize` is tested against PyTorch.
        let reference =
            shanty::data::Resize { height: 13, width: 17, keep_ratio: false, filter: Filter::CV2 };
        let reference = apply(&reference, Sample::image(scene.mapv(f32::from), 0), 0)
            .picture()
            .unwrap()
            .values()
            .unwrap()
            .clone();
        for (ours, theirs) in bytes.iter().zip(&reference) {
            assert!((f32::from(*ours) - theirs).abs() <= 1.0, "{ours} {theirs}");
        }
        let values = apply(&resize, Sample::image(scene.mapv(f32::from), 0), 0)
            .picture()
            .unwrap()
            .values()
            .unwrap()
            .clone();
        for (ours, theirs) in values.iter().zip(&reference) {
            assert!((ours - theirs).abs() <= 1e-3, "{ours} {theirs}");
        }
    }

    #[test]
    fn bytes_and_values_leave_a_pipeline_alike() {
        let pipeline = || {
            Pipeline::new(vec![
                Box::new(RandomFlip::new(0.5, &[Direction::Horizontal, Direction::Diagonal])),
                Box::new(CenterCrop { width: 50, height: 40 }),
                Box::new(Normalize::new(vec![1.0, 2.0, 3.0], vec![3.0, 7.0, 11.0]).unwrap()),
            ])
        };
        let scene = read("scene.png", Colors::Bgr);
        for draw in 0..8 {
            let of = |sample| pipeline().apply(sample, &mut keyed(0, "augment", draw, 0)).unwrap();
            let file = of(Sample::of_file(PictureFile::new(fixture("scene.png")), 0));
            let values = of(Sample::image(scene.mapv(f32::from), 0));
            assert_eq!(file, values);
        }
    }

    #[test]
    fn a_folder_is_read_in_order() {
        let dir = folder();
        std::fs::create_dir(dir.path().join("ant")).unwrap();
        let set = ImageFolder::load(dir.path()).unwrap();
        assert_eq!(set.classes().unwrap(), ["ant", "cat", "dog"]);
        let paths: Vec<PathBuf> = (0..set.len()).map(|i| set.path(i)).collect();
        assert_eq!(paths, ["cat/deep/er.png", "dog/a.jpeg", "dog/b.JPG"].map(|p| dir.path().join(p)));
        let labels: Vec<i64> =
            (0..3).map(|i| set.get(i, &mut keyed(0, "", 0, 0)).unwrap().label().unwrap()).collect();
        assert_eq!(labels, [1, 2, 2]);
        // As the reference reads: blue first.
        let first = set.get(0, &mut keyed(0, "", 0, 0)).unwrap();
        assert_eq!(
            first.float("inputs").unwrap().clone().permuted_axes(vec![1, 2, 0]),
            read("scene.png", Colors::Bgr).mapv(f32::from).into_dyn()
        );
    }

    #[test]
    fn a_list_names_pictures_and_classes() {
        let dir = folder();
        let root = dir.path().display();
        std::fs::write(dir.path().join("list.txt"), "dog/a.jpeg 1\n\ncat/deep/er.png\t0\n").unwrap();
        let yaml = |more: &str| {
            format!(
                "{{batch_size: 2, sampler: {{type: DefaultSampler, shuffle: false}}, dataset: {{type: CustomDataset, data_root: \
                 '{root}', {more}, pipeline: [{{type: LoadImageFromFile}}, {{type: RandomResizedCrop, scale: 8}}, {{type: \
                 PackInputs}}]}}}}"
            )
        };
        let first = |more: &str| loader(&yaml(more)).unwrap().batches(0, Some(1)).next().unwrap().unwrap();
        let batch = first("ann_file: list.txt, classes: [cat, dog]");
        assert_eq!(
            (batch.labels().unwrap(), batch.inputs().unwrap().shape()),
            (&[1i64, 0][..], &[2, 3, 8, 8][..])
        );
        assert_eq!(first("data_prefix: {img_path: dog}, with_label: false").get("target"), None);
        assert_eq!(first("extensions: .jpg").labels().unwrap(), [1]);

        let wrong = |more: &str| loader(&yaml(more)).err().expect(more).to_string();
        assert!(
            wrong("ann_file: list.txt, classes: [cat]")
                .contains("dog/a.jpeg is of class 1, but `classes` names only 1")
        );
        assert!(wrong("classes: [Katze]").contains("2 folders, but `classes` names 1"));
        std::fs::write(dir.path().join("list.txt"), "dog/a.jpeg 1\ndog/b.JPG\n").unwrap();
        assert!(wrong("ann_file: list.txt").contains("list.txt:2: a line is a path, a space and"));
        assert!(wrong("ann_file: no.txt").contains("no.txt"));
        let refused = |prefix: &str| {
            let text = yaml(&format!("data_prefix: {prefix}"));
            parse("c.yaml", &text).unwrap().read_checked::<DataLoaderConfig>().expect_err(prefix).to_string()
        };
        assert!(refused("{img_path: dog, seg_path: x}").contains("unknown key `seg_path`"));
        assert!(refused("{img_path: [dog]}").contains("c.yaml:1:"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = folder();
        let root = dir.path();
        let text = refusal(&format!("{{type: ImageFolder, data_root: '{}/none'}}", root.display()));
        assert!(text.contains("none: no such folder"), "{text}");
        assert!(refusal("{type: ImageFolder}").contains("Give their folder as `data_root`"));
        let text = refusal(&format!("{{type: ImageFolder, data_root: '{}/dog'}}", root.display()));
        assert!(
            text.contains(
                "dog: no picture in its folders, one for each class; files that end in .jpg, .jpeg, .png"
            ),
            "{text}"
        );

        let whole = std::fs::read(fixture("420.jpg")).unwrap();
        let png = std::fs::read(fixture("scene.png")).unwrap();
        let cases: [(&[u8], &str); 6] = [
            (b"", "the file is empty"),
            (b"hello there", "no JPEG, PNG, WebP, BMP, GIF, PNM or TIFF file"),
            (&whole[..whole.len() / 2], "there is no end marker"),
            (&whole[..40], "it ends in its header"),
            (&png[..png.len() / 2], ""),
            (&png[..20], ""),
        ];
        for (bytes, reason) in cases {
            std::fs::write(root.join("cat/deep/er.png"), bytes).unwrap();
            let set = ImageFolder::load(root).unwrap();
            let error = set.get(0, &mut keyed(0, "", 0, 0)).expect_err(reason).to_string();
            assert!(error.contains("er.png: cannot be decoded: ") && error.contains(reason), "{error}");
        }
        std::fs::remove_file(root.join("dog/a.jpeg")).unwrap();
        std::fs::write(root.join("dog/a.jpeg"), &whole).unwrap();
        let set = ImageFolder::load(root).unwrap();
        std::fs::remove_file(root.join("dog/a.jpeg")).unwrap();
        let error = set.get(1, &mut keyed(0, "", 0, 0)).unwrap_err().to_string();
        assert!(error.contains("a.jpeg"), "{error}");
    }

    #[test]
    fn a_jpeg_cut_or_changed_anywhere_is_read_or_refused() {
        let whole = std::fs::read(fixture("restart.jpg")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jpg");
        let crop = RandomResizedCrop::new(9, 9);
        let try_it = |bytes: &[u8], draw| {
            std::fs::write(&path, bytes).unwrap();
            let mut sample = Sample::of_file(PictureFile::new(&path), 0);
            match crop.apply(&mut sample, &mut keyed(0, "augment", draw, 0)) {
                Ok(()) => assert_eq!(sample.picture().unwrap().bytes().unwrap().unwrap().dim(), (9, 9, 3)),
                Err(error) => assert!(error.to_string().contains("x.jpg: cannot be decoded"), "{error}"),
            }
        };
        for at in 2..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            try_it(&bytes, at as u64);
            try_it(&whole[..at], at as u64);
        }
    }

    #[test]
    fn workers_change_nothing() {
        let dir = folder();
        let batches = |workers: usize| -> Vec<Batch> {
            let yaml = format!(
                "{{batch_size: 4, num_workers: {workers}, sampler: {{type: InfiniteSampler}}, dataset: {{type: ImageFolder, \
                 data_root: '{}', pipeline: [{{type: LoadImageFromFile, channel_order: rgb}}, {{type: RandomResizedCrop, scale: \
                 24}}, {{type: RandomFlip, prob: 0.5}}, {{type: Normalize, mean: 120, std: 60, to_rgb: false}}, {{type: PackInputs}}]}}}}",
                dir.path().display()
            );
            let loader = loader(&yaml).unwrap();
            let mut kept = Vec::new();
            for batch in loader.batches(0, Some(6)) {
                let batch = batch.unwrap();
                kept.push(batch.clone());
                loader.recycle(batch);
            }
            kept
        };
        let alone = batches(0);
        assert_eq!(alone[0].inputs().unwrap().shape(), [4, 3, 24, 24]);
        assert_ne!(alone[0].inputs().unwrap(), alone[1].inputs().unwrap());
        for workers in [1, 2] {
            assert!(batches(workers) == alone, "{workers} workers");
        }
    }
}
