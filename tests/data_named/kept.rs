//! Pictures as they are stored: what OpenCV's IMREAD_UNCHANGED makes of them (tests/fixtures/gen_unchanged.py).

use std::fs;
use std::path::PathBuf;

use ndarray::{Array3, s};
use serde::Deserialize;
use shanty::base::keyed;
use shanty::data::{Colors, Picture, PictureFile, Pipeline, Sample, Transform};
use shanty::registry::{self, BuildCx, Spec};

use super::{fixture, set};

#[derive(Deserialize)]
struct About {
    dtype: String,
    shape: [usize; 3],
}

/// Path, whether its values have 16 bits, and what OpenCV makes of it.
fn kept() -> Vec<(PathBuf, bool, Array3<f32>)> {
    let folder = fixture("unchanged");
    let names: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(folder.join("unchanged.json")).unwrap()).unwrap();
    let bytes = fs::read(folder.join("unchanged.bin")).unwrap();
    let mut values = bytes.as_chunks::<2>().0.iter().map(|word| f32::from(u16::from_le_bytes(*word)));
    let all = names.into_iter().map(|(name, about)| {
        let About { dtype, shape } = serde_json::from_value(about).unwrap();
        let own = values.by_ref().take(shape.iter().product()).collect();
        (fixture(&name), dtype == "uint16", Array3::from_shape_vec(shape, own).unwrap())
    });
    all.collect()
}

fn stored(path: PathBuf) -> PictureFile {
    PictureFile { unchanged: true, turn: false, ..PictureFile::new(path) }
}

/// Values of 16 bits stay, transparency is a fourth channel, grey has one; bytes stay bytes.
#[test]
fn pictures_are_kept_as_they_are_stored() {
    let all = kept();
    assert!(all.len() > 35 && all.iter().filter(|(_, deep, _)| *deep).count() >= 15, "{}", all.len());
    let mut wrong = Vec::new();
    for (path, deep, expected) in all {
        let name = path.display().to_string();
        let mut sample = Sample::of_file(stored(path), 0);
        let picture = sample.picture().unwrap();
        let bytes = picture.bytes().unwrap_or_else(|e| panic!("{e}")).is_some();
        let most = if name.ends_with("lossy.webp") { 2.0 } else { 0.0 };
        let own = picture.values().unwrap();
        let alike =
            own.dim() == expected.dim() && own.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= most);
        if bytes == deep || !alike {
            wrong.push(format!("{name}: {:?} for {:?}, 16 bits {}", own.dim(), expected.dim(), !bytes));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Those of a BMP and a GIF are three, whatever they hold.
#[test]
fn formats_of_three_channels() {
    for name in ["alpha.bmp", "gray.bmp", "rgb.bmp", "gray.gif", "interlaced.gif"] {
        let path = fixture("formats").join(name);
        let [own, plain] = [stored(path.clone()), PictureFile::new(path)]
            .map(|file| Sample::of_file(file, 0).picture().unwrap().values().unwrap().clone());
        assert_eq!(own, plain, "{name}");
    }
}

/// A JPEG has three channels, or one where it is grey, and is not turned; the order is that which is asked for.
#[test]
fn jpegs_and_orders_of_channels() {
    let values = |file| Sample::of_file(file, 0).picture().unwrap().values().unwrap().clone();
    let plain = |name: &str, colors| PictureFile { colors, turn: false, ..PictureFile::new(fixture(name)) };
    for (name, colors) in [("pictures/gray.jpg", Colors::Gray), ("pictures/turned.jpg", Colors::Bgr)] {
        assert_eq!(values(stored(fixture(name))), values(plain(name, colors)), "{name}");
    }
    for name in ["unchanged/rgba.png", "pictures/rgba.png"] {
        let (bgr, file) = (values(stored(fixture(name))), stored(fixture(name)));
        let rgb = values(PictureFile { colors: Colors::Rgb, ..file });
        assert_eq!(rgb.slice(s![.., .., ..3]), bgr.slice(s![.., .., ..3; -1]), "{name}");
        assert_eq!(rgb.slice(s![.., .., 3]), bgr.slice(s![.., .., 3]), "{name}");
    }
}

/// From a config to the tensor, beside what `color_type: color` makes of the same files: the upper 8 of 16 bits.
#[test]
fn sixteen_bits_reach_the_tensor() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture("unchanged/rgb.png"), dir.path().join("a.png")).unwrap();
    fs::copy(fixture("unchanged/rgb.tiff"), dir.path().join("b.tiff")).unwrap();
    let tensor = |more: &str| {
        let more = format!("with_label: false, pipeline: [{{type: LoadImageFromFile{more}}}]");
        let loader = set("CustomDataset", dir.path(), &more).unwrap();
        loader.batches(0, Some(1)).next().unwrap().unwrap().inputs().unwrap().clone()
    };
    let (deep, bytes) = (tensor(", color_type: unchanged"), tensor(""));
    assert_eq!((deep.shape(), bytes.shape()), (&[2, 3, 7, 9][..], &[2, 3, 7, 9][..]));
    assert!(deep.iter().any(|v| *v > 60_000.0) && deep.iter().all(|v| v.fract() == 0.0));
    assert_eq!(deep.mapv(|v| (v / 256.0).floor()), bytes);
}

