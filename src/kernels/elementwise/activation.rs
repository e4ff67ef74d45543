//! Activations.

use super::gelu;
use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::{math, par};

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Act {
    /// `x`.
    #[default]
    Identity,
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x` where positive, else `slope * x`.
    LeakyRelu(Elem),
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The exact Gaussian error linear unit, `x * (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// `x * sigmoid(x)`.
    Silu,
}

impl Act {
    /// Whether the backward pass needs the *input* of the activation; else it needs the output.
    pub fn saves_input(self) -> bool {
        matches!(self, Self::LeakyRelu(_) | Self::Gelu | Self::Silu)
    }

    /// The function at one point; for `f32` within 2 ulp (the Gaussian one within 2e-7 of the larger of |x| and 1).
    #[inline(always)]
    pub fn of(self, x: Elem) -> Elem {
        match self {
            Self::Identity => x,
            Self::Relu => relu(x),
            Self::LeakyRelu(s) => leaky(s, x),
            Self::Tanh => math::tanh(x),
            Self::Sigmoid => math::sigmoid(x),
            Self::Gelu => gelu::value(x),
            Self::Silu => x * math::sigmoid(x),
        }
    }

    /// The derivative at one point, from the input or the output ([`Act::saves_input`]).
    #[inline(always)]
    pub fn slope(self, saved: Elem) -> Elem {
        match self {
            Self::Identity => 1.0,
            Self::Relu => {
                if saved > 0.0 {
                    1.0
                } else {
                    0.0
                }
            }
            Self::LeakyRelu(s) => {
                if saved > 0.0 {
                    1.0
                } else {
                    s
                }
            }
            Self::Tanh => 1.0 - saved * saved,
            Self::Sigmoid => saved * (1.0 - saved),
            Self::Gelu => gelu::slope(saved),
            Self::Silu => {
                let s = math::sigmoid(saved);
                s * (1.0 + saved * (1.0 - s))
            }
        }
    }
}

#[inline(always)]
fn relu(x: Elem) -> Elem {
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
fn leaky(slope: Elem, x: Elem) -> Elem {
    if x > 0.0 { x } else { slope * x }
}

/// One loop for each activation, so that the choice is made outside of it.
macro_rules! each_act {
    ($act:expr, |$f:ident| $loop:expr) => {
        match $act {
            Act::Identity => {
                let $f = Act::Identity;
                $loop
            }
            Act::Relu => {
                let $f = Act::Relu;
                $loop
            }
            Act::LeakyRelu(s) => {
                let $f = Act::LeakyRelu(s);
                $loop
            }
            Act::Tanh => {
                let $f = Act::Tanh;
                $loop
            }
            Act::Sigmoid => {
                let $f = Act::Sigmoid;
                $loop
            }
            Act::Gelu => {
                let $f = Act::Gelu;
                $loop
            }
            Act::Silu => {
                let $f = Act::Silu;
                $loop
            }
        }
    };
}

multiversion! {
    fn forward_chunk(act: Act, x: &[Elem], y: &mut [Elem]) {
        each_act!(act, |f| for (y, &x) in y.iter_mut().zip(x) { *y = f.of(x) })
    }
}

multiversion! {
    fn inplace_chunk(act: Act, x: &mut [Elem]) {
        each_act!(act, |f| for x in x { *x = f.of(*x) })
    }
}

multiversion! {
    fn backward_chunk(act: Act, saved: &[Elem], dy: &mut [Elem]) {
        each_act!(act, |f| for (d, &s) in dy.iter_mut().zip(saved) { *d *= f.slope(s) })
    }
}

/// `y = act(x)`, element by element.
pub fn act_forward(act: Act, x: &[Elem], y: &mut [Elem]) {
    par::zip(x, y, |x, y| if act == Act::Gelu { gelu::forward(x, y) } else { forward_chunk(act, x, y) });
}

/// `x = act(x)`.
pub fn act_inplace(act: Act, x: &mut [Elem]) {
    if act != Act::Identity {
        par::each(x, |x| if act == Act::Gelu { gelu::inplace(x) } else { inplace_chunk(act, x) });
    }
}

/// `dy *= act'`, from the input or the output of the forward pass ([`Act::saves_input`]).
pub fn act_backward(act: Act, saved: &[Elem], dy: &mut [Elem]) {
    par::zip(saved, dy, |saved, dy| {
        if act == Act::Gelu { gelu::backward(saved, dy) } else { backward_chunk(act, saved, dy) }
    });
}
