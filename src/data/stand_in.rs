//! Samples in place of those of a data set that is not on this machine, where its pipeline says what they look like.

use ndarray::{Array3, ArrayD};

use super::field::{FieldKind, FieldSpec, Fields, INPUTS, TARGET};
use super::{Dataset, Picture, Pipeline, Sample, Value};
use crate::base::{Result, Rng, keyed};
use crate::registry::BuildCx;

/// Sizes of pictures that are unlike each other: what a pipeline makes of both alike does not depend on the file.
const SIZES: [[usize; 2]; 2] = [[375, 500], [640, 427]];

/// Where builders of pipelines find it, they are asked for what they make of a picture; the last one is kept.
#[derive(Debug, Default)]
pub(crate) struct StandIn(Option<Sample>);

impl StandIn {
    /// Keeps what `pipeline` makes of a picture such as `fields` declares, if anybody asked for it.
    pub fn offer(cx: &mut BuildCx, fields: &Fields<FieldSpec>, pipeline: &Pipeline, channels: usize) {
        if let Some(Self(kept)) = cx.get_mut() {
            *kept = sample(fields, pipeline, channels);
        }
    }

    /// From now on the sets that are built offer theirs.
    pub fn ask(cx: &mut BuildCx) {
        cx.provide(Self::default());
    }

    /// Whether sets are built to be looked at: nothing is trained with them.
    pub fn is_asked(cx: &BuildCx) -> bool {
        cx.get::<Self>().is_some()
    }

    /// What was offered last.
    pub fn taken(cx: &mut BuildCx) -> Option<Sample> {
        cx.get_mut().and_then(|Self(kept)| kept.take())
    }
}

/// A sample, if its shape is known.
fn sample(fields: &Fields<FieldSpec>, pipeline: &Pipeline, channels: usize) -> Option<Sample> {
    let inputs = fields.get(INPUTS).filter(|spec| spec.kind == FieldKind::Picture)?;
    let declared = match inputs.shape.as_deref() {
        Some([Some(height), Some(width), Some(channels)]) => Some([*height, *width, *channels]),
        _ => None,
    };
    let target = fields.get(TARGET).map(target);
    let made = |shape: [usize; 3]| {
        let picture = Array3::from_shape_fn(shape, |(y, x, c)| ((7 * y + 3 * x + c) % 256) as f32);
        let mut sample = Sample::unlabelled(Picture::Values(picture));
        if let Some(target) = &target {
            sample.fields.set(TARGET, target.clone());
        }
        pipeline.apply(sample, &mut keyed(0, "stand-in", 0, 0)).ok()
    };
    let Some(shape) = declared else {
        let [first, second] = SIZES.map(|[height, width]| made([height, width, channels]));
        let shape = |sample: &Sample| sample.fields.get(INPUTS).map(|value| value.shape().to_vec());
        return first.filter(|first| second.is_some_and(|second| shape(first) == shape(&second)));
    };
    made(shape)
}

/// As many floats as `spec` says, where it does: of several labels none is given. Else the first class.
fn target(spec: &FieldSpec) -> Value {
    let lengths: Option<Vec<usize>> = spec.shape.as_ref().and_then(|shape| shape.iter().copied().collect());
    match lengths.filter(|_| spec.kind == FieldKind::Float) {
        Some(lengths) => Value::Float(ArrayD::zeros(lengths)),
        None => Value::from(0i64),
    }
}

/// As many samples as there are to be, all of them the stand-in.
pub(super) struct StandInSet {
    pub sample: Sample,
    pub len: usize,
}

impl Dataset for StandInSet {
    fn len(&self) -> usize {
        self.len
    }
    fn get(&self, _: usize, _: &mut Rng) -> Result<Sample> {
        Ok(self.sample.clone())
    }
}
