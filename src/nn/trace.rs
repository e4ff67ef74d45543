//! What each module gave in a forward pass, and what it cost.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use crate::base::Tensor;

use super::place::ModuleId;
use super::{Child, ModuleTree, Param, Tape, Var, named_modules, named_parameters};

/// What products cost: those of matrices, convolutions and attention. Other ops are as good as free beside them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiplications, each with the addition that follows it.
    pub multiply_adds: u64,
    /// Numbers that the products give.
    pub activations: u64,
}

impl Work {
    /// A product of this many results, each a sum of so many terms.
    pub fn sums(results: usize, terms: usize) -> Self {
        Self { multiply_adds: results as u64 * terms as u64, activations: results as u64 }
    }
}

impl std::ops::Add for Work {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            multiply_adds: self.multiply_adds + more.multiply_adds,
            activations: self.activations + more.activations,
        }
    }
}

/// What a module did in a forward pass.
#[derive(Debug, Clone)]
pub struct Traced {
    /// Its dotted path; empty at the root.
    pub path: String,
    /// Name of its type: `Conv2d`.
    pub kind: &'static str,
    /// What it gave, where that is known: of modules that are called by [`Forward::child`](super::Forward::child), and
    /// of layers with parameters.
    pub output: Option<Tensor>,
    /// Its parameters, with those of all below it.
    pub parameters: usize,
    /// What it cost, with all below it.
    pub work: Work,
}

/// The events of a forward pass.
#[derive(Default)]
pub(super) struct Trace {
    events: Vec<Event>,
    /// The calls that have not come back.
    open: Vec<usize>,
    /// The op whose work was told and whose node is still to come.
    told: Option<usize>,
}

/// A call of a module, or an op.
struct Event {
    /// The call in which it happened.
    within: Option<usize>,
    what: What,
    output: Option<Tensor>,
    work: Work,
}

enum What {
    /// Of a module, by the name that its caller has for it.
    Call(String, Option<ModuleId>),
    /// With a parameter at this address, if any.
    Op(Option<usize>),
}

impl Trace {
    fn begin(&mut self, what: What) -> usize {
        let within = self.open.last().copied();
        self.events.push(Event { within, what, output: None, work: Work::default() });
        self.events.len() - 1
    }
}

impl Tape {
    /// Adds to what the module that is being called costs: for an op that multiplies, before it makes its node.
    pub fn worked(&self, work: Work) {
        if let Some(trace) = self.trace.borrow_mut().as_mut() {
            let op = trace.begin(What::Op(None));
            trace.events[op].work = work;
            trace.told = Some(op);
        }
    }

    /// The same, for one product of several in an op: what the module costs whose weight this is.
    pub(super) fn worked_by(&self, weight: Var<'_>, work: Work) {
        if let Some(trace) = self.trace.borrow_mut().as_mut() {
            let arena = self.arena.borrow();
            let address = arena.leaves.iter().find(|leaf| leaf.id == weight.id()).map(|leaf| leaf.address);
            let op = trace.begin(What::Op(address));
            trace.events[op].work = work;
        }
    }

    /// Begins to note the calls of modules.
    pub(super) fn trace(&self) {
        *self.trace.borrow_mut() = Some(Trace::default());
    }

    /// Notes the node of an op, which uses the parameter at this address, if any.
    pub(super) fn made(&self, address: Option<usize>, value: &Tensor) {
        let Some(trace) = &mut *self.trace.borrow_mut() else { return };
        let told = trace.told.take();
        if address.is_some() {
            let at = told.unwrap_or_else(|| trace.begin(What::Op(None)));
            trace.events[at].what = What::Op(address);
            trace.events[at].output = Some(value.clone());
        }
    }

    /// Notes the call of a module by `call`, if calls are noted.
    pub(super) fn called<'t, M: ModuleTree, E>(
        &self,
        name: &dyn Display,
        module: &mut M,
        call: impl FnOnce(&mut M) -> Result<Var<'t>, E>,
    ) -> Result<Var<'t>, E> {
        let begun = self.trace.borrow_mut().as_mut().map(|trace| {
            let at = trace.begin(What::Call(name.to_string(), ModuleId::of(module)));
            trace.open.push(at);
            at
        });
        let y = call(module);
        if let (Some(at), Some(trace)) = (begun, self.trace.borrow_mut().as_mut()) {
            trace.open.pop();
            trace.events[at].output = y.as_ref().ok().map(|y| y.value());
        }
        y
    }

    /// What the modules of `root` did so far, in their order.
    pub(super) fn told(&self, root: &dyn ModuleTree) -> Vec<Traced> {
        let Some(trace) = self.trace.take() else { return Vec::new() };
        let found = trace.by_path(root);
        let params = named_parameters(root);
        let mut all = Vec::new();
        for (path, module) in named_modules(root) {
            let Some((output, work)) = found.get(&path) else { continue };
            let below = params.iter().filter(|(name, _)| is_within(name, &path));
            let parameters = below.map(|(_, param)| param.value.len()).sum();
            let kind = module.type_name();
            all.push(Traced { path, kind, output: output.clone(), parameters, work: *work });
        }
        all
    }
}

/// Whether a path is this one, or of something below.
fn is_within(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    above.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Trace {
    /// The output and the work of each module that had a part, and the work of those above it.
    fn by_path(&self, root: &dyn ModuleTree) -> HashMap<String, (Option<Tensor>, Work)> {
        let (mut owners, mut modules, mut known) = (HashMap::new(), HashMap::new(), HashSet::new());
        for (path, module) in named_modules(root) {
            module.visit_children(&mut |_, part| {
                if let Child::Param(param) = part {
                    owners.insert(Param::address(param), path.clone());
                }
            });
            known.insert(path.clone());
            if let Some(id) = ModuleId::of(module) {
                modules.entry(id).or_insert(path);
            }
        }
        let mut paths: Vec<String> = Vec::with_capacity(self.events.len());
        let mut found: HashMap<String, (Option<Tensor>, Work)> = HashMap::new();
        for event in &self.events {
            let above = event.within.map(|at| paths[at].as_str()).unwrap_or_default();
            // A module that takes memory is known by it, also where somebody above was called without a name.
            let path = match &event.what {
                What::Call(name, id) => id.and_then(|id| modules.get(&id).cloned()).unwrap_or_else(|| {
                    if above.is_empty() { name.clone() } else { format!("{above}.{name}") }
                }),
                What::Op(address) => {
                    let owner = address.and_then(|at| owners.get(&at)).map(String::as_str);
                    // A layer whose weight is that of another one does its own work.
                    let own = |owner: &&str| is_within(owner, above) || !known.contains(above);
                    owner.filter(own).unwrap_or(above).to_owned()
                }
            };
            let dots = path.match_indices('.').map(|(dot, _)| &path[..dot]);
            for above in dots.chain([""]).filter(|above| *above != path) {
                let entry = found.entry(above.to_owned()).or_default();
                entry.1 = entry.1 + event.work;
            }
            let (output, work) = found.entry(path.clone()).or_default();
            *work = *work + event.work;
            match event.what {
                What::Call(..) => *output = event.output.clone(),
                What::Op(Some(_)) if output.is_none() => *output = event.output.clone(),
                What::Op(_) => {}
            }
            paths.push(path);
        }
        found
    }
}
