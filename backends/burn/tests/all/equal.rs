//! The same networks in shanty, burn and PyTorch, from equal weights on equal batches: 40 iterations in windows of two
//! batches, clipped, with an average of the weights beside them. `torch/losses.py` gave PyTorch's numbers.

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::base::Elem;
use shanty::checkpoint::load;
use shanty::data::{ArrayDataset, DataLoader};
use shanty::hook::builtin::EMAHook;
use shanty::hook::{Event, Point};
use shanty::metric::Accuracy;
use shanty::model::{ClsHead, ImageClassifier, LinearClsHead, Model};
use shanty::ndarray::{Array1, ArrayD, IxDyn};
use shanty::nn::{Flatten, GlobalAveragePooling, Linear, ReLU, Sequential};
use shanty::optim::{Adam, ClipGrad, OptimWrapper, Optimizer, Sgd};
use shanty::params::{Params, Set, StateDict, trained};
use shanty::run::{IterBasedTrainLoop, Runner};
use shanty_burn::BurnModel;

use crate::mlp;
use crate::resnet;
#[path = "../torch/losses.rs"]
mod torch;
use torch::Torch;

/// 640 pictures of 8 × 8 by a formula, of ten classes.
fn data() -> DataLoader {
    let pixel = |at: IxDyn| ((at[0] * 64 + at[2] * 8 + at[3]) as f64 * 0.37).sin() as Elem;
    let pictures = ArrayD::from_shape_fn(IxDyn(&[640, 1, 8, 8]), pixel);
    let target = Array1::from_shape_fn(640, |n| ((n * 7 + n / 10) % 10) as i64);
    let set = ArrayDataset::new("inputs", pictures).unwrap().with("target", target).unwrap();
    DataLoader::new(set).batch_size(16)
}

/// A name without where in the model the network stands.
fn bare(name: &str) -> String {
    name.replace("backbone.", "").replace("head.", "")
}

/// Weights by a formula, which the name enters.
fn set_weights(model: &mut dyn Params) {
    model
        .edit(Set::Values, &trained, &mut |p, mut value| {
            let name = bare(p.name);
            let k: usize = name.bytes().map(usize::from).sum();
            let fan_in: usize = p.shape.iter().skip(1).product();
            // The factors of a norm are near one.
            let base = if p.shape.len() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
            let scale = if p.shape.len() == 1 { 0.1 } else { 1.0 / (fan_in as f64).sqrt() };
            for (i, v) in value.iter_mut().enumerate() {
                *v = (base + scale * ((i + 31 * k) as f64 * 0.61).sin()) as Elem;
            }
        })
        .unwrap();
}

struct Trained {
    losses: Vec<f64>,
    /// The average of the weights.
    average: StateDict,
    /// The mean loss with it.
    val_loss: f64,
}

fn train(mut model: impl Model, optim: Box<dyn Optimizer>) -> Trained {
    set_weights(&mut model);
    let (losses, start) = (Arc::new(Mutex::new(Vec::new())), StateDict::of(&model).unwrap());
    let (noted, dir) = (Arc::clone(&losses), tempfile::tempdir().unwrap());
    let optim = OptimWrapper::boxed(optim).accumulate(2).clip(ClipGrad::by_norm(0.5));
    let mut runner = Runner::builder(model)
        .train(data(), IterBasedTrainLoop::new(40), optim)
        .val(data(), Accuracy::default())
        .work_dir(dir.path())
        .seed(0)
        .hook(EMAHook::new(0.1, 0))
        .on(Point::BeforeTrain, move |cx, _| {
            start.load_into(&mut **cx.model)?;
            Ok(())
        })
        .on(Point::AfterTrainIter, move |_, event| {
            if let Event::AfterTrainIter(step) = event {
                noted.lock().unwrap().push(step.outputs.loss().unwrap());
            }
            Ok(())
        })
        .build()
        .unwrap();
    runner.train().unwrap();
    let val_loss = runner.val().unwrap().get("val_loss").unwrap();
    let losses = losses.lock().unwrap().clone();
    Trained { losses, average: load(Path::new(&dir.path().join("iter_40"))).unwrap().model, val_loss }
}

