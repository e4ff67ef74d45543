//! Images made larger or smaller.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::base::{Elem, Error, Result, memory};
use crate::config::OneOrMany;
use crate::kernels::{UpsampleGeom, UpsampleMode, upsample, upsample_backward};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::images;
use crate::nn::{Forward, Module, Var};
use crate::registry::BuildCx;
use crate::{module, register};

use super::Pair;
use super::pair::optional_positive;

/// How a pixel follows from those of the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpsampleKind {
    /// The nearest pixel.
    #[default]
    Nearest,
    /// The mean of four, weighted by distance.
    Bilinear,
}

/// The keys of an [`Upsample`] in YAML.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UpsampleConfig {
    /// Height and width of the output; either this or `scale_factor`.
    #[schemars(schema_with = "optional_positive")]
    pub size: Option<Pair>,
    /// Output by input, one factor or (vertical, horizontal); either this or `size`.
    #[schemars(schema_with = "factors")]
    pub scale_factor: Option<OneOrMany<f64>>,
    /// How a pixel follows from those of the input.
    pub mode: UpsampleKind,
    /// Whether the centres of the corner pixels stay where they are; for `bilinear` alone.
    pub align_corners: Option<bool>,
}

/// The schema of one factor or two, or none.
fn factors(_: &mut SchemaGenerator) -> Schema {
    let one = json_schema!({ "type": "number", "exclusiveMinimum": 0.0 });
    let (many, none) = (json_schema!({ "type": "array", "items": one }), json_schema!({ "type": "null" }));
    json_schema!({ "anyOf": [one, many, none], "examples": [2.0] })
}

impl UpsampleConfig {
    /// The layer.
    ///
    /// # Errors
    /// When both or neither of size and factor are given, a factor is not positive, or corners are aligned without a
    /// mean.
    pub fn build(&self) -> Result<Upsample> {
        let mode = match (self.mode, self.align_corners) {
            (UpsampleKind::Nearest, None) => UpsampleMode::Nearest,
            (UpsampleKind::Nearest, Some(_)) => {
                return Err(Error::config("`align_corners` is for `mode: bilinear` alone; leave it out"));
            }
            (UpsampleKind::Bilinear, align) => {
                UpsampleMode::Bilinear { align_corners: align.unwrap_or(false) }
            }
        };
        let to = match (self.size, self.scale_factor.as_ref().map(|s| s.0.as_slice())) {
            (Some(Pair(size)), None) if !size.contains(&0) => UpsampleTo::Size(size),
            (Some(Pair(size)), None) => {
                return Err(Error::config(format!("`size` must be at least 1, got {size:?}")));
            }
            (None, Some([both])) => UpsampleTo::Scale([*both; 2]),
            (None, Some(&[vertical, horizontal])) => UpsampleTo::Scale([vertical, horizontal]),
            (None, Some(many)) => {
                return Err(Error::config(format!(
                    "`scale_factor` is one number or two (vertical, horizontal), found {}",
                    many.len()
                )));
            }
            (Some(_), Some(_)) => {
                return Err(Error::config("`size` and `scale_factor` are both given; keep one"));
            }
            (None, None) => return Err(Error::config("`size` or `scale_factor` is missing")),
        };
        if let UpsampleTo::Scale(scale) = to
            && !scale.iter().all(|s| s.is_finite() && *s > 0.0)
        {
            return Err(Error::config(format!("`scale_factor` must be positive, got {scale:?}")));
        }
        Ok(Upsample { to, mode })
    }
}

/// The size of what [`Var::upsample`] gives; each pair is vertical, horizontal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UpsampleTo {
    /// Height and width.
    Size([usize; 2]),
    /// Factors of height and width; the size is rounded down.
    Scale([f64; 2]),
}

/// Images [N, C, H, W] resized to [N, C, H', W'], by the nearest pixel or by bilinear means, as PyTorch's `Upsample` and
/// `interpolate`.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Forward, Module, Tape, Upsample};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 1, 1, 2], vec![0.0, 4.0]).unwrap());
/// let rng = &mut keyed(0, "example", 0, 0);
/// let cx = &mut Forward::new(true, rng);
/// let mut up = |mut layer: Upsample| Ok::<_, shanty::base::Error>(layer.forward(x, cx)?.value());
/// assert_eq!(up(Upsample::size([1, 4]))?.as_slice().unwrap(), [0.0, 0.0, 4.0, 4.0]);
/// assert_eq!(up(Upsample::size([1, 4]).bilinear(false))?.as_slice().unwrap(), [0.0, 1.0, 3.0, 4.0]);
/// assert_eq!(up(Upsample::size([1, 5]).bilinear(true))?.as_slice().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Upsample {
    to: UpsampleTo,
    mode: UpsampleMode,
}

module!(Upsample {});

impl Upsample {
    /// To this height and width, by the nearest pixel.
    pub fn size(size: impl Into<Pair>) -> Self {
        Self { to: UpsampleTo::Size(size.into().0), mode: UpsampleMode::Nearest }
    }

    /// By this factor along both axes, by the nearest pixel.
    pub fn scale(factor: f64) -> Self {
        Self { to: UpsampleTo::Scale([factor; 2]), mode: UpsampleMode::Nearest }
    }

    /// By means of four pixels; whether the centres of the corner pixels stay where they are.
    #[must_use]
    pub fn bilinear(mut self, align_corners: bool) -> Self {
        self.mode = UpsampleMode::Bilinear { align_corners };
        self
    }
}

impl Module for Upsample {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.upsample(self.to, self.mode).checked()
    }
}

register! { /// Images resized, by the nearest pixel or by bilinear means.
dyn Module, "Upsample" => fn Upsample::from_config }

impl Upsample {
    fn from_config(p: UpsampleConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}

impl<'t> Var<'t> {
    /// The images `x` [N, C, H, W] in another size.
    pub fn upsample(self, to: UpsampleTo, mode: UpsampleMode) -> Self {
        self.attempt(|| self.try_upsample(to, mode))
    }

    fn try_upsample(self, to: UpsampleTo, mode: UpsampleMode) -> Result<Self> {
        let x = self.value();
        let [n, c, h, w] = images(x.shape(), "Upsample")?;
        let (out, scale) = match to {
            UpsampleTo::Size(size) => (size, None),
            UpsampleTo::Scale(scale) => {
                let times = |size: usize, factor: f64| (size as f64 * factor).floor() as usize;
                ([times(h, scale[0]), times(w, scale[1])], Some(scale))
            }
        };
        memory::fits("the output of Upsample", &[n.max(1), c.max(1), out[0], out[1]], size_of::<Elem>())?;
        let g = UpsampleGeom::new([n, c, h, w], out, mode, scale)?;
        let mut y = self.tape.take(g.y_len());
        upsample(&g, slice(&x), &mut y);
        let y = tensor(&[n, c, out[0], out[1]], y);
        Ok(self.tape.node("upsample", y, &[self], move |dy, grads| {
            let mut dx = grads.pool.take(g.x_len());
            upsample_backward(&g, &dy, &mut dx);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }
}
