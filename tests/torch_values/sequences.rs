//! Every layer of sequences, with weights and inputs that are drawn as `fixtures/gen_sequences.py` draws them.

use std::sync::Arc;

use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::module;
use shanty::nn::{
    AttentionMask, AttentionPosition, Bilinear, BufferPool, Embedding, EmbeddingConfig, Forward, GRU, LSTM,
    Module, MultiheadAttention, Param, RNN, RecurrentOutput, RecurrentState, RnnNonlinearity, Rotary, Tape,
    TorchAttention, Transformer, TransformerActivation, TransformerConfig, TransformerDecoder,
    TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer, TransformerLayerConfig,
    TransformerStackConfig, Var,
};
use shanty::params::HostParams;

use super::Answers;
use super::draw::Draw;

const TOLERANCE: f64 = if size_of::<Elem>() == 8 { 1e-12 } else { 1e-5 };

/// A layer and its input, which has a gradient too unless it is whole numbers.
struct Case {
    x: Option<Param>,
    memory: Option<Param>,
    cells: Option<Param>,
    net: Box<dyn Module>,
    numbers: Tensor,
    lengths: Option<Arc<[usize]>>,
}
module!(Case { x, memory, cells, net });

impl Case {
    fn run<'t>(&mut self, tape: &'t Tape) -> Result<Var<'t>> {
        let mut rng = keyed(0, "", 0, 0);
        let mut cx = Forward { lengths: self.lengths.clone(), ..Forward::new(false, &mut rng) };
        let x = self.x.as_ref().map_or_else(|| tape.input(self.numbers.clone()), |x| tape.param(x));
        let more = [&self.memory, &self.cells].into_iter().flatten().map(|more| tape.param(more));
        let xs: Vec<_> = [x].into_iter().chain(more).collect();
        self.net.forward_all(&xs, &mut cx)
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
    let numbers = Tensor::zeros(vec![0]);
    Case { x: Some(Param::new(x)), memory: None, cells: None, net, numbers, lengths: None }
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

/// From given states to all states and those behind the last steps, one behind the other.
struct States<N> {
    net: N,
}

macro_rules! states {
    ($($name:ident of $kind:ident)*) => {$(
        type $name = States<$kind>;
        module!($name { ..net });
        impl Module for States<$kind> {
            fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
                self.forward_all(&[x], cx)
            }
            fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
                let begin = RecurrentState { h: xs[1], c: xs.get(2).copied() };
                let (y, last) = self.net.forward_states(xs[0], Some(begin), cx)?;
                let all: Vec<_> = [Some(y), Some(last.h), last.c].into_iter().flatten().collect();
                Ok(y.tape().concat(&all.iter().map(|part| part.flatten(0, -1)).collect::<Vec<_>>(), 0))
            }
        }
    )*};
}
states!(RnnStates of RNN LstmStates of LSTM GruStates of GRU);

fn states(d: &mut Draw, kind: &str) -> Case {
    let (n, steps, ins, hidden) = (d.size(1, 4), d.size(1, 5), d.size(1, 4), d.size(1, 5));
    let (layers, bias, both, packed) = (d.size(1, 3), yes(d), yes(d), yes(d));
    macro_rules! built {
        ($kind:ident) => {
            drawn(
                d,
                States { net: $kind::new(ins, hidden).num_layers(layers).bias(bias).bidirectional(both) },
            )
        };
    }
    let net = match kind {
        "rnn" => built!(RNN),
        "lstm" => built!(LSTM),
        _ => built!(GRU),
    };
    let x = d.values(&[n, steps, ins], 1.0);
    let mut begin =
        |some: bool| some.then(|| Param::new(d.values(&[n, layers * if both { 2 } else { 1 }, hidden], 1.0)));
    let (memory, cells) = (begin(true), begin(kind == "lstm"));
    let lengths =
        packed.then(|| d.ints(&[n], 1, steps as i64).iter().map(|length| *length as usize).collect());
    Case { memory, cells, lengths, ..case(net, x) }
}

/// Attention with a mask, of tokens to themselves or to a memory.
struct Masked {
    attention: TorchAttention,
    mask: AttentionMask,
}
module!(Masked { ..attention });
impl Module for Masked {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.attention.attend(x, None, &self.mask, cx)
    }
    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.attention.attend(xs[0], xs.get(1).copied(), &self.mask, cx)
    }
}

fn masked(d: &mut Draw) -> Case {
    let (heads, bias, n, steps, keys) = (d.size(1, 3), yes(d), d.size(1, 3), d.size(1, 5), d.size(1, 5));
    let (dims, own, per_head, causal, padded) = (heads * d.size(1, 3), yes(d), yes(d), yes(d), yes(d));
    let mut attention = TorchAttention::new(dims, heads, 0.0, bias).unwrap();
    attention.visit_mut(&mut |mut p| {
        let drawn = d.values(p.value.shape(), 0.8);
        p.value.assign(&drawn);
    });
    let x = d.values(&[n, steps, dims], 1.0);
    let memory = (!own).then(|| Param::new(d.values(&[n, keys, dims], 1.0)));
    let keys = if own { steps } else { keys };
    let shape = if per_head { vec![n * heads, steps, keys] } else { vec![steps, keys] };
    let mut scores = d.values(&shape, 1.0).into_owned();
    let kept = d.ints(&shape, 0, 3);
    scores.zip_mut_with(&kept, |score, kept| {
        if *kept == 0 {
            *score = Elem::NEG_INFINITY
        }
    });
    let last = ndarray::Axis(shape.len() - 1);
    scores.index_axis_mut(last, 0).fill(0.5);
    let padding = padded.then(|| {
        let kept = d.ints(&[n, keys], 0, 2);
        ndarray::Array2::from_shape_fn((n, keys), |at| at.1 > 0 && kept[[at.0, at.1]] == 0)
    });
    let mask = AttentionMask { scores: Some(scores.into_shared()), padding, causal };
    Case { memory, ..case(Box::new(Masked { attention, mask }), x) }
}

