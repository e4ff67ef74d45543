//! What shanty does to whole sets of tensors, done where burn has them.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, s};
use shanty::base::{Elem, Result};
use shanty::ndarray::{ArrayD, ArrayViewD, ArrayViewMutD};
use shanty::params::{Info, Op, OptimState, OwnSet, Params, RuleOf, Set, Want};

use crate::fields::host;
use crate::model::{BurnModel, Network, factor};
use crate::own::{OnDevice, on_device, up};

impl<N: Network> BurnModel<N> {
    /// By place, whether its tensor is wanted.
    fn wanted(&self, want: Want<'_>) -> Vec<bool> {
        self.places.iter().map(|place| want(&place.info())).collect()
    }

    /// The wanted tensors of a set that there are, by place.
    fn rows(&self, set: Set, want: Want<'_>) -> Result<Vec<(usize, Tensor<1>)>> {
        let wanted = self.wanted(want);
        match set {
            Set::Values => self.values(&wanted),
            Set::Grads => {
                let sums = self.sums.iter().zip(&wanted).enumerate().filter(|(_, (_, wanted))| **wanted);
                Ok(sums.filter_map(|(at, (sum, _))| Some((at, sum.clone()?))).collect())
            }
        }
    }

    /// The same on the host.
    fn down(&self, rows: Vec<(usize, Tensor<1>)>) -> Result<Vec<(usize, Vec<Elem>)>> {
        let (at, rows): (Vec<usize>, Vec<Tensor<1>>) = rows.into_iter().unzip();
        self.count(rows.len());
        Ok(at.into_iter().zip(host(rows)?).collect())
    }

    fn own<'s>(&self, set: &'s mut OwnSet) -> Result<&'s mut OnDevice> {
        on_device(set, &self.places, &self.device(), |tensors| self.count(tensors))
    }
}

