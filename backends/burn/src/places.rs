//! The tensors of a network of burn by their paths: what they are called in a checkpoint, and how they lie there.

use std::collections::HashSet;

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, Int, Tensor};
use shanty::base::memory;
use shanty::base::{Elem, Error, Result};
use shanty::ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, IxDyn};
use shanty::params::{Info, Role};

/// A tensor of a network, as PyTorch and shanty have it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub name: String,
    layer: String,
    role: Role,
    /// Its extents there; in burn they are the other way round where it is transposed.
    shape: Vec<usize>,
    /// burn keeps the weight of a linear map as [in, out].
    transposed: bool,
    pub frozen: bool,
    /// The first place of the same parameter.
    same_as: usize,
}

impl Place {
    /// What is known without its values.
    pub fn info(&self) -> Info<'_> {
        let Self { name, layer, role, shape, frozen, same_as, .. } = self;
        Info { name, layer, role: *role, shape, frozen: *frozen, storage: (*same_as, *same_as + 1) }
    }

    pub fn is_buffer(&self) -> bool {
        !self.role.is_trained()
    }

    fn extents(&self) -> IxDyn {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        IxDyn(&shape)
    }

    /// The elements as burn has them, seen as they are in a checkpoint.
    pub fn view<'d>(&self, data: &'d [Elem]) -> Result<ArrayViewD<'d, Elem>> {
        let view = ArrayViewD::from_shape(self.extents(), data).map_err(|_| self.misfit(data.len()))?;
        Ok(if self.transposed { view.reversed_axes() } else { view })
    }

    /// As [`view`](Self::view), to change.
    pub fn view_mut<'d>(&self, data: &'d mut [Elem]) -> Result<ArrayViewMutD<'d, Elem>> {
        let len = data.len();
        let view = ArrayViewMutD::from_shape(self.extents(), data).map_err(|_| self.misfit(len))?;
        Ok(if self.transposed { view.reversed_axes() } else { view })
    }

    /// The elements of a tensor of a checkpoint, as burn wants them.
    pub fn elements(&self, tensor: &ArrayD<Elem>) -> Result<Vec<Elem>> {
        if tensor.shape() != self.shape {
            return Err(self.misfit(tensor.len()));
        }
        let view = if self.transposed { tensor.view().reversed_axes() } else { tensor.view() };
        Ok(view.iter().copied().collect())
    }

    fn misfit(&self, len: usize) -> Error {
        let Self { name, shape, .. } = self;
        Error::invalid(format!(
            "`{name}` has the shape {shape:?}, and {len} numbers of another shape came for it"
        ))
    }
}

/// The name of a field as PyTorch has it, and whether its tensor lies the other way round.
fn as_in_torch<'f>(layer: &str, field: &'f str) -> (&'f str, bool) {
    match (layer, field) {
        ("Linear", "weight") => (field, true),
        (_, "gamma") if layer.ends_with("Norm") => ("weight", false),
        (_, "beta") if layer.ends_with("Norm") => ("bias", false),
        ("PRelu", "alpha") => ("weight", false),
        _ => (field, false),
    }
}

/// All tensors of a network, whose parameters get their values here if they had none, each drawn after `before` was
/// called with its path.
///
/// # Errors
/// A tensor that is not of floating-point numbers, has no element, or does not fit this machine.
pub(crate) fn places<M: Module>(net: &M, before: &dyn Fn(&str)) -> Result<Vec<Place>> {
    let mut sizes = Sizes::default();
    net.visit(&mut sizes);
    sizes.wrong.map_or(Ok(()), Err)?;
    let mut found = Finder { before: Some(before), ..Finder::default() };
    net.visit(&mut found);
    if let Some(name) = found.whole_numbers {
        return Err(Error::invalid(format!(
            "`{name}` is a parameter of whole numbers or truth values, which no checkpoint could hold: mark its field \
             with `#[module(skip)]` if it never changes"
        )));
    }
    // Frozen parameters and running statistics get no gradient; only parameters could be made to.
    let mut open = Finder::default();
    net.clone().set_require_grad(true).visit(&mut open);
    let mut places = found.places;
    for ((place, with_grad), could) in places.iter_mut().zip(found.with_grad).zip(open.with_grad) {
        place.frozen = could && !with_grad;
        place.role = match (could, place.name.rsplit('.').next()) {
            (false, _) => Role::Buffer,
            (true, Some("bias")) => Role::Bias,
            (true, _) => Role::Weight,
        };
    }
    Ok(places)
}

