//! Measures what docs/activations.md says of activations, and writes its pictures:
//! `cargo run --release --example activations -- docs`.
//!
//! Each is put into one network, 12 hidden layers of 64 units on the embedded digits, with the same initial weights
//! (normal, variance 2 / 64; for SELU 1 / 64, for which it is made), the same batches and the same SGD. It prints
//! tables in Markdown.
#![allow(clippy::print_stdout)] // an example speaks

use std::fmt::Write as _;

use anyhow::Result;
use shanty::base::{Elem, Tensor, keyed, rng::permutation};
use shanty::data::{Dataset, Digits, DigitsSplit, SplitBy};
use shanty::ndarray::{ArrayD, Axis, IxDyn};
use shanty::nn::init::{Normal, init_weights};
use shanty::nn::{Autograd, CrossEntropyLoss, Forward, Linear, Loss, Module, Param, Target, Var};
use shanty::params::HostParams;
use shanty::registry::{BuildCx, Spec};

const DEPTH: usize = 12;
const WIDTH: usize = 64;
const EPOCHS: u64 = 20;
const BATCH: usize = 64;
const LR: Elem = 0.01;
/// The rates at which units die.
const RATES: [Elem; 4] = [0.01, 0.02, 0.03, 0.05];
const DYING: [&str; 7] = ["ReLU", "ReLU6", "LeakyReLU 0.01", "PReLU", "ELU", "GELU", "Mish"];
const MOMENTUM: Elem = 0.9;
/// A slope below this lets next to nothing through.
const FLAT: Elem = 0.05;

/// Name in the table, and the layer.
const ALL: [(&str, &str); 18] = [
    ("Sigmoid", "{type: Sigmoid}"),
    ("Hardsigmoid", "{type: Hardsigmoid}"),
    ("Tanh", "{type: Tanh}"),
    ("Hardtanh", "{type: Hardtanh}"),
    ("Softsign", "{type: Softsign}"),
    ("ReLU", "{type: ReLU}"),
    ("ReLU6", "{type: ReLU6}"),
    ("LeakyReLU 0.01", "{type: LeakyReLU}"),
    ("PReLU", "{type: PReLU, num_parameters: 64}"),
    ("ELU", "{type: ELU}"),
    ("SELU", "{type: SELU}"),
    ("CELU 2", "{type: CELU, alpha: 2.0}"),
    ("Softplus", "{type: Softplus}"),
    ("GELU", "{type: GELU}"),
    ("SiLU", "{type: SiLU}"),
    ("Mish", "{type: Mish}"),
    ("Hardswish", "{type: Hardswish}"),
    ("Tanhshrink", "{type: Tanhshrink}"),
];

struct Layer {
    linear: Linear,
    act: Box<dyn Module>,
}
shanty::module!(Layer { linear, act });

struct Deep {
    hidden: Vec<Layer>,
    head: Linear,
}
shanty::module!(Deep { hidden, head });

fn linear(ins: usize, outs: usize, gain: f64) -> Linear {
    let rule = Normal { mean: 0.0, std: (gain / ins as f64).sqrt() };
    let bias = Some(Param::init(&[outs], Normal { mean: 0.0, std: 0.0 }));
    Linear::of(Param::init(&[outs, ins], rule), bias)
}

fn layer(yaml: &str) -> Result<Box<dyn Module>> {
    Ok(Spec::<dyn Module>::parse(yaml)?.build(&mut BuildCx::new(0))?)
}

impl Deep {
    fn new(yaml: &str) -> Result<Self> {
        let gain = if yaml.contains("SELU") { 1.0 } else { 2.0 };
        let hidden = (0..DEPTH).map(|_| Ok(Layer { linear: linear(WIDTH, WIDTH, gain), act: layer(yaml)? }));
        let mut net = Self { hidden: hidden.collect::<Result<_>>()?, head: linear(WIDTH, 10, gain) };
        init_weights(&mut net, 0)?;
        Ok(net)
    }