fn near(what: &str, a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-5, "{what}: {a} and {b}");
}

fn compare(name: &str, ours: &Trained, burn: &Trained, torch: &Torch) {
    assert_eq!((ours.losses.len(), burn.losses.len(), torch.losses.len()), (40, 40, 40), "{name}");
    for (i, ((ours, burn), torch)) in ours.losses.iter().zip(&burn.losses).zip(&torch.losses).enumerate() {
        near(&format!("{name}, the loss of iteration {i} in burn and in shanty"), *burn, *ours);
        near(&format!("{name}, the loss of iteration {i} in burn and in PyTorch"), *burn, *torch);
    }
    // burn's running variance is that of the batch, shanty's and PyTorch's an estimate for all: where there is one, what
    // is evaluated differs a little.
    let estimates = |name: &str| name.ends_with("running_var");
    if !burn.average.0.iter().any(|(name, _)| estimates(name)) {
        near(
            &format!("{name}, the loss with the average in burn and in shanty"),
            burn.val_loss,
            ours.val_loss,
        );
        near(
            &format!("{name}, the loss with the average in burn and in PyTorch"),
            burn.val_loss,
            torch.val_loss,
        );
    }
    let norm = |average: &StateDict| {
        let trained = average.0.iter().filter(|(name, _)| !name.contains("running_"));
        trained.flat_map(|(_, tensor)| &tensor.value).map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
    };
    near(&format!("{name}, the norm of the average in burn and in PyTorch"), norm(&burn.average), torch.norm);
    let mut compared = 0;
    for (at, theirs) in &burn.average.0 {
        let (_, own) = ours.average.0.iter().find(|(own, _)| bare(own) == bare(at)).unwrap();
        if estimates(at) {
            continue;
        }
        for (a, b) in theirs.value.iter().zip(&own.value) {
            assert!((a - b).abs() < 1e-4, "{name}, the average of {at}: {a} and {b}");
            compared += 1;
        }
    }
    assert!(compared > 1000, "{name}: {compared}");
}

fn sgd() -> Box<dyn Optimizer> {
    Box::new(Sgd::new(0.1).momentum(0.9).weight_decay(1e-4).nesterov(true))
}

fn adam_w() -> Box<dyn Optimizer> {
    Box::new(Adam::decoupled(0.003).weight_decay(0.05))
}

#[test]
fn two_layers_train_as_in_shanty_and_pytorch() {
    let ours = || {
        let layers = Sequential::new()
            .with(Flatten::new())
            .named("fc1", Linear::new(64, 32))
            .with(ReLU::new())
            .named("fc2", Linear::new(32, 10));
        ImageClassifier::new(layers, ClsHead::default())
    };
    let config = mlp::MlpConfig { hidden: 32, dropout: 0.0, norm: false, ..Default::default() };
    let burn = || {
        let config = config.clone();
        BurnModel::new(move |device| mlp::Mlp::new(&config, device)).unwrap()
    };
    compare("SGD", &train(ours(), sgd()), &train(burn(), sgd()), &torch::MLP_SGD);
    compare("AdamW", &train(ours(), adam_w()), &train(burn(), adam_w()), &torch::MLP_ADAM_W);
}

#[test]
fn a_residual_network_trains_as_in_shanty_and_pytorch() {
    let ours = || {
        let params = shanty::model::ResNetConfig {
            base_channels: Some(4),
            in_channels: 1,
            ..shanty::model::ResNetConfig::new(8)
        };
        let backbone = shanty::model::ResNet::cifar(&params).unwrap();
        ImageClassifier::new(backbone, LinearClsHead::new(10, 16, ClsHead::default()))
            .neck(GlobalAveragePooling::default())
    };
    let burn = || {
        let config = resnet::ResNetConfig { channels: 4, ..Default::default() };
        BurnModel::new(move |device| resnet::ResNet::new(&config, device)).unwrap()
    };
    compare("SGD", &train(ours(), sgd()), &train(burn(), sgd()), &torch::RESNET_SGD);
    compare("AdamW", &train(ours(), adam_w()), &train(burn(), adam_w()), &torch::RESNET_ADAM_W);
}
