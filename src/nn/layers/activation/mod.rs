//! Activation layers.
//!
//! One that looks at each element alone is a row of the table in `kernels/elementwise/activation.rs` and an
//! `activation!` here, which makes its layer, its op and its registration.

mod gated;
mod piecewise;
mod prelu;
mod rectified;
mod smooth;
mod softmax;

pub use gated::{GLU, SwiGLU};
pub use piecewise::{
    Clamp, HSigmoid, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, HardtanhConfig, ReLU6, Softshrink,
};
pub use prelu::{PReLU, PReLUConfig};
pub use rectified::{CELU, ELU, LeakyReLU, ReLU, SELU};
pub use smooth::{
    GELU, GeluApproximation, LogSigmoid, Mish, SiLU, Sigmoid, Softplus, Softsign, Tanh, Tanhshrink,
};
pub use softmax::{LogSoftmax, Softmax};

use crate::kernels::{Act, act_backward, act_forward};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

/// A layer of one [`Act`] with its op on [`Var`], and its names in configs. The numbers have their defaults; `inplace`
/// says that PyTorch's layer has such a flag.
macro_rules! activation {
    (
        $(#[doc = $doc:literal])+
        $name:ident $registered:literal $(| $alias:literal)*,
        $op:ident($($(#[$about:meta])+ $number:ident = $default:literal),*) $($inplace:ident)? => $act:expr
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(default)]
        pub struct $name {
            $($(#[$about])+ pub $number: f64,)*
            $(
                /// Accepted for PyTorch's configs; memory is reused either way.
                pub $inplace: bool,
            )?
        }

        $crate::module!($name {});

        impl $name {
            /// The layer with these numbers.
            pub fn new($($number: f64),*) -> Self {
                Self { $($number,)* $($inplace: false)? }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new($($default),*)
            }
        }

        impl $crate::nn::Module for $name {
            fn forward<'t>(
                &mut self,
                x: $crate::nn::Var<'t>,
                _: &mut $crate::nn::Forward<'_>,
            ) -> $crate::base::Result<$crate::nn::Var<'t>> {
                Ok(x.$op($(self.$number as $crate::base::Elem),*))
            }
        }

        $crate::register! { $(#[doc = $doc])+ dyn $crate::nn::Module, $registered => $name }
        $($crate::register! {
            #[doc = concat!("Another name of `", $registered, "`.")]
            dyn $crate::nn::Module, $alias => $name
        })*

        impl $crate::nn::Var<'_> {
            $(#[doc = $doc])+
            pub fn $op(self $(, $number: $crate::base::Elem)*) -> Self {
                self.activate($act)
            }
        }
    };
}
use activation;

impl<'t> Var<'t> {
    /// Any activation of the kernels.
    ///
    /// ```
    /// use shanty::base::Tensor;
    /// use shanty::nn::{BufferPool, Tape, Var};
    ///
    /// let tape = Tape::without_grad(BufferPool::default());
    /// let at = |x: f32, op: fn(Var<'_>) -> Var<'_>| op(tape.input(Tensor::from_elem(vec![1], x))).item();
    /// assert_eq!(at(7.5, |x| x.relu6()), 6.0);
    /// assert_eq!(at(-2.0, |x| x.elu(1.0)), (-2.0_f32).exp_m1());
    /// assert_eq!(at(1.0, |x| x.softsign()), 0.5);
    /// assert_eq!(at(1.0, |x| x.hardswish()), 4.0 / 6.0);
    /// assert!((at(0.0, |x| x.softplus(1.0, 20.0)) - 2.0_f32.ln()).abs() < 1e-7);
    /// assert!((at(1.0, |x| x.mish()) - 0.865_098_4).abs() < 1e-6);
    /// assert_eq!(at(-1e4, |x| x.log_sigmoid()), -1e4);
    /// ```
    pub fn activate(self, act: Act) -> Self {
        if act == Act::Identity {
            return self;
        }
        if let Some(with) = self.absorbed(act.name(), |product| product.then(act)) {
            return with;
        }
        let (y, saved) = if let Some(y) = self.activated(act) {
            (y.clone(), y)
        } else {
            let x = self.value();
            let mut y = self.tape.take(x.len());
            act_forward(act, slice(&x), &mut y);
            let y = tensor(x.shape(), y);
            (y.clone(), if act.saves_input() { x } else { y })
        };
        let y = self.tape.node(act.name(), y, &[self], move |mut dy, grads| {
            act_backward(act, slice(&saved), &mut dy);
            grads.add(0, dy);
        });
        self.tape.arena.borrow_mut().nodes[y.id as usize].act = (!act.saves_input()).then_some(act);
        y
    }

    /// The activation that this is the output of, with its slope known from its value: an op that takes this slope with
    /// its own gradient hands it on by [`Grads::add_before`](crate::nn::Grads::add_before).
    pub(super) fn activation(self) -> Option<Act> {
        self.tape.arena.borrow().nodes[self.id as usize].act
    }
}