fn rotary(d: &mut Draw) -> Case {
    let (n, steps, heads, head) = (d.size(1, 3), d.size(1, 6), d.size(1, 3), 2 * d.size(1, 4));
    let x = d.values(&[n, steps, heads * head], 1.0);
    let base = if yes(d) { 100.0 } else { 10_000.0 };
    case(Box::new(Rotary { head_dims: head, base }), x)
}

fn rotary_attention(d: &mut Draw) -> Case {
    let (n, steps, heads, head) = (d.size(1, 3), d.size(1, 6), d.size(1, 3), 2 * d.size(1, 2));
    let causal = yes(d);
    // The other attention, with the same weights in the same order.
    let net = MultiheadAttention::new(heads * head, heads).causal(causal).position(AttentionPosition::Rotary);
    let net = drawn(d, net);
    case(net, d.values(&[n, steps, heads * head], 1.0))
}

fn stack(d: &mut Draw, most: usize) -> TransformerStackConfig {
    let layer = options(d);
    let num_layers = d.size(1, most);
    let norm = yes(d);
    let causal = Some(yes(d));
    TransformerStackConfig { layer: TransformerLayerConfig { causal, ..layer }, num_layers, norm }
}

fn encoders(d: &mut Draw) -> Case {
    let config = stack(d, 3);
    let (n, steps) = (d.size(1, 3), d.size(1, 5));
    let net = drawn(d, TransformerEncoder::new(&config).unwrap());
    let x = d.values(&[n, steps, config.layer.d_model], 1.0);
    Case { lengths: lengths(d, n, steps), ..case(net, x) }
}

fn decoders(d: &mut Draw) -> Case {
    let config = stack(d, 2);
    let (n, steps, keys, width) = (d.size(1, 3), d.size(1, 5), d.size(1, 5), config.layer.d_model);
    let net = drawn(d, TransformerDecoder::new(&config).unwrap());
    let x = d.values(&[n, steps, width], 1.0);
    let memory = Some(Param::new(d.values(&[n, keys, width], 1.0)));
    Case { memory, lengths: lengths(d, n, keys), ..case(net, x) }
}

fn transformer(d: &mut Draw) -> Case {
    let (own, causal, n, steps, keys) = (options(d), yes(d), d.size(1, 3), d.size(1, 5), d.size(1, 5));
    let (num_encoder_layers, num_decoder_layers) = (d.size(1, 2), d.size(1, 2));
    let config = TransformerConfig {
        d_model: own.d_model,
        nhead: own.nhead,
        num_encoder_layers,
        num_decoder_layers,
        dim_feedforward: own.dim_feedforward,
        dropout: 0.0,
        activation: own.activation,
        norm_first: own.norm_first,
        bias: own.bias,
        causal,
        ..TransformerConfig::default()
    };
    let net = drawn(d, Transformer::new(&config).unwrap());
    let source = d.values(&[n, keys, own.d_model], 1.0);
    let memory = Some(Param::new(d.values(&[n, steps, own.d_model], 1.0)));
    Case { memory, lengths: lengths(d, n, keys), ..case(net, source) }
}

const LAYERS: [(&str, fn(&mut Draw) -> Case); 17] = [
    ("rnn_tanh", |d| recurrent(d, "rnn_tanh")),
    ("rnn_relu", |d| recurrent(d, "rnn_relu")),
    ("lstm", |d| recurrent(d, "lstm")),
    ("gru", |d| recurrent(d, "gru")),
    ("embedding", embedding),
    ("bilinear", bilinear),
    ("encoder", encoder),
    ("decoder", decoder),
    ("rnn_states", |d| states(d, "rnn")),
    ("lstm_states", |d| states(d, "lstm")),
    ("gru_states", |d| states(d, "gru")),
    ("masked", masked),
    ("rotary", rotary),
    ("rotary_attention", rotary_attention),
    ("encoders", encoders),
    ("decoders", decoders),
    ("transformer", transformer),
];

#[test]
fn layers_of_sequences_are_pytorchs() {
    let (mut answers, _) = Answers::read("sequences.safetensors");
    for (seed, (name, of)) in LAYERS.into_iter().enumerate() {
        // A layer norm of a few equal features multiplies what was rounded by up to 1 / sqrt(1e-5), thrice in a decoder.
        let tolerance = match name {
            "encoder" | "decoder" => 20.0 * TOLERANCE,
            "encoders" | "decoders" | "transformer" => 200.0 * TOLERANCE,
            _ => TOLERANCE,
        };
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
