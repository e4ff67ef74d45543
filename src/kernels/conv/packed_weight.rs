//! The weight in the order in which the forward pass reads it.

use super::geometry::ConvGeom;
use super::thinned::thinned;
use super::{forward, grouped, pointwise, winograd};
use crate::base::Elem;
use crate::kernels::scratch::Aligned;

/// How the forward pass of a convolution reads its weight. The shape of the convolution decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightLayout {
    /// As it is.
    Plain,
    /// Transformed for Winograd's algorithm: four times as many elements.
    Winograd,
    /// As panels of output channels.
    Panels,
}

impl WeightLayout {
    /// That of `g`.
    pub fn of(g: &ConvGeom) -> Self {
        let g = &thinned(g).unwrap_or(*g);
        if winograd::Shape::forward(g).is_some() {
            return Self::Winograd;
        }
        let plain = g.is_linear() || pointwise::fits_forward(g) || grouped::fits(g) || forward::is_narrow(g);
        if plain { Self::Plain } else { Self::Panels }
    }

    /// Elements of a packed weight.
    pub(super) fn len(self, g: &ConvGeom) -> usize {
        match self {
            Self::Plain => 0,
            Self::Winograd => winograd::packed_len(g),
            Self::Panels => forward::packed_len(g),
        }
    }

    /// Writes the weight `w` of `g` to `packed`, where it is not read as it is.
    pub(super) fn pack(self, g: &ConvGeom, w: &[Elem], packed: &mut [Elem]) {
        match self {
            Self::Plain => {}
            Self::Winograd => winograd::pack(g, w, packed),
            Self::Panels => forward::pack(g, w, packed),
        }
    }
}

/// A weight in the order in which the forward pass reads it, for many passes over few pixels: there packing takes as
/// long as the products.
pub struct PackedWeight {
    layout: WeightLayout,
    values: Aligned,
}

impl PackedWeight {
    /// The weight `w` of `g`; nothing where it is read as it is.
    pub fn new(g: &ConvGeom, w: &[Elem]) -> Self {
        assert_eq!(w.len(), g.w_len(), "the weight does not fit {g:?}");
        let layout = WeightLayout::of(g);
        let mut values = Aligned::zeros(layout.len(g));
        layout.pack(g, w, &mut values);
        Self { layout, values }
    }

    /// What the forward pass of `g` reads; the weight `w` as it is where nothing is packed.
    pub(super) fn of<'a>(&'a self, g: &ConvGeom, w: &'a [Elem]) -> &'a [Elem] {
        let fits = self.layout == WeightLayout::of(g) && self.values.len() == self.layout.len(g);
        assert!(fits, "the packed weight is not one for {g:?}");
        if self.layout == WeightLayout::Plain { w } else { &self.values }
    }
}

impl std::fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedWeight({:?}, {} elements)", self.layout, self.values.len())
    }
}
