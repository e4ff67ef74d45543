//! Activations: a table of functions with their slopes, and the loops over them.

use super::gelu;
use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::math::{exp, exp_m1, sigmoid, softplus, tanh};
use crate::kernels::par;

/// What a slope is computed from.
const INPUT: bool = true;
const OUTPUT: bool = false;

/// Makes of a table the enum [`Act`] and, for each row, loops of its own: the choice is made outside of them.
///
/// A row has the name of the op, the function at one point, and the slope from its input or from its output. It may
/// say `FMA`, whether `mul_add` is one instruction.
macro_rules! activations {
    ($(
        $(#[$meta:meta])+
        $name:ident $({ $($number:ident),+ })? $op:literal,
        |$x:ident| $value:expr,
        $saved:ident |$s:ident| $slope:expr;
    )+) => {
        /// An activation function; for `f32` within 2e-7 of the true value, relative to the larger of |x| and 1.
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub enum Act {
            $($(#[$meta])+ $name $({
                $(#[doc = concat!("The `", stringify!($number), "` of its formula.")] $number: Elem,)+
            })?,)+
        }

        impl Act {
            /// The name of the op.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $op,)+
                }
            }

            /// Whether the backward pass needs the *input* of the activation; else it needs the output.
            pub fn saves_input(self) -> bool {
                match self {
                    $(Self::$name { .. } => $saved,)+
                }
            }
        }

        multiversion! {
            fn forward_chunk<const FMA: bool>(act: Act, x: &[Elem], y: &mut [Elem]) {
                match act {
                    $(Act::$name $({ $($number),+ })? => for (y, &$x) in y.iter_mut().zip(x) { *y = $value },)+
                }
            }
        }

        multiversion! {
            fn inplace_chunk<const FMA: bool>(act: Act, y: &mut [Elem]) {
                match act {
                    $(Act::$name $({ $($number),+ })? => for y in y { let $x = *y; *y = $value },)+
                }
            }
        }

        multiversion! {
            #[allow(unused_variables)] // A slope need not depend on all numbers of its formula.
            fn backward_chunk<const FMA: bool>(act: Act, saved: &[Elem], dy: &mut [Elem]) {
                match act {
                    $(Act::$name $({ $($number),+ })? => for (dy, &$s) in dy.iter_mut().zip(saved) { *dy *= $slope },)+
                }
            }
        }
    };
}

