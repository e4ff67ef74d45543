//! Tensors beside a model's own, kept where the model keeps those: momentum, an average.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};

use ndarray::{ArrayD, ArrayView, ArrayViewD, ArrayViewMutD, IxDyn};

use super::{Optimizer, ParamStep, Params};
use crate::base::{Elem, Error, Record, Result};

/// One tensor for each of some parameters, made and understood by the model that it belongs to; empty at first.
#[derive(Default)]
pub struct OwnSet(Option<Box<dyn Any + Send>>);

impl std::fmt::Debug for OwnSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnSet").field("is_empty", &self.is_empty()).finish()
    }
}

impl OwnSet {
    /// A set of host tensors, as a checkpoint gives them back. A device takes them over at the first use.
    pub fn of(tensors: impl IntoIterator<Item = (String, ArrayD<Elem>)>) -> Self {
        Self(Some(Box::new(HostSet { tensors: tensors.into_iter().collect(), next: 0 })))
    }

    /// Whether nothing has been put into it.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What a model put into it, if it is of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }

    /// What a model put into it. An empty set, and one that came out of a checkpoint, is first made over by
    /// `take_over`.
    ///
    /// # Errors
    /// Those of `take_over`; when the set belongs to another kind of model.
    pub fn get_mut<T: Any + Send>(&mut self, take_over: impl FnOnce(HostSet) -> Result<T>) -> Result<&mut T> {
        if !self.0.as_ref().is_some_and(|set| set.is::<T>()) {
            let host = match self.0.take().map(|set| set.downcast::<HostSet>()) {
                None => HostSet::default(),
                Some(Ok(host)) => *host,
                Some(Err(other)) => {
                    self.0 = Some(other);
                    return Err(foreign());
                }
            };
            self.0 = Some(Box::new(take_over(host)?));
        }
        self.0.as_mut().and_then(|set| set.downcast_mut()).ok_or_else(foreign)
    }

    /// The tensors of a set on the host.
    ///
    /// # Errors
    /// When the set belongs to another kind of model.
    pub fn host(&mut self) -> Result<&mut HostSet> {
        self.get_mut(Ok)
    }

    /// Calls `f` with every tensor of a set on the host.
    ///
    /// # Errors
    /// When the set belongs to another kind of model.
    pub fn read_host(&self, f: &mut dyn FnMut(&str, ArrayViewD<'_, Elem>)) -> Result<()> {
        let Some(set) = &self.0 else { return Ok(()) };
        let host = set.downcast_ref::<HostSet>().ok_or_else(foreign)?;
        host.tensors.iter().for_each(|(name, tensor)| f(name, tensor.view()));
        Ok(())
    }
}

fn foreign() -> Error {
    Error::invalid("these tensors were made by another kind of model, and this one cannot use them")
}

/// A set of arrays, matched by name, never by position.
#[derive(Debug, Default)]
pub struct HostSet {
    tensors: Vec<(String, ArrayD<Elem>)>,
    /// Where the next name of a walk is looked for first.
    next: usize,
}

impl HostSet {
    /// A walk through the model begins. Its order is stable, so each name stands where the walk before left off.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// The tensor of this name. If it is not there, `make` gives it.
    pub fn entry(&mut self, name: &str, make: impl FnOnce() -> ArrayD<Elem>) -> &mut ArrayD<Elem> {
        let here = self.find(name).unwrap_or_else(|| {
            self.tensors.push((name.to_owned(), make()));
            self.tensors.len() - 1
        });
        self.settle(here)
    }

    /// The tensor of this name, if it is there.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut ArrayD<Elem>> {
        let here = self.find(name)?;
        Some(self.settle(here))
    }

    fn find(&self, name: &str) -> Option<usize> {
        let stands_here = self.tensors.get(self.next).is_some_and(|(n, _)| n == name);
        if stands_here { Some(self.next) } else { self.tensors.iter().position(|(n, _)| n == name) }
    }

    /// Moves a tensor to its place in the walk.
    fn settle(&mut self, found: usize) -> &mut ArrayD<Elem> {
        let place = self.next.min(found);
        self.tensors.swap(place, found);
        self.next = place + 1;
        &mut self.tensors[place].1
    }
}

