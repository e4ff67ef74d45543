//! What each module gave in a forward pass, and what it cost.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use crate::base::Tensor;

use super::place::ModuleId;
use super::tape::{Arena, Leaf, Node};
use super::timing::{Cost, Times};
use super::{BufferPool, Child, ModuleTree, Param, Tape, Var, named_modules, named_parameters};

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
    /// What each took, where that is asked for instead of what each gave.
    pub(super) times: Option<Times>,
}

/// A call of a module, or an op.
pub(super) struct Event {
    /// The call in which it happened.
    within: Option<usize>,
    what: What,
    output: Option<Tensor>,
    work: Work,
    /// What it took, forward and on the way back.
    pub(super) costs: [Cost; 2],
}

enum What {
    /// Of a module, by the name that its caller has for it.
    Call(String, Option<ModuleId>),
    /// With parameters, of which these are the addresses of the first and the last; if any.
    Op(Option<[usize; 2]>),
}

impl Trace {
    /// One that notes times.
    pub fn of(times: Times) -> Self {
        Self { times: Some(times), ..Self::default() }
    }

    fn begin(&mut self, what: What) -> usize {
        let within = self.open.last().copied();
        self.events.push(Event {
            within,
            what,
            output: None,
            work: Work::default(),
            costs: Default::default(),
        });
        self.events.len() - 1
    }

    /// The call of a module; its event.
    pub fn enter(&mut self, name: &dyn Display, id: Option<ModuleId>) -> usize {
        if let Some(within) = self.open.last().copied() {
            self.took(within);
        }
        let at = self.begin(What::Call(name.to_string(), id));
        self.open.push(at);
        self.entered();
        at
    }

    /// Goes on within the call in which an op was made.
    pub fn go_on_within(&mut self, op: Option<usize>) {
        self.open = op.and_then(|op| self.events[op].within).into_iter().collect();
    }

    /// The op that is to make the next node multiplied this.
    fn worked(&mut self, work: Work) {
        let op = self.told.take().unwrap_or_else(|| self.begin(What::Op(None)));
        self.told = Some(op);
        self.events[op].work = self.events[op].work + work;
        self.multiplied(op, work);
    }

    /// Notes the node of an op with the parameters that it uses; its event. What leads to a parameter or an input is
    /// part of the op that takes it.
    pub fn made(&mut self, node: &Node, leaves: &[Leaf]) -> Option<usize> {
        let told = self.told.take();
        let of = |id: &u32| leaves.binary_search_by_key(id, |leaf| leaf.id).ok().map(|at| leaves[at]);
        let used = || node.inputs.iter().filter_map(of);
        let timed = self.times.is_some();
        let first = used().min_by_key(|leaf| leaf.id);
        // A work of several layers that was told of each has its output here.
        let last = if timed { used().max_by_key(|leaf| leaf.id) } else { first };
        let ends = first.zip(last).map(|(first, last)| [first.address, last.address]);
        let noted = if timed { !node.inputs.is_empty() } else { ends.is_some() };
        let at = told.or_else(|| noted.then(|| self.begin(What::Op(None))))?;
        self.events[at].what = What::Op(ends);
        match timed {
            true => self.took(at),
            false => self.events[at].output = ends.map(|_| node.value.to_tensor(&mut BufferPool::default())),
        }
        Some(at)
    }

    pub(super) fn event(&mut self, at: usize) -> &mut Event {
        &mut self.events[at]
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }
}

impl Tape {
    /// Adds to what the module that is being called costs: for an op that multiplies, before it makes its node.
    pub fn worked(&self, work: Work) {
        if let Some(trace) = &mut self.arena.borrow_mut().trace {
            trace.worked(work);
        }
    }

    /// The same, for one product of several in an op: what the module costs whose weight this is. Where times are
    /// noted it counts with the op, whose products take one time.
    pub(super) fn worked_by(&self, weight: Var<'_>, work: Work) {
        let Arena { leaves, trace, .. } = &mut *self.arena.borrow_mut();
        match trace {
            Some(trace) if trace.times.is_none() => {
                let address = leaves.iter().find(|leaf| leaf.id == weight.id()).map(|leaf| leaf.address);
                let op = trace.begin(What::Op(address.map(|address| [address; 2])));
                trace.events[op].work = work;
            }
            Some(trace) => trace.worked(work),
            None => {}
        }
    }

    /// Begins to note the calls of modules.
    pub(super) fn trace(&self) {
        self.arena.borrow_mut().trace = Some(Trace::default());
    }

    /// Notes the call of a module by `call`, if calls are noted.
    pub(super) fn called<'t, M: ModuleTree, E>(
        &self,
        name: &dyn Display,
        module: &mut M,
        call: impl FnOnce(&mut M) -> Result<Var<'t>, E>,
    ) -> Result<Var<'t>, E> {
        let begun = self.begun(name, ModuleId::of(module));
        let y = call(module);
        if let Some(begun) = begun {
            self.ended(begun, y.as_ref().ok());
        }
        y
    }

    /// The place of the event, and whether passes are timed.
    fn begun(&self, name: &dyn Display, module: Option<ModuleId>) -> Option<(usize, bool)> {
        self.arena.borrow_mut().trace.as_mut().map(|trace| (trace.enter(name, module), trace.times.is_some()))
    }

    fn ended(&self, (at, timed): (usize, bool), y: Option<&Var<'_>>) {
        let output = y.filter(|_| !timed).map(|y| y.value());
        if let Some(trace) = &mut self.arena.borrow_mut().trace {
            trace.open.pop();
            trace.events[at].output = output;
            trace.returned(at);
        }
    }

    /// What the modules of `root` did so far, in their order.
    pub(super) fn told(&self, root: &dyn ModuleTree) -> Vec<Traced> {
        let Some(trace) = self.arena.borrow_mut().trace.take() else { return Vec::new() };
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
        let mut found: HashMap<String, (Option<Tensor>, Work)> = HashMap::new();
        for (event, path) in self.events.iter().zip(self.paths(root)) {
            let dots = path.match_indices('.').map(|(dot, _)| &path[..dot]);
            for above in dots.chain([""]).filter(|above| *above != path) {
                let entry = found.entry(above.to_owned()).or_default();
                entry.1 = entry.1 + event.work;
            }
            let (output, work) = found.entry(path).or_default();
            *work = *work + event.work;
            match event.what {
                What::Call(..) => *output = event.output.clone(),
                What::Op(Some(_)) if output.is_none() => *output = event.output.clone(),
                What::Op(_) => {}
            }
        }
        found
    }

    /// The path of the module of each event.
    pub(super) fn paths(&self, root: &dyn ModuleTree) -> Vec<String> {
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
        for event in &self.events {
            let above = event.within.map(|at| paths[at].as_str()).unwrap_or_default();
            // A module that takes memory is known by it, also where somebody above was called without a name.
            let path = match &event.what {
                What::Call(name, id) => id.and_then(|id| modules.get(&id).cloned()).unwrap_or_else(|| {
                    if above.is_empty() { name.clone() } else { format!("{above}.{name}") }
                }),
                What::Op(ends) => {
                    let [owner, last] = ends.map_or([None; 2], |ends| ends.map(|at| owners.get(&at)));
                    // A layer whose weight is that of another one does its own work, and an op with the weights of
                    // several layers is that of who calls it.
                    let own = |owner: &&String| {
                        last == Some(*owner) && (is_within(owner, above) || !known.contains(above))
                    };
                    owner.filter(own).map_or(above, String::as_str).to_owned()
                }
            };
            paths.push(path);
        }
        paths
    }
}
