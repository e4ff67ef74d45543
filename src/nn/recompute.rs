//! Activations that are computed again on the way back instead of being kept (Chen et al. 2016,
//! <https://arxiv.org/abs/1604.06174>).

use std::any::Any;
use std::sync::Arc;

use crate::base::{Error, Result, Rng, Tensor};
use crate::comm::Comm;

use super::held::{Held, Owned};
use super::module::Wrapped;
use super::replace::{wrap, wrapped};
use super::tape::Arena;
use super::{ChildMut, Forward, Grads, Module, ModuleTree, Tape, Var, named_children, named_modules};

/// Keeps of the module at a dotted path nothing but its inputs until the way back, which computes it once more: less
/// memory for more time, and the same bits.
///
/// # Errors
/// As those of [`replace`](super::replace()).
pub fn checkpoint_activations(root: &mut dyn ModuleTree, path: &str) -> Result<()> {
    wrapped(root, path)?.recompute = true;
    Ok(())
}

/// [`checkpoint_activations`] of each block below a module: an item of a list that has modules of its own. How many
/// there are.
pub(super) fn checkpoint_blocks(root: &mut dyn ModuleTree) -> usize {
    let mut found = 0;
    root.visit_children_mut(&mut |name, part| {
        let ChildMut::Module(child) = part else { return };
        let is_block = name.bytes().all(|b| b.is_ascii_digit()) && !named_children(child).is_empty();
        if !is_block || !(&*child as &dyn Any).is::<Box<dyn Module>>() {
            found += checkpoint_blocks(child);
        } else if let Some(wrapper) = (child as &mut dyn Any).downcast_mut().and_then(wrap) {
            wrapper.recompute = true;
            found += 1;
        }
    });
    found
}

/// What it takes to compute a module once more.
struct Segment {
    /// Where the wrapper of the module lies in memory. The module of the step stays where it is during the step.
    module: usize,
    inputs: Vec<Held>,
    /// The addresses of the trained parameters that it uses.
    params: Vec<usize>,
    rng: Rng,
    lengths: Option<Arc<[usize]>>,
    ranks: Option<Arc<dyn Comm>>,
}

/// The output of a module; what leads to it is forgotten.
pub(super) fn forward<'t>(wrapper: &mut Wrapped, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
    let place = address(wrapper);
    let module = wrapper.inner_mut();
    let Some(tape) = xs.first().map(|x| x.tape()).filter(|tape| tape.keeps()) else {
        return module.forward_all(xs, cx);
    };
    let (rng, lengths) = (Rng::deserialize_state(&cx.rng.serialize_state()), cx.lengths.clone());
    let inputs: Vec<Held> = xs.iter().map(|x| x.held()).collect();
    let wanted: Vec<bool> = xs.iter().map(|x| x.requires_grad()).collect();
    // As on the way back, with all that is kept there: another way might round in another way.
    let inner = Tape::within(tape.with_pool(std::mem::take), true);
    inner.pass_trace(&mut tape.arena.borrow_mut().trace);
    let y = {
        let vars = inner.given(&inputs, &wanted);
        module.forward_all(&vars, cx).and_then(Var::checked).map(Var::held)
    };
    let trained = inner.trained();
    inner.pass_trace(&mut tape.arena.borrow_mut().trace);
    let pool = inner.discard();
    tape.with_pool(|own| *own = pool);
    let y = y?;
    let mut parts = xs.to_vec();
    let (params, values): (Vec<usize>, Vec<Tensor>) = trained.into_iter().unzip();
    parts.extend(params.iter().zip(values).map(|(address, value)| tape.param_at(*address, value)));
    let ranks = cx.ranks.clone();
    let segment = Segment { module: place, inputs, params, rng, lengths, ranks };
    Ok(tape.held_node("checkpoint", y, &parts, move |dy, grads| {
        if let Err(error) = segment.backward(dy, grads) {
            grads.fail(&error.to_string());
        }
    }))
}

impl Segment {
    fn backward(self, dy: Owned, grads: &mut Grads<'_>) -> Result<()> {
        let Self { module, inputs, params, mut rng, lengths, ranks } = self;
        let wanted: Vec<bool> = (0..inputs.len()).map(|i| grads.wants(i)).collect();
        let tape = Tape::within(std::mem::take(grads.pool), true);
        let op = grads.event();
        if let Some(trace) = grads.trace.as_mut() {
            trace.go_on_within(op);
        }
        tape.pass_trace(grads.trace);
        let path = path_of(grads.module, module)
            .ok_or_else(|| Error::invalid("a module was moved within its step"))?;
        let module = wrapped(grads.module, &path)?.inner_mut();
        // Running statistics have moved once, and counts have ticked.
        let state = buffers(module);
        let mut cx = Forward { lengths, ranks, ..Forward::new(true, &mut rng) };
        let vars = tape.given(&inputs, &wanted);
        let places: Vec<u32> = vars.iter().map(|x| x.id()).collect();
        let y = module.forward_all(&vars, &mut cx).and_then(Var::checked).map(Var::id);
        put_back(module, &mut state.into_iter());
        let mut arena = tape.into_arena();
        let mut slots = arena.run_backward(y?, dy, grads.module)?;
        let Arena { pool, leaves, trace, .. } = arena;
        (*grads.pool, *grads.trace) = (pool, trace);
        let mut found = |id: u32| slots[id as usize].take();
        for (i, id) in places.into_iter().enumerate() {
            if let Some(grad) = found(id) {
                grads.add_owned(i, grad);
            }
        }
        for leaf in leaves {
            if let (Some(grad), Some(at)) = (found(leaf.id), params.iter().position(|at| *at == leaf.address))
            {
                grads.add_owned(inputs.len() + at, grad);
            }
        }
        slots.into_iter().flatten().for_each(|unclaimed| unclaimed.recycle(grads.pool));
        Ok(())
    }
}

fn address(wrapper: &Wrapped) -> usize {
    std::ptr::from_ref(wrapper) as usize
}

/// The path of the module whose wrapper lies at this address.
fn path_of(root: &dyn ModuleTree, place: usize) -> Option<String> {
    let is_it = |module: &dyn ModuleTree| {
        let boxed = (module as &dyn Any).downcast_ref::<Box<dyn Module>>();
        let wrapper = boxed.and_then(|inner| (&**inner as &dyn Any).downcast_ref::<Wrapped>());
        wrapper.is_some_and(|wrapper| address(wrapper) == place)
    };
    named_modules(root).into_iter().find(|(_, module)| is_it(*module)).map(|(path, _)| path)
}

/// The values of all buffers and counts below a module.
fn buffers(module: &mut dyn ModuleTree) -> Vec<Tensor> {
    let mut all = Vec::new();
    each_buffer(module, &mut |value| all.push(value.clone()));
    all
}

fn put_back(module: &mut dyn ModuleTree, state: &mut dyn Iterator<Item = Tensor>) {
    each_buffer(module, &mut |value| {
        if let Some(old) = state.next() {
            *value = old;
        }
    });
}

fn each_buffer(module: &mut dyn ModuleTree, f: &mut dyn FnMut(&mut Tensor)) {
    module.visit_children_mut(&mut |_, part| match part {
        ChildMut::Buffer(buffer) => f(&mut buffer.value),
        ChildMut::Counter(counter) => f(&mut counter.value),
        ChildMut::Module(child) => each_buffer(child, f),
        ChildMut::Param(_) => {}
    });
}
