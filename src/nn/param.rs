//! What a layer keeps: trained tensors, state that is not trained, and counts.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use rand::RngExt as _;

use crate::base::memory::{Grant, ask};
use crate::base::{Elem, Tensor, keyed};

use super::buffer_pool::row_major;
use super::init::{FanInUniform, Fans, Initializer};
use super::tie::{Lent, Tie};

/// A trained tensor and its gradient.
pub struct Param {
    /// The value. The memory must not be shared with another parameter: the tape tells parameters apart by it.
    pub value: Tensor,
    /// The sum of the gradients since they were last cleared; `None` until a loss reaches the parameter.
    pub grad: Option<ArrayD<Elem>>,
    /// How it begins: drawn from the run's seed when a run initialises its model.
    init: Option<Arc<dyn Initializer>>,
    /// The memory of the last gradient, for the next one.
    spare: Option<ArrayD<Elem>>,
    /// Whether it is one with other parameters.
    pub(super) tie: Option<Tie>,
    /// Whether gradients are wanted; a frozen parameter has none.
    pub trainable: bool,
}

impl Param {
    /// A trainable parameter. Shared memory is copied.
    pub fn new(value: impl Into<Tensor>) -> Self {
        let value = row_major(value.into()).into_owned().into_shared();
        Self { value, grad: None, init: None, spare: None, tie: None, trainable: true }
    }

    /// A trainable parameter that begins by a rule, as the weights of our layers do: a run draws it from its seed and
    /// the parameter's name. So that a new layer can be used at once, it is drawn here too, from a stream that depends
    /// on nothing but the shape.
    ///
    /// ```
    /// use shanty::nn::Param;
    /// use shanty::nn::init::Normal;
    ///
    /// let weight = Param::init(&[10, 3], Normal { mean: 0.0, std: 0.02 });
    /// assert!(weight.value.iter().all(|w| w.abs() < 0.2));
    /// ```
    pub fn init(shape: &[usize], rule: impl Initializer) -> Self {
        let mut param = Self::full(shape, 0.0);
        if ask(&[], 0) == Grant::Full && !param.value.is_empty() {
            let mut rng = keyed(0, "new layer", shape.iter().product::<usize>() as u64, 0);
            // What does not fit the shape is told when a run initialises its model.
            let _ = rule.fill(&mut param.value.view_mut(), Fans::of(shape, 1, false), &mut rng);
        }
        Self { init: Some(Arc::new(rule)), ..param }
    }

    /// PyTorch's start of linear layers and convolutions, for weight and bias: uniform within ±1/√`fan_in`.
    pub fn fan_in(shape: &[usize], fan_in: usize) -> Self {
        let mut param = Self::full(shape, 0.0);
        if ask(&[], 0) == Grant::Full && !param.value.is_empty() {
            let bound = 1.0 / (fan_in.max(1) as Elem).sqrt();
            let mut rng = keyed(0, "new layer", shape.iter().product::<usize>() as u64, fan_in as u64);
            param.value.mapv_inplace(|_| (rng.random::<Elem>() * 2.0 - 1.0) * bound);
        }
        Self { init: Some(Arc::new(FanInUniform { fan_in })), ..param }
    }

    /// The rule by which it begins.
    pub(super) fn rule(&self) -> Option<&Arc<dyn Initializer>> {
        self.init.as_ref()
    }

    /// A trainable parameter of this shape, all elements equal.
    pub fn full(shape: &[usize], value: Elem) -> Self {
        Self::new(filled(shape, value))
    }

    /// Whether it is another one under a second name, which lists of parameters leave out.
    pub(super) fn is_tied(&self) -> bool {
        matches!(self.tie, Some(Tie::Borrows(_)))
    }

    /// Its value in a step, and whether that is trained: its own, or that of the parameter that it is tied to.
    pub(super) fn in_step(&self) -> Lent {
        let lent = if let Some(Tie::Borrows(slot)) = &self.tie { slot.get() } else { None };
        lent.unwrap_or_else(|| Lent { value: self.value.clone(), trainable: self.trainable })
    }

    /// Where its value lies in memory, which tells it from all other parameters while it lives.
    pub(super) fn address(&self) -> usize {
        self.value.as_ptr() as usize
    }

    /// Forgets the gradient and keeps its memory.
    pub fn clear_grad(&mut self) {
        if self.grad.is_some() {
            self.spare = self.grad.take();
        }
    }

    /// The memory of a gradient that was cleared.
    pub(super) fn take_spare(&mut self) -> Option<Vec<Elem>> {
        self.spare.take().map(|spare| spare.into_raw_vec_and_offset().0)
    }
}

impl std::fmt::Debug for Param {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { value, grad, trainable, .. } = self;
        f.debug_struct("Param")
            .field("value", value)
            .field("grad", grad)
            .field("trainable", trainable)
            .finish()
    }
}

/// A clone is another parameter: it has memory of its own, and no gradient.
impl Clone for Param {
    fn clone(&self) -> Self {
        Self { trainable: self.trainable, init: self.init.clone(), ..Self::new(self.value.clone()) }
    }
}

/// A tensor that is saved with the weights but not trained, as a running mean.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// The value.
    pub value: Tensor,
    /// Whether its layer leaves it as it is: a batch norm with fixed statistics normalises by them, in training too.
    pub fixed: bool,
}

impl Buffer {
    /// A buffer of this shape, all elements equal.
    pub fn full(shape: &[usize], value: Elem) -> Self {
        Self { value: filled(shape, value), fixed: false }
    }
}

/// A tensor of equal elements; an empty one where the memory account of the build refuses it.
fn filled(shape: &[usize], value: Elem) -> Tensor {
    match ask(shape, size_of::<Elem>()) {
        Grant::Refused => Tensor::zeros(vec![0; shape.len()]),
        Grant::Zeros => Tensor::zeros(IxDyn(shape)),
        Grant::Full => Tensor::from_elem(IxDyn(shape), value),
    }
}

/// A whole number that is saved with the weights (`num_batches_tracked`), kept in a tensor of shape `[]`.
///
/// Exact up to 2²⁴ (16.7 million) in `f32`, where it stays.
#[derive(Debug, Clone)]
pub struct Counter {
    /// The value.
    pub value: Tensor,
}

impl Counter {
    /// One more.
    pub fn tick(&mut self) {
        self.value += 1.0;
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.value.first().map_or(0, |&n| n as u64)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self { value: Tensor::zeros(IxDyn(&[])) }
    }
}