/// Every registered transform works on the values of 16 bits, or says that it cannot: none cuts them off in silence.
#[test]
fn no_transform_cuts_sixteen_bits_off() {
    let mut refused = Vec::new();
    for entry in registry::entries("transform") {
        let spec = Spec::<dyn Transform>::parse(&registry::example(entry)).unwrap();
        let Ok(transform) = spec.build(&mut BuildCx::new(0)) else { continue };
        let deep =
            Array3::from_shape_fn((48, 40, 3), |(y, x, c)| ((1361 * y + 37 * x + 9001 * c) % 65536) as f32);
        for draw in 0..4 {
            let mut sample = Sample::new(Picture::Values(deep.clone()), 0);
            if let Err(error) = transform.apply(&mut sample, &mut keyed(0, "augment", draw, 0)) {
                refused.push((entry.name, error.to_string()));
                break;
            }
            let out = Pipeline::default().apply(sample, &mut keyed(0, "", 0, 0)).unwrap();
            let most = out.float("inputs").unwrap().iter().copied().fold(0.0, f32::max);
            // Normalize makes them small, and is to.
            assert!(most > 10_000.0 || entry.name == "Normalize", "{} leaves {most}", entry.name);
        }
    }
    let told = |name: &str| refused.iter().find(|(own, _)| *own == name).map(|(_, text)| text.as_str());
    for name in ["AutoContrast", "Equalize", "ColorJitter", "GaussianBlur"] {
        let text = told(name).unwrap_or_default();
        assert!(
            text.contains("a picture of 16 bits becomes bytes by another `color_type`"),
            "{name}: {text}"
        );
    }
    for name in ["Resize", "ResizeEdge", "RandomFlip", "Pad", "CenterCrop", "RandomCrop", "RandomResizedCrop"]
    {
        assert_eq!(told(name), None, "{name}");
    }
}

/// Cut off, or with other bytes: an error or a picture, no panic.
#[test]
fn hostile_deep_pictures_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for (whole, _, _) in kept().into_iter().filter(|(path, ..)| path.starts_with(fixture("unchanged"))) {
        let bytes = fs::read(&whole).unwrap();
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 25) {
            let mut other = bytes.clone();
            other[at] ^= 0xff;
            for bytes in [&bytes[..at], &other] {
                fs::write(&path, bytes).unwrap();
                let mut sample =
                    Sample::of_file(PictureFile { max_pixels: 1 << 16, ..stored(path.clone()) }, 0);
                if let Err(error) = sample.picture().unwrap().values() {
                    assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
                }
            }
        }
        let mut sample = Sample::of_file(PictureFile { max_pixels: 62, ..stored(whole) }, 0);
        let text = sample.picture().unwrap().values().unwrap_err().to_string();
        assert!(text.contains("promises 9 × 7 pixels, more than `max_pixels` 62"), "{text}");
    }
}
