//! Every activation, built by its name in a config.

use ndarray::IxDyn;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shanty::base::{Elem, Tensor, keyed};
use shanty::config::Node;
use shanty::module;
use shanty::nn::{Autograd, Module, Param};
use shanty::params::HostParams;
use shanty::registry::{BuildCx, Spec};

use super::Answers;
use super::draw::Draw;

const TOLERANCE: f64 = if size_of::<Elem>() == 8 { 1e-13 } else { 1e-6 };

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Map<String, Value>,
    /// The fewest axes of its input.
    #[serde(default = "one")]
    axes: usize,
    /// An axis of even size.
    even: Option<isize>,
    /// How many slopes are learnt: `one`, or one a channel.
    slopes: Option<String>,
    /// For less than all digits in f64.
    #[serde(default)]
    tolerance: f64,
}

fn one() -> usize {
    1
}

struct Probe {
    x: Param,
    layer: Box<dyn Module>,
}
module!(Probe { x, layer });

impl Case {
    fn shape(&self, draw: &mut Draw) -> Vec<usize> {
        let axes = draw.size(self.axes, 4);
        let mut shape = draw.shape(axes, 1, 3);
        if let Some(axis) = self.even {
            shape[axis.rem_euclid(axes as isize) as usize] *= 2;
        }
        shape
    }

    fn layer(&self, slopes: Option<&Tensor>) -> Box<dyn Module> {
        let mut config = self.config.clone();
        if let Some(slopes) = slopes {
            config.insert("num_parameters".into(), json!(slopes.len()));
        }
        let spec = Spec::<dyn Module>::from_node(&Node::of(&self.name, &config).unwrap());
        spec.unwrap_or_else(|error| panic!("{}: {error}", self.name)).build(&mut BuildCx::new(0)).unwrap()
    }

    fn check(&self, draw: &mut Draw, turn: usize, answers: &mut Answers) {
        let shape = self.shape(draw);
        let mut x = draw.values(&shape, [1.0, 4.0, 32.0, 10000.0][turn % 4]);
        if turn == 20 {
            let halves = Tensor::from_shape_fn(IxDyn(&[32]), |i| (i[0] as Elem - 16.0) / 2.0);
            x = if self.axes == 1 { halves } else { halves.into_shape_with_order(IxDyn(&[2, 16])).unwrap() };
        }
        let slopes = self.slopes.as_ref().map(|which| {
            let count = if which == "channels" { x.shape()[1] } else { 1 };
            draw.values(&[count], 1.0)
        });
        let mut probe = Probe { x: Param::new(x.clone()), layer: self.layer(slopes.as_ref()) };
        if let Some(slopes) = &slopes {
            probe.layer.visit_mut(&mut |mut p| p.value.assign(slopes));
        }
        let mut rng = keyed(0, "test", 0, 0);
        let y = Autograd::default().train(&mut probe, &mut rng, |probe, tape, cx| {
            let y = probe.layer.forward(tape.param(&probe.x), cx)?;
            let dy = draw.values(&y.shape(), 1.0);
            Ok(((y * tape.input(dy)).sum(), y.value()))
        });
        let y = y.unwrap();
        // The rounding of a large input is one of the output.
        let tolerance = self.tolerance.max(TOLERANCE);
        let scale = x.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
        answers.compare(&format!("{}.y", self.name), &y, scale, tolerance);
        answers.compare(&format!("{}.dx", self.name), probe.x.grad.as_ref().unwrap(), 1.0, 4.0 * tolerance);
        if slopes.is_some() {
            let grad = &mut Vec::new();
            probe.layer.visit(&mut |p| grad.extend(p.grad.unwrap().iter().copied()));
            answers.compare(&format!("{}.dw", self.name), &*grad, scale, tolerance);
        }
    }
}

/// Values and gradients in ±1e4 and where the bends are. `cargo test --test torch_values -- --nocapture` prints the
/// errors.
#[test]
fn every_activation_equals_pytorch() {
    let (mut answers, cases) = Answers::read("activations.safetensors");
    let cases: Vec<Case> = serde_json::from_value(cases.unwrap()).unwrap();
    assert!(cases.len() >= 32, "{}", cases.len());
    for (seed, case) in cases.iter().enumerate() {
        let mut draw = Draw::new(seed as u32);
        (0..21).for_each(|turn| case.check(&mut draw, turn, &mut answers));
        println!("{:18} worst error {:.1e}", case.name, answers.take_worst());
    }
    answers.finish();
}
