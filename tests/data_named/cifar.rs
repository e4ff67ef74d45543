//! CIFAR's pickles and records, whole, damaged and hostile.

use std::fs;

use ndarray::Array3;
use shanty::base::{Error, keyed};
use shanty::data::{Cifar, CifarSplit, Dataset, Origin, SampleId};
use shanty::testing::dataset_breach;

use super::folders::{labels, refusal, write};
use super::{fixture, names, set};

/// The formula of gen_cifar.py, as pixels.
fn cifar_picture(i: usize) -> Array3<f32> {
    Array3::from_shape_fn((3, 32, 32), |(c, y, x)| ((7 * i + 50 * c + 3 * y + 5 * x) % 256) as f32)
}

/// What files have as planes, pictures have as pixels, whoever wrote the file.
#[test]
fn cifar_is_read_from_pickles_and_from_records() {
    let dir = tempfile::tempdir().unwrap();
    let ten = |name: &str, to: &str| {
        fs::copy(fixture("cifar").join(name), dir.path().join(to)).unwrap();
    };
    fs::create_dir_all(dir.path().join("cifar-10-batches-py")).unwrap();
    ten("python2.pkl", "cifar-10-batches-py/data_batch_1");
    (2..=5).for_each(|i| ten("python3.pkl", &format!("cifar-10-batches-py/data_batch_{i}")));
    let train = set("CIFAR10", dir.path(), "split: train, download: true").unwrap();
    assert_eq!(labels(&train), [1, 4, 7].repeat(5));
    assert_eq!(names(&train).unwrap()[..3], ["airplane", "automobile", "bird"]);
    dataset_breach(&**train.dataset()).unwrap();
    for at in [0, 2, 13] {
        let sample = train.dataset().get(at, &mut keyed(0, "", 0, 0)).unwrap();
        assert_eq!(sample.float("inputs").unwrap(), &cifar_picture(at % 3).into_dyn());
    }
    let place = |at: u64| Origin::Row {
        file: Some(dir.path().join(format!("cifar-10-batches-py/data_batch_{}", at / 3 + 1))),
        id: SampleId::Row(at % 3),
    };
    assert_eq!((train.dataset().origin(2), train.dataset().origin(13)), (place(2), place(13)));
    assert_eq!(labels(&set("CIFAR10", dir.path(), "indices: [14, 0]").unwrap()), [7, 1]);
    let renamed = "metainfo: {classes: [a, b, c, d, e, f, g, h, i, j]}";
    assert_eq!(names(&set("CIFAR10", dir.path(), renamed).unwrap()).unwrap()[9], "j");
    assert!(
        refusal(set("CIFAR10", dir.path(), "classes: [a]"))
            .contains("`classes` names 1, and the data set has 10")
    );

    // Records, and files that lie in the folder itself.
    let record = |coarse: Option<u8>, class: u8, i: usize| {
        let planes: Vec<u8> = cifar_picture(i).iter().map(|value| *value as u8).collect();
        coarse.into_iter().chain([class]).chain(planes).collect::<Vec<u8>>()
    };
    write(dir.path().join("test_batch.bin"), [record(None, 3, 0), record(None, 9, 1)].concat());
    let test = Cifar::Ten.load(dir.path(), CifarSplit::Test).unwrap();
    let second = test.get(1, &mut keyed(0, "", 0, 0)).unwrap();
    assert_eq!((test.len(), second.label()), (2, Some(9)));
    assert_eq!(second.float("inputs").unwrap(), &cifar_picture(1).into_dyn());
    write(
        dir.path().join("cifar-100-binary/train.bin"),
        [record(Some(4), 99, 0), record(Some(2), 40, 1)].concat(),
    );
    let train = set("CIFAR100", dir.path(), "").unwrap();
    assert_eq!((labels(&train), names(&train).unwrap()[99]), (vec![99, 40], "worm"));
    fs::create_dir_all(dir.path().join("cifar-100-python")).unwrap();
    ten("hundred.pkl", "cifar-100-python/test");
    assert_eq!(labels(&set("CIFAR100", dir.path(), "split: test").unwrap()), [2, 35, 68]);
}

