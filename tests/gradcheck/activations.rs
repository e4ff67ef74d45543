//! Activations.

use shanty::nn::{GLU, PReLU, SwiGLU, Var};

use super::probe::{Simple, check, random, spaced};

#[test]
fn of_each_element() {
    let ops: [(&str, for<'t> fn(Var<'t>) -> Var<'t>); 24] = [
        ("relu", |x| x.relu()),
        ("leaky relu", |x| x.leaky_relu(0.1)),
        ("relu6", |x| (x * 8.0).relu6()),
        ("elu", |x| x.elu(1.5)),
        ("selu", |x| x.selu()),
        ("celu", |x| x.celu(2.0)),
        ("tanh", |x| x.tanh()),
        ("sigmoid", |x| x.sigmoid()),
        ("log sigmoid", |x| (x * 4.0).log_sigmoid()),
        ("hard sigmoid", |x| (x * 4.0).hardsigmoid()),
        ("hard swish", |x| (x * 4.0).hardswish()),
        ("softplus", |x| x.softplus(2.0, 20.0)),
        ("softplus with a threshold", |x| x.softplus(3.0, 0.3)),
        ("softsign", |x| x.softsign()),
        ("gelu", |x| x.gelu()),
        ("gelu by tanh", |x| x.gelu_tanh()),
        ("silu", |x| x.silu()),
        ("mish", |x| (x * 4.0).mish()),
        ("tanhshrink", |x| x.tanhshrink()),
        ("softshrink", |x| x.softshrink(0.4)),
        ("hardshrink", |x| x.hardshrink(0.4)),
        ("softmax", |x| x.softmax(0)),
        ("log softmax", |x| x.log_softmax(-1)),
        ("times a number", |x| x * -1.5),
    ];
    for (name, op) in ops {
        check(name, spaced(&[5, 8]), true, Simple(op));
    }
}

#[test]
fn learnt_and_gated() {
    check("prelu", spaced(&[3, 8]), true, PReLU::new(1));
    check("prelu of channels", spaced(&[2, 3, 4]), true, PReLU::new(3));
    check("prelu of features", spaced(&[5, 4]), true, PReLU::new(4));
    check("glu", random(&[3, 6]), true, GLU::default());
    check("glu of channels", random(&[2, 4, 3]), true, GLU::new(1));
    check("swiglu", random(&[3, 6]), true, SwiGLU::default());
}
