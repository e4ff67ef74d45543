//! One side gets a length, the other follows.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::data::picture::Cut;
use crate::data::{Backend, FieldSpec, Fields, Filter, Interpolation, Sample, Transform, Window};
use crate::registry::BuildCx;

use super::masks::{no_masks, picture_alone};

/// Which side of an image is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// The shorter one.
    #[default]
    Short,
    /// The longer one.
    Long,
    /// The width.
    Width,
    /// The height.
    Height,
}

/// Resizes so that one side has `scale` pixels; the other keeps its ratio to it, rounded down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeEdge {
    /// Length of the side in pixels.
    pub scale: usize,
    /// Which side.
    pub edge: Edge,
    /// How values between pixels are found.
    pub filter: Filter,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ResizeEdgeConfig {
    /// Length of the side in pixels.
    #[schemars(range(min = 1))]
    scale: usize,
    /// short, long, width or height.
    #[serde(default)]
    edge: Edge,
    /// Whose way of resizing is meant: cv2 (no smoothing when an image shrinks) or pillow (smoothing).
    #[serde(default)]
    backend: Backend,
    /// nearest, bilinear, bicubic or lanczos; area of cv2; box and hamming of pillow.
    #[serde(default)]
    interpolation: Interpolation,
}

crate::register! {
    /// Another size, one side being `scale` pixels long and the other in its ratio.
    dyn Transform, "ResizeEdge" => fn ResizeEdge::from_config
}

impl ResizeEdge {
    fn from_config(p: ResizeEdgeConfig, _: &mut BuildCx) -> Result<Self> {
        let filter = Filter::new(p.backend, p.interpolation)?;
        Ok(Self { scale: p.scale, edge: p.edge, filter })
    }
}

impl ResizeEdge {
    /// Height and width for an image of `h` × `w`.
    fn target(&self, h: usize, w: usize) -> (usize, usize) {
        let by_width = match self.edge {
            Edge::Short => w < h,
            Edge::Long => w > h,
            Edge::Width => true,
            Edge::Height => false,
        };
        let other = |side: usize, of: usize| (self.scale.saturating_mul(side) / of).max(1);
        if by_width { (other(h, w), self.scale) } else { (self.scale, other(w, h)) }
    }
}

impl Transform for ResizeEdge {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        no_masks(sample)?;
        sample.picture()?.rescale(self.filter, |h, w| {
            if h == 0 || w == 0 {
                return Err(Error::invalid(format!("an image of {h} × {w} pixels cannot be resized")));
            }
            let (height, width) = self.target(h, w);
            Ok(Cut { window: Window { y: 0, x: 0, height: h, width: w }, height, width })
        })
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_alone(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_side_is_rounded_down() {
        let target = |edge, h, w| ResizeEdge { scale: 256, edge, filter: Filter::CV2 }.target(h, w);
        // MMPretrain: int(256 * 500 / 375) = 341
        assert_eq!(target(Edge::Short, 375, 500), (256, 341));
        assert_eq!(target(Edge::Short, 500, 375), (341, 256));
        assert_eq!(target(Edge::Long, 375, 500), (192, 256));
        assert_eq!(target(Edge::Width, 375, 500), (192, 256));
        assert_eq!(target(Edge::Height, 375, 500), (256, 341));
        assert_eq!(target(Edge::Short, 7, 7), (256, 256));
        assert_eq!(target(Edge::Long, 1, 1000), (1, 256));
    }
}
