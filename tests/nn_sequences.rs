//! Layers of sequences: what they refuse, what does not change their bits, and what they owe a network.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use shanty::base::{Elem, Result, Tensor, keyed};
use shanty::config::parse;
use shanty::nn::{
    AttentionMask, AttentionOptions, Autograd, Bilinear, BufferPool, Embedding, Forward, GRU, LSTM, Module,
    MultiheadAttention, OverTime, PoolOverTime, PositionalEncoding, RecurrentState, Rotary, Tape,
    TransformerDecoder, TransformerLayerConfig, TransformerStackConfig,
};
use shanty::params::{HostParams, StateDict};
use shanty::registry::{BuildCx, Spec};

fn noise(shape: &[usize]) -> Tensor {
    use rand::RngExt as _;
    let mut rng = keyed(3, "noise", 0, 0);
    Tensor::from_shape_simple_fn(shape.to_vec(), || rng.random_range(-1.0..1.0))
}

fn apply(layer: &mut dyn Module, x: Tensor, lengths: Option<&[usize]>) -> Result<Tensor> {
    let mut rng = keyed(0, "", 0, 0);
    let mut cx = Forward { lengths: lengths.map(Into::into), ..Forward::new(false, &mut rng) };
    let tape = Tape::new(BufferPool::default());
    Ok(layer.forward(tape.input(x), &mut cx)?.checked()?.value())
}

fn stack() -> TransformerStackConfig {
    TransformerStackConfig { layer: TransformerLayerConfig::new(4, 2), num_layers: 1, norm: false }
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    let number =
        |x: Elem| Tensor::from_shape_fn(vec![2, 3], |at| if at[0] == 1 && at[1] == 2 { x } else { 0.0 });
    let mut cases: Vec<(Box<dyn Module>, Tensor, Option<&[usize]>, &str)> = vec![
        (Box::new(Embedding::new(5, 2)), number(5.0), None, "5 at [1, 2] is none of 5 embeddings"),
        (Box::new(Embedding::new(5, 2)), number(-1.0), None, "-1 at [1, 2] is none of 5 embeddings"),
        (Box::new(Embedding::new(5, 2)), number(0.5), None, "0.5 at [1, 2] is no whole number"),
        (Box::new(Embedding::new(5, 2)), number(Elem::NAN), None, "NaN at [1, 2] is no whole number"),
        (Box::new(LSTM::new(4, 3)), noise(&[2, 4]), None, "sequences of shape [N, T, 4]"),
        (Box::new(LSTM::new(4, 3)), noise(&[2, 5, 3]), None, "its last axis must be 4"),
        (Box::new(GRU::new(4, 3)), noise(&[2, 0, 4]), None, "there must be a step"),
        (Box::new(GRU::new(4, 3)), noise(&[2, 5, 4]), Some(&[5]), "1 lengths for 2 sequences"),
        (
            Box::new(LSTM::new(4, 3)),
            noise(&[2, 5, 4]),
            Some(&[5, 0]),
            "sequence 1 of the batch has the length 0",
        ),
        (Box::new(Rotary::new(3)), noise(&[2, 5, 6]), None, "are no heads of 3 features"),
        (
            Box::new(TransformerDecoder::new(&stack()).unwrap()),
            noise(&[2, 5, 4]),
            None,
            "tokens and a memory, and gets 1",
        ),
        (
            Box::new(GRU::new(4, 3)),
            noise(&[2, 5, 4]),
            Some(&[5, 6]),
            "sequence 1 of the batch has the length 6",
        ),
        (
            Box::new(MultiheadAttention::new(4, 2)),
            noise(&[2, 5, 4]),
            Some(&[6, 1]),
            "sequence 0 of the batch has the length 6",
        ),
        (Box::new(PoolOverTime::new(OverTime::Max)), noise(&[2, 5]), None, "pooling over time wants"),
        (Box::new(PositionalEncoding::learnt(3, 4)), noise(&[2, 5, 4]), None, "raise `max_len`"),
        (Box::new(Bilinear::new(2, 2, 1)), noise(&[2, 5]), None, "2 and 2 features side by side"),
    ];
    for (layer, x, lengths, wanted) in &mut cases {
        let said =
            apply(layer.as_mut(), x.clone(), *lengths).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains(*wanted), "{}: {said:?}, not {wanted:?}", layer.type_name());
    }
}

