//! What a network gets and gives: the fields of a batch on its device, losses, predictions.

use std::borrow::Cow;
use std::cell::RefCell;
use std::iter;

use burn::tensor::{Device, Int, Tensor, TensorData, Transaction};
use shanty::base::{Elem, Error, Result};
use shanty::data::{Batch, Fields as Named, TARGET};
use shanty::model::{Late, Outputs};
use shanty::ndarray::ArrayD;

/// The fields of a batch on the device of the network. Each goes up once, when it is asked for first.
pub struct Fields<'a> {
    batch: &'a Batch,
    device: &'a Device,
    floats: RefCell<Vec<(String, Tensor<1>)>>,
    ints: RefCell<Vec<(String, Tensor<1, Int>)>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(batch: &'a Batch, device: &'a Device) -> Self {
        Self { batch, device, floats: RefCell::default(), ints: RefCell::default() }
    }

    /// The batch as the loader gave it, on the host.
    pub fn host(&self) -> &'a Batch {
        self.batch
    }

    /// Where the network is; in training with gradients.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// The floating-point numbers of this field, as a tensor of `D` axes of which the first is that of the samples.
    ///
    /// # Errors
    /// When there is no such field, or it is of another kind or another number of axes.
    pub fn float<const D: usize>(&self, name: &str) -> Result<Tensor<D>> {
        let array = self.batch.float(name)?;
        let shape: [usize; D] = axes(name, array.shape())?;
        let mut known = self.floats.borrow_mut();
        if let Some((_, row)) = known.iter().find(|(own, _)| own == name) {
            return Ok(row.clone().reshape(shape));
        }
        let row = Tensor::from_data(TensorData::new(elements(array), [array.len()]), self.device);
        known.push((name.to_owned(), row.clone()));
        Ok(row.reshape(shape))
    }

    /// The whole numbers of this field: classes, tokens.
    ///
    /// # Errors
    /// As [`float`](Self::float).
    pub fn int<const D: usize>(&self, name: &str) -> Result<Tensor<D, Int>> {
        let array = self.batch.int(name)?;
        let shape: [usize; D] = axes(name, array.shape())?;
        let mut known = self.ints.borrow_mut();
        if let Some((_, row)) = known.iter().find(|(own, _)| own == name) {
            return Ok(row.clone().reshape(shape));
        }
        let row = Tensor::from_data(TensorData::new(elements(array), [array.len()]), self.device);
        known.push((name.to_owned(), row.clone()));
        Ok(row.reshape(shape))
    }

    /// The class of each sample, from the field `target`. They are looked at on the host: a class that is not there
    /// would read strange memory on a GPU.
    ///
    /// # Errors
    /// When there are none, or one is not below `classes`.
    pub fn labels(&self, classes: usize) -> Result<Tensor<1, Int>> {
        let outside = |label: &&i64| !usize::try_from(**label).is_ok_and(|label| label < classes);
        match self.batch.labels()?.iter().find(outside) {
            Some(label) => Err(Error::invalid(format!(
                "a sample is of class {label}, but there are scores of {classes} classes"
            ))),
            None => self.int(TARGET),
        }
    }
}

fn elements<T: Clone>(array: &ArrayD<T>) -> Vec<T> {
    match array.as_slice() {
        Some(all) => all.to_vec(),
        None => array.iter().cloned().collect(),
    }
}

fn axes<const D: usize>(name: &str, shape: &[usize]) -> Result<[usize; D]> {
    shape.try_into().map_err(|_| {
        Error::invalid(format!("the field `{name}` has the shape {shape:?}, and the network wants {D} axes"))
    })
}

/// What a network is trained on: one number to make smaller, and others to log.
///
/// A plain `Tensor<1>` of one element is one: `Ok(loss.into())`.
#[derive(Debug, Clone)]
pub struct Losses {
    pub(crate) total: Tensor<1>,
    named: Vec<(Cow<'static, str>, Tensor<1>)>,
}

impl From<Tensor<1>> for Losses {
    fn from(total: Tensor<1>) -> Self {
        Self { total, named: Vec::new() }
    }
}

impl Losses {
    /// Logs a further number.
    #[must_use]
    pub fn and(mut self, name: impl Into<Cow<'static, str>>, value: Tensor<1>) -> Self {
        self.named.push((name.into(), value));
        self
    }

    /// The numbers, which come down together when somebody reads them; cut off from the graph, which is freed before.
    pub(crate) fn late(self) -> Result<Late> {
        let all = iter::once(("loss".into(), self.total)).chain(self.named);
        let (names, values): (Vec<Cow<'static, str>>, Vec<_>) =
            all.map(|(name, value)| (name, value.detach())).unzip();
        if let Some((name, value)) = names.iter().zip(&values).find(|(_, value)| value.dims() != [1]) {
            let [len] = value.dims();
            return Err(Error::invalid(format!("`{name}` is {len} numbers, and has to be one")));
        }
        Ok(Late::new(names, move || Ok(host(values)?.into_iter().flatten().map(f64::from).collect())))
    }
}

/// What a network predicts, by name.
#[derive(Debug, Clone, Default)]
pub struct Predictions {
    named: Vec<(Cow<'static, str>, Vec<usize>)>,
    values: Vec<Tensor<1>>,
    losses: Option<Tensor<1>>,
}

impl Predictions {
    /// A prediction of this name, whose first axis is that of the samples. A classifier's are called `scores`: the
    /// probabilities of its classes, N × K.
    pub fn new<const D: usize>(name: impl Into<Cow<'static, str>>, values: Tensor<D>) -> Self {
        Self::default().and(name, values)
    }

    /// A further prediction.
    #[must_use]
    pub fn and<const D: usize>(mut self, name: impl Into<Cow<'static, str>>, values: Tensor<D>) -> Self {
        let shape = values.dims().to_vec();
        let len = shape.iter().product::<usize>();
        self.named.push((name.into(), shape));
        self.values.push(values.reshape([len]));
        self
    }

    /// The loss of each sample, where the batch has targets.
    #[must_use]
    pub fn losses(mut self, losses: Tensor<1>) -> Self {
        self.losses = Some(losses);
        self
    }

    pub(crate) fn read(mut self) -> Result<Outputs> {
        let several = self.losses.is_some();
        self.values.extend(self.losses);
        let mut values = host(self.values)?;
        let sample_losses = if several { values.pop() } else { None };
        let mut predictions = Named::default();
        for ((name, shape), values) in self.named.into_iter().zip(values) {
            let values = ArrayD::from_shape_vec(shape, values).map_err(|e| Error::invalid(e.to_string()))?;
            predictions.set(name, values);
        }
        Ok(Outputs { predictions, sample_losses, ..Outputs::default() })
    }
}

/// Rows on the host, in one wait for the device.
pub(crate) fn host(rows: Vec<Tensor<1>>) -> Result<Vec<Vec<Elem>>> {
    let read = rows.into_iter().fold(Transaction::default(), Transaction::register);
    let failed =
        |error: &dyn std::fmt::Display| Error::invalid(format!("burn could not read a tensor: {error}"));
    let data = read.try_execute().map_err(|e| failed(&e))?;
    data.into_iter().map(|data| data.convert::<Elem>().try_into_vec().map_err(|e| failed(&e))).collect()
}
