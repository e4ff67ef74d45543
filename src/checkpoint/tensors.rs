//! Weights as safetensors bytes: plain names, so that Python's `safetensors` reads them and we read Python's.
//!
//! The bytes are a function of the tensors alone: counters (`i64`) come first, then the rest, each by name, and the
//! header has one metadata key (with two, its order would change from run to run).

use std::fs::File;
use std::path::Path;

use super::decode::Source;
use super::encode;
use super::kind::{self, Kind};
use crate::base::error::IoContext;
use crate::base::{Error, Result};
use crate::params::StateDict;

/// The file of the weights inside a checkpoint directory.
pub const MODEL_FILE: &str = "model.safetensors";

/// Reads a safetensors file, the [`MODEL_FILE`] of a checkpoint, which is verified as a resume does, or (with the
/// feature `torch`) a file that `torch.save` wrote. The first bytes tell which; the name does not matter.
///
/// # Errors
/// [`Error::Io`] if there is no such file; [`Error::Checkpoint`] as in [`parse_tensors`].
pub fn read_tensors(path: &Path) -> Result<StateDict> {
    let sealed = path.file_name().is_some_and(|name| name == MODEL_FILE) && path.is_file();
    if path.is_dir() || sealed {
        return super::load(path).map(|checkpoint| checkpoint.model);
    }
    read_file(path)
}

/// A file as it is.
pub(super) fn read_file(path: &Path) -> Result<StateDict> {
    if kind::of(path)? == Kind::PyTorch {
        return read_torch(path);
    }
    let source = File::open(path).at(path)?;
    let len = source.metadata().at(path)?.len();
    Source::new(source, len).tensors().map_err(|why| Error::checkpoint(path, why))
}

#[cfg(feature = "torch")]
fn read_torch(path: &Path) -> Result<StateDict> {
    super::torch::read(path)
}

/// The tensors of PyTorch's file with their bytes.
#[cfg(feature = "torch")]
pub(super) fn read_torch_raw(path: &Path) -> Result<Vec<super::raw::RawTensor>> {
    super::torch::read_raw(path)
}

#[cfg(not(feature = "torch"))]
fn read_torch(path: &Path) -> Result<StateDict> {
    Err(without_torch(path))
}

/// The tensors of PyTorch's file with their bytes.
#[cfg(not(feature = "torch"))]
pub(super) fn read_torch_raw(path: &Path) -> Result<Vec<super::raw::RawTensor>> {
    Err(without_torch(path))
}

#[cfg(not(feature = "torch"))]
fn without_torch(path: &Path) -> Error {
    let reason = "it is a PyTorch file, and this program was built without the feature `torch`, which reads them: build \
                  it with `--features torch`, or write the weights as .safetensors";
    Error::checkpoint(path, reason)
}

/// The tensors in the bytes of a safetensors file, by name.
///
/// `F32`, `F64`, `F16` and `BF16` become [`Elem`](crate::base::Elem). An `I64` scalar is a
/// [`Role::Counter`](crate::params::Role::Counter), an `I64` tensor a buffer; all others are weights, for a file does
/// not say what a tensor is for.
///
/// # Errors
/// [`Error::Checkpoint`] with `path` if the bytes are damaged or cut short, or a tensor has another type.
pub fn parse_tensors(path: &Path, bytes: &[u8]) -> Result<StateDict> {
    let tensors = Source::new(bytes, bytes.len() as u64).tensors();
    tensors.map_err(|why| Error::checkpoint(path, why))
}

