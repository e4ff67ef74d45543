//! The optimizer's contract, and the per-parameter state that all of them keep the same way.

use std::any::Any;

use ndarray::ArrayD;

use super::Group;
use crate::base::{BoxError, Elem, Record, Result};
use crate::params::Params;

crate::registry!(dyn Optimizer, "optimizer");

/// Moves parameters along their gradients.
pub trait Optimizer: Any + Send {
    /// The name by which a checkpoint knows whose state it holds: as registered. That of the type unless overridden.
    fn name(&self) -> &'static str {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path)
    }

    /// The group that all parameters start in.
    fn defaults(&self) -> Group;

    /// One update of every trained parameter that has a gradient.
    ///
    /// # Errors
    /// When the model's parameters changed their names or shapes since the last step.
    fn step(&mut self, params: &mut dyn Params, group: &Group) -> Result<()>;

    /// Everything that the next step depends on, by parameter name.
    ///
    /// # Errors
    /// When the state cannot be written.
    fn save_state(&self) -> Result<Record, BoxError>;

    /// Takes back what [`save_state`](Optimizer::save_state) gave.
    ///
    /// # Errors
    /// When the record is of another optimizer.
    fn load_state(&mut self, state: Record) -> Result<(), BoxError>;
}

/// One tensor of state for each parameter (a momentum buffer, say), matched by name, never by position.
#[derive(Debug, Default)]
pub struct Slots {
    tensors: Vec<(String, ArrayD<Elem>)>,
}

impl Slots {
    /// The tensor of the `index`-th parameter of a visit, and whether it is new (zeros). The order of visits is stable,
    /// so this looks at one entry; a name that stands elsewhere (after a load) is moved here.
    pub fn at(&mut self, index: usize, name: &str, shape: &[usize]) -> (&mut ArrayD<Elem>, bool) {
        let stands_here = self.tensors.get(index).is_some_and(|(n, _)| n == name);
        let mut is_new = false;
        if !stands_here {
            let found = self.tensors.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
                is_new = true;
                self.tensors.push((name.to_owned(), ArrayD::zeros(shape)));
                self.tensors.len() - 1
            });
            self.tensors.swap(index, found);
        }
        (&mut self.tensors[index].1, is_new)
    }

    /// Adds all tensors to a record as `<prefix>.<name>`.
    pub fn save(&self, prefix: &str, mut record: Record) -> Record {
        for (name, tensor) in &self.tensors {
            record = record.with(format!("{prefix}.{name}"), tensor.clone());
        }
        record
    }

    /// Takes the tensors called `<prefix>.<name>` out of a record.
    pub fn load(prefix: &str, record: &Record) -> Self {
        let own = |(name, tensor): (&String, &ArrayD<Elem>)| {
            let name = name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((name.to_owned(), tensor.clone()))
        };
        Self { tensors: record.tensors.iter().filter_map(own).collect() }
    }

    /// Names that have state.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(n, _)| n.as_str())
    }
}