#[test]
fn mistakes_in_a_config() {
    for (yaml, wanted) in [
        ("{type: Embedding, num_embeddings: 3, embedding_dim: 2, padding_idx: 3}", "no row of 3 embeddings"),
        ("{type: Embedding, num_embeddings: 3, embedding_dim: 2, padding_idx: -4}", "no row of 3 embeddings"),
        ("{type: LSTM, input_size: 2}", "hidden_size"),
        ("{type: LSTM, input_size: 2, hidden_size: 3, output: first}", "first"),
        ("{type: TransformerEncoderLayer, d_model: 6, nhead: 4}", "`nhead: 4` does not divide `d_model: 6`"),
        ("{type: LSTM, input_size: 2, hidden_size: 3, output: cells}", "cells"),
        ("{type: Rotary, head_dims: 3}", "no number of pairs"),
        ("{type: MultiheadAttention, embed_dims: 6, num_heads: 2, position: rotary}", "an odd number"),
        (
            "{type: TransformerEncoder, num_layers: 2, layer: {d_model: 6, nhead: 4}}",
            "`nhead: 4` does not divide",
        ),
        ("{type: Transformer, d_model: 6, nhead: 2, position: rotary}", "an odd number"),
        ("{type: PositionalEncoding, mode: learnt}", "needs `d_model` and `max_len`"),
        ("{type: PositionalEncoding, max_len: 4}", "are for `mode: learnt`"),
    ] {
        let built = || -> Result<Box<dyn Module>> {
            let spec: Spec<dyn Module> = parse("net.yaml", yaml)?.read()?;
            spec.build(&mut BuildCx::new(0))
        };
        let said = built().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains(wanted) && said.contains("net.yaml:1:"), "{yaml}: {said}");
    }
}

/// Masks and states of other sizes than the layer's.
#[test]
fn masks_and_states_have_the_sizes_of_their_layer() {
    let tape = Tape::new(BufferPool::default());
    let mut rng = keyed(0, "", 0, 0);
    let mut cx = Forward::new(false, &mut rng);
    let x = tape.input(noise(&[2, 3, 4]));
    let mut attention = MultiheadAttention::new(4, 2);
    let mask = |shape: &[usize]| AttentionMask { scores: Some(noise(shape)), ..AttentionMask::default() };
    for shape in [&[3, 3][..], &[4, 3, 3]] {
        attention.forward_masked(x, &mask(shape), &mut cx).unwrap();
    }
    for shape in [&[3][..], &[3, 4], &[2, 3, 3], &[4, 3, 4]] {
        let said = attention.forward_masked(x, &mask(shape), &mut cx).unwrap_err().to_string();
        assert!(said.contains("the mask of an attention is [3, 3] or [4, 3, 3]"), "{said}");
        let padded = AttentionMask { padding: Some(ndarray::Array2::default((2, 3))), ..mask(shape) };
        assert!(attention.forward_masked(x, &padded, &mut cx).is_err(), "{shape:?}");
    }
    let padding =
        AttentionMask { padding: Some(ndarray::Array2::default((3, 3))), ..AttentionMask::default() };
    let said = attention.forward_masked(x, &padding, &mut cx).unwrap_err().to_string();
    assert!(said.contains("the padding of an attention"), "{said}");
    let mut lstm = LSTM::new(4, 3).bidirectional(true);
    for (h, c) in [([2, 1, 3], [2, 2, 3]), ([2, 2, 3], [2, 2, 4]), ([1, 2, 3], [2, 2, 3])] {
        let state = RecurrentState { h: tape.input(noise(&h)), c: Some(tape.input(noise(&c))) };
        let said = lstm.forward_states(x, Some(state), &mut cx).unwrap_err().to_string();
        assert!(said.contains("the states that a recurrent layer begins with"), "{said}");
    }
}

/// What a query and a key say to each other depends on how far apart they stand, not on where.
#[test]
fn turned_tokens_know_their_distance() {
    let (tape, mut rng) = (Tape::new(BufferPool::default()), keyed(0, "", 0, 0));
    let one = noise(&[1, 1, 8]);
    let all = tape.input(one.broadcast(vec![1, 9, 8]).unwrap().to_shared());
    let turned = Rotary::new(4).forward(all, &mut Forward::new(false, &mut rng)).unwrap();
    let scores = turned.matmul(turned.transpose(1, 2)).value();
    for (i, j) in [(0, 3), (2, 5), (5, 8)] {
        assert!((scores[[0, i, j]] - scores[[0, 0, 3]]).abs() < 1e-5, "{i} {j}");
    }
    let options = AttentionOptions { bias: Some(noise(&[1])), ..AttentionOptions::new(1) };
    assert!(all.attention(all, all, &options, &mut rng).checked().is_err());
}

