//! Activations and dropout.

use super::Elem;

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

    /// The function at one point.
    #[inline(always)]
    pub fn of(self, x: Elem) -> Elem {
        match self {
            Self::Identity => x,
            Self::Relu => relu(x),
            Self::LeakyRelu(s) => {
                if x > 0.0 {
                    x
                } else {
                    s * x
                }
            }
            Self::Tanh => x.tanh(),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Gelu => x * normal_cdf(x),
            Self::Silu => x / (1.0 + (-x).exp()),
        }
    }

    /// The derivative at one point, from the input or the output ([`Act::saves_input`]).
    #[inline(always)]
    pub fn slope(self, saved: Elem) -> Elem {
        match self {
            Self::Identity => 1.0,
            Self::Relu => (saved > 0.0) as u8 as Elem,
            Self::LeakyRelu(s) => {
                if saved > 0.0 {
                    1.0
                } else {
                    s
                }
            }
            Self::Tanh => 1.0 - saved * saved,
            Self::Sigmoid => saved * (1.0 - saved),
            Self::Gelu => normal_cdf(saved) + saved * (-0.5 * saved * saved).exp() * 0.398_942_280_401_432_7,
            Self::Silu => {
                let s = 1.0 / (1.0 + (-saved).exp());
                s * (1.0 + saved * (1.0 - s))
            }
        }
    }
}

#[inline(always)]
fn relu(x: Elem) -> Elem {
    if x < 0.0 { 0.0 } else { x }
}

/// `(1 + erf(x / sqrt 2)) / 2`, by the series around 0 and the continued fraction further out, in f64.
fn normal_cdf(x: Elem) -> Elem {
    let z = x as f64 / std::f64::consts::SQRT_2;
    let a = z.abs();
    let cdf = if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        let erf = sum * std::f64::consts::FRAC_2_SQRT_PI;
        0.5 + 0.5 * erf.copysign(z)
    } else {
        let mut f = 0.0;
        for n in (1..=60).rev() {
            f = n as f64 / 2.0 / (a + f);
        }
        let erfc = (-a * a).exp() / (a + f) * 0.5 * std::f64::consts::FRAC_2_SQRT_PI;
        if z < 0.0 { 0.5 * erfc } else { 1.0 - 0.5 * erfc }
    };
    cdf as Elem
}

/// `y = act(x)`, element by element.
pub fn act_forward(act: Act, x: &[Elem], y: &mut [Elem]) {
    assert_eq!(x.len(), y.len());
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = act.of(x));
}

/// `x = act(x)`.
pub fn act_inplace(act: Act, x: &mut [Elem]) {
    if act == Act::Identity {
        return;
    }
    x.iter_mut().for_each(|x| *x = act.of(*x));
}

/// `dy *= act'`, from the input or the output of the forward pass ([`Act::saves_input`]).
pub fn act_backward(act: Act, saved: &[Elem], dy: &mut [Elem]) {
    assert_eq!(saved.len(), dy.len());
    dy.iter_mut().zip(saved).for_each(|(d, &s)| *d *= act.slope(s));
}

/// `y = x * scale` where `keep` is not 0, else 0; `scale` is `1 / (1 - p)`. The backward pass is [`dropout_inplace`].
pub fn dropout(keep: &[u8], scale: Elem, x: &[Elem], y: &mut [Elem]) {
    assert!(x.len() == y.len() && x.len() == keep.len());
    y.iter_mut().zip(x).zip(keep).for_each(|((y, &x), &k)| *y = if k != 0 { x * scale } else { 0.0 });
}

/// [`dropout`] in place, of values or of a gradient.
pub fn dropout_inplace(keep: &[u8], scale: Elem, x: &mut [Elem]) {
    assert_eq!(x.len(), keep.len());
    x.iter_mut().zip(keep).for_each(|(x, &k)| *x = if k != 0 { *x * scale } else { 0.0 });
}
