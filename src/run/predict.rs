//! What a trained model says of new data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::ArrayD;

use super::assemble::{Purpose, assemble};
use super::config::EvalConfig;
use super::{RunConfig, Runner};
use crate::base::suggest::nearest;
use crate::base::{Elem, Error, Result};
use crate::config::Node;
use crate::data::{Batch, DataLoader, FieldKind, FieldSpec, Fields, Fitted, Shard, TARGET};
use crate::kernels::with_precision;
use crate::model::Outputs;
use crate::registry::{BuildCx, Collected};

/// A model with the weights of a checkpoint, which predicts. Nothing is written.
///
/// ```no_run
/// use shanty::data::Batch;
/// use shanty::run::Predictor;
/// let mut model = Predictor::load("configs/flowers.yaml", "work_dirs/flowers/epoch_30")?;
/// let outputs = model.predict(&Batch::unlabelled(ndarray::ArrayD::zeros(vec![1, 4])))?;
/// println!("{:?} of {:?}", outputs.scores(), model.classes());
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct Predictor {
    runner: Runner,
    config: RunConfig,
    cx: BuildCx,
    /// The fields of the data that it was trained with.
    fields: Option<Fields<FieldSpec>>,
    classes: Vec<String>,
}

/// What the values of a prediction are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// A probability for each of these classes, or for the second of two.
    Classes(Vec<String>),
    /// A probability for each class; the classes have no names.
    Numbered,
    /// A value for each of these.
    Values(Vec<String>),
    /// Nothing is known.
    Unknown,
}

impl Predictor {
    /// The model of a config file with the weights of a checkpoint: a directory, a name in the work_dir, or a file of
    /// weights.
    ///
    /// # Errors
    /// What is wrong with the config; weights that do not fit.
    pub fn load(config: impl AsRef<Path>, checkpoint: impl AsRef<Path>) -> Result<Self> {
        let set = format!("load_from={}", quoted(checkpoint.as_ref())?);
        let node = crate::config::load(config.as_ref(), &[set, "resume=false".into()])?;
        Self::from_config(&node, Some(&config.as_ref().to_string_lossy()))
    }

