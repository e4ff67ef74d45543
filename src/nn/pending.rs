//! Fewer walks over memory: a product that nobody has looked at yet takes in what follows it, in inference a batch norm,
//! a sum and an activation, in training an activation whose slope is known from what it gives.

use std::rc::Rc;

use crate::base::{Elem, Tensor};
use crate::kernels::{Act, LayerEpilogue, Precision, precision, with_precision};

use super::buffer_pool::{slice, tensor};
use super::held::{Held, Owned};
use super::tape::Arena;
use super::{Grads, Tape, Var};

/// Computes a product of this weight, with what follows it, into a buffer.
type Run = dyn Fn(&[Elem], LayerEpilogue<'_>, &mut [Elem]);

/// A convolution or linear map, until somebody asks for its value.
///
/// A batch norm by running statistics (one factor and one number a channel), a sum and an activation are applied while
/// the result is in the cache. Each makes a product of its own out of this one, so that whoever else looks at the
/// convolution itself still gets it. What follows what is known by the data alone, whatever modules it came from.
#[derive(Clone)]
pub(super) struct Pending {
    /// The shape of the result.
    shape: Vec<usize>,
    /// Which axis of the result the first axis of the weight makes.
    channel_axis: usize,
    weight: Tensor,
    scale: Option<Tensor>,
    bias: Option<Tensor>,
    residual: Option<Tensor>,
    act: Act,
    /// That of the call, whoever asks for the value.
    precision: Precision,
    /// Whether an activation has computed it for itself.
    taken: bool,
    run: Rc<Run>,
}

/// What a product gives in training.
pub(super) enum ProductValue {
    Held(Held),
    /// It is computed when somebody asks for it.
    Waits(Box<Pending>),
}

impl Pending {
    /// The product alone.
    pub fn new(
        shape: &[usize],
        channel_axis: usize,
        weight: Tensor,
        bias: Option<Tensor>,
        run: impl Fn(&[Elem], LayerEpilogue<'_>, &mut [Elem]) + 'static,
    ) -> Self {
        let shape = shape.to_vec();
        Self {
            shape,
            channel_axis,
            weight,
            scale: None,
            bias,
            residual: None,
            act: Act::Identity,
            precision: precision(),
            taken: false,
            run: Rc::new(run),
        }
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The same followed by `scale * y + shift` of each channel; `None` where a channel is not the second axis, or
    /// something follows already.
    pub fn scaled(&self, scale: &[f64], shift: &[f64]) -> Option<Self> {
        let alone = self.scale.is_none() && self.residual.is_none() && self.act == Act::Identity;
        if self.channel_axis != 1 || !alone {
            return None;
        }
        let old = |k: usize| self.bias.as_ref().map_or(0.0, |bias| f64::from(slice(bias)[k]));
        let channels = scale.iter().zip(shift).enumerate();
        let bias = channels.map(|(k, (scale, shift))| (old(k) * scale + shift) as Elem).collect();
        let scale = scale.iter().map(|scale| *scale as Elem).collect();
        let of = |values: Vec<Elem>| Some(tensor(&[values.len()], values));
        Some(Self { scale: of(scale), bias: of(bias), ..self.clone() })
    }

    /// The same with this added; `None` where it has another shape, or something follows already.
    pub fn plus(&self, residual: Tensor) -> Option<Self> {
        let fits = residual.shape() == self.shape && self.residual.is_none() && self.act == Act::Identity;
        fits.then(|| Self { residual: Some(residual), ..self.clone() })
    }

    /// The same with this activation; `None` where one follows already.
    pub fn then(&self, act: Act) -> Option<Self> {
        (self.act == Act::Identity).then(|| Self { act, ..self.clone() })
    }

    /// The same without an axis of size 1 behind the channels.
    pub fn squeezed(&self, axis: usize) -> Option<Self> {
        let mut shape = self.shape.clone();
        (axis > self.channel_axis && shape.get(axis) == Some(&1)).then(|| {
            shape.remove(axis);
            Self { shape, ..self.clone() }
        })
    }

    /// Writes the value.
    fn write(&self, y: &mut [Elem]) {
        let [scale, bias, residual] =
            [&self.scale, &self.bias, &self.residual].map(|t| t.as_ref().map(slice));
        let then = LayerEpilogue { scale, bias, residual, act: self.act };
        with_precision(self.precision, || (self.run)(slice(&self.weight), then, y));
    }
}

impl Tape {
    /// A tape that keeps nothing for a way back and computes batch norms, sums and activations with the convolution or
    /// linear map before them. Where a batch norm is among them, results differ by rounding.
    pub(super) fn fused(mut self, fuses: bool) -> Self {
        self.fuses = fuses;
        self
    }

    /// A product that waits, on a tape that fuses, for what follows it.
    pub(super) fn pending(&self, op: &'static str, product: Pending) -> Var<'_> {
        let var = self.leaf(op, Tensor::zeros(vec![0]), false);
        self.arena.borrow_mut().nodes[var.id as usize].pending = Some(Box::new(product));
        var
    }

    /// The op of a product with its way back, which must not need the value: where an activation takes in a product that
    /// waits, there is none.
    pub(super) fn product_node<'t>(
        &'t self,
        op: &'static str,
        value: ProductValue,
        inputs: &[Var<'t>],
        backward: impl FnOnce(Owned, &mut Grads<'_>) + 'static,
    ) -> Var<'t> {
        match value {
            ProductValue::Held(value) => self.held_node(op, value, inputs, backward),
            // Inputs of another tape: what fails has the shape that was promised.
            ProductValue::Waits(product) if !self.has_all(inputs) => {
                self.held_node(op, Held::Full(Tensor::zeros(product.shape())), inputs, backward)
            }
            ProductValue::Waits(product) => {
                let var = self.held_node(op, Held::Full(Tensor::zeros(vec![0])), inputs, backward);
                self.arena.borrow_mut().nodes[var.id as usize].pending = Some(product);
                var
            }
        }
    }

    /// Notes that a batch norm with its running mean at this address took in the product that waits here.
    pub(super) fn followed_by_norm(&self, product: u32, mean: usize) {
        self.arena.borrow_mut().norms.push((product, mean));
    }

    /// The batch norms that follow a product, by the addresses of their running means, each with the address of the
    /// product's weight; or with the reason why the product has to stay what it is.
    pub(super) fn norms_of_products(&self) -> Vec<(usize, Result<usize, &'static str>)> {
        let arena = self.arena.borrow();
        let weight = |product: u32, mean: usize| {
            if arena.norms.iter().filter(|(_, other)| *other == mean).count() > 1 {
                return Err("the network uses it more than once");
            }
            // What was looked at waits no longer.
            let waits = arena.nodes[product as usize].pending.as_ref();
            let alone = arena.absorbed.iter().filter(|id| **id == product).count() == 1;
            let Some(waiting) = waits.filter(|_| alone) else {
                return Err("the layer before it has another consumer");
            };
            let weight = waiting.weight.as_ptr() as usize;
            match arena.leaves.iter().filter(|leaf| leaf.address == weight).count() {
                1 => Ok(weight),
                _ => Err("the weights before it are used more than once, or computed"),
            }
        };
        arena.norms.iter().map(|(product, mean)| (*mean, weight(*product, *mean))).collect()
    }

    /// Computes what waits at this place.
    pub(super) fn settle(&self, id: u32) {
        let waiting = self.arena.borrow_mut().nodes[id as usize].pending.take();
        if let Some(product) = waiting {
            let value = self.compute(id, &product);
            self.arena.borrow_mut().nodes[id as usize].value = Held::Full(value);
        }
    }

    /// The value of a product that waits at this place, or of what was made of it.
    fn compute(&self, id: u32, product: &Pending) -> Tensor {
        let mut y = self.take(product.shape().iter().product());
        self.compute_into(id, product, &mut y);
        tensor(product.shape(), y)
    }

    /// The same where it is wanted. The time is that of the layer of the product.
    fn compute_into(&self, id: u32, product: &Pending, y: &mut [Elem]) {
        product.write(y);
        let Arena { nodes, trace, .. } = &mut *self.arena.borrow_mut();
        if let (Some(trace), Some(event)) = (trace, nodes[id as usize].event) {
            trace.took(event);
        }
    }
}

impl<'t> Var<'t> {
    /// What `change` makes of the product that waits here on a tape that fuses; `None` if none waits, or it does not take
    /// the change.
    pub(super) fn absorbed(
        self,
        op: &'static str,
        change: impl FnOnce(&Pending) -> Option<Pending>,
    ) -> Option<Self> {
        let product = self.tape.fuses.then(|| self.waiting()).flatten()?;
        let with = self.tape.pending(op, change(&product)?);
        self.tape.arena.borrow_mut().absorbed.push(self.id);
        Some(with)
    }

    /// What this activation gives of the product that waits here; `None` if none waits, or the way back needs what the
    /// product gives. Whoever asks for the product then has it computed again: so a second activation does not take it.
    pub(super) fn activated(self, act: Act) -> Option<Tensor> {
        let product = (!act.saves_input()).then(|| self.waiting()).flatten()?;
        if product.taken {
            return None;
        }
        if let Some(waits) = &mut self.tape.arena.borrow_mut().nodes[self.id as usize].pending {
            waits.taken = true;
        }
        Some(self.tape.compute(self.id, &product.then(act)?))
    }

    fn waiting(self) -> Option<Box<Pending>> {
        self.tape.arena.borrow().nodes[self.id as usize].pending.clone()
    }

    /// Computes the product that waits here to where it is wanted, a part of the value of another node; whether one
    /// waits. Who computes it so tells its place next, by [`lies_in`](Self::lies_in).
    pub(super) fn compute_to(self, part: &mut [Elem]) -> bool {
        let waiting = self.tape.arena.borrow_mut().nodes[self.id as usize].pending.take();
        waiting.inspect(|product| self.tape.compute_into(self.id, product, part)).is_some()
    }

    /// The value is this part of another one, whose memory it shares.
    pub(super) fn lies_in(self, part: Tensor) {
        self.tape.arena.borrow_mut().nodes[self.id as usize].value = Held::Full(part);
    }
}
