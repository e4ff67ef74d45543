//! Made-up samples of rare classes, between those that there are.

use std::path::PathBuf;

use ndarray::ArrayD;
use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng, keyed};
use crate::data::{Dataset, FieldSpec, Fields, Fitted, INPUTS, Marks, Origin, Sample, TARGET, Unread, Value};
use crate::registry::{BuildCx, Spec};

/// SMOTE (Chawla 2002): behind the samples of a set stand made-up ones of its rare classes, each at a random place on
/// the way from a sample to one of its `k` nearest neighbours of the same class.
///
/// ```
/// use ndarray::{arr1, arr2};
/// use shanty::data::{ArrayDataset, Dataset, Smote};
/// let inputs = arr2(&[[0.0f32, 0.0], [1.0, 2.0], [9.0, 9.0], [9.5, 9.0], [9.0, 9.5], [8.5, 9.0]]);
/// let set = ArrayDataset::new("inputs", inputs)?.with("target", arr1(&[1i64, 1, 0, 0, 0, 0]))?;
/// let set = Smote::new(Box::new(set), 5, 1.0, 0)?;
/// assert_eq!(set.len(), 8); // two of class 1 more
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct Smote {
    dataset: Box<dyn Dataset>,
    /// The samples of the rare classes.
    rare: Vec<Sample>,
    made: Vec<Made>,
    seed: u64,
}

/// A made-up sample: the way between two rare ones, and how far to go.
struct Made {
    from: usize,
    to: usize,
    share: f32,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct SmoteConfig {
    /// The set: its `inputs` are numbers, its `target` a class.
    dataset: Spec<dyn Dataset>,
    /// Among how many neighbours one is drawn; a class of fewer samples has fewer.
    #[serde(default = "five")]
    #[schemars(range(min = 1))]
    k_neighbors: usize,
    /// Up to which share of the largest class the others are filled up.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    ratio: f64,
    /// Of the draws.
    #[serde(default)]
    seed: u64,
}

fn five() -> usize {
    5
}

fn one() -> f64 {
    1.0
}

crate::register! {
    /// A set of numbers with made-up samples of its rare classes behind it (SMOTE).
    ///
    /// ```yaml
    /// {type: Smote, dataset: {type: SyntheticBlobs, n: 60, features: 4, classes: 3}, k_neighbors: 5}
    /// ```
    dyn Dataset, "Smote" => fn Smote::from_config
}

impl Smote {
    fn from_config(p: SmoteConfig, cx: &mut BuildCx) -> Result<Self> {
        let dataset = p.dataset.build(cx)?;
        if Unread::is_enough(cx) {
            return Ok(Self { dataset, rare: Vec::new(), made: Vec::new(), seed: p.seed });
        }
        Self::new(dataset, p.k_neighbors, p.ratio, p.seed)
    }

    /// Reads `dataset` and fills up its classes to this share of the largest one, each made-up sample on the way to one
    /// of `k` neighbours: the same ones for the same seed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `inputs` are no numbers of one shape, `target` is no class, or a class that is to be
    /// filled up has a single sample.
    pub fn new(dataset: Box<dyn Dataset>, k: usize, ratio: f64, seed: u64) -> Result<Self> {
        let classes = by_class(&*dataset, seed)?;
        let largest = classes.iter().map(Vec::len).max().unwrap_or(0);
        let wanted = (largest as f64 * ratio.clamp(0.0, 1.0)).round() as usize;
        let (mut rare, mut made) = (Vec::new(), Vec::new());
        for (class, samples) in classes.into_iter().enumerate() {
            if samples.is_empty() || samples.len() >= wanted {
                continue;
            }
            if samples.len() == 1 {
                return Err(Error::invalid(format!(
                    "SMOTE goes from a sample to another one of its class, and class {class} has one alone: leave it out, or \
                     repeat it by RepeatDataset"
                )));
            }
            let near = neighbours(&samples, k.max(1))?;
            for number in samples.len()..wanted {
                let mut rng = keyed(seed, "smote", class as u64, number as u64);
                let from = rng.random_range(0..samples.len() as u64) as usize;
                let to = near[from][rng.random_range(0..near[from].len() as u64) as usize];
                made.push(Made { from: rare.len() + from, to: rare.len() + to, share: rng.random::<f32>() });
            }
            rare.extend(samples);
        }
        Ok(Self { dataset, rare, made, seed })
    }

