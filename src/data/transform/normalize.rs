//! Zero mean and unit variance.

use ndarray::Axis;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::{FieldSpec, Fields, Sample, Transform};
use crate::registry::BuildCx;

use super::picture_in;

/// `(x - mean) / std`, with one pair for each channel or one for all; before that, three channels may be turned round.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
    turn: bool,
}

impl Normalize {
    /// From means and standard deviations, of one channel or of all.
    ///
    /// # Errors
    /// [`Error::Invalid`] when their numbers differ, when there is none, or when a standard deviation is not above 0.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self> {
        if mean.len() != std.len() || mean.is_empty() {
            return Err(Error::invalid(format!(
                "Normalize needs as many means as standard deviations, got {} and {}",
                mean.len(),
                std.len()
            )));
        }
        match std.iter().find(|&&s| s.is_nan() || s <= 0.0) {
            Some(bad) => Err(Error::invalid(format!("Normalize: a std must be above 0, got {bad}"))),
            None => Ok(Self { mean, std, turn: false }),
        }
    }

    /// Whether three channels are turned round first, BGR to RGB. The means are in the order of the result.
    #[must_use]
    pub fn to_rgb(self, turn: bool) -> Self {
        Self { turn, ..self }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NormalizeConfig {
    /// Mean of each channel, or of all.
    mean: OneOrMany<f32>,
    /// Standard deviation of each channel, or of all.
    std: OneOrMany<f32>,
    /// Whether to turn three channels round first, from BGR, as LoadImageFromFile gives them, to RGB: `mean` and `std`
    /// are in the order of the result. Other numbers of channels stay as they are.
    #[serde(default = "crate::config::yes")]
    to_rgb: bool,
}

crate::register! {
    /// `(x - mean) / std` for each channel, after BGR became RGB (`to_rgb: false` leaves the order).
    dyn Transform, "Normalize" => fn Normalize::from_config
}

impl Normalize {
    fn from_config(p: NormalizeConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::new(p.mean.0, p.std.0)?.to_rgb(p.to_rgb))
    }
}

impl Transform for Normalize {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        let picture = sample.picture()?;
        let (_, _, channels) = picture.dim()?;
        if self.mean.len() != 1 && self.mean.len() != channels {
            return Err(Error::invalid(format!(
                "Normalize has {} means for an image of {channels} channels",
                self.mean.len()
            )));
        }
        let turn = self.turn && channels == 3;
        if let Some(bytes) = picture.bytes()? {
            if turn {
                bytes.turn_channels();
            }
            // 256 quotients instead of one a value.
            let filled = picture.fill_values(|channel| {
                let i = if self.mean.len() == 1 { 0 } else { channel };
                std::array::from_fn(|byte| (byte as f32 - self.mean[i]) / self.std[i])
            });
            return filled.map(drop);
        }
        let values = picture.values()?;
        if turn {
            values.invert_axis(Axis(2));
        }
        if let ([mean], [std]) = (&self.mean[..], &self.std[..]) {
            values.mapv_inplace(|v| (v - mean) / std);
        } else {
            for mut pixel in values.rows_mut() {
                for ((v, mean), std) in pixel.iter_mut().zip(&self.mean).zip(&self.std) {
                    *v = (*v - mean) / std;
                }
            }
        }
        Ok(())
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_in(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::Array3;

    fn apply(normalize: &Normalize, channels: usize) -> Result<Vec<f32>> {
        let mut sample =
            Sample::image(Array3::from_shape_fn((1, 2, channels), |(_, x, c)| (10 * x + c) as f32), 0);
        normalize.apply(&mut sample, &mut keyed(0, "", 0, 0))?;
        Ok(sample.picture()?.values()?.iter().copied().collect())
    }

    #[test]
    fn by_channel_or_for_all() {
        let by_channel = Normalize::new(vec![0.0, 1.0], vec![1.0, 2.0]).unwrap();
        assert_eq!(apply(&by_channel, 2).unwrap(), [0.0, 0.0, 10.0, 5.0]);
        let for_all = Normalize::new(vec![1.0], vec![2.0]).unwrap();
        assert_eq!(apply(&for_all, 2).unwrap(), [-0.5, 0.0, 4.5, 5.0]);
        assert!(
            apply(&by_channel, 3).unwrap_err().to_string().contains("2 means for an image of 3 channels")
        );
    }

    /// MMCV's `imnormalize`: cvtColor(BGR2RGB) first, so that the means are those of red, green, blue.
    #[test]
    fn bgr_becomes_rgb_before_the_means_are_taken_off() {
        let colors = Normalize::new(vec![1.0, 2.0, 3.0], vec![1.0, 1.0, 2.0]).unwrap().to_rgb(true);
        assert_eq!(apply(&colors, 3).unwrap(), [1.0, -1.0, -1.5, 11.0, 9.0, 3.5]);
        let mut bytes = Sample::of_bytes(Array3::from_shape_fn((1, 1, 3), |(_, _, c)| c as u8), 0);
        colors.apply(&mut bytes, &mut keyed(0, "", 0, 0)).unwrap();
        assert_eq!(
            bytes.picture().unwrap().values().unwrap().iter().copied().collect::<Vec<_>>(),
            [1.0, -1.0, -1.5]
        );
        let gray = Normalize::new(vec![1.0], vec![2.0]).unwrap().to_rgb(true);
        assert_eq!(apply(&gray, 2).unwrap(), [-0.5, 0.0, 4.5, 5.0], "two channels have no colour");
    }

    #[test]
    fn refuses_what_cannot_be_divided_by() {
        assert!(Normalize::new(vec![0.0], vec![0.0]).is_err());
        assert!(Normalize::new(vec![0.0], vec![f32::NAN]).is_err());
        assert!(Normalize::new(vec![0.0, 1.0], vec![1.0]).is_err());
        assert!(Normalize::new(vec![], vec![]).is_err());
    }
}