    /// The model of a resolved config, whose `load_from` names the weights.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_config(node: &Node, name: Option<&str>) -> Result<Self> {
        let parts = assemble(node, name, Purpose::Predict, None)?;
        let evaluated = parts.builder.test.as_ref().or(parts.builder.val.as_ref());
        let data = evaluated.map(|evaluation| &evaluation.data).or(parts.builder.train_data.as_ref());
        let kept = parts.cx.get::<Fitted>().and_then(Fitted::fields);
        let fields = kept.or_else(|| data.and_then(DataLoader::fields));
        let of_data = data.and_then(DataLoader::classes).unwrap_or_default().to_vec();
        let mut runner = parts.builder.dry().build()?;
        runner.load()?;
        let classes = if runner.classes().is_empty() { of_data } else { runner.classes().to_vec() };
        Ok(Self { runner, config: parts.config, cx: parts.cx, fields, classes })
    }

    /// What the model says of a batch, in the precision of a test.
    ///
    /// # Errors
    /// A batch that does not fit the model.
    pub fn predict(&mut self, batch: &Batch) -> Result<Outputs> {
        let precision = EvalConfig::precision(self.config.test_cfg.as_ref());
        with_precision(precision, || self.runner.predict(batch))
    }

    /// What a module of the model, by its path, gives for a batch: features to compare samples by, or to learn from.
    ///
    /// # Errors
    /// When there is no such module, or what it gives is not known or not one row a sample.
    pub fn features(&mut self, batch: &Batch, module: &str) -> Result<ArrayD<Elem>> {
        let traced = self.runner.model()?.trace(batch)?;
        let Some(found) = traced.iter().find(|traced| traced.path == module) else {
            let names = traced.iter().filter(|traced| traced.output.is_some()).map(|traced| &*traced.path);
            let hint = nearest(module, names).map_or_else(
                || "`shanty summary` shows its modules".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(Error::config(format!(
                "the model has no module `{module}` that is computed: {hint}"
            )));
        };
        let Some(output) = &found.output else {
            return Err(Error::config(format!(
                "what `{module}` gives is not known: take a module before or behind it for which `shanty summary` has an \
                 output"
            )));
        };
        if output.shape().first() != Some(&batch.len()) {
            let shape = output.shape();
            return Err(Error::config(format!("`{module}` gives {shape:?}, which is not one row a sample")));
        }
        Ok(output.to_owned())
    }

    /// Predicts in fewer walks over memory: see [`Model::fuse`](crate::model::Model::fuse).
    ///
    /// # Errors
    /// When the model has nothing that could be fused.
    pub fn fuse(&mut self) -> Result<()> {
        self.runner.fuse()
    }

    /// The names of the classes, in the order of the scores; empty where there are none.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What the values of a prediction are called, by the field that it was trained to be.
    pub fn names(&self, output: &str) -> Names {
        let outputs = self.runner.session().state.model.reads().outputs;
        let field = outputs.iter().find(|(name, _)| name == output).map_or(TARGET, |(_, field)| field);
        let spec = self.fields.as_ref().and_then(|all| all.get(field));
        let class = spec.is_some_and(|spec| spec.kind == FieldKind::Int && spec.shape == Some(Vec::new()));
        let number = spec.is_some_and(|spec| spec.kind != FieldKind::Int);
        let names = spec.map(|spec| spec.names.clone()).unwrap_or_default();
        match (number, field == TARGET && !self.classes.is_empty()) {
            (true, _) if names.is_empty() => Names::Unknown,
            (true, _) => Names::Values(names),
            (false, true) => Names::Classes(self.classes.clone()),
            (false, false) if names.is_empty() && class => Names::Numbered,
            (false, false) if names.is_empty() => Names::Unknown,
            (false, false) => Names::Classes(names),
        }
    }

    /// The fields of the data that its predictions are compared with.
    pub fn targets(&self) -> Vec<String> {
        let outputs = self.runner.session().state.model.reads().outputs;
        let mut fields: Vec<String> = Vec::new();
        for (_, field) in outputs {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        if fields.is_empty() { vec![TARGET.to_owned()] } else { fields }
    }

    /// These files, read as the data of the config are; without any the data themselves: those to test with, else to
    /// validate, else to train, of which a warning tells.
    ///
    /// # Errors
    /// When the config has no data, or they cannot read files.
    pub fn data(&mut self, files: &[PathBuf]) -> Result<DataLoader> {
        let RunConfig { test_dataloader, val_dataloader, train_dataloader, .. } = &self.config;
        let all = [("test", test_dataloader), ("validation", val_dataloader), ("training", train_dataloader)];
        let (what, config) =
            all.into_iter().find_map(|(what, config)| Some((what, config.as_ref()?))).ok_or_else(|| {
                Error::config(
                    "the config names no data: give a `test_dataloader`, it says how files are read",
                )
            })?;
        let mut errors = Collected::default();
        let data = match files {
            [] => config.build(self.cx.seed, Shard::default(), &mut self.cx),
            files => config.of_files(files, &mut self.cx),
        };
        let Some(data) = errors.take_on(data, config.dataset.node()) else { return Err(errors.0.into()) };
        if files.is_empty() && what != "test" {
            log::warn!(
                "the config has no test data: its {what} data are predicted; `--input` names other files"
            );
        }
        data.over(Arc::clone(data.dataset()))
    }
}

/// A path as a config writes it.
pub(crate) fn quoted(path: &Path) -> Result<String> {
    serde_json::to_string(&path.to_string_lossy())
        .map_err(|e| Error::config(format!("this path cannot be written: {e}")))
}
