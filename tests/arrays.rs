//! Arrays in memory and in NumPy's files, whose fixtures NumPy wrote (tests/fixtures/gen_npy.py).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::{Path, PathBuf};

use ndarray::{Array2, Array4, arr1, arr2};
use shanty::base::{Result, keyed};
use shanty::config::parse;
use shanty::data::{ArrayDataset, Dataset, FieldKind, Fingerprint, Sample};
use shanty::registry::{BuildCx, Spec};

fn built(config: &str) -> Result<Box<dyn Dataset>> {
    let spec: Spec<dyn Dataset> = parse("data.yaml", config).unwrap().read()?;
    spec.build(&mut BuildCx::new(0))
}

fn refused(config: &str) -> String {
    built(config).err().unwrap().to_string()
}

fn get(set: &dyn Dataset, index: usize) -> Sample {
    set.get(index, &mut keyed(0, "", 0, 0)).unwrap()
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/npy").join(name);
    serde_json::to_string(&path).unwrap()
}

fn numbers(set: &dyn Dataset, field: &str) -> Vec<f64> {
    let of = |index| match get(set, index) {
        sample if sample.fields.get(field).unwrap().kind() == FieldKind::Float => {
            sample.float(field).unwrap().iter().map(|v| f64::from(*v)).collect::<Vec<_>>()
        }
        sample => sample.int(field).unwrap().iter().map(|v| *v as f64).collect(),
    };
    (0..set.len()).flat_map(of).collect()
}

#[test]
fn every_type_and_order_of_numpy_is_read() {
    let set = built(&format!("{{type: Npz, file: {}}}", fixture("types.npz"))).unwrap();
    let (signed, unsigned) = ([-2., -1., 0., 1., 2., 3.], [0., 1., 2., 3., 4., 5.]);
    let fields = set.fields().unwrap();
    assert_eq!(fields.len(), 21);
    for name in fields.names() {
        let expected: &[f64] = match name {
            "yes" => &[0., 1., 0., 1., 0., 1.],
            "scalars" => &[7., -9.],
            "fortran" => &unsigned,
            name if name.contains("_u") => &unsigned,
            _ => &signed,
        };
        assert_eq!(numbers(&*set, name), expected, "{name}");
        let float = name.contains("_f") || name == "fortran";
        let kind = if float { FieldKind::Float } else { FieldKind::Int };
        assert_eq!(fields.get(name).unwrap().kind, kind, "{name}");
    }
    assert_eq!(fields.get("fortran").unwrap().to_string(), "floats of shape [3]");
    assert_eq!(fields.get("scalars").unwrap().to_string(), "integers, one a sample");
}

#[test]
fn what_cannot_become_a_field_is_refused_by_its_name() {
    let odd = |array: &str| {
        refused(&format!("{{type: Npz, file: {}, fields: {{x: {array}}}}}", fixture("odd.npz")))
    };
    for (array, expected) in [
        ("half", "odd.npz, array `half`: its values are of type \"<f2\": floats of 4 or 8 bytes"),
        ("record", "array `record`: its values are records or objects"),
        ("text", "array `text`: its values are of type \"<U1\""),
        ("large", "value 0: 9223372036854775808 is too large for an integer"),
        ("huge", "value 0: 1e300 is too large for a float of 32 bits"),
        (
            "hale",
            "there is no array `hale`: there are half, record, text, large, huge (did you mean `half`?)",
        ),
    ] {
        let text = odd(array);
        assert!(text.contains(expected), "{text}");
    }
    let text = refused(&format!("{{type: Npz, file: {}}}", fixture("plain.npy")));
    assert!(text.contains("plain.npy: it is no .npz file"), "{text}");
    let text = refused(&format!("{{type: Npy, files: {{inputs: {}}}}}", fixture("types.npz")));
    assert!(text.contains("types.npz: it is no .npy file: it does not begin with"), "{text}");
}

fn npy(dir: &Path, header: &str, values: &[u8]) -> String {
    let file: PathBuf = dir.join("a.npy");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    std::fs::write(&file, bytes).unwrap();
    format!("{{type: Npy, files: {{inputs: {}}}}}", serde_json::to_string(&file).unwrap())
}

