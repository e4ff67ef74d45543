//! A model's tensors on its device: what is done to all of them, and what moves.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result as CandleResult, Tensor};
use shanty::base::{Elem, Error, Result};
use shanty::ndarray::{ArrayD, ArrayViewD, ArrayViewMutD};
use shanty::params::{HostSet, Info, Op, OptimState, OwnSet, Params, RuleOf, Set, Want, update_by_transfer};

use crate::device::{Transfers, told, view};
use crate::model::CandleModel;
use crate::update;
use crate::weights::Weight;

/// Tensors beside a model's own: momentum, an average. None shares its memory with a weight.
#[derive(Debug, Default)]
pub(crate) struct DeviceSet(pub BTreeMap<String, Tensor>);

impl DeviceSet {
    /// A set that came from a checkpoint, moved to the device.
    pub fn taken_over(host: HostSet, device: &Device, transfers: &Transfers) -> Result<Self> {
        let up = |(name, values): (String, ArrayD<Elem>)| {
            transfers.weight();
            Ok((name, told(uploaded(values.view(), device))?))
        };
        host.into_iter().map(up).collect::<Result<_>>().map(Self)
    }
}

fn uploaded(values: ArrayViewD<'_, Elem>, device: &Device) -> CandleResult<Tensor> {
    Tensor::from_vec(values.iter().copied().collect(), values.shape(), device)
}

