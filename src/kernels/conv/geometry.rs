//! The shape of a convolution.

use crate::base::{Error, Result};
use crate::kernels::window::{TOO_SMALL, Window};

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

impl ConvGeom {
    /// The geometry for an input of shape [n, c, h, w] and `k` output channels.
    ///
    /// # Errors
    /// If a kernel size, stride, dilation or the number of groups is 0, the channels are no multiple of the groups, or
    /// the kernel is larger than the padded input.
    pub fn new(input: [usize; 4], k: usize, window: Window, groups: usize) -> Result<Self> {
        let [n, c, h, w] = input;
        if let Some((name, v)) = window.zero() {
            return Err(Error::invalid(format!(
                "the {name} of a convolution is {v:?}; it must be at least 1"
            )));
        }
        if groups == 0 || !c.is_multiple_of(groups) || !k.is_multiple_of(groups) {
            return Err(Error::invalid(format!(
                "a convolution from {c} to {k} channels cannot have {groups} groups; both must be multiples of it"
            )));
        }
        let Window { kernel, stride, padding, dilation } = window;
        let positions = |axis, size| {
            window.positions(axis, size).ok_or_else(|| {
                Error::invalid(format!(
                    "a convolution with kernel {kernel:?}, dilation {dilation:?} and padding {padding:?} does not fit \
                     an input of {h} x {w}: {TOO_SMALL}"
                ))
            })
        };
        let out = [positions(0, h)?, positions(1, w)?];
        Ok(Self { n, c, h, w, k, kernel, stride, padding, dilation, groups, out })
    }

    /// The geometry of the convolution that a transposed one turns round: from its output, of shape [n, c, size], to its
    /// input, which has `out` positions.
    ///
    /// # Errors
    /// As [`ConvGeom::new`], and if the output has fewer positions.
    pub fn transposed(
        input: [usize; 4],
        k: usize,
        window: Window,
        groups: usize,
        out: [usize; 2],
    ) -> Result<Self> {
        let g = Self::new(input, k, window, groups)?;
        if g.out[0] < out[0] || g.out[1] < out[1] {
            let [_, _, h, w] = input;
            return Err(Error::invalid(format!(
                "a transposed convolution does not reach {h} x {w} from {out:?}"
            )));
        }
        // Padding of the output that is as large as the stride adds positions that the input does not have.
        Ok(Self { out, ..g })
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

    /// Whether the kernel covers the whole input: then a convolution is a linear layer.
    pub(in crate::kernels) fn is_linear(&self) -> bool {
        self.groups == 1
            && self.out == [1, 1]
            && self.padding == [0, 0]
            && self.kernel == [self.h, self.w]
            && self.dilation == [1, 1]
    }
}
