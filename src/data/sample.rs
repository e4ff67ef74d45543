//! What a data set gives and transforms change: one example, as named fields.

use ndarray::{Array, Array3, ArrayD, Dimension};

use crate::base::{Error, Result};

use super::field::{FieldKind, Fields, INPUTS, Name, TARGET};
use super::{Bytes, Picture, PictureFile};

/// The value of one field of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Floating-point numbers, of any rank.
    Float(ArrayD<f32>),
    /// Whole numbers, of any rank: a class number has rank 0.
    Int(ArrayD<i64>),
    /// A picture: height, width, channels. Its bytes stay bytes until a transform needs values.
    Picture(Picture),
    /// Text.
    Text(String),
}

impl Value {
    /// What it is.
    pub fn kind(&self) -> FieldKind {
        match self {
            Self::Float(_) => FieldKind::Float,
            Self::Int(_) => FieldKind::Int,
            Self::Picture(_) => FieldKind::Picture,
            Self::Text(_) => FieldKind::Text,
        }
    }

    /// Its shape; a picture and a text have none.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(values) => values.shape(),
            Self::Int(values) => values.shape(),
            Self::Picture(_) | Self::Text(_) => &[],
        }
    }

    /// Number of values that a batch will hold of it.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Picture(_) | Self::Text(_) => 1,
        }
    }
}

impl<D: Dimension> From<Array<f32, D>> for Value {
    fn from(values: Array<f32, D>) -> Self {
        Self::Float(values.into_dyn())
    }
}

impl<D: Dimension> From<Array<i64, D>> for Value {
    fn from(values: Array<i64, D>) -> Self {
        Self::Int(values.into_dyn())
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::Float(ndarray::arr0(value).into_dyn())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(ndarray::arr0(value).into_dyn())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Picture> for Value {
    fn from(picture: Picture) -> Self {
        Self::Picture(picture)
    }
}

/// One example of a data set: named values.
///
/// ```
/// use ndarray::arr1;
/// use shanty::data::Sample;
/// let sample = Sample::new(arr1(&[0.5f32, 1.5]), 3).with("weight", 0.25f32);
/// assert_eq!(sample.fields.names().collect::<Vec<_>>(), ["inputs", "target", "weight"]);
/// assert_eq!((sample.float("inputs")?.len(), sample.label()), (2, Some(3)));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Position in the data set that the loader reads; the loader sets it, a data set may leave 0.
    pub id: u64,
    /// The values.
    pub fields: Fields<Value>,
}

impl Sample {
    /// A sample with the usual two fields, `inputs` and `target`.
    pub fn new(inputs: impl Into<Value>, target: impl Into<Value>) -> Self {
        Self::unlabelled(inputs).with(TARGET, target)
    }

    /// A sample with `inputs` alone.
    pub fn unlabelled(inputs: impl Into<Value>) -> Self {
        Self::default().with(INPUTS, inputs)
    }

    /// The same with a further field, or another value of one that is there.
    #[must_use]
    pub fn with(mut self, name: impl Into<Name>, value: impl Into<Value>) -> Self {
        self.fields.set(name, value);
        self
    }

    /// An image of values, height, width, channels, and its class.
    pub fn image(img: Array3<f32>, label: i64) -> Self {
        Self::new(Picture::Values(img), label)
    }

    /// An image that stands in a file, and its class. A pipeline decodes it.
    pub fn of_file(file: PictureFile, label: i64) -> Self {
        Self::new(Picture::File(file), label)
    }

    /// An image of bytes, height, width, channels, and its class. A pipeline makes values of them.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use shanty::data::Sample;
    /// let mut sample = Sample::of_bytes(Array3::from_elem((1, 2, 3), 7u8), 0);
    /// assert_eq!(*sample.picture()?.values()?, Array3::from_elem((1, 2, 3), 7.0));
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    pub fn of_bytes(bytes: Array3<u8>, label: i64) -> Self {
        Self::new(Picture::Bytes(Bytes::new(bytes)), label)
    }

    /// The picture in `inputs`, for a transform of images.
    ///
    /// # Errors
    /// When `inputs` is no picture, or none any more.
    pub fn picture(&mut self) -> Result<&mut Picture> {
        match self.fields.find_mut(INPUTS)? {
            Value::Picture(picture) => Ok(picture),
            other => Err(wrong(INPUTS, FieldKind::Picture, other.kind())),
        }
    }

    /// The floats of this name.
    ///
    /// # Errors
    /// When there is no such field, or it is of another kind.
    pub fn float(&self, name: &str) -> Result<&ArrayD<f32>> {
        match self.fields.find(name)? {
            Value::Float(values) => Ok(values),
            other => Err(wrong(name, FieldKind::Float, other.kind())),
        }
    }

    /// The integers of this name.
    ///
    /// # Errors
    /// When there is no such field, or it is of another kind.
    pub fn int(&self, name: &str) -> Result<&ArrayD<i64>> {
        match self.fields.find(name)? {
            Value::Int(values) => Ok(values),
            other => Err(wrong(name, FieldKind::Int, other.kind())),
        }
    }

    /// The class: `target`, where it is one whole number.
    pub fn label(&self) -> Option<i64> {
        match self.fields.get(TARGET) {
            Some(Value::Int(values)) if values.ndim() == 0 => values.first().copied(),
            _ => None,
        }
    }
}

/// What is said of a field that is not what somebody wants.
pub(super) fn wrong(name: &str, wanted: FieldKind, got: FieldKind) -> Error {
    Error::invalid(format!("the field `{name}` holds {got}, and {wanted} is wanted"))
}