    /// The scores, and what goes into each activation and comes out of it.
    fn run<'t>(
        &mut self,
        mut x: Var<'t>,
        cx: &mut Forward<'_>,
    ) -> shanty::base::Result<(Var<'t>, Vec<[Tensor; 2]>)> {
        let mut seen = Vec::new();
        for layer in &mut self.hidden {
            let before = layer.linear.forward(x, cx)?;
            x = layer.act.forward(before, cx)?;
            seen.push([before.value(), x.value()]);
        }
        Ok((self.head.forward(x, cx)?, seen))
    }
}

/// Pixels in −1..1 and classes.
struct Data {
    x: ArrayD<Elem>,
    labels: Vec<i64>,
}

impl Data {
    fn load(split: DigitsSplit) -> Result<Self> {
        let digits = Digits::load(split, SplitBy::Index)?;
        let (mut x, mut labels) = (Vec::new(), Vec::new());
        for i in 0..digits.len() {
            let sample = digits.get(i, &mut keyed(0, "digits", 0, 0))?;
            x.extend(sample.float("inputs")?.iter().map(|v| *v as Elem / 8.0 - 1.0));
            labels.push(sample.label().unwrap_or(0));
        }
        Ok(Self { x: ArrayD::from_shape_vec(IxDyn(&[labels.len(), WIDTH]), x)?, labels })
    }

    fn batch(&self, places: &[usize]) -> Self {
        Self { x: self.x.select(Axis(0), places), labels: places.iter().map(|i| self.labels[*i]).collect() }
    }
}

/// What a pass over data gives.
struct Pass {
    loss: Elem,
    right: usize,
    seen: Vec<[Tensor; 2]>,
}

/// Forward and backward; gradients are added to the network.
fn pass(net: &mut Deep, data: &Data, autograd: &mut Autograd) -> Result<Pass> {
    let done = autograd.train(net, &mut keyed(0, "pass", 0, 0), |net, tape, cx| {
        let (scores, seen) = net.run(tape.input(data.x.clone()), cx)?;
        let loss = CrossEntropyLoss::default().forward(scores, Target::Classes(&data.labels))?.loss;
        let right = scores.argmax(1)?.iter().zip(&data.labels).filter(|(a, b)| a == b).count();
        Ok((loss, Pass { loss: loss.item(), right, seen }))
    });
    Ok(done?)
}

fn train(net: &mut Deep, data: &Data, rate: Elem) -> Result<()> {
    let (mut autograd, mut velocity) = (Autograd::default(), Vec::<ArrayD<Elem>>::new());
    for epoch in 0..EPOCHS {
        let order = permutation(data.labels.len(), &mut keyed(0, "order", epoch, 0));
        for places in order.chunks_exact(BATCH) {
            pass(net, &data.batch(places), &mut autograd)?;
            let mut i = 0;
            net.visit_mut(&mut |mut p| {
                let Some(grad) = &p.grad else { return };
                if velocity.len() == i {
                    velocity.push(ArrayD::zeros(grad.raw_dim()));
                }
                let v = &mut velocity[i];
                v.zip_mut_with(grad, |v, g| *v = MOMENTUM * *v + g);
                p.value.scaled_add(-rate, v);
                i += 1;
            });
            net.zero_grads();
        }
    }
    Ok(())
}

/// An activation with its input as a parameter, whose gradient is the slope.
struct Slope {
    x: Param,
    act: Box<dyn Module>,
}
shanty::module!(Slope { x, act });

fn values_and_slopes(x: impl Into<Tensor>, act: Box<dyn Module>) -> Result<(Tensor, ArrayD<Elem>)> {
    let mut probe = Slope { x: Param::new(x), act };
    let y = Autograd::default().train(&mut probe, &mut keyed(0, "slope", 0, 0), |probe, tape, cx| {
        let y = probe.act.forward(tape.param(&probe.x), cx)?;
        Ok((y.sum(), y.value()))
    })?;
    let slopes = probe.x.grad.unwrap_or_else(|| ArrayD::zeros(y.raw_dim()));
    Ok((y, slopes))
}

