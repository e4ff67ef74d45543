//! Functions of each element. All are computed by portable arithmetic, so that they have the same bits on every
//! machine.

use crate::base::{Elem, Error, left_out};
use crate::kernels::Act;
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

impl<'t> Var<'t> {
    /// An op of one value, element by element. `df` takes the gradient of the result, the element and the result to the
    /// gradient of the element.
    pub(super) fn unary(
        self,
        op: &'static str,
        f: impl Fn(Elem) -> Elem,
        df: impl Fn(Elem, Elem, Elem) -> Elem + 'static,
    ) -> Self {
        let x = self.value();
        let mut y = self.tape.take(x.len());
        if !left_out(y.len()) {
            y.iter_mut().zip(slice(&x)).for_each(|(y, x)| *y = f(*x));
        }
        let y = tensor(x.shape(), y);
        let saved = y.clone();
        self.tape.node(op, y, &[self], move |mut dy, grads| {
            let inputs = slice(&x).iter().zip(slice(&saved));
            if !left_out(dy.len()) {
                dy.iter_mut().zip(inputs).for_each(|(dy, (x, y))| *dy = df(*dy, *x, *y));
            }
            grads.add(0, dy);
        })
    }

    /// `eˣ`.
    pub fn exp(self) -> Self {
        self.unary("exp", |x| libm::exp(f64::from(x)) as Elem, |dy, _, y| dy * y)
    }

    /// The natural logarithm.
    pub fn log(self) -> Self {
        self.unary("log", |x| libm::log(f64::from(x)) as Elem, |dy, x, _| dy / x)
    }

    /// The square root. Its slope at 0 is infinite, as in PyTorch.
    pub fn sqrt(self) -> Self {
        self.unary("sqrt", Elem::sqrt, |dy, _, y| dy / (2.0 * y))
    }

    /// The magnitude; its slope at 0 is 0.
    pub fn abs(self) -> Self {
        self.unary("abs", Elem::abs, |dy, x, _| {
            if x > 0.0 {
                dy
            } else if x < 0.0 {
                -dy
            } else {
                0.0 * dy
            }
        })
    }

    /// `xⁿ` for a whole `n`.
    pub fn powi(self, n: i32) -> Self {
        let slope = move |x| if n == 0 { 0.0 } else { n as Elem * whole_power(x, n - 1) };
        self.unary("powi", move |x| whole_power(x, n), move |dy, x, _| dy * slope(x))
    }

    /// `xᵖ`; NaN for a negative `x` and a `p` that is not whole.
    pub fn powf(self, p: Elem) -> Self {
        let power = |x: Elem, p: Elem| libm::pow(f64::from(x), f64::from(p)) as Elem;
        let slope = move |x| if p == 0.0 { 0.0 } else { p * power(x, p - 1.0) };
        self.unary("powf", move |x| power(x, p), move |dy, x, _| dy * slope(x))
    }

    /// `x` between `min` and `max`. At and beyond them the slope is 0, as in PyTorch 2.15.
    pub fn clamp(self, min: Elem, max: Elem) -> Self {
        if min > max || min.is_nan() || max.is_nan() {
            let error = Error::invalid(format!("`clamp` wants min <= max, got {min} and {max}"));
            return self.attempt(|| Err(error));
        }
        self.activate(Act::Ramp { scale: 1.0, shift: 0.0, min, max })
    }

    /// The larger of two values, element by element. Where they are equal, each has half of the gradient, as in
    /// PyTorch.
    pub fn maximum(self, other: Self) -> Self {
        self.binary(
            "maximum",
            other,
            |a, b| if a >= b || a.is_nan() { a } else { b },
            [|dy, a, b| dy * share(a >= b, a <= b), |dy, a, b| dy * share(b >= a, b <= a)],
        )
    }

    /// The smaller of two values, element by element. Where they are equal, each has half of the gradient, as in
    /// PyTorch.
    pub fn minimum(self, other: Self) -> Self {
        self.binary(
            "minimum",
            other,
            |a, b| if a <= b || a.is_nan() { a } else { b },
            [|dy, a, b| dy * share(a <= b, a >= b), |dy, a, b| dy * share(b <= a, b >= a)],
        )
    }
}

/// What an element has of the gradient: all if it was taken, half if it could as well have been the other.
fn share(taken: bool, tied: bool) -> Elem {
    match (taken, tied) {
        (true, true) => 0.5,
        (true, false) => 1.0,
        _ => 0.0,
    }
}

/// `xⁿ` by squaring.
fn whole_power(x: Elem, n: i32) -> Elem {
    let (mut square, mut left, mut y) = (x, n.unsigned_abs(), 1.0);
    while left > 0 {
        if left % 2 == 1 {
            y *= square;
        }
        square *= square;
        left /= 2;
    }
    if n < 0 { 1.0 / y } else { y }
}
