//! Low-rank adapters against PyTorch (fixtures/gen_lora.py), and what is said of targets that are none.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::path::Path;

use ndarray::ArrayViewD;
use shanty::base::Elem;
use shanty::config::parse;
use shanty::data::Batch;
use shanty::model::{ClsHead, ImageClassifier, Model, StepCx, VisionTransformerClsHead};
use shanty::nn::Module;
use shanty::nn::init::{Constant, Init, Initializer, Pretrained};
use shanty::params::{HostParams, Params, StateDict};
use shanty::registry::{BuildCx, Spec};

const TOLERANCE: f64 = 1e-5;

/// Tensors of a print-out of PyTorch below a name.
fn fixture(file: &str, prefix: &str) -> StateDict {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let checkpoint = path.display().to_string();
    Pretrained { checkpoint, prefix: Some(prefix.to_owned()), map_location: None }.tensors().unwrap().unwrap()
}

/// The vision transformer of gen_vit.py in a LoRAModel, its weights loaded by `init_cfg` under their own names.
fn yaml(targets: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vit_tiny.safetensors");
    format!(
        "
type: LoRAModel
alpha: 8
rank: 4
targets: {targets}
module:
  type: VisionTransformer
  arch: {{embed_dims: 24, num_layers: 2, num_heads: 3, feedforward_channels: 48}}
  img_size: 16
  patch_size: 4
  init_cfg: {{type: Pretrained, checkpoint: {}, prefix: weights.backbone}}
",
        file.display()
    )
}

/// Those of the print-out: an end, an expression for all of a path with numbers of its own, and an end again.
const TARGETS: &str =
    "[{type: qkv}, {type: '.*attn\\.proj', alpha: 3, rank: 2}, {type: layers.1, drop_rate: 0}]";

fn backbone(yaml: &str) -> Result<Box<dyn Module>, String> {
    let spec: Spec<dyn Module> = parse("net.yaml", yaml).unwrap().read().unwrap();
    spec.build(&mut BuildCx::new(0)).map_err(|error| error.to_string())
}

/// A classifier around it, whose `init_cfg` means the linear layers of the head.
fn built(targets: &str) -> ImageClassifier {
    let head = VisionTransformerClsHead::new(5, 24, ClsHead::default());
    let sevens = Init::new(Constant { val: 7.0 }).layer("Linear");
    let mut model = ImageClassifier::new(backbone(&yaml(targets)).unwrap(), head).init(vec![sevens]);
    model.init_weights(0).unwrap();
    model
}

fn near(wanted: ArrayViewD<'_, Elem>, found: ArrayViewD<'_, Elem>, what: &str) {
    assert_eq!(wanted.shape(), found.shape(), "{what}");
    let top = wanted.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
    for (i, (w, f)) in wanted.iter().zip(&found).enumerate() {
        let error = f64::from((w - f).abs());
        assert!(error <= TOLERANCE * top, "{what}: element {i} is {f}, PyTorch has {w} (largest {top})");
    }
}

fn batch() -> Batch {
    let images = fixture("vit_tiny.safetensors", "out").get("images").unwrap().value.clone();
    Batch::new(images.into_owned(), vec![3, 1])
}

fn step(model: &mut ImageClassifier, iter: u64) -> f64 {
    model.train_step(&batch(), &StepCx { seed: 0, iter, loss_scale: 1.0 }).unwrap().loss().unwrap()
}

