//! What is odd about the data of a run: a training would end, and its figures would not mean what they seem to.

use super::RunnerBuilder;
use super::checks::RunParts;
use crate::base::number::short;
use crate::config::Diag;
use crate::data::{
    DataLoader, Dataset, FieldKind, FieldSpec, TARGET, TargetScales, Value, class_counts, in_common,
};

/// What is odd about the data of a loader, and what to do about it.
pub(super) struct Odd {
    loader: &'static str,
    /// The key of the loader that it is about.
    key: &'static str,
    pub text: String,
    cure: String,
}

pub(super) fn of(parts: &RunParts<'_>) -> Vec<Diag> {
    let diag = |Odd { loader, key, text, cure }: Odd| {
        let place = parts.node.get(loader).and_then(|loader| loader.get(key)).unwrap_or(parts.node);
        Diag::warning(text).on(place).note(cure)
    };
    parts.builder.odd_data().into_iter().map(diag).collect()
}

impl RunnerBuilder {
    /// Nothing is read for it but what the data sets hold.
    pub(super) fn odd_data(&self) -> Vec<Odd> {
        if self.placeholders {
            return Vec::new();
        }
        let mut found = self.resampled();
        let Some(train) = self.train_data.as_ref() else { return found };
        found.extend(self.shared(train));
        found.extend(self.one_class(train));
        found.extend(self.unscaled(train));
        found.extend(self.unread(train));
        found
    }

    /// The loaders of evaluations, by their keys.
    fn evaluated(&self) -> impl Iterator<Item = (&'static str, &DataLoader)> {
        let evaluated = [("val_dataloader", &self.val), ("test_dataloader", &self.test)];
        evaluated.into_iter().filter_map(|(key, e)| Some((key, &e.as_ref()?.data)))
    }

    /// Samplers of evaluations that do not come to each sample once.
    fn resampled(&self) -> Vec<Odd> {
        let odd = |(loader, data): (&'static str, &DataLoader)| {
            let text = match data.missed().ok()? {
                // What it cannot draw is told when its batches are asked for.
                Some(missed) => format!(
                    "the sampler of `{loader}` comes to some samples several times, and to {missed} not at all: what is \
                     measured is not the mean over the data"
                ),
                None if data.infinite() && data.dataset().len() % data.samples_per_batch().max(1) > 0 => {
                    format!(
                        "the sampler of `{loader}` has no end: the last batch is filled up with samples of the next pass, which \
                     count twice"
                    )
                }
                None => return None,
            };
            let cure =
                "`sampler: {type: DefaultSampler, shuffle: false}` comes to each sample once".to_owned();
            Some(Odd { loader, key: "sampler", text, cure })
        };
        self.evaluated().filter_map(odd).collect()
    }

    /// Samples that are trained on and evaluated.
    fn shared(&self, train: &DataLoader) -> Vec<Odd> {
        let shared = |(loader, data): (&'static str, &DataLoader)| {
            let common = in_common(&**train.dataset(), &**data.dataset())?;
            let text = format!(
                "{common} of `{loader}` are in `train_dataloader` too: what is measured on them says nothing of new data"
            );
            let cure = "give each loader its own part (`split`, the same for both, with `part: train` and `part: val`), or \
                        files of its own";
            Some(Odd { loader, key: "dataset", text, cure: cure.to_owned() })
        };
        self.evaluated().filter_map(shared).collect()
    }

    /// Classes to predict of which there is one.
    fn one_class(&self, train: &DataLoader) -> Vec<Odd> {
        let Some(needs) = self.model.as_ref().map(|model| model.reads()) else { return Vec::new() };
        let learnt =
            class_counts(&**train.dataset()).into_iter().filter(|c| needs.targets.contains(&c.field));
        let alone = learnt.filter_map(|classes| {
            let counts = classes.counts.as_ref()?;
            let mut there = classes.names.iter().zip(counts).filter(|(_, count)| **count > 0);
            let (Some((name, _)), None) = (there.next(), there.next()) else { return None };
            let (loader, field) = ("train_dataloader", &classes.field);
            Some(Odd {
                loader,
                key: "dataset",
                text: format!(
                    "all training samples are of the class {name:?} in `{field}`: there is nothing to learn"
                ),
                cure: format!("take the samples of the other classes in, or name another `{field}`"),
            })
        });
        alone.collect()
    }

