//! HorNet (Rao et al. 2022, <https://arxiv.org/abs/2207.14284>) as in MMPretrain.

use std::f64::consts::TAU;

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{bounded, depthwise, drop_path_rates, last_only, last_stage, scaled, three};
use super::convnext::Pyramid;
use crate::base::{Elem, Error, Result, Tensor};
use crate::config::OneOrMany;
use crate::kernels::UpsampleMode;
use crate::nn::init::Normal;
use crate::nn::{
    Conv2d, DropPath, Forward, LayerNorm, LayerNorm2d, LayerScale, Linear, Module, Param, Sequential, Tape,
    UpsampleTo, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: HorNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HorNetConfig {
    /// `tiny`, `small`, `base` or `large`, with global filters as `tiny-gf`, and for large images as `base-gf384`; or a mapping
    /// with `base_dim`, `depths`, `orders` and `dw_cfg`.
    pub arch: ArchConfig<HorNetArch>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// What the maps that gates are made of are multiplied by.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub scale: f64,
    /// Whether the branches of each block are multiplied by learnt numbers, 1e-5 at first.
    pub use_layer_scale: bool,
    /// Whether the last norm is that of the mean over the image, and the output [N, C]; else it stays a map.
    pub gap_before_final_norm: bool,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for HorNetConfig {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: ArchConfig::default(),
            in_channels: three(),
            drop_path_rate: 0.0,
            scale: 1.0 / 3.0,
            use_layer_scale: true,
            gap_before_final_norm: true,
        }
    }
}

/// The sizes of a [`HorNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct HorNetArch {
    /// Channels of the first stage, which double from stage to stage.
    #[schemars(range(min = 1, max = 131_072))]
    pub base_dim: usize,
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 4],
    /// How many gates stand one behind the other in each stage's blocks.
    #[schemars(inner(range(min = 1, max = 16)))]
    pub orders: [usize; 4],
    /// How the places of each stage look at each other.
    pub dw_cfg: [FilterConfig; 4],
}

/// `dw_cfg` of a stage: `{type: DW, kernel_size: 7}` or `{type: GF, h: 14, w: 8}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct FilterConfig {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FilterKind,
    /// Of a convolution, an odd number.
    #[serde(default = "seven")]
    #[schemars(range(min = 1, max = 255))]
    pub kernel_size: usize,
    /// Rows of the frequencies that a global filter has weights for.
    #[serde(default = "fourteen")]
    #[schemars(range(min = 1, max = 4096))]
    pub h: usize,
    /// Columns of them, a half of the map's and one more.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 4096))]
    pub w: usize,
}

/// How the places of a map look at each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FilterKind {
    /// By a convolution of each channel alone.
    DW,
    /// Half of the channels by a 3 × 3 convolution, the others by a filter of the whole map's frequencies.
    GF,
}

fn seven() -> usize {
    7
}

fn fourteen() -> usize {
    14
}

fn eight() -> usize {
    8
}

impl HorNetArch {
    /// The last two stages have global filters of these sizes, if any.
    fn of(base_dim: usize, filters: Option<[[usize; 2]; 2]>) -> Self {
        let conv = FilterConfig { kind: FilterKind::DW, kernel_size: seven(), h: fourteen(), w: eight() };
        let mut dw_cfg = [conv; 4];
        for (stage, [h, w]) in dw_cfg[2..].iter_mut().zip(filters.into_iter().flatten()) {
            *stage = FilterConfig { kind: FilterKind::GF, h, w, ..conv };
        }
        Self { base_dim, depths: [2, 3, 18, 2], orders: [2, 3, 4, 5], dw_cfg }
    }
}

impl Default for HorNetArch {
    fn default() -> Self {
        Self::of(64, None)
    }
}

impl Arch for HorNetArch {
    fn names() -> Vec<(&'static str, Self)> {
        let (gf, gf384) = (Some([[14, 8], [7, 4]]), Some([[24, 12], [13, 7]]));
        let all = [
            (["tiny", "t"], 64, None),
            (["tiny-gf", "t-gf"], 64, gf),
            (["small", "s"], 96, None),
            (["small-gf", "s-gf"], 96, gf),
            (["base", "b"], 128, None),
            (["base-gf", "b-gf"], 128, gf),
            (["base-gf384", "b-gf384"], 128, gf384),
            (["large", "l"], 192, None),
            (["large-gf", "l-gf"], 192, gf),
            (["large-gf384", "l-gf384"], 192, gf384),
        ];
        all.into_iter().flat_map(|(names, dim, gf)| names.map(|name| (name, Self::of(dim, gf)))).collect()
    }
}

/// Blocks in which what the places see gates the channels again and again: images to 512 features (`tiny`), normalised
/// behind their mean, so that a linear head follows without a neck.
///
/// Weight names are MMPretrain's: `downsample_layers.0.0`, `stages.0.1.gnconv.proj_in`, `stages.2.0.gnconv.dwconv.complex_weight`,
/// `norm3`. 22,409,512 parameters (`tiny`) with a linear layer for 1000 classes.
pub struct HorNet {
    layers: Pyramid,
}

