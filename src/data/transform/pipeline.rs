//! Transforms one behind the other.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::{Diag, Diags, Node};
use crate::data::{FieldKind, FieldSpec, Fields, Sample, StandIn, Transform, Value};
use crate::registry::{BuildCx, Spec};

/// The transforms of a data set. A sample leaves it packed: where no [`PackInputs`] stands at the end, it is added.
#[derive(Default)]
pub struct Pipeline(Compose);

impl Pipeline {
    /// These transforms in this order.
    pub fn new(transforms: Vec<Box<dyn Transform>>) -> Self {
        Self(Compose::new(transforms))
    }

    /// The transforms of a config.
    ///
    /// # Errors
    /// Those of the transforms' builders.
    pub fn build(specs: &[Spec<dyn Transform>], cx: &mut BuildCx) -> Result<Self> {
        Compose::build(specs, cx).map(Self)
    }

    /// The transforms of a config, for a data set that begins with these fields.
    ///
    /// # Errors
    /// As [`build`](Self::build); a transform that does not fit the fields, with its place.
    pub fn build_for(
        fields: &Fields<FieldSpec>,
        specs: &[Spec<dyn Transform>],
        cx: &mut BuildCx,
    ) -> Result<Self> {
        let pipeline = Self::build(specs, cx)?;
        pipeline.0.declare(&mut fields.clone())?;
        match specs.iter().find_map(|spec| color_type(spec.node())) {
            // How many channels there are is known by the files alone.
            Some("unchanged") => {}
            Some(colors) if colors.starts_with("grayscale") => StandIn::offer(cx, fields, &pipeline, 1),
            _ => StandIn::offer(cx, fields, &pipeline, 3),
        }
        Ok(pipeline)
    }

    /// Changes and packs `sample`.
    ///
    /// # Errors
    /// Those of the transforms.
    pub fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample> {
        self.0.apply(&mut sample, rng)?;
        PackInputs {}.apply(&mut sample, rng)?;
        Ok(sample)
    }

    /// The fields of a sample that went through it, from those that the data set begins with.
    pub fn fields(&self, mut fields: Fields<FieldSpec>) -> Fields<FieldSpec> {
        // What does not fit was said when the pipeline was built, or a sample will say it.
        let _ = self.0.declare(&mut fields).and_then(|()| PackInputs {}.declare(&mut fields));
        fields
    }
}

