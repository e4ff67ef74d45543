//! Checkpoints go to PyTorch and come from it by name, and keep every bit on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use shanty::base::Elem;
use shanty::checkpoint::{parse_tensors, read_tensors, write_tensors};
use shanty::data::Batch;
use shanty::model::Model;
use shanty::ndarray::{ArrayD, IxDyn};
use shanty::params::StateDict;
use shanty_burn::BurnModel;

use crate::mlp;
use crate::resnet;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch").join(name)
}

fn model(name: &str) -> Box<dyn Model> {
    match name {
        "mlp" => {
            let config = mlp::MlpConfig { hidden: 16, ..Default::default() };
            Box::new(BurnModel::new(move |device| mlp::Mlp::new(&config, device)).unwrap())
        }
        _ => {
            let config = resnet::ResNetConfig { channels: 2, ..Default::default() };
            Box::new(BurnModel::new(move |device| resnet::ResNet::new(&config, device)).unwrap())
        }
    }
}

/// What PyTorch wrote with torch/checkpoints.py predicts here what it predicts there: linear maps, which lie the other
/// way round in burn, convolutions, norms with their running statistics.
#[test]
fn weights_come_from_pytorch_and_go_back_bit_for_bit() {
    let scores: BTreeMap<String, Vec<f64>> =
        serde_json::from_str(&fs::read_to_string(fixture("scores.json")).unwrap()).unwrap();
    let pixel = |at: IxDyn| ((at[0] * 64 + at[2] * 8 + at[3]) as f64 * 0.37).sin() as Elem;
    let pictures = Batch::new(ArrayD::from_shape_fn(IxDyn(&[6, 1, 8, 8]), pixel), vec![0, 1, 2, 3, 4, 5]);
    for name in ["mlp", "resnet"] {
        let (mut model, theirs) =
            (model(name), read_tensors(&fixture(&format!("{name}.safetensors"))).unwrap());
        let report = theirs.load_into(&mut *model).unwrap();
        assert!(report.is_exact(), "{name}: {report:#}");
        let outputs = model.eval_step(&pictures).unwrap();
        for (own, torch) in outputs.scores().unwrap().iter().zip(&scores[name]) {
            assert!((f64::from(*own) - torch).abs() < 1e-6, "{name}: {own} and {torch}");
        }
        let bytes = write_tensors(&StateDict::of(&*model).unwrap()).unwrap();
        let back = parse_tensors(Path::new("model.safetensors"), &bytes).unwrap();
        assert!(back.0.len() > 7, "{name}");
        for (name, tensor) in &back.0 {
            assert_eq!(tensor.value, theirs.get(name).unwrap().value, "{name}");
        }
    }
}
