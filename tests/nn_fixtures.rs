//! Every layer and loss, built from its config, against the values and gradients that PyTorch printed
//! (`fixtures/ops.json`, the script is beside it).

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::collections::BTreeMap;

use ndarray::{ArrayViewD, IxDyn};
use serde::Deserialize;
use serde_json::{Value, json};
use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::config::Node;
use shanty::module;
use shanty::nn::{Autograd, Forward, Loss, Module, Param, Target, Var};
use shanty::params::HostParams;
use shanty::registry::{BuildCx, Registrable, Spec};

/// Allowed error, relative to the largest number of the tensor.
const TOLERANCE: f64 = if size_of::<Elem>() == 8 { 1e-11 } else { 1e-5 };

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    fn tensor(&self) -> Tensor {
        let data = self.data.iter().map(|&v| v as Elem).collect();
        Tensor::from_shape_vec(IxDyn(&self.shape), data).unwrap()
    }

    fn assert_near(&self, found: ArrayViewD<'_, Elem>, what: &str) {
        assert_eq!(self.shape, found.shape(), "{what}");
        let scale = self.data.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        for (i, (&wanted, &found)) in self.data.iter().zip(found).enumerate() {
            let error = (wanted - f64::from(found)).abs();
            let allowed = TOLERANCE * scale + f64::from(Elem::MIN_POSITIVE);
            assert!(error <= allowed, "{what}: element {i} is {found}, PyTorch has {wanted}");
        }
    }
}

#[derive(Deserialize)]
struct Case {
    op: String,
    name: String,
    attrs: serde_json::Map<String, Value>,
    inputs: BTreeMap<String, Array>,
    output: Array,
    dy: Array,
    grads: BTreeMap<String, Array>,
    #[serde(default)]
    extra: BTreeMap<String, Array>,
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ops.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The input, so that it has a gradient, and the layer.
struct Probe {
    x: Param,
    net: Box<dyn Module>,
}
module!(Probe { x, net });

/// A loss with its targets, or an op, as a layer.
struct Function(Box<dyn for<'t> Fn(Var<'t>) -> Result<Var<'t>> + Send>);
module!(Function {});
impl Module for Function {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        self.0(x)
    }
}

