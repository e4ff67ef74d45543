//! Pooling over a given number of parts of an image or a sequence, however large it is.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result, memory};
use crate::kernels::{
    AdaptivePoolGeom, adaptive_avg_pool2d, adaptive_avg_pool2d_backward, adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::images;
use crate::nn::{Forward, Module, PoolOptions, Var};
use crate::{module, register};

use super::Pair;
use super::conv1d::as_images;
use super::pair::positive;

macro_rules! of_images {
    ($(#[$doc:meta])* $name:ident, $op:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        pub struct $name {
            /// Height and width of the output.
            #[serde(default = "super::one")]
            #[schemars(schema_with = "positive")]
            pub output_size: Pair,
        }

        module!($name {});

        impl $name {
            /// Height and width of the output.
            pub fn new(output_size: impl Into<Pair>) -> Self {
                Self { output_size: output_size.into() }
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
                x.$op(self.output_size.0).checked()
            }
        }
    };
}

macro_rules! of_sequences {
    ($(#[$doc:meta])* $name:ident, $op:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        pub struct $name {
            /// Length of the output.
            #[serde(default = "one")]
            #[schemars(range(min = 1, max = 65_535))]
            pub output_size: usize,
        }

        module!($name {});

        impl $name {
            /// Length of the output.
            pub fn new(output_size: usize) -> Self {
                Self { output_size }
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
                Ok(as_images(x, stringify!($name))?.$op([1, self.output_size]).checked()?.squeeze(2))
            }
        }
    };
}

fn one() -> usize {
    1
}

of_images!(
    /// The mean of each of `output_size` parts of images [N, C, H, W], whatever their size.
    AdaptiveAvgPool2d,
    adaptive_avg_pool2d
);
of_images!(
    /// The largest element of each of `output_size` parts of images [N, C, H, W], whatever their size.
    ///
    /// ```
    /// use shanty::base::{Tensor, keyed};
    /// use shanty::nn::{AdaptiveMaxPool2d, BufferPool, Forward, Module, Tape};
    ///
    /// let tape = Tape::new(BufferPool::default());
    /// let x = tape.input(Tensor::from_shape_vec(vec![1, 1, 1, 5], vec![1.0, 2.0, 5.0, 4.0, 3.0]).unwrap());
    /// let rng = &mut keyed(0, "example", 0, 0);
/// let cx = &mut Forward::new(true, rng);
    /// // Parts 0..3 and 2..5: neighbours overlap.
    /// assert_eq!(AdaptiveMaxPool2d::new([1, 2]).forward(x, cx)?.value().as_slice().unwrap(), [5.0, 5.0]);
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    AdaptiveMaxPool2d,
    adaptive_max_pool2d
);
of_sequences!(
    /// The mean of each of `output_size` parts of sequences [N, C, L], whatever their length.
    AdaptiveAvgPool1d,
    adaptive_avg_pool2d
);
of_sequences!(
    /// The largest element of each of `output_size` parts of sequences [N, C, L], whatever their length.
    AdaptiveMaxPool1d,
    adaptive_max_pool2d
);

register! { /// The mean of each of a given number of parts of an image.
dyn Module, "AdaptiveAvgPool2d" => AdaptiveAvgPool2d }
register! { /// The largest element of each of a given number of parts of an image.
dyn Module, "AdaptiveMaxPool2d" => AdaptiveMaxPool2d }
register! { /// The mean of each of a given number of parts of a sequence.
dyn Module, "AdaptiveAvgPool1d" => AdaptiveAvgPool1d }
register! { /// The largest element of each of a given number of parts of a sequence.
dyn Module, "AdaptiveMaxPool1d" => AdaptiveMaxPool1d }

impl<'t> Var<'t> {
    /// The mean of each of `out` parts of `x` [N, C, H, W]: part i of o along an axis of size s runs from ⌊i s / o⌋ to
    /// ⌈(i + 1) s / o⌉, as in PyTorch.
    pub fn adaptive_avg_pool2d(self, out: [usize; 2]) -> Self {
        self.attempt(|| self.try_adaptive_avg_pool2d(out))
    }

    fn try_adaptive_avg_pool2d(self, out: [usize; 2]) -> Result<Self> {
        let x = self.value();
        let [n, c, h, w] = images(x.shape(), "adaptive average pooling")?;
        let g = AdaptivePoolGeom::new([n, c, h, w], out)?;
        if out == [1, 1] {
            return Ok(self.global_avg_pool().reshape(&[n, c, 1, 1]));
        }
        if h % out[0] == 0 && w % out[1] == 0 {
            return Ok(self.avg_pool2d(PoolOptions::new([h / out[0], w / out[1]])));
        }
        memory::fits("the output of adaptive average pooling", &[n, c, out[0], out[1]], size_of::<Elem>())?;
        let mut y = self.tape.take(g.y_len());
        adaptive_avg_pool2d(&g, slice(&x), &mut y);
        let y = tensor(&[n, c, out[0], out[1]], y);
        Ok(self.tape.node("adaptive_avg_pool2d", y, &[self], move |dy, grads| {
            let mut dx = grads.pool.take(g.x_len());
            adaptive_avg_pool2d_backward(&g, &dy, &mut dx);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }

    /// The largest element of each of `out` parts of `x` [N, C, H, W], cut as by [`Var::adaptive_avg_pool2d`].
    pub fn adaptive_max_pool2d(self, out: [usize; 2]) -> Self {
        self.attempt(|| self.try_adaptive_max_pool2d(out))
    }

    fn try_adaptive_max_pool2d(self, out: [usize; 2]) -> Result<Self> {
        let x = self.value();
        let [n, c, h, w] = images(x.shape(), "adaptive max pooling")?;
        let g = AdaptivePoolGeom::new([n, c, h, w], out)?;
        if h % out[0] == 0 && w % out[1] == 0 {
            return Ok(self.max_pool2d(PoolOptions::new([h / out[0], w / out[1]])));
        }
        memory::fits("the output of adaptive max pooling", &[n, c, out[0], out[1]], size_of::<Elem>())?;
        let mut y = self.tape.take(g.y_len());
        let mut argmax = self.tape.with_pool(|pool| pool.indices.take(g.y_len()));
        adaptive_max_pool2d(&g, slice(&x), &mut y, &mut argmax);
        let y = tensor(&[n, c, out[0], out[1]], y);
        if !self.requires_grad() {
            self.tape.with_pool(|pool| pool.indices.give(argmax));
            return Ok(self.tape.input(y));
        }
        Ok(self.tape.node("adaptive_max_pool2d", y, &[self], move |dy, grads| {
            let mut dx = grads.pool.take(g.x_len());
            adaptive_max_pool2d_backward(&g, &dy, &argmax, &mut dx);
            grads.pool.indices.give(argmax);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }
}
