//! Two-dimensional convolution, one node with its bias.

use crate::base::{Elem, Error, Result, memory};
use crate::kernels::{
    Act, ConvGeom, Window, channel_sums, conv2d, conv2d_backward_data, conv2d_backward_weight,
};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::{expect_shape, images};

/// How a window moves over an image; each pair is vertical, horizontal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Step of the window.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
    /// Distance of two taps of the kernel.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

impl<'t> Var<'t> {
    /// The convolution (cross-correlation, as PyTorch's) of `x` [N, C, H, W] with `weight` [K, C / groups, kH, kW] and
    /// `bias` [K].
    pub fn conv2d(self, weight: Self, bias: Option<Self>, options: ConvOptions) -> Self {
        self.attempt(|| self.try_conv2d(weight, bias, options))
    }

    fn try_conv2d(self, weight: Self, bias: Option<Self>, options: ConvOptions) -> Result<Self> {
        let (x, w, b) = (self.value(), weight.value(), bias.map(Var::value));
        let input = images(&x, "a convolution")?;
        let &[k, per_group, kh, kw] = w.shape() else {
            return Err(Error::invalid(format!(
                "the weight of a convolution has four axes, not shape {:?}",
                w.shape()
            )));
        };
        let ConvOptions { stride, padding, dilation, groups } = options;
        if input[1] != per_group * groups {
            return Err(Error::invalid(format!(
                "a convolution of {} channels got an input of shape {input:?}: its second axis counts the channels",
                per_group * groups
            )));
        }
        let g = ConvGeom::new(input, k, Window { kernel: [kh, kw], stride, padding, dilation }, groups)?;
        if let Some(b) = &b {
            expect_shape("the bias of a convolution", b.shape(), &[k])?;
        }
        let framed = [0, 1].map(|axis| input[axis + 2].saturating_add(padding[axis].saturating_mul(2)));
        memory::fits(
            "the padded input of a convolution",
            &[g.n, input[1], framed[0], framed[1]],
            size_of::<Elem>(),
        )?;
        memory::fits("the output of a convolution", &[g.n, g.k, g.out[0], g.out[1]], size_of::<Elem>())?;
        let mut y = self.tape.take(g.y_len());
        conv2d(&g, slice(&x), slice(&w), b.as_ref().map(slice), Act::Identity, &mut y);
        let inputs: &[Var<'t>] = match bias {
            Some(bias) => &[self, weight, bias],
            None => &[self, weight],
        };
        Ok(self.tape.node("conv2d", tensor(&[g.n, g.k, g.out[0], g.out[1]], y), inputs, move |dy, grads| {
            if grads.wants(0) {
                let mut dx = grads.pool.take(g.x_len());
                conv2d_backward_data(&g, &dy, slice(&w), &mut dx);
                grads.add(0, dx);
            }
            let mut db = (b.is_some() && grads.wants(2)).then(|| grads.pool.take(g.k));
            if grads.wants(1) {
                let mut dw = grads.pool.take(g.w_len());
                conv2d_backward_weight(&g, slice(&x), &dy, 0.0, &mut dw, db.as_deref_mut());
                grads.add(1, dw);
            } else if let Some(db) = &mut db {
                channel_sums(g.n, g.k, g.out[0] * g.out[1], &dy, 0.0, db);
            }
            if let Some(db) = db {
                grads.add(2, db);
            }
            grads.pool.give(dy);
        }))
    }
}
