//! RepMLPNet (Ding et al. 2021, <https://arxiv.org/abs/2112.11081>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, bounded, last_only, last_stage, three};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::kernels::Act;
use crate::nn::init::Kaiming;
use crate::nn::{
    BatchNorm2d, Child, ChildMut, Conv2d, ConvModule, Forward, Module, ModuleTree, Pair, SELayer, Var,
    make_divisible,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: RepMLPNet, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RepMLPNetConfig {
    /// `base`; or a mapping with `channels`, `depths` and `sharesets_nums`.
    pub arch: ArchConfig<RepMLPNetArch>,
    /// Size of the images: no other fits the layers.
    #[schemars(schema_with = "crate::nn::positive")]
    pub img_size: Pair,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Size of a patch, which becomes one place.
    #[schemars(schema_with = "crate::nn::positive")]
    pub patch_size: Pair,
    /// Accepted if it names the last stage, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
    /// Kernels of the convolutions beside the fully connected layers, odd numbers.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub reparam_conv_kernels: Vec<usize>,
    /// By how much the weights of the channels are squeezed.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub globalperceptron_ratio: usize,
    /// Whether a norm stands at the end.
    pub final_norm: bool,
    /// Whether the convolutions are a part of the fully connected layers, whose weights come from a trained network.
    pub deploy: bool,
}

impl Default for RepMLPNetConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            img_size: Pair([224, 224]),
            in_channels: three(),
            patch_size: Pair([4, 4]),
            out_indices: last_stage(),
            reparam_conv_kernels: vec![3],
            globalperceptron_ratio: 4,
            final_norm: true,
            deploy: false,
        }
    }
}

/// The sizes of a [`RepMLPNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct RepMLPNetArch {
    /// Channels of each stage.
    #[schemars(inner(range(min = 1, max = 1_048_576)))]
    pub channels: [usize; 4],
    /// Units of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 4],
    /// Layers that the channels of each stage have between them; divisors of the channels.
    #[schemars(inner(range(min = 1, max = 1_048_576)))]
    pub sharesets_nums: [usize; 4],
}

impl Default for RepMLPNetArch {
    fn default() -> Self {
        Self { channels: [96, 192, 384, 768], depths: [2, 2, 12, 2], sharesets_nums: [1, 4, 32, 128] }
    }
}

impl Arch for RepMLPNetArch {
    fn names() -> Vec<(&'static str, Self)> {
        vec![("base", Self::default()), ("b", Self::default())]
    }
}

/// Fully connected layers over the whole of each channel's map, beside convolutions that become a part of them after the
/// training: images of one size to 768 features (`base`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `patch_embed.projection`, `stages.0.0.repmlp_block.fc3`, `stages.0.0.repmlp_block.repconv3.conv`,
/// `downsample_layers.0.conv`, `final_norm`. 68,240,762 parameters (`base`, images of 224 × 224) with a linear layer for 1000
/// classes.
pub struct RepMLPNet {
    patch_embed: PatchEmbed,
    stages: Vec<Chain>,
    downsample_layers: Vec<ConvModule>,
    final_norm: Option<BatchNorm2d>,
    size: [usize; 2],
}

module!(RepMLPNet { patch_embed, stages, downsample_layers, final_norm });

register! { /// RepMLPNet: images of one size to features of 1/32 of it.
dyn Module, "RepMLPNet" => fn RepMLPNet::from_config }

