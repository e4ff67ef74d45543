//! Tensors beside those of a network, on its device: momentum, averages, copies.

use burn::tensor::{Device, Tensor, TensorData};
use shanty::base::{Elem, Error, Result};
use shanty::params::{HostSet, OwnSet};

use crate::places::Place;

/// One tensor for some of the places, as a row. A copy is a handle: burn writes into no memory that somebody else holds.
#[derive(Default)]
pub(crate) struct OnDevice(pub Vec<Option<Tensor<1>>>);

/// The set on the device. One that came out of a checkpoint goes up, and `count` is told how many tensors that were.
pub(crate) fn on_device<'s>(
    set: &'s mut OwnSet,
    places: &[Place],
    device: &Device,
    count: impl FnOnce(usize),
) -> Result<&'s mut OnDevice> {
    set.get_mut(|host: HostSet| {
        let mut own = OnDevice(vec![None; places.len()]);
        let mut tensors = 0;
        for (name, tensor) in host {
            let at = places.iter().position(|place| place.name == name).ok_or_else(|| {
                Error::invalid(format!(
                    "there is a tensor for `{name}`, and the network has no such parameter"
                ))
            })?;
            own.0[at] = Some(up(places[at].elements(&tensor)?, device));
            tensors += 1;
        }
        count(tensors);
        Ok(own)
    })
}

/// A row on the device.
pub(crate) fn up(row: Vec<Elem>, device: &Device) -> Tensor<1> {
    let len = row.len();
    Tensor::from_data(TensorData::new(row, [len]), device)
}
