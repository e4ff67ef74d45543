//! Networks whose branches become one convolution after the training.

use shanty::model::{
    ArchConfig, MobileOne, MobileOneArch, MobileOneConfig, RepLKNet, RepLKNetArch, RepLKNetConfig, RepVGG,
    RepVGGConfig,
};

use super::*;

/// The network of this case with its weights, built in a program.
fn by_program<M: Module>(case: &Case, build: impl FnOnce() -> Result<M>) -> M {
    let (backbone, _) = memory::accounted(true, 1, build);
    let mut backbone = backbone.unwrap();
    let own = case
        .file()
        .0
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("backbone.")?.to_owned(), tensor)));
    assert!(StateDict(own.collect()).load_into(&mut backbone).unwrap().is_exact(), "{}", case.name);
    backbone
}

/// One convolution for each block gives what the branches gave, and the weights of a network with `deploy: true`.
#[test]
fn a_deployed_network_gives_the_same_logits_with_less() {
    let cases = cases();
    let check = |name: &str, key: &str, deploy: &dyn Fn(&Case) -> Box<dyn Module>| {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let mut deployed = loaded(case);
        deployed.backbone = deploy(case);
        let away = distance(case, &scores(&mut deployed, case.images(case.n)));
        assert!(away < 1e-4, "{name}: {away:.1e}");
        let mut config = case.config.clone();
        config["backbone"][key] = true.into();
        let mut names = net(&config);
        assert_eq!(parameters(&names), parameters(&deployed), "{name}");
        assert!(StateDict::of(&deployed).unwrap().load_into(&mut names).unwrap().is_exact(), "{name}");
    };
    check("RepVGG-A0", "deploy", &|case| {
        let config = RepVGGConfig { base_channels: 16, ..RepVGGConfig::default() };
        let mut backbone = by_program(case, || RepVGG::new(&config));
        backbone.switch_to_deploy();
        Box::new(backbone)
    });
    check("MobileOne", "deploy", &|case| {
        let arch = MobileOneArch {
            num_blocks: [1, 2, 2, 1],
            width_factor: [0.25, 0.125, 0.125, 0.125],
            num_conv_branches: [2, 3, 1, 4],
            num_se_blocks: [0, 0, 1, 1],
        };
        let config = MobileOneConfig { arch: ArchConfig(arch), ..MobileOneConfig::default() };
        let mut backbone = by_program(case, || MobileOne::new(&config));
        backbone.switch_to_deploy();
        Box::new(backbone)
    });
    check("RepLKNet", "small_kernel_merged", &|case| {
        let arch = RepLKNetArch {
            large_kernel_sizes: [9, 7, 7, 5],
            layers: [1, 1, 2, 1],
            channels: [8, 16, 16, 24],
            small_kernel: Some(3),
            dw_ratio: 1.5,
        };
        let config = RepLKNetConfig { arch: ArchConfig(arch), ..RepLKNetConfig::default() };
        let mut backbone = by_program(case, || RepLKNet::new(&config));
        backbone.switch_to_deploy();
        Box::new(backbone)
    });
}
