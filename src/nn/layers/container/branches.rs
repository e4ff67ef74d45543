//! Modules side by side.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ModuleDict, ModuleSpecs};
use crate::base::{Error, Result};
use crate::nn::{Forward, Module, Tape, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// Branches that all get the same input, or inputs; what they give is joined along an axis. A branch that is an
/// [`Identity`](crate::nn::Identity) is a skip connection that keeps its channels apart, as those of DenseNet (Huang et
/// al. 2016) and of a U-Net (Ronneberger et al. 2015).
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Concat, Forward, Identity, Module, ReLU, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![-3.0, 4.0]).unwrap());
/// let mut both = Concat::new().with(Identity::new()).with(ReLU::new());
/// let y = both.forward(x, &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?;
/// assert_eq!(y.value().as_slice().unwrap(), [-3.0, 4.0, 0.0, 4.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct Concat {
    branches: ModuleDict,
    axis: isize,
}

module!(Concat { ..branches });

impl Default for Concat {
    fn default() -> Self {
        Self { branches: ModuleDict::new(), axis: 1 }
    }
}

impl Concat {
    /// No branch yet, and what they give joined along axis 1, that of channels.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a further branch, whose name is its number.
    #[must_use]
    pub fn with(mut self, branch: impl Module) -> Self {
        self.branches.push(Box::new(branch));
        self
    }

    /// The same with a further branch of this name.
    #[must_use]
    pub fn branch(self, name: &str, branch: impl Module) -> Self {
        Self { branches: self.branches.with(name, branch), ..self }
    }

    /// The same joined along another axis; negative numbers count from the end.
    #[must_use]
    pub fn axis(self, axis: isize) -> Self {
        Self { axis, ..self }
    }
}

impl Module for Concat {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ys = self.branches.iter_mut().map(|(name, branch)| cx.child_all(name, branch, xs));
        let ys = ys.collect::<Result<Vec<_>>>()?;
        Join::Concat.of(&ys, self.axis)
    }

    fn takes_several(&self) -> bool {
        self.branches.iter().any(|(_, branch)| branch.takes_several())
    }
}

/// A branch for each of several inputs; what they give is joined. A network that begins with it gets the fields of
/// `inputs` one by one, so that they may have different shapes.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Flatten, Forward, Identity, Module, Parallel, Tape};
///
/// let tape = Tape::new(BufferPool::default());
/// let image = tape.input(Tensor::from_elem(vec![1, 1, 2, 2], 7.0));
/// let table = tape.input(Tensor::from_elem(vec![1, 3], 5.0));
/// let mut both = Parallel::new().branch("image", Flatten::new()).branch("table", Identity::new());
/// let y = both.forward_all(&[image, table], &mut Forward::new(true, &mut keyed(0, "", 0, 0)))?;
/// assert_eq!(y.value().as_slice().unwrap(), [7.0, 7.0, 7.0, 7.0, 5.0, 5.0, 5.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct Parallel {
    branches: ModuleDict,
    into: Option<Box<dyn Module>>,
    join: Join,
    axis: isize,
}

module!(Parallel { into, ..branches });

impl Default for Parallel {
    fn default() -> Self {
        Self { branches: ModuleDict::new(), into: None, join: Join::Concat, axis: 1 }
    }
}

impl Parallel {
    /// No branch yet, and what they give joined along axis 1, that of channels.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a branch for the next input, whose name is its number.
    #[must_use]
    pub fn with(mut self, branch: impl Module) -> Self {
        self.branches.push(Box::new(branch));
        self
    }

    /// The same with a branch of this name for the next input.
    #[must_use]
    pub fn branch(self, name: &str, branch: impl Module) -> Self {
        Self { branches: self.branches.with(name, branch), ..self }
    }

    /// The same joined in another way.
    #[must_use]
    pub fn join(self, join: Join) -> Self {
        Self { join, ..self }
    }

    /// The same with a module that takes what the branches give as its inputs, instead of the join.
    #[must_use]
    pub fn into_module(self, into: impl Module) -> Self {
        Self { into: Some(Box::new(into)), ..self }
    }

    /// The same concatenated along another axis; negative numbers count from the end.
    #[must_use]
    pub fn axis(self, axis: isize) -> Self {
        Self { axis, ..self }
    }
}