module!(HorNet { ..layers });

register! { /// HorNet, `tiny` to `large`: images to features, [N, C].
dyn Module, "HorNet" => fn HorNet::from_config }

impl HorNet {
    fn from_config(p: HorNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When the orders halve the channels more often than they can be, or a kernel is no odd number.
    pub fn new(p: &HorNetConfig) -> Result<Self> {
        last_only(&p.out_indices, 4)?;
        let HorNetArch { base_dim, depths, orders, dw_cfg } = p.arch.0;
        bounded("base_dim", &[base_dim], 1 << 17)?;
        bounded("depths", &depths, 1000)?;
        bounded("orders", &orders, 16)?;
        let channels = [0, 1, 2, 3].map(|i| base_dim << i);
        let mut rates = drop_path_rates(p.drop_path_rate, depths.iter().sum());
        let mut stages = Vec::new();
        for (i, dim) in channels.into_iter().enumerate() {
            let mut stage = Sequential::new();
            for _ in 0..depths[i] {
                let gnconv = GnConv::new(dim, orders[i], dw_cfg[i], p.scale)?;
                stage =
                    stage.with(Block::new(gnconv, dim, p.use_layer_scale, rates.next().unwrap_or_default()));
            }
            stages.push(stage);
        }
        let norm = LayerNorm2d::new(channels[3]).eps(1e-6);
        Ok(Self { layers: Pyramid::new(p.in_channels, channels, stages, norm, p.gap_before_final_norm) })
    }
}

impl Module for HorNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// `x + gamma1 · gnconv(norm1(x))`, and of that `x + gamma2 · pwconv2(gelu(pwconv1(norm2(x))))`.
struct Block {
    norm1: LayerNorm2d,
    gnconv: GnConv,
    norm2: LayerNorm,
    pwconv1: Linear,
    pwconv2: Linear,
    gamma1: Option<LayerScale>,
    gamma2: Option<LayerScale>,
    drop_path: DropPath,
}

/// Gates one behind the other, each of twice the channels of the one before: the recursive gated convolution.
struct GnConv {
    proj_in: Conv2d,
    dwconv: Box<dyn Module>,
    proj_out: Conv2d,
    projs: Vec<Conv2d>,
    /// Channels of each gate.
    dims: Vec<usize>,
    scale: Elem,
}

/// Half of the channels as a convolution of each sees its places, the other half as a filter of the map's frequencies does.
struct GlobalLocal {
    dw: Conv2d,
    complex_weight: Param,
    pre_norm: LayerNorm2d,
    post_norm: LayerNorm2d,
}

module!(Block { norm1, gnconv, norm2, pwconv1, pwconv2, gamma1, gamma2, drop_path });
module!(GnConv { proj_in, dwconv, proj_out, projs });
module!(GlobalLocal { complex_weight, dw, pre_norm, post_norm });

fn norm(channels: usize) -> LayerNorm2d {
    LayerNorm2d::new(channels).eps(1e-6)
}

impl Block {
    fn new(gnconv: GnConv, dim: usize, scaled: bool, drop_path: f64) -> Self {
        let gamma = || scaled.then(|| LayerScale::new(dim, 1e-5));
        Self {
            norm1: norm(dim),
            gnconv,
            norm2: LayerNorm::new(dim).eps(1e-6),
            pwconv1: Linear::new(dim, 4 * dim),
            pwconv2: Linear::new(4 * dim, dim),
            gamma1: gamma(),
            gamma2: gamma(),
            drop_path: DropPath::new(drop_path),
        }
    }
}

impl GnConv {
    fn new(dim: usize, order: usize, filter: FilterConfig, scale: f64) -> Result<Self> {
        if !dim.is_multiple_of(1 << (order - 1)) {
            return Err(Error::config(format!(
                "`orders`: {order} gates halve the channels {} times, which {dim} channels cannot be",
                order - 1
            )));
        }
        let dims: Vec<usize> = (0..order).rev().map(|i| dim >> i).collect();
        let pointwise = |from, to| Conv2d::new(from, to, 1);
        Ok(Self {
            proj_in: pointwise(dim, 2 * dim),
            dwconv: filter.build(dims.iter().sum())?,
            proj_out: pointwise(dim, dim),
            projs: dims.windows(2).map(|pair| pointwise(pair[0], pair[1])).collect(),
            dims,
            scale: scale as Elem,
        })
    }
}

impl FilterConfig {
    fn build(self, channels: usize) -> Result<Box<dyn Module>> {
        let Self { kind, kernel_size, h, w } = self;
        if kind == FilterKind::DW {
            bounded("kernel_size", &[kernel_size], 255)?;
            if kernel_size.is_multiple_of(2) {
                return Err(Error::config(format!(
                    "`kernel_size: {kernel_size}` has no middle: it is an odd number"
                )));
            }
            return Ok(Box::new(depthwise(channels, kernel_size)?));
        }
        bounded("h", &[h], 4096)?;
        bounded("w", &[w], 4096)?;
        let half = channels / 2;
        if half == 0 || 2 * half != channels {
            return Err(Error::config(format!(
                "a global filter takes half of the channels, and its stage's gates have {channels}: take another \
                 `base_dim`"
            )));
        }
        Ok(Box::new(GlobalLocal {
            dw: depthwise(half, 3)?.bias(false),
            complex_weight: Param::init(&[half, h, w, 2], Normal { mean: 0.0, std: 0.02 }),
            pre_norm: norm(channels),
            post_norm: norm(channels),
        }))
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("norm1", &mut self.norm1, x)?;
        let mut y = cx.child("gnconv", &mut self.gnconv, y)?;
        if let Some(gamma) = &self.gamma1 {
            y = scaled(&gamma.weight, y);
        }
        let x = x + self.drop_path.forward(y, cx)?;
        let size = [x.shape()[2], x.shape()[3]];
        let y = cx.child("norm2", &mut self.norm2, x.embed_tokens(None, None))?;
        let y = cx.child("pwconv1", &mut self.pwconv1, y)?.gelu();
        let mut y = cx.child("pwconv2", &mut self.pwconv2, y)?;
        if let Some(gamma) = &mut self.gamma2 {
            y = cx.child("gamma2", gamma, y)?;
        }
        (x + self.drop_path.forward(y.token_planes(size), cx)?).checked()
    }
}

impl Module for GnConv {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (first, all) = (self.dims[0], self.dims.iter().sum());
        let both = cx.child("proj_in", &mut self.proj_in, x)?.split(&[first, all], 1);
        let seen = cx.child("dwconv", &mut self.dwconv, both[1])? * self.scale;
        let gates = seen.split(&self.dims, 1);
        let mut y = both[0] * gates[0];
        for (i, (proj, gate)) in self.projs.iter_mut().zip(&gates[1..]).enumerate() {
            y = cx.child(format_args!("projs.{i}"), proj, y)? * *gate;
        }
        cx.child("proj_out", &mut self.proj_out, y)
    }
}

