//! Activations, element by element.

use crate::base::Elem;
use crate::kernels::{Act, act_backward, act_forward};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

impl<'t> Var<'t> {
    /// `max(x, 0)`.
    pub fn relu(self) -> Self {
        self.activate(Act::Relu)
    }

    /// `x` where positive, else `slope * x`.
    pub fn leaky_relu(self, slope: Elem) -> Self {
        self.activate(Act::LeakyRelu(slope))
    }

    /// Hyperbolic tangent.
    pub fn tanh(self) -> Self {
        self.activate(Act::Tanh)
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(self) -> Self {
        self.activate(Act::Sigmoid)
    }

    /// The exact Gaussian error linear unit, `x * (1 + erf(x / sqrt 2)) / 2`.
    pub fn gelu(self) -> Self {
        self.activate(Act::Gelu)
    }

    /// `x * sigmoid(x)`.
    pub fn silu(self) -> Self {
        self.activate(Act::Silu)
    }

    /// Any activation of the kernels.
    pub fn activate(self, act: Act) -> Self {
        if act == Act::Identity {
            return self;
        }
        let x = self.value();
        let mut y = self.tape.take(x.len());
        act_forward(act, slice(&x), &mut y);
        let y = tensor(x.shape(), y);
        let saved = if act.saves_input() { x } else { y.clone() };
        self.tape.node(name(act), y, &[self], move |mut dy, grads| {
            act_backward(act, slice(&saved), &mut dy);
            grads.add(0, dy);
        })
    }
}

fn name(act: Act) -> &'static str {
    match act {
        Act::Identity => "identity",
        Act::Relu => "relu",
        Act::LeakyRelu(_) => "leaky_relu",
        Act::Tanh => "tanh",
        Act::Sigmoid => "sigmoid",
        Act::Gelu => "gelu",
        Act::Silu => "silu",
    }
}
