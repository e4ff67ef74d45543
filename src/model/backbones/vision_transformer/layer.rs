//! One block of the transformer.

use super::VisionTransformerConfig;
use crate::base::{Error, Result};
use crate::module;
use crate::nn::init::Init;
use crate::nn::{
    AttentionPosition, Child, ChildMut, DropPath, FFN, Field, Forward, LayerNorm, LayerScale, Module,
    ModuleTree, MultiheadAttention, MultiheadAttentionConfig, Var,
};

/// `x + attn(ln1(x))`, and of that `x + ffn(ln2(x))`.
pub struct TransformerEncoderLayer {
    ln1: LayerNorm,
    attn: Scaled<MultiheadAttention>,
    ln2: LayerNorm,
    ffn: Scaled<FFN>,
    drop_path: DropPath,
    first_only: bool,
}

module!(TransformerEncoderLayer { ln1, attn, ln2, ffn });

impl TransformerEncoderLayer {
    /// A block of the network that `p` describes, each branch of which is left out in training with the probability
    /// `drop_path`.
    ///
    /// # Errors
    /// When the heads do not divide the features, or the scale is no number.
    pub fn new(p: &VisionTransformerConfig, drop_path: f64) -> Result<Self> {
        let (arch, scale) = (p.arch.0, p.layer_scale_init_value);
        let dims = arch.embed_dims;
        if !scale.is_finite() {
            return Err(Error::config(format!(
                "`layer_scale_init_value: {scale}` is no number to begin with"
            )));
        }
        let norm = || p.norm_cfg.build(dims);
        let attn = MultiheadAttentionConfig {
            embed_dims: dims,
            num_heads: arch.num_heads,
            input_dims: None,
            attn_drop: 0.0,
            proj_drop: p.drop_rate,
            qkv_bias: p.qkv_bias,
            proj_bias: true,
            causal: false,
            position: AttentionPosition::None,
        };
        let ffn = FFN::new(dims, arch.feedforward_channels, p.drop_rate);
        Ok(Self {
            ln1: norm(),
            attn: Scaled::new(attn.build()?, "gamma1", dims, scale),
            ln2: norm(),
            ffn: Scaled::new(ffn, "gamma2", dims, scale),
            drop_path: DropPath::new(drop_path),
            first_only: false,
        })
    }

    /// The same, which gives what it makes of the first token, [N, D]: all that is needed of the last block where
    /// nothing else is looked at.
    #[must_use]
    pub fn first_only(self, first_only: bool) -> Self {
        Self { first_only, ..self }
    }

    /// Both branches, added to `to`, which is `x` or its first tokens.
    fn branches<'t>(&mut self, x: Var<'t>, to: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let drops = cx.training && self.drop_path.drop_prob > 0.0;
        let normed = self.ln1.forward(x, cx)?;
        let Self { attn, ffn, drop_path, .. } = self;
        // The branch alone is scaled and left out; else it is added while the product is in the cache.
        let x = match attn.gamma.is_some() || drops {
            false => attn.inner.forward_add(normed, to, cx)?,
            true => {
                let y = attn.inner.forward_add(normed, to.zeros_like(), cx)?;
                to + drop_path.forward(attn.scaled(y), cx)?
            }
        };
        let normed = self.ln2.forward(x, cx)?;
        match ffn.gamma.is_some() || drops {
            false => ffn.inner.forward_add(normed, x, cx),
            true => {
                let y = ffn.inner.forward_add(normed, x.zeros_like(), cx)?;
                (x + drop_path.forward(ffn.scaled(y), cx)?).checked()
            }
        }
    }
}

impl Module for TransformerEncoderLayer {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if !self.first_only {
            return self.branches(x, x, cx);
        }
        let first = x.select(1, 0).checked()?;
        let shape = first.shape();
        self.branches(x, first.unsqueeze(1), cx)?.reshape(&shape).checked()
    }
}

/// A branch whose result is multiplied by one trained number a feature, which is among its own weights in MMPretrain:
/// `gamma1.weight` of an attention.
struct Scaled<M> {
    inner: M,
    name: &'static str,
    gamma: Option<LayerScale>,
}

impl<M> Scaled<M> {
    fn new(inner: M, name: &'static str, dims: usize, scale: f64) -> Self {
        let gamma = (scale > 0.0).then(|| LayerScale::new(dims, scale));
        Self { inner, name, gamma }
    }

    fn scaled<'t>(&self, y: Var<'t>) -> Var<'t> {
        self.gamma.as_ref().map_or(y, |gamma| y * y.tape().param(&gamma.weight))
    }
}

impl<M: ModuleTree> ModuleTree for Scaled<M> {
    fn type_name(&self) -> &'static str {
        self.inner.type_name()
    }
    fn init_cfg(&self) -> &[Init] {
        self.inner.init_cfg()
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        self.inner.visit_children(f);
        self.gamma.visit(self.name, f);
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        self.inner.visit_children_mut(f);
        self.gamma.visit_mut(self.name, f);
    }
}