/// Looks at the shapes before anything is drawn: Rust ends the process where memory cannot be had.
#[derive(Default)]
struct Sizes {
    path: Vec<String>,
    wrong: Option<Error>,
}

impl ModuleVisitor for Sizes {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (name, shape) = (self.path.join("."), param.lazy_shape().to_vec());
        if self.wrong.is_none() {
            self.wrong = fits(&name, &shape).err();
        }
    }
}

fn fits(name: &str, shape: &[usize]) -> Result<()> {
    if shape.contains(&0) {
        return Err(Error::config(format!("`{name}` of shape {shape:?} has no element")));
    }
    memory::ask_by_name(name, shape)
}

#[derive(Default)]
struct Finder<'a> {
    before: Option<&'a dyn Fn(&str)>,
    path: Vec<String>,
    containers: Vec<String>,
    ids: Vec<ParamId>,
    places: Vec<Place>,
    with_grad: Vec<bool>,
    whole_numbers: Option<String>,
}

impl Finder<'_> {
    fn dotted(&self) -> String {
        self.path.join(".")
    }
}

impl ModuleVisitor for Finder<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container.rsplit(':').next().unwrap_or(container).to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(before) = self.before {
            before(&self.dotted());
        }
        let tensor = param.base();
        let layer = self.containers.last().cloned().unwrap_or_default();
        let mut path = self.path.clone();
        let mut transposed = false;
        if let Some(field) = path.last_mut() {
            let (own, turned) = as_in_torch(&layer, field);
            transposed = turned;
            *field = own.to_owned();
        }
        let mut shape = tensor.dims().to_vec();
        if transposed {
            shape.reverse();
        }
        let here = self.places.len();
        let same_as = self.ids.iter().position(|id| *id == param.id).unwrap_or(here);
        self.ids.push(param.id);
        self.with_grad.push(tensor.is_require_grad());
        let (name, role) = (path.join("."), Role::Buffer);
        self.places.push(Place { name, layer, role, shape, transposed, frozen: false, same_as });
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {
        self.whole_numbers.get_or_insert(self.path.join("."));
    }

    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {
        self.whole_numbers.get_or_insert(self.path.join("."));
    }
}

/// The values at some places, each as a row.
pub(crate) struct Taker<'a> {
    pub wanted: &'a [bool],
    pub at: usize,
    pub found: Vec<(usize, Tensor<1>)>,
}

impl ModuleVisitor for Taker<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.wanted[self.at] {
            self.found.push((self.at, row(param.base().inner())));
        }
        self.at += 1;
    }
}

/// Changes the values at some places, each as a row.
pub(crate) struct Editor<'a> {
    pub wanted: &'a [bool],
    pub at: usize,
    pub change: &'a mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>,
}

impl ModuleMapper for Editor<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let at = self.at;
        self.at += 1;
        if !self.wanted[at] {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let (shape, with_grad) = (tensor.shape(), tensor.is_require_grad());
        let changed = (self.change)(at, row(tensor.inner())).reshape(shape);
        Param::from_mapped_value(id, Tensor::from_inner(changed).set_require_grad(with_grad), mapper)
    }
}

/// Lets the parameters at some places get gradients or not, and the layers below a path train or not.
pub(crate) struct Thaw<'a> {
    pub wanted: &'a [bool],
    pub below: &'a str,
    pub trainable: bool,
    pub at: usize,
    pub path: Vec<String>,
}

impl ModuleMapper for Thaw<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.at += 1;
        if self.wanted[self.at - 1] { param.set_require_grad(self.trainable) } else { param }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        if is_below(&self.path.join("."), self.below) { flag.with_value(self.trainable) } else { flag }
    }
}

/// Whether a path is this module's or of a part of it.
pub(crate) fn is_below(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| module.is_empty() || rest.is_empty() || rest.starts_with('.'))
}

/// The modules that have a tensor somewhere below.
pub(crate) fn modules(places: &[Place]) -> HashSet<&str> {
    places.iter().flat_map(|place| place.name.match_indices('.').map(|(at, _)| &place.name[..at])).collect()
}

/// All elements in one row.
fn row<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len = tensor.shape().num_elements();
    tensor.reshape([len])
}
