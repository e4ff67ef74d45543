//! A replay bundle: everything that one training step needs, in a folder.

use std::path::Path;

use super::finite::Finding;
use crate::base::durable;
use crate::base::error::IoContext;
use crate::base::fs::Disk;
use crate::checkpoint::{MODEL_FILE, read_tensors, write_tensors};
use crate::params::{StateDict, StateTensor};
use crate::prelude::*;

const STEP_FILE: &str = "step.json";
/// Bytes: a config has at most 16 MiB, and a batch a number and a label for each sample.
const LARGEST_STEP: u64 = 256 << 20;
const BATCH_FILE: &str = "batch.safetensors";

/// `step.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StepFile {
    /// The resolved config.
    config: String,
    seed: u64,
    /// The iteration, from 1.
    iter: u64,
    loss_scale: f64,
    ids: Vec<u64>,
    labels: Vec<i64>,
    /// What was found.
    what: String,
    first: String,
}

/// A step that can be repeated.
pub struct Replay {
    /// The resolved config of the run, as YAML.
    pub config: String,
    /// The weights before the step.
    pub weights: StateDict,
    /// The batch.
    pub batch: Batch,
    /// Seed and iteration.
    pub cx: StepCx,
    /// The iteration, from 1.
    pub iter: u64,
    /// What was found in the run: `` `loss` became NaN ``, and the first bad tensor.
    pub found: (String, String),
}

/// Writes the step under way: its weights have not been updated yet.
pub(super) fn write(cx: &Ctx<'_>, step: &Step<'_>, found: &Finding, iter: u64, dir: &Path) -> HookResult {
    cx.fs.create_dir(dir).at(dir)?;
    let batch = &step.batch;
    let tensor = |value: &ndarray::ArrayD<Elem>| StateTensor { role: Role::Buffer, value: value.clone() };
    let mut tensors = vec![("inputs".to_owned(), tensor(&batch.inputs))];
    tensors.extend(batch.fields.iter().map(|(name, value)| (format!("field.{name}"), tensor(value))));
    durable::replace(cx.fs, &dir.join(MODEL_FILE), &write_tensors(&StateDict::of(&**cx.model)?)?)?;
    durable::replace(cx.fs, &dir.join(BATCH_FILE), &write_tensors(&StateDict(tensors))?)?;
    let about = StepFile {
        config: cx.info.config.clone(),
        seed: cx.info.seed,
        iter,
        loss_scale: cx.optim.as_ref().map_or(1.0, |o| f64::from(o.loss_scale(batch.len()))),
        ids: batch.ids.clone(),
        labels: batch.labels.clone(),
        what: found.what.clone(),
        first: found.first.clone(),
    };
    durable::replace(cx.fs, &dir.join(STEP_FILE), &serde_json::to_vec_pretty(&about)?)?;
    Ok(())
}

impl Replay {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a file is missing or damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let text = durable::read_plain(&Disk, &dir.join(STEP_FILE), LARGEST_STEP).map_err(|why| {
            let reason = format!(
                "it is no replay bundle: {why}; `CheckInvalidLossHook` writes them into the work_dir, as `replay_iter_12`"
            );
            Error::checkpoint(dir, reason)
        })?;
        let about: StepFile = serde_json::from_slice(&text)
            .map_err(|e| Error::checkpoint(dir.join(STEP_FILE), e.to_string()))?;
        let mut tensors = read_tensors(&dir.join(BATCH_FILE))?.0.into_iter();
        let (mut inputs, mut fields) = (None, Vec::new());
        for (name, tensor) in &mut tensors {
            match name.strip_prefix("field.") {
                Some(field) => fields.push((field.to_owned(), tensor.value)),
                None => inputs = Some(tensor.value),
            }
        }
        let inputs = inputs.ok_or_else(|| Error::checkpoint(dir.join(BATCH_FILE), "it has no `inputs`"))?;
        let batch = Batch { ids: about.ids, fields, ..Batch::new(inputs, about.labels) };
        Ok(Self {
            config: about.config,
            weights: read_tensors(&dir.join(MODEL_FILE))?,
            batch,
            cx: StepCx {
                seed: about.seed,
                iter: about.iter.saturating_sub(1),
                loss_scale: about.loss_scale as Elem,
            },
            iter: about.iter,
            found: (about.what, about.first),
        })
    }

    /// Takes the step again on a model built from the same config: what is wrong with it now, in the same words.
    ///
    /// # Errors
    /// Weights that do not fit the model; the model's own failure.
    pub fn step(&mut self, model: &mut dyn Model) -> Result<Option<(String, String)>> {
        let report = self.weights.load_into(model)?;
        if !report.is_exact() {
            return Err(Error::invalid(format!("the bundle's weights do not fit the model: {report}")));
        }
        let mut outputs = model.train_step(&self.batch, &self.cx)?;
        let loss = super::finite::bad_loss(&outputs);
        let bad = loss.is_some()
            || super::finite::bad_gradient(model)?.is_some()
            || super::finite::bad_values(model, &self.batch)?;
        let step = Step { batch: &mut self.batch, outputs: &mut outputs };
        let found = bad.then(|| super::finite::explain(model, &step, loss)).transpose()?;
        Ok(found.map(|found| (found.what, found.first)))
    }
}
