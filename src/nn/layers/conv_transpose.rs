//! Transposed convolution of images and sequences.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, memory};
use crate::kernels::{
    ConvGeom, LayerEpilogue, Window, channel_sums, conv_transpose2d, conv2d, conv2d_backward_weight,
};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::shapes::{expect_shape, images};
use crate::nn::{Forward, Module, Param, Var, Work};
use crate::registry::BuildCx;
use crate::{module, register};

use super::conv::ConvOptions;
use super::conv1d::as_images;
use super::pair::{non_negative, positive};
use super::{Pair, one, zero};

/// The keys of a [`ConvTranspose2d`] or [`ConvTranspose1d`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ConvTransposeConfig {
    /// Channels of the input.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub in_channels: usize,
    /// Channels of the output.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub out_channels: usize,
    /// Size of the kernel, one number or [vertical, horizontal]; of sequences one number.
    #[schemars(schema_with = "positive")]
    pub kernel_size: Pair,
    /// Distance of two pixels of the input in the output.
    #[serde(default = "super::one")]
    #[schemars(schema_with = "positive")]
    pub stride: Pair,
    /// Pixels cut off from each side of the output.
    #[serde(default = "super::zero")]
    #[schemars(schema_with = "non_negative")]
    pub padding: Pair,
    /// Pixels added to one side of the output; less than the stride or the dilation.
    #[serde(default = "super::zero")]
    #[schemars(schema_with = "non_negative")]
    pub output_padding: Pair,
    /// Groups of channels that do not see each other; both numbers of channels are multiples of it.
    #[serde(default = "one_group")]
    #[schemars(range(min = 1))]
    pub groups: usize,
    /// Whether an offset is added to each output channel.
    #[serde(default = "crate::config::yes")]
    pub bias: bool,
    /// Distance of two taps of the kernel.
    #[serde(default = "super::one")]
    #[schemars(schema_with = "positive")]
    pub dilation: Pair,
}

fn one_group() -> usize {
    1
}

impl ConvTransposeConfig {
    fn new(in_channels: usize, out_channels: usize, kernel_size: Pair) -> Self {
        let (stride, padding, output_padding, dilation) = (one(), zero(), zero(), one());
        let (groups, bias) = (1, true);
        Self {
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            bias,
            dilation,
        }
    }

    fn check(&self) -> Result<()> {
        let (c, k, groups) = (self.in_channels, self.out_channels, self.groups);
        if groups == 0 || c % groups != 0 || k % groups != 0 {
            return Err(Error::config(format!(
                "{groups} groups do not divide {c} input and {k} output channels"
            )));
        }
        let (Pair(kernel), Pair(stride), Pair(dilation)) = (self.kernel_size, self.stride, self.dilation);
        for (name, pair) in [("kernel_size", kernel), ("stride", stride), ("dilation", dilation)] {
            if pair.contains(&0) {
                return Err(Error::config(format!("{name} must be at least 1, got {pair:?}")));
            }
        }
        let Pair(more) = self.output_padding;
        if (0..2).any(|axis| more[axis] >= stride[axis].max(dilation[axis])) {
            return Err(Error::config(format!(
                "output_padding {more:?} must be less than the stride {stride:?} or the dilation {dilation:?}"
            )));
        }
        Ok(())
    }

    /// A sequence has one axis.
    fn check_equal(&self) -> Result<()> {
        let Self { kernel_size, stride, padding, output_padding, dilation, .. } = self;
        let sizes = [
            ("kernel_size", kernel_size),
            ("stride", stride),
            ("padding", padding),
            ("output_padding", output_padding),
            ("dilation", dilation),
        ];
        match sizes.into_iter().find(|(_, Pair([a, b]))| a != b) {
            Some((name, Pair(pair))) => {
                Err(Error::config(format!("{name} is one number: a sequence has one axis; got {pair:?}")))
            }
            None => Ok(()),
        }
    }

    /// The weight, [C, K / groups, …kernel], and the bias.
    fn params(&self, kernel: &[usize]) -> (Param, Option<Param>) {
        let per_group = self.out_channels.checked_div(self.groups).unwrap_or(0);
        let fan_in = kernel.iter().fold(per_group, |fan, k| fan.saturating_mul(*k));
        let shape: Vec<usize> = [self.in_channels, per_group].iter().chain(kernel).copied().collect();
        (Param::fan_in(&shape, fan_in), self.bias.then(|| Param::fan_in(&[self.out_channels], fan_in)))
    }

    fn options(&self) -> (ConvOptions, [usize; 2]) {
        let (Pair(stride), Pair(padding), Pair(dilation)) = (self.stride, self.padding, self.dilation);
        (ConvOptions { stride, padding, dilation, groups: self.groups }, self.output_padding.0)
    }
}

