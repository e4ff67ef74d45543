//! A mirror image, now and then.

use ndarray::Axis;
use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Result, Rng};
use crate::config::OneOrMany;
use crate::data::{FieldSpec, Fields, Sample, Transform};
use crate::registry::BuildCx;

use super::masks::{change_masks, picture_and_masks};

/// Which way to mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Left becomes right.
    Horizontal,
    /// Top becomes bottom.
    Vertical,
    /// Both.
    Diagonal,
}

/// Mirrors an image with probability `prob`, in one of `directions` (all equally likely).
#[derive(Debug, Clone, PartialEq)]
pub struct RandomFlip {
    /// Probability that the image is mirrored at all.
    pub prob: f64,
    /// The ways; with none the image stays as it is.
    pub directions: Vec<Direction>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RandomFlipConfig {
    /// Probability that the image is mirrored.
    #[schemars(range(min = 0.0, max = 1.0))]
    prob: f64,
    /// horizontal, vertical or diagonal (both); of a list each time one, all equally likely.
    #[serde(default = "horizontal")]
    direction: OneOrMany<Direction>,
}

fn horizontal() -> OneOrMany<Direction> {
    OneOrMany(vec![Direction::Horizontal])
}

crate::register! {
    /// A mirror image with probability `prob`.
    dyn Transform, "RandomFlip" => fn RandomFlip::from_config
}

impl RandomFlip {
    fn from_config(p: RandomFlipConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self { prob: p.prob, directions: p.direction.0 })
    }
}

impl Transform for RandomFlip {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        if self.directions.is_empty() || rng.random::<f64>() >= self.prob {
            return Ok(());
        }
        let direction = self.directions[rng.random_range(0..self.directions.len() as u64) as usize];
        // Only strides change; collating copies the pixels in the new order.
        let (horizontal, vertical) = (direction != Direction::Vertical, direction != Direction::Horizontal);
        change_masks(sample, |mask| {
            if vertical {
                mask.invert_axis(Axis(0));
            }
            if horizontal {
                mask.invert_axis(Axis(1));
            }
        })?;
        let picture = sample.picture()?;
        if let Some(bytes) = picture.bytes()? {
            bytes.mirror(horizontal, vertical);
            return Ok(());
        }
        let values = picture.values()?;
        if vertical {
            values.invert_axis(Axis(0));
        }
        if horizontal {
            values.invert_axis(Axis(1));
        }
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_and_masks(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::Array3;

    fn flipped(prob: f64, direction: Direction, draw: u64) -> Vec<f32> {
        let img = Array3::from_shape_fn((2, 2, 1), |(y, x, _)| (2 * y + x) as f32);
        let mut sample = Sample::image(img, 0);
        let flip = RandomFlip { prob, directions: vec![direction] };
        flip.apply(&mut sample, &mut keyed(0, "augment", draw, 0)).unwrap();
        sample.picture().unwrap().values().unwrap().iter().copied().collect()
    }

    #[test]
    fn mirrors_each_way() {
        assert_eq!(flipped(1.0, Direction::Horizontal, 0), [1., 0., 3., 2.]);
        assert_eq!(flipped(1.0, Direction::Vertical, 0), [2., 3., 0., 1.]);
        assert_eq!(flipped(1.0, Direction::Diagonal, 0), [3., 2., 1., 0.]);
        assert_eq!(flipped(0.0, Direction::Diagonal, 0), [0., 1., 2., 3.]);
    }

    #[test]
    fn as_often_as_asked() {
        let count = (0..10_000).filter(|&draw| flipped(0.3, Direction::Horizontal, draw)[0] == 1.0).count();
        // five standard deviations: sqrt(10000 * 0.3 * 0.7) = 45.8
        assert!((2771..=3229).contains(&count), "{count}");
    }
}
