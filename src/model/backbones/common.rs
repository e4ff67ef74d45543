//! What the backbones share: chains of named parts, an MLP, and what `frozen_stages`, `norm_eval` and `out_indices` do.

use crate::base::{Error, Result, Tensor};
use crate::config::OneOrMany;
use crate::module;
use crate::nn::init::{Constant, Init};
use crate::nn::{
    Child, ChildMut, Conv2d, ConvModule, Dropout, Forward, Linear, Module, ModuleTree, PadMode, Param, ReLU,
    Sequential, Var, set_norm_eval, set_trainable,
};

/// Modules one behind the other, each under a name of its own: `conv1`, `layer1`, …
#[derive(Default)]
pub(super) struct Chain(Vec<(String, Box<dyn Module>)>);

impl Chain {
    /// The same with one more module at the end.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, module: impl Module) -> Self {
        self.0.push((name.into(), Box::new(module)));
        self
    }

    /// The same with those of another chain at the end.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Calls `f` with each block of this type, in this chain and those that it holds.
    pub fn each_mut<B: Module>(&mut self, f: &mut impl FnMut(&mut B)) {
        for (_, module) in &mut self.0 {
            let module: &mut dyn std::any::Any = &mut **module;
            if let Some(block) = module.downcast_mut::<B>() {
                f(block);
            } else if let Some(inner) = module.downcast_mut::<Self>() {
                inner.each_mut(f);
            }
        }
    }
}

impl ModuleTree for Chain {
    fn type_name(&self) -> &'static str {
        "Sequential"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        self.0.iter().for_each(|(name, module)| f(name, Child::Module(module)));
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        self.0.iter_mut().for_each(|(name, module)| f(name, ChildMut::Module(module)));
    }
}

impl Module for Chain {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.0.iter_mut().try_fold(x, |x, (name, module)| cx.child(&*name, module, x))
    }
}

/// `frozen_stages` and `norm_eval` of a backbone: freezes the first `frozen` of `stages`, each a list of parts.
pub(super) fn freeze(
    net: &mut dyn ModuleTree,
    stages: &[Vec<String>],
    frozen: i64,
    norm_eval: bool,
) -> Result<()> {
    if frozen >= stages.len() as i64 {
        let last = stages.len() - 1;
        return Err(Error::config(format!("`frozen_stages: {frozen}`, but there are {last} stages")));
    }
    set_norm_eval(net, norm_eval);
    let count = usize::try_from(frozen.saturating_add(1)).unwrap_or(0);
    stages.iter().take(count).flatten().try_for_each(|part| set_trainable(net, part, false))
}

/// `out_indices` of a network whose output is that of its last stage alone.
pub(super) fn last_stage() -> OneOrMany<i64> {
    OneOrMany(vec![-1])
}

/// Refuses `out_indices` that name another one of so many stages than the last.
pub(super) fn last_only(out_indices: &[i64], stages: usize) -> Result<()> {
    match out_indices {
        [at] if *at == -1 || usize::try_from(*at).is_ok_and(|at| at == stages.saturating_sub(1)) => Ok(()),
        _ => Err(Error::config(format!(
            "`out_indices: {out_indices:?}`, but the output is that of the last of {stages} stages: -1, or leave it out"
        ))),
    }
}

/// Refuses heads that do not divide the features.
pub(super) fn divided(features: usize, heads: usize) -> Result<()> {
    match features.checked_rem(heads) {
        Some(0) => Ok(()),
        _ => Err(Error::config(format!("{heads} heads do not divide {features} features"))),
    }
}

/// The rule by which the factors of the norm at this path begin as 0, so that a block begins as its shortcut.
pub(super) fn begins_at_zero(norm: &str) -> Vec<Init> {
    vec![Init::new(Constant { val: 0.0 }).override_all(norm)]
}

/// Two linear layers with GELU between them, over the last axis: MMPretrain's `fc1` and `fc2`.
pub(super) struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

module!(Mlp { fc1, fc2 });

impl Mlp {
    /// From `dims` to `inner` and on to `out`.
    pub fn new(dims: usize, inner: usize, out: usize) -> Self {
        Self { fc1: Linear::new(dims, inner), fc2: Linear::new(inner, out) }
    }
}

impl Module for Mlp {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("fc1", &mut self.fc1, x)?.gelu();
        cx.child("fc2", &mut self.fc2, x)
    }
}