/// Which channels the first transform that says it reads, in `transforms` of others too.
fn color_type(node: &Node) -> Option<&str> {
    let inner = node.get("transforms").map_or(&[][..], Node::items);
    node.get("color_type").and_then(Node::as_str).or_else(|| inner.iter().find_map(color_type))
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
pub struct Compose {
    transforms: Vec<Box<dyn Transform>>,
    /// Where a config writes them.
    places: Vec<Node>,
}

impl Compose {
    /// These transforms in this order.
    pub fn new(transforms: Vec<Box<dyn Transform>>) -> Self {
        Self { transforms, places: Vec::new() }
    }

    pub(super) fn build(specs: &[Spec<dyn Transform>], cx: &mut BuildCx) -> Result<Self> {
        // The cache goes by files: behind what has read one it would keep nothing, and say nothing.
        let cache = specs.iter().position(|spec| spec.name() == "CachePictures").unwrap_or_default();
        let reads = |spec: &&Spec<dyn Transform>| spec.name() != "LoadImageFromFile";
        if let Some(first) = specs[..cache].iter().find(reads) {
            let text = format!(
                "CachePictures keeps nothing here: `{}` before it has read the picture's file. Put CachePictures first, and what it \
                 is to keep into its `transforms`",
                first.name()
            );
            return Err(Diags::from(Diag::error(text).on(specs[cache].node())).into());
        }
        let places = specs.iter().map(|spec| spec.node().clone()).collect();
        Ok(Self { transforms: Spec::build_all(specs, cx)?, places })
    }

    /// The first transform that is not fixed.
    pub(super) fn loose(&self) -> Option<usize> {
        self.transforms.iter().position(|transform| !transform.is_fixed())
    }
}

impl Transform for Compose {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        self.transforms.iter().enumerate().try_for_each(|(index, transform)| {
            transform.apply(sample, rng).map_err(|source| InTransform::at(index, source))
        })
    }

    fn is_fixed(&self) -> bool {
        self.loose().is_none()
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        for (at, transform) in self.transforms.iter().enumerate() {
            let declared = transform.declare(fields);
            declared.map_err(|error| match (error, self.places.get(at)) {
                (Error::Config(source), _) if source.is::<Diags>() => Error::Config(source),
                (error, Some(place)) => {
                    let name = place.get("type").and_then(Node::as_str).unwrap_or("the transform");
                    Diags::from(Diag::error(format!("`{name}` does not fit here: {error}")).on(place)).into()
                }
                (error, None) => error,
            })?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ComposeConfig {
    /// The transforms, in order.
    transforms: Vec<Spec<dyn Transform>>,
}

crate::register! {
    /// Several transforms as one.
    dyn Transform, "Compose" => fn Compose::from_config
}

impl Compose {
    fn from_config(p: ComposeConfig, cx: &mut BuildCx) -> Result<Self> {
        Self::build(&p.transforms, cx)
    }
}

crate::register! {
    /// Ends the work on pictures: from height, width, channels to channels, height, width. A pipeline without it gets it.
    dyn Transform, "PackInputs" => PackInputs
}

/// Turns pictures into floats: channels, height, width. It moves no pixel: collating copies them in the new order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct PackInputs {}

impl Transform for PackInputs {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        for (_, value) in sample.fields.iter_mut() {
            *value = match std::mem::replace(value, Value::Text(String::new())) {
                Value::Picture(picture) => picture.packed()?.into(),
                other => other,
            };
        }
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        for (_, spec) in fields.iter_mut().filter(|(_, spec)| spec.kind == FieldKind::Picture) {
            spec.kind = FieldKind::Float;
            if let Some([height, width, channels]) = spec.shape.as_deref_mut() {
                (*height, *width, *channels) = (*channels, *height, *width);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use crate::data::CenterCrop;
    use ndarray::Array3;

    fn packing() -> Box<dyn Transform> {
        Box::new(PackInputs {})
    }

    #[test]
    fn a_sample_leaves_packed_once() {
        let img = Array3::from_shape_fn((2, 3, 4), |(y, x, c)| (100 * y + 10 * x + c) as f32);
        let nested = Compose::new(vec![packing()]);
        for pipeline in
            [Pipeline::default(), Pipeline::new(vec![packing()]), Pipeline::new(vec![Box::new(nested)])]
        {
            let out = pipeline.apply(Sample::image(img.clone(), 1), &mut keyed(0, "", 0, 0)).unwrap();
            let out = out.float("inputs").unwrap();
            assert_eq!(out.shape(), [4, 2, 3]);
            assert_eq!(out[[3, 1, 2]], img[[1, 2, 3]]);
        }
    }

    #[test]
    fn a_transform_of_pictures_wants_one() {
        let crop = || -> Box<dyn Transform> { Box::new(CenterCrop { width: 1, height: 1 }) };
        let mut fields = Fields::default();
        fields.set("inputs", FieldSpec::new(FieldKind::Picture, &[2, 3, 4]));
        assert!(Compose::new(vec![crop(), packing()]).declare(&mut fields.clone()).is_ok());
        let text = Compose::new(vec![packing(), crop()]).declare(&mut fields).unwrap_err().to_string();
        assert_eq!(
            text,
            "it works on a picture, and `inputs` is floats of shape [4, 2, 3] there: transforms of pictures come before \
             `PackInputs`"
        );
        let of_text = Sample::unlabelled("a".to_owned());
        let text =
            Pipeline::new(vec![crop()]).apply(of_text, &mut keyed(0, "", 0, 0)).unwrap_err().to_string();
        assert_eq!(text, "the field `inputs` holds text, and a picture is wanted");
    }
}
