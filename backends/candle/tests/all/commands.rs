//! The whole command line works with networks of candle, and their checkpoints with everybody else's.

use std::path::Path;
use std::process::Stdio;

use candle_core::{DType, Device};
use candle_nn::VarMap;
use shanty::checkpoint::load;
use shanty::params::{Params, Set, StateDict, all};

use crate::support::{candle, example, mlp, native_mlp, native_resnet, train};

/// What a command says, on whichever stream; it must end well.
fn said(name: &str, args: &[&str]) -> String {
    let output = example(name).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {args:?}: {text}");
    text
}

#[test]
fn every_command_knows_a_network_of_candle() {
    for (name, metric) in [("houses", "r2"), ("digits", "accuracy/top1"), ("words", "accuracy/top1")] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("run");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (config, home) = (format!("configs/{name}.yaml"), path(&dir));
        said(name, &["check", &config]);
        let plan = said(name, &["plan", &config, "train_cfg.max_epochs=2"]);
        assert!(plan.contains("CheckpointHook"), "{plan}");
        let set =
            ["train_cfg.max_epochs=1", "train_cfg.val_interval=1", "default_hooks.checkpoint.interval=1"];
        assert!(train(name, &dir, &set).status().unwrap().success());
        let more = ["train_cfg.max_epochs=2", set[1], set[2], "resume=true"];
        assert!(train(name, &dir, &more).status().unwrap().success());
        let last = path(&dir.join("epoch_2"));
        let val = said(name, &["val", &config, &last]);
        assert!(val.to_lowercase().contains(metric), "{val}");
        let out = path(&scratch.path().join("predictions.csv"));
        said(name, &["predict", &config, &last, "--out", &out]);
        let lines = std::fs::read_to_string(&out).unwrap().lines().count();
        assert!(lines > 20, "{lines} lines");
        let report = path(&scratch.path().join("report.html"));
        said(name, &["report", &home, "--out", &report]);
        assert!(std::fs::read_to_string(&report).unwrap().contains(name));
        let equal = said(name, &["verify-resume", &config, "--cuts", "1", "train_cfg.max_epochs=1"]);
        assert!(equal.contains("equal"), "{equal}");
        assert!(said(name, &["list", "model"]).contains("CandleResNet"));
    }
}

/// By name: a checkpoint of candle becomes shanty's own network, and the other way round; `VarMap` and PyTorch read the
/// same file.
#[test]
fn weights_go_from_candle_to_shanty_and_back() {
    let saved = tempfile::tempdir().unwrap();
    let set = [
        "train_cfg.max_epochs=1",
        "model.network.base_channels=4",
        "model.network.mean=0",
        "model.network.std=1",
    ];
    let home = saved.path().join("run");
    assert!(train("digits", &home, &set).status().unwrap().success());
    let weights = load(&home.join("epoch_1")).unwrap().model;
    let mut own = native_resnet();
    let report = weights.load_into(&mut own).unwrap();
    // The classes of the digits are ten, the network of the fixtures knows three.
    assert_eq!((report.missing, report.unexpected), (vec![], vec![]));
    assert_eq!(report.mismatched.len(), 2, "{:?}", report.mismatched);
    let map = VarMap::new();
    let vb = candle_nn::VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    vb.get((10, 16), "head.fc.weight").unwrap();
    let mut map = map;
    map.load(home.join("epoch_1/model.safetensors")).unwrap();
    let read = map.all_vars()[0].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let fc = &weights.get("head.fc.weight").unwrap().value;
    assert_eq!(read, fc.iter().copied().collect::<Vec<_>>());
}

#[test]
fn equal_weights_give_equal_scores() {
    use shanty::data::Batch;
    use shanty::model::Model;
    use shanty::ndarray::ArrayD;
    let wave = |shape: Vec<usize>| {
        let last = shape.len() - 1;
        ArrayD::from_shape_fn(shape, |at| (at[0] as f32 * 0.7 + at[last] as f32).sin())
    };
    let scores = |net: &mut dyn Model, shape| {
        net.eval_step(&Batch::unlabelled(wave(shape))).unwrap().scores().unwrap().clone()
    };
    let near = |a: &ArrayD<f32>, b: &ArrayD<f32>| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    let (mut ours, mut own) = (candle("resnet"), native_resnet());
    ours.init_weights(5).unwrap();
    ours.edit(Set::Values, &|p| p.name.ends_with("running_mean"), &mut |_, mut v| v.fill(0.3)).unwrap();
    assert!(StateDict::of(&ours).unwrap().load_into(&mut own).unwrap().is_exact());
    // Back too, though candle's batch norms count no batches.
    assert!(StateDict::of(&own).unwrap().load_into(&mut ours).unwrap().is_exact());
    assert!(near(&scores(&mut ours, vec![3, 1, 8, 8]), &scores(&mut own, vec![3, 1, 8, 8])));
    let (mut ours, mut own) = (mlp("{widths: [12, 16, 16, 3]}"), native_mlp(0.0));
    own.init_weights(5).unwrap();
    assert!(StateDict::of(&own).unwrap().load_into(&mut ours).unwrap().is_exact());
    assert!(near(&scores(&mut ours, vec![3, 12]), &scores(&mut own, vec![3, 12])));
    let mut bits = true;
    let back = StateDict::of(&ours).unwrap();
    own.read(Set::Values, &all, &mut |p, value| bits &= back.get(p.name).unwrap().value == value).unwrap();
    assert!(bits, "what goes over and back is the same");
}