/// A line of the table.
struct Measured {
    name: &'static str,
    /// Gradient of the first hidden layer's weights over that of the last, before training.
    reach: f64,
    /// Mean of the outputs over their standard deviation, mean of all hidden layers, after training.
    off_centre: f64,
    /// Share of slopes that are nearly 0.
    flat: f64,
    /// Share of units that get no gradient from any sample.
    dead: f64,
    loss: f64,
    accuracy: f64,
}

fn norm(param: &Param) -> f64 {
    let grad = param.grad.iter().flat_map(|grad| grad.iter());
    grad.map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt()
}

fn measure(name: &'static str, yaml: &str, rate: Elem, [train_set, val_set]: [&Data; 2]) -> Result<Measured> {
    let (mut net, mut autograd) = (Deep::new(yaml)?, Autograd::default());
    pass(&mut net, train_set, &mut autograd)?;
    let [first, last] = [0, DEPTH - 1].map(|i| norm(&net.hidden[i].linear.weight));
    let reach = first / last.max(1e-30);
    net.zero_grads();
    train(&mut net, train_set, rate)?;
    let accuracy = pass(&mut net, val_set, &mut autograd)?.right as f64 / val_set.labels.len() as f64;
    net.zero_grads();
    let Pass { loss, seen, .. } = pass(&mut net, train_set, &mut autograd)?;
    let mut found =
        Measured { name, reach, off_centre: 0.0, flat: 0.0, dead: 0.0, loss: loss.into(), accuracy };
    for (layer, [before, after]) in net.hidden.drain(..).zip(seen) {
        found.off_centre +=
            f64::from(after.mean().unwrap_or(0.0).abs() / after.std(0.0).max(1e-12)) / DEPTH as f64;
        let grad = layer.linear.bias.and_then(|bias| bias.grad).unwrap_or_default();
        found.dead += grad.iter().filter(|g| **g == 0.0).count() as f64 / (DEPTH * WIDTH) as f64;
        let (_, slopes) = values_and_slopes(before, layer.act)?;
        let flat = slopes.iter().filter(|slope| slope.abs() < FLAT).count();
        found.flat += flat as f64 / (slopes.len() * DEPTH) as f64;
    }
    Ok(found)
}

fn head(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    )
}

/// Each activation and its slope over −6..6, in a panel of its own.
fn curves() -> Result<String> {
    let (columns, size, step) = (6, 130.0, 20.0);
    let mut svg = head(columns as f64 * size, (ALL.len().div_ceil(columns)) as f64 * (size + step));
    for (i, (name, yaml)) in ALL.iter().enumerate() {
        let (left, top) = ((i % columns) as f64 * size, (i / columns) as f64 * (size + step));
        let one = yaml.replace("64", "1");
        let x = Tensor::from_shape_fn(IxDyn(&[97, 1]), |i| (i[0] as Elem - 48.0) / 8.0);
        let (y, slopes) = values_and_slopes(x, layer(&one)?)?;
        let place = |i: usize, y: Elem| {
            let across = left + 5.0 + i as f64 * (size - 10.0) / 96.0;
            (across, top + step + size / 2.0 - f64::from(y) * (size / 6.0 - 2.0))
        };
        let path = |values: &mut dyn Iterator<Item = Elem>| {
            values.enumerate().filter(|(_, y)| y.abs() <= 3.0).fold(String::new(), |mut text, (i, y)| {
                let (x, y) = place(i, y);
                let _ = write!(text, "{x:.1},{y:.1} ");
                text
            })
        };
        let (middle, (centre, ground)) = (left + size / 2.0, place(48, 0.0));
        let _ = write!(
            svg,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{name}</text>\n\
             <path d=\"M{} {ground:.1}h{}M{centre:.1} {}v{}\" stroke=\"#bbb\"/>\n\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#d62728\" stroke-dasharray=\"3 2\"/>\n\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#1f77b4\" stroke-width=\"1.5\"/>\n",
            top + 14.0,
            left + 5.0,
            size - 10.0,
            top + step,
            size,
            path(&mut slopes.iter().copied()),
            path(&mut y.iter().copied()),
        );
    }
    Ok(svg + "</svg>\n")
}