macro_rules! conv_transpose {
    ($(#[$doc:meta])* $name:ident, $size:ty, $kernel:expr, $op:ident) => {
        $(#[$doc])*
        ///
        /// Weights and bias begin uniform within ±1/√(K / groups · kernel), as in PyTorch.
        #[derive(Debug, Clone)]
        pub struct $name {
            /// [C, K / groups, …kernel].
            pub weight: Param,
            /// `[K]`.
            pub bias: Option<Param>,
            config: ConvTransposeConfig,
        }

        module!($name: "_ConvTransposeNd", "_ConvNd" { weight, bias }, groups = config.groups);

        impl $name {
            /// Stride 1, no padding, no dilation, one group, with bias.
            pub fn new(in_channels: usize, out_channels: usize, kernel_size: $size) -> Self {
                Self::of(ConvTransposeConfig::new(in_channels, out_channels, kernel_size.into()))
            }

            fn of(config: ConvTransposeConfig) -> Self {
                let kernel: fn([usize; 2]) -> Vec<usize> = $kernel;
                let (weight, bias) = config.params(&kernel(config.kernel_size.0));
                Self { weight, bias, config }
            }

            /// The distance of two pixels of the input in the output.
            #[must_use]
            pub fn stride(mut self, stride: $size) -> Self {
                self.config.stride = stride.into();
                self
            }

            /// Pixels cut off from each side of the output.
            #[must_use]
            pub fn padding(mut self, padding: $size) -> Self {
                self.config.padding = padding.into();
                self
            }

            /// Pixels added to one side of the output, less than the stride or the dilation; `forward` says so if not.
            #[must_use]
            pub fn output_padding(mut self, output_padding: $size) -> Self {
                self.config.output_padding = output_padding.into();
                self
            }

            /// The distance of two taps of the kernel.
            #[must_use]
            pub fn dilation(mut self, dilation: $size) -> Self {
                self.config.dilation = dilation.into();
                self
            }

            /// Groups of channels that do not see each other. If they do not divide both numbers of channels, `forward`
            /// says so.
            #[must_use]
            pub fn groups(self, groups: usize) -> Self {
                Self::of(ConvTransposeConfig { groups, ..self.config })
            }

            /// Whether an offset is added to each output channel; it is unless this says no.
            #[must_use]
            pub fn bias(self, bias: bool) -> Self {
                Self::of(ConvTransposeConfig { bias, ..self.config })
            }

            fn from_config(p: ConvTransposeConfig, _: &mut BuildCx) -> Result<Self> {
                p.check()?;
                let kernel: fn([usize; 2]) -> Vec<usize> = $kernel;
                if kernel([0, 0]).len() == 1 {
                    p.check_equal()?;
                }
                Ok(Self::of(p))
            }
        }

        impl Module for $name {
            fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
                self.config.check()?;
                let (tape, (options, more)) = (x.tape(), self.config.options());
                let bias = self.bias.as_ref().map(|b| tape.param(b));
                x.$op(tape.param(&self.weight), bias, options, more).checked()
            }
        }
    };
}

conv_transpose!(
    /// Transposed convolution of images [N, C, H, W] to [N, K, H', W'], the gradient of a convolution from K to C channels
    /// to its input: H' = (H − 1) stride − 2 padding + dilation (kernel − 1) + output_padding + 1 (Dumoulin and Visin
    /// 2016, <https://arxiv.org/abs/1603.07285>).
    ///
    /// ```
    /// use shanty::base::{Tensor, keyed};
    /// use shanty::nn::{BufferPool, ConvTranspose2d, Forward, Module, Tape};
    ///
    /// let mut conv = ConvTranspose2d::new(1, 1, 2).stride(2).bias(false);
    /// conv.weight.value.as_slice_mut().unwrap().copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    /// let tape = Tape::new(BufferPool::default());
    /// let x = tape.input(Tensor::from_shape_vec(vec![1, 1, 1, 2], vec![1.0, 10.0]).unwrap());
    /// let y = conv.forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?;
    /// assert_eq!(y.value().as_slice().unwrap(), [1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0]);
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    ConvTranspose2d,
    impl Into<Pair>,
    |kernel| kernel.to_vec(),
    conv_transpose2d
);
conv_transpose!(
    /// Transposed convolution of sequences [N, C, L] to [N, K, L'], the gradient of a convolution from K to C channels to
    /// its input: L' = (L − 1) stride − 2 padding + dilation (kernel − 1) + output_padding + 1.
    ConvTranspose1d,
    usize,
    |kernel| vec![kernel[1]],
    conv_transpose1d
);

register! { /// Transposed convolution of images.
dyn Module, "ConvTranspose2d" => fn ConvTranspose2d::from_config }
register! { /// `ConvTranspose2d`, by the name of MMCV's registry.
dyn Module, "deconv" => fn ConvTranspose2d::from_config }
register! { /// Transposed convolution of sequences.
dyn Module, "ConvTranspose1d" => fn ConvTranspose1d::from_config }

impl<'t> Var<'t> {
    /// The transposed convolution of `x` [N, C, H, W] with `weight` [C, K / groups, kH, kW] and `bias` of shape `[K]`;
    /// `more` pixels are added below and on the right.
    pub fn conv_transpose2d(
        self,
        weight: Self,
        bias: Option<Self>,
        options: ConvOptions,
        more: [usize; 2],
    ) -> Self {
        self.attempt(|| self.try_conv_transpose2d(weight, bias, options, more))
    }

    /// The transposed convolution of `x` [N, C, L] with `weight` [C, K / groups, kernel]; the second number of each pair
    /// counts.
    pub fn conv_transpose1d(
        self,
        weight: Self,
        bias: Option<Self>,
        options: ConvOptions,
        more: [usize; 2],
    ) -> Self {
        self.attempt(|| {
            let x = as_images(self, "a transposed convolution of sequences")?;
            let weight = as_images(weight, "the weight of a transposed convolution of sequences")?;
            let ConvOptions { stride, padding, dilation, groups } = options;
            let flat = ConvOptions {
                stride: [1, stride[1]],
                padding: [0, padding[1]],
                dilation: [1, dilation[1]],
                groups,
            };
            Ok(x.conv_transpose2d(weight, bias, flat, [0, more[1]]).checked()?.squeeze(2))
        })
    }

    fn try_conv_transpose2d(
        self,
        weight: Self,
        bias: Option<Self>,
        options: ConvOptions,
        more: [usize; 2],
    ) -> Result<Self> {
        let (x, w, b) = (self.value(), weight.value(), bias.map(Var::value));
        let [n, c, h, width] = images(x.shape(), "a transposed convolution")?;
        let &[channels, per_group, kh, kw] = w.shape() else {
            return Err(Error::invalid(format!(
                "the weight of a transposed convolution has four axes, not shape {:?}",
                w.shape()
            )));
        };
        if c != channels {
            return Err(Error::invalid(format!(
                "a transposed convolution of {channels} channels got an input of shape {:?}: its second axis counts the channels",
                x.shape()
            )));
        }
        let ConvOptions { stride, padding, dilation, groups } = options;
        let window = Window { kernel: [kh, kw], stride, padding, dilation };
        let size = [0, 1].map(|axis| transposed_size([h, width][axis], &window, more[axis], axis));
        let ([Some(oh), Some(ow)], Some(k)) = (size, per_group.checked_mul(groups)) else {
            return Err(Error::invalid(format!(
                "a transposed convolution with kernel {:?}, stride {stride:?} and padding {padding:?} leaves nothing of an \
                 input of {h} x {width}; pad less",
                [kh, kw]
            )));
        };
        memory::fits("the output of a transposed convolution", &[n, k, oh, ow], size_of::<Elem>())?;
        let framed = [0, 1].map(|axis| [oh, ow][axis].saturating_add(padding[axis].saturating_mul(2)));
        memory::fits(
            "the padded output of a transposed convolution",
            &[n, k, framed[0], framed[1]],
            size_of::<Elem>(),
        )?;
        let g = ConvGeom::transposed([n, k, oh, ow], c, window, groups, [h, width])?;
        if let Some(b) = &b {
            expect_shape("the bias of a transposed convolution", b.shape(), &[k])?;
        }
        let outputs = Work { activations: g.x_len() as u64, multiply_adds: 0 };
        // Each input is multiplied with its part of the weight; the output is its grid with more points.
        let products = Work { activations: 0, ..Work::sums(x.len(), per_group * kh * kw) };
        self.tape.worked(outputs + products);
        let mut y = self.tape.take(g.x_len());
        conv_transpose2d(&g, slice(&x), slice(&w), b.as_ref().map(slice), &mut y);
        let inputs: Vec<Var<'t>> = [Some(self), Some(weight), bias].into_iter().flatten().collect();
        let has_bias = b.is_some();
        Ok(self.tape.node("conv_transpose2d", tensor(&[n, k, oh, ow], y), &inputs, move |dy, grads| {
            if grads.wants(0) {
                let mut dx = grads.pool.take(g.y_len());
                conv2d(&g, &dy, slice(&w), LayerEpilogue::default(), &mut dx);
                grads.worked(products);
                grads.add(0, dx);
            }
            if grads.wants(1) {
                let mut dw = grads.pool.take(g.w_len());
                conv2d_backward_weight(&g, &dy, slice(&x), 0.0, &mut dw, None);
                grads.worked(products);
                grads.add(1, dw);
            }
            if has_bias && grads.wants(2) {
                let mut db = grads.pool.take(g.c);
                channel_sums(g.n, g.c, g.h * g.w, &dy, 0.0, &mut db);
                grads.add(2, db);
            }
            grads.pool.give(dy);
        }))
    }
}

/// (size − 1) stride − 2 padding + dilation (kernel − 1) + more + 1; `None` if that is no size.
fn transposed_size(size: usize, w: &Window, more: usize, axis: usize) -> Option<usize> {
    let reach = w.dilation[axis].checked_mul(w.kernel[axis].checked_sub(1)?)?;
    let whole = size.checked_sub(1)?.checked_mul(w.stride[axis])?.checked_add(reach)?;
    let whole = whole.checked_add(more)?.checked_add(1)?;
    whole.checked_sub(w.padding[axis].checked_mul(2)?).filter(|size| *size > 0)
}
