//! Conformer (Peng et al. 2021, <https://arxiv.org/abs/2105.03889>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::arch::{Arch, ArchConfig};
use super::common::{begins_at_zero, drop_path_rates, last_only, last_stage};
use super::vision_transformer::{TransformerEncoderLayer, VisionTransformerArch, VisionTransformerConfig};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::nn::init::{Init, Kaiming, TruncNormal};
use crate::nn::{
    AvgPool2d, BatchNorm2d, Child, ChildMut, Conv2d, DropPath, Forward, LayerNorm, MaxPool2d, Module,
    ModuleTree, Param, Upsample, Var, corner_padding,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: Conformer, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConformerConfig {
    /// `tiny`, `small` or `base`; or a mapping with `embed_dims`, `channel_ratio`, `num_heads` and `depths`.
    pub arch: ArchConfig<ConformerArch>,
    /// Size of the patches of the transformer, a multiple of 16.
    #[schemars(range(min = 16, max = 1024))]
    pub patch_size: usize,
    /// Channels of the first stage of convolutions, times `channel_ratio`; a multiple of 4.
    #[schemars(range(min = 4, max = 1_048_576))]
    pub base_channels: usize,
    /// By how much the feed-forward networks widen a token.
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub mlp_ratio: f64,
    /// Whether query, key and value have an offset.
    pub qkv_bias: bool,
    /// Probability with which the last block's branches are left out in training; it grows from 0 at the first.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path_rate: f64,
    /// Accepted if it names the last block, whose output is the network's.
    #[schemars(extend("x-unbounded" = true))]
    pub out_indices: OneOrMany<i64>,
}

impl Default for ConformerConfig {
    fn default() -> Self {
        Self {
            arch: ArchConfig::default(),
            patch_size: 16,
            base_channels: 64,
            mlp_ratio: 4.0,
            qkv_bias: true,
            drop_path_rate: 0.0,
            out_indices: last_stage(),
        }
    }
}

/// The sizes of a Conformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ConformerArch {
    /// Size of a token.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub embed_dims: usize,
    /// How many times `base_channels` the convolutions have.
    #[schemars(range(min = 1, max = 1024))]
    pub channel_ratio: usize,
    /// Heads of each attention, a divisor of `embed_dims`.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Blocks, a multiple of 3.
    #[schemars(range(min = 3, max = 999))]
    pub depths: usize,
}

impl Default for ConformerArch {
    fn default() -> Self {
        Self { embed_dims: 384, channel_ratio: 1, num_heads: 6, depths: 12 }
    }
}

impl Arch for ConformerArch {
    fn names() -> Vec<(&'static str, Self)> {
        let all = [
            (["t", "tiny"], Self::default()),
            (["s", "small"], Self { channel_ratio: 4, ..Self::default() }),
            (["b", "base"], Self { embed_dims: 576, channel_ratio: 6, num_heads: 9, depths: 12 }),
        ];
        all.into_iter().flat_map(|(names, sizes)| names.map(|name| (name, sizes))).collect()
    }
}

/// Convolutions and a transformer side by side, which tell each other what they see in every block: images to the means of the
/// convolutions' features and the class token, one behind the other, for a `ConformerHead`.
///
/// Weight names are MMPretrain's: `conv1`, `trans_1.attn.qkv`, `conv_trans_2.squeeze_block.conv_project`, `trans_norm`.
/// 23,524,704 parameters (`tiny`) with its head for 1000 classes.
pub struct Conformer {
    cls_token: Param,
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv_1: ConvBlock,
    trans_patch_conv: Conv2d,
    trans_1: TransformerEncoderLayer,
    trans_norm: LayerNorm,
    blocks: Named,
    step: usize,
    init: Vec<Init>,
}

/// The blocks behind the first, `conv_trans_2` and so on.
struct Named(Vec<ConvTrans>);

module!(
    Conformer { cls_token, conv1, bn1, conv_1, trans_patch_conv, trans_1, trans_norm, ..blocks },
    init_cfg = init
);

impl ModuleTree for Named {
    fn type_name(&self) -> &'static str {
        "ModuleList"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        self.0.iter().enumerate().for_each(|(i, block)| f(&named(i), Child::Module(block)));
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        self.0.iter_mut().enumerate().for_each(|(i, block)| f(&named(i), ChildMut::Module(block)));
    }
}

fn named(i: usize) -> String {
    format!("conv_trans_{}", i + 2)
}

register! { /// Conformer: the features of its convolutions and its class token side by side, for a `ConformerHead`.
dyn Module, "Conformer" => fn Conformer::from_config }