impl<N: Network> Params for BurnModel<N> {
    fn infos(&self, f: &mut dyn FnMut(Info<'_>)) {
        self.places.iter().for_each(|place| f(place.info()));
    }

    fn read(
        &self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewD<'_, Elem>),
    ) -> Result<()> {
        for (at, row) in self.down(self.rows(set, want)?)? {
            f(&self.places[at].info(), self.places[at].view(&row)?);
        }
        Ok(())
    }

    fn edit(
        &mut self,
        set: Set,
        want: Want<'_>,
        f: &mut dyn FnMut(&Info<'_>, ArrayViewMutD<'_, Elem>),
    ) -> Result<()> {
        let (mut rows, device) = (self.down(self.rows(set, want)?)?, self.device());
        for (at, row) in &mut rows {
            f(&self.places[*at].info(), self.places[*at].view_mut(row)?);
        }
        self.count(rows.len());
        let mut changed: Vec<Option<Tensor<1>>> = vec![None; self.places.len()];
        rows.into_iter().for_each(|(at, row)| changed[at] = Some(up(row, &device)));
        match set {
            Set::Values => {
                let wanted: Vec<bool> = changed.iter().map(Option::is_some).collect();
                self.change(&wanted, &mut |at, old| changed[at].take().unwrap_or(old))?;
            }
            Set::Grads => {
                let places = self.sums.iter_mut().zip(changed);
                places.for_each(|(sum, changed)| *sum = changed.or_else(|| sum.take()));
            }
        }
        Ok(())
    }

    fn read_own(&self, own: &OwnSet, f: &mut dyn FnMut(&str, ArrayViewD<'_, Elem>)) -> Result<()> {
        let Some(OnDevice(rows)) = own.get() else { return own.read_host(f) };
        let rows = rows.iter().enumerate().filter_map(|(at, row)| Some((at, row.clone()?))).collect();
        for (at, row) in self.down(rows)? {
            f(&self.places[at].name, self.places[at].view(&row)?);
        }
        Ok(())
    }

    fn apply(&mut self, op: Op<'_>, want: Want<'_>) -> Result<()> {
        let wanted = self.wanted(want);
        let sums = self.sums.iter_mut().zip(&wanted).filter(|(_, wanted)| **wanted).map(|(sum, _)| sum);
        match op {
            Op::ScaleGrads(scale) => {
                sums.for_each(|sum| *sum = sum.take().map(|g| g.mul_scalar(factor(scale))))
            }
            Op::ClampGrads(limit) => {
                let limit = factor(limit);
                sums.for_each(|sum| *sum = sum.take().map(|g| g.clamp(-limit, limit)));
            }
            Op::CopyTo(own) => {
                let (values, own) = (self.values(&wanted)?, self.own(own)?);
                values.into_iter().for_each(|(at, value)| own.0[at] = Some(value));
            }
            Op::LerpTo(own, weight) => {
                let (values, own) = (self.values(&wanted)?, self.own(own)?);
                for (at, value) in values {
                    own.0[at] = Some(match own.0[at].take() {
                        Some(mean) => value.sub(mean.clone()).mul_scalar(factor(weight)).add(mean),
                        None => value,
                    });
                }
            }
            Op::Swap(own) => {
                let own = self.own(own)?;
                self.change(&wanted, &mut |at, value| match own.0[at].take() {
                    Some(other) => {
                        own.0[at] = Some(value);
                        other
                    }
                    None => value,
                })?;
            }
        }
        Ok(())
    }

    fn norm(&self, set: Set, order: f64, want: Want<'_>) -> Result<f64> {
        let rows: Vec<Tensor<1>> = self.rows(set, want)?.into_iter().map(|(_, row)| row).collect();
        if rows.is_empty() {
            return Ok(0.0);
        }
        if order == 2.0 {
            let sum = total(rows.iter().map(|row| row.clone().mul(row.clone())))?;
            // Squares that are neither too large nor too small for the arithmetic of the device.
            if sum.is_finite() && sum > 1e-20 {
                return Ok(sum.sqrt());
            }
        }
        // A finite number times zero is zero, every other one is NaN.
        let whole = total(rows.iter().map(|row| row.clone().mul_scalar(factor(0.0))))?;
        if whole.is_nan() {
            return Ok(f64::NAN);
        }
        let largest =
            numbers(rows.iter().map(|row| row.clone().abs().max()))?.into_iter().fold(0.0, f64::max);
        if order.is_infinite() || largest == 0.0 {
            return Ok(largest);
        }
        let powers =
            rows.iter().map(|row| row.clone().abs().div_scalar(factor(largest)).powf_scalar(factor(order)));
        Ok(largest * total(powers)?.powf(1.0 / order))
    }

    fn clear_grads(&mut self) -> Result<()> {
        self.sums.iter_mut().for_each(|sum| *sum = None);
        Ok(())
    }

    fn put_grads(&mut self, sums: &BTreeMap<String, ArrayD<Elem>>) -> Result<()> {
        let device = self.device();
        for at in 0..self.places.len() {
            let place = &self.places[at];
            // One that is frozen since has none.
            self.sums[at] = match sums.get(&place.name).filter(|_| !place.frozen && !place.is_buffer()) {
                Some(sum) => {
                    self.count(1);
                    Some(up(place.elements(sum)?, &device))
                }
                None => None,
            };
        }
        Ok(())
    }

    fn update(&mut self, rule_of: RuleOf<'_>, state: &mut OptimState) -> Result<()> {
        self.update_here(rule_of, state)
    }
}

/// Numbers, one a tensor, in one wait for the device.
fn numbers(each: impl Iterator<Item = Tensor<1>>) -> Result<Vec<f64>> {
    let all = host(vec![Tensor::cat(each.collect(), 0)])?;
    Ok(all.into_iter().flatten().map(f64::from).collect())
}

/// The sum of all elements. burn adds up long rows in an order that its threads agree on as they go, and short ones
/// always in the same: so a long row is first made one of sums of short ones.
fn total(rows: impl Iterator<Item = Tensor<1>>) -> Result<f64> {
    const SHORT: usize = 1024;
    let short = |row: Tensor<1>| {
        let [len] = row.dims();
        let whole = len / SHORT * SHORT;
        if whole == 0 {
            return row.sum();
        }
        let parts =
            row.clone().slice(s![..whole]).reshape([len / SHORT, SHORT]).sum_dim(1).reshape([len / SHORT]);
        if whole == len { parts.sum() } else { parts.sum().add(row.slice(s![whole..]).sum()) }
    };
    Ok(numbers(rows.map(short))?.into_iter().sum())
}
