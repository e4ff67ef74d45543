//! Sizes and costs that papers and pages publish.

use super::*;

/// The counts of torchvision's models, and MMPretrain's where torchvision has none.
#[test]
fn the_networks_are_as_large_as_published() {
    let linear =
        |features: usize| json!({"type": "LinearClsHead", "num_classes": 1000, "in_channels": features});
    let (bare, mean) = (json!({"type": "ClsHead"}), json!({"type": "GlobalAveragePooling"}));
    let cases = [
        (json!({"type": "ResNet", "depth": 34}), linear(512), 21_797_672),
        (json!({"type": "ResNet", "depth": 101}), linear(2048), 44_549_160),
        (json!({"type": "ResNet", "depth": 152}), linear(2048), 60_192_808),
        (json!({"type": "ResNeXt", "depth": 101, "width_per_group": 8}), linear(2048), 88_791_336),
        (
            json!({"type": "ResNet", "depth": 50, "stem_channels": 64, "base_channels": 128, "expansion": 2}),
            linear(2048),
            68_883_240,
        ),
        (json!({"type": "VGG", "depth": 16, "num_classes": 1000}), bare.clone(), 138_357_544),
        (json!({"type": "VGG", "depth": 11, "num_classes": 1000}), bare.clone(), 132_863_336),
        (json!({"type": "AlexNet", "num_classes": 1000}), bare.clone(), 61_100_840),
        (json!({"type": "DenseNet", "arch": "161"}), linear(2208), 28_681_000),
        (json!({"type": "DenseNet", "arch": "201"}), linear(1920), 20_013_928),
        (json!({"type": "ShuffleNetV2", "widen_factor": 0.5}), linear(1024), 1_366_792),
        (json!({"type": "ShuffleNetV2", "widen_factor": 2.0}), linear(2048), 7_393_996),
        (json!({"type": "EfficientNet", "arch": "b1"}), linear(1280), 7_794_184),
        (json!({"type": "EfficientNet", "arch": "b3"}), linear(1536), 12_233_232),
        (json!({"type": "EfficientNet", "arch": "es"}), linear(1280), 5_438_392),
        (json!({"type": "EfficientNet", "arch": "el"}), linear(1536), 10_586_560),
        (json!({"type": "EfficientNetV2", "arch": "s"}), linear(1280), 21_458_488),
        (json!({"type": "EfficientNetV2", "arch": "b3"}), linear(1536), 14_358_406),
        (json!({"type": "ConvNeXt", "arch": "base"}), linear(1024), 88_591_464),
        (
            json!({"type": "ConvNeXt", "arch": "tiny", "use_grn": true, "layer_scale_init_value": 0.0}),
            linear(768),
            28_635_496,
        ),
        (json!({"type": "RepVGG", "arch": "B1g4", "deploy": true}), linear(2048), 36_125_416),
        (json!({"type": "RepVGG", "arch": "B2g4", "deploy": true}), linear(2560), 55_777_512),
        (json!({"type": "PoolFormer", "arch": "s12"}), linear(512), 11_915_176),
        (json!({"type": "PoolFormer", "arch": "m36"}), linear(768), 56_172_520),
        (json!({"type": "RIFormer", "arch": "s12", "deploy": true}), linear(512), 11_915_176),
        (json!({"type": "RegNet", "arch": "regnetx_400mf"}), linear(384), 5_157_512),
        (json!({"type": "RegNet", "arch": "regnetx_3.2gf"}), linear(1008), 15_296_552),
        (json!({"type": "RegNet", "arch": "regnetx_12gf"}), linear(2240), 46_106_056),
        (json!({"type": "RepVGG", "arch": "D2se"}), linear(2560), 133_334_836),
        (json!({"type": "VAN", "arch": "tiny"}), linear(256), 4_105_800),
        (json!({"type": "VAN", "arch": "base"}), linear(512), 26_578_472),
        (json!({"type": "ConvMixer", "arch": "768/32"}), linear(768), 21_110_248),
        (json!({"type": "ConvMixer", "arch": "1536/20"}), linear(1536), 51_625_960),
        (json!({"type": "MobileOne", "arch": "s0"}), linear(1024), 5_293_272),
        (json!({"type": "MobileOne", "arch": "s4"}), linear(2048), 14_951_248),
        (json!({"type": "MobileOne", "arch": "s0", "deploy": true}), linear(1024), 2_078_504),
        (
            json!({"type": "Res2Net", "depth": 50, "scales": 8, "base_width": 14, "deep_stem": false, "avg_down": false}),
            linear(2048),
            25_059_816,
        ),
        (json!({"type": "ResNeSt", "depth": 50}), linear(2048), 27_483_240),
        (json!({"type": "ResNeSt", "depth": 269, "stem_channels": 128}), linear(2048), 110_929_480),
        (json!({"type": "RepLKNet", "arch": "31B"}), linear(1024), 79_864_168),
        (json!({"type": "RepLKNet", "arch": "XL"}), linear(2048), 335_435_752),
        (json!({"type": "RepMLPNet", "arch": "B"}), linear(768), 68_240_762),
        (json!({"type": "RepMLPNet", "arch": "B", "deploy": true}), linear(768), 68_332_664),
        (json!({"type": "CSPDarkNet", "depth": 53}), linear(1024), 27_642_184),
        (json!({"type": "CSPResNet", "depth": 50}), linear(1024), 21_616_168),
        (json!({"type": "CSPResNeXt", "depth": 50}), linear(2048), 20_569_896),
        (json!({"type": "SwinTransformer", "arch": "tiny"}), linear(768), 28_288_354),
        (json!({"type": "SwinTransformer", "arch": "base"}), linear(1024), 87_768_224),
        (json!({"type": "SwinTransformerV2", "arch": "tiny"}), linear(768), 28_347_154),
        (json!({"type": "SwinTransformerV2", "arch": "base"}), linear(1024), 87_918_816),
        (json!({"type": "MViT", "arch": "tiny"}), linear(768), 24_173_320),
        (json!({"type": "DaViT", "arch": "t"}), linear(768), 28_360_168),
        (json!({"type": "HiViT", "arch": "tiny", "rpe": true}), linear(384), 19_180_900),
        (
            json!({"type": "PCPVT", "qkv_bias": true, "norm_after_stage": [false, false, false, true]}),
            linear(512),
            24_106_216,
        ),
        (
            json!({"type": "SVT", "qkv_bias": true, "norm_after_stage": [false, false, false, true]}),
            linear(512),
            24_060_776,
        ),
        (json!({"type": "MobileViT", "arch": "small"}), linear(640), 5_578_632),
    ];
    let deit = |backbone: &str, head: &str, arch: &str, features: usize| {
        let head = json!({"type": head, "num_classes": 1000, "in_channels": features});
        (json!({"type": backbone, "arch": arch}), head)
    };
    let xcit = |patch: usize, dims: usize, heads: usize, normed: bool| {
        let backbone = json!({
            "type": "XCiT", "patch_size": patch, "embed_dims": dims, "num_heads": heads, "tokens_norm": normed,
        });
        (backbone, linear(dims))
    };
    let vig = |backbone: &str, arch: &str, features: usize| {
        let head = json!({"type": "VigClsHead", "num_classes": 1000, "in_channels": features});
        (json!({"type": backbone, "arch": arch}), head)
    };
    let bare = [
        (deit("DistilledVisionTransformer", "DeiTClsHead", "deit-tiny", 192), 5_910_800),
        (deit("DistilledVisionTransformer", "DeiTClsHead", "deit-base", 768), 87_338_192),
        (deit("DeiT3", "VisionTransformerClsHead", "small", 384), 22_059_496),
        (deit("DeiT3", "VisionTransformerClsHead", "medium", 512), 38_849_512),
        (xcit(16, 128, 4, false), 3_053_224),
        (xcit(8, 192, 4, true), 6_706_504),
        (xcit(16, 384, 8, true), 26_253_304),
        ((json!({"type": "EdgeNeXt", "arch": "xxsmall"}), linear(168)), 1_327_216),
        ((json!({"type": "EdgeNeXt", "arch": "base"}), linear(584)), 18_511_292),
        ((json!({"type": "HorNet", "arch": "tiny"}), linear(512)), 22_409_512),
        ((json!({"type": "HorNet", "arch": "tiny-gf"}), linear(512)), 22_991_848),
        ((json!({"type": "InceptionV3"}), json!({"type": "ClsHead"})), 23_834_568),
        (vig("Vig", "tiny", 192), 7_184_744),
        (vig("Vig", "base", 640), 86_841_832),
        (vig("PyramidVig", "tiny", 384), 12_486_314),
        (vig("PyramidVig", "base", 1024), 95_213_258),
        ((json!({"type": "TinyViT", "arch": "5m"}), linear(320)), 5_392_764),
        ((json!({"type": "BEiTViT"}), linear(768)), 86_530_984),
        (
            (
                json!({"type": "ViTEVA02", "img_size": 336, "patch_size": 14, "out_type": "avg_featmap", "final_norm": false}),
                linear(192),
            ),
            5_758_888,
        ),
        ((json!({"type": "RevVisionTransformer", "arch": "deit-small"}), linear(768)), 22_434_664),
        (
            (
                json!({"type": "T2T_ViT"}),
                json!({"type": "VisionTransformerClsHead", "num_classes": 1000, "in_channels": 384}),
            ),
            21_465_422,
        ),
        ((json!({"type": "TNT", "arch": "s"}), linear(384)), 23_755_336),
    ];
    let all = cases.into_iter().map(|(backbone, head, wanted)| (backbone, Some(mean.clone()), head, wanted));
    let bare = bare.into_iter().map(|((backbone, head), wanted)| (backbone, None, head, wanted));
    for (backbone, neck, head, wanted) in all.chain(bare) {
        let mut config = Map::new();
        config.insert("backbone".into(), backbone);
        config.extend(neck.map(|neck| ("neck".into(), neck)));
        config.insert("head".into(), head);
        assert_eq!(parameters(&net(&config)), wanted, "{:?}", config["backbone"]);
    }
}