impl RepMLPNet {
    fn from_config(p: RepMLPNetConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When images are too small for four stages, shared layers do not divide the channels, or a kernel is no odd number.
    pub fn new(p: &RepMLPNetConfig) -> Result<Self> {
        let RepMLPNetArch { channels, depths, sharesets_nums } = p.arch.0;
        bounded("channels", &channels, 1 << 20)?;
        bounded("depths", &depths, 1000)?;
        bounded("sharesets_nums", &sharesets_nums, 1 << 20)?;
        last_only(&p.out_indices, 4)?;
        if let Some(kernel) = p.reparam_conv_kernels.iter().find(|kernel| kernel.is_multiple_of(2)) {
            return Err(Error::config(format!(
                "`reparam_conv_kernels`: {kernel} has no middle, it is an odd number"
            )));
        }
        let (Pair(size), Pair(patch)) = (p.img_size, p.patch_size);
        let places = [0, 1].map(|i| size[i] / patch[i].max(1));
        if places.iter().any(|side| *side < 8) || [0, 1].iter().any(|i| !size[*i].is_multiple_of(patch[*i])) {
            return Err(Error::config(format!(
                "`img_size: {size:?}` is no multiple of `patch_size: {patch:?}` of 8 patches a side at least"
            )));
        }
        let (mut stages, mut downsample_layers) = (Vec::new(), Vec::new());
        for (i, (channels_here, shared)) in channels.into_iter().zip(sharesets_nums).enumerate() {
            if !channels_here.is_multiple_of(shared) {
                return Err(Error::config(format!(
                    "`sharesets_nums: {shared}` does not divide the {channels_here} channels of its stage"
                )));
            }
            let mut stage = Chain::default();
            for j in 0..depths[i] {
                let map = places.map(|side| side >> i);
                stage = stage.with(j.to_string(), Unit::new(p, channels_here, shared, map)?);
            }
            stages.push(stage);
            if let Some(next) = channels.get(i + 1) {
                let down = ConvModule::of(channels_here, *next, 2).kernel(Pair([2, 2]), Pair([0, 0]));
                downsample_layers.push(down.stride(2).kaiming(Kaiming::default()).build()?);
            }
        }
        let first = channels[0];
        let projection = Conv2d::new(p.in_channels, first, p.patch_size).stride(p.patch_size).bias(false);
        Ok(Self {
            patch_embed: PatchEmbed { projection, norm: BatchNorm2d::new(first) },
            stages,
            downsample_layers,
            final_norm: p.final_norm.then(|| BatchNorm2d::new(channels[3])),
            size,
        })
    }
}

impl Module for RepMLPNet {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (shape, [h, w]) = (x.shape(), self.size);
        if shape.len() != 4 || shape[2..] != [h, w] {
            return Err(Error::invalid(format!(
                "this RepMLPNet was made for images of {h} × {w} (`img_size`), and got an input of shape {shape:?}"
            )));
        }
        let mut x = cx.child("patch_embed", &mut self.patch_embed, x)?;
        for (i, stage) in self.stages.iter_mut().enumerate() {
            x = cx.child(format_args!("stages.{i}"), stage, x)?;
            if let Some(down) = self.downsample_layers.get_mut(i) {
                x = cx.child(format_args!("downsample_layers.{i}"), down, x)?;
            }
        }
        match &mut self.final_norm {
            Some(norm) => cx.child("final_norm", norm, x),
            None => Ok(x),
        }
    }
}

/// `relu(norm(projection(x)))`.
struct PatchEmbed {
    projection: Conv2d,
    norm: BatchNorm2d,
}

/// `x + repmlp_block(norm1(x))`, and of that `x + ffn_block(norm2(x))`.
struct Unit {
    repmlp_block: Block,
    ffn_block: ConvFfn,
    norm1: BatchNorm2d,
    norm2: BatchNorm2d,
}

/// Layers over whole maps, beside convolutions, times weights of the channels.
struct Block {
    gp: SELayer,
    fc3: Conv2d,
    fc3_bn: Option<BatchNorm2d>,
    local: Local,
    /// Layers that the channels have between them.
    shared: usize,
    map: [usize; 2],
}

/// The convolutions of each kernel: `repconv1`, `repconv3`.
struct Local(Vec<(String, ConvModule)>);

/// Two convolutions of 1 × 1.
struct ConvFfn {
    ffn_fc1: ConvModule,
    ffn_fc2: ConvModule,
}