/// A header may promise what no machine has, or what the file does not hold: no memory is taken for it.
#[test]
fn a_header_that_promises_too_much_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let of = |descr: &str, shape: &str, values: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        refused(&npy(dir.path(), &header, values))
    };
    let text = of("<f4", "(1099511627776,)", &[0; 4]);
    assert!(
        text.contains("shape [1099511627776] takes 4398046511104 bytes, and 4 are behind the header"),
        "{text}"
    );
    for shape in ["(1099511627776, 1099511627776)", "(4611686018427387904, 2)"] {
        let text = of("<f8", shape, &[0; 8]);
        assert!(text.contains("more values than can be counted"), "{text}");
    }
    let text = of("<f4", "(2,)", &[0; 9]);
    assert!(text.contains("takes 8 bytes, and 9 are behind"), "{text}");
    assert!(of("<f4", "()", &[0; 4]).contains("`inputs` is one number"));
    assert!(of("<f4", "(-1,)", &[0; 4]).contains("is none of a plain array"));
    assert!(of("é4", "(1,)", &[0; 4]).contains("its values are of type \"é4\""));
    assert!(of("|b1", "(1,)", &[2]).contains("a bool is 0 or 1, not 2"));
    for header in ["", "{", "{}", "{'descr': '<f4'}", "[1]", "{'descr' '<f4'}", "{'descr': '<f4', 'a': 1}"] {
        let text = refused(&npy(dir.path(), header, &[]));
        assert!(text.contains("is none of a plain array"), "{header}: {text}");
    }
    let file = dir.path().join("a.npy");
    for bytes in [&b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..], b"\x93NUMPY\x09\x00\x00\x00", b"\x93NUM", b""] {
        std::fs::write(&file, bytes).unwrap();
        let config = format!("{{type: Npy, files: {{inputs: {}}}}}", serde_json::to_string(&file).unwrap());
        let text = refused(&config);
        assert!(text.contains("a.npy: "), "{text}");
    }
}

/// The same in an archive, whose entry says how long it is.
#[test]
fn an_archive_that_promises_too_much_is_refused_at_once() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.npz");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }\n";
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&file).unwrap());
    archive.start_file("x.npy", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
    archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
    archive.write_all(header.as_bytes()).unwrap();
    archive.write_all(&[0; 9]).unwrap();
    archive.finish().unwrap();
    let text = refused(&format!("{{type: Npz, file: {}}}", serde_json::to_string(&file).unwrap()));
    assert!(
        text.contains("a.npz, array `x`: an array of shape [1099511627776] takes 1099511627776 bytes, and 9"),
        "{text}"
    );
}

#[test]
fn files_are_split_predicted_and_told_apart() {
    let file = fixture("plain.npy");
    let part = |part: &str| {
        built(&format!("{{type: Npy, files: {{img: {file}}}, split: {{val: 0.5, seed: 3}}, part: {part}}}"))
            .unwrap()
    };
    let (train, val) = (part("train"), part("val"));
    let mut both = [numbers(&*train, "inputs"), numbers(&*val, "inputs")].concat();
    both.sort_by(f64::total_cmp);
    assert_eq!((train.len(), val.len(), both), (1, 1, vec![0., 1., 2., 3., 4., 5.]));
    assert_ne!(Fingerprint::of(&*train), Fingerprint::of(&*val));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/npy/plain.npy");
    assert_eq!(numbers(&*train.of_files(&[path.clone(), path]).unwrap(), "inputs").len(), 12);
    let text = refused(&format!("{{type: Npy, files: {{inputs: {file}}}, part: train}}"));
    assert!(text.contains("`part` asks for Train, but there is no `split`"), "{text}");
    let text = refused(&format!("{{type: Npy, files: {{inputs: {file}, img: {file}}}}}"));
    assert!(text.contains("there are two arrays for the field `inputs`"), "{text}");
}

