//! The values of one field of all samples.

use ndarray::{Array, ArrayD, Axis, Dimension, Ix2, Ix3};

use crate::base::{Error, Result};
use crate::data::{FieldKind, Marks, Picture, Value};

/// An array whose first axis is that of the samples. Bytes stay bytes until their sample is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayData {
    /// Floating-point numbers.
    Float(ArrayD<f32>),
    /// Whole numbers.
    Int(ArrayD<i64>),
    /// Whole numbers from 0 to 255.
    Byte(ArrayD<u8>),
}

impl<D: Dimension> From<Array<f32, D>> for ArrayData {
    fn from(values: Array<f32, D>) -> Self {
        Self::Float(values.into_dyn())
    }
}

/// Every number is rounded to the nearest of 32 bits.
impl<D: Dimension> From<Array<f64, D>> for ArrayData {
    fn from(values: Array<f64, D>) -> Self {
        Self::Float(values.mapv(|v| v as f32).into_dyn())
    }
}

impl<D: Dimension> From<Array<i64, D>> for ArrayData {
    fn from(values: Array<i64, D>) -> Self {
        Self::Int(values.into_dyn())
    }
}

impl<D: Dimension> From<Array<i32, D>> for ArrayData {
    fn from(values: Array<i32, D>) -> Self {
        Self::Int(values.mapv(i64::from).into_dyn())
    }
}

impl<D: Dimension> From<Array<u8, D>> for ArrayData {
    fn from(values: Array<u8, D>) -> Self {
        Self::Byte(values.into_dyn())
    }
}

impl<D: Dimension> From<Array<bool, D>> for ArrayData {
    fn from(values: Array<bool, D>) -> Self {
        Self::Byte(values.mapv(u8::from).into_dyn())
    }
}

impl ArrayData {
    /// Its shape, samples first.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(values) => values.shape(),
            Self::Int(values) => values.shape(),
            Self::Byte(values) => values.shape(),
        }
    }

    /// Whether all of it is numbers that can be computed with.
    ///
    /// # Errors
    /// The first that is not, and where it stands.
    pub(super) fn finite(&self) -> std::result::Result<(), String> {
        let Self::Float(values) = self else { return Ok(()) };
        match values.indexed_iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((at, value)) => Err(format!(
                "the value at {:?} is {value}, from which every loss becomes NaN: take the sample out, or fill the gap, before \
                 the array is saved",
                at.as_array_view().to_vec()
            )),
        }
    }

    pub(super) fn kind(&self) -> FieldKind {
        match self {
            Self::Float(_) => FieldKind::Float,
            Self::Int(_) | Self::Byte(_) => FieldKind::Int,
        }
    }

    /// The values of a sample that is there.
    pub(super) fn value(&self, index: usize) -> Value {
        match self {
            Self::Float(values) => values.index_axis(Axis(0), index).to_owned().into(),
            Self::Int(values) => values.index_axis(Axis(0), index).to_owned().into(),
            Self::Byte(values) => values.index_axis(Axis(0), index).mapv(i64::from).into(),
        }
    }

    /// The values of a sample that is there as a picture: height, width, channels, of which one may be left out.
    pub(super) fn picture(&self, index: usize) -> Result<Value> {
        let values = match self {
            Self::Float(values) => values.index_axis(Axis(0), index).to_owned(),
            Self::Int(values) => values.index_axis(Axis(0), index).mapv(|v| v as f32),
            Self::Byte(values) => values.index_axis(Axis(0), index).mapv(f32::from),
        };
        let values = match values.ndim() {
            2 => values.into_dimensionality::<Ix2>().map(|gray| gray.insert_axis(Axis(2))),
            _ => values.into_dimensionality::<Ix3>(),
        };
        values.map(|values| Picture::Values(values).into()).map_err(|e| Error::invalid(e.to_string()))
    }

    /// Its numbers, where they are integers.
    pub(super) fn classes(&self) -> Option<Vec<i64>> {
        match self {
            Self::Float(_) => None,
            Self::Int(values) => Some(values.iter().copied().collect()),
            Self::Byte(values) => Some(values.iter().map(|v| i64::from(*v)).collect()),
        }
    }

    /// The samples at these positions, which are there.
    pub(super) fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Float(values) => Self::Float(values.select(Axis(0), rows)),
            Self::Int(values) => Self::Int(values.select(Axis(0), rows)),
            Self::Byte(values) => Self::Byte(values.select(Axis(0), rows)),
        }
    }

    pub(super) fn mark(&self, marks: &mut Marks) {
        for n in self.shape() {
            marks.contents(&(*n as u64).to_le_bytes());
        }
        // A piece at a time: all bytes of a large array would be as large again.
        let mut piece = Vec::with_capacity(PIECE + 8);
        let mut add = |bytes: &[u8], marks: &mut Marks| {
            piece.extend_from_slice(bytes);
            if piece.len() >= PIECE {
                marks.contents(&piece);
                piece.clear();
            }
        };
        match self {
            Self::Float(values) => values.iter().for_each(|v| add(&v.to_le_bytes(), marks)),
            Self::Int(values) => values.iter().for_each(|v| add(&v.to_le_bytes(), marks)),
            Self::Byte(values) => values.iter().for_each(|v| add(&[*v], marks)),
        }
        marks.contents(&piece);
    }
}

const PIECE: usize = 1 << 16;
