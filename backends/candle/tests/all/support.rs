//! What the tests share: fixtures of PyTorch, and where the examples lie.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use shanty::base::Result;
use shanty::config::parse;
use shanty::data::ArrayDataset;
use shanty::model::{ClsHead, ImageClassifier, LinearClsHead, Model, ResNet, ResNetConfig, Supervised};
use shanty::ndarray::{ArrayD, Axis, Slice};
use shanty::nn::{CrossEntropyLoss, Dropout, GlobalAveragePooling, Linear, ReLU, Sequential};
use shanty::registry::{BuildCx, Spec};
use shanty_candle::CandleModel;

#[path = "../../examples/nets/mod.rs"]
pub mod nets;

/// A file of this crate.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A fixture.
pub fn fixture(name: &str) -> PathBuf {
    here("tests/fixtures").join(name)
}

/// A model as a config says it, or what the config is told.
pub fn model(yaml: &str) -> Result<Box<dyn Model>> {
    let node = parse("model.yaml", yaml)?;
    Spec::<dyn Model>::from_node(&node)?.build(&mut BuildCx::new(0))
}

/// Where the networks are.
fn device() -> Device {
    nets::device().unwrap()
}

fn read<T: DeserializeOwned>(yaml: &str) -> T {
    parse("model.yaml", yaml).unwrap().read().unwrap()
}

/// The network `mlp` or `resnet` of the fixtures, in candle.
pub fn candle(name: &str) -> CandleModel {
    match name {
        "mlp" => mlp("{widths: [12, 16, 16, 3]}"),
        _ => CandleModel::new(&device(), |vb| {
            nets::resnet::ResNet::new(&read("{blocks: 1, base_channels: 4, num_classes: 3}"), vb)
        })
        .unwrap(),
    }
}

/// Fully connected layers in candle.
pub fn mlp(yaml: &str) -> CandleModel {
    CandleModel::new(&device(), |vb| nets::mlp::Mlp::new(&read(yaml), vb)).unwrap()
}

/// A small transformer over letters, with dropout.
pub fn transformer() -> CandleModel {
    let config = read(
        "{tokens: 17, d_model: 8, nhead: 2, dim_feedforward: 12, layers: 2, num_classes: 3, dropout: 0.1}",
    );
    CandleModel::new(&device(), |vb| nets::transformer::Transformer::new(&config, vb)).unwrap()
}

/// The network `mlp` of the fixtures, of shanty's own layers, with this dropout.
pub fn native_mlp(p: f64) -> Supervised {
    let hidden =
        |net: Sequential, from| net.with(Linear::new(from, 16)).with(ReLU::new()).with(Dropout::new(p));
    let network = hidden(hidden(Sequential::default(), 12), 16).with(Linear::new(16, 3));
    Supervised::new(network, CrossEntropyLoss::default())
}

/// The network `resnet` of the fixtures, of shanty's own layers.
pub fn native_resnet() -> ImageClassifier {
    let config = ResNetConfig { base_channels: Some(4), in_channels: 1, ..ResNetConfig::new(8) };
    ImageClassifier::new(ResNet::cifar(&config).unwrap(), LinearClsHead::new(3, 16, ClsHead::default()))
        .neck(GlobalAveragePooling::new())
}

/// The samples that the steps of a fixture are made with, and those that are held out.
pub fn data(name: &str) -> (ArrayDataset, ArrayDataset) {
    let all =
        candle_core::safetensors::load(fixture(&format!("{name}_data.safetensors")), &Device::Cpu).unwrap();
    let shape = |t: &Tensor| t.dims().to_vec();
    let flat = |t: &Tensor| t.flatten_all().unwrap();
    let (x, y) = (&all["inputs"], &all["target"]);
    let inputs = ArrayD::from_shape_vec(shape(x), flat(x).to_vec1::<f32>().unwrap()).unwrap();
    let target = ArrayD::from_shape_vec(shape(y), flat(y).to_vec1::<i64>().unwrap()).unwrap();
    let rows = |slice: Slice| {
        let inputs = inputs.slice_axis(Axis(0), slice).to_owned();
        let target = target.slice_axis(Axis(0), slice).to_owned();
        ArrayDataset::new("inputs", inputs).unwrap().with("target", target).unwrap()
    };
    (rows(Slice::from(..160)), rows(Slice::from(160..)))
}

/// The command line of an example, which `cargo test` builds beside the tests.
pub fn example(name: &str) -> Command {
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(
        program.exists(),
        "{} is not there: run `cargo test` as a whole, it builds the examples",
        program.display()
    );
    let mut command = Command::new(program);
    command.current_dir(here("")).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The command that trains the shipped config of an example in this folder.
pub fn train(name: &str, dir: &Path, set: &[&str]) -> Command {
    let mut command = example(name);
    command.args(["train", &format!("configs/{name}.yaml"), "--work-dir"]).arg(dir).args(set);
    command
}