activations! {
    /// `x`.
    #[default]
    Identity "identity", |x| x, OUTPUT |_y| 1.0;

    /// `max(x, 0)`; NaN stays NaN.
    Relu "relu", |x| if x < 0.0 { 0.0 } else { x }, OUTPUT |y| if y <= 0.0 { 0.0 } else { 1.0 };

    /// `x` where positive, else `slope * x`.
    LeakyRelu { slope } "leaky_relu",
    |x| if x > 0.0 { x } else { slope * x },
    INPUT |x| if x > 0.0 { 1.0 } else { slope };

    /// `scale * x` where positive, else `alpha * (exp(input_scale * x) - 1)`.
    Elu { alpha, scale, input_scale } "elu",
    |x| if x > 0.0 { scale * x } else { alpha * exp_m1(input_scale * x) },
    INPUT |x| if x > 0.0 { scale } else { alpha * input_scale * exp(input_scale * x) };

    /// `scale * x + shift` between `min` and `max`; its slope at the bends is 0.
    Ramp { scale, shift, min, max } "ramp",
    |x| clamp(scale * x + shift, min, max),
    OUTPUT |y| if y <= min || y >= max { 0.0 } else { scale };

    /// `x * clamp(x + 3, 0, 6) / 6`.
    Hardswish "hardswish",
    |x| x * clamp(x + 3.0, 0.0, 6.0) / 6.0,
    INPUT |x| if x <= -3.0 { 0.0 } else if x < 3.0 { x / 3.0 + 0.5 } else { 1.0 };

    /// `x` beyond `±bound`, 0 within.
    Hardshrink { bound } "hardshrink",
    |x| if x >= -bound && x <= bound { 0.0 } else { x },
    INPUT |x| if x >= -bound && x <= bound { 0.0 } else { 1.0 };

    /// `x` moved towards 0 by `bound`, and no further.
    Softshrink { bound } "softshrink",
    |x| if x > bound { x - bound } else if x < -bound { x + bound } else { x * 0.0 },
    INPUT |x| if x >= -bound && x <= bound { 0.0 } else { 1.0 };

    /// `x - tanh(x)`.
    Tanhshrink "tanhshrink", |x| x - tanh::<FMA>(x), INPUT |x| { let t = tanh::<FMA>(x); t * t };

    /// Hyperbolic tangent.
    Tanh "tanh", |x| tanh::<FMA>(x), OUTPUT |y| 1.0 - y * y;

    /// `1 / (1 + exp(-x))`.
    Sigmoid "sigmoid", |x| sigmoid(x), OUTPUT |y| y * (1.0 - y);

    /// `log(1 / (1 + exp(-x)))`.
    LogSigmoid "log_sigmoid", |x| -softplus(-x), INPUT |x| sigmoid(-x);

    /// `log(1 + exp(beta * x)) / beta`, and `x` where `beta * x` is above the threshold.
    Softplus { beta, threshold } "softplus",
    |x| if beta * x > threshold { x } else { softplus(beta * x) / beta },
    INPUT |x| if beta * x > threshold { 1.0 } else { sigmoid(beta * x) };

    /// `x / (1 + |x|)`.
    Softsign "softsign",
    |x| x / (1.0 + x.abs()),
    INPUT |x| { let d = 1.0 + x.abs(); 1.0 / (d * d) };

    /// The exact Gaussian error linear unit, `x * (1 + erf(x / sqrt 2)) / 2`.
    Gelu "gelu", |x| x * gelu::normal::<FMA>(x).0, INPUT |x| gelu::value_and_slope::<FMA>(x).1;

    /// The same with `tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))` in place of the error function.
    GeluTanh "gelu_tanh", |x| gelu::by_tanh(x).0, INPUT |x| gelu::by_tanh(x).1;

    /// `x * sigmoid(x)`.
    Silu "silu", |x| x * sigmoid(x), INPUT |x| { let s = sigmoid(x); s * (1.0 + x * (1.0 - s)) };

    /// `x * tanh(log(1 + exp(x)))`.
    Mish "mish", |x| { let [_, n] = mish(x); x * (n / (n + 2.0)) }, INPUT |x| {
        let [e, n] = mish(x);
        (n + x * (4.0 * e * (1.0 + e) / (n + 2.0))) / (n + 2.0)
    };
}

/// `x` between two numbers; NaN stays NaN.
#[inline(always)]
fn clamp(x: Elem, min: Elem, max: Elem) -> Elem {
    if x < min {
        min
    } else if x > max {
        max
    } else {
        x
    }
}

/// `e = exp(x)` and `n = (1 + e)² - 1`, with which `tanh(log(1 + e))` is `n / (n + 2)`: 1 from x = 20 on.
#[inline(always)]
fn mish(x: Elem) -> [Elem; 2] {
    let e = exp(if x > 20.0 { 20.0 } else { x });
    [e, e * (e + 2.0)]
}

/// `y = act(x)`, element by element.
pub fn act_forward(act: Act, x: &[Elem], y: &mut [Elem]) {
    par::zip(x, y, |x, y| forward_chunk(act, x, y));
}

/// `x = act(x)`.
pub fn act_inplace(act: Act, x: &mut [Elem]) {
    if act != Act::Identity {
        par::each(x, |x| inplace_chunk(act, x));
    }
}

/// `dy *= act'`, from the input or the output of the forward pass ([`Act::saves_input`]).
pub fn act_backward(act: Act, saved: &[Elem], dy: &mut [Elem]) {
    par::zip(saved, dy, |saved, dy| backward_chunk(act, saved, dy));
}

/// The slope of an activation, which a kernel takes with the gradient that it writes.
#[derive(Debug, Clone, Copy)]
pub struct Slope<'a> {
    /// The activation.
    pub act: Act,
    /// Its input or its output ([`Act::saves_input`]), as many numbers as the gradient.
    pub saved: &'a [Elem],
}

impl Slope<'_> {
    /// `dy *= act'` on the part of the gradient that begins at `at`.
    pub(in crate::kernels) fn take(self, at: usize, dy: &mut [Elem]) {
        backward_chunk(self.act, &self.saved[at..][..dy.len()], dy);
    }
}
