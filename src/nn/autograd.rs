//! Forward, loss and backward in one call, with memory that stays from step to step.

use crate::base::{Result, Rng};
use crate::kernels::keep_threads_hot;

use super::place::located;
use super::trace::Traced;
use super::{BufferPool, Forward, ModuleTree, Tape, Var};

/// Runs steps of a module and keeps their buffers. A model owns one; it is empty until the first step.
///
/// A model that is itself the module lends it to the call: `let mut autograd = std::mem::take(&mut self.autograd)`.
#[derive(Debug, Default)]
pub struct Autograd {
    pool: BufferPool,
    fuses: bool,
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
        let tape = Tape::new(std::mem::take(&mut self.pool));
        let done = step(module, &tape, &mut Forward::new(true, rng))
            .and_then(|(loss, result)| Ok((loss.checked()?.id(), result)));
        match done {
            Ok((loss, result)) => {
                self.pool = tape.backward(loss, module)?;
                Ok(result)
            }
            Err(error) => {
                self.pool = tape.discard();
                Err(located(module, error))
            }
        }
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
        done.and_then(|result| listed.map(|()| (result, told)))
    }

    /// Whether evaluation computes batch norms, sums and activations with the convolution or linear map before them:
    /// fewer walks over memory, and results that differ by rounding where there is a batch norm. It does not
    /// unless this says so.
    pub fn fuse(&mut self, fuses: bool) {
        self.fuses = fuses;
    }

    /// The buffers, for a look at their number and size.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }
}
