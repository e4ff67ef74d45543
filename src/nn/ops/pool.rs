//! Maxima and means over windows and whole planes.

use crate::base::{Error, Result};
use crate::kernels::{
    PoolGeom, Window, avg_pool2d, avg_pool2d_backward, global_avg_pool, global_avg_pool_backward, max_pool2d,
    max_pool2d_backward,
};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::images;

/// How a pooling window moves over an image; each pair is vertical, horizontal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Step of the window.
    pub stride: [usize; 2],
    /// Padding on each side: minus infinity for the maximum, zeros for the mean.
    pub padding: [usize; 2],
    /// Distance of two taps; only the maximum knows any but 1.
    pub dilation: [usize; 2],
    /// Whether a last window that only partly fits counts.
    pub ceil_mode: bool,
    /// Whether the mean divides by padded positions too.
    pub count_include_pad: bool,
}

impl PoolOptions {
    /// Windows side by side, without padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: [0, 0],
            dilation: [1, 1],
            ceil_mode: false,
            count_include_pad: true,
        }
    }

    fn geometry(&self, input: [usize; 4]) -> Result<PoolGeom> {
        let Self { kernel, stride, padding, dilation, .. } = *self;
        PoolGeom::new(input, Window { kernel, stride, padding, dilation }, self.ceil_mode)
    }
}

impl<'t> Var<'t> {
    /// The largest element of each window of `x` [N, C, H, W].
    pub fn max_pool2d(self, options: PoolOptions) -> Self {
        self.attempt(|| self.try_max_pool2d(options))
    }

    fn try_max_pool2d(self, options: PoolOptions) -> Result<Self> {
        let x = self.value();
        let input = images(&x, "max pooling")?;
        let g = options.geometry(input)?;
        let mut y = self.tape.take(g.y_len());
        let mut argmax = self.tape.with_pool(|pool| pool.indices.take(g.y_len()));
        max_pool2d(&g, slice(&x), &mut y, &mut argmax);
        let y = tensor(&[input[0], input[1], g.out[0], g.out[1]], y);
        if !self.requires_grad() {
            self.tape.with_pool(|pool| pool.indices.give(argmax));
            return Ok(self.tape.input(y));
        }
        Ok(self.tape.node("max_pool2d", y, &[self], move |dy, grads| {
            let mut dx = grads.pool.take(g.x_len());
            max_pool2d_backward(&g, &dy, &argmax, &mut dx);
            grads.pool.indices.give(argmax);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }

    /// The mean of each window of `x` [N, C, H, W].
    pub fn avg_pool2d(self, options: PoolOptions) -> Self {
        self.attempt(|| self.try_avg_pool2d(options))
    }

    fn try_avg_pool2d(self, options: PoolOptions) -> Result<Self> {
        let x = self.value();
        let input = images(&x, "average pooling")?;
        let g = options.geometry(input)?;
        if options.dilation != [1, 1] {
            return Err(Error::invalid("average pooling knows no dilation"));
        }
        let include = options.count_include_pad;
        let mut y = self.tape.take(g.y_len());
        avg_pool2d(&g, include, slice(&x), &mut y);
        let y = tensor(&[input[0], input[1], g.out[0], g.out[1]], y);
        Ok(self.tape.node("avg_pool2d", y, &[self], move |dy, grads| {
            let mut dx = grads.pool.take(g.x_len());
            avg_pool2d_backward(&g, include, &dy, &mut dx);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }

    /// The mean over all axes behind the first two: [N, C, ..] to [N, C].
    pub fn global_avg_pool(self) -> Self {
        self.attempt(|| self.try_global_avg_pool())
    }

    fn try_global_avg_pool(self) -> Result<Self> {
        let x = self.value();
        let (&[n, c], inner) = x
            .shape()
            .split_at_checked(2)
            .and_then(|(head, tail)| Some((<&[usize; 2]>::try_from(head).ok()?, tail)))
            .ok_or_else(|| {
                Error::invalid(format!(
                    "global average pooling wants an input of shape [N, C, ..], got {:?}",
                    x.shape()
                ))
            })?;
        let inner: usize = inner.iter().product();
        if inner == 0 {
            return Err(Error::invalid(format!(
                "global average pooling has nothing to average in shape {:?}",
                x.shape()
            )));
        }
        let mut y = self.tape.take(n * c);
        global_avg_pool(inner, slice(&x), &mut y);
        Ok(self.tape.node("global_avg_pool", tensor(&[n, c], y), &[self], move |dy, grads| {
            let mut dx = grads.pool.take(dy.len() * inner);
            global_avg_pool_backward(inner, &dy, &mut dx);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }
}
