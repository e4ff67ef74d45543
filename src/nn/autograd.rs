//! Forward, loss and backward in one call, with memory that stays from step to step.

use std::sync::Arc;

use crate::base::{Result, Rng};
use crate::comm::Comm;
use crate::kernels::keep_threads_hot;

use super::fold::{FusedWeights, fold};
use super::place::located;
use super::tie::{lend, take_back};
use super::trace::Traced;
use super::{BufferPool, Forward, ModuleTree, Tape, Var};

/// Runs steps of a module and keeps their buffers. A model owns one; it is empty until the first step.
///
/// A model that is itself the module lends it to the call: `let mut autograd = std::mem::take(&mut self.autograd)`.
#[derive(Debug, Default)]
pub struct Autograd {
    pool: BufferPool,
    fuses: bool,
    ranks: Option<Arc<dyn Comm>>,
}

impl Autograd {
    /// Calls `step` with a fresh tape, and adds the gradients of the loss that it returns to the parameters of
    /// `module`. What it returns besides (numbers, scores) is handed on.
    ///
    /// # Errors
    /// Those of `step` and of [`Tape::backward`], with the path of the module where it is known. No gradient changes
    /// then.
    pub fn train<M: ModuleTree, R>(
        &mut self,
        module: &mut M,
        rng: &mut Rng,
        step: impl for<'t> FnOnce(&mut M, &'t Tape, &mut Forward<'_>) -> Result<(Var<'t>, R)>,
    ) -> Result<R> {
        keep_threads_hot();
        lend(module);
        let tape = Tape::new(std::mem::take(&mut self.pool));
        let ranks = self.ranks.clone();
        let done = step(module, &tape, &mut Forward { ranks, ..Forward::new(true, rng) })
            .and_then(|(loss, result)| Ok((loss.checked()?.id(), result)));
        let done = match done {
            Ok((loss, result)) => tape.backward(loss, module).map(|pool| (pool, Ok(result))),
            Err(error) => Ok((tape.discard(), Err(located(module, error)))),
        };
        take_back(module);
        let (pool, result) = done?;
        self.pool = pool;
        result
    }

    /// Calls `step` with a tape that keeps nothing for a way back; layers are in evaluation mode.
    ///
    /// # Errors
    /// Those of `step`, ops that did not fit, and a parameter that `module` does not list.
    pub fn eval<M: ModuleTree, R>(
        &mut self,
        module: &mut M,
        rng: &mut Rng,
        step: impl for<'t> FnOnce(&mut M, &'t Tape, &mut Forward<'_>) -> Result<R>,
    ) -> Result<R> {
        self.evaluate(module, rng, step, false).map(|(result, _)| result)
    }

    /// As [`eval`](Self::eval), with what each module gave and what it cost, in the order of the tree.
    ///
    /// ```
    /// use shanty::base::{Tensor, keyed};
    /// use shanty::nn::{Autograd, Linear, Module, ReLU, Sequential, Var};
    ///
    /// let mut net = Sequential::new().with(Linear::new(3, 4)).with(ReLU::new()).with(Linear::new(4, 2));
    /// let (y, traced) = Autograd::default().trace(&mut net, &mut keyed(0, "example", 0, 0), |net, tape, cx| {
    ///     net.forward(tape.input(Tensor::from_elem(vec![5, 3], 1.0)), cx).map(Var::value)
    /// })?;
    /// let paths: Vec<&str> = traced.iter().map(|module| &*module.path).collect();
    /// assert_eq!(paths, ["", "0", "1", "2"]);
    /// assert_eq!((traced[0].parameters, traced[0].work.multiply_adds), (26, 5 * (3 * 4 + 4 * 2)));
    /// // The features before the last layer.
    /// let features = traced[2].output.as_ref().unwrap();
    /// assert_eq!((traced[2].kind, features.shape(), y.shape()), ("ReLU", &[5, 4][..], &[5, 2][..]));
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    ///
    /// # Errors
    /// As those of `eval`.
    pub fn trace<M: ModuleTree, R>(
        &mut self,
        module: &mut M,
        rng: &mut Rng,
        step: impl for<'t> FnOnce(&mut M, &'t Tape, &mut Forward<'_>) -> Result<R>,
    ) -> Result<(R, Vec<Traced>)> {
        self.evaluate(module, rng, step, true)
    }

    fn evaluate<M: ModuleTree, R>(
        &mut self,
        module: &mut M,
        rng: &mut Rng,
        step: impl for<'t> FnOnce(&mut M, &'t Tape, &mut Forward<'_>) -> Result<R>,
        traces: bool,
    ) -> Result<(R, Vec<Traced>)> {
        keep_threads_hot();
        lend(module);
        let tape = Tape::without_grad(std::mem::take(&mut self.pool)).fused(self.fuses && !traces);
        if traces {
            tape.trace();
        }
        let done = step(module, &tape, &mut Forward::new(false, rng));
        let done = done.and_then(|result| tape.take_error().map_or(Ok(result), Err));
        let done = done.map_err(|error| located(module, error));
        let listed = tape.check_listed(module);
        let told = tape.told(module);
        self.pool = tape.discard();
        take_back(module);
        done.and_then(|result| listed.map(|()| (result, told)))
    }

    /// Puts batch norms into the weights of the convolutions and linear maps before them, which then need them no
    /// more: MMEngine's `fuse_conv_bn`, by the data flow of a `step` in evaluation mode. See
    /// [`fuse_conv_bn`](super::fuse_conv_bn).
    ///
    /// # Errors
    /// As those of `eval`; nothing changes then.
    pub fn fuse_conv_bn<M: ModuleTree, R>(
        &mut self,
        module: &mut M,
        rng: &mut Rng,
        step: impl for<'t> FnOnce(&mut M, &'t Tape, &mut Forward<'_>) -> Result<R>,
    ) -> Result<FusedWeights> {
        lend(module);
        let tape = Tape::without_grad(std::mem::take(&mut self.pool)).fused(true);
        let done = step(module, &tape, &mut Forward::new(false, rng)).map(drop);
        let done = done.and_then(|()| tape.take_error().map_or(Ok(()), Err));
        let seen = tape.norms_of_products();
        self.pool = tape.discard();
        take_back(module);
        done.map_err(|error| located(module, error))?;
        fold(module, &seen)
    }

    /// Whether evaluation computes batch norms, sums and activations with the convolution or linear map before them:
    /// fewer walks over memory, and results that differ by rounding where there is a batch norm. It does not
    /// unless this says so.
    pub fn fuse(&mut self, fuses: bool) {
        self.fuses = fuses;
    }

    /// Trains beside other processes, whose samples count in the statistics of each `SyncBatchNorm`.
    pub fn beside(&mut self, ranks: Arc<dyn Comm>) {
        self.ranks = Some(ranks);
    }

    /// The number of this process among those that it trains beside: noise is drawn for it and its iteration.
    pub fn rank(&self) -> usize {
        self.ranks.as_ref().map_or(0, |ranks| ranks.place().rank)
    }

    /// The buffers, for a look at their number and size.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }
}
