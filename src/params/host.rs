//! Models whose tensors are arrays in host memory.

use std::collections::BTreeMap;

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Dimension};

use super::own::misfit;
use super::{FlatGrads, Info, Op, OptimState, OwnSet, Params, Role, RuleOf, Set, Want, transfer};
use crate::base::{Elem, Result};
use crate::kernels;

/// A tensor of a model on the host, to read.
pub struct ParamRef<'a> {
    /// Dotted path as in PyTorch: `backbone.conv1.weight`.
    pub name: &'a str,
    /// Type name of the layer that owns it: `Conv2d`.
    pub layer: &'a str,
    /// What it is.
    pub role: Role,
    /// Whether it is held still.
    pub frozen: bool,
    /// Its value.
    pub value: ArrayViewD<'a, Elem>,
    /// Its gradient, if one was accumulated.
    pub grad: Option<ArrayViewD<'a, Elem>>,
}

/// A tensor of a model on the host, to change.
pub struct ParamMut<'a> {
    /// Dotted path as in PyTorch: `backbone.conv1.weight`.
    pub name: &'a str,
    /// Type name of the layer that owns it: `Conv2d`.
    pub layer: &'a str,
    /// What it is.
    pub role: Role,
    /// Whether it is held still.
    pub frozen: bool,
    /// Its value.
    pub value: ArrayViewMutD<'a, Elem>,
    /// Its gradient; `None` for buffers, frozen parameters and parameters that no loss reached yet.
    pub grad: Option<ArrayViewMutD<'a, Elem>>,
}

/// A model whose tensors are arrays. Two visits in one stable order; [`Params`] follows from them.
pub trait HostParams {
    /// Calls `f` for every tensor, buffers included.
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>));
    /// Calls `f` for every tensor, buffers included, with write access.
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>));

    /// [`Params::clear_grads`]: gradients become zero.
    fn zero_grads(&mut self) {
        self.visit_mut(&mut |p| {
            if let Some(mut grad) = p.grad {
                grad.fill(0.0);
            }
        });
    }

    /// Calls `f` with the place of every gradient that is an array of its own, in the order of the other visits: large ones
    /// are taken out and put back, and so come to other ranks without a copy. By itself it gives none, and all are copied.
    fn visit_grads(&mut self, _f: &mut dyn FnMut(&str, &mut Option<ArrayD<Elem>>)) {}

    /// [`Params::put_grads`]: gradients become these, or zero.
    fn set_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) {
        self.visit_mut(&mut |p| {
            if let Some(mut grad) = p.grad {
                match sums.get(p.name) {
                    Some(sum) => grad.assign(sum),
                    None => grad.fill(0.0),
                }
            }
        });
    }
}

/// The addresses of a tensor's elements, from and to.
fn storage(value: &ArrayViewD<'_, Elem>) -> (usize, usize) {
    value.as_slice_memory_order().map_or((0, 0), |all| {
        let range = all.as_ptr_range();
        (range.start.addr(), range.end.addr())
    })
}

/// Calls `f` with every wanted tensor of a set.
fn read(
    model: &dyn HostParams,
    set: Set,
    want: Want<'_>,
    f: &mut dyn FnMut(&Info<'_>, ArrayViewD<'_, Elem>),
) {
    model.visit(&mut |p| {
        let ParamRef { name, layer, role, frozen, value, grad } = p;
        let shape = value.raw_dim();
        let info = Info { name, layer, role, shape: shape.slice(), frozen, storage: storage(&value) };
        let tensor = if set == Set::Values { Some(value) } else { grad };
        if let Some(tensor) = tensor.filter(|_| want(&info)) {
            f(&info, tensor);
        }
    });
}

fn edit(
    model: &mut dyn HostParams,
    set: Set,
    want: Want<'_>,
    f: &mut dyn FnMut(&Info<'_>, ArrayViewMutD<'_, Elem>),
) {
    model.visit_mut(&mut |p| {
        let ParamMut { name, layer, role, frozen, value, grad } = p;
        let shape = value.raw_dim();
        let info = Info { name, layer, role, shape: shape.slice(), frozen, storage: storage(&value.view()) };
        let tensor = if set == Set::Values { Some(value) } else { grad };
        if let Some(tensor) = tensor.filter(|_| want(&info)) {
            f(&info, tensor);
        }
    });
}

