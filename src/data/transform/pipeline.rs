//! Transforms one behind the other.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::data::{Sample, Transform};
use crate::registry::{BuildCx, Spec};

/// The transforms of a data set. A sample leaves it packed: where no [`PackInputs`] stands at the end, it is added.
#[derive(Default)]
pub struct Pipeline(Compose);

impl Pipeline {
    /// These transforms in this order.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a transform would come after [`PackInputs`].
    pub fn new(transforms: Vec<Box<dyn Transform>>) -> Result<Self> {
        Compose::new(transforms).map(Self)
    }

    /// The transforms of a config.
    ///
    /// # Errors
    /// Those of the transforms' builders and of [`Pipeline::new`].
    pub fn build(specs: &[Spec<dyn Transform>], cx: &mut BuildCx) -> Result<Self> {
        Self::new(Spec::build_all(specs, cx)?)
    }

    /// Changes and packs `sample`.
    ///
    /// # Errors
    /// Those of the transforms.
    pub fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample> {
        self.0.apply(&mut sample, rng)?;
        if !self.0.packs() {
            sample.to_values()?;
            PackInputs {}.apply(&mut sample, rng)?;
        }
        Ok(sample)
    }
}

/// What a transform refused, with its position in the pipeline. It reads as what it holds.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
struct InTransform {
    index: usize,
    source: Error,
}

impl InTransform {
    /// A file that cannot be read, or a limit of the machine, is not the transform's doing.
    fn at(index: usize, source: Error) -> Error {
        let own = match &source {
            Error::Invalid(_) | Error::Config(_) => true,
            Error::Other(source) => source.is::<Self>(),
            _ => false,
        };
        if own { Error::Other(Box::new(Self { index, source })) } else { source }
    }
}

/// The positions of the transform that refused a sample, from the outside in; empty where it was none.
pub(crate) fn path_in(error: &Error) -> Vec<usize> {
    match error {
        Error::Other(source) => source
            .downcast_ref::<InTransform>()
            .map_or_else(Vec::new, |found| [found.index].into_iter().chain(path_in(&found.source)).collect()),
        _ => Vec::new(),
    }
}

/// Several transforms as one.
#[derive(Default)]
pub struct Compose(Vec<Box<dyn Transform>>);

impl Compose {
    /// These transforms in this order.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a transform would come after [`PackInputs`].
    pub fn new(transforms: Vec<Box<dyn Transform>>) -> Result<Self> {
        match transforms.iter().rev().skip(1).any(|t| t.packs()) {
            true => Err(Error::invalid(
                "PackInputs must be the last transform: those behind it would see another layout",
            )),
            false => Ok(Self(transforms)),
        }
    }
}

impl Transform for Compose {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        self.0.iter().enumerate().try_for_each(|(index, transform)| {
            if !transform.takes_pictures() {
                sample.to_values()?;
            }
            transform.apply(sample, rng).map_err(|source| InTransform::at(index, source))
        })
    }

    fn takes_pictures(&self) -> bool {
        true
    }

    fn packs(&self) -> bool {
        self.0.last().is_some_and(|t| t.packs())
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ComposeParams {
    /// The transforms, in order.
    transforms: Vec<Spec<dyn Transform>>,
}

crate::register! {
    /// Several transforms as one.
    dyn Transform, "Compose" => |p: ComposeParams, cx: &mut BuildCx| -> Result<Box<dyn Transform>> {
        Ok(Box::new(Pipeline::build(&p.transforms, cx)?.0))
    }
}

crate::register! {
    /// Ends a pipeline: from height, width, channels to channels, height, width. A pipeline without it gets it.
    dyn Transform, "PackInputs" => PackInputs
}

/// Turns height, width, channels into channels, height, width. It moves no pixel: collating copies them in the new order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct PackInputs {}

impl Transform for PackInputs {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        sample.img = std::mem::take(&mut sample.img).permuted_axes([2, 0, 1]);
        Ok(())
    }

    fn packs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::Array3;

    fn pipeline(transforms: Vec<Box<dyn Transform>>) -> Pipeline {
        Pipeline::new(transforms).unwrap()
    }

    #[test]
    fn a_sample_leaves_packed_once() {
        let img = Array3::from_shape_fn((2, 3, 4), |(y, x, c)| (100 * y + 10 * x + c) as f32);
        let nested = Compose::new(vec![Box::new(PackInputs {})]).unwrap();
        for pipeline in
            [Pipeline::default(), pipeline(vec![Box::new(PackInputs {})]), pipeline(vec![Box::new(nested)])]
        {
            let out = pipeline.apply(Sample::new(img.clone(), 1), &mut keyed(0, "", 0, 0)).unwrap();
            assert_eq!(out.img.shape(), [4, 2, 3]);
            assert_eq!(out.img[[3, 1, 2]], img[[1, 2, 3]]);
        }
    }

    #[test]
    fn nothing_may_follow_packing() {
        let two: Vec<Box<dyn Transform>> = vec![Box::new(PackInputs {}), Box::new(PackInputs {})];
        assert!(Pipeline::new(two).is_err_and(|e| e.to_string().contains("must be the last")));
    }
}
