//! Lines or windows of a text file.

mod config;
mod lines;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array1, Array2};

pub use config::{Level, TextConfig};

use self::lines::Lines;
use self::vocabulary::{PAD, Vocabulary};
use super::{Encoding, Part, Split};
use crate::base::{Error, Result, Rng, memory};
use crate::data::{
    ConcatDataset, Dataset, FieldKind, FieldSpec, Fields, Fitted, INPUTS, Marks, Origin, Pipeline, Sample,
    SampleId, TARGET, Unread, Value,
};
use crate::registry::BuildCx;

/// Characters or words of a text as numbers: 0 fills up, 1 is what is not known, the others are those of the training
/// part.
///
/// Without a column of classes the samples are windows of the text, and `target` is the same window one token later.
/// With one each line is a sample, and `target` its class. Checkpoints keep tokens and classes.
///
/// ```
/// use shanty::base::keyed;
/// use shanty::data::{Dataset, TextConfig, TextLines};
/// # let dir = tempfile::tempdir().unwrap();
/// # let file = dir.path().join("song.txt");
/// std::fs::write(&file, "aab\nab\n").unwrap();
/// let set = TextLines::load(TextConfig::new(&file, 3))?;
/// assert_eq!(set.tokens(), ["a", "\n", "b"]); // the numbers 2, 3, 4
/// let first = set.get(0, &mut keyed(0, "", 0, 0))?;
/// assert_eq!(first.int("inputs")?.as_slice(), Some(&[2, 2, 4][..]));
/// assert_eq!(first.int("target")?.as_slice(), Some(&[2, 4, 3][..]));
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct TextLines {
    config: Arc<TextConfig>,
    vocabulary: Arc<Vocabulary>,
    /// All tokens, one sample behind the other.
    ids: Vec<u32>,
    samples: Samples,
    /// Of each line its number in the file, from 0.
    rows: Vec<usize>,
    pipeline: Arc<Pipeline>,
}

enum Samples {
    /// So many windows of this length, so far apart.
    Windows { count: usize, length: usize, stride: usize },
    /// Where each line ends, and its class.
    Lines { ends: Vec<usize>, labels: Option<Vec<i64>> },
}

/// What the vocabulary is called among the fits of a run.
const KEY: &str = "TextLines";

crate::register! {
    /// Windows of a text, or its lines with a class each, as characters or words.
    ///
    /// ```yaml
    /// {type: TextLines, file: words.tsv, label_column: 1, length: 12, split: {val: 0.2, seed: 0}, part: train}
    /// ```
    dyn Dataset, "TextLines" => fn TextLines::from_config
}

impl TextLines {
    fn from_config(p: TextConfig, cx: &mut BuildCx) -> Result<Self> {
        let known: Option<Vocabulary> = cx.get::<Fitted>().map_or(Ok(None), |fitted| fitted.read(KEY))?;
        if let (Some(known), true) = (&known, Unread::is_enough(cx)) {
            known.check(&p)?;
            let (pipeline, known) = (Arc::new(Pipeline::build(&p.pipeline, cx)?), Arc::new(known.clone()));
            return Ok(Self { pipeline, ..Self::of(Arc::new(p), known) });
        }
        let specs = p.pipeline.clone();
        let set = Self::with_vocabulary(Arc::new(p), known.map(Arc::new), false)?;
        let pipeline = Pipeline::build_for(&set.raw_fields(), &specs, cx)?;
        let set = Self { pipeline: Arc::new(pipeline), ..set };
        Fitted::provide(cx, &set);
        Ok(set)
    }
}

impl TextLines {
    /// The samples of the config's part; the vocabulary is that of the training part of the file.
    ///
    /// # Errors
    /// With file and line of what is wrong.
    pub fn load(config: TextConfig) -> Result<Self> {
        Self::with_vocabulary(Arc::new(config), None, false)
    }

