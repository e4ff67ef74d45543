//! Layers of sequences: what runs along time, and what looks along it.

use std::sync::Arc;

use shanty::base::Result;
use shanty::module;
use shanty::nn::{
    AttentionPosition, Bilinear, Embedding, Forward, GRU, LSTM, Module, MultiheadAttention, OverTime,
    PoolOverTime, PositionalEncoding, RNN, RecurrentOutput, RecurrentState, RnnNonlinearity, Rotary,
    TransformerActivation, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
    TransformerLayerConfig, TransformerStackConfig, Transpose, Var,
};

use super::probe::{F64, check, random, spaced};

/// A layer over sequences of which some are shorter.
struct Short<M: Module> {
    net: M,
    lengths: Arc<[usize]>,
}
impl<M: Module> shanty::nn::ModuleTree for Short<M> {
    fn type_name(&self) -> &'static str {
        "Short"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, shanty::nn::Child<'a>)) {
        self.net.visit_children(f);
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, shanty::nn::ChildMut<'a>)) {
        self.net.visit_children_mut(f);
    }
}
impl<M: Module> Module for Short<M> {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        cx.lengths = Some(Arc::clone(&self.lengths));
        self.net.forward(x, cx)
    }
}

fn short<M: Module>(net: M, lengths: &[usize]) -> Short<M> {
    Short { net, lengths: lengths.into() }
}

/// In f32 the wider step goes over the kinks of a ReLU.
#[test]
fn recurrent_layers() {
    check("rnn", random(&[2, 3, 4]), true, RNN::new(4, 3));
    if F64 {
        let relu = RNN::new(4, 3).nonlinearity(RnnNonlinearity::Relu).bidirectional(true);
        check("rnn with relu", random(&[2, 3, 4]), true, relu);
    }
    check("lstm", random(&[2, 3, 4]), true, LSTM::new(4, 3));
    check("gru", random(&[2, 3, 4]), true, GRU::new(4, 3));
    check("two gru layers", random(&[3, 4, 2]), true, GRU::new(2, 3).num_layers(2).dropout(0.4));
    check("lstm without bias", random(&[2, 1, 3]), true, LSTM::new(3, 2).bias(false));
    let both = || LSTM::new(2, 3).num_layers(2).bidirectional(true);
    check("lstm, both ways", random(&[2, 3, 2]), true, both());
    check("lstm, packed", random(&[3, 3, 2]), true, short(both(), &[2, 3, 1]));
    let last = GRU::new(2, 3).bidirectional(true).output(RecurrentOutput::Last);
    check("gru, last states", random(&[3, 3, 2]), true, short(last, &[3, 1, 2]));
    let rnn = RNN::new(2, 3).bidirectional(true).output(RecurrentOutput::Last);
    check("rnn, last states", random(&[3, 3, 2]), true, short(rnn, &[1, 2, 3]));
}

/// A layer that begins with what is made of its input, so that one input has the gradients of all.
struct Begun {
    net: LSTM,
}
module!(Begun { net });
impl Module for Begun {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (h, c) = (x.slice(1, ..2).tanh(), Some(x.slice(1, 1..) * 0.5));
        let (y, last) = self.net.forward_states(x, Some(RecurrentState { h, c }), cx)?;
        Ok(y.tape().concat(&[y.flatten(1, -1), last.h.flatten(1, -1), last.c.unwrap().flatten(1, -1)], 1))
    }
}

#[test]
fn states_are_given_and_taken() {
    let net = || Begun { net: LSTM::new(3, 3).bidirectional(true) };
    check("lstm from given states", random(&[3, 3, 3]), true, net());
    check("lstm from given states, packed", random(&[3, 3, 3]), true, short(net(), &[3, 1, 2]));
    let state = GRU::new(2, 3).num_layers(2).output(RecurrentOutput::State);
    check("gru, all last states", random(&[3, 3, 2]), true, short(state, &[3, 1, 2]));
}

#[test]
fn tokens_are_turned() {
    check("rotary", random(&[2, 3, 8]), true, Rotary::new(4));
    let attention = MultiheadAttention::new(8, 2).position(AttentionPosition::Rotary).causal(true);
    check("rotary attention", random(&[2, 3, 8]), true, attention);
}

/// A decoder whose memory is made of its tokens, so that one input has the gradients of both.
struct Both {
    layer: TransformerDecoderLayer,
}
module!(Both { layer });
impl Module for Both {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.layer.forward_all(&[x, x.tanh()], cx)
    }
}

#[test]
fn transformer_layers() {
    let config = || TransformerLayerConfig {
        dim_feedforward: 5,
        dropout: 0.0,
        activation: TransformerActivation::Gelu,
        ..TransformerLayerConfig::new(4, 2)
    };
    let encoder = |config| TransformerEncoderLayer::new(config).unwrap();
    check("encoder", random(&[2, 3, 4]), true, encoder(config()));
    let first = TransformerLayerConfig { norm_first: true, causal: Some(true), dropout: 0.3, ..config() };
    check("causal, dropout", random(&[2, 3, 4]), true, encoder(first.clone()));
    check("padded", random(&[3, 3, 4]), true, short(encoder(first.clone()), &[3, 1, 2]));
    let decoder = |config| Both { layer: TransformerDecoderLayer::new(config).unwrap() };
    check("decoder", random(&[2, 3, 4]), true, decoder(config()));
    let stack = |norm| TransformerStackConfig { layer: first.clone(), num_layers: 2, norm };
    check("encoders", random(&[2, 3, 4]), true, TransformerEncoder::new(&stack(true)).unwrap());
    check("decoder of padded ones", random(&[2, 3, 4]), true, short(decoder(first.clone()), &[1, 3]));
    check("sine", random(&[2, 3, 4]), true, PositionalEncoding::sine());
    check("learnt", random(&[2, 3, 4]), true, PositionalEncoding::learnt(3, 4));
    check("transposed", random(&[2, 3, 4]), true, Transpose::new(1, -1));
}

#[test]
fn pooling_over_time() {
    for mode in [OverTime::Mean, OverTime::Max, OverTime::Last, OverTime::First] {
        check("pool", spaced(&[2, 3, 4]), true, PoolOverTime::new(mode));
        check("pool of short ones", spaced(&[3, 3, 2]), true, short(PoolOverTime::new(mode), &[1, 0, 3]));
    }
}

#[test]
fn tables_and_products() {
    /// Rows of a table by fixed numbers, scaled by the input, so that it has a gradient too.
    struct Rows {
        table: Embedding,
    }
    module!(Rows { table });
    impl Module for Rows {
        fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
            let numbers = ndarray::arr1(&[2.0, 0.0, 2.0, 1.0]).into_dyn();
            (self.table.forward(x.tape().input(numbers), cx)? * x).checked()
        }
    }
    check("embedding", random(&[4, 3]), true, Rows { table: Embedding::new(4, 3) });
    check("bilinear", random(&[2, 3, 5]), true, Bilinear::new(3, 2, 4));
}