/// A network of two inputs in YAML: what an encoder makes of the one is the memory of a decoder of the other.
#[test]
fn a_decoder_and_states_are_fed_from_yaml() {
    let yaml = "{type: Transformer, d_model: 4, nhead: 2, num_encoder_layers: 1, num_decoder_layers: 1, dim_feedforward: 8}";
    let lstm = "{type: LSTM, input_size: 4, hidden_size: 3, initial_states: true, output: state}";
    for (yaml, second, wanted) in [(yaml, vec![2, 5, 4], vec![2, 5, 4]), (lstm, vec![2, 1, 3], vec![2, 1, 3])]
    {
        let spec: Spec<dyn Module> = parse("net.yaml", yaml).unwrap().read().unwrap();
        let mut net = spec.build(&mut BuildCx::new(0)).unwrap();
        assert!(net.takes_several());
        let (tape, mut rng) = (Tape::new(BufferPool::default()), keyed(0, "", 0, 0));
        let xs = [tape.input(noise(&[2, 3, 4])), tape.input(noise(&second))];
        let y = net.forward_all(&xs, &mut Forward::new(false, &mut rng)).unwrap();
        assert_eq!(y.shape(), wanted);
        let said = net.forward(xs[0], &mut Forward::new(false, &mut rng)).unwrap_err().to_string();
        assert!(said.contains("gets 1"), "{said}");
    }
}

/// Steps beyond the end of a sequence have no part in anything.
#[test]
fn what_fills_up_changes_nothing() {
    let mut changed = noise(&[2, 4, 4]);
    for step in 2..4 {
        for feature in 0..4 {
            changed[[1, step, feature]] = 99.0;
        }
    }
    let layers: Vec<Box<dyn Module>> = vec![
        Box::new(LSTM::new(4, 3).bidirectional(true).num_layers(2)),
        Box::new(GRU::new(4, 3).bidirectional(true)),
        Box::new(MultiheadAttention::new(4, 2)),
        Box::new(PoolOverTime::new(OverTime::Mean)),
    ];
    for mut layer in layers {
        let lengths: &[usize] = &[4, 2];
        let own =
            |y: Tensor| if y.ndim() == 3 { y.slice_move(ndarray::s![.., ..2, ..]).into_dyn() } else { y };
        let a = own(apply(layer.as_mut(), noise(&[2, 4, 4]), Some(lengths)).unwrap());
        let b = own(apply(layer.as_mut(), changed.clone(), Some(lengths)).unwrap());
        assert_eq!(a, b, "{}", layer.type_name());
    }
}

/// The gradients of large layers, whose work is shared out, for one, two and three threads.
#[test]
fn bits_do_not_depend_on_threads() {
    struct Net {
        table: Embedding,
        lstm: LSTM,
        gru: GRU,
        attention: MultiheadAttention,
    }
    shanty::module!(Net { table, lstm, gru, attention });
    let gradients = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut net = Net {
                table: Embedding::new(700, 64),
                lstm: LSTM::new(64, 96).bidirectional(true),
                gru: GRU::new(192, 128),
                attention: MultiheadAttention::new(128, 4).causal(true),
            };
            let numbers = Tensor::from_shape_fn(vec![40, 70], |at| ((at[0] * 31 + at[1] * 17) % 97) as Elem);
            Autograd::default()
                .train(&mut net, &mut keyed(0, "", 0, 0), |net, tape, cx| {
                    let x = net.table.forward(tape.input(numbers), cx)?;
                    let x = net.gru.forward(net.lstm.forward(x, cx)?, cx)?;
                    let y = net.attention.forward(x, cx)?;
                    Ok(((y * y).mean(), ()))
                })
                .unwrap();
            let mut all = Vec::new();
            net.visit(&mut |p| all.extend(p.grad.unwrap().iter().map(|g| g.to_bits())));
            all
        })
    };
    let one = gradients(1);
    assert!(one == gradients(2) && one == gradients(3));
}

