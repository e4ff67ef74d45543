//! Forward, loss and backward in one call, with memory that stays from step to step.

use crate::base::{Result, Rng};
use crate::kernels::keep_threads_hot;

use super::place::located;
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
        let tape = Tape::without_grad(std::mem::take(&mut self.pool)).fused(self.fuses);
        let done = step(module, &tape, &mut Forward::new(false, rng));
        let done = done.and_then(|result| tape.take_error().map_or(Ok(result), Err));
        let done = done.map_err(|error| located(module, error));
        let listed = tape.check_listed(module);
        self.pool = tape.discard();
        done.and_then(|result| listed.map(|()| result))
    }

    /// Whether evaluation computes batch norms, sums and activations with the convolution or linear map before them:
    /// fewer walks over memory, and results that differ by rounding where a batch norm went into a weight. It does not
    /// unless this says so.
    pub fn fuse(&mut self, fuses: bool) {
        self.fuses = fuses;
    }

    /// The buffers, for a look at their number and size.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }
}
