//! Rows of a CSV file.

mod config;
mod encode;
mod fit;
mod odd;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::s;

pub use config::{CsvConfig, Delimiter, Encoding, Missing, Part, Split, Unknown};

use self::encode::{Rows, encoded};
use self::fit::{ColumnKind, TableFit};
use self::table::Table;
use crate::base::{Error, Result, Rng};
use crate::config::Diag;
use crate::data::{
    Dataset, FieldKind, FieldSpec, Fields, Fitted, INPUTS, Marks, Origin, Pipeline, Sample, SampleId, Unread,
    Value,
};
use crate::registry::BuildCx;

/// The field of integer categories.
const CATEGORIES: &str = "categories";

/// Rows of a CSV file: `inputs` holds the numbers and the categories, `target` a class or numbers. Where the targets
/// are of both kinds each is a field of its own, with the name of its column.
///
/// Means, deviations, categories and classes are those of the training part, for all parts; checkpoints keep them.
///
/// ```
/// use shanty::data::{Csv, CsvConfig, Dataset, Part};
/// # let dir = tempfile::tempdir().unwrap();
/// # let file = dir.path().join("flats.csv");
/// std::fs::write(&file, "rooms,town,rent\n1,Bern,900\n2,Chur,1100\n3,Bern,1500\n4,Chur,1700\n").unwrap();
/// let train = Csv::load(CsvConfig::new(&file, "rent").holdout(0.25, 0))?;
/// let val = train.part(Part::Val)?;
/// assert_eq!((train.len(), val.len()), (3, 1));
/// assert_eq!(train.fields().unwrap().get("inputs").unwrap().to_string(), "floats of shape [3]");
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct Csv {
    config: Arc<CsvConfig>,
    fit: Arc<TableFit>,
    rows: Rows,
    ids: Vec<SampleId>,
    /// What is odd about the columns that go in, said where they are fitted.
    odd: Vec<String>,
    pipeline: Arc<Pipeline>,
}

crate::register! {
    /// Rows of a CSV file: numbers and categories in, one or several columns to predict.
    ///
    /// ```yaml
    /// {type: Csv, file: houses.csv, target: price, split: {val: 0.2, seed: 0}, part: train}
    /// ```
    dyn Dataset, "Csv" => fn Csv::from_config
}

impl Csv {
    fn from_config(p: CsvConfig, cx: &mut BuildCx) -> Result<Self> {
        let fit: Option<TableFit> = cx.get::<Fitted>().map_or(Ok(None), |fitted| fitted.read(KEY))?;
        if let (Some(fit), true) = (&fit, Unread::is_enough(cx)) {
            fit.check(&p)?;
            let (pipeline, fit) = (Arc::new(Pipeline::build(&p.pipeline, cx)?), Arc::new(fit.clone()));
            return Ok(Self {
                config: Arc::new(p),
                fit,
                rows: Rows::default(),
                ids: Vec::new(),
                odd: Vec::new(),
                pipeline,
            });
        }
        let specs = p.pipeline.clone();
        let set = Self::with_fit(Arc::new(p), fit.map(Arc::new), false)?;
        let pipeline = Pipeline::build_for(&set.raw_fields(), &specs, cx)?;
        let set = set.with_pipeline(pipeline);
        cx.warn(set.odd.iter().map(Diag::warning));
        Fitted::provide(cx, &set);
        Ok(set)
    }
}

/// What the fit is called among those of a run.
const KEY: &str = "Csv";

impl Csv {
    /// The rows of the config's part; everything is fitted on the training part of the file.
    ///
    /// # Errors
    /// With file, line and column of what is wrong.
    pub fn load(config: CsvConfig) -> Result<Self> {
        Self::with_fit(Arc::new(config), None, false)
    }

    fn with_fit(config: Arc<CsvConfig>, fit: Option<Arc<TableFit>>, predicted: bool) -> Result<Self> {
        let part = Split::part(config.split.as_ref(), config.part)?;
        let table = Table::read(&config.file, config.delimiter.byte(), &config.missing_values)?;
        let mut odd = Vec::new();
        let fit = match fit {
            Some(fit) => {
                fit.check(&config)?;
                fit
            }
            None => {
                let training = chosen(&config, &table, Split::fitted_on(config.split.as_ref()))?;
                let fit = TableFit::of(&config, &table, &training)?;
                odd = odd::of(&config, &fit, &table)?;
                Arc::new(fit)
            }
        };
        let part = chosen(&config, &table, part)?;
        let rows = encoded(&config, &fit, &table, &part, predicted)?;
        let ids = match &config.id {
            None => part.iter().map(|row| SampleId::Row(*row as u64)).collect(),
            Some(name) => {
                let at = table.column(name)?;
                let name =
                    |row: usize| SampleId::Name { name: table.text(row, at).to_owned(), row: row as u64 };
                part.iter().map(|row| name(*row)).collect()
            }
        };
        Ok(Self { config, fit, rows, ids, odd, pipeline: Arc::default() })
    }

