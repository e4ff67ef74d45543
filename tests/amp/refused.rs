//! What a config may say of mixed precision.

use super::*;
use shanty::kernels::Precision;
use shanty::optim::OptimWrapperConfig;

fn built(yaml: &str) -> std::result::Result<OptimWrapper, String> {
    let node = shanty::config::parse("test", yaml).unwrap();
    let config: OptimWrapperConfig = node.read_checked().map_err(|wrong| wrong.to_string())?;
    config.build(&mut BuildCx::new(0)).map_err(|wrong| wrong.to_string())
}

#[test]
fn keys_and_defaults_are_those_of_mmengine() {
    let sgd = "optimizer: {type: SGD, lr: 0.1}";
    for (more, precision, scale) in [
        ("", Precision::Bf16, 65536.0),
        ("dtype: null, loss_scale: dynamic, use_fsdp: false, ", Precision::Bf16, 65536.0),
        ("dtype: bfloat16, loss_scale: 1.0, ", Precision::Bf16, 1.0),
        ("dtype: float16, loss_scale: 512, ", Precision::F16, 512.0),
        ("dtype: float16, loss_scale: {init_scale: 1024.0, growth_interval: 10}, ", Precision::F16, 1024.0),
        ("dtype: float32, ", Precision::Full, 65536.0),
    ] {
        let optim = built(&format!("{{type: AmpOptimWrapper, {more}{sgd}}}")).unwrap();
        assert_eq!((optim.precision(), optim.amp_scale()), (precision, Some(scale)), "{more}");
    }
    let plain = built(&format!("{{{sgd}}}")).unwrap();
    assert_eq!((plain.precision(), plain.amp_scale()), (Precision::Full, None));
    let part = |more: &str| format!("{{type: AmpOptimWrapper, {more}{sgd}, modules: []}}");
    let several = format!("{{type: OptimWrapperDict, wrappers: {{a: {}, b: {}}}}}", part(""), part(""));
    let several = built(&several).unwrap();
    assert_eq!((several.precision(), several.amp_scale()), (Precision::Bf16, Some(65536.0)));
}

#[test]
fn what_cannot_be_is_refused_with_the_remedy() {
    for (keys, says) in [
        ("type: AmpOptimWrapper, use_fsdp: true", "weights that are sharded among processes"),
        ("type: AmpOptimWrapper, dtype: float64", "float64"),
        ("type: AmpOptimWrapper, loss_scale: static", "a loss scale is dynamic, a number, or"),
        ("type: AmpOptimWrapper, loss_scale: 0", "loss_scale"),
        ("type: AmpOptimWrapper, loss_scale: -1.5", "loss_scale"),
        ("type: AmpOptimWrapper, loss_scale: 1.0e+60", "must be at most 3.4e38"),
        ("type: AmpOptimWrapper, loss_scale: 1.0e-40", "a number above 0 that single precision has"),
        ("type: AmpOptimWrapper, loss_scale: {init_scal: 2.0}", "init_scale"),
        ("type: AmpOptimWrapper, loss_scale: {growth_factor: 1.0}", "growth_factor"),
        ("type: AmpOptimWrapper, loss_scale: {backoff_factor: 1.0}", "backoff_factor"),
        ("type: AmpOptimWrapper, loss_scale: {growth_interval: 0}", "growth_interval"),
        ("dtype: bfloat16", "`dtype` belongs to `type: AmpOptimWrapper`"),
        ("type: OptimWrapper, loss_scale: dynamic", "`loss_scale` belongs to `type: AmpOptimWrapper`"),
    ] {
        let said = built(&format!("{{{keys}, optimizer: {{type: SGD, lr: 0.1}}}}")).map(drop).unwrap_err();
        assert!(said.contains(says), "{keys}: {said}");
    }
    let several = |a: &str, b: &str, more: &str| {
        let part = |keys: &str| format!("{{{keys}optimizer: {{type: SGD, lr: 0.1}}}}");
        let wrappers = format!("{{a: {}, b: {}}}", part(a), part(b));
        built(&format!("{{type: OptimWrapperDict, wrappers: {wrappers}{more}}}")).map(drop).unwrap_err()
    };
    let amp = "type: AmpOptimWrapper, ";
    for (b, more, says) in [
        ("", "", "the wrappers `a` and `b` differ in `type`, `dtype` or `loss_scale`"),
        ("type: AmpOptimWrapper, loss_scale: 8.0, ", "", "the wrappers `a` and `b` differ"),
        (amp, ", dtype: bfloat16", "`dtype` belongs to each of the `wrappers`"),
    ] {
        let said = several(amp, b, more);
        assert!(said.contains(says), "{b}{more}: {said}");
    }
}