fn with_info<R>(at: usize, weight: &Weight, f: impl FnOnce(&Info<'_>) -> R) -> R {
    let Weight { name, layer, role, frozen, value, .. } = weight;
    // Each is a variable of its own: the number of its buffer is its place.
    f(&Info { name, layer, role: *role, shape: value.dims(), frozen: *frozen, storage: (at + 1, at + 2) })
}

impl CandleModel {
    /// The wanted tensors of a set.
    fn wanted(&self, set: Set, want: Want<'_>) -> impl Iterator<Item = (usize, &Weight, &Tensor)> {
        self.weights.iter().enumerate().filter_map(move |(at, weight)| {
            let tensor =
                if set == Set::Values { Some(weight.value.as_tensor()) } else { weight.grad.as_ref() };
            let tensor = tensor.filter(|_| with_info(at, weight, |info| want(info)))?;
            Some((at, weight, tensor))
        })
    }

    /// Replaces the wanted gradients.
    fn map_grads(&mut self, want: Want<'_>, f: impl Fn(&Tensor) -> CandleResult<Tensor>) -> Result<()> {
        let new = self.wanted(Set::Grads, want).map(|(at, _, grad)| Ok((at, told(f(grad))?)));
        for (at, grad) in new.collect::<Result<Vec<_>>>()? {
            self.weights[at].grad = Some(grad);
        }
        Ok(())
    }

    /// Replaces what a set has for the wanted values.
    fn map_own(
        &self,
        own: &mut OwnSet,
        want: Want<'_>,
        f: impl Fn(Option<&Tensor>, &Tensor) -> CandleResult<Tensor>,
    ) -> Result<()> {
        let own = self.own(own)?;
        for (_, weight, value) in self.wanted(Set::Values, want) {
            let before = own.0.get(&weight.name);
            if before.is_some_and(|before| before.dims() != value.dims()) {
                return Err(Error::invalid(format!("`{}` and its copy have different shapes", weight.name)));
            }
            let after = told(f(before, &value.detach()))?;
            own.0.insert(weight.name.clone(), after);
        }
        Ok(())
    }
}

impl Params for CandleModel {
    fn infos(&self, f: &mut dyn FnMut(Info<'_>)) {
        self.weights.iter().enumerate().for_each(|(at, weight)| with_info(at, weight, |info| f(*info)));
    }

    fn read(
        &self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewD<'_, Elem>),
    ) -> Result<()> {
        self.settled()?;
        self.wanted(set, want).try_for_each(|(at, weight, tensor)| {
            self.transfers.weight();
            view(tensor, |values| with_info(at, weight, |info| f(info, values)))
        })
    }

    fn edit(
        &mut self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewMutD<'_, Elem>),
    ) -> Result<()> {
        self.settled()?;
        let wanted: Vec<_> = self.wanted(set, want).map(|(at, _, tensor)| (at, tensor.clone())).collect();
        for (at, tensor) in wanted {
            let mut values = view(&tensor, |values| values.to_owned())?;
            with_info(at, &self.weights[at], |info| f(info, values.view_mut()));
            let after = told(uploaded(values.view(), &self.device))?;
            match set {
                Set::Values => told(self.weights[at].value.set(&after))?,
                Set::Grads => self.weights[at].grad = Some(after),
            }
            self.transfers.weight();
            self.transfers.weight();
        }
        Ok(())
    }

    fn read_own(&self, own: &OwnSet, f: &mut dyn FnMut(&str, ArrayViewD<'_, Elem>)) -> Result<()> {
        self.settled()?;
        let Some(set) = own.get::<DeviceSet>() else {
            // Still as it came out of a checkpoint, or made on the host by an optimizer that the device does not have.
            return own.read_host(f);
        };
        set.0.iter().try_for_each(|(name, tensor)| {
            self.transfers.weight();
            view(tensor, |values| f(name, values))
        })
    }

    fn apply(&mut self, op: Op<'_>, want: Want<'_>) -> Result<()> {
        self.settled()?;
        match op {
            Op::ScaleGrads(factor) => self.map_grads(want, |grad| grad.affine(factor, 0.0)),
            Op::ClampGrads(limit) => self.map_grads(want, |grad| {
                // On a GPU the minimum of a number and a NaN is the number: a NaN stays, so that it is found.
                grad.ne(grad)?.where_cond(grad, &grad.clamp(-limit as Elem, limit as Elem)?)
            }),
            Op::CopyTo(own) => self.map_own(own, want, |_, value| value.copy()),
            Op::LerpTo(own, weight) => self.map_own(own, want, |before, value| match before {
                Some(before) => before + (value - before)?.affine(weight, 0.0)?,
                None => value.copy(),
            }),
            Op::Swap(own) => {
                let own = self.own(own)?;
                for (_, weight, value) in self.wanted(Set::Values, want) {
                    let Some(other) = own.0.get_mut(&weight.name) else { continue };
                    if other.dims() != value.dims() {
                        let name = &weight.name;
                        return Err(Error::invalid(format!(
                            "`{name}` and its average have different shapes"
                        )));
                    }
                    let before = told(value.detach().copy())?;
                    told(weight.value.set(other))?;
                    *other = before;
                }
                Ok(())
            }
        }
    }

    fn norm(&self, set: Set, order: f64, want: Want<'_>) -> Result<f64> {
        self.settled()?;
        let all: Vec<_> = self.wanted(set, want).map(|(_, _, tensor)| tensor.detach()).collect();
        if all.is_empty() {
            return Ok(0.0);
        }
        self.transfers.number();
        told(norm(&all, order, &self.device))
    }

    fn clear_grads(&mut self) -> Result<()> {
        self.weights.iter_mut().for_each(|weight| weight.grad = None);
        Ok(())
    }

    fn put_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) -> Result<()> {
        self.settled()?;
        self.clear_grads()?;
        for weight in self.weights.iter_mut().filter(|weight| weight.is_trained()) {
            let Some(sum) = sums.get(&weight.name) else { continue };
            if sum.shape() != weight.value.dims() {
                return Err(Error::invalid(format!(
                    "`{}` and its gradient have different shapes",
                    weight.name
                )));
            }
            weight.grad = Some(told(uploaded(sum.view(), &self.device))?);
            self.transfers.weight();
        }
        Ok(())
    }

    fn update(&mut self, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<()> {
        self.settled()?;
        if update::fused(self, rule_of, state)? {
            return Ok(());
        }
        state.bring_to_host(self)?;
        update_by_transfer(self, rule_of, state)
    }
}

/// The norm of all tensors together, in f64 where the device has it. One small tensor comes down, of orders other than 2 and
/// infinity two: powers are those of the numbers in units of the largest, whose own might be beyond what a number can be.
fn norm(all: &[Tensor], order: f64, device: &Device) -> CandleResult<f64> {
    let unit = if order.is_infinite() || order == 2.0 { 1.0 } else { norm(all, f64::INFINITY, device)? };
    if unit == 0.0 || !unit.is_finite() {
        return Ok(unit);
    }
    let wide = if device.is_metal() { DType::F32 } else { DType::F64 };
    let mut parts = Vec::with_capacity(all.len());
    for tensor in all.iter().filter(|tensor| tensor.elem_count() > 0) {
        let flat = tensor.flatten_all()?;
        parts.push(if order.is_infinite() {
            // A finite number times zero is a zero; the maximum alone would drop a NaN.
            let bad = flat.affine(0.0, 0.0)?.sum(0)?;
            (flat.abs()?.max(0)? + bad)?.to_dtype(wide)?
        } else if order == 2.0 {
            flat.to_dtype(wide)?.sqr()?.sum(0)?
        } else {
            flat.to_dtype(wide)?.abs()?.affine(1.0 / unit, 0.0)?.powf(order)?.sum(0)?
        });
    }
    if parts.is_empty() {
        return Ok(0.0);
    }
    let parts = Tensor::stack(&parts, 0)?.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec1::<f64>()?;
    Ok(if order.is_infinite() {
        parts.into_iter().fold(0.0, |max, part| if part > max || part.is_nan() { part } else { max })
    } else {
        unit * parts.into_iter().sum::<f64>().powf(1.0 / order)
    })
}
