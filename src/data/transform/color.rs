//! Colours of a whole picture.

use rand::RngExt;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::rng::permutation;
use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::picture::table;
use crate::data::{Backend, Bytes, FieldSpec, Fields, INPUTS, Picture, Sample, Transform};
use crate::registry::BuildCx;

use super::masks::picture_kept;

/// Light, contrast, saturation and hue of a picture, each changed by a factor drawn from a range, in an order that is
/// drawn too.
#[derive(Debug, Clone, PartialEq)]
pub struct ColorJitter {
    /// What light is multiplied by, from and to; not at all if not given.
    pub brightness: Option<[f64; 2]>,
    /// What contrast is multiplied by.
    pub contrast: Option<[f64; 2]>,
    /// What saturation is multiplied by.
    pub saturation: Option<[f64; 2]>,
    /// By which part of the circle the hue turns.
    pub hue: Option<[f64; 2]>,
    /// Whose arithmetic.
    pub backend: Backend,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct ColorJitterConfig {
    /// Light is multiplied by a number from 1 - brightness to 1 + brightness, or between two given ones.
    #[schemars(inner(range(min = 0.0)))]
    brightness: OneOrMany<f64>,
    /// The same of contrast.
    contrast: OneOrMany<f64>,
    /// The same of saturation.
    saturation: OneOrMany<f64>,
    /// The hue turns by a part of the circle from -hue to hue, 0.5 at most, or between two given ones.
    hue: OneOrMany<f64>,
    /// pillow or cv2: they round otherwise. With cv2 there is no `hue`.
    backend: Backend,
}

impl Default for ColorJitterConfig {
    fn default() -> Self {
        let none = || OneOrMany(vec![0.0]);
        Self {
            brightness: none(),
            contrast: none(),
            saturation: none(),
            hue: none(),
            backend: Backend::Pillow,
        }
    }
}

crate::register! {
    /// Light, contrast, saturation and hue of a picture, each changed by chance, in any order.
    ///
    /// ```yaml
    /// {type: ColorJitter, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1}
    /// ```
    dyn Transform, "ColorJitter" => fn ColorJitter::from_config
}

impl ColorJitter {
    fn from_config(p: ColorJitterConfig, _: &mut BuildCx) -> Result<Self> {
        let factor = |key: &str, given: &[f64]| range(key, given, 1.0, [0.0, f64::MAX]);
        let jitter = Self {
            brightness: factor("brightness", &p.brightness)?,
            contrast: factor("contrast", &p.contrast)?,
            saturation: factor("saturation", &p.saturation)?,
            hue: range("hue", &p.hue, 0.0, [-0.5, 0.5])?,
            backend: p.backend,
        };
        if jitter.hue.is_some() && p.backend == Backend::Cv2 {
            return Err(Error::config("`hue` turns as Pillow does it: leave `backend: cv2` out"));
        }
        Ok(jitter)
    }
}

/// From one number around `middle`, or from two; `None` where nothing would change.
fn range(key: &str, given: &[f64], middle: f64, [least, most]: [f64; 2]) -> Result<Option<[f64; 2]>> {
    let [low, high] = match *given {
        // A factor is cut off at 0.
        [one] if one >= 0.0 => {
            [(middle - one).max(if middle > 0.0 { least } else { f64::MIN }), middle + one]
        }
        [low, high] => [low, high],
        _ => [f64::NAN; 2],
    };
    if !(least <= low && low <= high && high <= most) {
        return Err(Error::config(format!(
            "`{key}` is one number, or two of which the smaller one is first, from {least} to {}, got {given:?}",
            if most == f64::MAX { "any".to_owned() } else { most.to_string() }
        )));
    }
    Ok(Some([low, high]).filter(|range| *range != [middle; 2]))
}

impl Transform for ColorJitter {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let order = permutation(4, rng);
        let ranges = [self.brightness, self.contrast, self.saturation, self.hue];
        let drawn = ranges.map(|range| range.map(|[low, high]| low + (high - low) * rng.random::<f64>()));
        let mut canvas = sample.picture()?.as_bytes()?;
        for which in order {
            match (which, drawn[which]) {
                (0, Some(factor)) => canvas.brighten(factor, self.backend),
                (1, Some(factor)) => canvas.contrast(factor, self.backend),
                (2, Some(factor)) => canvas.saturate(factor, self.backend),
                (3, Some(part)) => canvas.turn_hue(part),
                _ => {}
            }
        }
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_kept(fields)
    }
}

/// Adds one colour to a whole picture, drawn along the axes of the colours' covariance (Krizhevsky et al. 2012).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct Lighting {
    /// Eigenvalues of the covariance of the channels.
    pub eigval: Vec<f64>,
    /// Its eigenvectors, as the columns of three rows, one a channel.
    pub eigvec: Vec<Vec<f64>>,
    /// Standard deviation of what is drawn for each eigenvector.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0))]
    pub alphastd: f64,
    /// Whether BGR becomes RGB first.
    #[serde(default)]
    pub to_rgb: bool,
}

fn tenth() -> f64 {
    0.1
}

