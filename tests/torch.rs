//! Files that PyTorch wrote (`tests/fixtures/gen_pth.py`), and files that nobody should believe.
#![cfg(feature = "torch")]

use std::path::{Path, PathBuf};

use shanty::checkpoint::{load, read_tensors};
use shanty::params::{Role, StateDict};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pth").join(name)
}

/// FMT-01: views, strides, offsets, no and zero dimensions, half precision; in both containers, and below a key.
#[test]
fn tensors_are_what_pytorch_reads() {
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("expected.json")).unwrap()).unwrap();
    for file in ["plain.pth", "legacy.pth", "nested.pth"] {
        let state = read_tensors(&fixture(file)).unwrap();
        assert_eq!(state.0.len(), expected.as_object().unwrap().len(), "{file}");
        for (name, tensor) in &state.0 {
            let wanted = &expected[name];
            assert_eq!(serde_json::json!(tensor.value.shape()), wanted["shape"], "{file}: {name}");
            let values: Vec<f64> = serde_json::from_value(wanted["values"].clone()).unwrap();
            let read: Vec<f64> = tensor.value.iter().map(|v| f64::from(*v)).collect();
            assert_eq!(read, values, "{file}: {name}");
        }
        assert_eq!(state.get("bn.num_batches_tracked").unwrap().role, Role::Counter);
    }
}

#[test]
fn more_tensors_than_a_pickle_hands_over_at_once() {
    let StateDict(all) = read_tensors(&fixture("many.pth")).unwrap();
    assert_eq!(all.len(), 1001);
    for (i, (name, tensor)) in all.iter().enumerate() {
        assert_eq!(*name, format!("t{i:04}"));
        assert_eq!(tensor.value.first(), Some(&(i as shanty::base::Elem)));
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    for (file, says) in [
        ("complex.pth", "omplex"),
        ("int32.pth", "tensor `index`: I32; F32, F64, F16, BF16 and I64 can be read"),
        ("expanded.pth", "its tensors take 4294967296 bytes"),
    ] {
        let error = read_tensors(&fixture(file)).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(says), "{file}: {error}");
    }
}

#[test]
fn code_in_a_file_is_not_run() {
    let trace = Path::new("/tmp/shanty_pth_was_here");
    assert!(read_tensors(&fixture("evil.pth")).is_err());
    assert!(!trace.exists());
}

#[test]
fn a_cut_file_is_refused() {
    let bytes = std::fs::read(fixture("plain.pth")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.pth");
    for part in [0, 1, 2, 3] {
        std::fs::write(&path, &bytes[..bytes.len() * part / 4]).unwrap();
        assert!(read_tensors(&path).is_err(), "{part} quarters");
    }
}

#[test]
fn a_whole_checkpoint_can_be_weights_of_pytorch() {
    let checkpoint = load(&fixture("nested.pth")).unwrap();
    assert!(checkpoint.optimizer.is_none());
    assert!(checkpoint.model.get("plain").is_some());
}