impl IntoIterator for HostSet {
    type Item = (String, ArrayD<Elem>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

/// What an optimizer keeps of all parameters: its tensors by slot, and the steps of each parameter.
#[derive(Debug, Default)]
pub struct OptimState {
    steps: HashMap<String, u64>,
    /// The numbers of [`Optimizer::scalars`].
    scalars: HashMap<String, Vec<f64>>,
    slots: Vec<(String, OwnSet)>,
}

impl OptimState {
    /// The set of a slot, taken out; empty if there was none. It is to be [put](Self::put) back.
    pub fn take(&mut self, slot: &str) -> OwnSet {
        let own = self.slots.iter_mut().find(|(name, _)| name == slot);
        own.map(|(_, set)| std::mem::take(set)).unwrap_or_default()
    }

    /// Puts the set of a slot in its place.
    pub fn put(&mut self, slot: &str, set: OwnSet) {
        match self.slots.iter_mut().find(|(name, _)| name == slot) {
            Some((_, place)) => *place = set,
            None => self.slots.push((slot.to_owned(), set)),
        }
    }

    /// Brings to the host what a model has on its device, for an optimizer that the device does not have.
    ///
    /// # Errors
    /// What the device says.
    pub fn bring_to_host(&mut self, model: &dyn Params) -> Result<()> {
        for (_, set) in
            self.slots.iter_mut().filter(|(_, set)| !set.is_empty() && set.get::<HostSet>().is_none())
        {
            let mut tensors = Vec::new();
            model.read_own(set, &mut |name, tensor| {
                tensors.push((name.to_owned(), tensor.as_standard_layout().into_owned()))
            })?;
            *set = OwnSet::of(tensors);
        }
        Ok(())
    }

    /// Counts a step of this parameter, and gives the number of those before it; with new state that is 0.
    pub fn tick(&mut self, name: &str, is_new: bool) -> u64 {
        tick(&mut self.steps, name, is_new)
    }

    /// A walk of updates on the host begins.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.slots.iter_mut().try_for_each(|(_, set)| {
            set.host()?.rewind();
            Ok(())
        })
    }

    /// One parameter's step, on the host.
    pub(super) fn step(
        &mut self,
        name: &str,
        rule: &dyn Optimizer,
        mut value: ArrayViewMutD<'_, Elem>,
        grad: ArrayView<'_, Elem, IxDyn>,
    ) -> Result<()> {
        let wanted = rule.state();
        for slot in wanted {
            if self.slots.iter().all(|(name, _)| name != slot) {
                self.slots.push(((*slot).to_owned(), OwnSet::default()));
            }
        }
        let shape = value.raw_dim();
        let mut is_new = false;
        let mut state: Vec<(usize, &mut [Elem])> = Vec::with_capacity(wanted.len());
        for (slot, set) in &mut self.slots {
            let Some(place) = wanted.iter().position(|wanted| wanted == slot) else { continue };
            let tensor = set.host()?.entry(name, || {
                is_new = true;
                ArrayD::zeros(shape.clone())
            });
            let fits = tensor.raw_dim() == shape;
            let tensor = tensor.as_slice_mut().filter(|_| fits).ok_or_else(|| misfit(name, "state"))?;
            state.push((place, tensor));
        }
        state.sort_by_key(|(place, _)| *place);
        let state = state.into_iter().map(|(_, tensor)| tensor).collect();
        let mut none = Vec::new();
        let scalars = match rule.scalars() {
            0 => &mut none,
            count => {
                let own = self.scalars.entry(name.to_owned()).or_default();
                if own.len() != count || is_new {
                    is_new = true;
                    *own = vec![0.0; count];
                }
                own
            }
        };
        let steps = tick(&mut self.steps, name, is_new);
        if grad.raw_dim() != shape {
            return Err(misfit(name, "gradient"));
        }
        let grad = grad.as_standard_layout();
        let grad = grad.as_slice().ok_or_else(|| misfit(name, "gradient"))?;
        let shape = ndarray::Dimension::slice(&shape);
        if let Some(value) = value.as_slice_mut() {
            return rule.step(ParamStep { name, shape, value, grad, steps, scalars, state });
        }
        // A view that is not row-major: by way of a copy.
        let mut copy: Vec<Elem> = value.iter().copied().collect();
        rule.step(ParamStep { name, shape, value: &mut copy, grad, steps, scalars, state })?;
        value.iter_mut().zip(copy).for_each(|(v, new)| *v = new);
        Ok(())
    }

    /// The number of steps of each parameter.
    pub fn steps(&self) -> BTreeMap<String, u64> {
        self.steps.iter().map(|(name, steps)| (name.clone(), *steps)).collect()
    }

    /// The numbers of each parameter that has some.
    pub fn scalars(&self) -> BTreeMap<String, Vec<f64>> {
        self.scalars.iter().map(|(name, own)| (name.clone(), own.clone())).collect()
    }

    /// Adds all tensors to a record as `<slot>.<name>`.
    ///
    /// # Errors
    /// What the device says.
    pub fn save(&self, params: &dyn Params, record: &mut Record) -> Result<()> {
        self.slots.iter().try_for_each(|(slot, set)| {
            params.read_own(set, &mut |name, tensor| {
                record.tensors.insert(format!("{slot}.{name}"), tensor.to_owned());
            })
        })
    }

    /// The state of these steps, numbers and tensors, which are called `<slot>.<name>`.
    pub fn load(
        steps: BTreeMap<String, u64>,
        scalars: BTreeMap<String, Vec<f64>>,
        tensors: BTreeMap<String, ArrayD<Elem>>,
    ) -> Self {
        let mut slots: BTreeMap<String, Vec<(String, ArrayD<Elem>)>> = BTreeMap::new();
        for (key, tensor) in tensors {
            let (slot, name) = key.split_once('.').unwrap_or((&key, ""));
            slots.entry(slot.to_owned()).or_default().push((name.to_owned(), tensor));
        }
        let slots = slots.into_iter().map(|(slot, tensors)| (slot, OwnSet::of(tensors))).collect();
        Self { steps: steps.into_iter().collect(), scalars: scalars.into_iter().collect(), slots }
    }
}

fn tick(steps: &mut HashMap<String, u64>, name: &str, is_new: bool) -> u64 {
    if !steps.contains_key(name) {
        steps.insert(name.to_owned(), 0);
    }
    let Some(count) = steps.get_mut(name) else { return 0 };
    let before = if is_new { 0 } else { *count };
    *count = before + 1;
    before
}

pub(super) fn misfit(name: &str, what: &str) -> Error {
    Error::invalid(format!("`{name}` and its {what} have different shapes"))
}
