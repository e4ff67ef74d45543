//! Networks: tape autograd, the tree of modules, and the layers of PyTorch.
//!
//! A layer is a struct of [`Param`]s, [`Buffer`]s and other layers; [`module!`](crate::module) names its fields, and
//! from that follow state dict, children, gradients and init. Its `forward` works on [`Var`]s, which record on a
//! [`Tape`] how to go back:
//!
//! ```
//! use shanty::base::{Result, Tensor, keyed};
//! use shanty::nn::{Autograd, Forward, Module, Param, Var};
//!
//! struct Scale { weight: Param }
//! shanty::module!(Scale { weight });
//! impl Module for Scale {
//!     fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
//!         Ok(x * x.tape().param(&self.weight))
//!     }
//! }
//!
//! let mut net = Scale { weight: Param::new(Tensor::from_elem(vec![3], 2.0)) };
//! let mut rng = keyed(0, "example", 0, 0);
//! let loss = Autograd::default().train(&mut net, &mut rng, |net, tape, cx| {
//!     let y = net.forward(tape.input(Tensor::from_elem(vec![3], 5.0)), cx)?.sum();
//!     Ok((y, y.item()))
//! })?;
//! assert_eq!(loss, 30.0);
//! assert_eq!(net.weight.grad, Some(ndarray::ArrayD::from_elem(vec![3], 5.0)));
//! # Ok::<(), shanty::base::Error>(())
//! ```

mod arithmetic;
mod autograd;
mod backward;
mod buffer_pool;
mod display;
mod fold;
mod held;
pub mod init;
mod layers;
mod loss;
mod module;
mod module_tree;
mod param;
mod pending;
mod place;
mod recompute;
mod replace;
mod shapes;
mod tape;
mod tie;
mod timing;
mod trace;
mod tree;
mod var;

pub use arithmetic::PadMode;
pub use autograd::Autograd;
pub use backward::Grads;
pub use buffer_pool::BufferPool;
pub use fold::{FusedWeights, fuse_conv_bn, take_fused_form};
pub use layers::*;
pub use loss::*;
pub use module::{Forward, InModule, Module, ModuleConfig};
pub use module_tree::{Child, ChildMut, Field, ModuleTree};
pub use param::{Buffer, Counter, Param};
pub use recompute::checkpoint_activations;
pub(crate) use replace::linear_of;
pub use replace::{convert_sync_batchnorm, replace, revert_sync_batchnorm, set_eval};
pub use tape::Tape;
pub use tie::{tie_weights, tied_names};
pub use timing::{Cost, LayerTimes, PassTimes, timed};
pub use trace::{Traced, Work};
pub use tree::{
    ModuleVisitor, apply, find, find_mut, named_buffers, named_children, named_modules, named_parameters,
    set_norm_eval, set_trainable, visit, visit_mut, walk, walk_from,
};
pub use var::Var;