/// The products of attention and of the second half of a block stand in their own rows.
#[test]
fn blocks_of_transformers_tell_what_they_cost() {
    let cases = cases();
    let rows = |name: &str, wanted: &[(&str, usize)]| {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let images = case.images(1);
        let run =
            |net: &mut Net, tape: &Tape, cx: &mut Forward<'_>| net.forward(tape.input(images), cx).map(drop);
        let (_, traced) =
            Autograd::default().trace(&mut net(&case.config), &mut keyed(0, "zoo", 0, 0), run).unwrap();
        for (path, wanted) in wanted {
            let row = traced.iter().find(|row| row.path == *path);
            let found = row.map(|row| row.work.multiply_adds as usize);
            assert_eq!(found, Some(*wanted), "{name}: {path}");
        }
    };
    // 17 tokens of 24 features; 48 in between.
    let (t, d) = (17, 24);
    rows(
        "ViT",
        &[
            ("backbone.layers.0.attn", 4 * t * d * d + 2 * t * t * d),
            ("backbone.layers.0.attn.qkv", 3 * t * d * d),
            ("backbone.layers.0.ffn.layers.0.0", t * d * 48),
            ("backbone.layers.0.ffn.layers.1", t * 48 * d),
            ("backbone.layers.0", 4 * t * d * d + 2 * t * t * d + 2 * t * d * 48),
        ],
    );
    // 15 × 15 patches in 64 windows of 2 × 2.
    let (windows, t, d) = (64, 4, 24);
    rows("Swin", &[("backbone.stages.0.blocks.0.attn", windows * (4 * t * d * d + 2 * t * t * d))]);
}