impl Module for Parallel {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if xs.len() != self.branches.len() {
            let names: Vec<_> = self.branches.names().collect();
            return Err(Error::invalid(format!(
                "`Parallel` has a branch for each of {} inputs ({}), and gets {}; `Concat` gives one input to several \
                 branches",
                names.len(),
                names.join(", "),
                xs.len()
            )));
        }
        let ys = self.branches.iter_mut().zip(xs).map(|((name, branch), x)| cx.child(name, branch, *x));
        let ys = ys.collect::<Result<Vec<_>>>()?;
        match &mut self.into {
            Some(into) => cx.child_all("into", into, &ys),
            None => self.join.of(&ys, self.axis),
        }
    }

    fn takes_several(&self) -> bool {
        true
    }
}

/// What becomes of the outputs of several branches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// One behind the other along an axis.
    #[default]
    Concat,
    /// Added up.
    Sum,
    /// Multiplied.
    Mul,
}

impl Join {
    fn of<'t>(self, ys: &[Var<'t>], axis: isize) -> Result<Var<'t>> {
        let Some((first, others)) = ys.split_first() else {
            return Err(Error::invalid("it has no branches"));
        };
        // Of other numbers of axes, one batch would be spread over the other.
        let (axes, n) = (first.shape().len(), first.shape().first().copied());
        let alike = |y: &&Var<'t>| y.shape().len() == axes && y.shape().first().copied() == n;
        if let Some(other) = others.iter().find(|y| self != Self::Concat && !alike(y)) {
            return Err(Error::invalid(format!(
                "branches of shapes {:?} and {:?} are not added or multiplied: give them as many axes, and the same samples",
                first.shape(),
                other.shape()
            )));
        }
        let more = || others.iter().copied();
        match self {
            Self::Concat => Tape::concat(first.tape(), ys, axis),
            Self::Sum => more().fold(*first, |sum, y| sum + y),
            Self::Mul => more().fold(*first, |product, y| product * y),
        }
        .checked()
    }
}

/// The keys of a [`Concat`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ConcatConfig {
    /// The branches, a list or by name. All get what the module gets.
    pub branches: ModuleSpecs,
    /// The axis along which their outputs stand one behind the other; negative numbers count from the end.
    #[serde(default = "channels")]
    #[schemars(extend("x-unbounded" = true))]
    pub axis: isize,
}

fn channels() -> isize {
    1
}

register! { /// Branches on the same input; their outputs stand one behind the other.
dyn Module, "Concat" => fn Concat::from_config }

impl Concat {
    fn from_config(p: ConcatConfig, cx: &mut BuildCx) -> Result<Self> {
        Ok(Self { branches: p.branches.build_some("branches", cx)?, axis: p.axis })
    }
}

/// The keys of a [`Parallel`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ParallelConfig {
    /// The branches, a list or by name, in the order of the inputs.
    pub branches: ModuleSpecs,
    /// What takes their outputs as its inputs, a decoder for example, instead of the join.
    pub into: Option<Spec<dyn Module>>,
    /// What becomes of their outputs: concat, sum or mul.
    #[serde(default)]
    pub join: Join,
    /// The axis along which `concat` puts them one behind the other; negative numbers count from the end.
    #[serde(default = "channels")]
    #[schemars(extend("x-unbounded" = true))]
    pub axis: isize,
}

register! { /// A branch for each of several inputs; their outputs are joined.
dyn Module, "Parallel" => fn Parallel::from_config }

impl Parallel {
    fn from_config(p: ParallelConfig, cx: &mut BuildCx) -> Result<Self> {
        let branches = p.branches.build_some("branches", cx)?;
        let into = p.into.map(|into| into.build(cx)).transpose()?;
        if into.is_some() && branches.names().any(|name| name == "into") {
            return Err(Error::config(
                "a branch has another name than `into`, which is that of what takes the branches",
            ));
        }
        if into.is_some() && (p.join, p.axis) != (Join::Concat, channels()) {
            return Err(Error::config(
                "`join` and `axis` are without effect where `into` takes what the branches give",
            ));
        }
        Ok(Self { branches, into, join: p.join, axis: p.axis })
    }
}