/// Names of classes had no effect where the target is numbers.
#[test]
fn classes_of_numbers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let array = |descr: &str, shape: &str, values: &[u8]| {
        let folder = tempfile::tempdir_in(dir.path()).unwrap().keep();
        npy(&folder, &format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"), values);
        serde_json::to_string(&folder.join("a.npy")).unwrap()
    };
    let of = |descr: &str, shape: &str, values: &[u8]| {
        let (x, y) = (array("|u1", "(2, 1)", &[1, 2]), array(descr, shape, values));
        built(&format!("{{type: Npy, files: {{inputs: {x}, target: {y}}}, classes: [a, b]}}"))
    };
    let ones = [1.0f32, 1.0].map(f32::to_le_bytes).concat();
    for shape in ["(2,)", "(2, 1)"] {
        let text = of("<f4", shape, &ones).err().unwrap().to_string();
        assert!(text.contains("`classes` names classes, and `target` holds numbers (floats)"), "{text}");
    }
    assert_eq!(of("|u1", "(2,)", &[1, 0]).unwrap().classes().unwrap(), ["a", "b"]);
    // Of several labels, ones and zeros, they are the names.
    assert!(of("<f4", "(2, 2)", &[&ones[..], &ones[..]].concat()).is_ok());
}

#[test]
fn pictures_go_through_the_transforms_of_pictures() {
    let images = Array4::from_shape_fn((2, 4, 5, 3), |(n, y, x, c)| (60 * n + 15 * y + 3 * x + c) as u8);
    let set = ArrayDataset::new("inputs", images).unwrap().with("target", arr1(&[1i64, 0])).unwrap();
    assert_eq!(get(&set, 1).int("inputs").unwrap().shape(), [4, 5, 3]);
    let set = set.picture("inputs").unwrap();
    assert_eq!(set.fields().unwrap().get("inputs").unwrap().to_string(), "floats of shape [3, 4, 5]");
    let sample = get(&set, 1);
    assert_eq!((sample.float("inputs").unwrap()[[2, 3, 4]], sample.label()), (119.0, Some(0)));
    let text = set.picture("target").err().unwrap().to_string();
    assert!(text.starts_with("`target` has samples of shape []: a picture is height, width"), "{text}");
}

#[test]
fn arrays_of_other_kinds_are_taken_and_held_out() {
    let x = Array2::from_shape_fn((10, 2), |(n, k)| (10 * n + k) as f64);
    let set = ArrayDataset::new("inputs", x).unwrap().with("odd", arr1(&[false, true].repeat(5))).unwrap();
    let set = set.with("target", arr2(&[[1i32]; 10])).unwrap().with_classes(&["no", "yes"]);
    let whole = Fingerprint::of(&set);
    let (train, val) = set.holdout(0.3, 1).unwrap();
    assert_eq!((train.len(), val.len(), val.classes().unwrap().len()), (7, 3, 2));
    assert_ne!(Fingerprint::of(&train), whole);
    let odd = get(&val, 0).int("odd").unwrap().first().copied().unwrap();
    assert_eq!(odd, i64::from(get(&val, 0).float("inputs").unwrap()[[0]] % 20.0 == 10.0));
    assert!(val.holdout(0.0, 0).err().unwrap().to_string().contains("the part Val of 3 samples is empty"));
}

/// A NaN in an array ended as "finished", with a loss of NaN. It is refused where it is read, with its place.
#[test]
fn a_value_that_is_no_number_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n";
    let bytes = |values: [f64; 6]| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    };
    for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let values = [0.0, 1.0, 2.0, 3.0, value, value];
        let (npy, npz) = (dir.path().join("x.npy"), dir.path().join("x.npz"));
        std::fs::write(&npy, bytes(values)).unwrap();
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&npz).unwrap());
        archive.start_file("x.npy", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut archive, &bytes(values)).unwrap();
        archive.finish().unwrap();
        let words = format!("the value at [1, 1] is {shown}, from which every loss becomes NaN");
        let text = refused(&format!("{{type: Npy, files: {{inputs: {npy:?}}}}}"));
        assert!(text.contains(&format!("x.npy: {words}")), "{text}");
        let text = refused(&format!("{{type: Npz, file: {npz:?}}}"));
        assert!(text.contains(&format!("x.npz, array `x`: {words}")), "{text}");
        let array = Array2::from_shape_vec((2, 3), values.to_vec()).unwrap();
        let text = ArrayDataset::new("inputs", array.clone()).err().unwrap().to_string();
        assert!(text.contains(&format!("`inputs`: {words}")), "{text}");
        let text =
            ArrayDataset::new("inputs", arr1(&[1i64, 2])).unwrap().with("target", array).err().unwrap();
        assert!(text.to_string().contains(&format!("`target`: {words}")), "{text}");
    }
}