    /// Numbers to predict whose size is far from that of the scores that weights begin with.
    fn unscaled(&self, train: &DataLoader) -> Vec<Odd> {
        let (set, mut found) = (train.dataset(), Vec::new());
        let Some(needs) = self.model.as_ref().map(|model| model.reads()) else { return found };
        let scales = TargetScales::of(&self.fitted()).unwrap_or_default();
        let fields = set.fields().unwrap_or_default();
        for (name, spec) in fields.iter() {
            let learnt = spec.kind == FieldKind::Float && needs.targets.iter().any(|target| target == name);
            if !learnt {
                continue;
            }
            for (column, [mean, std]) in measured(&**set, name, spec) {
                if let Some(odd) = coarse(&column, mean, std) {
                    found.push(odd);
                    continue;
                }
                let usual = mean.hypot(std) <= LARGE && (std == 0.0 || std >= SMALL);
                if usual || scales.0.contains_key(name) {
                    continue;
                }
                let text = format!(
                    "the target `{column}` has mean {} and deviation {}: a loss of numbers of this size seldom learns, as \
                     weights and learning rates are made for numbers around 1",
                    short(mean),
                    short(std)
                );
                let cure = format!(
                    "`standardize_target: true` of a `Csv` has it learnt with mean 0 and deviation 1, and predicted in its own \
                     unit; in arrays save ({column} - {}) / {}",
                    short(mean),
                    short(if std > 0.0 { std } else { 1.0 })
                );
                found.push(Odd { loader: "train_dataloader", key: "dataset", text, cure });
            }
        }
        found
    }

    /// Fields of the training data that neither the model nor a metric reads.
    fn unread(&self, train: &DataLoader) -> Vec<Odd> {
        let Some(needs) = self.model.as_ref().map(|model| model.reads()) else { return Vec::new() };
        if needs.inputs.is_empty() {
            // It does not say what it reads.
            return Vec::new();
        }
        let metrics = [&self.val, &self.test].into_iter().flatten().flat_map(|e| e.evaluator.targets());
        let read: Vec<&str> =
            needs.inputs.iter().chain(&needs.targets).map(String::as_str).chain(metrics).collect();
        let fields = train.dataset().fields().unwrap_or_default();
        // What has no use for the classes of its pictures, as an autoencoder, need not read them.
        let idle = fields.names().filter(|name| *name != TARGET && !read.contains(name));
        let odd = |name: &str| Odd {
            loader: "train_dataloader",
            key: "dataset",
            text: format!(
                "nothing reads the field `{name}` of the training data: the model takes {}",
                needs.inputs.join(", ")
            ),
            cure: format!(
                "leave it out of the data, or name it in the model: `inputs: [{}, {name}]`",
                needs.inputs.join(", ")
            ),
        };
        idle.map(odd).collect()
    }
}

/// A target whose numbers lie so far from zero that 32 bits tell them apart by their first digits only.
fn coarse(column: &str, mean: f64, std: f64) -> Option<Odd> {
    let size = mean.abs() as f32;
    let apart = f64::from(size.next_up() - size);
    (mean.abs() > LARGE && apart > std * SMALL).then(|| Odd {
        loader: "train_dataloader",
        key: "dataset",
        text: format!(
            "the target `{column}` has mean {} and deviation {}, and two numbers of 32 bits are {} apart there: what that \
             takes from the target no metric shows",
            short(mean),
            short(std),
            short(apart)
        ),
        cure: format!("subtract {} from the numbers before they are saved", short(mean)),
    })
}

/// Beyond this size, or below that deviation, a target is told to be unscaled.
const LARGE: f64 = 1000.0;
const SMALL: f64 = 1e-3;

/// How many samples are measured, and of how many numbers each.
const MOST: usize = 10_000;
const COLUMNS: usize = 16;

/// Mean and deviation of each number of a field, by its name, over samples that are spread over the set; none where the
/// set does not tell before it reads them.
fn measured(set: &dyn Dataset, field: &str, spec: &FieldSpec) -> Vec<(String, [f64; 2])> {
    // Of the distances to the first sample: squares of large numbers would hide a small deviation.
    let (mut n, mut first, mut sums): (f64, Vec<f64>, Vec<[f64; 2]>) = (0.0, Vec::new(), Vec::new());
    for index in (0..set.len()).step_by(set.len().div_ceil(MOST).max(1)) {
        let Some(Value::Float(values)) = set.peek(index, field) else { return Vec::new() };
        // Of a picture or a sequence each value is one of many of a kind.
        if values.ndim() > 1 || values.len() > COLUMNS {
            return Vec::new();
        }
        if first.is_empty() {
            first = values.iter().map(|value| f64::from(*value)).collect();
            sums.resize(first.len(), [0.0; 2]);
        }
        n += 1.0;
        for ((sum, value), first) in sums.iter_mut().zip(&values).zip(&first) {
            let away = f64::from(*value) - first;
            *sum = [sum[0] + away, sum[1] + away * away];
        }
    }
    let several = sums.len() > 1;
    let of = |(at, [sum, squares]): (usize, [f64; 2])| {
        let away = sum / n;
        let numbered = || if several { format!("{field}[{at}]") } else { field.to_owned() };
        let name = spec.names.get(at).cloned().unwrap_or_else(numbered);
        (name, [first[at] + away, (squares / n - away * away).max(0.0).sqrt()])
    };
    sums.into_iter().enumerate().map(of).collect()
}