#[test]
fn scores_gradients_and_steps_are_those_of_pytorch() {
    let mut model = built(TARGETS);
    let state = StateDict::of(&model).unwrap();
    // The network's own weights are those of the file, whatever an `init_cfg` says of linear layers around it.
    for (name, tensor) in &fixture("vit_tiny.safetensors", "weights.backbone").0 {
        assert_eq!(state.get(&format!("backbone.module.{name}")).unwrap().value, tensor.value, "{name}");
    }
    // At first nothing is added: the second matrices are zeros.
    let adapters = fixture("lora.safetensors", "weights");
    for (name, tensor) in &adapters.0 {
        let own = &state.get(name).unwrap_or_else(|| panic!("no {name}")).value;
        assert_eq!(own.shape(), tensor.value.shape(), "{name}");
        assert_eq!(own.iter().all(|v| *v == 0.0), name.contains("lora_up"), "{name}");
    }
    let loaded = adapters.load_into(&mut model).unwrap();
    assert_eq!((loaded.loaded.len(), adapters.0.len()), (12, 12));
    fixture("vit_tiny.safetensors", "weights").load_into(&mut model).unwrap();

    let wanted = f64::from(fixture("lora.safetensors", "out").get("loss").unwrap().value[[0]]);
    let (grads, after) = (fixture("lora.safetensors", "grads"), fixture("lora.safetensors", "after"));
    let found = step(&mut model, 0);
    assert!((found / wanted - 1.0).abs() < 1e-6, "{found} {wanted}");
    let mut seen = 0;
    model.visit(&mut |p| match (p.grad, grads.get(p.name)) {
        (Some(grad), Some(wanted)) => {
            near(wanted.value.view(), grad, p.name);
            seen += 1;
        }
        (grad, wanted) => {
            assert!(grad.is_none() && wanted.is_none() && p.frozen, "{} is trained, or not wanted", p.name);
        }
    });
    assert_eq!(seen, grads.0.len());

    model.clear_grads().unwrap();
    for iter in 0..3 {
        step(&mut model, iter);
        model.visit_mut(&mut |mut p| {
            if let Some(grad) = p.grad {
                p.value.scaled_add(-0.05, &grad);
            }
        });
        model.clear_grads().unwrap();
    }
    let state = StateDict::of(&model).unwrap();
    for (name, tensor) in &after.0 {
        near(tensor.value.view(), state.get(name).unwrap().value.view(), name);
    }
    let own = fixture("vit_tiny.safetensors", "weights.backbone");
    assert!(own.0.iter().all(|(name, tensor)| {
        state.get(&format!("backbone.module.{name}")).unwrap().value == tensor.value
    }));
}

/// A layer whose weights the network multiplies by itself, in one pass with others, is adapted all the same.
#[test]
fn every_linear_layer_can_be_adapted() {
    for layer in ["qkv", "proj", "layers.0.0", "layers.1"] {
        let targets = format!("[{{type: {layer}}}]");
        let mut model = built(&targets);
        let before = model.eval_step(&batch()).unwrap().scores().cloned().unwrap();
        model.visit_mut(&mut |mut p| {
            if p.name.contains("lora_up") {
                p.value.fill(0.5);
            }
            if p.name == "head.layers.head.weight" {
                p.value.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 7) as Elem * 0.1);
            }
        });
        let with = model.eval_step(&batch()).unwrap().scores().cloned().unwrap();
        model.visit_mut(&mut |mut p| {
            if p.name.contains("lora_up") {
                p.value.fill(0.0);
            }
        });
        let without = model.eval_step(&batch()).unwrap().scores().cloned().unwrap();
        assert!(with != without && before.shape() == with.shape(), "{layer} adds nothing");
        step(&mut model, 0);
        let mut moved = 0;
        model.visit(&mut |p| {
            moved += usize::from(p.name.contains("lora_up") && p.grad.unwrap().iter().any(|g| *g != 0.0));
        });
        assert_eq!(moved, 2, "{layer}: one in each block");
    }
}

#[test]
fn targets_that_are_none_are_refused() {
    for (targets, words) in [
        ("[{type: qvk}]", "no linear layer fits `qvk`; did you mean `qkv`?"),
        ("[{type: '(qkv'}]", "`(qkv` is no regular expression"),
        ("[{type: qkv}, {type: attn.qkv}]", "all layers that fit `attn.qkv` belong to targets before it"),
        ("[{type: qkv}, {type: ln1}]", "no linear layer fits `ln1`"),
    ] {
        let text = backbone(&yaml(targets)).err().unwrap_or_else(|| panic!("{targets} was taken"));
        assert!(text.contains(words), "{targets}: {text}");
    }
    let without = yaml("[{type: qkv}]").replace("rank: 4\n", "");
    let text = backbone(&without).err().unwrap();
    assert!(text.contains("`rank` is missing"), "{text}");
}
