//! When Winograd's algorithm pays, and the shape of a convolution as it sees it.

use super::transforms::{OUT, POINTS, apart};
use crate::kernels::conv::geometry::ConvGeom;
use crate::kernels::gemm::microkernel::{LANES, NR};

/// The fewest tiles that are worth transforming the kernels for.
const MIN_TILES: usize = 16;
/// The least share, in tenths, of the outputs of all tiles that must lie inside the map.
const MIN_TENTHS_INSIDE: usize = 6;

/// One convolution: `c` channels of h x w in, `k` channels of out_h x out_w out. The first window begins `top` rows and
/// `left` columns before the input.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels::conv) struct Shape {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub k: usize,
    pub out_h: usize,
    pub out_w: usize,
    pub top: usize,
    pub left: usize,
}

impl Shape {
    /// The forward pass of `g`, if it is one that the algorithm does faster.
    pub fn forward(g: &ConvGeom) -> Option<Self> {
        let ([top, left], [out_h, out_w]) = (g.padding, g.out);
        let s = Self { n: g.n, c: g.c, h: g.h, w: g.w, k: g.k, out_h, out_w, top, left };
        (is_supported(g) && s.pays()).then_some(s)
    }

    /// The gradient of the input of `g`: a convolution in which the channels have exchanged their roles.
    pub fn backward(g: &ConvGeom) -> Option<Self> {
        let ([h, w], [top, left]) = (g.out, g.padding.map(|p| 2usize.saturating_sub(p)));
        let s = Self { n: g.n, c: g.k, h, w, k: g.c, out_h: g.h, out_w: g.w, top, left };
        (is_supported(g) && s.pays()).then_some(s)
    }

    /// Whether there are whole vectors of channels, enough tiles, and not too many of their outputs outside of the map.
    fn pays(&self) -> bool {
        let tiles = self.tile_rows() * self.tile_cols();
        self.k > 0
            && self.c.is_multiple_of(LANES)
            && self.k.is_multiple_of(LANES)
            && self.n * tiles >= MIN_TILES
            && 10 * self.out_h * self.out_w >= MIN_TENTHS_INSIDE * tiles * OUT * OUT
    }

    /// Rows of tiles in one image.
    pub fn tile_rows(&self) -> usize {
        self.out_h.div_ceil(OUT)
    }

    /// Tiles in one row.
    pub fn tile_cols(&self) -> usize {
        self.out_w.div_ceil(OUT)
    }

    /// Panels of output channels.
    pub fn panels(&self) -> usize {
        self.k.div_ceil(NR)
    }

    /// Output channels of panel `p`.
    pub fn width(&self, p: usize) -> usize {
        NR.min(self.k - p * NR)
    }

    /// Elements of panel `p` of the kernels in the transformed domain: [point, c, lane], the points [`apart`].
    pub fn panel_len(&self, p: usize) -> usize {
        POINTS * apart(self.c * self.width(p))
    }

    /// Elements of all panels. All but the last one are as large as the first.
    pub fn kernels_len(&self) -> usize {
        let last = self.panels() - 1;
        last * self.panel_len(0) + self.panel_len(last)
    }
}

/// Whether this is the kind of convolution that the algorithm is for.
fn is_supported(g: &ConvGeom) -> bool {
    g.kernel == [3, 3]
        && g.stride == [1, 1]
        && g.dilation == [1, 1]
        && g.groups == 1
        && g.padding[0] <= 2
        && g.padding[1] <= 2
}