/// Four columns of bars, a row for each activation.
fn bars(all: &[Measured]) -> String {
    let columns: [(&str, fn(&Measured) -> f64, f64); 4] = [
        ("flat slopes, share", |m| m.flat, 1.0),
        ("units without gradient, share", |m| m.dead, 1.0),
        ("|mean| / deviation of outputs", |m| m.off_centre, 2.0),
        ("accuracy", |m| m.accuracy, 1.0),
    ];
    let (row, label, width) = (18.0, 110.0, 170.0);
    let mut svg = head(label + 4.0 * width, 30.0 + row * all.len() as f64);
    for (c, (title, value, most)) in columns.iter().enumerate() {
        let left = label + c as f64 * width;
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"16\">{title}</text>");
        for (i, measured) in all.iter().enumerate() {
            let (top, value) = (26.0 + row * i as f64, value(measured));
            let long = (value / most).clamp(0.0, 1.0) * (width - 60.0);
            let _ = write!(
                svg,
                "<rect x=\"{left}\" y=\"{top}\" width=\"{long:.1}\" height=\"12\" fill=\"#1f77b4\"/>\n\
                 <text x=\"{:.1}\" y=\"{}\">{value:.3}</text>\n",
                left + long + 4.0,
                top + 10.0,
            );
        }
    }
    for (i, measured) in all.iter().enumerate() {
        let _ = writeln!(svg, "<text x=\"4\" y=\"{}\">{}</text>", 36.0 + row * i as f64, measured.name);
    }
    svg + "</svg>\n"
}

/// The share of dead units, and the accuracy, at larger and larger learning rates.
fn dying(data: [&Data; 2]) -> Result<()> {
    println!("\n| activation | {} |", RATES.map(|rate| format!("rate {rate}")).join(" | "));
    println!("|---|{}", "---|".repeat(RATES.len()));
    for (name, yaml) in ALL.iter().filter(|(name, _)| DYING.contains(name)) {
        let mut line = format!("| {name} |");
        for rate in RATES {
            let m = measure(name, yaml, rate, data)?;
            let _ = match m.loss.is_finite() {
                true => write!(line, " {:.1} % ({:.1} %) |", m.dead * 100.0, m.accuracy * 100.0),
                false => write!(line, " NaN |"),
            };
        }
        println!("{line}");
    }
    Ok(())
}

fn main() -> Result<()> {
    let (train_set, val_set) = (Data::load(DigitsSplit::Train)?, Data::load(DigitsSplit::Val)?);
    let data = [&train_set, &val_set];
    println!(
        "| activation | gradient first/last | flat slopes | dead units | off centre | loss | accuracy |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut all = Vec::new();
    for (name, yaml) in ALL {
        let m = measure(name, yaml, LR, data)?;
        let [flat, dead, accuracy] = [m.flat, m.dead, m.accuracy].map(|share| share * 100.0);
        let (reach, off, loss) = (m.reach, m.off_centre, m.loss);
        println!(
            "| {name} | {reach:.1e} | {flat:.1} % | {dead:.1} % | {off:.2} | {loss:.3} | {accuracy:.1} % |"
        );
        all.push(m);
    }
    dying(data)?;
    if let Some(folder) = std::env::args().nth(1) {
        std::fs::write(format!("{folder}/activations_curves.svg"), curves()?)?;
        std::fs::write(format!("{folder}/activations_deep.svg"), bars(&all))?;
    }
    Ok(())
}
