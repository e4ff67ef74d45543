//! Networks of transformer-like blocks without attention, as in MMPretrain: PoolFormer (Yu et al. 2022,
//! <https://arxiv.org/abs/2111.11418>) and RIFormer (Wang et al. 2023, <https://arxiv.org/abs/2304.05659>).

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{Chain, bounded, drop_path_rates, scaled, three};
use crate::base::{Elem, Error, Result};
use crate::nn::{AvgPool2d, Conv2d, DropPath, Forward, GroupNorm, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: PoolFormer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolFormerConfig {
    /// `s12`, `s24`, `s36`, `m36` or `m48`; or a mapping with `layers` and `embed_dims`.
    pub arch: ArchConfig<MetaFormerArch>,
    /// Places of the means on each side, an odd number.
    #[schemars(range(min = 1, max = 255))]
    pub pool_size: Option<usize>,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
}

/// The keys of `{type: RIFormer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RIFormerConfig {
    /// `s12`, `s24`, `s36`, `m36` or `m48`; or a mapping with `layers` and `embed_dims`.
    pub arch: ArchConfig<MetaFormerArch>,
    /// Channels of the images.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub in_channels: usize,
    /// Probability with which the last block is left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Whether norm and affine map of each block are one norm, whose weights come from a trained network.
    pub deploy: bool,
}

impl Default for RIFormerConfig {
    fn default() -> Self {
        Self { arch: ArchConfig::default(), in_channels: three(), drop_path_rate: 0.0, deploy: false }
    }
}

/// The sizes of a [`PoolFormer`] or [`RIFormer`].
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct MetaFormerArch {
    /// Blocks of each of four stages.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub layers: [usize; 4],
    /// Channels of each stage; where they change, the map becomes half as large.
    #[schemars(inner(range(min = 1, max = 1_048_576)))]
    pub embed_dims: [usize; 4],
    /// By how much each stage's blocks widen the channels inside.
    #[serde(default = "fours")]
    #[schemars(inner(range(min = 1, max = 1024)))]
    pub mlp_ratios: [usize; 4],
    /// What the branches of each block are multiplied by at first.
    #[serde(default = "scale")]
    #[schemars(range(min = 0.0))]
    pub layer_scale_init_value: f64,
}

fn fours() -> [usize; 4] {
    [4; 4]
}

fn scale() -> f64 {
    1e-5
}

impl MetaFormerArch {
    fn of(sixths: usize, wide: bool, layer_scale_init_value: f64) -> Self {
        let layers = [sixths, sixths, 3 * sixths, sixths];
        let embed_dims = if wide { [96, 192, 384, 768] } else { [64, 128, 320, 512] };
        Self { layers, embed_dims, mlp_ratios: fours(), layer_scale_init_value }
    }
}

impl Default for MetaFormerArch {
    fn default() -> Self {
        Self::of(2, false, 1e-5)
    }
}

impl Arch for MetaFormerArch {
    fn names() -> Vec<(&'static str, Self)> {
        vec![
            ("s12", Self::default()),
            ("s24", Self::of(4, false, 1e-5)),
            ("s36", Self::of(6, false, 1e-6)),
            ("m36", Self::of(6, true, 1e-6)),
            ("m48", Self::of(8, true, 1e-6)),
        ]
    }
}

/// Blocks whose tokens look at the mean of their neighbours: images to 512 features (`s12`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: `patch_embed.proj`, `network.0.0.norm1`, `network.0.0.mlp.fc1`,
/// `network.1.proj`, `norm6`. 11,915,176 parameters (`s12`) with a linear layer for 1000 classes.
pub struct PoolFormer {
    layers: Chain,
}

/// Blocks whose tokens do not look at each other at all: images to 512 features (`s12`) of 1/32 of the size.
///
/// Weight names are MMPretrain's: as [`PoolFormer`]'s, and `network.0.0.token_mixer.affine`; deployed
/// `network.0.0.norm_reparam`.
pub struct RIFormer {
    layers: Chain,
}

module!(PoolFormer { ..layers });
module!(RIFormer { ..layers });

register! { /// PoolFormer, `s12` to `m48`: features of 1/32 of the size.
dyn Module, "PoolFormer" => fn PoolFormer::from_config }
register! { /// RIFormer, `s12` to `m48`: features of 1/32 of the size.
dyn Module, "RIFormer" => fn RIFormer::from_config }

impl PoolFormer {
    fn from_config(p: PoolFormerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When a size is 0, or `pool_size` is no odd number.
    pub fn new(p: &PoolFormerConfig) -> Result<Self> {
        let size = p.pool_size.unwrap_or(3);
        if size.is_multiple_of(2) {
            return Err(Error::config(format!("`pool_size: {size}` has no middle: it is an odd number")));
        }
        let layers = stages(&p.arch.0, three(), p.drop_path_rate, |_| Ok(Mixer::Pooling(size)))?;
        Ok(Self { layers })
    }
}

impl RIFormer {
    fn from_config(p: RIFormerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn new(p: &RIFormerConfig) -> Result<Self> {
        let affine = |dims| Conv2d::new(dims, dims, 1).groups(dims);
        let mixer = |dims| {
            Ok(if p.deploy { Mixer::None } else { Mixer::Affine(Box::new(Affine { affine: affine(dims) })) })
        };
        Ok(Self { layers: stages(&p.arch.0, p.in_channels, p.drop_path_rate, mixer)? })
    }
}

impl Module for PoolFormer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

impl Module for RIFormer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layers.forward(x, cx)
    }
}

