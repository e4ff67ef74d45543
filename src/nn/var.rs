//! A value on a tape.

use crate::base::{Elem, Result, Tensor};

use super::Tape;

/// A value on a tape: a handle, free to copy. The ops are its methods.
#[derive(Clone, Copy)]
pub struct Var<'t> {
    pub(super) tape: &'t Tape,
    pub(super) id: u32,
}

impl<'t> Var<'t> {
    /// The tape it is on.
    pub fn tape(self) -> &'t Tape {
        self.tape
    }

    /// Its place on the tape, for [`Tape::backward`], which consumes the tape that a `Var` borrows.
    pub fn id(self) -> u32 {
        self.id
    }

    /// Its value, row-major; shares memory with the tape.
    pub fn value(self) -> Tensor {
        self.tape.value(self.id)
    }

    /// Its shape.
    pub fn shape(self) -> Vec<usize> {
        self.tape.shape(self.id)
    }

    /// Its first element: the number in a scalar. 0 when it is empty.
    pub fn item(self) -> Elem {
        self.value().first().copied().unwrap_or(0.0)
    }

    /// Whether a gradient will be asked for.
    pub fn requires_grad(self) -> bool {
        self.tape.wants(self.id)
    }

    /// The value itself, unless an op on its tape did not fit: see [`Tape`]. A layer ends with it, and so does code
    /// that looks at values in between: what comes of an op that did not fit is NaN.
    ///
    /// # Errors
    /// That of the first op that did not fit; it is told once.
    pub fn checked(self) -> Result<Self> {
        self.tape.take_error().map_or(Ok(self), Err)
    }

    /// What `op` gives; if it does not fit, that is noted on the tape.
    pub(super) fn attempt(self, op: impl FnOnce() -> Result<Self>) -> Self {
        op().unwrap_or_else(|error| self.tape.fail(&self.shape(), error))
    }

    /// The same value, cut off from what it came from.
    pub fn detach(self) -> Self {
        self.tape.input(self.value())
    }
}

impl std::fmt::Debug for Var<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Var({}, {:?})", self.id, self.shape())
    }
}