    /// Another part of the same file, as this one is fitted.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn part(&self, part: Part) -> Result<Self> {
        self.other(CsvConfig { part: Some(part), ..CsvConfig::clone(&self.config) }, false)
    }

    /// All rows of another file with these columns, as this one is fitted. Targets may be missing in it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn file(&self, file: &Path) -> Result<Self> {
        self.other(self.all_of(file), false)
    }

    fn all_of(&self, file: &Path) -> CsvConfig {
        CsvConfig { file: file.to_owned(), split: None, part: None, ..CsvConfig::clone(&self.config) }
    }

    fn other(&self, config: CsvConfig, predicted: bool) -> Result<Self> {
        let other = Self::with_fit(Arc::new(config), Some(Arc::clone(&self.fit)), predicted)?;
        Ok(Self { pipeline: Arc::clone(&self.pipeline), ..other })
    }

    /// The same rows, changed by these transforms when they are read.
    #[must_use]
    pub fn with_pipeline(self, pipeline: Pipeline) -> Self {
        Self { pipeline: Arc::new(pipeline), ..self }
    }

    fn raw_fields(&self) -> Fields<FieldSpec> {
        let mut fields = Fields::one(INPUTS, FieldSpec::new(FieldKind::Float, &[self.rows.inputs.ncols()]));
        if let Some(categories) = &self.rows.categories {
            fields.set(CATEGORIES, FieldSpec::new(FieldKind::Int, &[categories.ncols()]));
        }
        for (name, target) in self.rows.targets.iter() {
            fields.set(name.to_owned(), target.spec());
        }
        fields
    }
}

impl Dataset for Csv {
    fn len(&self) -> usize {
        self.rows.inputs.nrows()
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let mut sample = Sample::unlabelled(self.rows.inputs.slice(s![index, ..]).to_owned());
        if let Some(categories) = &self.rows.categories {
            sample.fields.set(CATEGORIES, categories.slice(s![index, ..]).to_owned());
        }
        for (name, target) in self.rows.targets.iter() {
            sample.fields.set(name.to_owned(), target.value(index));
        }
        pipeline.apply(sample, rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        Some(self.pipeline.fields(self.raw_fields()))
    }

    fn classes(&self) -> Option<&[String]> {
        match &self.fit.targets[..] {
            [only] => match &only.kind {
                ColumnKind::Category { values } => Some(values),
                ColumnKind::Number { .. } => None,
            },
            _ => None,
        }
    }

    fn fitted(&self, all: &mut Fitted) {
        all.set(KEY, &*self.fit);
        self.fit.scales().ask(all);
    }

    fn origin(&self, index: usize) -> Origin {
        let row = |id: &SampleId| Origin::Row { file: Some(self.config.file.clone()), id: id.clone() };
        self.ids.get(index).map_or(Origin::Position, row)
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        self.rows.targets.get(field).filter(|_| index < self.len()).map(|target| target.value(index))
    }

    fn summary(&self) -> Option<String> {
        Some(self.fit.summary())
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        let set = |file: &PathBuf| Ok(Box::new(self.other(self.all_of(file), true)?) as Box<dyn Dataset>);
        let sets = files.iter().map(set);
        Ok(Box::new(crate::data::ConcatDataset::new(sets.collect::<Result<_>>()?)?))
    }

    fn mark(&self, marks: &mut Marks) {
        for column in self.fit.features.iter().chain(&self.fit.targets) {
            marks.name(column.name.as_bytes());
        }
        self.rows.mark(marks);
    }
}

/// The rows of a part, ascending; at least one.
fn chosen(config: &CsvConfig, table: &Table, part: Part) -> Result<Vec<usize>> {
    let rows = match &config.split {
        Some(split) if part != Part::All => parted(config, split, table, part)?,
        _ => (0..table.len()).collect(),
    };
    match rows.is_empty() {
        true => {
            let file = config.file.display();
            Err(Error::invalid(format!("{file}: the part {part:?} has no row: look at `split`")))
        }
        false => Ok(rows),
    }
}

fn parted(config: &CsvConfig, split: &Split, table: &Table, part: Part) -> Result<Vec<usize>> {
    let all = table.len();
    if let Some(name) = &split.column {
        if split.stratify {
            return Err(Error::config(
                "`split.stratify` is for shares: the rows have their parts from `split.column`",
            ));
        }
        let at = table.column(name)?;
        let of = |row: usize| {
            let text = table.cell(row, at).unwrap_or_default();
            let what = || table.wrong(row, at, &format!("a part is train, val or test, not {text:?}"));
            Part::named(text).ok_or_else(what)
        };
        let parts = (0..all).map(|row| Ok((row, of(row)?))).collect::<Result<Vec<_>>>()?;
        return Ok(parts.into_iter().filter(|(_, own)| *own == part).map(|(row, _)| row).collect());
    }
    split.shares(all, part, || fit::strata(config, table))
}
