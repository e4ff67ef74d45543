//! VAN, the visual attention network (Guo et al. 2022, <https://arxiv.org/abs/2202.09741>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{
    Chain, bounded, depthwise, drop_path_rates, freeze, last_only, last_stage, none_frozen, scaled, three,
};
use crate::base::Result;
use crate::config::OneOrMany;
use crate::nn::{BatchNorm2d, Conv2d, DropPath, Dropout, Forward, LayerNorm2d, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: VAN, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VANConfig {
    /// `tiny`, `small`, `base` or `large`; or a mapping with `embed_dims`, `depths` and `ffn_ratios`.
    pub arch: ArchConfig<VANArch>,
    /// Kernels of the convolutions that begin the stages; their stride is half of it, rounded up.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub patch_sizes: [usize; 4],
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Probability with which dropout zeroes an element of the feed-forward networks.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_rate: f64,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Stages that are frozen, norms too: n the first n + 1; -1 none.
    #[schemars(range(min = -1, max = 3))]
    pub frozen_stages: i64,
    /// Whether batch norms normalise by their running statistics in training too, and leave them alone.
    pub norm_eval: bool,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for VANConfig {
    fn default() -> Self {
        Self {
            out_indices: last_stage(),
            arch: ArchConfig::default(),
            patch_sizes: [7, 3, 3, 3],
            in_channels: three(),
            drop_rate: 0.0,
            drop_path_rate: 0.0,
            frozen_stages: none_frozen(),
            norm_eval: false,
        }
    }
}

/// The sizes of a [`VAN`].
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct VANArch {
    /// Channels of each stage.
    #[schemars(inner(range(min = 1, max = 1_048_576)))]
    pub embed_dims: [usize; 4],
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 4],
    /// By how much each stage's blocks widen the channels inside.
    #[schemars(inner(range(min = 1, max = 1024)))]
    pub ffn_ratios: [usize; 4],
}

impl Default for VANArch {
    fn default() -> Self {
        Self { embed_dims: [32, 64, 160, 256], depths: [3, 3, 5, 2], ffn_ratios: [8, 8, 4, 4] }
    }
}

impl Arch for VANArch {
    fn names() -> Vec<(&'static str, Self)> {
        let tiny = Self::default();
        let wide = |depths| Self { embed_dims: [64, 128, 320, 512], depths, ..Self::default() };
        let [small, base, large] = [[2, 2, 4, 2], [3, 3, 12, 3], [3, 5, 27, 3]].map(wide);
        vec![
            ("tiny", tiny.clone()),
            ("t", tiny),
            ("small", small.clone()),
            ("s", small),
            ("base", base.clone()),
            ("b", base),
            ("large", large.clone()),
            ("l", large),
        ]
    }
}

/// Blocks whose channels are weighed, place by place, by what large kernels see: images to 256 features (`tiny`) of 1/32 of
/// the size.
///
/// Weight names are MMPretrain's: `patch_embed1.projection`, `blocks1.0.attn.spatial_gating_unit.DW_conv`, `norm4`.
/// 4,105,800 parameters (`tiny`) with a linear layer for 1000 classes.
pub struct VAN {
    layers: Chain,
}

module!(VAN { ..layers });

register! { /// VAN, `tiny` to `large`: features of 1/32 of the size.
dyn Module, "VAN" => fn VAN::from_config }

impl VAN {
    fn from_config(p: VANConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When a size is 0, or there are less stages than are frozen.
    pub fn new(p: &VANConfig) -> Result<Self> {
        last_only(&p.out_indices, 4)?;
        let VANArch { embed_dims, depths, ffn_ratios } = p.arch.0;
        bounded("embed_dims", &embed_dims, 1 << 20)?;
        bounded("depths", &depths, 1000)?;
        bounded("ffn_ratios", &ffn_ratios, 1024)?;
        bounded("patch_sizes", &p.patch_sizes, 255)?;
        let mut rates = drop_path_rates(p.drop_path_rate, depths.iter().sum());
        let (mut layers, mut from, mut stages) = (Chain::default(), p.in_channels, Vec::new());
        for (i, dims) in embed_dims.into_iter().enumerate() {
            let kernel = p.patch_sizes[i];
            let projection = Conv2d::new(from, dims, kernel).stride(kernel / 2 + 1).padding(kernel / 2);
            let mut blocks = Chain::default();
            for j in 0..depths[i] {
                let rates = [p.drop_rate, rates.next().unwrap_or_default()];
                blocks = blocks.with(j.to_string(), Block::new(dims, dims * ffn_ratios[i], rates)?);
            }
            let names = ["patch_embed", "blocks", "norm"].map(|part| format!("{part}{}", i + 1));
            layers = layers
                .with(&names[0], PatchEmbed { projection, norm: BatchNorm2d::new(dims) })
                .with(&names[1], blocks)
                .with(&names[2], LayerNorm2d::new(dims));
            stages.push(names.to_vec());
            from = dims;
        }
        let mut net = Self { layers };
        freeze(&mut net, &stages, p.frozen_stages, p.norm_eval)?;
        Ok(net)
    }
}

impl Module for VAN {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// A smaller map.
struct PatchEmbed {
    projection: Conv2d,
    norm: BatchNorm2d,
}

/// `x + layer_scale_1 · attn(norm1(x))`, and of that `x + layer_scale_2 · mlp(norm2(x))`.
struct Block {
    layer_scale_1: Param,
    layer_scale_2: Param,
    norm1: BatchNorm2d,
    attn: SpatialAttention,
    norm2: BatchNorm2d,
    mlp: MixFfn,
    drop_path: DropPath,
}

/// `x + proj_2(lka(gelu(proj_1(x))))`.
struct SpatialAttention {
    proj_1: Conv2d,
    spatial_gating_unit: LargeKernelAttention,
    proj_2: Conv2d,
}

/// `x · conv1(dilated(local(x)))`, the last two of each channel alone.
struct LargeKernelAttention {
    local: Conv2d,
    dilated: Conv2d,
    conv1: Conv2d,
}

/// Two convolutions of 1 × 1 with one of each channel alone between them.
struct MixFfn {
    fc1: Conv2d,
    dwconv: Conv2d,
    fc2: Conv2d,
    drop: Dropout,
}

module!(PatchEmbed { projection, norm });
module!(Block { layer_scale_1, layer_scale_2, norm1, attn, norm2, mlp, drop_path });
module!(SpatialAttention { proj_1, spatial_gating_unit, proj_2 });
module!(LargeKernelAttention { local as "DW_conv", dilated as "DW_D_conv", conv1 });
module!(MixFfn { fc1, dwconv, fc2, drop });

impl Block {
    fn new(dims: usize, inner: usize, [drop, drop_path]: [f64; 2]) -> Result<Self> {
        let pointwise = || Conv2d::new(dims, dims, 1);
        let spatial_gating_unit = LargeKernelAttention {
            local: depthwise(dims, 5)?,
            dilated: depthwise(dims, 7)?.padding(9).dilation(3),
            conv1: pointwise(),
        };
        Ok(Self {
            layer_scale_1: Param::full(&[dims], 1e-2),
            layer_scale_2: Param::full(&[dims], 1e-2),
            norm1: BatchNorm2d::new(dims),
            attn: SpatialAttention { proj_1: pointwise(), spatial_gating_unit, proj_2: pointwise() },
            norm2: BatchNorm2d::new(dims),
            mlp: MixFfn {
                fc1: Conv2d::new(dims, inner, 1),
                dwconv: depthwise(inner, 3)?,
                fc2: Conv2d::new(inner, dims, 1),
                drop: Dropout::new(drop),
            },
            drop_path: DropPath::new(drop_path),
        })
    }
}

impl Module for PatchEmbed {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("projection", &mut self.projection, x)?;
        cx.child("norm", &mut self.norm, x)
    }
}

impl Module for LargeKernelAttention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("DW_conv", &mut self.local, x)?;
        let y = cx.child("DW_D_conv", &mut self.dilated, y)?;
        Ok(x * cx.child("conv1", &mut self.conv1, y)?)
    }
}

impl Module for SpatialAttention {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("proj_1", &mut self.proj_1, x)?.gelu();
        let y = cx.child("spatial_gating_unit", &mut self.spatial_gating_unit, y)?;
        Ok(cx.child("proj_2", &mut self.proj_2, y)? + x)
    }
}

impl Module for MixFfn {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("fc1", &mut self.fc1, x)?;
        let x = cx.child("dwconv", &mut self.dwconv, x)?.gelu();
        let x = self.drop.forward(x, cx)?;
        let x = cx.child("fc2", &mut self.fc2, x)?;
        self.drop.forward(x, cx)
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("norm1", &mut self.norm1, x)?;
        let y = scaled(&self.layer_scale_1, cx.child("attn", &mut self.attn, y)?);
        let x = x + self.drop_path.forward(y, cx)?;
        let y = cx.child("norm2", &mut self.norm2, x)?;
        let y = scaled(&self.layer_scale_2, cx.child("mlp", &mut self.mlp, y)?);
        (x + self.drop_path.forward(y, cx)?).checked()
    }
}
