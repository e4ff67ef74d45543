//! Tensors with the bytes of their file: what is copied, compared by type or averaged must not pass through the type
//! that models compute in.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::decode::f16_to_f32;
use super::kind::{self, Kind};
use super::{MODEL_FILE, load};
use crate::base::error::IoContext;
use crate::base::{Error, Result, durable, memory};

/// A tensor as it stands in a file: little-endian, the last index fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct RawTensor {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub bytes: Vec<u8>,
}

/// All tensors of a file of weights, or of the weights of a checkpoint directory, by name.
///
/// # Errors
/// As [`load`]: a directory is verified first.
pub fn read(path: &Path) -> Result<Vec<RawTensor>> {
    let file = if path.is_dir() { path.join(MODEL_FILE) } else { path.to_owned() };
    if path.is_dir() || !path.exists() {
        load(path)?;
    }
    let mut tensors = match kind::of(&file)? {
        Kind::PyTorch => super::tensors::read_torch_raw(&file)?,
        Kind::Safetensors => {
            let size = std::fs::metadata(&file).at(&file)?.len();
            // The file, and its tensors.
            memory::fits("this file", &[2, usize::try_from(size).unwrap_or(usize::MAX)], 1)
                .map_err(|why| Error::checkpoint(&file, why.to_string()))?;
            let bytes = durable::read(&file)?;
            let all = SafeTensors::deserialize(&bytes)
                .map_err(|e| Error::checkpoint(&file, format!("not a whole safetensors file: {e}")))?;
            all.iter().map(|(name, view)| RawTensor::of(name, &view)).collect()
        }
    };
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

/// The bytes of a safetensors file with these tensors, each in its own type.
///
/// # Errors
/// [`Error::Invalid`] if a name comes twice, or bytes and shape do not fit.
pub fn write(tensors: &[RawTensor]) -> Result<Vec<u8>> {
    let view = |t: &'_ RawTensor| TensorView::new(t.dtype, t.shape.clone(), &t.bytes).map(drop);
    let mut names = HashSet::new();
    for tensor in tensors {
        view(tensor).map_err(|e| Error::invalid(format!("tensor `{}`: {e}", tensor.name)))?;
        if !names.insert(&tensor.name) {
            return Err(Error::invalid(format!("two tensors are called `{}`: rename one", tensor.name)));
        }
    }
    let views = tensors
        .iter()
        .filter_map(|t| Some((t.name.as_str(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).ok()?)));
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(about)).map_err(|e| Error::Other(e.into()))
}

impl RawTensor {
    fn of(name: &str, view: &TensorView<'_>) -> Self {
        Self {
            name: name.to_owned(),
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        }
    }

    /// Whether it holds whole numbers or flags.
    fn is_whole(&self) -> bool {
        use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
        matches!(self.dtype, BOOL | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
    }

    /// Its numbers, exactly, if it has a floating-point type that is known here.
    fn floats(&self) -> Option<Vec<f64>> {
        fn all<const N: usize>(bytes: &[u8], word: impl Fn([u8; N]) -> f64) -> Option<Vec<f64>> {
            Some(bytes.as_chunks::<N>().0.iter().map(|chunk| word(*chunk)).collect())
        }
        match self.dtype {
            Dtype::F16 => all(&self.bytes, |b| f64::from(f16_to_f32(u16::from_le_bytes(b)))),
            Dtype::BF16 => {
                all(&self.bytes, |b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)))
            }
            Dtype::F32 => all(&self.bytes, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F64 => all(&self.bytes, f64::from_le_bytes),
            _ => None,
        }
    }
}

/// The mean of several files, which must hold the same tensors. Sums are made in double precision; `F64` stays `F64`,
/// other floating-point types become `F32`. What is whole (counters, indices, flags) is that of the last file.
///
/// # Errors
/// Names the tensors that some files lack, or have in another shape or type, or whose type cannot be averaged.
pub fn mean(files: &[(&Path, Vec<RawTensor>)]) -> Result<Vec<RawTensor>> {
    let Some(((last, tensors), others)) = files.split_last() else {
        return Err(Error::config("there is nothing to average"));
    };
    for (path, other) in others {
        same(path, other, last, tensors)?;
    }
    let one = |(i, tensor): (usize, &RawTensor)| -> Result<RawTensor> {
        let mut sum = match tensor.floats() {
            Some(floats) => floats,
            None if tensor.is_whole() => return Ok(tensor.clone()),
            None => {
                let reason = format!(
                    "its `{}` is {:?}, which cannot be averaged: F16, BF16, F32 and F64 can, and whole numbers are \
                     those of the last file",
                    tensor.name, tensor.dtype
                );
                return Err(Error::checkpoint(last, reason));
            }
        };
        let all: Vec<_> = others.iter().filter_map(|(_, other)| other[i].floats()).collect();
        for (at, value) in sum.iter_mut().enumerate() {
            let values = || all.iter().map(|other| other[at]).chain([*value]);
            let n = files.len() as f64;
            let mean = values().sum::<f64>() / n;
            // Only a sum can be beyond the range of finite numbers, their mean cannot.
            *value = if mean.is_finite() { mean } else { values().map(|v| v / n).sum() };
        }
        let (dtype, bytes) = match tensor.dtype {
            Dtype::F64 => (Dtype::F64, sum.iter().flat_map(|v| v.to_le_bytes()).collect()),
            _ => (Dtype::F32, sum.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()),
        };
        Ok(RawTensor { dtype, bytes, ..tensor.clone() })
    };
    tensors.iter().enumerate().map(one).collect()
}

/// Whether two files hold the same tensors.
fn same(a: &Path, one: &[RawTensor], b: &Path, two: &[RawTensor]) -> Result<()> {
    for (path, has, other, lacks) in [(a, one, b, two), (b, two, a, one)] {
        let lacks: HashSet<&str> = lacks.iter().map(|t| t.name.as_str()).collect();
        let only: Vec<_> = has.iter().map(|t| t.name.as_str()).filter(|name| !lacks.contains(name)).collect();
        if !only.is_empty() {
            let reason = format!("it lacks {} that {} has", crate::params::some_of(&only), path.display());
            return Err(Error::checkpoint(other, reason));
        }
    }
    match one.iter().zip(two).find(|(x, y)| x.shape != y.shape || x.dtype != y.dtype) {
        Some((x, y)) => {
            let reason = format!(
                "its `{}` is {:?} {:?}, that of {} is {:?} {:?}",
                x.name,
                x.dtype,
                x.shape,
                b.display(),
                y.dtype,
                y.shape
            );
            Err(Error::checkpoint(a, reason))
        }
        None => Ok(()),
    }
}
