//! What transformers are made of.

use rand::RngExt as _;
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::model::{ArchConfig, OutType, VisionTransformer, VisionTransformerArch, VisionTransformerConfig};
use shanty::module;
use shanty::nn::{
    AttentionOptions, FFN, Forward, LayerNorm, Module, MultiheadAttention, Pair, Param, PatchEmbed, Var,
};
use shanty::params::HostParams;

use super::probe::{Op, check, random};

#[test]
fn layer_norm() {
    check("tokens", random(&[2, 3, 5]), true, LayerNorm::new(5));
    check("two axes", random(&[2, 3, 4]), true, LayerNorm::over(&[3, 4]));
    check("not affine", random(&[4, 33]), true, LayerNorm::new(33).affine(false, false));
    check("not shifted", random(&[3, 4]), true, LayerNorm::new(4).affine(true, false));
}

/// One tensor as query, key and value, so that its gradient holds all three; masks, dropout, and only some tokens that
/// ask.
#[test]
fn attention() {
    check("heads", random(&[2, 5, 6]), true, MultiheadAttention::new(6, 3));
    let dropping = MultiheadAttention::new(4, 2).attn_drop(0.3).proj_drop(0.3).qkv_bias(false);
    check("dropout", random(&[2, 4, 4]), true, dropping);
    fn causal() -> AttentionOptions {
        let bias = Tensor::from_shape_fn(vec![4, 4], |i| if i[1] > i[0] { Elem::NEG_INFINITY } else { 0.1 });
        AttentionOptions { bias: Some(bias), ..AttentionOptions::new(2) }
    }
    check("packed", random(&[2, 4, 12]), true, {
        Op(|x| x.attention_packed(&causal(), &mut keyed(9, "gradcheck", 0, 0)).checked())
    });
    check("two ask", random(&[2, 4, 12]), true, {
        Op(|x| {
            let options = AttentionOptions { queries: Some(2), ..AttentionOptions::new(2) };
            x.attention_packed(&options, &mut keyed(9, "gradcheck", 0, 0)).checked()
        })
    });
    check("separate", random(&[2, 4, 6]), true, {
        Op(|x| Ok(x.tanh().attention(x, x * 0.5, &causal(), &mut keyed(9, "gradcheck", 0, 0))))
    });
    check("to fewer", random(&[2, 3, 4]), true, {
        Op(|x| {
            let q = x.reshape(&[2, 6, 2]);
            let options = AttentionOptions::new(1);
            Ok(q.attention(q, x.reshape(&[2, 6, 2]), &options, &mut keyed(9, "", 0, 0)))
        })
    });
}

#[test]
fn tokens() {
    struct Embed {
        cls: Option<Param>,
        pos: Option<Param>,
    }
    module!(Embed { cls, pos });
    impl Module for Embed {
        fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
            let tape = x.tape();
            x.embed_tokens(self.cls.as_ref().map(|p| tape.param(p)), self.pos.as_ref().map(|p| tape.param(p)))
                .checked()
        }
    }
    for (cls, tokens) in [(true, 7), (false, 6)] {
        for pos in [true, false] {
            let cls = cls.then(|| Param::new(random(&[1, 1, 4])));
            let pos = pos.then(|| Param::new(random(&[1, tokens, 4])));
            check("embedding", random(&[3, 4, 2, 3]), true, Embed { cls, pos });
        }
    }
    check("one token", random(&[2, 3, 4]), true, Op(|x| Ok(x.select(1, 1))));
    check("mean", random(&[2, 3, 4]), true, Op(|x| Ok(x.token_mean(1))));
    check("map", random(&[2, 7, 4]), true, Op(|x| Ok(x.token_planes([2, 3]))));
    let patches = PatchEmbed::new(2, 3, 2).norm(LayerNorm::new(3).eps(1e-2));
    check("patches", random(&[2, 2, 4, 6]), true, patches);
}

#[test]
fn feed_forward() {
    struct Frozen(FFN);
    module!(Frozen {});
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
        let mut net = VisionTransformer::new(&VisionTransformerConfig {
            arch: ArchConfig(arch),
            img_size: Pair([4, 4]),
            patch_size: Pair([2, 2]),
            in_channels: 2,
            out_type,
            ..VisionTransformerConfig::default()
        })
        .unwrap();
        let mut draw = keyed(3, "gradcheck", 0, 0);
        net.visit_mut(&mut |mut p| p.value.mapv_inplace(|v| v + draw.random_range(-0.3..0.3)));
        check("vision transformer", random(&[2, 2, 4, 4]), true, net);
    }
}
