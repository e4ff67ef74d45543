//! The weight in the order in which the forward pass reads it.

use super::geometry::ConvGeom;
use super::thinned::thinned_input;
use super::{forward, grouped, pointwise};
use crate::base::Elem;

/// How the forward pass of a convolution reads its weight. The shape of the convolution decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WeightLayout {
    /// As it is.
    Plain,
    /// As panels of output channels.
    Panels,
}

impl WeightLayout {
    /// That of `g`.
    pub fn of(g: &ConvGeom) -> Self {
        let g = &thinned_input(g).unwrap_or(*g);
        let plain = g.is_linear() || pointwise::fits_forward(g) || grouped::fits(g) || forward::is_narrow(g);
        if plain { Self::Plain } else { Self::Panels }
    }

    /// Elements of a packed weight.
    pub(super) fn len(self, g: &ConvGeom) -> usize {
        match self {
            Self::Plain => 0,
            Self::Panels => forward::packed_len(g),
        }
    }

    /// Writes the weight `w` of `g` to `packed`, where it is not read as it is.
    pub(super) fn pack(self, g: &ConvGeom, w: &[Elem], packed: &mut [Elem]) {
        match self {
            Self::Plain => {}
            Self::Panels => forward::pack(g, w, packed),
        }
    }
}
