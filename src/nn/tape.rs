//! Reverse-mode differentiation: an arena of values, each with the closure that takes its gradient to its inputs.

use std::cell::RefCell;

use ndarray::{ArrayD, ArrayViewD};
use smallvec::SmallVec;

use crate::base::{Elem, Error, Result, Tensor};

use super::pool::{row_major, tensor};
use super::tree::each_param;
use super::{Param, Parts, Pool, Var};
use crate::kernels;

type Backward = Box<dyn FnOnce(Vec<Elem>, &mut Grads<'_>)>;

/// What one forward pass computed, and how to go back. Local to a step: `backward` consumes it.
pub struct Tape {
    arena: RefCell<Arena>,
    /// Whether parameters ask for gradients.
    grad: bool,
}

#[derive(Default)]
struct Arena {
    nodes: Vec<Node>,
    pool: Pool,
    /// Where the memory of each parameter used lies, and its node.
    leaves: Vec<(usize, u32)>,
}

struct Node {
    value: Tensor,
    requires_grad: bool,
    inputs: SmallVec<[u32; 3]>,
    backward: Option<Backward>,
}

impl Tape {
    /// A tape for training, with buffers from `pool`.
    pub fn new(pool: Pool) -> Self {
        Self::with(pool, true)
    }

    /// A tape that keeps nothing for a way back.
    pub fn without_grad(pool: Pool) -> Self {
        Self::with(pool, false)
    }

    fn with(mut pool: Pool, grad: bool) -> Self {
        pool.begin();
        Self { arena: RefCell::new(Arena { pool, ..Arena::default() }), grad }
    }

    /// A value without gradient. A tensor that is not row-major is copied.
    pub fn input(&self, value: impl Into<Tensor>) -> Var<'_> {
        self.push(Node {
            value: row_major(value.into()),
            requires_grad: false,
            inputs: SmallVec::new(),
            backward: None,
        })
    }

    /// A parameter; its gradient is added to [`Param::grad`] by [`Tape::backward`]. May be used any number of times.
    pub fn param(&self, param: &Param) -> Var<'_> {
        let requires_grad = self.grad && param.trainable;
        let value = row_major(param.value.clone());
        let var = self.push(Node { value, requires_grad, inputs: SmallVec::new(), backward: None });
        if requires_grad {
            self.arena.borrow_mut().leaves.push((address(param), var.id));
        }
        var
    }

    /// The result of an op with the way back: `backward` gets the gradient of `value` in a buffer of its own (reuse it, or
    /// give it to the pool) and hands each input its gradient by [`Grads::add`]. It is dropped when no input asks.
    pub fn node<'t>(
        &'t self,
        value: Tensor,
        inputs: &[Var<'t>],
        backward: impl FnOnce(Vec<Elem>, &mut Grads<'_>) + 'static,
    ) -> Var<'t> {
        debug_assert!(inputs.iter().all(|x| std::ptr::eq(x.tape, self)), "all inputs are on one tape");
        let requires_grad = inputs.iter().any(|x| x.requires_grad());
        self.push(Node {
            value: row_major(value),
            requires_grad,
            inputs: inputs.iter().map(|x| x.id).collect(),
            backward: requires_grad.then(|| Box::new(backward) as Backward),
        })
    }

    /// An op of one's own on arrays: `backward` gives the gradient of each input, `None` where there is none.
    ///
    /// Memory is allocated as ndarray pleases; the ops of the library use [`Tape::node`].
    ///
    /// ```
    /// use shanty::base::Tensor;
    /// use shanty::nn::{Pool, Tape};
    ///
    /// let tape = Tape::new(Pool::default());
    /// let x = tape.input(Tensor::from_elem(vec![2], 3.0));
    /// let v = x.value();
    /// let cube = tape.op(&v * &v * &v, [x], move |dy| [Some(&dy * &v * &v * 3.0)]);
    /// assert_eq!(cube.item(), 27.0);
    /// ```
    ///
    /// # Panics
    /// In `backward`, when a gradient has another shape than its input.
    pub fn op<'t, const N: usize>(
        &'t self,
        value: impl Into<Tensor>,
        inputs: [Var<'t>; N],
        backward: impl FnOnce(ArrayViewD<'_, Elem>) -> [Option<ArrayD<Elem>>; N] + 'static,
    ) -> Var<'t> {
        let value = row_major(value.into());
        let shape = value.shape().to_vec();
        let shapes = inputs.map(Var::shape);
        self.node(value, &inputs, move |dy, grads| {
            let dy = tensor(&shape, dy);
            for (i, grad) in backward(dy.view()).into_iter().enumerate() {
                let Some(grad) = grad else { continue };
                assert_eq!(
                    grad.shape(),
                    shapes[i],
                    "the gradient of an op's input {i} has the shape of the input"
                );
                grads.add(i, grad.iter().copied().collect());
            }
            grads.pool.recycle(dy);
        })
    }

    fn push(&self, node: Node) -> Var<'_> {
        let nodes = &mut self.arena.borrow_mut().nodes;
        nodes.push(node);
        Var { tape: self, id: (nodes.len() - 1) as u32 }
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
    pub(super) fn with_pool<R>(&self, f: impl FnOnce(&mut Pool) -> R) -> R {
        f(&mut self.arena.borrow_mut().pool)
    }

    pub(super) fn value(&self, id: u32) -> Tensor {
        self.arena.borrow().nodes[id as usize].value.clone()
    }

    pub(super) fn wants(&self, id: u32) -> bool {
        self.arena.borrow().nodes[id as usize].requires_grad
    }

    /// Ends the tape without gradients and gives the pool back.
    pub fn finish(self) -> Pool {
        let Arena { nodes, mut pool, .. } = self.arena.into_inner();
        for node in nodes.into_iter().rev() {
            drop(node.backward);
            pool.recycle(node.value);
        }
        pool
    }

    /// Adds the gradient of the scalar `loss` to every parameter of `module` that it was computed from, and gives the pool
    /// back. Values and closures are dropped on the way, so that afterwards nothing shares the parameters' memory.
    ///
    /// # Errors
    /// When `loss` is not a single number.
    pub fn backward(self, loss: u32, module: &mut dyn Parts) -> Result<Pool> {
        let Arena { mut nodes, mut pool, mut leaves } = self.arena.into_inner();
        let shape = nodes[loss as usize].value.shape();
        if shape.iter().product::<usize>() != 1 {
            return Err(Error::invalid(format!(
                "backward starts from a single number, the loss has shape {shape:?}: reduce it with `mean` or `sum`"
            )));
        }
        each_param(module, &mut |param| {
            if let Some(spare) = param.take_spare() {
                pool.adopt(spare);
            }
        });
        let wanted: Vec<bool> = nodes.iter().map(|n| n.requires_grad).collect();
        let mut slots: Vec<Option<Vec<Elem>>> = vec![None; nodes.len()];
        let mut first = pool.take(1);
        first[0] = 1.0;
        slots[loss as usize] = Some(first);
        while let Some(node) = nodes.pop() {
            let id = nodes.len();
            if let Some(backward) = node.backward
                && let Some(dy) = slots[id].take()
            {
                let wanted = &wanted;
                backward(dy, &mut Grads { pool: &mut pool, inputs: &node.inputs, wanted, slots: &mut slots });
            }
            pool.recycle(node.value);
        }
        leaves.sort_unstable();
        each_param(module, &mut |param| collect(param, &leaves, &mut slots, &mut pool));
        slots.into_iter().flatten().for_each(|unclaimed| pool.give(unclaimed));
        Ok(pool)
    }
}

