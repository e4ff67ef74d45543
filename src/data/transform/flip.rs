//! A mirror image, now and then.

use ndarray::Axis;
use rand::RngExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
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

/// Mirrors an image in one of several directions, or leaves it as it is with what is left of their probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomFlip {
    directions: Vec<(Direction, f64)>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RandomFlipConfig {
    /// Probability that the image is mirrored, or a list with that of each direction.
    #[schemars(schema_with = "probabilities")]
    prob: OneOrMany<f64>,
    /// horizontal, vertical or diagonal (both); of a list each time one, all equally likely unless `prob` is a list.
    #[serde(default = "horizontal")]
    direction: OneOrMany<Direction>,
}

fn probabilities(_: &mut SchemaGenerator) -> Schema {
    let one = json_schema!({ "type": "number", "minimum": 0, "maximum": 1 });
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
}

fn horizontal() -> OneOrMany<Direction> {
    OneOrMany(vec![Direction::Horizontal])
}

crate::register! {
    /// A mirror image with probability `prob`.
    ///
    /// ```yaml
    /// {type: RandomFlip, prob: [0.25, 0.5], direction: [horizontal, vertical]}
    /// ```
    dyn Transform, "RandomFlip" => fn RandomFlip::from_config
}

impl RandomFlip {
    /// With probability `prob`, in one of `directions`, which are all equally likely; with none it does nothing.
    pub fn new(prob: f64, directions: &[Direction]) -> Self {
        let each = prob / directions.len().max(1) as f64;
        Self { directions: directions.iter().map(|direction| (*direction, each)).collect() }
    }

    fn from_config(p: RandomFlipConfig, _: &mut BuildCx) -> Result<Self> {
        let (directions, prob) = (p.direction.0, p.prob.0);
        if let [prob] = prob[..] {
            return Ok(Self::new(prob, &directions));
        }
        let sum: f64 = prob.iter().sum();
        if prob.len() != directions.len() || sum > 1.0 + 1e-6 {
            return Err(Error::config(format!(
                "`prob` is one number, or one for each of the {} directions, and they sum to 1 at most, got {prob:?}",
                directions.len()
            )));
        }
        Ok(Self { directions: directions.into_iter().zip(prob).collect() })
    }
}

impl Transform for RandomFlip {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let mut left: f64 = rng.random();
        let chosen = self.directions.iter().find(|(_, prob)| {
            left -= prob;
            left < 0.0
        });
        let Some(&(direction, _)) = chosen else { return Ok(()) };
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
        let flip = RandomFlip::new(prob, &[direction]);
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

    #[test]
    fn each_direction_as_often_as_asked() {
        let given = |prob: &[f64]| {
            let direction = vec![Direction::Horizontal, Direction::Vertical, Direction::Diagonal];
            let config = RandomFlipConfig { prob: OneOrMany(prob.to_vec()), direction: OneOrMany(direction) };
            RandomFlip::from_config(config, &mut BuildCx::new(0))
        };
        // The first value of [[0, 1], [2, 3]] says which way it was mirrored.
        let count = |flip: &RandomFlip| {
            let mut seen = [0i32; 4];
            for draw in 0..10_000 {
                let mut sample =
                    Sample::image(Array3::from_shape_fn((2, 2, 1), |(y, x, _)| (2 * y + x) as f32), 0);
                flip.apply(&mut sample, &mut keyed(0, "augment", draw, 0)).unwrap();
                seen[sample.picture().unwrap().values().unwrap()[[0, 0, 0]] as usize] += 1;
            }
            seen
        };
        for (prob, expected) in
            [(&[0.1, 0.5, 0.2][..], [2000, 1000, 5000, 2000]), (&[0.6][..], [4000, 2000, 2000, 2000])]
        {
            for (seen, expected) in count(&given(prob).unwrap()).into_iter().zip(expected) {
                // Five standard deviations of the most variable count: sqrt(10000 * 0.5 * 0.5) = 50.
                assert!((seen - expected).abs() <= 250, "{prob:?}: {seen} instead of {expected}");
            }
        }
        for wrong in [&[0.5, 0.5][..], &[0.5, 0.5, 0.1]] {
            let error = given(wrong).unwrap_err().to_string();
            assert!(error.contains("one for each of the 3 directions, and they sum to 1 at most"), "{error}");
        }
    }
}
