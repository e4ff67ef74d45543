//! Weights as safetensors bytes: plain names, so that Python's `safetensors` reads them and we read Python's.
//!
//! The bytes are a function of the tensors alone: counters (`i64`) come first, then the rest, each by name, and the
//! header has one metadata key (with two, its order would change from run to run).

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};

use crate::base::{Elem, Error, Result, durable};
use crate::params::{Role, StateDict, StateTensor};

/// The file of the weights inside a checkpoint directory.
pub const MODEL_FILE: &str = "model.safetensors";

/// Reads a `.safetensors` file, the [`MODEL_FILE`] of a checkpoint directory, or (with the feature `torch`) a `.pth` or
/// `.pt` file of PyTorch.
///
/// # Errors
/// [`Error::Io`] if there is no such file; [`Error::Checkpoint`] as in [`parse_tensors`].
pub fn read_tensors(path: &Path) -> Result<StateDict> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if ["pth", "pt", "bin"].contains(&ending) && !path.is_dir() {
        return read_torch(path);
    }
    let file: PathBuf = if path.is_dir() { path.join(MODEL_FILE) } else { path.to_owned() };
    parse_tensors(&file, &durable::read(&file)?)
}

#[cfg(feature = "torch")]
fn read_torch(path: &Path) -> Result<StateDict> {
    super::torch::read(path)
}

#[cfg(not(feature = "torch"))]
fn read_torch(path: &Path) -> Result<StateDict> {
    let reason = "this program was built without the feature `torch`, which reads PyTorch's files: build it with \
                  `--features torch`, or write the weights as .safetensors";
    Err(Error::checkpoint(path, reason))
}

/// The tensors in the bytes of a safetensors file, by name.
///
/// `F32`, `F64`, `F16` and `BF16` become [`Elem`]. An `I64` scalar is a [`Role::Counter`], an `I64` tensor a
/// [`Role::Buffer`]; all others are [`Role::Weight`], for a file does not say what a tensor is for.
///
/// # Errors
/// [`Error::Checkpoint`] with `path` if the bytes are damaged or cut short, or a tensor has another type.
pub fn parse_tensors(path: &Path, bytes: &[u8]) -> Result<StateDict> {
    let damaged =
        |e: &dyn std::fmt::Display| Error::checkpoint(path, format!("not a whole safetensors file: {e}"));
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let mut names = file.names();
    names.sort_unstable();
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let view = file.tensor(name).map_err(|e| damaged(&e))?;
        let tensor = widen(&view).map_err(|why| Error::checkpoint(path, format!("tensor `{name}` {why}")))?;
        tensors.push((name.to_owned(), tensor));
    }
    Ok(StateDict(tensors))
}

/// The bytes of a safetensors file with these tensors. NaN and infinities keep their bits.
///
/// # Errors
/// [`Error::Invalid`] if a name comes twice, or a counter is not one whole number.
pub fn write_tensors(state: &StateDict) -> Result<Vec<u8>> {
    let mut tensors =
        state.0.iter().map(|(name, t)| Ok((name.as_str(), Raw::of(name, t)?))).collect::<Result<Vec<_>>>()?;
    tensors.sort_by(|a, b| a.0.cmp(b.0));
    if let Some(twice) = tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::invalid(format!("two tensors are called `{}`: rename one", twice[0].0)));
    }
    // The key by which Hugging Face's loaders know the names to be PyTorch's.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(tensors, Some(metadata)).map_err(|e| Error::Other(e.into()))
}

pub(super) fn widen(view: &TensorView<'_>) -> Result<StateTensor, String> {
    let bytes = view.data();
    let (role, values): (Role, Vec<Elem>) = match view.dtype() {
        Dtype::F32 => (Role::Weight, words(bytes, |b| f32::from_le_bytes(b) as Elem)),
        Dtype::F64 => (Role::Weight, words(bytes, |b| f64::from_le_bytes(b) as Elem)),
        Dtype::F16 => (Role::Weight, words(bytes, |b| f16_to_f32(u16::from_le_bytes(b)) as Elem)),
        Dtype::BF16 => {
            (Role::Weight, words(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16) as Elem))
        }
        Dtype::I64 => {
            let role = if view.shape().is_empty() { Role::Counter } else { Role::Buffer };
            (role, words(bytes, |b| i64::from_le_bytes(b) as Elem))
        }
        other => return Err(format!("has type {other:?}; F32, F64, F16, BF16 and I64 can be read")),
    };
    let value =
        ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|e| format!("has a bad shape: {e}"))?;
    Ok(StateTensor { role, value })
}

fn words<const N: usize>(bytes: &[u8], word: impl Fn([u8; N]) -> Elem) -> Vec<Elem> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| word(*chunk)).collect()
}

/// IEEE half precision: 1 sign, 5 exponent (bias 15), 10 mantissa bits.
fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let (exponent, mantissa) = (u32::from(half >> 10) & 31, u32::from(half) & 0x3ff);
    let magnitude = match exponent {
        0 => (mantissa as f32 * 2f32.powi(-24)).to_bits(),
        31 => 0x7f80_0000 | mantissa << 13,
        e => (e + 127 - 15) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// A tensor as the format wants it.
struct Raw<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    bytes: Vec<u8>,
}

impl<'a> Raw<'a> {
    fn of(name: &str, tensor: &'a StateTensor) -> Result<Self> {
        let shape = tensor.value.shape();
        if tensor.role != Role::Counter {
            let dtype = if size_of::<Elem>() == 4 { Dtype::F32 } else { Dtype::F64 };
            let mut bytes = Vec::with_capacity(tensor.value.len() * size_of::<Elem>());
            tensor.value.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
            return Ok(Self { dtype, shape, bytes });
        }
        match tensor.value.first() {
            Some(count) if shape.is_empty() && count.fract() == 0.0 => {
                Ok(Self { dtype: Dtype::I64, shape, bytes: (*count as i64).to_le_bytes().into() })
            }
            _ => Err(Error::invalid(format!(
                "counter `{name}` must be one whole number, not {:?}",
                tensor.value
            ))),
        }
    }
}

impl View for Raw<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{arr0, array};

    use super::*;

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

    /// Bit patterns from IEEE 754: one, the smallest subnormal, the largest number, infinity, -2.
    #[test]
    fn half_precision_is_widened_exactly() {
        let cases = [
            (0x3c00, 1.0),
            (0x0001, 2f32.powi(-24)),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
            (0xc000, -2.0),
        ];
        for (bits, value) in cases {
            assert_eq!(f16_to_f32(bits), value);
        }
        assert!(f16_to_f32(0x7e00).is_nan());
        assert_eq!(f16_to_f32(0x8000).to_bits(), (-0f32).to_bits());
        let read =
            |dtype, bytes: &[u8]| widen(&TensorView::new(dtype, vec![1], bytes).unwrap()).unwrap().value[0];
        assert_eq!(read(Dtype::BF16, &[0x80, 0xbf]), -1.0);
        assert_eq!(read(Dtype::F16, &[0x00, 0x3c]), 1.0);
        assert_eq!(read(Dtype::F64, &2.5f64.to_le_bytes()), 2.5);
        assert_eq!(read(Dtype::I64, &(-3i64).to_le_bytes()), -3.0);
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
        assert!(error.contains("model.safetensors"), "{error}");
        durable::write(&dir.path().join(MODEL_FILE), &write_tensors(&state()).unwrap()).unwrap();
        assert_eq!(read_tensors(dir.path()).unwrap().0.len(), 3);
        assert_eq!(read_tensors(&dir.path().join(MODEL_FILE)).unwrap().0.len(), 3);
    }
}
