//! The keys of each transform in a config: its strength under a name of its own, or how the strength is drawn.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::data::transform::pair;
use crate::data::{Interpolation, Transform};
use crate::registry::BuildCx;

use super::{Along, Augment, Deviation, Magnitude, Op, Outside};

/// What the transforms that RandAugment and AutoAugment build take from them. Nothing, where they stand alone.
#[derive(Debug, Clone, Default)]
pub(super) struct FromPolicy {
    /// Level, deviation and highest level; they go before those of the transform.
    pub(super) level: Option<(f64, Deviation, f64)>,
    /// For transforms that have the key and do not give it.
    pub(super) pad_val: Option<Vec<f64>>,
    pub(super) interpolation: Option<Interpolation>,
}

impl FromPolicy {
    fn pad_val(&self, own: Option<&OneOrMany<f64>>) -> Vec<f64> {
        own.map(|own| own.to_vec()).or_else(|| self.pad_val.clone()).unwrap_or_else(|| vec![128.0])
    }

    /// What lies outside of a picture that moved, `usual` being the way between pixels that is not asked for.
    fn outside(
        &self,
        pad_val: Option<&OneOrMany<f64>>,
        interpolation: Option<Interpolation>,
        usual: Interpolation,
    ) -> Result<Outside> {
        let interpolation = interpolation.or(self.interpolation).unwrap_or(usual);
        if matches!(interpolation, Interpolation::Box | Interpolation::Hamming) {
            return Err(Error::config(
                "`interpolation` of a picture that is moved is nearest, bilinear, bicubic or lanczos",
            ));
        }
        Ok(Outside { pad_val: self.pad_val(pad_val), interpolation })
    }
}

/// A strength as it is written.
trait Strength {
    fn number(&self) -> f64;
}

impl Strength for f64 {
    fn number(&self) -> f64 {
        *self
    }
}

/// Height and width of a rectangle, which the op has itself.
impl Strength for OneOrMany<NonZeroUsize> {
    fn number(&self) -> f64 {
        0.0
    }
}

fn ten() -> f64 {
    10.0
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

fn thr() -> f64 {
    128.0
}

/// The transforms without a strength: a probability is all they have.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct PlainConfig {
    /// Probability that it is done.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    prob: f64,
}

impl PlainConfig {
    fn build(self, op: Op) -> Augment {
        Augment { prob: self.prob, ..Augment::new(op, 0.0) }
    }
    fn auto_contrast(p: Self, _: &mut BuildCx) -> Result<Augment> {
        Ok(p.build(Op::AutoContrast))
    }
    fn invert(p: Self, _: &mut BuildCx) -> Result<Augment> {
        Ok(p.build(Op::Invert))
    }
    fn equalize(p: Self, _: &mut BuildCx) -> Result<Augment> {
        Ok(p.build(Op::Equalize))
    }
}

crate::register! { /// Stretches each channel of a picture so that its darkest value is 0 and its lightest 255.
dyn Transform, "AutoContrast" => fn PlainConfig::auto_contrast }
crate::register! { /// Turns light into dark: 255 - x.
dyn Transform, "Invert" => fn PlainConfig::invert }
crate::register! { /// Spreads the values of each channel of a picture so that all are about equally often.
dyn Transform, "Equalize" => fn PlainConfig::equalize }