fn build<T: ?Sized + Registrable>(
    name: &str,
    ty: &str,
    mut params: serde_json::Map<String, Value>,
) -> Box<T> {
    params.insert("type".into(), ty.into());
    let spec =
        Spec::<T>::from_node(&Node::of(name, &params).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
    spec.build(&mut BuildCx::new(0)).unwrap()
}

/// PyTorch's name of a weight, where it is not MMPretrain's.
fn of_pytorch(name: &str) -> &str {
    match name {
        "qkv.weight" => "in_proj_weight",
        "qkv.bias" => "in_proj_bias",
        "proj.weight" => "out_proj.weight",
        "proj.bias" => "out_proj.bias",
        other => other,
    }
}

impl Case {
    /// The layer that this case is about; `None` if there is none yet.
    fn layer(&self) -> Option<Box<dyn Module>> {
        let mut attrs = self.attrs.clone();
        attrs.remove("training");
        let (x, weight) = (&self.inputs["x"], self.inputs.get("weight"));
        let mut set = |key: &str, value: Value| drop(attrs.insert(key.to_owned(), value));
        let ty = match self.op.as_str() {
            "linear" => {
                set("in_features", json!(weight?.shape[1]));
                set("out_features", json!(weight?.shape[0]));
                set("bias", json!(self.inputs.contains_key("bias")));
                "Linear"
            }
            "conv2d" => {
                set("in_channels", json!(x.shape[1]));
                set("out_channels", json!(weight?.shape[0]));
                set("bias", json!(self.inputs.contains_key("bias")));
                "Conv2d"
            }
            "batch_norm" => {
                set("num_features", json!(x.shape[1]));
                set("affine", json!(weight.is_some()));
                if x.shape.len() == 4 { "BatchNorm2d" } else { "BatchNorm1d" }
            }
            "group_norm" => {
                set("num_channels", json!(x.shape[1]));
                set("affine", json!(weight.is_some()));
                "GroupNorm"
            }
            "layer_norm" => {
                set("elementwise_affine", json!(weight.is_some()));
                "LayerNorm"
            }
            "multihead_attention" => {
                let bias = attrs.remove("bias");
                attrs.insert("qkv_bias".into(), json!(bias));
                attrs.insert("proj_bias".into(), json!(bias));
                let dims = attrs.remove("embed_dim");
                attrs.insert("embed_dims".into(), json!(dims));
                "MultiheadAttention"
            }
            "max_pool2d" => "MaxPool2d",
            "avg_pool2d" => "AvgPool2d",
            "adaptive_avg_pool2d" => "AdaptiveAvgPool2d",
            "relu" => "ReLU",
            "leaky_relu" => "LeakyReLU",
            "tanh" => "Tanh",
            "sigmoid" => "Sigmoid",
            "silu" => "SiLU",
            "gelu" if attrs["approximate"] == "none" => {
                attrs.remove("approximate");
                "GELU"
            }
            "gelu" => return None,
            "softmax" | "log_softmax" => return Some(self.softmax()),
            "cross_entropy" | "cross_entropy_soft" => {
                attrs.insert("average".into(), json!("weights"));
                if let Some(weight) = weight {
                    attrs.insert("weight".into(), json!(weight.data));
                }
                return Some(self.loss("CrossEntropyLoss", attrs));
            }
            "multi_margin_loss" => {
                if let Some(weight) = weight {
                    attrs.insert("weight".into(), json!(weight.data));
                }
                return Some(self.loss("MultiMarginLoss", attrs));
            }
            "hinge_loss" => return Some(self.loss("HingeLoss", attrs)),
            "mse_loss" => return Some(self.loss("MSELoss", attrs)),
            "l1_loss" => return Some(self.loss("L1Loss", attrs)),
            "smooth_l1_loss" => return Some(self.loss("SmoothL1Loss", attrs)),
            "binary_cross_entropy_with_logits" => return Some(self.loss("BCEWithLogitsLoss", attrs)),
            op => panic!("unknown op {op}"),
        };
        Some(build::<dyn Module>(&self.name, ty, attrs))
    }

    fn softmax(&self) -> Box<dyn Module> {
        let (log, axis) = (self.op == "log_softmax", self.attrs["dim"].as_i64().unwrap() as isize);
        Box::new(Function(Box::new(move |x| Ok(if log { x.log_softmax(axis) } else { x.softmax(axis) }))))
    }

    fn loss(&self, ty: &str, attrs: serde_json::Map<String, Value>) -> Box<dyn Module> {
        let loss = build::<dyn Loss>(&self.name, ty, attrs);
        let target = self.inputs["target"].tensor();
        let of_classes = ["cross_entropy", "multi_margin_loss"].contains(&self.op.as_str());
        Box::new(Function(Box::new(move |x| {
            let classes: Vec<i64> = target.iter().map(|&t| t as i64).collect();
            let view = target.to_owned().into_owned();
            let target = if of_classes { Target::Classes(&classes) } else { Target::Dense(&view) };
            Ok(loss.forward(x, target)?.loss)
        })))
    }

    fn check(&self) -> bool {
        let Some(net) = self.layer() else { return false };
        let mut probe = Probe { x: Param::new(self.inputs["x"].tensor()), net };
        probe.net.visit_mut(&mut |mut p| {
            if let Some(value) = self.inputs.get(of_pytorch(p.name)) {
                p.value.assign(&value.tensor());
            }
        });
        let training = self.attrs.get("training") != Some(&json!(false));
        let mut rng = keyed(0, "fixtures", 0, 0);
        let y = Autograd::default()
            .train(&mut probe, &mut rng, |probe, tape, cx| {
                cx.training = training;
                let y = probe.net.forward(tape.param(&probe.x), cx)?;
                let loss = (y * tape.input(self.dy.tensor())).sum();
                Ok((loss, y.value()))
            })
            .unwrap();
        let what = |part: &str| format!("{} `{}`: {part}", self.op, self.name);
        self.output.assert_near(y.view(), &what("output"));
        let mut gradients = 0;
        probe.visit(&mut |p| {
            let name = of_pytorch(p.name.trim_start_matches("net."));
            if let Some(wanted) = self.grads.get(name) {
                wanted.assert_near(p.grad.unwrap(), &what(&format!("gradient of {name}")));
                gradients += 1;
            }
            if let Some(wanted) = self.extra.get(name) {
                wanted.assert_near(p.value, &what(name));
            }
        });
        assert_eq!(gradients, self.grads.len(), "{}", what("number of gradients"));
        true
    }
}

#[test]
fn every_case_equals_pytorch() {
    let cases = cases();
    let checked = cases.iter().filter(|case| case.check()).count();
    // Besides them one GELU by tanh.
    assert_eq!(checked + 1, cases.len());
    assert!(checked >= 120, "{checked}");
}