impl Conformer {
    fn from_config(p: ConformerConfig, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When sizes are 0 or do not divide each other.
    pub fn new(p: &ConformerConfig) -> Result<Self> {
        let ConformerArch { embed_dims, channel_ratio, num_heads, depths } = p.arch.0;
        if depths == 0 || !depths.is_multiple_of(3) || depths > 999 {
            return Err(Error::config(format!("`depths: {depths}` is a multiple of 3, up to 999")));
        }
        if p.patch_size == 0 || !p.patch_size.is_multiple_of(16) || !p.base_channels.is_multiple_of(4) {
            return Err(Error::config(format!(
                "`patch_size: {}` is a multiple of 16, and `base_channels: {}` one of 4",
                p.patch_size, p.base_channels
            )));
        }
        // MMPretrain counts from 1.
        last_only(&p.out_indices, depths.saturating_add(1))?;
        let arch = VisionTransformerArch {
            embed_dims,
            num_layers: depths,
            num_heads,
            feedforward_channels: (embed_dims as f64 * p.mlp_ratio) as usize,
        };
        let usual = VisionTransformerConfig {
            arch: ArchConfig(arch),
            qkv_bias: p.qkv_bias,
            ..VisionTransformerConfig::default()
        };
        let step = p.patch_size / 4;
        let mut rates = drop_path_rates(p.drop_path_rate, depths);
        let mut trans = || {
            let rate = rates.next().unwrap_or_default();
            Ok::<_, Error>((TransformerEncoderLayer::new(&usual, rate)?, rate))
        };
        let first = p.base_channels.saturating_mul(channel_ratio);
        let (trans_1, _) = trans()?;
        let (mut from, mut blocks) = (first, Vec::new());
        for i in 2..=depths {
            let stage = (i - 1) / (depths / 3);
            let begins = stage > 0 && (i - 1) % (depths / 3) == 0;
            let to = first.saturating_mul(1 << stage);
            let (trans_block, rate) = trans()?;
            let (inner, step) = (to / 4, step >> stage);
            blocks.push(ConvTrans {
                cnn_block: ConvBlock::new([from, to], if begins { 2 } else { 1 }, begins, 0.0),
                fusion_block: match i == depths {
                    true => ConvBlock::new([to, to], 2, true, rate),
                    false => ConvBlock::new([to, to], 1, false, rate),
                },
                squeeze_block: Down {
                    conv_project: Conv2d::new(inner, embed_dims, 1),
                    ln: LayerNorm::new(embed_dims).eps(1e-6),
                },
                expand_block: Up {
                    conv_project: Conv2d::new(embed_dims, inner, 1),
                    bn: BatchNorm2d::new(inner).eps(1e-6),
                },
                trans_block,
                step,
            });
            from = to;
        }
        let rule = || TruncNormal { std: 0.02, ..TruncNormal::default() };
        Ok(Self {
            cls_token: Param::init(&[1, 1, embed_dims], rule()),
            conv1: Conv2d::new(3, 64, 7).stride(2).padding(3).bias(false),
            bn1: BatchNorm2d::new(64),
            conv_1: ConvBlock::new([64, first], 1, true, 0.0),
            trans_patch_conv: Conv2d::new(64, embed_dims, step).stride(step),
            trans_1,
            trans_norm: LayerNorm::new(embed_dims),
            blocks: Named(blocks),
            step,
            init: vec![Init::new(rule()).layer("Linear"), Init::new(Kaiming::default()).layer("Conv2d")],
        })
    }
}

impl Module for Conformer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("conv1", &mut self.conv1, x)?;
        let x = cx.child("bn1", &mut self.bn1, x)?.relu().checked()?;
        let base = MaxPool2d::new(3).stride(2).padding(1).forward(x, cx)?;
        let base = corner_padding(base, self.step, self.step);
        let (mut x, _) = self.conv_1.forward("conv_1", base, None, cx)?;
        let patches = cx.child("trans_patch_conv", &mut self.trans_patch_conv, base)?;
        let cls = x.tape().param(&self.cls_token);
        let mut tokens = cx.child("trans_1", &mut self.trans_1, patches.embed_tokens(Some(cls), None))?;
        for (i, block) in self.blocks.0.iter_mut().enumerate() {
            (x, tokens) = block.forward(&named(i), x, tokens, cx)?;
        }
        let mean = x.global_avg_pool();
        let mean = mean.flatten(1, -1);
        let cls = cx.child("trans_norm", &mut self.trans_norm, tokens)?.select(1, 0);
        x.tape().concat(&[mean, cls], 1).checked()
    }
}

/// Convolutions of 1 × 1, 3 × 3 and 1 × 1 beside a shortcut.
struct ConvBlock {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    conv3: Conv2d,
    bn3: BatchNorm2d,
    residual_conv: Option<Conv2d>,
    residual_bn: Option<BatchNorm2d>,
    drop_path: DropPath,
    init: Vec<Init>,
}