    /// Another part of the same file, by the same vocabulary.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn part(&self, part: Part) -> Result<Self> {
        self.other(TextConfig { part: Some(part), ..TextConfig::clone(&self.config) }, false)
    }

    /// All of another file, by the same vocabulary.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn file(&self, file: &Path) -> Result<Self> {
        self.other(self.all_of(file), false)
    }

    fn all_of(&self, file: &Path) -> TextConfig {
        TextConfig { file: file.to_owned(), split: None, part: None, ..TextConfig::clone(&self.config) }
    }

    /// The tokens that are known, from the number 2 on.
    pub fn tokens(&self) -> &[String] {
        &self.vocabulary.tokens
    }

    fn other(&self, config: TextConfig, predicted: bool) -> Result<Self> {
        let other = Self::with_vocabulary(Arc::new(config), Some(Arc::clone(&self.vocabulary)), predicted)?;
        Ok(Self { pipeline: Arc::clone(&self.pipeline), ..other })
    }

    fn with_vocabulary(
        config: Arc<TextConfig>,
        known: Option<Arc<Vocabulary>>,
        predicted: bool,
    ) -> Result<Self> {
        coherent(&config)?;
        let part = Split::part(config.split.as_ref(), config.part)?;
        let lines = Lines::read(&config, predicted)?;
        let vocabulary = match known {
            Some(known) => {
                known.check(&config)?;
                known
            }
            None => {
                let fitted_on = Split::fitted_on(config.split.as_ref());
                let training = Split::of(config.split.as_ref(), lines.len(), fitted_on, || lines.strata())?;
                Arc::new(Vocabulary::of(&config, &lines, &training)?)
            }
        };
        let chosen = Split::of(config.split.as_ref(), lines.len(), part, || lines.strata())?;
        let (reader, mut ids, mut ends, mut labels, mut rows) =
            (vocabulary.reader(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for line in lines.at(&chosen) {
            let line = line?;
            reader.read(&config, &line, &mut ids)?;
            ends.push(ids.len());
            rows.push(line.row());
            if let Some(label) = line.label.filter(|_| !predicted) {
                labels.push(reader.class(&line, label)?);
            }
        }
        let samples = match (config.label_column, config.length) {
            (None, Some(length)) => windows(&config, ids.len(), length)?,
            _ => Samples::Lines { labels: (labels.len() == ends.len()).then_some(labels), ends },
        };
        if config.encoding == Encoding::OneHot {
            let length = config.length.unwrap_or(1);
            memory::fits("a sample of one_hot tokens", &[length, vocabulary.len()], size_of::<f32>())?;
        }
        Ok(Self { ids, samples, rows, ..Self::of(config, vocabulary) })
    }

    /// No sample, to be read by this vocabulary.
    fn of(config: Arc<TextConfig>, vocabulary: Arc<Vocabulary>) -> Self {
        let samples = Samples::Lines { ends: Vec::new(), labels: None };
        Self { config, vocabulary, ids: Vec::new(), samples, rows: Vec::new(), pipeline: Arc::default() }
    }

    fn raw_fields(&self) -> Fields<FieldSpec> {
        let length = self.config.length;
        let (kind, shape) = match self.config.encoding {
            Encoding::Integer => (FieldKind::Int, vec![length]),
            Encoding::OneHot => (FieldKind::Float, vec![length, Some(self.vocabulary.len())]),
        };
        let below = (kind == FieldKind::Int).then(|| self.vocabulary.len());
        let inputs = FieldSpec { shape: Some(shape), below, ..FieldSpec::any(kind) };
        let mut fields = Fields::one(INPUTS, inputs);
        match &self.samples {
            Samples::Windows { length, .. } => {
                let next = FieldSpec::new(FieldKind::Int, &[*length]);
                fields.set(TARGET, next.below(self.vocabulary.len()));
            }
            Samples::Lines { labels: Some(_), .. } => fields.set(TARGET, FieldSpec::class()),
            Samples::Lines { labels: None, .. } => {}
        }
        fields
    }

    /// Tokens as the encoding says, filled up to the length.
    fn encoded(&self, ids: &[u32]) -> Value {
        let length = self.config.length.unwrap_or(ids.len());
        let id = |at: usize| ids.get(at).copied().unwrap_or(PAD);
        match self.config.encoding {
            Encoding::Integer => Array1::from_shape_fn(length, |at| i64::from(id(at))).into(),
            Encoding::OneHot => {
                let mut rows = Array2::<f32>::zeros((length, self.vocabulary.len()));
                // What fills up is a row of zeros.
                for (at, id) in ids.iter().take(length).enumerate() {
                    rows[[at, *id as usize]] = 1.0;
                }
                rows.into()
            }
        }
    }
}

/// Keys that only mean something together.
fn coherent(config: &TextConfig) -> Result<()> {
    let wrong = |text: &str| Err(Error::config(text));
    match config.label_column {
        None if config.length.is_none() => wrong("windows of a text need a `length`; lines a `label_column`"),
        None if config.split.is_some() => {
            wrong("`split` parts lines, which have a `label_column`: for windows take a file for each part")
        }
        None if config.classes.is_some() => {
            wrong("`classes` are those of a `label_column`, which is missing")
        }
        None if config.text_column != 0 => wrong(
            "`text_column` is for lines with a `label_column`, which is missing: windows are of all of the file",
        ),
        Some(_) if config.stride.is_some() => {
            wrong("`stride` is for windows, and a `label_column` for lines")
        }
        Some(label) if label == config.text_column => {
            wrong("`label_column` and `text_column` are one: columns are counted from 0")
        }
        _ => Ok(()),
    }
}

fn windows(config: &TextConfig, tokens: usize, length: usize) -> Result<Samples> {
    let stride = config.stride.unwrap_or(length).max(1);
    // Behind the last token of a window stands the one to predict.
    match tokens.checked_sub(length.saturating_add(1)) {
        Some(room) => Ok(Samples::Windows { count: room / stride + 1, length, stride }),
        None => Err(Error::invalid(format!(
            "{}: {tokens} tokens are no window of {length} and one behind it",
            config.file.display()
        ))),
    }
}

impl Dataset for TextLines {
    fn len(&self) -> usize {
        match &self.samples {
            Samples::Windows { count, .. } => *count,
            Samples::Lines { ends, .. } => ends.len(),
        }
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let sample = match &self.samples {
            Samples::Windows { length, stride, .. } => {
                let begin = index * stride;
                let later = self.ids[begin + 1..=begin + length].iter().map(|id| i64::from(*id));
                Sample::unlabelled(self.encoded(&self.ids[begin..begin + length]))
                    .with(TARGET, later.collect::<Array1<i64>>())
            }
            Samples::Lines { ends, labels } => {
                let begin = index.checked_sub(1).map_or(0, |before| ends[before]);
                let sample = Sample::unlabelled(self.encoded(&self.ids[begin..ends[index]]));
                match labels {
                    Some(labels) => sample.with(TARGET, labels[index]),
                    None => sample,
                }
            }
        };
        pipeline.apply(sample, rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        Some(self.pipeline.fields(self.raw_fields()))
    }

    fn classes(&self) -> Option<&[String]> {
        (!self.vocabulary.classes.is_empty()).then_some(&self.vocabulary.classes)
    }

    fn fitted(&self, all: &mut Fitted) {
        all.set(KEY, &*self.vocabulary);
    }

    fn origin(&self, index: usize) -> Origin {
        let id = match &self.samples {
            Samples::Lines { .. } => self.rows.get(index).copied(),
            Samples::Windows { .. } => Some(index),
        };
        let row = |row| Origin::Row { file: Some(self.config.file.clone()), id: SampleId::Row(row as u64) };
        id.map_or(Origin::Position, row)
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        match &self.samples {
            Samples::Lines { labels: Some(labels), .. } if field == TARGET => {
                Some((*labels.get(index)?).into())
            }
            _ => None,
        }
    }

    fn length(&self, index: usize) -> Option<usize> {
        match &self.samples {
            Samples::Windows { count, length, .. } => (index < *count).then_some(*length),
            Samples::Lines { ends, .. } => {
                let begin = index.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied())?;
                ends.get(index)?.checked_sub(begin)
            }
        }
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        let set = |file: &PathBuf| Ok(Box::new(self.other(self.all_of(file), true)?) as Box<dyn Dataset>);
        let sets = files.iter().map(set);
        Ok(Box::new(ConcatDataset::new(sets.collect::<Result<_>>()?)?))
    }

    fn mark(&self, marks: &mut Marks) {
        self.vocabulary.tokens.iter().for_each(|token| marks.name(token.as_bytes()));
        for piece in self.ids.chunks(1 << 14) {
            let bytes: Vec<u8> = piece.iter().flat_map(|id| id.to_le_bytes()).collect();
            marks.contents(&bytes);
        }
        if let Samples::Lines { ends, labels } = &self.samples {
            ends.iter().for_each(|end| marks.contents(&(*end as u64).to_le_bytes()));
            labels.iter().flatten().for_each(|label| marks.contents(&label.to_le_bytes()));
        }
    }
}