/// Patches of `size` × `size` at each `step`th place of images [N, C, H, W] with `pad` zeros around them, as tokens [N, P, C
/// size²] whose features are C groups of size × size (PyTorch's `unfold`), and how many there are along both axes.
pub(super) fn unfold(x: Var<'_>, [size, step, pad]: [usize; 3]) -> Result<(Var<'_>, [usize; 2])> {
    let shape = x.checked()?.shape();
    let &[n, c, h, w] = &shape[..] else {
        return Err(Error::invalid(format!("images [N, C, H, W] wanted, got an input of shape {shape:?}")));
    };
    let [h, w] = [h, w].map(|side| side + 2 * pad);
    if h < size || w < size || step == 0 {
        return Err(Error::invalid(format!("an input of shape {shape:?} has no patch of {size} × {size}")));
    }
    let [rows, columns] = [h, w].map(|side| (side - size) / step + 1);
    let starts = (0..rows).flat_map(|row| (0..columns).map(move |column| row * step * w + column * step));
    let inside = || (0..size).flat_map(|row| (0..size).map(move |column| row * w + column));
    let places: Vec<i64> = starts.flat_map(|start| inside().map(move |at| (start + at) as i64)).collect();
    let padded = x.pad(&[pad as isize; 4], PadMode::Constant(0.0)).reshape(&[n, c, h * w]);
    let patches = padded.index_select(2, &places).reshape(&[n, c, rows * columns, size * size]);
    let tokens = patches.permute(&[0, 2, 1, 3]).reshape(&[n, rows * columns, c * size * size]);
    Ok((tokens.checked()?, [rows, columns]))
}

/// The tokens [N, H W, C] of a map, and its size beside them: that of a tensor without values. What a block is handed that
/// wants to know both, so that all of it goes the way of its inputs.
pub(super) fn on_map(x: Var<'_>, [h, w]: [usize; 2]) -> [Var<'_>; 2] {
    [x, x.tape().input(Tensor::zeros(vec![h, w, 0]))]
}

/// The same where it arrives.
pub(super) fn of_map<'t>(xs: &[Var<'t>]) -> Result<(Var<'t>, [usize; 2])> {
    match xs {
        [x, size] if size.shape().len() == 3 => Ok((*x, [0, 1].map(|axis| size.shape()[axis]))),
        _ => Err(Error::invalid("a block of a map wants its tokens and its size")),
    }
}

/// Rates of stochastic depth that grow from 0 at the first of `blocks` to `most` at the last.
pub(super) fn drop_path_rates(most: f64, blocks: usize) -> impl Iterator<Item = f64> {
    (0..blocks).map(move |i| most * i as f64 / (blocks.max(2) - 1) as f64)
}

pub(super) fn three() -> usize {
    3
}

pub(super) fn one() -> f64 {
    1.0
}

pub(super) fn none_frozen() -> i64 {
    -1
}

/// Linear layers with ReLU and dropout, of these sizes and then so many classes: that of AlexNet drops out before each
/// hidden layer, that of VGG behind it. None of -1 classes.
pub(super) fn classifier(classes: i64, sizes: &[usize], before: bool) -> Result<Option<Sequential>> {
    let classes = match usize::try_from(classes) {
        Ok(0) => {
            let text =
                "`num_classes` is 0: give the number of the classes, or leave it out where a head follows";
            return Err(Error::config(text));
        }
        Ok(classes) => classes,
        Err(_) => return Ok(None),
    };
    let mut layers = Sequential::new();
    for pair in sizes.windows(2) {
        let (linear, drop) = (Linear::new(pair[0], pair[1]), Dropout::new(0.5));
        layers = match before {
            true => layers.with(drop).with(linear).with(ReLU::new()),
            false => layers.with(linear).with(ReLU::new()).with(drop),
        };
    }
    Ok(sizes.last().map(|last| layers.with(Linear::new(*last, classes))))
}

/// The features, or what the classifier makes of them, which wants `size` of them.
pub(super) fn classify<'t>(
    name: &str,
    classifier: Option<&mut Sequential>,
    features: Var<'t>,
    size: usize,
    cx: &mut Forward<'_>,
) -> Result<Var<'t>> {
    let Some(classifier) = classifier else { return Ok(features) };
    let flat = features.flatten(1, -1).checked()?;
    if flat.shape()[1] != size {
        let shape = features.shape();
        return Err(Error::invalid(format!(
            "the classifier of {name} wants images of 224 × 224, which have {size} features, not a map of shape {shape:?}: \
             resize the images, or leave out `num_classes` and take a head"
        )));
    }
    cx.child("classifier", classifier, flat)
}

/// Refuses sizes that no network has, which a program may give: those of a config have their limits in its schema.
pub(super) fn bounded(key: &str, sizes: &[usize], most: usize) -> Result<()> {
    match sizes.iter().find(|size| !(1..=most).contains(*size)) {
        Some(size) => Err(Error::config(format!("`{key}` is from 1 to {most}, not {size}"))),
        None => Ok(()),
    }
}

/// Each channel of a map times its own number.
pub(super) fn scaled<'t>(scale: &Param, x: Var<'t>) -> Var<'t> {
    x.tape().param(scale).reshape(&[scale.value.len(), 1, 1]) * x
}

/// A convolution of each channel alone that keeps the size. Made at once: the weights of one without groups, which it would
/// be first, may be more than a machine has.
pub(super) fn depthwise(channels: usize, kernel: usize) -> Result<Conv2d> {
    Ok(ConvModule::of(channels, channels, kernel).groups(channels).norm(None).build()?.conv)
}