module!(PatchEmbed { projection, norm });
module!(Unit { repmlp_block, ffn_block, norm1, norm2 });
module!(Block { gp, fc3, fc3_bn, ..local });
module!(ConvFfn { ffn_fc1, ffn_fc2 });

impl ModuleTree for Local {
    fn type_name(&self) -> &'static str {
        "ModuleDict"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        self.0.iter().for_each(|(name, conv)| f(name, Child::Module(conv)));
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        self.0.iter_mut().for_each(|(name, conv)| f(name, ChildMut::Module(conv)));
    }
}

impl Unit {
    fn new(p: &RepMLPNetConfig, channels: usize, shared: usize, map: [usize; 2]) -> Result<Self> {
        let inner = channels.saturating_mul(4);
        let pointwise =
            |from, to, act| ConvModule::of(from, to, 1).act(act).kaiming(Kaiming::default()).build();
        Ok(Self {
            repmlp_block: Block::new(p, channels, shared, map)?,
            ffn_block: ConvFfn {
                ffn_fc1: pointwise(channels, inner, Act::Gelu)?,
                ffn_fc2: pointwise(inner, channels, Act::Identity)?,
            },
            norm1: BatchNorm2d::new(channels),
            norm2: BatchNorm2d::new(channels),
        })
    }
}

impl Block {
    fn new(p: &RepMLPNetConfig, channels: usize, shared: usize, map: [usize; 2]) -> Result<Self> {
        let all = map[0].saturating_mul(map[1]).saturating_mul(shared);
        let kernels = if p.deploy { &[][..] } else { &p.reparam_conv_kernels };
        let conv = |kernel: &usize| {
            let options = ConvModule::of(shared, shared, *kernel).groups(shared).act(Act::Identity);
            Ok((format!("repconv{kernel}"), options.kaiming(Kaiming::default()).build()?))
        };
        let squeezed = make_divisible((channels / p.globalperceptron_ratio.max(1)) as f64, 8);
        let fc3 = ConvModule::of(all, all, 1).groups(shared).norm(None).bias(p.deploy);
        Ok(Self {
            gp: SELayer::new(channels, squeezed)?,
            fc3: fc3.build()?.conv,
            fc3_bn: (!p.deploy).then(|| BatchNorm2d::new(shared)),
            local: Local(kernels.iter().map(conv).collect::<Result<_>>()?),
            shared,
            map,
        })
    }
}

impl Module for PatchEmbed {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("projection", &mut self.projection, x)?;
        Ok(cx.child("norm", &mut self.norm, x)?.relu())
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (shape, [h, w]) = (x.shape(), self.map);
        let weights = cx.within("gp", &mut self.gp, x, |gp, cx| gp.weights(x, cx))?;
        let rows = shape[0] * shape[1] / self.shared;
        let maps = x.reshape(&[rows, self.shared, h, w]);
        let mut y = cx.child("fc3", &mut self.fc3, maps.reshape(&[rows, self.shared * h * w, 1, 1]))?;
        y = y.reshape(&[rows, self.shared, h, w]);
        if let Some(norm) = &mut self.fc3_bn {
            y = cx.child("fc3_bn", norm, y)?;
        }
        for (name, conv) in &mut self.local.0 {
            y = y + cx.child(name, conv, maps)?;
        }
        (y.reshape(&shape) * weights).checked()
    }
}

impl Module for ConvFfn {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("ffn_fc1", &mut self.ffn_fc1, x)?;
        cx.child("ffn_fc2", &mut self.ffn_fc2, x)
    }
}

impl Module for Unit {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("norm1", &mut self.norm1, x)?;
        let x = x + cx.child("repmlp_block", &mut self.repmlp_block, y)?;
        let y = cx.child("norm2", &mut self.norm2, x)?;
        (x + cx.child("ffn_block", &mut self.ffn_block, y)?).checked()
    }
}