// Each method leaves at once for a function that knows no `H`: those are compiled once, not for every type of layer.
impl<H: HostParams> Params for H {
    fn infos(&self, f: &mut dyn FnMut(Info<'_>)) {
        read(self, Set::Values, &super::all, &mut |info, _| f(*info));
    }

    fn read(
        &self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewD<'_, Elem>),
    ) -> Result<()> {
        read(self, set, want, f);
        Ok(())
    }

    fn edit(
        &mut self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewMutD<'_, Elem>),
    ) -> Result<()> {
        edit(self, set, want, f);
        Ok(())
    }

    fn read_own(&self, own: &OwnSet, f: &mut dyn FnMut(&str, ArrayViewD<'_, Elem>)) -> Result<()> {
        own.read_host(f)
    }

    fn apply(&mut self, op: Op<'_>, want: Want<'_>) -> Result<()> {
        apply(self, op, want)
    }

    fn norm(&self, set: Set, order: f64, want: Want<'_>) -> Result<f64> {
        Ok(norm(self, set, order, want))
    }

    fn unscale(&mut self, factor: f64, want: Want<'_>) -> Result<bool> {
        Ok(unscale(self, factor as Elem, want))
    }

    fn clear_grads(&mut self) -> Result<()> {
        self.zero_grads();
        Ok(())
    }

    fn put_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) -> Result<()> {
        self.set_grads(sums);
        Ok(())
    }

    fn update(&mut self, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<()> {
        update(self, rule_of, state)
    }

    fn exchange(&mut self, want: Want<'_>, f: &mut dyn FnMut(&mut FlatGrads) -> Result<()>) -> Result<()> {
        transfer::exchange(&mut Lent(self), want, &|host: &mut Lent<'_>, f| host.0.visit_grads(f), f)
    }
}

/// A model of any type, as a type.
struct Lent<'a>(&'a mut dyn HostParams);

impl HostParams for Lent<'_> {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        self.0.visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.0.visit_mut(f);
    }
    fn set_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) {
        self.0.set_grads(sums);
    }
}

fn apply(model: &mut dyn HostParams, op: Op<'_>, want: Want<'_>) -> Result<()> {
    match op {
        Op::ScaleGrads(factor) => {
            let factor = factor as Elem;
            edit(model, Set::Grads, want, &mut |_, grad| each(grad, |all| kernels::scale(factor, all)));
        }
        Op::ClampGrads(limit) => {
            let limit = limit as Elem;
            edit(model, Set::Grads, want, &mut |_, grad| {
                each(grad, |all| all.iter_mut().for_each(|g| *g = g.clamp(-limit, limit)));
            });
        }
        Op::CopyTo(own) => return with_own(model, own, want, |own, value| own.assign(&value)),
        Op::LerpTo(own, weight) => {
            let weight = weight as Elem;
            let mix = |own: &mut ArrayD<Elem>, value: ArrayViewD<'_, Elem>| {
                own.zip_mut_with(&value, |a, v| *a += weight * (v - *a));
            };
            return with_own(model, own, want, mix);
        }
        Op::Swap(own) => {
            let own = own.host()?;
            own.rewind();
            let mut done = Ok(());
            edit(model, Set::Values, want, &mut |p, mut value| match own.get_mut(p.name) {
                Some(other) if other.shape() == p.shape => {
                    ndarray::Zip::from(other).and(&mut value).for_each(std::mem::swap);
                }
                Some(_) => done = Err(misfit(p.name, "average")),
                None => {}
            });
            return done;
        }
    }
    Ok(())
}

fn unscale(model: &mut dyn HostParams, factor: Elem, want: Want<'_>) -> bool {
    let mut finite = true;
    edit(model, Set::Grads, want, &mut |_, grad| each(grad, |all| finite &= kernels::unscale(factor, all)));
    finite
}