/// torchvision's pages say GFLOPS, by which they mean these multiply-adds of an image of 224 × 224.
#[test]
fn the_networks_cost_what_is_published() {
    let linear =
        |features: usize| json!({"type": "LinearClsHead", "num_classes": 1000, "in_channels": features});
    let cases = [
        (json!({"type": "ResNet", "depth": 18}), linear(512), 1_814_073_344),
        (json!({"type": "ResNet", "depth": 50}), linear(2048), 4_089_184_256),
        (json!({"type": "MobileNetV2"}), linear(1280), 300_774_272),
    ];
    for (backbone, head, wanted) in cases {
        let mut config = Map::new();
        config.insert("backbone".into(), backbone);
        config.insert("neck".into(), json!({"type": "GlobalAveragePooling"}));
        config.insert("head".into(), head);
        let image = Tensor::zeros(IxDyn(&[1, 3, 224, 224]));
        let run =
            |net: &mut Net, tape: &Tape, cx: &mut Forward<'_>| net.forward(tape.input(image), cx).map(drop);
        let (_, traced) =
            Autograd::default().trace(&mut net(&config), &mut keyed(0, "zoo", 0, 0), run).unwrap();
        assert_eq!(traced[0].work.multiply_adds, wanted, "{:?}", config["backbone"]);
    }
}
