//! The way back over a tape: from the loss to the gradients of the parameters.

use ndarray::ArrayD;

use crate::base::{Elem, Error, Result};
use crate::kernels;

use super::buffer_pool::tensor;
use super::held::Owned;
use super::module::InModule;
use super::place::{self, Near};
use super::tape::{Arena, Leaf, Node, Tape};
use super::trace::Trace;
use super::tree::each_param;
use super::{BufferPool, ModuleTree, Param, Work};

impl Tape {
    /// Adds the gradient of the scalar `loss` to every parameter of `module` that it was computed from, and gives the
    /// pool back. Values and closures are dropped on the way, so that afterwards nothing shares the parameters' memory.
    ///
    /// # Errors
    /// That of the first op that did not fit; when `loss` is not a single number; when a parameter was used that
    /// `module` does not list; when the backward of an op fails or gives a gradient of a wrong shape. No gradient
    /// changes then.
    pub fn backward(self, loss: u32, module: &mut dyn ModuleTree) -> Result<BufferPool> {
        let mut arena = self.arena.into_inner();
        if let Some(noted) = arena.error.take() {
            return Err(place::located(module, noted.into_error()));
        }
        let shape = arena.nodes[loss as usize].shape();
        if shape.iter().product::<usize>() != 1 {
            return Err(Error::invalid(format!(
                "backward starts from a single number, the loss has shape {shape:?}: reduce it with `mean` or `sum`"
            )));
        }
        arena.check_listed(module)?;
        if let Some(trace) = &mut arena.trace {
            trace.turn();
        }
        each_param(module, &mut |param| {
            if let Some(spare) = param.take_spare() {
                arena.pool.keep(spare);
            }
        });
        let mut first = arena.pool.take(1);
        first[0] = 1.0;
        let mut slots = match arena.run_backward(loss, Owned::Full(first), module) {
            Ok(slots) => slots,
            Err(failed) => return Err(place::located(module, failed)),
        };
        let Arena { mut pool, leaves, trace, .. } = arena;
        each_param(module, &mut |param| collect(param, &leaves, &mut slots, &mut pool));
        slots.into_iter().flatten().for_each(|unclaimed| unclaimed.recycle(&mut pool));
        if let Some(trace) = trace {
            trace.ended(module);
        }
        Ok(pool)
    }

    /// Refuses a parameter that was used and that `module` does not list.
    pub(super) fn check_listed(&self, module: &mut dyn ModuleTree) -> Result<()> {
        self.arena.borrow_mut().check_listed(module)
    }
}

impl Arena {
    /// The gradient of each value for which one was asked, by its place on the tape, where `first` is that of `from`.
    pub(super) fn run_backward(
        &mut self,
        from: u32,
        first: Owned,
        module: &mut dyn ModuleTree,
    ) -> Result<Vec<Option<Owned>>> {
        let mut slots: Vec<Option<Owned>> = self.nodes.iter().map(|_| None).collect();
        slots[from as usize] = Some(first);
        while let Some(mut node) = self.nodes.pop() {
            let id = self.nodes.len();
            if let Some(backward) = node.backward.take()
                && let Some(dy) = slots[id].take()
            {
                if let (Some(trace), Some(_)) = (&mut self.trace, node.event) {
                    trace.goes_back();
                }
                let mut grads = Grads {
                    pool: &mut self.pool,
                    trace: &mut self.trace,
                    node: &node,
                    below: &self.nodes,
                    slots: &mut slots,
                    module: &mut *module,
                    error: None,
                };
                backward(dy, &mut grads);
                let error = grads.error;
                if let (Some(trace), Some(event)) = (&mut self.trace, node.event) {
                    trace.returned(event);
                }
                if let Some(error) = error {
                    let near = self.near_node(id as u32, &node);
                    return Err(InModule::noted(error, near).into_error());
                }
            }
            node.recycle(&mut self.pool);
        }
        Ok(slots)
    }

