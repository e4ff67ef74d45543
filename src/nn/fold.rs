//! Batch norms in the weights of the layers before them.

use std::any::Any;
use std::collections::HashMap;

use crate::base::{Elem, Result, Tensor, keyed};

use super::buffer_pool::tensor;
use super::layers::norm_of;
use super::replace::concrete;
use super::tree::at_mut;
use super::{Autograd, Child, Conv1d, Conv2d, Linear, Module, ModuleTree, Param, Var, named_modules};

/// What was done to the batch norms of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FusedWeights {
    /// The layers, by path, and the batch norms that are in their weights now.
    pub fused: Vec<(String, String)>,
    /// The batch norms that stay what they were, each with the reason.
    pub left: Vec<(String, String)>,
}

/// Puts the batch norms of a network in evaluation mode into the weights of the convolutions and linear maps before
/// them: `w γ / √(var + eps)`, and `(b - mean) γ / √(var + eps) + β`. What follows what is known by the data flow of
/// the sample, so that a layer with another consumer, or one that is used twice, keeps its weights. A batch norm that
/// is folded has no tensors any more and passes its input on.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BatchNorm1d, Linear, ReLU, Sequential, fuse_conv_bn, named_parameters};
///
/// let mut net = Sequential::new().with(Linear::new(3, 4).bias(false)).with(BatchNorm1d::new(4)).with(ReLU::new());
/// let done = fuse_conv_bn(&mut net, &Tensor::zeros(vec![1, 3]))?;
/// assert_eq!(done.fused, [("0".to_owned(), "1".to_owned())]);
/// let names: Vec<String> = named_parameters(&net).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["0.weight", "0.bias"]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
///
/// # Errors
/// When the sample does not fit the network; nothing changes then.
pub fn fuse_conv_bn(net: &mut impl Module, sample: &Tensor) -> Result<FusedWeights> {
    // Nothing draws in evaluation mode.
    let mut rng = keyed(0, "forward", 0, 0);
    Autograd::default().fuse_conv_bn(net, &mut rng, |net, tape, cx| {
        net.forward(tape.input(sample.clone()), cx).map(Var::value)
    })
}

/// Gives a network the form that weights of these names have: batch norms of which there is nothing do nothing, and
/// convolutions and linear maps have a bias where there is one. How many batch norms are gone.
///
/// # Errors
/// Never: walks over modules may fail.
pub fn take_fused_form(root: &mut dyn ModuleTree, has: &dyn Fn(&str) -> bool) -> Result<usize> {
    let paths: Vec<String> = named_modules(root).into_iter().map(|(path, _)| path).collect();
    let mut folded = 0;
    for path in paths {
        let module = at_mut(root, &path)?;
        let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let Some(module) = concrete(module) else { continue };
        if let Some(norm) = norm_of(module) {
            folded += usize::from(!has(&under("running_mean")) && norm.fold().is_some());
        } else if let Some((weight, bias @ None)) = product(module)
            && has(&under("bias"))
        {
            *bias = Some(Param::full(&weight.value.shape()[..1], 0.0));
        }
    }
    Ok(folded)
}

/// What a pass saw of batch norms: the address of the running mean, and that of the weights before it, or why they
/// stay.
pub(super) type Seen = (usize, std::result::Result<usize, &'static str>);

/// Folds what was seen to follow.
pub(super) fn fold(root: &mut dyn ModuleTree, seen: &[Seen]) -> Result<FusedWeights> {
    let seen: HashMap<_, _> = seen.iter().copied().collect();
    let owners = owners(root);
    let paths: Vec<String> = named_modules(root).into_iter().map(|(path, _)| path).collect();
    let mut done = FusedWeights::default();
    for path in paths {
        let Some(norm) = concrete(at_mut(root, &path)?).and_then(norm_of) else { continue };
        let before = match norm.address().map(|mean| seen.get(&mean)) {
            None => Err("it has no running statistics"),
            Some(None) => Err("it does not follow a convolution or linear map at once"),
            Some(Some(weight)) => *weight,
        };
        let layer = before.and_then(|weight| {
            let layer = owners.get(&weight).ok_or("the weights before it are no layer's")?;
            let module = at_mut(root, layer).ok().and_then(concrete).and_then(product);
            module.map(|_| layer).ok_or("the layer before it is neither Conv1d, Conv2d nor Linear")
        });
        match layer {
            Ok(layer) => {
                let factors = concrete(at_mut(root, &path)?).and_then(norm_of).and_then(|norm| norm.fold());
                let layer_mut = concrete(at_mut(root, layer)?).and_then(product);
                if let (Some((scale, shift)), Some((weight, bias))) = (factors, layer_mut) {
                    into_weights(weight, bias, &scale, &shift);
                }
                done.fused.push((layer.clone(), path));
            }
            Err(reason) => done.left.push((path, reason.to_owned())),
        }
    }
    Ok(done)
}

/// The paths of the modules that own parameters, by the addresses of these.
fn owners(root: &dyn ModuleTree) -> HashMap<usize, String> {
    let mut owners = HashMap::new();
    for (path, module) in named_modules(root) {
        module.visit_children(&mut |_, part| {
            if let Child::Param(param) = part {
                owners.insert(param.address(), path.clone());
            }
        });
    }
    owners
}

/// Weight and bias of a layer into whose weights a batch norm fits.
fn product(module: &mut dyn Any) -> Option<(&mut Param, &mut Option<Param>)> {
    if module.is::<Conv2d>() {
        return module.downcast_mut::<Conv2d>().map(|conv| (&mut conv.weight, &mut conv.bias));
    }
    if module.is::<Conv1d>() {
        return module.downcast_mut::<Conv1d>().map(|conv| (&mut conv.weight, &mut conv.bias));
    }
    // What an adapter adds would have to be scaled as well.
    let linear = module.downcast_mut::<Linear>().filter(|linear| !linear.is_adapted());
    linear.map(|linear| (&mut linear.weight, &mut linear.bias))
}

/// Output `k` becomes `scale[k] y + shift[k]`.
fn into_weights(weight: &mut Param, bias: &mut Option<Param>, scale: &[f64], shift: &[f64]) {
    for (mut row, scale) in weight.value.outer_iter_mut().zip(scale) {
        row.mapv_inplace(|w| (f64::from(w) * scale) as Elem);
    }
    let old = |k: usize| bias.as_ref().and_then(|b| b.value.get(k)).map_or(0.0, |b| f64::from(*b));
    let channels = scale.iter().zip(shift).enumerate();
    let new: Vec<Elem> = channels.map(|(k, (scale, shift))| (old(k) * scale + shift) as Elem).collect();
    let mut new = Param::new(tensor(&[new.len()], new));
    new.trainable = weight.trainable;
    *bias = Some(new);
}