impl Module for GlobalLocal {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shape = x.shape();
        let [near, far] = cx.child("pre_norm", &mut self.pre_norm, x)?.chunk(1);
        let near = cx.child("dw", &mut self.dw, near)?;
        let far = filtered(far, x.tape().param(&self.complex_weight));
        let both = x.tape().stack(&[near, far], 2).reshape(&shape);
        cx.child("post_norm", &mut self.post_norm, both)
    }
}

/// Maps whose frequencies, by the Fourier transform of both axes, are multiplied by complex numbers [C, h, w, 2].
fn filtered<'t>(x: Var<'t>, weight: Var<'t>) -> Var<'t> {
    let (tape, shape) = (x.tape(), x.shape());
    let [h, w] = [shape[2], shape[3]];
    let half = w / 2 + 1;
    let mut weight = weight.permute(&[3, 0, 1, 2]);
    if weight.shape()[2..] != [h, half] {
        weight = weight.upsample(UpsampleTo::Size([h, half]), UpsampleMode::Bilinear { align_corners: true });
    }
    let [by, by_i] = [0, 1].map(|part| weight.select(0, part));
    // A transform is a product with cosines and sines; of real rows the second half of the frequencies follows.
    let [cos, sin] = waves(tape, w, half);
    let [cos_h, sin_h] = waves(tape, h, h);
    let (re, im) = (x.matmul(cos), -x.matmul(sin));
    let (re, im) = (cos_h.matmul(re) + sin_h.matmul(im), cos_h.matmul(im) - sin_h.matmul(re));
    let (re, im) = (re * by - im * by_i, re * by_i + im * by);
    let (re, im) = (cos_h.matmul(re) - sin_h.matmul(im), cos_h.matmul(im) + sin_h.matmul(re));
    let twice = |f: usize| if f == 0 || 2 * f == w { 1.0 } else { 2.0 };
    let twice = tape.input(Tensor::from_shape_fn(vec![half], |at| twice(at[0])));
    (re * twice).matmul(cos.transpose(0, 1)) - (im * twice).matmul(sin.transpose(0, 1))
}

/// Cosines and sines of the first `count` frequencies at `size` places, [size, count], with the transform's root of the size.
fn waves(tape: &Tape, size: usize, count: usize) -> [Var<'_>; 2] {
    let root = (size as f64).sqrt();
    [libm::cos, libm::sin].map(|wave| {
        // The remainder keeps the angle small, and so its digits.
        let at = |i: usize, f: usize| wave(TAU * ((i * f) % size) as f64 / size as f64) / root;
        tape.input(Tensor::from_shape_fn(vec![size, count], |i| at(i[0], i[1]) as Elem))
    })
}
