//! Forward, loss and backward in one call, with memory that stays from step to step.

use crate::base::{Result, Rng};
use crate::kernels::keep_threads_hot;

use super::{Forward, Parts, Pool, Tape, Var};

/// Runs steps of a module and keeps their buffers. A model owns one; it is empty until the first step.
///
/// A model that is itself the module lends it to the call: `let mut autograd = std::mem::take(&mut self.autograd)`.
#[derive(Debug, Default)]
pub struct Autograd {
    pool: Pool,
}

impl Autograd {
    /// Calls `step` with a fresh tape, and adds the gradients of the loss that it returns to the parameters of `module`.
    /// What it returns besides (numbers, scores) is handed on.
    ///
    /// # Errors
    /// Those of `step`, and a loss that is not a single number. No gradient changes then.
    pub fn train<M: Parts, R>(
        &mut self,
        module: &mut M,
        rng: &mut Rng,
        step: impl for<'t> FnOnce(&mut M, &'t Tape, &mut Forward<'_>) -> Result<(Var<'t>, R)>,
    ) -> Result<R> {
        keep_threads_hot();
        let tape = Tape::new(std::mem::take(&mut self.pool));
        let done = step(module, &tape, &mut Forward { training: true, rng })
            .map(|(loss, result)| (loss.id(), result));
        match done {
            Ok((loss, result)) => {
                self.pool = tape.backward(loss, module)?;
                Ok(result)
            }
            Err(error) => {
                self.pool = tape.finish();
                Err(error)
            }
        }
    }

    /// Calls `step` with a tape that keeps nothing for a way back; layers are in evaluation mode.
    ///
    /// # Errors
    /// Those of `step`.
    pub fn eval<M: Parts, R>(
        &mut self,
        module: &mut M,
        rng: &mut Rng,
        step: impl for<'t> FnOnce(&mut M, &'t Tape, &mut Forward<'_>) -> Result<R>,
    ) -> Result<R> {
        let tape = Tape::without_grad(std::mem::take(&mut self.pool));
        let result = step(module, &tape, &mut Forward { training: false, rng });
        self.pool = tape.finish();
        result
    }

    /// The buffers, for a look at their number and size.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}
