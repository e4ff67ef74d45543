//! What transformers are made of.

use rand::RngExt as _;
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::config::OneOrMany;
use shanty::model::{ArchCfg, OutType, VisionTransformer, VisionTransformerArch, VisionTransformerParams};
use shanty::nn::{
    AttentionOptions, FFN, Forward, LayerNorm, LayerNormCfg, LayerNormName, LayerNormParams, Module,
    MultiheadAttention, MultiheadAttentionParams, Pair, Param, PatchEmbed, PatchEmbedParams, Var,
};
use shanty::params::HostParams;
use shanty::parts;

use super::probe::{Op, check, random};

#[test]
fn layer_norm() {
    let p = LayerNormParams::new;
    check("tokens", random(&[2, 3, 5]), true, LayerNorm::new(&p(5)).unwrap());
    let images = LayerNormParams { normalized_shape: OneOrMany(vec![3, 4]), ..p(0) };
    check("two axes", random(&[2, 3, 4]), true, LayerNorm::new(&images).unwrap());
    let plain = LayerNormParams { elementwise_affine: false, ..p(33) };
    check("not affine", random(&[4, 33]), true, LayerNorm::new(&plain).unwrap());
    let unshifted = LayerNormParams { bias: false, ..p(4) };
    check("not shifted", random(&[3, 4]), true, LayerNorm::new(&unshifted).unwrap());
}

/// One tensor as query, key and value, so that its gradient holds all three; masks, dropout, and only some tokens that ask.
#[test]
fn attention() {
    let p = MultiheadAttentionParams::new;
    check("heads", random(&[2, 5, 6]), true, MultiheadAttention::new(&p(6, 3)).unwrap());
    let dropping = MultiheadAttentionParams { attn_drop: 0.3, proj_drop: 0.3, qkv_bias: false, ..p(4, 2) };
    check("dropout", random(&[2, 4, 4]), true, MultiheadAttention::new(&dropping).unwrap());
    fn causal() -> AttentionOptions {
        let bias = Tensor::from_shape_fn(vec![4, 4], |i| if i[1] > i[0] { Elem::NEG_INFINITY } else { 0.1 });
        AttentionOptions { bias: Some(bias), ..AttentionOptions::new(2) }
    }
    check("packed", random(&[2, 4, 12]), true, {
        Op(|x| x.attention_packed(&causal(), &mut keyed(9, "gradcheck", 0, 0)))
    });
    check("two ask", random(&[2, 4, 12]), true, {
        Op(|x| {
            let options = AttentionOptions { queries: Some(2), ..AttentionOptions::new(2) };
            x.attention_packed(&options, &mut keyed(9, "gradcheck", 0, 0))
        })
    });
    check("separate", random(&[2, 4, 6]), true, {
        Op(|x| x.tanh().attention(x, x.scale(0.5), &causal(), &mut keyed(9, "gradcheck", 0, 0)))
    });
    check("to fewer", random(&[2, 3, 4]), true, {
        Op(|x| {
            let q = x.reshape(&[2, 6, 2])?;
            q.attention(q, x.reshape(&[2, 6, 2])?, &AttentionOptions::new(1), &mut keyed(9, "", 0, 0))
        })
    });
}

#[test]
fn tokens() {
    struct Embed {
        cls: Option<Param>,
        pos: Option<Param>,
    }
    parts!(Embed { cls, pos });
    impl Module for Embed {
        fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
            let tape = x.tape();
            x.embed_tokens(self.cls.as_ref().map(|p| tape.param(p)), self.pos.as_ref().map(|p| tape.param(p)))
        }
    }
    for (cls, tokens) in [(true, 7), (false, 6)] {
        for pos in [true, false] {
            let cls = cls.then(|| Param::new(random(&[1, 1, 4])));
            let pos = pos.then(|| Param::new(random(&[1, tokens, 4])));
            check("embedding", random(&[3, 4, 2, 3]), true, Embed { cls, pos });
        }
    }
    check("one token", random(&[2, 3, 4]), true, Op(|x| x.token(1)));
    check("mean", random(&[2, 3, 4]), true, Op(|x| x.token_mean(1)));
    check("map", random(&[2, 7, 4]), true, Op(|x| x.token_planes([2, 3])));
    let p = PatchEmbedParams {
        norm_cfg: Some(LayerNormCfg { kind: LayerNormName::LN, eps: 1e-2 }),
        ..PatchEmbedParams::new(2, 3, 2)
    };
    check("patches", random(&[2, 2, 4, 6]), true, PatchEmbed::new(&p).unwrap());
}

#[test]
fn feed_forward() {
    struct Frozen(FFN);
    parts!(Frozen {});
    impl Module for Frozen {
        fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
            self.0.forward(x, cx)
        }
    }
    check("plain", random(&[2, 3, 4]), true, FFN::new(4, 6, 0.0));
    check("dropout", random(&[2, 3, 4]), true, FFN::new(4, 6, 0.3));
    let mut frozen = FFN::new(4, 6, 0.0);
    shanty::nn::set_trainable(&mut frozen, "layers", false).unwrap();
    check("frozen", random(&[2, 3, 4]), true, Frozen(frozen));
}

#[test]
fn vision_transformer() {
    let arch = VisionTransformerArch { embed_dims: 6, num_layers: 2, num_heads: 2, feedforward_channels: 8 };
    for out_type in [OutType::ClsToken, OutType::AvgFeatmap, OutType::Raw] {
        let mut net = VisionTransformer::new(&VisionTransformerParams {
            arch: ArchCfg(arch),
            img_size: Pair([4, 4]),
            patch_size: Pair([2, 2]),
            in_channels: 2,
            out_type,
            ..VisionTransformerParams::default()
        })
        .unwrap();
        let mut draw = keyed(3, "gradcheck", 0, 0);
        net.visit_mut(&mut |mut p| p.value.mapv_inplace(|v| v + draw.random_range(-0.3..0.3)));
        check("vision transformer", random(&[2, 2, 4, 4]), true, net);
    }
}