fn update(model: &mut dyn HostParams, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<()> {
    state.begin()?;
    let mut done = Ok(());
    model.visit_mut(&mut |p| {
        let Some(grad) = p.grad.filter(|_| p.role.is_trained() && done.is_ok()) else { return };
        if let Some(rule) = rule_of(p.name) {
            done = state.step(p.name, rule, p.value, grad.view());
        }
    });
    done
}

/// Calls `f` with every wanted value and the tensor of a set beside it, which begins as a copy.
fn with_own(
    model: &dyn HostParams,
    own: &mut OwnSet,
    want: Want<'_>,
    f: impl Fn(&mut ArrayD<Elem>, ArrayViewD<'_, Elem>),
) -> Result<()> {
    let own = own.host()?;
    own.rewind();
    let mut done = Ok(());
    read(model, Set::Values, want, &mut |p, value| {
        let tensor = own.entry(p.name, || value.to_owned());
        if tensor.shape() == p.shape {
            f(tensor, value);
        } else {
            done = Err(misfit(p.name, "copy"));
        }
    });
    done
}

/// Calls `f` with all elements, in pieces without gaps.
fn each(mut tensor: ArrayViewMutD<'_, Elem>, mut f: impl FnMut(&mut [Elem])) {
    match tensor.as_slice_memory_order_mut() {
        Some(all) => f(all),
        None => tensor.iter_mut().for_each(|one| f(std::slice::from_mut(one))),
    }
}

/// Summed in f64 in the order of the model.
fn norm(model: &dyn HostParams, set: Set, order: f64, want: Want<'_>) -> f64 {
    if order == 2.0 {
        let mut sum = 0.0;
        read(model, set, want, &mut |_, tensor| {
            sum += match tensor.as_slice() {
                Some(all) => kernels::sum_squares(all),
                None => tensor.iter().map(|g| (*g as f64).powi(2)).sum(),
            };
        });
        if f64::is_finite(sum) {
            return sum.sqrt();
        }
    } else if order.is_infinite() {
        let mut max = 0.0;
        read(model, set, want, &mut |_, tensor| {
            let own = match tensor.as_slice_memory_order() {
                Some(all) => largest(all),
                None => tensor.iter().fold(0.0, |max, v| larger(max, v.abs())),
            };
            max = larger(max, own);
        });
        return f64::from(max);
    }
    scaled_norm(model, set, order, want)
}

/// `max` that keeps a NaN.
fn larger(max: Elem, a: Elem) -> Elem {
    if a > max || a.is_nan() { a } else { max }
}

/// The largest absolute value, NaN if there is one. One pass without branches, for it is made in every step.
fn largest(all: &[Elem]) -> Elem {
    let (eights, rest) = all.as_chunks::<8>();
    // A finite number times zero is a zero; sums of those in any order are zeros.
    let (mut max, mut bad) = ([0.0; 8], [0.0; 8]);
    for eight in eights {
        for ((max, bad), v) in max.iter_mut().zip(&mut bad).zip(eight) {
            *max = if v.abs() > *max { v.abs() } else { *max };
            *bad += v * 0.0;
        }
    }
    let max = max.iter().chain(rest).fold(0.0, |max, v| larger(max, v.abs()));
    // An infinity is seen by the maximum, and makes a NaN here too.
    if max.is_finite() && bad.iter().any(|v: &Elem| v.is_nan()) { Elem::NAN } else { max }
}

/// The norm of any order, also where a power is beyond f64.
fn scaled_norm(model: &dyn HostParams, set: Set, order: f64, want: Want<'_>) -> f64 {
    let fold = |scale: f64| {
        let (mut sum, mut max) = (0.0f64, 0.0f64);
        read(model, set, want, &mut |_, tensor| {
            for g in &tensor {
                let a = (*g as f64).abs() * scale;
                // `max` would drop a NaN.
                max = if a > max || a.is_nan() { a } else { max };
                sum += a.powf(order);
            }
        });
        (sum, max)
    };
    let (sum, max) = fold(1.0);
    if max == 0.0 || !max.is_finite() {
        return max;
    }
    if sum.is_normal() {
        return sum.powf(1.0 / order);
    }
    // Finite elements whose powers are beyond f64, or below it: measure them in units of the largest.
    max * fold(1.0 / max).0.powf(1.0 / order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_number_is_found_wherever_it_stands() {
        for n in [1, 7, 8, 9, 31] {
            assert_eq!(largest(&vec![Elem::MIN; n]), Elem::MAX);
            for at in 0..n {
                for bad in [Elem::NAN, Elem::INFINITY, Elem::NEG_INFINITY] {
                    let mut values = vec![-1.5; n];
                    values[at] = bad;
                    assert!(!largest(&values).is_finite(), "{bad} at {at} of {n}");
                }
            }
        }
    }
}
