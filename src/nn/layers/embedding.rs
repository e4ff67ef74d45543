//! Vectors for numbers: a table whose rows are trained.

use ndarray::{ArrayViewMutD, Axis};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Rng};
use crate::kernels::{embedding, embedding_backward};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::init::{Fans, Initializer, Normal};
use crate::nn::{Forward, Module, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of an [`Embedding`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct EmbeddingConfig {
    /// Rows of the table: the numbers that go in are less.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub num_embeddings: usize,
    /// Size of a row.
    #[schemars(range(min = 1))]
    pub embedding_dim: usize,
    /// The number of what only fills up; counted from the end if negative. Its row begins as zeros, unless an `init_cfg` fills the table, and is not trained.
    #[serde(default)]
    #[schemars(range(min = -16_777_216, max = 16_777_215))]
    pub padding_idx: Option<i64>,
}

impl EmbeddingConfig {
    /// The layer.
    ///
    /// # Errors
    /// When there is no row of the number `padding_idx`.
    pub fn build(&self) -> Result<Embedding> {
        let (rows, layer) = (self.num_embeddings, Embedding::new(self.num_embeddings, self.embedding_dim));
        let Some(at) = self.padding_idx else { return Ok(layer) };
        let counted = if at < 0 { at.saturating_add_unsigned(rows as u64) } else { at };
        match usize::try_from(counted).ok().filter(|at| *at < rows) {
            Some(at) => Ok(layer.padding_idx(at)),
            None => Err(Error::config(format!("`padding_idx: {at}` is no row of {rows} embeddings"))),
        }
    }
}

/// Row `x` of a table for each whole number x: [..] to [.., D]. The rows begin from N(0, 1).
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{BufferPool, Embedding, Forward, Module, Tape};
///
/// let mut embedding = Embedding::new(3, 2);
/// embedding.weight.value = Tensor::from_shape_vec(vec![3, 2], vec![0.0, 1.0, 10.0, 11.0, 20.0, 21.0]).unwrap();
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2], vec![2.0, 0.0]).unwrap());
/// let y = embedding.forward(x, &mut Forward::new(true, &mut keyed(0, "example", 0, 0)))?.value();
/// assert_eq!(y.as_slice().unwrap(), [20.0, 21.0, 0.0, 1.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Embedding {
    /// [rows, D].
    pub weight: Param,
    padding: Option<usize>,
}

module!(Embedding { weight });

impl Embedding {
    /// A table of so many rows of this size.
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> Self {
        let weight = Param::init(&[num_embeddings, embedding_dim], Rows { padding: None });
        Self { weight, padding: None }
    }

    /// The number of what only fills up: its row begins as zeros and is not trained.
    #[must_use]
    pub fn padding_idx(self, at: usize) -> Self {
        let padding = Some(at);
        Self { weight: Param::init(self.weight.value.shape(), Rows { padding }), padding }
    }

    fn from_config(p: EmbeddingConfig, _: &mut BuildCx) -> Result<Self> {
        p.build()
    }
}

impl Module for Embedding {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        x.embedding(x.tape().param(&self.weight), self.padding).checked()
    }
}

register! { /// A trained vector for each whole number: [..] to [.., embedding_dim].
dyn Module, "Embedding" => fn Embedding::from_config }

/// N(0, 1), and zeros for what fills up.
#[derive(Debug, Clone, Copy)]
struct Rows {
    padding: Option<usize>,
}

impl Initializer for Rows {
    fn describe(&self) -> String {
        let padding = self.padding.map(|at| format!(", row {at} zero")).unwrap_or_default();
        format!("PyTorch's default: normal of mean 0 and std 1{padding}")
    }

    fn fill(&self, values: &mut ArrayViewMutD<'_, Elem>, fans: Option<Fans>, rng: &mut Rng) -> Result<()> {
        Normal::default().fill(values, fans, rng)?;
        if let Some(at) = self.padding.filter(|at| values.shape().first().is_some_and(|rows| at < rows)) {
            values.index_axis_mut(Axis(0), at).fill(0.0);
        }
        Ok(())
    }
}

impl<'t> Var<'t> {
    /// Row `x` of `weight` [rows, D] for each whole number x: [..] to [.., D]. The row `padding` gets no gradient.
    pub fn embedding(self, weight: Self, padding: Option<usize>) -> Self {
        self.attempt(|| self.try_embedding(weight, padding))
    }

    fn try_embedding(self, weight: Self, padding: Option<usize>) -> Result<Self> {
        let (x, w) = (self.value(), weight.value());
        let &[rows, width] = w.shape() else {
            return Err(Error::invalid(format!("embeddings have two axes, not shape {:?}", w.shape())));
        };
        let number = |(at, x): (usize, &Elem)| {
            let fits = *x >= 0.0 && x.fract() == 0.0 && (*x as usize) < rows;
            if fits { Ok(*x as u32) } else { Err(no_row(*x, at, rows, self)) }
        };
        let index = slice(&x).iter().enumerate().map(number).collect::<Result<Vec<u32>>>()?;
        let shape: Vec<usize> = x.shape().iter().copied().chain([width]).collect();
        let mut y = self.tape.take(index.len() * width);
        embedding(width, &index, slice(&w), &mut y);
        Ok(self.tape.node("embedding", tensor(&shape, y), &[weight], move |dy, grads| {
            let mut dw = grads.pool.take(rows * width);
            embedding_backward(width, &index, &dy, padding, &mut dw);
            grads.pool.give(dy);
            grads.add(0, dw);
        }))
    }
}

/// What is wrong with element `at` of the numbers, with its place.
fn no_row(x: Elem, mut at: usize, rows: usize, numbers: Var<'_>) -> Error {
    let mut place: Vec<usize> = Vec::new();
    for size in numbers.shape().iter().rev() {
        place.push(at % size);
        at /= size;
    }
    place.reverse();
    let last = rows.saturating_sub(1);
    Error::invalid(match x.fract() == 0.0 {
        true => format!("{x} at {place:?} is none of {rows} embeddings, which are numbered from 0 to {last}"),
        false => format!("{x} at {place:?} is no whole number: embeddings are numbered from 0 to {last}"),
    })
}
