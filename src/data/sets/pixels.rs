//! Images of one size in memory, a byte for each value.

use std::path::PathBuf;

use ndarray::Array3;

use crate::base::{Error, Result, Rng};
use crate::data::{
    Dataset, FieldKind, FieldSpec, Fields, Marks, Origin, Pipeline, Sample, SampleId, TARGET, Value,
};

/// Images of one size with their labels. A value stays a byte until its sample is asked for: a quarter of the memory.
pub struct Pixels {
    bytes: Vec<u8>,
    labels: Vec<u8>,
    /// Height, width, channels.
    shape: (usize, usize, usize),
    classes: Vec<String>,
    /// The files that they are in, in their order, and how many are in each.
    files: Vec<(PathBuf, usize)>,
    /// Whether samples hold bytes, as those of a picture's file, or values.
    as_bytes: bool,
    pipeline: Pipeline,
}

impl Pixels {
    /// From values in the order image, row, column, channel.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the number of bytes is not that of the labels' images, or a label has no class.
    pub fn new(
        bytes: Vec<u8>,
        labels: Vec<u8>,
        shape: (usize, usize, usize),
        classes: Vec<String>,
    ) -> Result<Self> {
        let (h, w, c) = shape;
        let values = [h, w, c].iter().try_fold(labels.len(), |product, n| product.checked_mul(*n));
        if values != Some(bytes.len()) {
            return Err(Error::invalid(format!(
                "{} bytes do not make {} images of {h} × {w} × {c}",
                bytes.len(),
                labels.len()
            )));
        }
        match labels.iter().position(|&label| usize::from(label) >= classes.len()) {
            Some(i) => Err(Error::invalid(format!(
                "image {i} has label {}, beyond the {} classes",
                labels[i],
                classes.len()
            ))),
            None => {
                let (files, pipeline) = (Vec::new(), Pipeline::default());
                Ok(Self { bytes, labels, shape, classes, files, as_bytes: false, pipeline })
            }
        }
    }

    /// The same images, which are those of these files in their order, so many of each.
    pub(super) fn stored_in(self, files: Vec<(PathBuf, usize)>) -> Self {
        Self { files, ..self }
    }

    /// The same images as bytes until a transform needs values, as those of picture files are.
    pub(super) fn kept_as_bytes(self) -> Self {
        Self { as_bytes: true, ..self }
    }

    /// The same images with other names of their classes, if some are given.
    ///
    /// # Errors
    /// When there are not as many as there are classes.
    pub(super) fn renamed(self, classes: Option<Vec<String>>) -> Result<Self> {
        let Some(classes) = classes else { return Ok(self) };
        match self.classes.len() {
            n if n == classes.len() => Ok(Self { classes, ..self }),
            n => Err(Error::config(format!(
                "`classes` names {}, and the data set has {n} classes",
                classes.len()
            ))),
        }
    }

    /// The same images, changed by these transforms when they are read.
    #[must_use]
    pub fn with_pipeline(self, pipeline: Pipeline) -> Self {
        Self { pipeline, ..self }
    }
}

impl Dataset for Pixels {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let (h, w, c) = self.shape;
        let size = h * w * c;
        let (bytes, label) = (&self.bytes[index * size..][..size], i64::from(self.labels[index]));
        let wrong = |e: ndarray::ShapeError| Error::invalid(e.to_string());
        let sample = if self.as_bytes {
            Sample::of_bytes(Array3::from_shape_vec(self.shape, bytes.to_vec()).map_err(wrong)?, label)
        } else {
            let values = bytes.iter().map(|&byte| f32::from(byte)).collect();
            Sample::image(Array3::from_shape_vec(self.shape, values).map_err(wrong)?, label)
        };
        pipeline.apply(sample, rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        let (h, w, c) = self.shape;
        Some(self.pipeline.fields(pictures(Some([h, w, c]))))
    }

    fn classes(&self) -> Option<&[String]> {
        Some(&self.classes)
    }

    fn origin(&self, index: usize) -> Origin {
        let mut row = index;
        for (file, count) in &self.files {
            match row.checked_sub(*count) {
                Some(rest) => row = rest,
                None => return Origin::Row { file: Some(file.clone()), id: SampleId::Row(row as u64) },
            }
        }
        Origin::Position
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        let label = self.labels.get(index).filter(|_| field == TARGET)?;
        Some(i64::from(*label).into())
    }

    fn picture_size(&self, _: usize) -> Result<Option<[usize; 2]>> {
        let (height, width, _) = self.shape;
        Ok(Some([height, width]))
    }

    fn mark(&self, marks: &mut Marks) {
        marks.contents(&self.bytes);
        marks.contents(&self.labels);
    }
}

/// The fields of a data set of pictures, whose height, width and channels may be known, with a class each.
pub(super) fn pictures(shape: Option<[usize; 3]>) -> Fields<FieldSpec> {
    let picture =
        shape.map_or(FieldSpec::any(FieldKind::Picture), |s| FieldSpec::new(FieldKind::Picture, &s));
    [("inputs".into(), picture), ("target".into(), FieldSpec::class())].into_iter().collect()
}

/// The classes of handwritten digits.
pub(super) fn digit_names() -> Vec<String> {
    (0..10).map(|d| d.to_string()).collect()
}
