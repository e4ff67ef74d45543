//! A replay bundle: everything that one training step needs, in a folder.

use std::path::Path;
use std::sync::Arc;

use super::finite::Finding;
use crate::base::durable;
use crate::base::error::IoContext;
use crate::base::fs::Disk;
use crate::checkpoint::{MODEL_FILE, read_tensors, write_tensors};
use crate::comm::Solo;
use crate::data::Column;
use crate::kernels::{Precision, with_precision};
use crate::optim::AmpDtype;
use crate::params::{StateDict, StateTensor};
use crate::plugin::prelude::*;

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
    /// That of mixed precision, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dtype: Option<AmpDtype>,
    ids: Vec<u64>,
    /// The columns of the batch in order, those of floats by name alone: their values stand in `batch.safetensors`.
    columns: Vec<(String, StoredColumn)>,
    /// How many samples count.
    valid: usize,
    /// The rank whose step it was.
    #[serde(default)]
    rank: usize,
    /// What was found.
    what: String,
    first: String,
}

/// A column of the batch. Integers and texts are kept as they are: a tensor would round them.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum StoredColumn {
    Float,
    Int { shape: Vec<usize>, values: Vec<i64> },
    Text(Vec<String>),
}

impl StoredColumn {
    fn of(name: &str, column: &Column) -> HookResult<Self> {
        Ok(match column {
            Column::Float(_) => Self::Float,
            Column::Int(v) => Self::Int { shape: v.shape().to_vec(), values: v.iter().copied().collect() },
            Column::Text(texts) => Self::Text(texts.clone()),
            Column::List(_) => {
                return Err(format!("`{name}` is a list of values, which no bundle can hold").into());
            }
        })
    }
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
    /// What its products were computed in.
    pub precision: Precision,
    /// The iteration, from 1.
    pub iter: u64,
    /// The rank whose step it was: its samples, and its noise.
    pub rank: usize,
    /// What was found in the run: `` `loss` became NaN ``, and the first bad tensor.
    pub found: (String, String),
}

/// Writes the step under way: its weights have not been updated yet.
pub(super) fn write(cx: &Ctx<'_>, step: &Step<'_>, found: &Finding, iter: u64, dir: &Path) -> HookResult {
    cx.fs.create_dir(dir).at(dir)?;
    let batch = &step.batch;
    let floats = batch.fields.iter().filter_map(|(name, column)| match column {
        Column::Float(value) => {
            Some((name.to_owned(), StateTensor { role: Role::Buffer, value: value.clone() }))
        }
        _ => None,
    });
    let tensors: Vec<_> = floats.collect();
    let columns = batch.fields.iter().map(|(name, c)| Ok((name.to_owned(), StoredColumn::of(name, c)?)));
    durable::replace(cx.fs, &dir.join(MODEL_FILE), &write_tensors(&StateDict::of(&**cx.model)?)?)?;
    durable::replace(cx.fs, &dir.join(BATCH_FILE), &write_tensors(&StateDict(tensors))?)?;
    let about = StepFile {
        config: cx.info.config.clone(),
        seed: cx.info.seed,
        iter,
        loss_scale: cx.optim.as_ref().map_or(1.0, |o| f64::from(o.loss_scale(batch.len()))),
        dtype: cx.optim.as_ref().and_then(|o| o.amp_dtype()),
        ids: batch.ids.clone(),
        columns: columns.collect::<HookResult<_>>()?,
        valid: batch.valid,
        rank: cx.comm.place().rank,
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
        let mut tensors = read_tensors(&dir.join(BATCH_FILE))?.0;
        let mut batch = Batch { ids: about.ids, valid: about.valid, ..Batch::default() };
        for (name, column) in about.columns {
            let damaged = |what: &str| Error::checkpoint(dir, format!("its column `{name}` {what}"));
            let column = match column {
                StoredColumn::Float => {
                    let at = tensors.iter().position(|(own, _)| *own == name);
                    Column::Float(tensors.swap_remove(at.ok_or_else(|| damaged("has no tensor"))?).1.value)
                }
                StoredColumn::Int { shape, values } => {
                    let array = ndarray::ArrayD::from_shape_vec(shape, values);
                    Column::Int(array.map_err(|_| damaged("has another number of values than its shape"))?)
                }
                StoredColumn::Text(texts) => Column::Text(texts),
            };
            if column.shape().first() != Some(&batch.len()) {
                return Err(damaged("has not one row a sample"));
            }
            batch.fields.set(name, column);
        }
        Ok(Self {
            config: about.config,
            weights: read_tensors(&dir.join(MODEL_FILE))?,
            batch,
            cx: StepCx {
                seed: about.seed,
                iter: about.iter.saturating_sub(1),
                loss_scale: about.loss_scale as Elem,
            },
            precision: about.dtype.unwrap_or(AmpDtype::Float32).precision(),
            iter: about.iter,
            rank: about.rank,
            found: (about.what, about.first),
        })
    }

    /// Takes the step again on a model built from the same config: what is wrong with it now, in the same words. Of a
    /// rank among several it is the step of that rank by itself: a SyncBatchNorm has the statistics of its samples.
    ///
    /// # Errors
    /// Weights that do not fit the model; the model's own failure.
    pub fn step(&mut self, model: &mut dyn Model) -> Result<Option<(String, String)>> {
        let report = self.weights.load_into(model)?;
        if !report.is_exact() || !report.resized.is_empty() {
            return Err(Error::invalid(format!("the bundle's weights do not fit the model: {report}")));
        }
        model.beside(Arc::new(Solo::in_place_of(self.rank)));
        let mut outputs = with_precision(self.precision, || model.train_step(&self.batch, &self.cx))?;
        outputs.settle()?;
        let loss = super::finite::bad_loss(&outputs);
        let bad = loss.is_some()
            || super::finite::bad_gradient(model)?.is_some()
            || super::finite::bad_values(model, &self.batch)?;
        let step = Step { batch: &mut self.batch, outputs: &mut outputs };
        let found = bad.then(|| super::finite::explain(model, &step, loss, &Solo::default())).transpose()?;
        Ok(found.map(|found| (found.what, found.first)))
    }
}
