//! How far a check goes: what would take long, or much memory, is tried by its shapes alone.

use std::sync::Arc;

use super::RunnerBuilder;
use super::stand_in::StandInData;
use crate::base::memory::human;
use crate::base::{Result, caught, shapes_only};
use crate::comm::Comm;
use crate::config::{Diag, Node};
use crate::data::{Batch, DataLoader, TargetScales};
use crate::kernels::Precision;
use crate::model::{FieldNeeds, Model, Outputs, StepCx};
use crate::nn::{FusedWeights, Traced, Work};

/// Bytes of weights above which none are drawn: with gradients and what an optimizer keeps there are four times as many.
const MOST_WEIGHTS: u64 = 1 << 28;
/// Multiply-adds of a batch of a few samples above which nothing is computed: a step of so many takes a second or two
/// where nothing is optimised, and a check makes several.
const MOST_WORK: u64 = 4_000_000_000;
/// The same of the numbers that products give, which are kept until the way back.
const MOST_ACTIVATIONS: u64 = 1 << 26;

/// What is tried of a run.
pub(super) struct Extent {
    /// Whether the weights are left at the zeros that the model was built of, and none is updated.
    pub undrawn: bool,
    /// Whether only shapes count.
    pub shapes_only: bool,
    /// Whether there are samples on which to try anything.
    tried: bool,
    /// What is not tried for its size.
    why: Option<String>,
}

impl Extent {
    /// Finds out what a step would take by going through it without arithmetic.
    pub fn of(builder: &mut RunnerBuilder, stand_ins: &[StandInData], weight_bytes: u64) -> Self {
        let RunnerBuilder { model, train_data, val, test, .. } = builder;
        let evaluated = [val, test].into_iter().flatten().map(|evaluation| &evaluation.data);
        let loaders = train_data.iter().chain(evaluated).chain(stand_ins.iter().map(|part| &part.data));
        let work: Vec<_> = model
            .as_mut()
            .map_or(Vec::new(), |model| loaders.filter_map(|data| work(&mut **model, data)).collect());
        // A step that fails is about to fail again.
        let fails = work.iter().any(Option::is_none);
        let most = |of: fn(&Work) -> u64| work.iter().flatten().map(of).max().unwrap_or(0);
        let (sums, numbers) = (most(|work| work.multiply_adds), most(|work| work.activations));
        let undrawn = weight_bytes > MOST_WEIGHTS;
        let why = if undrawn {
            let (has, most) = (human(weight_bytes as f64), human(MOST_WEIGHTS as f64));
            Some(format!(
                "the model asks for {has}, and the weights of one of more than {most} are not drawn"
            ))
        } else if sums > MOST_WORK || numbers > MOST_ACTIVATIONS {
            let giga = |n: u64| n as f64 / 1e9;
            let (sums, numbers) = (giga(sums), human(4.0 * numbers as f64));
            Some(format!(
                "a few samples take {sums:.1} G multiply-adds and {numbers} of activations, and no more than {:.0} G and {} \
                 are computed",
                giga(MOST_WORK),
                human(4.0 * MOST_ACTIVATIONS as f64)
            ))
        } else {
            None
        };
        Self { undrawn, shapes_only: fails || why.is_some(), tried: !work.is_empty(), why }
    }

    /// What is to be said of it.
    pub fn diag(&self) -> Option<Diag> {
        let what = match self.tried {
            false => "neither the layers nor the first iteration were tried",
            true => "the layers were tried by their shapes alone, their numbers not",
        };
        self.why.as_ref().map(|why| Diag::warning(format!("{what}: {why}")))
    }
}

/// What the first samples of a loader take; nothing where they cannot be read, which the check is about to find.
///
/// The inner value is none where they do not fit the model.
fn work(model: &mut dyn Model, data: &DataLoader) -> Option<Option<Work>> {
    let batch = data.preview(0).ok()??;
    let traced = shapes_only(true, || caught(|| Ok(model.trace(&batch)?)));
    Some(traced.ok().map(|modules| modules.first().map_or(Work::default(), |whole| whole.work)))
}

/// The same model, whose initial weights are not drawn where nothing but a file could refuse them: what is not written
/// takes no memory.
pub(super) fn undrawn(model: Box<dyn Model>, described: &Node) -> Box<dyn Model> {
    if begins_with_a_file(described) { model } else { Box::new(Undrawn { inner: model }) }
}

/// Whether an `init_cfg` or a `pretrained` of the model names a file, which only the drawing opens.
fn begins_with_a_file(model: &Node) -> bool {
    let named = |path: &str| matches!(path.rsplit('.').next(), Some("checkpoint" | "pretrained"));
    model.leaves().iter().any(|(path, value)| named(path) && !value.is_null())
}

/// A model of zeros.
struct Undrawn {
    inner: Box<dyn Model>,
}

crate::forward_params!(Undrawn, inner);

/// Zeros may divide by zero where drawn weights would not: that says nothing of the run.
fn finite(mut outputs: Outputs) -> Result<Outputs> {
    outputs.settle()?;
    outputs.vars.iter_mut().filter(|(_, value)| !value.is_finite()).for_each(|(_, value)| *value = 0.0);
    Ok(outputs)
}

impl Model for Undrawn {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.inner.train_step(batch, cx).and_then(finite)
    }
    fn turns(&self) -> &'static [&'static str] {
        self.inner.turns()
    }
    fn train_turn(&mut self, optimizer: &str, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.inner.train_turn(optimizer, batch, cx).and_then(finite)
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        self.inner.eval_step(batch).and_then(finite)
    }
    fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn beside(&mut self, comm: Arc<dyn Comm>) {
        self.inner.beside(comm);
    }
    fn meets_in_steps(&self) -> bool {
        self.inner.meets_in_steps()
    }
    fn sync_batchnorm(&mut self) -> usize {
        self.inner.sync_batchnorm()
    }
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn computes_in(&self, precision: Precision) -> bool {
        self.inner.computes_in(precision)
    }
    fn fuse(&mut self, fuses: bool) -> bool {
        self.inner.fuse(fuses)
    }
    fn fuse_conv_bn(&mut self, batch: &Batch) -> Result<FusedWeights> {
        self.inner.fuse_conv_bn(batch)
    }
    fn take_fused_form(&mut self, has: &dyn Fn(&str) -> bool) -> Result<usize> {
        self.inner.take_fused_form(has)
    }
    fn tied(&self) -> Vec<(String, String)> {
        self.inner.tied()
    }
    fn reads(&self) -> FieldNeeds {
        self.inner.reads()
    }
    fn standardize(&mut self, scales: &TargetScales) -> Result<()> {
        self.inner.standardize(scales)
    }
    fn trace(&mut self, batch: &Batch) -> Result<Vec<Traced>> {
        self.inner.trace(batch)
    }
    fn checkpoint_activations(&mut self, module: &str) -> Result<()> {
        self.inner.checkpoint_activations(module)
    }
    fn buffer_bytes(&mut self) -> Option<usize> {
        self.inner.buffer_bytes()
    }
    fn set_trainable(&mut self, module: &str, trainable: bool) -> Result<()> {
        self.inner.set_trainable(module, trainable)
    }
    fn number_mut(&mut self, module: &str, name: &str) -> Option<&mut f64> {
        self.inner.number_mut(module, name)
    }
}