/// Python 3 writes bytes for protocol 2 as text that a call encodes, and NumPy's arrays for protocol 5 as a buffer.
#[test]
fn batches_of_every_protocol_since_two_are_read() {
    let planes: Vec<u8> = (0..3072).map(|i| (i % 256) as u8).collect();
    let text = |bytes: &[u8]| {
        let letters: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        [b"X".as_slice(), &(letters.len() as u32).to_le_bytes(), letters.as_bytes()].concat()
    };
    let encoded =
        |bytes: &[u8]| [b"c_codecs\nencode\n".as_slice(), &text(bytes), &text(b"latin1"), b"\x86R"].concat();
    let kind = [b"cnumpy\ndtype\n".as_slice(), &text(b"u1"), b"\x89\x88\x87R"].concat();
    let two = [
        b"\x80\x02}(".as_slice(),
        &encoded(b"labels"),
        b"]K\x03a",
        &encoded(b"data"),
        b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85",
        &encoded(b"b"),
        b"\x87R(K\x01K\x01M\x00\x0c\x86",
        &kind,
        b"\x89",
        &encoded(&planes),
        b"tbu.",
    ]
    .concat();
    let five = [
        b"\x80\x05}(\x8c\x06labels]K\x03a\x8c\x04data".as_slice(),
        b"\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93(",
        b"\x96\x00\x0c\0\0\0\0\0\0",
        &planes,
        &kind,
        b"K\x01M\x00\x0c\x86\x8c\x01CtRu.",
    ]
    .concat();
    let dir = tempfile::tempdir().unwrap();
    for batch in [two, five] {
        fs::write(dir.path().join("test_batch"), &batch).unwrap();
        let set = Cifar::Ten.load(dir.path(), CifarSplit::Test).unwrap();
        let sample = set.get(0, &mut keyed(0, "", 0, 0)).unwrap();
        assert_eq!((set.len(), sample.label()), (1, Some(3)));
        let values = sample.float("inputs").unwrap();
        assert!(values.iter().zip(&planes).all(|(value, byte)| *value == f32::from(*byte)));
    }
}

/// NumPy stores an array that was transposed column by column, and says so.
#[test]
fn batches_that_are_stored_column_by_column_are_turned() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["columns4.pkl", "columns5.pkl"] {
        fs::copy(fixture("cifar").join(name), dir.path().join("test_batch")).unwrap();
        let set = Cifar::Ten.load(dir.path(), CifarSplit::Test).unwrap();
        assert_eq!(set.len(), 2);
        for at in 0..2 {
            let sample = set.get(at, &mut keyed(0, "", 0, 0)).unwrap();
            assert_eq!(sample.float("inputs").unwrap(), &cifar_picture(at).into_dyn(), "{name} {at}");
        }
    }
}

/// A pickle is a program: nothing of it is run, and what is not plain data is refused wherever it is damaged.
#[test]
fn damaged_and_hostile_batches_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test_batch");
    let said = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Cifar::Ten.load(dir.path(), CifarSplit::Test).map(|set| set.len()).map_err(|e| {
            assert!(matches!(e, Error::Invalid(_)), "{e}");
            e.to_string()
        })
    };
    for name in ["python2.pkl", "python3.pkl"] {
        let whole = fs::read(fixture("cifar").join(name)).unwrap();
        assert_eq!(said(&whole), Ok(3));
        for cut in (0..whole.len()).step_by(97).chain((0..400).step_by(7)) {
            assert!(said(&whole[..cut]).is_err(), "{name} cut at {cut}");
        }
        // Any byte of what is not a pixel may be another one: an error, or data that are none the worse.
        for at in (0..400).step_by(3).chain(whole.len() - 60..whole.len()) {
            for by in [1, 0xff] {
                let mut other = whole.clone();
                other[at] ^= by;
                let _ = said(&other);
            }
        }
    }
    // What `os.system("…")` is pickled as, and what asks for more memory than it has bytes.
    let text = said(b"\x80\x02cposix\nsystem\nU\x02ls\x85R.").unwrap_err();
    assert!(
        text.contains("no list `labels`")
            && text.contains("asks for a call of posix.system, and nothing is called"),
        "{text}"
    );
    // The first bytes of protocol 0.
    assert!(said(b"(dp0\nVlabels\n").unwrap_err().contains("`pickle.dump(…, protocol=4)`"));
    assert!(said(b"\x80\x02}(U\x06labelsi__builtin__\neval\nu.").unwrap_err().contains("is no plain data"));
    assert!(said(b"\x80\x02T\xff\xff\xff\x7fabc").unwrap_err().contains("cut off"));
    assert!(
        said(&[b"\x80\x02".as_slice(), &vec![b'N'; 5 << 20]].concat())
            .unwrap_err()
            .contains("more than 4194304 values")
    );
    assert!(
        said(&[b"\x80\x02".as_slice(), &vec![b'('; 5 << 20]].concat()).unwrap_err().contains("more than")
    );
    assert!(said(b"").unwrap_err().contains("before its end mark"));
    fs::remove_file(&path).unwrap();
    let record = dir.path().join("test_batch.bin");
    for (bytes, says) in
        [(vec![1; 3074], "no records of 3073"), (vec![], "no records"), (vec![10; 3073], "is of class 10")]
    {
        fs::write(&record, bytes).unwrap();
        let text = Cifar::Ten.load(dir.path(), CifarSplit::Test).err().unwrap().to_string();
        assert!(text.contains(says), "{text}");
    }
}
