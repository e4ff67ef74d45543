//! Branches of convolutions that become one convolution after the training: those of RepVGG, MobileOne and RepLKNet.

use ndarray::{ArrayD, Axis, IxDyn, s};

use crate::base::{Elem, Result};
use crate::module;
use crate::nn::{BatchNorm2d, Conv2d, ConvModuleOptions, Param, visit};

/// A convolution without an offset, and its norm.
pub(super) struct Branch {
    pub conv: Conv2d,
    pub norm: BatchNorm2d,
}

module!(Branch { conv, norm });

impl Branch {
    /// The convolution and the norm of these options.
    pub fn new(options: &ConvModuleOptions) -> Result<Self> {
        let conv = options.build()?.conv;
        let norm = BatchNorm2d::new(conv.weight.value.shape()[0]);
        Ok(Self { conv, norm })
    }
}

/// The convolution that computes in evaluation what these give together, each behind its norm, and what a norm makes of
/// the input itself, if there is one. The first has the largest kernel; that of the others lies in its middle.
pub(super) fn merged(parts: &[(&Conv2d, &BatchNorm2d)], identity: Option<&BatchNorm2d>) -> Option<Conv2d> {
    let ((first, _), _) = parts.split_first()?;
    let size = first.weight.value.shape().to_vec();
    let (mut weight, mut bias) = (ArrayD::zeros(IxDyn(&size)), ArrayD::zeros(IxDyn(&size[..1])));
    let mut add = |own: &mut ArrayD<Elem>, norm: &BatchNorm2d| {
        bias += &scale(own, norm);
        let [top, left] = [2, 3].map(|axis| size[axis].saturating_sub(own.shape()[axis]) / 2);
        let (h, w) = (own.shape()[2], own.shape()[3]);
        let mut middle = weight.slice_mut(s![.., .., top..top + h, left..left + w]);
        middle += &*own;
    };
    for (conv, norm) in parts {
        add(&mut conv.weight.value.to_owned(), norm);
    }
    if let Some(norm) = identity {
        let own = |i: IxDyn| Elem::from(u8::from(i[0] % size[1] == i[1]));
        add(&mut ArrayD::from_shape_fn(vec![size[0], size[1], 1, 1], own), norm);
    }
    let mut conv = (*first).clone().bias(true);
    (conv.weight, conv.bias) = (Param::new(weight), Some(Param::new(bias)));
    Some(conv)
}

/// Multiplies the weights of each output channel by what a batch norm multiplies it with, and gives what it adds.
fn scale(weight: &mut ArrayD<Elem>, norm: &BatchNorm2d) -> ArrayD<Elem> {
    let mut own = [(); 4].map(|()| ArrayD::zeros(vec![0]));
    visit(norm, &mut |p| {
        let names = ["weight", "bias", "running_mean", "running_var"];
        if let Some(i) = names.iter().position(|name| *name == p.name) {
            own[i] = p.value.to_owned();
        }
    });
    let [gamma, beta, mean, var] = own;
    let factor = gamma / var.mapv(|v| (v + 1e-5).sqrt());
    for (mut channel, factor) in weight.axis_iter_mut(Axis(0)).zip(&factor) {
        channel *= *factor;
    }
    beta - mean * factor
}