/// Declares the keys of a transform with a strength, and registers it: the key of the strength with what it means, the
/// keys of its own, whether the strength is negative half of the time, and the op.
macro_rules! leveled {
    (
        $(#[doc = $doc:expr])+ $name:literal, $config:ident,
        $key:ident: $strength:ty = $means:literal [$($range:tt)*],
        { $($(#[$meta:meta])* $field:ident: $ty:ty,)* }
        $(signed $negative:ident)?
        => $op:expr
    ) => {
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        struct $config {
            #[doc = $means]
            /// Either this or `magnitude_range`.
            #[serde(default)]
            #[schemars($($range)*)]
            $key: Option<$strength>,
            $($(#[$meta])* $field: $ty,)*
            /// The strengths of level 0 and of `total_level`: the strength is drawn by `magnitude_level`.
            #[serde(default)]
            magnitude_range: Option<[f64; 2]>,
            /// The level; RandAugment has its own.
            #[serde(default = "ten")]
            #[schemars(range(min = 0.0))]
            magnitude_level: f64,
            /// Standard deviation of the level, or `inf`: any level up to `magnitude_level`.
            #[serde(default)]
            magnitude_std: Deviation,
            /// The highest level.
            #[serde(default = "ten")]
            #[schemars(extend("exclusiveMinimum" = 0.0))]
            total_level: f64,
            /// Accepted for older configs of MMPretrain: the name of the strength's key.
            #[serde(default)]
            magnitude_key: Option<String>,
            /// Probability that it is done.
            #[serde(default = "half")]
            #[schemars(range(min = 0.0, max = 1.0))]
            prob: f64,
            $(
                /// Probability that the strength is negative.
                #[serde(default = "half")]
                #[schemars(range(min = 0.0, max = 1.0))]
                $negative: f64,
            )?
        }

        impl $config {
            fn build(p: Self, cx: &mut BuildCx) -> Result<Augment> {
                let key = stringify!($key);
                let policy = cx.get::<FromPolicy>().cloned().unwrap_or_default();
                if let Some(other) = p.magnitude_key.as_ref().filter(|given| *given != key) {
                    return Err(Error::config(format!("`magnitude_key: {other}`: the strength is `{key}` here")));
                }
                let magnitude = match (&p.$key, p.magnitude_range) {
                    (Some(given), None) => Magnitude::Fixed(Strength::number(given)),
                    (None, Some(range)) => {
                        let own = (p.magnitude_level, p.magnitude_std, p.total_level);
                        let (level, deviation, total) = policy.level.unwrap_or(own);
                        Magnitude::Drawn { range, level, deviation, total }
                    }
                    _ => return Err(Error::config(format!("give either `{key}` or `magnitude_range`"))),
                };
                let op: fn(&Self, &FromPolicy) -> Result<Op> = $op;
                let negative = 0.0 $(+ p.$negative)?;
                Ok(Augment { op: op(&p, &policy)?, magnitude, prob: p.prob, negative })
            }
        }

        crate::register! { $(#[doc = $doc])+ dyn Transform, $name => fn $config::build }
    };
}

leveled! {
    /// Turns light into dark from a threshold on.
    ///
    /// ```yaml
    /// {type: Solarize, thr: 128}
    /// ```
    "Solarize", SolarizeConfig,
    thr: f64 = "Values from here on become 255 - x." [range(min = 0.0, max = 256.0)],
    {}
    => |_, _| Ok(Op::Solarize)
}

leveled! {
    /// Makes dark values lighter.
    ///
    /// ```yaml
    /// {type: SolarizeAdd, magnitude: 50}
    /// ```
    "SolarizeAdd", SolarizeAddConfig,
    magnitude: f64 = "What is added to values below `thr`." [range(min = -255.0, max = 255.0)],
    {
        /// Values from here on stay.
        #[serde(default = "thr")]
        #[schemars(range(min = 0.0, max = 256.0))]
        thr: f64,
    }
    => |p, _| Ok(Op::SolarizeAdd { below: p.thr })
}

leveled! {
    /// Keeps the first bits of each value.
    ///
    /// ```yaml
    /// {type: Posterize, bits: 4}
    /// ```
    "Posterize", PosterizeConfig,
    bits: f64 = "How many bits stay; parts of one count for one." [range(min = 0.0, max = 8.0)],
    {}
    => |_, _| Ok(Op::Posterize)
}

leveled! {
    /// More contrast, or less: 1 + magnitude times the difference to the mean lightness.
    ///
    /// ```yaml
    /// {type: Contrast, magnitude: 0.4}
    /// ```
    "Contrast", ContrastConfig,
    magnitude: f64 = "How much is added to the contrast, of 1." [range(min = -1e4, max = 1e4)],
    {}
    signed random_negative_prob
    => |_, _| Ok(Op::Contrast)
}

leveled! {
    /// More colour, or less: 1 + magnitude times the difference to the lightness.
    ///
    /// ```yaml
    /// {type: ColorTransform, magnitude: 0.4}
    /// ```
    "ColorTransform", ColorTransformConfig,
    magnitude: f64 = "How much is added to the colour, of 1." [range(min = -1e4, max = 1e4)],
    {}
    signed random_negative_prob
    => |_, _| Ok(Op::ColorTransform)
}

leveled! {
    /// Lighter, or darker: 1 + magnitude times the values.
    ///
    /// ```yaml
    /// {type: Brightness, magnitude: 0.4}
    /// ```
    "Brightness", BrightnessConfig,
    magnitude: f64 = "How much is added to the light, of 1." [range(min = -1e4, max = 1e4)],
    {}
    signed random_negative_prob
    => |_, _| Ok(Op::Brightness)
}

leveled! {
    /// Sharper, or smoother: 1 + magnitude times the difference to the mean of 3 × 3 pixels.
    ///
    /// ```yaml
    /// {type: Sharpness, magnitude: 0.4}
    /// ```
    "Sharpness", SharpnessConfig,
    magnitude: f64 = "How much is added to the sharpness, of 1." [range(min = -1e4, max = 1e4)],
    {}
    signed random_negative_prob
    => |_, _| Ok(Op::Sharpness)
}

leveled! {
    /// Blurs a picture, as Pillow does.
    ///
    /// ```yaml
    /// {type: GaussianBlur, magnitude_range: [0.1, 2.0], magnitude_std: inf}
    /// ```
    "GaussianBlur", GaussianBlurConfig,
    radius: f64 = "Standard deviation of the Gaussian, in pixels." [range(min = 0.0, max = 1e4)],
    {}
    => |_, _| Ok(Op::GaussianBlur)
}

leveled! {
    /// Fills a rectangle at a random place; where it leaves the picture it is cut off.
    ///
    /// ```yaml
    /// {type: Cutout, shape: 8, pad_val: 0}
    /// ```
    "Cutout", CutoutConfig,
    shape: OneOrMany<NonZeroUsize> = "Height and width in pixels: `[8, 12]`, or `8` for both." [],
    {
        /// Its colour: one number, or one for each channel; that of RandAugment's `hparams`, else 128.
        #[serde(default)]
        pad_val: Option<OneOrMany<f64>>,
    }
    => |p, policy| {
        let sides = p.shape.as_ref().map(|shape| pair("shape", shape)).transpose()?;
        Ok(Op::Cutout {
            shape: sides.map(|(height, width)| [height, width]),
            pad_val: policy.pad_val(p.pad_val.as_ref()),
        })
    }
}

leveled! {
    /// Leans a picture to a side.
    ///
    /// ```yaml
    /// {type: Shear, magnitude: 0.3, direction: vertical}
    /// ```
    "Shear", ShearConfig,
    magnitude: f64 = "By how much of its row a column moves, or by how much of its column a row." [range(min = -1e4, max = 1e4)],
    {
        /// horizontal (columns move) or vertical (rows do).
        #[serde(default)]
        direction: Along,
        /// Colour of what becomes visible: one number, or one for each channel; that of RandAugment's `hparams`, else 128.
        #[serde(default)]
        pad_val: Option<OneOrMany<f64>>,
        /// nearest, bilinear, bicubic or lanczos, as OpenCV has them; that of RandAugment's `hparams`, else bicubic.
        #[serde(default)]
        interpolation: Option<Interpolation>,
    }
    signed random_negative_prob
    => |p, policy| {
        let outside = policy.outside(p.pad_val.as_ref(), p.interpolation, Interpolation::Bicubic)?;
        Ok(Op::Shear { along: p.direction, outside })
    }
}

leveled! {
    /// Moves a picture by a part of its side.
    ///
    /// ```yaml
    /// {type: Translate, magnitude: 0.3, direction: vertical}
    /// ```
    "Translate", TranslateConfig,
    magnitude: f64 = "By how much of its width it moves to the right, or of its height down." [range(min = -1e4, max = 1e4)],
    {
        /// horizontal or vertical.
        #[serde(default)]
        direction: Along,
        /// Colour of what becomes visible: one number, or one for each channel; that of RandAugment's `hparams`, else 128.
        #[serde(default)]
        pad_val: Option<OneOrMany<f64>>,
        /// nearest, bilinear, bicubic or lanczos, as OpenCV has them; that of RandAugment's `hparams`, else nearest.
        #[serde(default)]
        interpolation: Option<Interpolation>,
    }
    signed random_negative_prob
    => |p, policy| {
        let outside = policy.outside(p.pad_val.as_ref(), p.interpolation, Interpolation::Nearest)?;
        Ok(Op::Translate { along: p.direction, outside })
    }
}

leveled! {
    /// Turns a picture.
    ///
    /// ```yaml
    /// {type: Rotate, angle: 30}
    /// ```
    "Rotate", RotateConfig,
    angle: f64 = "By how many degrees, clockwise." [range(min = -1e4, max = 1e4)],
    {
        /// The point around which it turns, x and y in pixels; the middle if absent.
        #[serde(default)]
        center: Option<[f64; 2]>,
        /// What lengths are multiplied by.
        #[serde(default = "one")]
        #[schemars(range(min = 1e-4, max = 1e4))]
        scale: f64,
        /// Colour of what becomes visible: one number, or one for each channel; that of RandAugment's `hparams`, else 128.
        #[serde(default)]
        pad_val: Option<OneOrMany<f64>>,
        /// nearest, bilinear, bicubic or lanczos, as OpenCV has them; that of RandAugment's `hparams`, else nearest.
        #[serde(default)]
        interpolation: Option<Interpolation>,
    }
    signed random_negative_prob
    => |p, policy| {
        let outside = policy.outside(p.pad_val.as_ref(), p.interpolation, Interpolation::Nearest)?;
        Ok(Op::Rotate { center: p.center, scale: p.scale, outside })
    }
}