/// The memory of a parameter's value tells it from all others while it lives.
fn address(param: &Param) -> usize {
    param.value.as_ptr() as usize
}

/// Adds what the tape found for this parameter to its gradient; the first time the buffer itself becomes it.
fn collect(param: &mut Param, leaves: &[(usize, u32)], slots: &mut [Option<Vec<Elem>>], pool: &mut Pool) {
    if param.value.is_empty() {
        // Empty tensors have no address of their own, and nothing to add.
        param.grad = param.trainable.then(|| ArrayD::zeros(param.value.raw_dim()));
        return;
    }
    let here = address(param);
    let start = leaves.partition_point(|&(address, _)| address < here);
    for &(_, id) in leaves[start..].iter().take_while(|(address, _)| *address == here) {
        let Some(found) = slots[id as usize].take() else { continue };
        match param.grad.as_mut().and_then(ArrayD::as_slice_mut) {
            Some(sum) => add_into(sum, found, pool),
            None => param.grad = Some(tensor(param.value.shape(), found).into_owned()),
        }
    }
}

fn add_into(sum: &mut [Elem], more: Vec<Elem>, pool: &mut Pool) {
    kernels::add_assign(&more, sum);
    pool.give(more);
}

/// Where an op's way back puts the gradients of its inputs, numbered as in [`Tape::node`].
pub struct Grads<'a> {
    /// Buffers to take from and give to.
    pub pool: &'a mut Pool,
    inputs: &'a [u32],
    wanted: &'a [bool],
    slots: &'a mut [Option<Vec<Elem>>],
}

impl Grads<'_> {
    /// Whether input `i` asks for its gradient: false for data and for what is computed from data alone.
    pub fn wants(&self, i: usize) -> bool {
        self.wanted[self.inputs[i] as usize]
    }

    /// Adds to the gradient of input `i`.
    pub fn add(&mut self, i: usize, grad: Vec<Elem>) {
        if !self.wants(i) {
            return self.pool.give(grad);
        }
        let slot = &mut self.slots[self.inputs[i] as usize];
        match slot {
            Some(sum) => add_into(sum, grad, self.pool),
            None => *slot = Some(grad),
        }
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tape({} nodes)", self.arena.borrow().nodes.len())
    }
}
