//! `+ - * /` of values and numbers.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::base::{Elem, Tensor, left_out};
use crate::kernels;
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

impl<'t> Var<'t> {
    /// The sum of two values of one shape.
    fn add_same(self, other: Self, a: &Tensor, b: &Tensor) -> Self {
        let mut y = self.tape.take(a.len());
        kernels::add(slice(a), slice(b), &mut y);
        self.tape.node("add", tensor(a.shape(), y), &[self, other], move |dy, grads| {
            if grads.wants(0) && grads.wants(1) {
                let mut copy = grads.pool.take(dy.len());
                if !left_out(dy.len()) {
                    copy.copy_from_slice(&dy);
                }
                grads.add(0, copy);
                grads.add(1, dy);
            } else {
                grads.add(usize::from(grads.wants(1)), dy);
            }
        })
    }

    /// `f` of each element, where the gradient is that of the result times `slope`.
    fn affine_map(self, op: &'static str, slope: Elem, f: impl Fn(Elem) -> Elem) -> Self {
        let x = self.value();
        let mut y = self.tape.take(x.len());
        if !left_out(y.len()) {
            y.iter_mut().zip(slice(&x)).for_each(|(y, x)| *y = f(*x));
        }
        self.tape.node(op, tensor(x.shape(), y), &[self], move |mut dy, grads| {
            if slope != 1.0 {
                kernels::scale(slope, &mut dy);
            }
            grads.add(0, dy);
        })
    }
}

impl<'t> Add for Var<'t> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let with = |a: Self, b: Self| a.absorbed("add", |product| product.plus(b.value()));
        if let Some(sum) = with(self, other).or_else(|| with(other, self)) {
            return sum;
        }
        let (a, b) = (self.value(), other.value());
        if a.shape() == b.shape() {
            return self.add_same(other, &a, &b);
        }
        self.binary("add", other, |a, b| a + b, [|dy, _, _| dy, |dy, _, _| dy])
    }
}

impl<'t> Sub for Var<'t> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.binary("sub", other, |a, b| a - b, [|dy, _, _| dy, |dy, _, _| -dy])
    }
}

impl<'t> Mul for Var<'t> {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        self.binary("mul", other, |a, b| a * b, [|dy, _, b| dy * b, |dy, a, _| dy * a])
    }
}

impl<'t> Div for Var<'t> {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        self.binary("div", other, |a, b| a / b, [|dy, _, b| dy / b, |dy, a, b| -dy * (a / b) / b])
    }
}

impl<'t> Neg for Var<'t> {
    type Output = Self;

    fn neg(self) -> Self {
        self.affine_map("neg", -1.0, |x| -x)
    }
}

impl<'t> Add<Elem> for Var<'t> {
    type Output = Self;

    fn add(self, number: Elem) -> Self {
        self.affine_map("add", 1.0, |x| x + number)
    }
}

impl<'t> Sub<Elem> for Var<'t> {
    type Output = Self;

    fn sub(self, number: Elem) -> Self {
        self.affine_map("sub", 1.0, |x| x - number)
    }
}

impl<'t> Mul<Elem> for Var<'t> {
    type Output = Self;

    fn mul(self, number: Elem) -> Self {
        self.affine_map("mul", number, |x| x * number)
    }
}

impl<'t> Div<Elem> for Var<'t> {
    type Output = Self;

    fn div(self, number: Elem) -> Self {
        self.affine_map("div", 1.0 / number, |x| x / number)
    }
}

impl<'t> Add<Var<'t>> for Elem {
    type Output = Var<'t>;

    fn add(self, x: Var<'t>) -> Var<'t> {
        x + self
    }
}

impl<'t> Sub<Var<'t>> for Elem {
    type Output = Var<'t>;

    fn sub(self, x: Var<'t>) -> Var<'t> {
        x.affine_map("sub", -1.0, |x| self - x)
    }
}

impl<'t> Mul<Var<'t>> for Elem {
    type Output = Var<'t>;

    fn mul(self, x: Var<'t>) -> Var<'t> {
        x * self
    }
}

impl<'t> Div<Var<'t>> for Elem {
    type Output = Var<'t>;

    fn div(self, x: Var<'t>) -> Var<'t> {
        x.unary("div", |x| self / x, |dy, x, y| -dy * y / x)
    }
}