crate::register! {
    /// Adds one colour to a whole picture, drawn along the axes of the colours' covariance.
    ///
    /// ```yaml
    /// {type: Lighting, eigval: [55.46, 4.794, 1.148], eigvec: [[-0.58, -0.69, 0.42], [-0.58, -0.004, -0.81], [-0.57, 0.72, 0.4]]}
    /// ```
    dyn Transform, "Lighting" => fn Lighting::checked
}

impl Lighting {
    fn checked(p: Self, _: &mut BuildCx) -> Result<Self> {
        if p.eigvec.len() != 3 || p.eigvec.iter().any(|row| row.len() != p.eigval.len()) {
            return Err(Error::config(format!(
                "`eigvec` has three rows, one a channel, each of as many numbers as `eigval`, {}",
                p.eigval.len()
            )));
        }
        Ok(p)
    }
}

impl Transform for Lighting {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let alpha: Vec<f64> = self
            .eigval
            .iter()
            .map(|value| value * self.alphastd * rng.sample::<f64, _>(StandardNormal))
            .collect();
        let picture = sample.picture()?;
        let (_, _, channels) = picture.dim()?;
        if channels != 3 {
            return Err(Error::invalid(format!(
                "Lighting wants a picture of three channels, this one has {channels}"
            )));
        }
        picture.as_bytes()?;
        if let Some(bytes) = picture.bytes()?.filter(|_| self.to_rgb) {
            bytes.turn_channels();
        }
        picture.as_bytes()?.map(|channel, _| {
            let added: f64 =
                self.eigvec[channel].iter().zip(&alpha).map(|(vector, alpha)| vector * alpha).sum();
            table(|v| v + added as f32)
        });
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_kept(fields)
    }
}

/// Order of three channels, for MMCV's configs; the weights are in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum ColorFormat {
    /// Blue first.
    #[default]
    Bgr,
    /// Red first.
    Rgb,
}

/// Makes a picture grey, now and then.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomGrayscale {
    /// Probability that it is grey.
    pub prob: f64,
    /// Whether a grey picture keeps its number of channels, all equal; else it has one.
    pub keep_channels: bool,
    /// What each channel counts for.
    pub channel_weights: Vec<f64>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct RandomGrayscaleConfig {
    /// Probability that the picture becomes grey.
    #[schemars(range(min = 0.0, max = 1.0))]
    prob: f64,
    /// Whether a grey picture keeps its number of channels, all equal; else it has one.
    keep_channels: bool,
    /// What each channel counts for, in the order of the picture's; they are divided by their sum.
    #[schemars(inner(range(min = 0.0)))]
    channel_weights: Vec<f64>,
    /// bgr or rgb; accepted for MMCV's configs.
    color_format: ColorFormat,
}

impl Default for RandomGrayscaleConfig {
    fn default() -> Self {
        let color_format = ColorFormat::Bgr;
        Self { prob: 0.1, keep_channels: false, channel_weights: vec![1.0; 3], color_format }
    }
}

crate::register! {
    /// Makes a picture grey with probability `prob`.
    dyn Transform, "RandomGrayscale" => fn RandomGrayscale::from_config
}

impl RandomGrayscale {
    fn from_config(p: RandomGrayscaleConfig, _: &mut BuildCx) -> Result<Self> {
        if p.channel_weights.iter().sum::<f64>() <= 0.0 {
            return Err(Error::config("`channel_weights` are not all 0"));
        }
        let RandomGrayscaleConfig { prob, keep_channels, channel_weights, .. } = p;
        Ok(Self { prob, keep_channels, channel_weights })
    }
}

impl Transform for RandomGrayscale {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        let grey = rng.random::<f64>() < self.prob;
        let picture = sample.picture()?;
        let (_, _, channels) = picture.dim()?;
        if !grey || channels <= 1 {
            return Ok(());
        }
        if channels != self.channel_weights.len() {
            return Err(Error::invalid(format!(
                "`channel_weights` has {} numbers for a picture of {channels} channels",
                self.channel_weights.len()
            )));
        }
        let mut canvas = picture.as_bytes()?;
        let sum: f64 = self.channel_weights.iter().sum();
        let weights: Vec<(usize, f64)> =
            self.channel_weights.iter().enumerate().map(|(c, w)| (canvas.place(c), w / sum)).collect();
        let (height, width) = (canvas.height, canvas.width);
        let whole = crate::data::Window { y: 0, x: 0, height, width };
        canvas.fill(whole, |pixel| {
            let grey: f64 = weights.iter().map(|(at, weight)| weight * f64::from(pixel[*at])).sum();
            pixel.iter_mut().take(channels).for_each(|v| *v = grey as u8);
        });
        if !self.keep_channels {
            let one = canvas.pixels.iter().step_by(canvas.depth.max(1)).copied().collect();
            let one = ndarray::Array3::from_shape_vec((height, width, 1), one);
            *picture = Picture::Bytes(Bytes::new(one.map_err(|e| Error::invalid(e.to_string()))?));
        }
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_kept(fields)?;
        if let Some([_, _, channels]) = fields.find_mut(INPUTS)?.shape.as_deref_mut()
            && !self.keep_channels
            && self.prob > 0.0
            && *channels != Some(1)
        {
            *channels = if self.prob < 1.0 { None } else { Some(1) };
        }
        Ok(())
    }
}
