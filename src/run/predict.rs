//! What a trained model says of new data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Runner;
use super::assemble::to_evaluate;
use crate::base::{Error, Result};
use crate::config::Node;
use crate::data::{Batch, DataLoader, FieldKind, TARGET};
use crate::model::Outputs;

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
    data: Option<DataLoader>,
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
        let builder = to_evaluate(node, name)?;
        let evaluations = [builder.test.as_ref(), builder.val.as_ref()];
        let data = evaluations.into_iter().flatten().map(|evaluation| evaluation.data.clone()).next();
        let data = data.or_else(|| builder.train_data.clone());
        let mut runner = builder.dry().build()?;
        runner.load()?;
        let of_data = || data.as_ref().and_then(|data| data.classes()).map(<[_]>::to_vec);
        let classes = match runner.classes() {
            [] => of_data().unwrap_or_default(),
            names => names.to_vec(),
        };
        Ok(Self { runner, data, classes })
    }

    /// What the model says of a batch.
    ///
    /// # Errors
    /// A batch that does not fit the model.
    pub fn predict(&mut self, batch: &Batch) -> Result<Outputs> {
        self.runner.predict(batch)
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
        let spec = self.data.as_ref().and_then(DataLoader::fields).and_then(|mut all| all.take(field));
        let class =
            spec.as_ref().is_some_and(|spec| spec.kind == FieldKind::Int && spec.shape == Some(Vec::new()));
        let number = spec.is_some_and(|spec| spec.kind != FieldKind::Int);
        let names = self.data.as_ref().and_then(|data| data.names_of(field)).unwrap_or_default();
        match (number, field == TARGET && !self.classes.is_empty()) {
            (true, _) if names.is_empty() => Names::Unknown,
            (true, _) => Names::Values(names),
            (false, true) => Names::Classes(self.classes.clone()),
            (false, false) if names.is_empty() && class => Names::Numbered,
            (false, false) if names.is_empty() => Names::Unknown,
            (false, false) => Names::Classes(names),
        }
    }

    /// The data of the config: those to test with, else to validate, else to train; or these files, read in the same
    /// way.
    ///
    /// # Errors
    /// When the config has no data, or they cannot read files.
    pub fn data(&self, files: &[PathBuf]) -> Result<DataLoader> {
        let data = self.data.as_ref().ok_or_else(|| {
            Error::config("the config names no data: give a `test_dataloader`, it says how files are read")
        })?;
        let set = match files.is_empty() {
            true => Arc::clone(data.dataset()),
            false => data.dataset().of_files(files)?.into(),
        };
        data.over(set)
    }
}

/// A path as a config writes it.
pub(crate) fn quoted(path: &Path) -> Result<String> {
    serde_json::to_string(&path.to_string_lossy())
        .map_err(|e| Error::config(format!("this path cannot be written: {e}")))
}
