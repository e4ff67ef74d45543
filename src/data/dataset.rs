//! The trait of a data set.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::{Error, Result, Rng};
use crate::registry::BuildCx;

use super::{FieldSpec, Fields, Fitted, Marks, Origin, Pipeline, Sample, Value};

crate::registry!(dyn Dataset, "dataset");

/// Examples that can be fetched by position, from several threads at once.
///
/// ```
/// use ndarray::arr1;
/// use shanty::base::{Result, Rng};
/// use shanty::data::{Dataset, Sample};
///
/// /// Is the number even?
/// struct Parity(usize);
///
/// impl Dataset for Parity {
///     fn len(&self) -> usize {
///         self.0
///     }
///     fn get(&self, index: usize, _rng: &mut Rng) -> Result<Sample> {
///         Ok(Sample::new(arr1(&[index as f32]), (index % 2) as i64))
///     }
/// }
/// ```
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `index`, packed (channels, height, width). `rng` is the sample's own: equal for equal (seed, pass,
    /// index), whoever asks and in whatever order.
    ///
    /// # Errors
    /// When the sample cannot be read or a transform refuses it; the loader adds the index.
    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample>;

    /// The sample at `index` through another pipeline than the set's own: what switches of recipes need.
    ///
    /// # Errors
    /// As [`get`](Self::get); a set without a pipeline of its own refuses.
    fn get_through(&self, _index: usize, _rng: &mut Rng, _pipeline: &Pipeline) -> Result<Sample> {
        Err(Error::invalid("this data set has no pipeline that could be switched"))
    }

    /// Whether [`get_through`](Self::get_through) takes another pipeline.
    fn has_pipeline(&self) -> bool {
        false
    }

    /// The fields of its samples as [`get`](Self::get) gives them, where they are known before a sample is read:
    /// configs are checked against them.
    fn fields(&self) -> Option<Fields<FieldSpec>> {
        None
    }

    /// Names of the classes in `target`, in the order of their numbers, where they are known.
    fn classes(&self) -> Option<&[String]> {
        None
    }

    /// How many sets it is made of, each with samples of its own kind: 1, unless it joins others.
    fn parts(&self) -> usize {
        1
    }

    /// Which of its [`parts`](Self::parts) the sample at `index` is from.
    fn part_of(&self, _index: usize) -> usize {
        0
    }

    /// Adds what it has learnt from the training data: what other data must be seen by too. Checkpoints keep it.
    fn fitted(&self, _all: &mut Fitted) {}

    /// Where the sample at `index` comes from: predictions are given with it.
    fn origin(&self, _index: usize) -> Origin {
        Origin::Position
    }

    /// The value of a field of the sample at `index`, where it is in memory before the sample is read: before a training
    /// its classes are counted by it, and its targets measured.
    fn peek(&self, _index: usize, _field: &str) -> Option<Value> {
        None
    }

    /// How long the sample at `index` is, a sequence of tokens say, where that is known before it is read: samplers
    /// bring those together that are about as long.
    fn length(&self, _index: usize) -> Option<usize> {
        None
    }

    /// Height and width of the picture in `inputs` of the sample at `index`, where they are known without decoding it:
    /// samplers bring those together that lie the same way round.
    ///
    /// # Errors
    /// When its file cannot be read so far.
    fn picture_size(&self, _index: usize) -> Result<Option<[usize; 2]>> {
        Ok(None)
    }

    /// What goes in and what is predicted, in a line, where the set has found that out by itself: columns of a table.
    fn summary(&self) -> Option<String> {
        None
    }

    /// A data set to predict: it reads these files, or folders of them, as this one reads its own, fitted as it is.
    /// Targets may be missing in them.
    ///
    /// # Errors
    /// When this data set reads no files, or these cannot be read.
    fn of_files(&self, _files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        Err(Error::invalid("this data set does not read files: leave out `--input`"))
    }

    /// Adds to `marks` what tells the samples from those of another set of this length: their names, what they hold, or
    /// what they are made from. A run that is resumed compares it with what it was. By default the length and the
    /// classes count.
    fn mark(&self, _marks: &mut Marks) {}
}

/// Where a builder finds it, the files of its data set need not be there: only [`Dataset::of_files`] will be asked of
/// what it builds. A set without samples that knows how files are read, and what is [`Fitted`], is enough.
#[derive(Debug)]
pub struct Unread;

impl Unread {
    /// Whether sets are built for other files than their own.
    pub fn is_enough(cx: &BuildCx) -> bool {
        cx.get::<Self>().is_some()
    }
}

macro_rules! pointers_are_datasets {
    ($($pointer:ident),+) => {$(
        impl<D: Dataset + ?Sized> Dataset for $pointer<D> {
            fn len(&self) -> usize {
                (**self).len()
            }

            fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
                (**self).get(index, rng)
            }

            fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
                (**self).get_through(index, rng, pipeline)
            }

            fn has_pipeline(&self) -> bool {
                (**self).has_pipeline()
            }

            fn fields(&self) -> Option<Fields<FieldSpec>> {
                (**self).fields()
            }

            fn classes(&self) -> Option<&[String]> {
                (**self).classes()
            }

            fn parts(&self) -> usize {
                (**self).parts()
            }

            fn part_of(&self, index: usize) -> usize {
                (**self).part_of(index)
            }

            fn fitted(&self, all: &mut Fitted) {
                (**self).fitted(all);
            }

            fn origin(&self, index: usize) -> Origin {
                (**self).origin(index)
            }

            fn peek(&self, index: usize, field: &str) -> Option<Value> {
                (**self).peek(index, field)
            }

            fn length(&self, index: usize) -> Option<usize> {
                (**self).length(index)
            }

            fn picture_size(&self, index: usize) -> Result<Option<[usize; 2]>> {
                (**self).picture_size(index)
            }

            fn summary(&self) -> Option<String> {
                (**self).summary()
            }

            fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
                (**self).of_files(files)
            }

            fn mark(&self, marks: &mut Marks) {
                (**self).mark(marks);
            }
        }
    )+};
}
pointers_are_datasets!(Box, Arc);
