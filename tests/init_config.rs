//! `init_cfg` as people write it.

#![allow(clippy::unwrap_used)] // helpers of tests

use serde::Deserialize;
use shanty::config::{Diags, parse};
use shanty::nn::init::{Init, InitCfg};
use shanty::registry::BuildCx;

#[derive(Debug, Deserialize)]
struct Holder {
    #[serde(default)]
    init_cfg: InitCfg,
}

fn read(text: &str) -> Result<InitCfg, Diags> {
    parse("c.yaml", text)?.read().map(|holder: Holder| holder.init_cfg)
}

fn told(text: &str) -> Vec<String> {
    let inits = Init::list(&read(text).unwrap(), &mut BuildCx::new(0)).unwrap();
    inits.iter().map(|init| format!("{init:?}")).collect()
}

fn refused(text: &str) -> String {
    match read(text) {
        Err(diags) => diags.to_string(),
        Ok(cfg) => Init::list(&cfg, &mut BuildCx::new(0)).unwrap_err().to_string(),
    }
}

#[test]
fn the_two_lines_that_people_know_work_as_they_are() {
    assert_eq!(
        told("init_cfg: [{type: Kaiming, layer: Conv2d}, {type: Xavier, layer: Linear}]"),
        [
            r#"Init(KaimingInit: a=0, mode=fan_out, nonlinearity=relu, distribution =normal, bias=0, layer=["Conv2d"])"#,
            r#"Init(XavierInit: gain=1, distribution=normal, bias=0, layer=["Linear"])"#,
        ]
    );
    assert_eq!(
        told("init_cfg: {type: Pretrained, checkpoint: path/to/ckpt}"),
        ["Init(PretrainedInit: load from path/to/ckpt, bias=0, layer=[])"]
    );
}

/// ResNet's and the linear head's own, from MMPretrain.
#[test]
fn the_rules_of_the_reference_are_read() {
    let cases = [
        (
            "{type: Constant, val: 1, layer: [_BatchNorm, GroupNorm]}",
            r#"ConstantInit: val=1, bias=0, layer=["_BatchNorm", "GroupNorm"]"#,
        ),
        (
            "{type: NormalInit, std: 0.01, layer: Linear}",
            r#"NormalInit: mean=0, std=0.01, bias=0, layer=["Linear"]"#,
        ),
        (
            "{type: TruncNormal, std: .02, bias: 0., layer: Linear}",
            r#"TruncNormalInit: a=-2, b=2, mean=0, std=0.02, bias=0, layer=["Linear"]"#,
        ),
        ("{type: Uniform, a: -1, layer: Conv2d}", r#"UniformInit: a=-1, b=1, bias=0, layer=["Conv2d"]"#),
        (
            "{type: Caffe2Xavier, layer: Conv2d, bias: 2}",
            r#"Caffe2XavierInit: a=1, mode=fan_in, nonlinearity=leaky_relu, distribution =uniform, bias=2, layer=["Conv2d"]"#,
        ),
        (
            "{type: Kaiming, a: 1, distribution: uniform, mode: fan_in, nonlinearity: leaky_relu, layer: Conv2d}",
            r#"KaimingInit: a=1, mode=fan_in, nonlinearity=leaky_relu, distribution =uniform, bias=0, layer=["Conv2d"]"#,
        ),
        (
            "{type: Normal, std: 0.01, layer: Conv2d, bias_prob: 0.5}",
            r#"NormalInit: mean=0, std=0.01, bias=0, layer=["Conv2d"]"#,
        ),
        (
            "{type: Pretrained, checkpoint: x, prefix: backbone., map_location: cpu}",
            "PretrainedInit: load from x, bias=0, layer=[]",
        ),
    ];
    for (yaml, expected) in cases {
        assert_eq!(told(&format!("init_cfg: {yaml}")), [format!("Init({expected})")]);
    }
    for nothing in ["init_cfg: null", "init_cfg: []", "{}"] {
        assert_eq!(told(nothing), [""; 0]);
    }
}

#[test]
fn overrides_take_a_rule_or_that_of_the_entry() {
    let yaml = "
init_cfg:
  type: Constant
  val: 1
  layer: Conv2d
  override: [{name: reg}, {type: Normal, name: cls, std: 0.5, bias_prob: 0.01}]";
    assert_eq!(told(yaml), [r#"Init(ConstantInit: val=1, bias=0, layer=["Conv2d"])"#]);
    let refused = |item: &str| refused(&format!("init_cfg: {{type: Constant, val: 1, override: {item}}}"));
    assert!(refused("{type: Normal}").contains("an override needs the `name` of a sub-module"));
    assert!(refused("{name: reg, val: 2}").contains("this initializer has no `type`"));
    assert!(refused("{name: reg, type: Norml}").contains("unknown initializer `Norml`"));
    assert!(refused("{name: reg, type: Constant}").contains("`val`"));
}

#[test]
fn mistakes_are_refused_where_they_stand() {
    let cases = [
        ("{type: Kaiming, layr: Conv2d}", "layr"),
        ("{type: Kaiming, mode: fan_avg}", "fan_avg"),
        ("{type: Xavier, distribution: gaussian}", "gaussian"),
        ("{type: Constant, layer: Conv2d}", "val"),
        ("{type: Normal, std: -1, layer: Conv2d}", "std"),
        ("{type: Normal, bias_prob: 1, layer: Conv2d}", "bias_prob"),
        ("{type: TruncNormal, std: 0, layer: Conv2d}", "greater than 0"),
        ("{type: Normal, bias: zero, layer: Conv2d}", "bias"),
        ("{type: TruncNormal, a: 2, b: -2, layer: Conv2d}", "a truncated normal needs a < b, not a 2, b -2"),
        ("{type: Pretrained}", "checkpoint"),
    ];
    for (yaml, expected) in cases {
        let error = refused(&format!("init_cfg: {yaml}"));
        assert!(error.contains(expected) && error.contains("c.yaml:1:"), "{yaml}: {error}");
    }
}
