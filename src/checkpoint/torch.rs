//! PyTorch's `.pth` and `.pt` files: tensors only. The pickle inside is interpreted by a reader that knows what tensors
//! are made of and nothing else; no code of the file is run.

use std::path::Path;

use pytorch_reader::{DType, PytorchError, PytorchReader, Tensor};
use safetensors::tensor::Dtype;

use super::decode::Values;
use super::raw::RawTensor;
use crate::base::error::IoContext;
use crate::base::{Error, Result};
use crate::params::StateDict;

/// Where training programs put the weights.
const KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The tensors of a file by name: below `state_dict`, `model_state_dict` or `model` if there is one, else all.
///
/// # Errors
/// [`Error::Checkpoint`] if the file is damaged, holds what is no plain tensor, or tensors that are far larger than the
/// file (a view may repeat one number for ever).
pub(super) fn read(path: &Path) -> Result<StateDict> {
    let one = |tensor: &Tensor| {
        let name = &tensor.name;
        let broken = |e: &dyn std::fmt::Display| refused(path, &format!("tensor `{name}`: {e}"));
        let bytes = tensor.read().map_err(|e| broken(&e))?;
        let dtype = float(tensor.dtype()).ok_or_else(|| {
            broken(&format!("{:?}; F32, F64, F16, BF16 and I64 can be read", tensor.dtype()))
        })?;
        let mut values = Values::of(dtype, bytes.len()).map_err(|e| broken(&e))?;
        values.push(&bytes);
        Ok((name.clone(), values.shaped(tensor.shape()).map_err(|e| broken(&e))?))
    };
    Ok(StateDict(tensors(path)?.iter().map(one).collect::<Result<_>>()?))
}

/// The same tensors, each in the type that it has in the file.
///
/// # Errors
/// As [`read`], but for types that no model computes in.
pub(super) fn read_raw(path: &Path) -> Result<Vec<RawTensor>> {
    let one = |tensor: &Tensor| {
        let name = tensor.name.clone();
        let bytes = tensor.read().map_err(|e| refused(path, &format!("tensor `{name}`: {e}")))?;
        Ok(RawTensor {
            name,
            dtype: own(tensor.dtype()),
            shape: tensor.shape().to_vec(),
            bytes: bytes.to_vec(),
        })
    };
    tensors(path)?.iter().map(one).collect()
}

fn refused(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::checkpoint(path, format!("not a readable PyTorch file: {why}"))
}

/// All tensors by name, if they are not far larger than the file.
fn tensors(path: &Path) -> Result<Vec<Tensor>> {
    let refused = |e: &dyn std::fmt::Display| refused(path, e);
    let mut tensors: Vec<Tensor> =
        open(path).map_err(|e| refused(&e))?.into_tensors().into_values().collect();
    if tensors.is_empty() {
        return Err(refused(&"it holds no tensors"));
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let file = std::fs::metadata(path).at(path)?.len();
    let total = tensors.iter().fold(0u64, |sum, t| sum.saturating_add(t.byte_len() as u64));
    let limit = file.saturating_mul(8).saturating_add(64 << 20);
    if total > limit {
        return Err(refused(&format!(
            "its tensors take {total} bytes, a file of {file} bytes may give {limit}"
        )));
    }
    Ok(tensors)
}

fn open(path: &Path) -> Result<PytorchReader, PytorchError> {
    for key in KEYS {
        match PytorchReader::with_top_level_key(path, key) {
            Ok(found) if !found.is_empty() => return Ok(found),
            Ok(_) | Err(PytorchError::KeyNotFound(_)) => {}
            Err(other) => return Err(other),
        }
    }
    PytorchReader::new(path)
}

/// The types that models compute with, and counters.
fn float(dtype: DType) -> Option<Dtype> {
    use DType::{BF16, F16, F32, F64, I64};
    matches!(dtype, F64 | F32 | F16 | BF16 | I64).then(|| own(dtype))
}

fn own(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
