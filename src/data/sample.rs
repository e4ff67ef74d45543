//! What transforms see, and what a model gets.

use ndarray::{Array3, ArrayD, Axis};

use crate::base::Elem;

use super::{Bytes, Picture, PictureFile};

/// One example of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Position in the data set that the loader reads; the loader sets it, a data set may leave 0.
    pub id: u64,
    /// The image: height, width, channels while transforms work on it; channels, height, width once it is packed
    /// (see [`crate::data::Pipeline`]). A vector of F numbers is an image of F channels and one pixel.
    pub img: Array3<f32>,
    /// What `img` will be made of, while no transform needs its values: a file, or bytes. `img` is empty until then. Data sets
    /// give samples whose image is made, see [`Sample::to_values`].
    pub picture: Picture,
    /// Class, counted from 0.
    pub label: i64,
    /// Anything else that a model wants, by name; the collated batch holds it with a first axis for the samples.
    pub fields: Vec<(String, ArrayD<Elem>)>,
}

impl Sample {
    /// A sample without further fields.
    pub fn new(img: Array3<f32>, label: i64) -> Self {
        Self { id: 0, img, picture: Picture::Done, label, fields: Vec::new() }
    }

    /// A sample whose image stands in a file. A pipeline decodes it.
    pub fn of_file(file: PictureFile, label: i64) -> Self {
        Self { picture: Picture::File(file), ..Self::new(Array3::default((0, 0, 0)), label) }
    }

    /// A sample of bytes: height, width, channels. A pipeline makes values of them.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use shanty::data::Sample;
    /// let mut sample = Sample::of_bytes(Array3::from_elem((1, 2, 3), 7u8), 0);
    /// sample.to_values()?;
    /// assert_eq!(sample.img, Array3::from_elem((1, 2, 3), 7.0));
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    pub fn of_bytes(bytes: Array3<u8>, label: i64) -> Self {
        Self { picture: Picture::Bytes(Bytes::new(bytes)), ..Self::new(Array3::default((0, 0, 0)), label) }
    }
}

/// Samples of one step, stacked.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Positions in the data set, one a sample.
    pub ids: Vec<u64>,
    /// N, C, H, W; or N, F from a collate function of one's own.
    pub inputs: ArrayD<Elem>,
    /// Classes, one a sample.
    pub labels: Vec<i64>,
    /// Anything else that a model wants, by name; first axis N.
    pub fields: Vec<(String, ArrayD<Elem>)>,
    /// How many samples count. Those behind are repeats that give every rank an equal share: training uses them,
    /// metrics must not.
    pub valid: usize,
}

impl Batch {
    /// A batch of samples that all count, numbered from 0.
    pub fn new(inputs: ArrayD<Elem>, labels: Vec<i64>) -> Self {
        let n = labels.len();
        Self { ids: (0..n as u64).collect(), inputs, labels, fields: Vec::new(), valid: n }
    }

    /// Number of samples, repeats included.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether it holds no sample: all that a loader would have put into it are left out, or cannot be read.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The samples with the smallest and the largest label, and others up to `few`: those at which a loss or a metric takes
    /// offence, if at any.
    pub(crate) fn extremes(self, few: usize) -> Self {
        let by_label = |i: &usize| self.labels[*i];
        let (low, high) = ((0..self.len()).min_by_key(by_label), (0..self.len()).max_by_key(by_label));
        let mut rows: Vec<usize> = low.into_iter().chain(high.filter(|_| high != low)).collect();
        rows.extend((0..self.len()).filter(|i| Some(*i) != low && Some(*i) != high));
        rows.truncate(few);
        rows.sort_unstable();
        let stacked = |values: &ArrayD<Elem>| values.shape().first() == Some(&self.len());
        if self.len() <= few || !stacked(&self.inputs) || !self.fields.iter().all(|(_, f)| stacked(f)) {
            return self;
        }
        let of = |values: &ArrayD<Elem>| values.select(Axis(0), &rows);
        Self {
            ids: rows.iter().filter_map(|i| self.ids.get(*i).copied()).collect(),
            inputs: of(&self.inputs),
            labels: rows.iter().map(|i| self.labels[*i]).collect(),
            fields: self.fields.iter().map(|(name, values)| (name.clone(), of(values))).collect(),
            valid: rows.iter().filter(|i| **i < self.valid).count(),
        }
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&ArrayD<Elem>> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, values)| values)
    }
}