/// A block of each kind, what the convolutions tell the transformer, and what it tells them.
struct ConvTrans {
    cnn_block: ConvBlock,
    fusion_block: ConvBlock,
    squeeze_block: Down,
    expand_block: Up,
    trans_block: TransformerEncoderLayer,
    /// By how much the map of the convolutions is larger than that of the tokens.
    step: usize,
}

struct Down {
    conv_project: Conv2d,
    ln: LayerNorm,
}

struct Up {
    conv_project: Conv2d,
    bn: BatchNorm2d,
}

module!(
    ConvBlock { conv1, bn1, conv2, bn2, conv3, bn3, residual_conv, residual_bn, drop_path },
    init_cfg = init
);
module!(ConvTrans { cnn_block, fusion_block, squeeze_block, expand_block, trans_block });
module!(Down { conv_project, ln });
module!(Up { conv_project, bn });

impl ConvBlock {
    fn new([from, to]: [usize; 2], stride: usize, residual: bool, drop_path: f64) -> Self {
        let (inner, norm) = (to / 4, |channels| BatchNorm2d::new(channels).eps(1e-6));
        let conv = |from, to, kernel: usize| Conv2d::new(from, to, kernel).padding(kernel / 2).bias(false);
        Self {
            conv1: conv(from, inner, 1),
            bn1: norm(inner),
            conv2: conv(inner, inner, 3).stride(stride),
            bn2: norm(inner),
            conv3: conv(inner, to, 1),
            bn3: norm(to),
            residual_conv: residual.then(|| conv(from, to, 1).stride(stride)),
            residual_bn: residual.then(|| norm(to)),
            drop_path: DropPath::new(drop_path),
            init: begins_at_zero("bn3"),
        }
    }

    /// The output, and what the middle convolution gives; `more` is added to what it gets.
    fn forward<'t>(
        &mut self,
        path: &str,
        x: Var<'t>,
        more: Option<Var<'t>>,
        cx: &mut Forward<'_>,
    ) -> Result<(Var<'t>, Var<'t>)> {
        let mut middle = x;
        let y = cx.within(path, self, x, |own, cx| {
            let y = cx.child("conv1", &mut own.conv1, x)?;
            let y = cx.child("bn1", &mut own.bn1, y)?.relu();
            let y = cx.child("conv2", &mut own.conv2, more.map_or(y, |more| y + more))?;
            middle = cx.child("bn2", &mut own.bn2, y)?.relu();
            let y = cx.child("conv3", &mut own.conv3, middle)?;
            let y = cx.child("bn3", &mut own.bn3, y)?;
            let y = own.drop_path.forward(y, cx)?;
            let shortcut = match (&mut own.residual_conv, &mut own.residual_bn) {
                (Some(conv), Some(bn)) => {
                    let x = cx.child("residual_conv", conv, x)?;
                    cx.child("residual_bn", bn, x)?
                }
                _ => x,
            };
            (y + shortcut).relu().checked()
        })?;
        Ok((y, middle))
    }
}

impl ConvTrans {
    fn forward<'t>(
        &mut self,
        path: &str,
        x: Var<'t>,
        tokens: Var<'t>,
        cx: &mut Forward<'_>,
    ) -> Result<(Var<'t>, Var<'t>)> {
        let mut told = tokens;
        let y = cx.within(path, self, x, |own, cx| {
            let step = own.step;
            let (x, middle) = own.cnn_block.forward("cnn_block", x, None, cx)?;
            let [h, w] = [2, 3].map(|axis| middle.shape()[axis] / step);
            let Down { conv_project, ln } = &mut own.squeeze_block;
            let map = cx.child("squeeze_block.conv_project", conv_project, middle)?;
            let map = AvgPool2d::new(step).forward(map, cx)?;
            let seen = cx.child("squeeze_block.ln", ln, map.embed_tokens(None, None))?.gelu();
            let with_cls = x.tape().concat(&[tokens.slice(1, ..1), seen], 1);
            told = cx.child("trans_block", &mut own.trans_block, with_cls + tokens)?;
            let Up { conv_project, bn } = &mut own.expand_block;
            let map = cx.child("expand_block.conv_project", conv_project, told.token_planes([h, w]))?;
            let map = cx.child("expand_block.bn", bn, map)?.relu().checked()?;
            let more = Upsample::size([h * step, w * step]).forward(map, cx)?;
            Ok(own.fusion_block.forward("fusion_block", x, Some(more), cx)?.0)
        })?;
        Ok((y, told))
    }
}
