//! What lies on a picture and has to move with it: masks, which are integers of the picture's height and width. A
//! transform that moves pixels takes them along, or refuses them by name; it never leaves one behind.

use ndarray::{ArrayD, Axis, Slice};

use super::picture_in;
use crate::base::{Error, Result};
use crate::data::field::INPUTS;
use crate::data::{FieldKind, FieldSpec, Fields, Sample, Value, Window};

/// Changes every mask of the sample by `change`; it comes before the picture changes.
///
/// # Errors
/// Names a field that has two axes or more, or is a picture, and is no mask of this picture.
pub(super) fn change_masks(sample: &mut Sample, mut change: impl FnMut(&mut ArrayD<i64>)) -> Result<()> {
    if others(sample).next().is_none() {
        return Ok(());
    }
    let (h, w, _) = sample.picture()?.dim()?;
    let others = sample.fields.iter_mut().filter(|(name, _)| *name != INPUTS);
    for (name, value) in others.filter(|(_, value)| is_plane(value)) {
        match value {
            Value::Int(mask) if mask.shape() == [h, w] => change(mask),
            other => return Err(stays(name, &described(other), &format!("{h} × {w}"))),
        }
    }
    Ok(())
}

/// The part of a mask that lies in a window of its picture.
pub(super) fn cut_mask(mask: &mut ArrayD<i64>, window: Window) {
    let Window { y, x, height, width } = window;
    let slice = |begin: usize, n: usize| Slice::from(begin..begin + n);
    *mask = mask.slice_axis(Axis(0), slice(y, height)).slice_axis(Axis(1), slice(x, width)).to_owned();
}

/// Refuses a sample with masks, for a transform that cannot change them.
///
/// # Errors
/// Names the mask, or the other picture.
pub(super) fn no_masks(sample: &Sample) -> Result<()> {
    match others(sample).next() {
        None => Ok(()),
        Some((name, value)) => Err(left(name, &described(value))),
    }
}

/// The declaration of a transform that takes masks along.
pub(super) fn picture_and_masks(fields: &mut Fields<FieldSpec>) -> Result<()> {
    let size = match fields.get(INPUTS).and_then(|spec| spec.shape.as_deref()) {
        Some([Some(h), Some(w), _]) => Some([*h, *w]),
        _ => None,
    };
    picture_in(fields)?;
    for (name, spec) in fields.iter_mut().filter(|(name, spec)| *name != INPUTS && is_plane_of(spec)) {
        let text = spec.to_string();
        match (spec.kind, spec.shape.as_deref_mut()) {
            (FieldKind::Int, Some([h, w]))
                if size.is_none_or(|[y, x]| h.is_none_or(|h| h == y) && w.is_none_or(|w| w == x)) =>
            {
                (*h, *w) = (None, None);
            }
            _ => {
                let size = size.map_or("of its size".to_owned(), |[h, w]| format!("{h} × {w}"));
                return Err(stays(name, &text, &size));
            }
        }
    }
    Ok(())
}

/// The declaration of a transform that cannot take masks along.
pub(super) fn picture_alone(fields: &mut Fields<FieldSpec>) -> Result<()> {
    picture_in(fields)?;
    unmasked(fields)
}

/// The declaration of a transform that changes a picture and keeps its size.
pub(super) fn picture_kept(fields: &mut Fields<FieldSpec>) -> Result<()> {
    picture_in(&mut fields.clone())
}

/// Refuses a declaration with masks, for a transform that cannot take them along.
pub(super) fn unmasked(fields: &Fields<FieldSpec>) -> Result<()> {
    match fields.iter().find(|(name, spec)| *name != INPUTS && is_plane_of(spec)) {
        None => Ok(()),
        Some((name, spec)) => Err(left(name, &spec.to_string())),
    }
}

fn others(sample: &Sample) -> impl Iterator<Item = (&str, &Value)> {
    sample.fields.iter().filter(|(name, value)| *name != INPUTS && is_plane(value))
}

fn is_plane(value: &Value) -> bool {
    matches!(value, Value::Picture(_)) || value.shape().len() > 1
}

fn is_plane_of(spec: &FieldSpec) -> bool {
    spec.kind == FieldKind::Picture || spec.shape.as_ref().is_some_and(|shape| shape.len() > 1)
}

fn described(value: &Value) -> String {
    match value {
        Value::Picture(_) => FieldKind::Picture.to_string(),
        other => FieldSpec::new(other.kind(), other.shape()).to_string(),
    }
}

fn stays(name: &str, what: &str, size: &str) -> Error {
    Error::invalid(format!(
        "`{name}` is {what}, and what moves along with the picture are integers {size}, a class a pixel: it would no longer fit"
    ))
}