    /// Finds the parameters of `module` among those that were used, and leaves them sorted by address.
    fn check_listed(&mut self, module: &mut dyn ModuleTree) -> Result<()> {
        self.leaves.sort_unstable_by_key(|leaf| (leaf.address, leaf.id));
        let leaves = &mut self.leaves;
        each_param(module, &mut |param| {
            if !param.value.is_empty() {
                let here = param.address();
                let start = leaves.partition_point(|leaf| leaf.address < here);
                leaves[start..].iter_mut().take_while(|l| l.address == here).for_each(|l| l.listed = true);
            }
        });
        match self.leaves.iter().filter(|leaf| !leaf.listed).min_by_key(|leaf| leaf.id) {
            Some(forgotten) => Err(self.unlisted(*forgotten, module)),
            None => Ok(()),
        }
    }

    /// What is wrong with a parameter that the module does not list.
    fn unlisted(&self, forgotten: Leaf, module: &dyn ModuleTree) -> Error {
        let op = self.nodes.iter().find(|node| node.inputs.contains(&forgotten.id)).map_or("an op", |n| n.op);
        let shape = self.nodes[forgotten.id as usize].shape();
        let listed = || self.leaves.iter().filter(|leaf| leaf.listed);
        let before = listed().filter(|leaf| leaf.id < forgotten.id).max_by_key(|leaf| leaf.id);
        let after = listed().filter(|leaf| leaf.id > forgotten.id).min_by_key(|leaf| leaf.id);
        let place = |leaf: Option<&Leaf>| leaf.and_then(|leaf| place::layer_of(module, leaf.address));
        let near = match (place(before), place(after)) {
            (Some(layer), _) => format!(", after `{layer}`"),
            (None, Some(layer)) => format!(", before `{layer}`"),
            (None, None) => String::new(),
        };
        let root = module.type_name();
        Error::invalid(format!(
            "`{op}`{near} uses a parameter of shape {shape:?} that `{root}` does not list: it would be neither trained nor \
             saved. Name its field in `module!` of the struct that holds it; a value that is meant to stay as it is goes in by \
             `tape.input`"
        ))
    }

    /// The parameter that the op of `node` uses, or else the last one before it.
    fn near_node(&self, id: u32, node: &Node) -> Option<Near> {
        let before = self.leaves.iter().filter(|leaf| leaf.id < id);
        let used = before.clone().filter(|leaf| node.inputs.contains(&leaf.id)).max_by_key(|leaf| leaf.id);
        let last =
            || before.max_by_key(|leaf| leaf.id).map(|leaf| Near { address: leaf.address, used: false });
        used.map(|leaf| Near { address: leaf.address, used: true }).or_else(last)
    }

    /// The last parameter that was put on the tape before `id`. If no op has used it, the next op was about to.
    pub(super) fn near(&self, id: u32) -> Option<Near> {
        let leaf = self.leaves.iter().filter(|leaf| leaf.id < id).max_by_key(|leaf| leaf.id)?;
        let later = &self.nodes[leaf.id as usize..];
        let used = !later.iter().any(|node| node.inputs.contains(&leaf.id));
        Some(Near { address: leaf.address, used })
    }
}

/// Adds what the tape found for this parameter to its gradient; the first time the buffer itself becomes it.
fn collect(param: &mut Param, leaves: &[Leaf], slots: &mut [Option<Owned>], pool: &mut BufferPool) {
    if param.value.is_empty() {
        // Empty tensors have no address of their own, and nothing to add.
        param.grad = param.trainable.then(|| ArrayD::zeros(param.value.raw_dim()));
        return;
    }
    let here = param.address();
    let start = leaves.partition_point(|leaf| leaf.address < here);
    for leaf in leaves[start..].iter().take_while(|leaf| leaf.address == here) {
        let Some(found) = slots[leaf.id as usize].take() else { continue };
        let found = found.in_full(pool);
        match param.grad.as_mut().and_then(ArrayD::as_slice_mut) {
            Some(sum) => add_into(sum, found, pool),
            None => param.grad = Some(tensor(param.value.shape(), found).into_owned()),
        }
    }
}

fn add_into(sum: &mut [Elem], more: Vec<Elem>, pool: &mut BufferPool) {
    kernels::add_assign(&more, sum);
    pool.give(more);
}

