//! Every layer of sequences, with weights and inputs that are drawn as `fixtures/gen_sequences.py` draws them.

use std::sync::Arc;

use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::module;
use shanty::nn::{
    Bilinear, BufferPool, Embedding, EmbeddingConfig, Forward, GRU, LSTM, Module, Param, RNN,
    RecurrentOutput, RnnNonlinearity, Tape, TransformerActivation, TransformerDecoderLayer,
    TransformerEncoderLayer, TransformerLayerConfig, Var,
};
use shanty::params::HostParams;

use super::Answers;
use super::draw::Draw;

const TOLERANCE: f64 = if size_of::<Elem>() == 8 { 1e-12 } else { 1e-5 };

/// A layer and its input, which has a gradient too unless it is whole numbers.
struct Case {
    x: Option<Param>,
    memory: Option<Param>,
    net: Box<dyn Module>,
    numbers: Tensor,
    lengths: Option<Arc<[usize]>>,
}
module!(Case { x, memory, net });

impl Case {
    fn run<'t>(&mut self, tape: &'t Tape) -> Result<Var<'t>> {
        let mut rng = keyed(0, "", 0, 0);
        let mut cx = Forward { lengths: self.lengths.clone(), ..Forward::new(false, &mut rng) };
        let x = self.x.as_ref().map_or_else(|| tape.input(self.numbers.clone()), |x| tape.param(x));
        match &self.memory {
            None => self.net.forward(x, &mut cx),
            Some(memory) => self.net.forward_all(&[x, tape.param(memory)], &mut cx),
        }
    }
}

fn yes(d: &mut Draw) -> bool {
    d.int(0, 1) == 1
}

/// The layer with its parameters drawn in their order.
fn drawn(d: &mut Draw, mut net: impl Module) -> Box<dyn Module> {
    net.visit_mut(&mut |mut p| {
        let drawn = d.values(p.value.shape(), 0.8);
        p.value.assign(&drawn);
    });
    Box::new(net)
}

fn case(net: Box<dyn Module>, x: Tensor) -> Case {
    Case { x: Some(Param::new(x)), memory: None, net, numbers: Tensor::zeros(vec![0]), lengths: None }
}

fn recurrent(d: &mut Draw, kind: &str) -> Case {
    let (n, steps, ins, hidden) = (d.size(1, 4), d.size(1, 5), d.size(1, 4), d.size(1, 5));
    let (layers, bias, both, packed, last) = (d.size(1, 3), yes(d), yes(d), yes(d), yes(d));
    let output = if last { RecurrentOutput::Last } else { RecurrentOutput::Sequence };
    macro_rules! built {
        ($net:expr) => {
            drawn(d, $net.num_layers(layers).bias(bias).bidirectional(both).output(output))
        };
    }
    let net = match kind {
        "rnn_tanh" => built!(RNN::new(ins, hidden)),
        "rnn_relu" => built!(RNN::new(ins, hidden).nonlinearity(RnnNonlinearity::Relu)),
        "lstm" => built!(LSTM::new(ins, hidden)),
        _ => built!(GRU::new(ins, hidden)),
    };
    let x = d.values(&[n, steps, ins], 1.0);
    let lengths =
        packed.then(|| d.ints(&[n], 1, steps as i64).iter().map(|length| *length as usize).collect());
    Case { lengths, ..case(net, x) }
}

fn embedding(d: &mut Draw) -> Case {
    let (rows, width, axes) = (d.size(1, 6), d.size(1, 5), d.size(1, 3));
    let (shape, padding) = (d.shape(axes, 1, 4), yes(d));
    let at = d.int(-(rows as i64), rows as i64 - 1);
    let config =
        EmbeddingConfig { num_embeddings: rows, embedding_dim: width, padding_idx: padding.then_some(at) };
    let layer: Embedding = config.build().unwrap();
    let net = drawn(d, layer);
    let numbers = d.ints(&shape, 0, rows as i64 - 1).mapv(|number| number as Elem).into_shared();
    Case { x: None, numbers, ..case(net, Tensor::zeros(vec![0])) }
}