/// The patches, stages of blocks with steps to smaller maps between them, and a norm.
fn stages(
    arch: &MetaFormerArch,
    in_channels: usize,
    drop_path: f64,
    mixer: impl Fn(usize) -> Result<Mixer>,
) -> Result<Chain> {
    let MetaFormerArch { layers, embed_dims, mlp_ratios, layer_scale_init_value } = arch.clone();
    bounded("layers", &layers, 1000)?;
    bounded("embed_dims", &embed_dims, 1 << 20)?;
    bounded("mlp_ratios", &mlp_ratios, 1024)?;
    bounded("in_channels", &[in_channels], 1 << 20)?;
    let mut rates = drop_path_rates(drop_path, layers.iter().sum());
    let (mut network, mut parts) = (Chain::default(), 0);
    for i in 0..4 {
        let mut stage = Chain::default();
        for j in 0..layers[i] {
            let [dims, inner] = [embed_dims[i], embed_dims[i].saturating_mul(mlp_ratios[i])];
            let rate = rates.next().unwrap_or_default();
            let block = Block::new(dims, inner, layer_scale_init_value, rate, mixer(dims)?);
            stage = stage.with(j.to_string(), block);
        }
        network = network.with(parts.to_string(), stage);
        parts += 1;
        if let Some(next) = embed_dims.get(i + 1).filter(|next| **next != embed_dims[i]) {
            let down = Patches { proj: Conv2d::new(embed_dims[i], *next, 3).stride(2).padding(1) };
            network = network.with(parts.to_string(), down);
            parts += 1;
        }
    }
    let proj = Conv2d::new(in_channels, embed_dims[0], 7).stride(4).padding(2);
    Ok(Chain::default()
        .with("patch_embed", Patches { proj })
        .with("network", network)
        .with("norm6", GroupNorm::new(1, embed_dims[3])))
}

/// A smaller map.
struct Patches {
    proj: Conv2d,
}

module!(Patches { proj });

impl Module for Patches {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        cx.child("proj", &mut self.proj, x)
    }
}

/// How the places of a map look at each other.
enum Mixer {
    /// At the mean of so many on each side, without themselves.
    Pooling(usize),
    /// Not at all: each channel is scaled and shifted.
    Affine(Box<Affine>),
    /// Not at all, and the norm before has taken the scaling over.
    None,
}

struct Affine {
    affine: Conv2d,
}

module!(Affine { affine });

/// `x + scale · mixer(norm1(x))`, and of that `x + scale · mlp(norm2(x))`.
struct Block {
    norm1: Option<GroupNorm>,
    norm_reparam: Option<GroupNorm>,
    token_mixer: Option<Affine>,
    /// Of the means, if it looks at any.
    pool: Option<AvgPool2d>,
    norm2: GroupNorm,
    mlp: Mlp,
    layer_scale_1: Param,
    layer_scale_2: Param,
    drop_path: DropPath,
}

/// Two convolutions of 1 × 1.
struct Mlp {
    fc1: Conv2d,
    fc2: Conv2d,
}

module!(Block { norm1, norm_reparam, token_mixer, norm2, mlp, layer_scale_1, layer_scale_2, drop_path });
module!(Mlp { fc1, fc2 });

impl Block {
    fn new(dims: usize, inner: usize, scale: f64, drop_path: f64, mixer: Mixer) -> Self {
        let norm = || GroupNorm::new(1, dims);
        let pool = |size| AvgPool2d::new(size).stride(1).padding(size / 2).count_include_pad(false);
        let (norm1, norm_reparam, token_mixer, pool) = match mixer {
            Mixer::Pooling(size) => (Some(norm()), None, None, Some(pool(size))),
            Mixer::Affine(affine) => (Some(norm()), None, Some(*affine), None),
            Mixer::None => (None, Some(norm()), None, None),
        };
        Self {
            norm1,
            norm_reparam,
            token_mixer,
            pool,
            norm2: norm(),
            mlp: Mlp { fc1: Conv2d::new(dims, inner, 1), fc2: Conv2d::new(inner, dims, 1) },
            layer_scale_1: Param::full(&[dims], scale as Elem),
            layer_scale_2: Param::full(&[dims], scale as Elem),
            drop_path: DropPath::new(drop_path),
        }
    }

    /// What the places see, or their norm alone.
    fn mixed<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if let Some(norm) = &mut self.norm_reparam {
            return cx.child("norm_reparam", norm, x);
        }
        let x = match &mut self.norm1 {
            Some(norm) => cx.child("norm1", norm, x)?,
            None => x,
        };
        let seen = match (&mut self.pool, &mut self.token_mixer) {
            (Some(pool), _) => pool.forward(x, cx)?,
            (None, Some(Affine { affine })) => cx.child("token_mixer.affine", affine, x)?,
            (None, None) => return Ok(x),
        };
        (seen - x).checked()
    }
}

impl Module for Mlp {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("fc1", &mut self.fc1, x)?.gelu();
        cx.child("fc2", &mut self.fc2, x)
    }
}

impl Module for Block {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = self.mixed(x, cx)?;
        let y = scaled(&self.layer_scale_1, y);
        let x = x + self.drop_path.forward(y, cx)?;
        let y = cx.child("norm2", &mut self.norm2, x)?;
        let y = scaled(&self.layer_scale_2, cx.child("mlp", &mut self.mlp, y)?);
        (x + self.drop_path.forward(y, cx)?).checked()
    }
}