/// Where an op's way back puts the gradients of its inputs, numbered as in [`Tape::node`].
pub struct Grads<'a> {
    /// Buffers to take from and give to.
    pub pool: &'a mut BufferPool,
    /// The module of the step.
    pub(super) module: &'a mut dyn ModuleTree,
    /// Where times are noted.
    pub(super) trace: &'a mut Option<Trace>,
    node: &'a Node,
    below: &'a [Node],
    slots: &'a mut [Option<Owned>],
    error: Option<Error>,
}

impl Grads<'_> {
    /// Whether input `i` asks for its gradient: false for data and for what is computed from data alone.
    pub fn wants(&self, i: usize) -> bool {
        self.input(i).is_some_and(|input| input.requires_grad)
    }

    /// Tells what this way back multiplies, for the profile: an op tells its way there by [`Tape::worked`].
    pub fn worked(&mut self, work: Work) {
        if let (Some(trace), Some(event)) = (self.trace.as_mut(), self.node.event) {
            trace.multiplied(event, work);
        }
    }

    /// What the trace has of the op.
    pub(super) fn event(&self) -> Option<usize> {
        self.node.event
    }

    fn input(&self, i: usize) -> Option<&Node> {
        self.node.inputs.get(i).and_then(|id| self.below.get(*id as usize))
    }

    /// Adds to the gradient of input `i`. A gradient of another length than the input fails the step.
    pub fn add(&mut self, i: usize, grad: Vec<Elem>) {
        self.add_owned(i, Owned::Full(grad));
    }

    /// Whether input `i` is held in bf16, and its gradient better be.
    pub(super) fn is_half(&self, i: usize) -> bool {
        self.input(i).is_some_and(|input| input.value.is_half())
    }

    /// The same of a gradient that may be in bf16.
    pub(super) fn add_owned(&mut self, i: usize, grad: Owned) {
        let Some((input, id)) = self.input(i).zip(self.node.inputs.get(i)) else {
            return self.fail(&format!("it has no input {i}, to which it gives a gradient"));
        };
        let (len, shape) = (grad.len(), input.shape());
        if input.requires_grad && shape.iter().product::<usize>() != len {
            let text = format!("it gives input {i}, of shape {shape:?}, a gradient of {len} elements");
            return self.fail(&text);
        }
        self.add_to(*id, grad);
    }

    /// Adds to the gradient of a value below, which is of its length.
    fn add_to(&mut self, id: u32, grad: Owned) {
        if !self.below[id as usize].requires_grad {
            return grad.recycle(self.pool);
        }
        let slot = &mut self.slots[id as usize];
        *slot = Some(match slot.take() {
            Some(sum) => sum.plus(grad, self.pool),
            None => grad,
        });
    }

    /// Whether no other op gives input `i` a gradient. Only then may this one take the slope of the activation before it:
    /// of several gradients the sum is multiplied, whose last bit is another one than that of a sum of products.
    pub(super) fn is_alone(&self, i: usize) -> bool {
        let Some(id) = self.node.inputs.get(i) else { return false };
        let between = self.below.get(*id as usize + 1..).unwrap_or_default();
        self.slots[*id as usize].is_none()
            && !between.iter().any(|node| node.requires_grad && node.inputs.contains(id))
    }

    /// Adds to the gradient of what the activation that is input `i` was taken of: its slope is in it already.
    pub(super) fn add_before(&mut self, i: usize, grad: Vec<Elem>) {
        match self.input(i).and_then(|activation| activation.inputs.first().copied()) {
            Some(before) => self.add_to(before, Owned::Full(grad)),
            None => self.fail(&format!("it has no activation before it as input {i}")),
        }
    }

    /// Adds an array to the gradient of input `i`. An array of another shape than the input fails the step.
    pub(super) fn add_array(&mut self, i: usize, grad: ArrayD<Elem>) {
        match self.input(i) {
            Some(input) if input.shape() != grad.shape() => {
                let (wanted, found) = (input.shape(), grad.shape());
                let text = format!("it gives input {i}, of shape {wanted:?}, a gradient of shape {found:?}");
                self.fail(&text);
            }
            _ => self.add(i, grad.iter().copied().collect()),
        }
    }

    /// Fails the step: `what` is said of the op's backward. The first failure counts.
    pub fn fail(&mut self, what: &str) {
        let op = self.node.op;
        self.error.get_or_insert_with(|| Error::invalid(format!("the backward of `{op}` failed: {what}")));
    }
}