fn bilinear(d: &mut Draw) -> Case {
    let (a, b, out, bias, axes) = (d.size(1, 5), d.size(1, 5), d.size(1, 4), yes(d), d.size(0, 2));
    let mut shape = d.shape(axes, 1, 4);
    let net = drawn(d, Bilinear::new(a, b, out).bias(bias));
    shape.push(a + b);
    case(net, d.values(&shape, 1.0))
}

fn options(d: &mut Draw) -> TransformerLayerConfig {
    let nhead = d.size(1, 3);
    let (d_model, dim_feedforward) = (nhead * d.size(1, 3), d.size(1, 6));
    let activation = if yes(d) { TransformerActivation::Gelu } else { TransformerActivation::Relu };
    let (norm_first, bias) = (yes(d), yes(d));
    TransformerLayerConfig {
        dim_feedforward,
        dropout: 0.0,
        activation,
        norm_first,
        bias,
        ..TransformerLayerConfig::new(d_model, nhead)
    }
}

fn lengths(d: &mut Draw, n: usize, steps: usize) -> Option<Arc<[usize]>> {
    let some = yes(d);
    some.then(|| d.ints(&[n], 1, steps as i64).iter().map(|length| *length as usize).collect())
}

fn encoder(d: &mut Draw) -> Case {
    let (own, causal, n, steps) = (options(d), yes(d), d.size(1, 3), d.size(1, 5));
    let width = own.d_model;
    let net = TransformerEncoderLayer::new(TransformerLayerConfig { causal: Some(causal), ..own });
    let net = drawn(d, net.unwrap());
    let x = d.values(&[n, steps, width], 1.0);
    Case { lengths: lengths(d, n, steps), ..case(net, x) }
}

fn decoder(d: &mut Draw) -> Case {
    let (own, causal, n, steps, keys) = (options(d), yes(d), d.size(1, 3), d.size(1, 5), d.size(1, 5));
    let width = own.d_model;
    let net = TransformerDecoderLayer::new(TransformerLayerConfig { causal: Some(causal), ..own });
    let net = drawn(d, net.unwrap());
    let x = d.values(&[n, steps, width], 1.0);
    let memory = Some(Param::new(d.values(&[n, keys, width], 1.0)));
    Case { memory, lengths: lengths(d, n, keys), ..case(net, x) }
}

const LAYERS: [(&str, fn(&mut Draw) -> Case); 8] = [
    ("rnn_tanh", |d| recurrent(d, "rnn_tanh")),
    ("rnn_relu", |d| recurrent(d, "rnn_relu")),
    ("lstm", |d| recurrent(d, "lstm")),
    ("gru", |d| recurrent(d, "gru")),
    ("embedding", embedding),
    ("bilinear", bilinear),
    ("encoder", encoder),
    ("decoder", decoder),
];

#[test]
fn layers_of_sequences_are_pytorchs() {
    let (mut answers, _) = Answers::read("sequences.safetensors");
    for (seed, (name, of)) in LAYERS.into_iter().enumerate() {
        // A layer norm of a few equal features multiplies what was rounded by up to 1 / sqrt(1e-5), thrice in a decoder.
        let tolerance = if ["encoder", "decoder"].contains(&name) { 20.0 * TOLERANCE } else { TOLERANCE };
        let mut draw = Draw::new(2000 + seed as u32);
        for _ in 0..20 {
            let mut case = of(&mut draw);
            let tape = Tape::new(BufferPool::default());
            let y = case.run(&tape).unwrap();
            answers.compare(&format!("{name}.y"), y.value().iter(), 1.0, tolerance);
            let loss = (y * tape.input(draw.values(&y.shape(), 1.0))).sum().id();
            tape.backward(loss, &mut case).unwrap();
            case.visit(&mut |p| {
                answers.compare(&format!("{name}.d"), p.grad.unwrap().iter(), 1.0, tolerance);
            });
        }
        println!("{name:12} worst error {:.1e}", answers.take_worst());
    }
    answers.finish();
}
