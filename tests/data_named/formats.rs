//! Pictures of other formats than JPEG and PNG against what Pillow makes of them (tests/fixtures/gen_formats.py).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array3;
use serde::Deserialize;
use shanty::data::{Colors, PictureFile, Sample};

use super::{fixture, set};

#[derive(Deserialize)]
struct About {
    height: usize,
    width: usize,
}

fn decoded(path: &Path, file: PictureFile) -> std::result::Result<Array3<u8>, String> {
    let mut sample = Sample::of_file(PictureFile { path: path.to_owned(), ..file }, 0);
    let bytes = sample.picture().unwrap().bytes().map_err(|e| e.to_string())?;
    Ok(bytes.unwrap().to_array())
}

fn rgb() -> PictureFile {
    PictureFile { colors: Colors::Rgb, ..PictureFile::new("") }
}

/// Name, and red, green and blue by Pillow.
fn formats() -> Vec<(PathBuf, Array3<u8>)> {
    let folder = fixture("formats");
    let names: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(folder.join("pillow.json")).unwrap()).unwrap();
    let values = fs::read(folder.join("pillow.bin")).unwrap();
    let mut rest = &values[..];
    let all = names.into_iter().map(|(name, about)| {
        let About { height, width } = serde_json::from_value(about).unwrap();
        let (own, after) = rest.split_at(height * width * 3);
        rest = after;
        (folder.join(name), Array3::from_shape_vec((height, width, 3), own.to_vec()).unwrap())
    });
    all.collect()
}

/// What is stored without loss is what Pillow makes of it; grey is the lightness of the colours.
#[test]
fn every_format_is_what_pillow_makes_of_it() {
    let all = formats();
    assert_eq!(all.len(), 23);
    let mut wrong = BTreeMap::new();
    for (path, expected) in &all {
        let name = path.file_name().unwrap().to_str().unwrap();
        let own = decoded(path, rgb()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(own.dim(), expected.dim(), "{name}");
        let most = own.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        if most > if name == "lossy.webp" { 2 } else { 0 } {
            wrong.insert(name.to_owned(), most);
        }
        let gray = decoded(path, PictureFile { colors: Colors::Gray, ..rgb() }).unwrap();
        for (light, rgb) in gray.iter().zip(own.exact_chunks((1, 1, 3))) {
            let light_of = 0.299 * f64::from(rgb[[0, 0, 0]])
                + 0.587 * f64::from(rgb[[0, 0, 1]])
                + 0.114 * f64::from(rgb[[0, 0, 2]]);
            assert!((f64::from(*light) - light_of).abs() <= 1.0, "{name}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Cut, with other bytes, or with a header that promises more than there is: an error or a picture, no panic, and no
/// memory that the limit does not allow.
#[test]
fn hostile_files_of_every_format_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for (whole, _) in formats() {
        let bytes = fs::read(&whole).unwrap();
        let name = whole.display();
        for cut in (0..bytes.len()).step_by(1 + bytes.len() / 20) {
            fs::write(&path, &bytes[..cut]).unwrap();
            let _ = decoded(&path, rgb());
        }
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 60) {
            for by in [0x01, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] ^= by;
                fs::write(&path, other).unwrap();
                if let Err(text) = decoded(&path, PictureFile { max_pixels: 1 << 16, ..rgb() }) {
                    assert!(text.starts_with(&path.display().to_string()), "{name}: {text}");
                }
            }
        }
        let text = decoded(&whole, PictureFile { max_pixels: 13 * 18 - 1, ..rgb() }).unwrap_err();
        assert!(text.contains("18 × 13 pixels, more than `max_pixels` 233"), "{name}: {text}");
    }
    // 20,000 × 20,000 pixels in a few bytes.
    let le = |n: u32| n.to_le_bytes();
    let bmp = [
        b"BM".as_slice(),
        &le(70),
        &le(0),
        &le(54),
        &le(40),
        &le(20_000),
        &le(20_000),
        &[1, 0, 24, 0],
        &[0; 24],
    ]
    .concat();
    for (bytes, says) in [
        (bmp, "cannot hold the 20000 × 20000 pixels"),
        (b"P6 20000 20000 255 abc".to_vec(), "cannot hold the 20000 × 20000 pixels"),
        (b"GIF89a\x20\x4e\x20\x4e\x00\x00\x00;".to_vec(), "x: cannot be decoded: "),
        (b"P7 what".to_vec(), "x: cannot be decoded: "),
        (b"hello".to_vec(), "no JPEG, PNG, WebP, BMP, GIF, PNM or TIFF file"),
    ] {
        fs::write(&path, bytes).unwrap();
        let text = decoded(&path, rgb()).unwrap_err();
        assert!(text.contains(says), "{text}");
    }
}

/// A folder takes pictures of all formats, by their endings in any case, and what is in a file counts, not its name.
#[test]
fn a_folder_takes_every_format() {
    let dir = tempfile::tempdir().unwrap();
    for (i, (path, _)) in formats().iter().enumerate() {
        let ending = path.extension().unwrap().to_str().unwrap().to_uppercase();
        fs::create_dir_all(dir.path().join("c")).unwrap();
        fs::copy(path, dir.path().join("c").join(format!("{i}.{ending}"))).unwrap();
    }
    let set =
        set("CustomDataset", dir.path(), "pipeline: [{type: LoadImageFromFile}, {type: Resize, scale: 8}]")
            .unwrap();
    assert_eq!(set.dataset().len(), 23);
    assert_eq!(set.batches(0, Some(1)).next().unwrap().unwrap().inputs().unwrap().shape(), [23, 3, 8, 8]);
}
