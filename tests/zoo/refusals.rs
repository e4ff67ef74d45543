//! What the networks refuse, and with which words.

use super::*;
use shanty::config::parse;
use shanty::nn::checkpoint_activations;
use shanty::registry::{entries, example};

/// What does not fit is said with the remedy.
#[test]
fn what_is_not_there_is_said() {
    let said = |value: Value| build::<dyn Module>(&value).map(drop).unwrap_err().to_string();
    let cases = [
        (json!({"type": "ResNet", "depth": 51}), "18, 34, 50, 101, 152"),
        (json!({"type": "ResNeXt", "depth": 18}), "take 50, 101 or 152"),
        (json!({"type": "MobileNetV2", "frozen_stages": 8}), "frozen_stages"),
        (json!({"type": "ShuffleNetV2", "widen_factor": 0.75}), "0.5, 1.0, 1.5 or 2.0"),
        (json!({"type": "ShuffleNetV1", "groups": 5}), "1, 2, 3, 4 or 8"),
        (json!({"type": "DenseNet", "arch": "111"}), "121"),
        (json!({"type": "VGG", "depth": 12}), "11, 13, 16 or 19"),
        (json!({"type": "AlexNet", "num_classes": 0}), "`num_classes` is 0"),
        (json!({"type": "MlpMixer", "img_size": 30}), "no multiple"),
        (json!({"type": "PoolFormer", "pool_size": 4}), "an odd number"),
        (json!({"type": "RegNet", "arch": "regnetx_401mf"}), "did you mean `regnetx_400mf`?"),
        (
            json!({"type": "RegNet", "arch": {"w0": 16, "wa": 0.0, "wm": 2.0, "group_w": 8, "depth": 3}}),
            "has four stages",
        ),
        (json!({"type": "XCiT", "patch_size": 12}), "8 or 16"),
        (json!({"type": "XCiT", "num_heads": 7}), "does not divide"),
        (
            json!({"type": "DistilledVisionTransformer", "with_cls_token": false, "out_type": "raw"}),
            "has a class token",
        ),
        (json!({"type": "ConvMixer", "arch": "768/33"}), "did you mean `768/32`?"),
        (
            json!({"type": "ConvMixer", "arch": {"embed_dims": 8, "depth": 1, "patch_size": 7, "kernel_size": 4}}),
            "an odd number",
        ),
        (
            json!({"type": "EdgeNeXt", "arch": {"channels": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_heads": [1, 3, 1, 1]}}),
            "`num_heads: 3` does not divide",
        ),
        (
            json!({"type": "EdgeNeXt", "arch": {"channels": [8, 8, 8, 5], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}}),
            "do not split into 4 parts",
        ),
        (
            json!({"type": "HorNet", "arch": {"base_dim": 6, "depths": [1, 1, 1, 1], "orders": [3, 1, 1, 1],
                "dw_cfg": vec![json!({"type": "DW"}); 4]}}),
            "halve the channels 2 times",
        ),
        (json!({"type": "Res2Net", "depth": 100}), "50, 101, 152"),
        (json!({"type": "ResNeSt", "depth": 100}), "50, 101, 152, 200 or 269"),
        (
            json!({"type": "RepLKNet", "arch": {"large_kernel_sizes": [3, 3, 3, 3], "layers": [1, 1, 1, 1],
                "channels": [2, 2, 2, 2], "small_kernel": 5}}),
            "`small_kernel` is larger",
        ),
        (json!({"type": "RepMLPNet", "img_size": 30}), "no multiple of `patch_size"),
        (
            json!({"type": "RepMLPNet", "arch": {"channels": [6, 6, 6, 6], "depths": [1, 1, 1, 1],
                "sharesets_nums": [1, 4, 1, 1]}}),
            "`sharesets_nums: 4` does not divide",
        ),
        (json!({"type": "CSPResNet", "depth": 50, "in_channels": 0}), "at least"),
        (json!({"type": "InceptionV3", "aux_logits": true}), "`aux_logits: true`"),
        (json!({"type": "Vig", "arch": {"num_blocks": 1, "channels": 12}}), "no multiple of 8"),
        (json!({"type": "PyramidVig", "use_stochastic": true}), "they are not drawn"),
        (json!({"type": "HRFuseScales", "in_channels": [1, 2, 3, 4, 5]}), "at most 4 items"),
        (json!({"type": "SwinTransformerV2", "window_size": 1}), "at least 2"),
        (json!({"type": "TinyViT", "local_conv_size": 2}), "an odd number"),
        (json!({"type": "DaViT", "out_indices": [0, 1, 2, 3]}), "the last of 4 stages"),
        (json!({"type": "ViTEVA02", "img_size": 225}), "no multiple"),
        (json!({"type": "BEiTViT", "bias": "all"}), "`qv_bias`, true for all"),
        (json!({"type": "BEiTViT", "with_cls_token": false}), "counts on a class token"),
        (json!({"type": "PCPVT", "norm_after_stage": [true, false]}), "2 entries for 4 stages"),
        (json!({"type": "HiViT", "patch_size": 6}), "a multiple of 4"),
        (json!({"type": "EfficientFormer", "pool_size": 2}), "an odd number"),
        (json!({"type": "Conformer", "patch_size": 20}), "a multiple of 16"),
        (json!({"type": "ECA", "channels": 8, "kernel_size": 4}), "odd number"),
    ];
    for (config, wanted) in cases {
        let said = said(config.clone());
        assert!(said.contains(wanted), "{config}: {said}");
    }
}

/// An image that a network cannot take is an error that says which it can.
#[test]
fn images_that_do_not_fit_are_refused() {
    let cases = [
        (json!({"type": "AlexNet", "num_classes": 3}), 64, "224 × 224"),
        (json!({"type": "UNet", "base_channels": 2}), 40, "multiples of 16"),
        (json!({"type": "SwinTransformer"}), 32, "pad_small_map"),
        (json!({"type": "MlpMixer", "img_size": 32}), 64, "32 × 32"),
        (json!({"type": "DeiT3", "arch": "small", "img_size": 32}), 40, "32 × 32"),
        (json!({"type": "InceptionV3"}), 64, "75 × 75"),
        (json!({"type": "Vig", "arch": {"num_blocks": 1, "channels": 8}}), 64, "224 × 224"),
        (
            json!({"type": "RepMLPNet", "img_size": 32, "arch": {"channels": [4, 4, 4, 4], "depths": [1, 1, 1, 1],
                "sharesets_nums": [1, 1, 1, 1]}}),
            64,
            "32 × 32",
        ),
        (json!({"type": "HRFuseScales", "in_channels": [3, 6]}), 8, "made for 2 maps"),
        (json!({"type": "LeViT", "arch": "128s", "img_size": 64}), 32, "64 × 64"),
        (json!({"type": "EfficientFormer", "arch": "l1"}), 64, "224 × 224"),
        (json!({"type": "MViT", "arch": "tiny", "img_size": 64}), 32, "64 × 64"),
        (json!({"type": "T2T_ViT", "num_layers": 1}), 64, "set `img_size`"),
    ];
    for (config, size, wanted) in cases {
        let (mut net, _) = memory::accounted(true, 1, || build::<dyn Module>(&config).unwrap());
        let tape = Tape::without_grad(BufferPool::default());
        let mut rng = keyed(0, "zoo", 0, 0);
        let x = tape.input(Tensor::zeros(IxDyn(&[1, 3, size, size])));
        let y = net.forward(x, &mut Forward::new(false, &mut rng));
        let said = y.map(drop).unwrap_err().to_string();
        assert!(said.contains(wanted), "{config}: {said}");
    }
}

/// Each part of what a Conformer gives is compared with the head's: the sum of both is the same the wrong way round.
#[test]
fn a_conformer_head_the_wrong_way_round_is_refused() {
    let model = |widths: [usize; 2]| {
        let arch = json!({"embed_dims": 24, "channel_ratio": 1, "num_heads": 3, "depths": 6});
        let config = json!({
            "type": "ImageClassifier",
            "backbone": {"type": "Conformer", "arch": arch, "base_channels": 8},
            "head": {"type": "ConformerHead", "num_classes": 10, "in_channels": widths},
        });
        build::<dyn Model>(&config).map(drop)
    };
    model([32, 24]).unwrap();
    let said = model([24, 32]).unwrap_err().to_string();
    assert!(said.contains("the wrong way round, `in_channels: [32, 24]`"), "{said}");
    let said = model([30, 26]).unwrap_err().to_string();
    assert!(said.contains("set the second of `in_channels` to 24"), "{said}");
}

/// Without a head there is nothing to train by, but there are modules to look at.
#[test]
fn a_summary_needs_no_head() {
    let text = "model: {type: ImageClassifier, head: null,\n  \
                backbone: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 4}]}\n\
                train_dataloader: {batch_size: 2, dataset: {type: Synthetic, n: 4, shape: [3, 2, 2], classes: 2}}\n\
                optim_wrapper: {optimizer: {type: SGD, lr: 0.1}}\ntrain_cfg: {by_epoch: true, max_epochs: 1}\n";
    let found = shanty::run::summary(&shanty::config::parse("c.yaml", text).unwrap(), None).unwrap();
    assert!(found.step.is_none() && found.parameters == 52, "{found:?}");
    assert!(found.modules.iter().any(|row| row.path == "backbone"));
}

/// `with_cp` is taken by whatever has blocks; where it is refused, what the error advises works: it named a key that six
/// networks refuse too.
#[test]
fn what_is_advised_in_place_of_with_cp_works() {
    let made = |config: &str| {
        let spec: Spec<dyn Module> = parse("net.yaml", config).unwrap().read().unwrap();
        memory::accounted(true, 1, || spec.build(&mut BuildCx::new(0))).0
    };
    let (mut taken, mut advised, mut left) = (0, 0, 0);
    for entry in entries("module") {
        let plain = example(entry);
        let Some(open) = plain.strip_suffix('}').filter(|open| open.starts_with("{type")) else { continue };
        let said = match made(&format!("{open}, with_cp: true}}")) {
            Ok(_) => {
                taken += 1;
                continue;
            }
            Err(error) => error.to_string(),
        };
        assert!(said.contains("leave it out"), "{}: {said}", entry.name);
        let Some((_, places)) = said.split_once("of the config: ") else {
            left += 1;
            continue;
        };
        let mut net = made(&plain).unwrap();
        let places: Vec<&str> = places.split('`').skip(1).step_by(2).collect();
        assert!(!places.is_empty(), "{}: {said}", entry.name);
        for place in places {
            checkpoint_activations(&mut net, place).unwrap_or_else(|why| panic!("{}: {why}", entry.name));
        }
        advised += 1;
    }
    assert!(taken > 20 && advised > 0 && left > 10, "{taken} {advised} {left}");
}

/// `out_indices: -1` is the last stage in MMPretrain, of whatever has stages: some refused it, or knew no such key.
#[test]
fn the_last_stage_goes_by_minus_one_too() {
    let made = |config: String| -> Result<Box<dyn Module>> {
        let spec: Spec<dyn Module> = parse("net.yaml", &config)?.read()?;
        memory::accounted(true, 1, || spec.build(&mut BuildCx::new(0))).0
    };
    for (network, last) in [
        ("ResNet, depth: 18", Some(3)),
        ("ResNet_CIFAR, depth: 20", Some(2)),
        ("ResNeXt, depth: 50", Some(3)),
        ("Res2Net", Some(3)),
        ("ResNeSt", Some(3)),
        ("RegNet, arch: regnetx_400mf", Some(3)),
        ("RepVGG", Some(3)),
        ("RepMLPNet", Some(3)),
        ("RepLKNet", Some(3)),
        ("MobileOne", Some(3)),
        ("MobileViT", Some(4)),
        ("EdgeNeXt", Some(3)),
        ("DaViT", Some(3)),
        ("VisionTransformer, arch: deit-tiny", Some(11)),
        ("DistilledVisionTransformer, arch: deit-tiny", Some(11)),
        ("MlpMixer, arch: small", Some(7)),
        ("ConvMixer, arch: 768/32", Some(31)),
        ("ConvNeXt", Some(3)),
        ("SwinTransformer", Some(3)),
        ("SwinTransformerV2", Some(3)),
        ("HorNet", Some(3)),
        ("VAN", Some(3)),
        ("DenseNet", Some(3)),
        ("ShuffleNetV1", Some(2)),
        ("ShuffleNetV2", Some(3)),
        ("MobileNetV2", Some(7)),
        ("DeiT3", None),
        ("EfficientNet", None),
        ("PoolFormer", None),
        ("VGG, depth: 11", None),
    ] {
        let of = |at: &str| made(format!("{{type: {network}, out_indices: {at}}}"));
        for at in ["-1".to_owned(), "[-1]".to_owned()].into_iter().chain(last.map(|at| at.to_string())) {
            of(&at).unwrap_or_else(|why| panic!("{network} {at}: {why}"));
        }
        for at in ["0", "-9", "99", "[0, -1]"] {
            let said = of(at).map(drop).unwrap_err().to_string();
            assert!(said.contains("`out_indices"), "{said}");
            assert!(last.is_none() || said.contains("the output is that of the last"), "{said}");
        }
    }
}

/// Stages and blocks that are not there are none.
#[test]
fn blocks_beyond_the_last_are_refused() {
    let said = |indices: Value| {
        let arch = json!({"embed_dims": 8, "num_layers": 4, "num_heads": 1, "downscale_indices": indices});
        build::<dyn Module>(&json!({"type": "MViT", "arch": arch, "img_size": 32})).map(drop)
    };
    said(json!([1, 3])).unwrap();
    for wrong in [json!([1, 4]), json!([99]), json!([1, 1])] {
        let said = said(wrong.clone()).unwrap_err().to_string();
        assert!(said.contains("are blocks from 0 to 3, each named once"), "{wrong}: {said}");
    }
}
