//! Two-dimensional convolution: the geometry, and the three products of training.

use super::{Act, Elem, channel_sums, conv_product, conv_weight};
use crate::base::{Error, Result};

/// The shape of a convolution: `x` is [n, c, h, w], `w` is [k, c / groups, kernel], `y` is [n, k, out].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvGeom {
    /// Images.
    pub n: usize,
    /// Input channels.
    pub c: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Output channels.
    pub k: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Stride, vertical and horizontal.
    pub stride: [usize; 2],
    /// Zeros added on each side, vertical and horizontal.
    pub padding: [usize; 2],
    /// Distance of two taps, vertical and horizontal.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Output height and width.
    pub out: [usize; 2],
}

/// The output size of one axis of a sliding window, rounded down; `None` if the window does not fit.
pub(super) fn out_size(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Option<usize> {
    let span = dilation * (kernel - 1) + 1;
    (size + 2 * padding).checked_sub(span).map(|rest| rest / stride + 1)
}

impl ConvGeom {
    /// The geometry for an input of shape [n, c, h, w] and `k` output channels.
    ///
    /// # Errors
    /// If a kernel size, stride, dilation or the number of groups is 0, the channels are no multiple of the groups, or
    /// the kernel is larger than the padded input.
    pub fn new(
        input: [usize; 4],
        k: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    ) -> Result<Self> {
        let [n, c, h, w] = input;
        for (name, v) in [("kernel size", kernel), ("stride", stride), ("dilation", dilation)] {
            if v.contains(&0) {
                return Err(Error::invalid(format!(
                    "the {name} of a convolution is {v:?}; it must be at least 1"
                )));
            }
        }
        if groups == 0 || !c.is_multiple_of(groups) || !k.is_multiple_of(groups) {
            return Err(Error::invalid(format!(
                "a convolution from {c} to {k} channels cannot have {groups} groups; both must be multiples of it"
            )));
        }
        let axis = |i: usize, size| {
            out_size(size, kernel[i], stride[i], padding[i], dilation[i]).ok_or_else(|| {
                Error::invalid(format!(
                    "a convolution with kernel {kernel:?}, dilation {dilation:?} and padding {padding:?} does not fit \
                     an input of {h} x {w}; pad more or use a smaller kernel"
                ))
            })
        };
        let out = [axis(0, h)?, axis(1, w)?];
        Ok(Self { n, c, h, w, k, kernel, stride, padding, dilation, groups, out })
    }

    /// Elements of the input.
    pub fn x_len(&self) -> usize {
        self.n * self.c * self.h * self.w
    }

    /// Elements of the weight.
    pub fn w_len(&self) -> usize {
        self.k * (self.c / self.groups) * self.kernel[0] * self.kernel[1]
    }

    /// Elements of the output.
    pub fn y_len(&self) -> usize {
        self.n * self.k * self.out[0] * self.out[1]
    }

    /// Multiplications and additions of one pass.
    pub fn flops(&self) -> usize {
        2 * self.y_len() * (self.c / self.groups) * self.kernel[0] * self.kernel[1]
    }
}

/// `y = act(conv(x, w) + bias)`.
pub fn conv2d(g: &ConvGeom, x: &[Elem], w: &[Elem], bias: Option<&[Elem]>, act: Act, y: &mut [Elem]) {
    assert!(x.len() == g.x_len() && w.len() == g.w_len() && y.len() == g.y_len(), "slices do not fit {g:?}");
    assert!(bias.is_none_or(|b| b.len() == g.k), "bias does not fit {g:?}");
    conv_product::forward(g, x, w, bias, act, y);
}

/// `dx`: the gradient of the input; overwritten.
pub fn conv2d_backward_data(g: &ConvGeom, dy: &[Elem], w: &[Elem], dx: &mut [Elem]) {
    assert!(
        dx.len() == g.x_len() && w.len() == g.w_len() && dy.len() == g.y_len(),
        "slices do not fit {g:?}"
    );
    conv_product::backward_data(g, dy, w, dx);
}

/// `dw = beta * dw + gradient`, and the same for the bias where there is one.
pub fn conv2d_backward_weight(
    g: &ConvGeom,
    x: &[Elem],
    dy: &[Elem],
    beta: Elem,
    dw: &mut [Elem],
    db: Option<&mut [Elem]>,
) {
    assert!(
        x.len() == g.x_len() && dw.len() == g.w_len() && dy.len() == g.y_len(),
        "slices do not fit {g:?}"
    );
    conv_weight::backward_weight(g, x, dy, beta, dw);
    if let Some(db) = db {
        channel_sums(g.n, g.k, g.out[0] * g.out[1], dy, beta, db);
    }
}
