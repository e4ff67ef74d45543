//! Reverse-mode differentiation: an arena of values, each with the closure that takes its gradient to its inputs.

use std::cell::{Cell, RefCell};

use ndarray::{ArrayD, ArrayViewD};
use smallvec::SmallVec;

use crate::base::{Elem, Error, Result, Tensor, caught_from};
use crate::kernels::Act;

use super::backward::Grads;
use super::buffer_pool::{row_major, tensor};
use super::held::{Held, Owned};
use super::pending::Pending;
use super::tie::Lent;
use super::trace::Trace;
use super::{BufferPool, InModule, Param, Var};

pub(super) type Backward = Box<dyn FnOnce(Owned, &mut Grads<'_>)>;

/// What one forward pass computed, and how to go back. Local to a step: `backward` consumes it.
///
/// An op that does not fit its inputs (shapes that do not broadcast, an axis that is not there) cannot return an error
/// from the middle of `a + b * c`. It notes the error on the tape instead, and its value is NaN. The first error is
/// told by [`Var::checked`], by [`Tape::backward`] and by [`Tape::finish`], and so by every step of an
/// [`Autograd`](super::Autograd).
pub struct Tape {
    pub(super) arena: RefCell<Arena>,
    /// Whether a way back is kept at all.
    grad: bool,
    /// Whether it is kept now: not within [`Tape::no_grad`].
    recording: Cell<bool>,
    /// Whether products wait for what follows them.
    pub(super) fuses: bool,
}

#[derive(Default)]
pub(super) struct Arena {
    pub nodes: Vec<Node>,
    pub pool: BufferPool,
    pub leaves: Vec<Leaf>,
    /// The first op that did not fit.
    pub error: Option<InModule>,
    /// The waiting products that something took in, once for each that did.
    pub absorbed: Vec<u32>,
    /// Those among them that batch norms took in, with the address of the running mean.
    pub norms: Vec<(u32, usize)>,
    /// The calls of modules, where they are noted.
    pub trace: Option<Trace>,
}

/// A value and the op that made it.
pub(super) struct Node {
    pub op: &'static str,
    pub value: Held,
    /// A value in bf16 in full, for ops that read no bf16.
    pub wide: Option<Tensor>,
    pub requires_grad: bool,
    pub inputs: SmallVec<[u32; 3]>,
    pub backward: Option<Backward>,
    /// The activation that it is, where its value tells the slope.
    pub act: Option<Act>,
    /// What its value is computed from when somebody asks for it.
    pub pending: Option<Box<Pending>>,
    /// What the trace has of it.
    pub event: Option<usize>,
}

impl Node {
    /// The shape of its value, also while that waits.
    pub fn shape(&self) -> &[usize] {
        self.pending.as_ref().map_or(self.value.shape(), |product| product.shape())
    }

    /// Gives the memory of its value back, of which its way back holds a part.
    pub fn recycle(self, pool: &mut BufferPool) {
        drop((self.backward, self.pending));
        self.value.recycle(pool);
        if let Some(wide) = self.wide {
            pool.recycle(wide);
        }
    }
}

/// A use of a parameter.
#[derive(Clone, Copy)]
pub(super) struct Leaf {
    /// Where the memory of the parameter lies: it tells the parameter from all others.
    pub address: usize,
    /// Its node.
    pub id: u32,
    /// Whether the module of the step lists it, or it is frozen and need not be listed.
    pub listed: bool,
}

impl Tape {
    /// A tape for training, with buffers from `pool`.
    pub fn new(pool: BufferPool) -> Self {
        Self::with(pool, true)
    }

    /// A tape that keeps nothing for a way back.
    pub fn without_grad(pool: BufferPool) -> Self {
        Self::with(pool, false)
    }

    fn with(mut pool: BufferPool, grad: bool) -> Self {
        pool.begin();
        let tape = Self::within(pool, grad);
        tape.arena.borrow_mut().trace = grad.then(Trace::timed).flatten();
        tape
    }

    /// A tape within the step of another one, whose buffers it works in and gives back.
    pub(super) fn within(pool: BufferPool, grad: bool) -> Self {
        Self {
            arena: RefCell::new(Arena { pool, ..Arena::default() }),
            grad,
            recording: Cell::new(true),
            fuses: false,
        }
    }

    /// A value without gradient. A tensor that is not row-major is copied.
    pub fn input(&self, value: impl Into<Tensor>) -> Var<'_> {
        self.leaf("input", row_major(value.into()), false)
    }

    /// A parameter; its gradient is added to [`Param::grad`] by [`Tape::backward`]. It may be used any number of times.
    pub fn param(&self, param: &Param) -> Var<'_> {
        let recording = self.recording.get();
        let Lent { value, trainable } = param.in_step();
        let (address, empty) = (value.as_ptr() as usize, value.is_empty());
        let var = self.leaf("param", row_major(value), self.grad && recording && trainable);
        if !empty {
            let leaf = Leaf { address, id: var.id, listed: !trainable || !recording };
            self.arena.borrow_mut().leaves.push(leaf);
        }
        var
    }

    /// What `f` computes counts as numbers: no gradient goes back through it, and parameters that it uses need not be
    /// listed by the module of the step. So a teacher is asked within the step of its pupil.
    ///
    /// ```
    /// use shanty::base::Tensor;
    /// use shanty::nn::{BufferPool, Param, Tape};
    ///
    /// let weight = Param::new(Tensor::from_elem(vec![1], 3.0));
    /// let tape = Tape::new(BufferPool::default());
    /// let fixed = tape.no_grad(|| tape.param(&weight) * 2.0);
    /// assert_eq!((fixed.item(), fixed.requires_grad()), (6.0, false));
    /// assert!(tape.param(&weight).requires_grad());
    /// ```
    pub fn no_grad<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Puts the old value back, also when `f` panics.
        struct Restore<'a>(&'a Cell<bool>, bool);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let _restore = Restore(&self.recording, self.recording.replace(false));
        f()
    }

    /// Whether it keeps a way back now.
    pub(super) fn keeps(&self) -> bool {
        self.grad && self.recording.get()
    }

    /// Values from another tape, which ask for a gradient or not.
    pub(super) fn given(&self, values: &[Held], wanted: &[bool]) -> Vec<Var<'_>> {
        let each = values.iter().zip(wanted);
        each.map(|(value, wanted)| self.held_leaf("input", value.clone(), *wanted)).collect()
    }

    /// The trained parameters that were used, each once: where they are, and their values.
    pub(super) fn trained(&self) -> Vec<(usize, Tensor)> {
        let arena = self.arena.borrow();
        let mut found: Vec<(usize, Tensor)> = Vec::new();
        for leaf in arena.leaves.iter().filter(|leaf| !leaf.listed) {
            if found.iter().all(|(address, _)| *address != leaf.address)
                && let Held::Full(value) = &arena.nodes[leaf.id as usize].value
            {
                found.push((leaf.address, value.clone()));
            }
        }
        found
    }

    /// A trained parameter by its place, as [`Tape::param`].
    pub(super) fn param_at(&self, address: usize, value: Tensor) -> Var<'_> {
        let var = self.leaf("param", value, self.keeps());
        self.arena.borrow_mut().leaves.push(Leaf { address, id: var.id, listed: false });
        var
    }

    /// Takes over the trace of another tape, and gives it its own.
    pub(super) fn pass_trace(&self, other: &mut Option<Trace>) {
        std::mem::swap(&mut self.arena.borrow_mut().trace, other);
    }

    /// What it holds.
    pub(super) fn into_arena(self) -> Arena {
        self.arena.into_inner()
    }

    pub(super) fn leaf(&self, op: &'static str, value: Tensor, requires_grad: bool) -> Var<'_> {
        self.held_leaf(op, Held::Full(value), requires_grad)
    }

    fn held_leaf(&self, op: &'static str, value: Held, requires_grad: bool) -> Var<'_> {
        let inputs = SmallVec::new();
        let (wide, backward, act, pending, event) = (None, None, None, None, None);
        self.push(Node { op, value, wide, requires_grad, inputs, backward, act, pending, event })
    }

    /// The result of the op `op` with the way back: `backward` gets the gradient of `value` in a buffer of its own
    /// (reuse it, or give it to the pool) and hands each input its gradient by [`Grads::add`]. It is dropped when no
    /// input asks.
    pub fn node<'t>(
        &'t self,
        op: &'static str,
        value: Tensor,
        inputs: &[Var<'t>],
        backward: impl FnOnce(Vec<Elem>, &mut Grads<'_>) + 'static,
    ) -> Var<'t> {
        self.held_node(op, Held::Full(row_major(value)), inputs, |dy, grads| {
            let dy = dy.in_full(grads.pool);
            backward(dy, grads);
        })
    }

    /// Whether these values are on this tape.
    pub(super) fn has_all(&self, values: &[Var<'_>]) -> bool {
        values.iter().all(|x| std::ptr::eq(x.tape, self))
    }

    /// The same of a value as it is held, with its gradient as it came.
    pub(super) fn held_node<'t>(
        &'t self,
        op: &'static str,
        value: Held,
        inputs: &[Var<'t>],
        backward: impl FnOnce(Owned, &mut Grads<'_>) + 'static,
    ) -> Var<'t> {
        if !self.has_all(inputs) {
            let error = Error::invalid(format!("the inputs of `{op}` are on two tapes: a step has one"));
            return self.fail(value.shape(), error);
        }
        let requires_grad = self.recording.get() && inputs.iter().any(|x| x.requires_grad());
        self.push(Node {
            op,
            value,
            wide: None,
            requires_grad,
            inputs: inputs.iter().map(|x| x.id).collect(),
            backward: requires_grad.then(|| Box::new(backward) as Backward),
            act: None,
            pending: None,
            event: None,
        })
    }

    /// An op of one's own on arrays: `backward` gives the gradient of each input, `None` where there is none.
    ///
    /// The op's name stands in errors: that of `backward` itself, its panic, and a gradient of another shape than its
    /// input fail the step and change no gradient. Memory is allocated as ndarray pleases; the ops of the library use
    /// [`Tape::node`].
    ///
    /// ```
    /// use shanty::base::Tensor;
    /// use shanty::nn::{BufferPool, Tape};
    ///
    /// let tape = Tape::new(BufferPool::default());
    /// let x = tape.input(Tensor::from_elem(vec![2], 3.0));
    /// let v = x.value();
    /// let cube = tape.op("cube", &v * &v * &v, [x], move |dy| Ok([Some(&dy * &v * &v * 3.0)]));
    /// assert_eq!(cube.item(), 27.0);
    /// ```
    pub fn op<'t, const N: usize>(
        &'t self,
        op: &'static str,
        value: impl Into<Tensor>,
        inputs: [Var<'t>; N],
        backward: impl FnOnce(ArrayViewD<'_, Elem>) -> Result<[Option<ArrayD<Elem>>; N]> + 'static,
    ) -> Var<'t> {
        let value = row_major(value.into());
        let shape = value.shape().to_vec();
        self.node(op, value, &inputs, move |dy, grads| {
            let dy = tensor(&shape, dy);
            match caught_from("it", || backward(dy.view())) {
                Ok(found) => {
                    let found = found.into_iter().enumerate();
                    found
                        .filter_map(|(i, grad)| Some((i, grad?)))
                        .for_each(|(i, grad)| grads.add_array(i, grad));
                }
                Err(error) => grads.fail(&error.to_string()),
            }
            grads.pool.recycle(dy);
        })
    }

    fn push(&self, mut node: Node) -> Var<'_> {
        let Arena { nodes, leaves, trace, .. } = &mut *self.arena.borrow_mut();
        if let Some(trace) = trace {
            node.event = trace.made(&node, leaves);
        }
        nodes.push(node);
        Var { tape: self, id: (nodes.len() - 1) as u32 }
    }

    /// Notes the error of an op; its value is NaN, of this shape.
    pub(super) fn fail(&self, shape: &[usize], error: Error) -> Var<'_> {
        {
            let arena = &mut *self.arena.borrow_mut();
            if arena.error.is_none() {
                let near = arena.near(arena.nodes.len() as u32);
                arena.error = Some(InModule::noted(error, near));
            }
        }
        self.leaf("failed", Tensor::from_elem(shape, Elem::NAN), false)
    }

    /// The first op that did not fit, once.
    pub(super) fn take_error(&self) -> Option<Error> {
        self.arena.borrow_mut().error.take().map(InModule::into_error)
    }

    /// A buffer of this length with stale contents, for the result of an op: write all of it.
    pub fn take(&self, len: usize) -> Vec<Elem> {
        self.arena.borrow_mut().pool.take(len)
    }

    /// Gives a buffer back.
    pub fn give(&self, buffer: Vec<Elem>) {
        self.arena.borrow_mut().pool.give(buffer);
    }

    /// The pool, for buffers of other types.
    pub(super) fn with_pool<R>(&self, f: impl FnOnce(&mut BufferPool) -> R) -> R {
        f(&mut self.arena.borrow_mut().pool)
    }

    pub(super) fn value(&self, id: u32) -> Tensor {
        self.settle(id);
        let Arena { nodes, pool, .. } = &mut *self.arena.borrow_mut();
        let Node { value, wide, .. } = &mut nodes[id as usize];
        match value {
            Held::Full(value) => value.clone(),
            Held::Half(_) => wide.get_or_insert_with(|| value.to_tensor(pool)).clone(),
        }
    }

    pub(super) fn shape(&self, id: u32) -> Vec<usize> {
        self.arena.borrow().nodes[id as usize].shape().to_vec()
    }

    pub(super) fn wants(&self, id: u32) -> bool {
        self.arena.borrow().nodes[id as usize].requires_grad
    }

    /// Ends the tape without gradients and gives the pool back.
    ///
    /// # Errors
    /// That of the first op that did not fit.
    pub fn finish(self) -> Result<BufferPool> {
        match self.take_error() {
            Some(error) => Err(error),
            None => Ok(self.discard()),
        }
    }

    /// Ends the tape, whatever was noted on it.
    pub(super) fn discard(self) -> BufferPool {
        let Arena { nodes, mut pool, .. } = self.arena.into_inner();
        for node in nodes.into_iter().rev() {
            node.recycle(&mut pool);
        }
        pool
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tape({} nodes)", self.arena.borrow().nodes.len())
    }
}