/// The bytes of a safetensors file with these tensors. NaN and infinities keep their bits.
///
/// # Errors
/// [`Error::Invalid`] if a name comes twice, or a counter is not one whole number.
pub fn write_tensors(state: &StateDict) -> Result<Vec<u8>> {
    encode::to_bytes(state)
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn, arr0, array};
    use safetensors::tensor::{Dtype, TensorView};

    use super::*;
    use crate::base::{Elem, durable};
    use crate::params::{Role, StateTensor};

    fn tensor(role: Role, value: ArrayD<Elem>) -> StateTensor {
        StateTensor { role, value }
    }

    fn state() -> StateDict {
        StateDict(vec![
            (
                "z.weight".into(),
                tensor(Role::Weight, array![[1.5, -0.0], [Elem::NAN, Elem::INFINITY]].into_dyn()),
            ),
            ("a.num_batches_tracked".into(), tensor(Role::Counter, arr0(7.0).into_dyn())),
            ("a.empty".into(), tensor(Role::Weight, ArrayD::zeros(IxDyn(&[0, 3])))),
        ])
    }

    /// FMT-02: NaN and infinity come back with their bits.
    #[test]
    fn what_is_written_is_read_back_bit_for_bit() {
        let bytes = write_tensors(&state()).unwrap();
        let back = parse_tensors(Path::new("x"), &bytes).unwrap();
        let names: Vec<_> = back.0.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["a.empty", "a.num_batches_tracked", "z.weight"]);
        for (name, before) in &state().0 {
            let after = back.get(name).unwrap();
            assert_eq!(after.role, before.role);
            assert_eq!(after.value.shape(), before.value.shape());
            let bits = |t: &StateTensor| t.value.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(after), bits(before));
        }
    }

    #[test]
    fn bytes_depend_neither_on_the_order_nor_on_the_run() {
        let mut turned = state();
        turned.0.reverse();
        let bytes = write_tensors(&turned).unwrap();
        assert_eq!(bytes, write_tensors(&state()).unwrap());
        let header = std::str::from_utf8(&bytes[8..8 + bytes[0] as usize + 256 * bytes[1] as usize]).unwrap();
        assert!(header.contains(r#"{"dtype":"I64","shape":[],"data_offsets":[0,8]}"#), "{header}");
        assert!(header.contains(r#""__metadata__":{"format":"pt"}"#), "{header}");
    }

    #[test]
    fn damage_is_refused_with_the_path() {
        let bytes = write_tensors(&state()).unwrap();
        for cut in [0, 7, 20, bytes.len() - 1] {
            let error =
                parse_tensors(Path::new("dir/model.safetensors"), &bytes[..cut]).unwrap_err().to_string();
            assert!(
                error.starts_with("checkpoint dir/model.safetensors: not a whole safetensors file"),
                "{error}"
            );
        }
        let other =
            safetensors::serialize([("i", TensorView::new(Dtype::I32, vec![1], &[0; 4]).unwrap())], None)
                .unwrap();
        let error = parse_tensors(Path::new("x"), &other).unwrap_err().to_string();
        assert_eq!(error, "checkpoint x: tensor `i` has type I32; F32, F64, F16, BF16 and I64 can be read");
    }

    #[test]
    fn a_name_twice_and_a_broken_counter_are_refused() {
        let one = tensor(Role::Weight, arr0(1.0).into_dyn());
        let twice = StateDict(vec![("w".into(), one.clone()), ("w".into(), one)]);
        assert_eq!(write_tensors(&twice).unwrap_err().to_string(), "two tensors are called `w`: rename one");
        for bad in [arr0(0.5).into_dyn(), array![1.0].into_dyn(), arr0(Elem::NAN).into_dyn()] {
            assert!(write_tensors(&StateDict(vec![("n".into(), tensor(Role::Counter, bad))])).is_err());
        }
    }

    #[test]
    fn a_directory_stands_for_the_model_file_inside() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_tensors(dir.path()).unwrap_err().to_string();
        assert!(error.contains("manifest.json"), "{error}");
        durable::write(&dir.path().join(MODEL_FILE), &write_tensors(&state()).unwrap()).unwrap();
        assert_eq!(read_tensors(dir.path()).unwrap().0.len(), 3);
        assert_eq!(read_tensors(&dir.path().join(MODEL_FILE)).unwrap().0.len(), 3);
    }
}