fn left(name: &str, what: &str) -> Error {
    Error::invalid(format!(
        "`{name}` is {what} and would no longer fit the picture: RandomFlip, RandomCrop without padding and CenterCrop move masks \
         along"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, keyed};
    use crate::data::{
        Border, CenterCrop, Direction, Edge, Filling, Filter, Pad, PadTo, Picture, Pipeline, RandomCrop,
        RandomFlip, RandomResizedCrop, Resize, ResizeEdge, Transform,
    };
    use ndarray::{Array2, Array3};

    /// A picture whose pixels say where they are from, and a mask that says the same.
    fn sample(h: usize, w: usize) -> Sample {
        let number = |y: usize, x: usize| 10 * y + x;
        let picture = Array3::from_shape_fn((h, w, 1), |(y, x, _)| number(y, x) as f32);
        let mask = Array2::from_shape_fn((h, w), |(y, x)| number(y, x) as i64);
        Sample::image(picture, 0).with("target", mask)
    }

    fn fields() -> Fields<FieldSpec> {
        let picture = FieldSpec::new(FieldKind::Picture, &[5, 6, 1]);
        let mask = FieldSpec::new(FieldKind::Int, &[5, 6]);
        [("inputs".into(), picture), ("target".into(), mask)].into_iter().collect()
    }

    fn crop(height: usize, width: usize, border: Border) -> RandomCrop {
        RandomCrop { height, width, border, pad_if_needed: false, filling: Filling::default() }
    }

    fn rng(draw: u64) -> Rng {
        keyed(0, "augment", draw, 0)
    }

    #[test]
    fn masks_move_along_with_the_picture() {
        let directions = [Direction::Horizontal, Direction::Vertical, Direction::Diagonal];
        let all: [(Box<dyn Transform>, [usize; 2]); 3] = [
            (Box::new(RandomFlip::new(0.9, &directions)), [5, 6]),
            (Box::new(crop(3, 2, Border::default())), [3, 2]),
            (Box::new(CenterCrop { width: 3, height: 2 }), [2, 3]),
        ];
        for (transform, size) in all {
            transform.declare(&mut fields()).unwrap();
            let mut seen = std::collections::BTreeSet::new();
            for draw in 0..50 {
                let mut sample = sample(5, 6);
                transform.apply(&mut sample, &mut rng(draw)).unwrap();
                let mask: Vec<f32> = sample.int("target").unwrap().iter().map(|v| *v as f32).collect();
                assert_eq!(sample.int("target").unwrap().shape(), size);
                assert_eq!(
                    sample.picture().unwrap().values().unwrap().iter().copied().collect::<Vec<_>>(),
                    mask
                );
                seen.insert(mask.iter().map(|v| *v as u8).collect::<Vec<_>>());
            }
            assert!(seen.len() > 2 || size == [2, 3], "it moves pixels");
        }
    }

    #[test]
    fn a_transform_that_would_leave_a_mask_behind_refuses_it_by_name() {
        let border = Border { left: 1, ..Border::default() };
        let all: [Box<dyn Transform>; 5] = [
            Box::new(Resize { width: 3, height: 3, keep_ratio: false, filter: Filter::CV2 }),
            Box::new(ResizeEdge { scale: 3, edge: Edge::Short, filter: Filter::CV2 }),
            Box::new(RandomResizedCrop::new(3, 3)),
            Box::new(Pad { to: PadTo::Border(border), filling: Filling::default() }),
            Box::new(crop(3, 3, border)),
        ];
        for transform in all {
            let known = transform.declare(&mut fields()).unwrap_err().to_string();
            let met = transform.apply(&mut sample(5, 6), &mut rng(0)).unwrap_err().to_string();
            assert_eq!(known, met);
            assert!(
                met.starts_with("`target` is integers of shape [5, 6] and would no longer fit the picture"),
                "{met}"
            );
            // Without a mask nothing is said.
            assert!(transform.apply(&mut Sample::image(Array3::zeros((5, 6, 1)), 0), &mut rng(0)).is_ok());
        }
    }

    #[test]
    fn what_is_no_mask_of_the_picture_is_refused_too() {
        let flip = RandomFlip::new(1.0, &[Direction::Vertical]);
        let refused = |sample: Sample| flip.apply(&mut { sample }, &mut rng(0)).unwrap_err().to_string();
        let boxes = sample(5, 6).with("boxes", Array2::<i64>::zeros((2, 4)));
        assert!(refused(boxes).starts_with("`boxes` is integers of shape [2, 4], and what moves along"));
        let depth = sample(5, 6).with("depth", Array2::<f32>::zeros((5, 6)));
        assert!(refused(depth).starts_with("`depth` is floats of shape [5, 6], and what moves along"));
        let second = sample(5, 6).with("right", Picture::Values(Array3::zeros((5, 6, 1))));
        assert!(refused(second).starts_with("`right` is a picture, and what moves along"));
        let mut declared = fields();
        declared.set("depth", FieldSpec::new(FieldKind::Float, &[5, 6]));
        let text = flip.declare(&mut declared).unwrap_err().to_string();
        assert!(text.starts_with("`depth` is floats of shape [5, 6], and what moves along"), "{text}");
        // Numbers beside a picture stay.
        let with_numbers = sample(5, 6).with("age", 3.0f32).with("tags", ndarray::arr1(&[1i64, 0]));
        assert!(Pipeline::new(vec![Box::new(flip.clone())]).apply(with_numbers, &mut rng(0)).is_ok());
    }
}
