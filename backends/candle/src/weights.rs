//! The weights of a network, in the order in which its constructor asked for them.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var, WithDType, bail};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;
use shanty::base::Elem;
use shanty::base::memory;
use shanty::params::Role;

/// One tensor of a network.
#[derive(Debug)]
pub(crate) struct Weight {
    pub name: String,
    pub layer: &'static str,
    pub role: Role,
    pub frozen: bool,
    /// How the constructor wants it to begin.
    pub begins: Init,
    /// What the network computes with; changed in place.
    pub value: Var,
    /// The sum so far; never changed in place.
    pub grad: Option<Tensor>,
}

impl Weight {
    /// Whether a backward pass gives it a gradient.
    pub fn is_trained(&self) -> bool {
        self.role.is_trained() && !self.frozen
    }
}

/// What stands behind the `VarBuilder` of a constructor. `VarMap` would do but for two things: it has no order, and it
/// draws at once, from a generator that cannot be seeded.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<(String, Init, Var)>>>);

impl SimpleBackend for Asked {
    fn get(&self, shape: Shape, name: &str, begins: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if dtype != Elem::DTYPE {
            bail!(
                "`{name}` is to be {dtype:?}, but weights are {:?}: leave the dtype of the `VarBuilder`",
                Elem::DTYPE
            );
        }
        if let Some((_, _, own)) = all.iter().find(|(own, _, _)| own == name) {
            if own.shape() != &shape {
                bail!("`{name}` is asked for twice, as {:?} and as {:?}", own.dims(), shape.dims());
            }
            return Ok(own.as_tensor().clone());
        }
        if shape.dims().contains(&0) {
            bail!("`{name}` of shape {:?} has no element", shape.dims());
        }
        memory::ask_by_name(name, shape.dims()).map_err(Error::msg)?;
        let value = match begins {
            Init::Const(_) => begins.var(shape, dtype, device)?,
            _ => Var::zeros(shape, dtype, device)?,
        };
        let tensor = value.as_tensor().clone();
        all.push((name.to_owned(), begins, value));
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("`{name}` is asked for without a shape: a network that is to be trained has to say one")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(own, _, _)| own == name)
    }
}

impl Asked {
    /// The weights; `is_buffer` says which, beside the statistics of batch norms, are not trained.
    pub fn into_weights(self, is_buffer: &dyn Fn(&str) -> bool) -> Vec<Weight> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let find = |owner: &str, field: &str| {
            let name = if owner.is_empty() { field.to_owned() } else { format!("{owner}.{field}") };
            all.iter().find(|(own, _, _)| *own == name)
        };
        let told: Vec<_> = all
            .iter()
            .map(|tensor| {
                let (owner, field) = tensor.0.rsplit_once('.').unwrap_or(("", &tensor.0));
                let role = match field {
                    _ if is_buffer(&tensor.0) => Role::Buffer,
                    "running_mean" | "running_var" => Role::Buffer,
                    "bias" => Role::Bias,
                    _ => Role::Weight,
                };
                let (_, begins, weight) = find(owner, "weight").unwrap_or(tensor);
                let has = |field| find(owner, field).is_some();
                (role, layer_of(begins, weight.rank(), has("running_mean"), has("bias")))
            })
            .collect();
        let weight = |((name, begins, value), (role, layer))| Weight {
            name,
            layer,
            role,
            frozen: false,
            begins,
            value,
            grad: None,
        };
        all.into_iter().zip(told).map(weight).collect()
    }
}

/// The type of a layer, by PyTorch's name, as far as its weight tells: rules for norms and convolutions go by it.
fn layer_of(begins: &Init, axes: usize, has_mean: bool, has_bias: bool) -> &'static str {
    match (begins, axes) {
        _ if has_mean => "BatchNorm",
        (Init::Const(v), 1) if *v == 1.0 && has_bias => "LayerNorm",
        (Init::Const(v), 1) if *v == 1.0 => "RMSNorm",
        (_, 4) => "Conv2d",
        (_, 3) => "Conv1d",
        (_, 2) => "Linear",
        _ => "Layer",
    }
}