    /// The made-up sample at this place behind the others.
    fn made_up(&self, at: usize) -> Result<Sample> {
        let Made { from, to, share } = &self.made[at];
        let (from, to) = (&self.rare[*from], &self.rare[*to]);
        let (a, b) = (from.float(INPUTS)?, to.float(INPUTS)?);
        Ok(from.clone().with(INPUTS, a + &((b - a) * *share)))
    }
}

/// The samples of each class, in order.
fn by_class(dataset: &dyn Dataset, seed: u64) -> Result<Vec<Vec<Sample>>> {
    let mut classes: Vec<Vec<Sample>> = vec![Vec::new(); dataset.classes().map_or(0, <[_]>::len)];
    let mut shape: Option<Vec<usize>> = None;
    for index in 0..dataset.len() {
        let sample = dataset.get(index, &mut keyed(seed, "smote read", 0, index as u64))?;
        let own = sample.float(INPUTS)?.shape().to_vec();
        if shape.get_or_insert_with(|| own.clone()) != &own {
            return Err(Error::invalid(format!(
                "sample {index} has `inputs` of shape {own:?}: SMOTE wants one shape"
            )));
        }
        let label = sample.label().and_then(|label| usize::try_from(label).ok());
        let class = label.filter(|class| *class < dataset.len().max(classes.len())).ok_or_else(|| {
            Error::invalid(format!("the `{TARGET}` of sample {index} is no class: SMOTE fills up classes"))
        })?;
        if class >= classes.len() {
            classes.resize(class + 1, Vec::new());
        }
        classes[class].push(sample);
    }
    Ok(classes)
}

/// Of each sample the others that are nearest, the nearest first and the first among equals.
fn neighbours(samples: &[Sample], k: usize) -> Result<Vec<Vec<usize>>> {
    let inputs = samples.iter().map(|sample| sample.float(INPUTS)).collect::<Result<Vec<_>>>()?;
    let distance = |a: &ArrayD<f32>, b: &ArrayD<f32>| -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    };
    let nearest = |(own, a): (usize, &&ArrayD<f32>)| {
        let others = inputs.iter().enumerate().filter(|(other, _)| *other != own);
        let mut others: Vec<(f64, usize)> = others.map(|(other, b)| (distance(a, b), other)).collect();
        others.sort_by(|a, b| a.0.total_cmp(&b.0));
        others.into_iter().take(k).map(|(_, other)| other).collect()
    };
    Ok(inputs.iter().enumerate().map(nearest).collect())
}

impl Dataset for Smote {
    fn len(&self) -> usize {
        self.dataset.len() + self.made.len()
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        match index.checked_sub(self.dataset.len()) {
            None => self.dataset.get(index, rng),
            Some(at) => self.made_up(at),
        }
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        self.dataset.fields()
    }

    fn classes(&self) -> Option<&[String]> {
        self.dataset.classes()
    }

    fn fitted(&self, all: &mut Fitted) {
        self.dataset.fitted(all);
    }

    fn origin(&self, index: usize) -> Origin {
        if index < self.dataset.len() { self.dataset.origin(index) } else { Origin::Position }
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        match index.checked_sub(self.dataset.len()) {
            None => self.dataset.peek(index, field),
            Some(at) => self.made_up(self.made.get(at).map(|_| at)?).ok()?.fields.take(field),
        }
    }

    fn summary(&self) -> Option<String> {
        self.dataset.summary()
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        self.dataset.of_files(files)
    }

    fn mark(&self, marks: &mut Marks) {
        marks.name(&self.seed.to_le_bytes());
        marks.name(&(self.made.len() as u64).to_le_bytes());
        self.dataset.mark(marks);
    }
}