#[test]
fn weight_names_are_pytorchs() {
    let names = |net: &dyn Fn() -> Box<dyn Module>| -> Vec<String> {
        StateDict::of(&net()).unwrap().0.iter().map(|(name, _)| name.to_string()).collect()
    };
    let mut lstm = names(&|| Box::new(LSTM::new(2, 3).num_layers(2).bidirectional(true)));
    lstm.sort();
    let mut wanted: Vec<String> = Vec::new();
    for layer in ["l0", "l0_reverse", "l1", "l1_reverse"] {
        for part in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"] {
            wanted.push(format!("{part}_{layer}"));
        }
    }
    wanted.sort();
    assert_eq!(lstm, wanted);
}

macro_rules! contracts {
    ($($name:ident: $layer:expr, $shape:expr;)*) => {$(
        mod $name {
            use shanty::nn::*;
            shanty::testing::layer_contract!($layer, $shape);
        }
    )*};
}

contracts! {
    rnn: RNN::new(3, 2), [2, 3, 3];
    lstm: LSTM::new(3, 2).num_layers(2), [2, 3, 3];
    gru: GRU::new(3, 2).bidirectional(true), [2, 3, 3];
    bilinear: Bilinear::new(2, 3, 2), [2, 5];
    learnt_places: PositionalEncoding::learnt(4, 2), [2, 3, 2];
    rotary: Rotary::new(2), [2, 3, 4];
    decoder_of_given_states: LSTM::new(3, 2).output(RecurrentOutput::State), [2, 3, 3];
    encoder_layer: TransformerEncoderLayer::new(TransformerLayerConfig {
        dim_feedforward: 3,
        dropout: 0.0,
        activation: TransformerActivation::Gelu,
        ..TransformerLayerConfig::new(4, 2)
    }).unwrap(), [2, 3, 4];
}

/// A layer that makes sequences longer left their lengths behind, and half of them was not looked at.
#[test]
fn lengths_are_those_of_the_input() {
    let pool = || PoolOverTime::new(OverTime::Mean);
    let mut rng = keyed(0, "", 0, 0);
    let tape = Tape::new(BufferPool::default());
    let lengths: &[usize] = &[5, 3];
    let mut cx =
        Forward { lengths: Some(lengths.into()), sizes: vec![5, 4], ..Forward::new(false, &mut rng) };
    let mut of = |steps| pool().forward(tape.input(noise(&[2, steps, 4])), &mut cx).map(drop);
    assert!(of(5).is_ok());
    for steps in [6, 10] {
        let said = of(steps).unwrap_err().to_string();
        assert!(said.contains(&format!("their layer got {steps} steps")), "{said}");
    }
    // Of two inputs it is not known whose lengths they are.
    let yaml = "{type: Supervised, inputs: [a, b], lengths: n, loss: {type: MSELoss}, network: [{type: Parallel, \
                branches: [{type: PoolOverTime}, {type: PoolOverTime}]}]}";
    let spec: Spec<dyn shanty::model::Model> = parse("net.yaml", yaml).unwrap().read().unwrap();
    let said = spec.build(&mut BuildCx::new(0)).err().unwrap().to_string();
    assert!(said.contains("`lengths` are those of one input"), "{said}");
}

/// A rule of an `init_cfg` went past the weights of recurrent layers, which have other names than `weight`.
#[test]
fn initial_weights_reach_every_weight_of_a_layer() {
    for (layer, all) in [
        ("LSTM, input_size: 4, hidden_size: 4", 4),
        ("GRU, input_size: 4, hidden_size: 4, bidirectional: true", 8),
        ("TransformerEncoderLayer, d_model: 4, nhead: 2, dim_feedforward: 4", 12),
    ] {
        let name = layer.split(',').next().unwrap();
        let yaml =
            format!("{{type: {layer}, init_cfg: {{type: Constant, val: 0.5, bias: 0.25, layer: {name}}}}}");
        let yaml = match name {
            "TransformerEncoderLayer" => format!(
                "{{type: Sequential, layers: [{{type: {layer}}}], init_cfg: {{type: Constant, val: 0.5, bias: 0.25, override: \
                 {{name: '0'}}}}}}"
            ),
            _ => yaml,
        };
        let spec: Spec<dyn Module> = parse("net.yaml", &yaml).unwrap().read().unwrap();
        let mut net = spec.build(&mut BuildCx::new(0)).unwrap();
        shanty::nn::init::init_weights(&mut net, 1).unwrap();
        let mut seen = 0;
        shanty::nn::visit(&*net, &mut |p| {
            let wanted = if p.name.contains("bias") { 0.25 } else { 0.5 };
            assert!(p.value.iter().all(|v| *v == wanted), "{}", p.name);
            seen += 1;
        });
        assert_eq!(seen, all, "{name}");
    }
}
