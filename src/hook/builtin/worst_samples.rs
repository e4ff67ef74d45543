//! The samples of a validation or test with the largest losses, for a report.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ndarray::{ArrayD, Axis};
use serde_json::{Value, json};

use super::shown::{Shown, Style, Viewer};
use crate::base::durable;
use crate::checkpoint::VIS_DATA;
use crate::data::{Column, Origin, TARGET};
use crate::plugin::prelude::*;
use crate::vis::{Drawing, WORST_SAMPLES, to_json};

/// Keeps of each validation and test the samples with the largest losses, with their pictures, what is true and what is
/// predicted; of numbers also those that are true and predicted for many samples. `shanty report` shows them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WorstSamplesHook {
    /// How many.
    #[schemars(range(min = 1, max = 100))]
    pub number: usize,
    #[serde(skip)]
    kept: Kept,
}

impl Default for WorstSamplesHook {
    fn default() -> Self {
        Self { number: 12, kept: Kept::default() }
    }
}

/// What is kept of the pass under way.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Kept {
    /// The worst first.
    samples: Vec<Worst>,
    residuals: Vec<Residuals>,
    of: u64,
}

impl Kept {
    /// Those of this name, which begin now if they are new.
    fn residuals_of(&mut self, name: String) -> &mut Residuals {
        let at = self.residuals.iter().position(|own| own.name == name);
        let at = at.unwrap_or_else(|| {
            self.residuals.push(Residuals { name, stride: 1, seen: 0, pairs: Vec::new() });
            self.residuals.len() - 1
        });
        &mut self.residuals[at]
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Worst {
    id: u64,
    loss: f64,
    sample: Value,
}

impl Worst {
    /// A loss that is no number is the worst; of equals the one that stands first in the data set.
    fn comes_before(&self, (loss, id): (f64, u64)) -> bool {
        let by_loss = self.loss.is_nan().cmp(&loss.is_nan()).then(self.loss.total_cmp(&loss));
        by_loss.reverse().then(self.id.cmp(&id)).is_lt()
    }
}

/// What is true and what is predicted, evenly thinned where there are many samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Residuals {
    name: String,
    /// From one sample that is kept to the next.
    stride: u64,
    seen: u64,
    pairs: Vec<[f64; 2]>,
}

/// Pairs of one number.
const PAIRS: usize = 1500;
/// Numbers of a sample whose residuals are kept.
const NUMBERS: usize = 6;
/// No side of a picture is longer: a report holds dozens.
const SIDE: usize = 88;

impl Residuals {
    fn add(&mut self, pair: [f64; 2]) {
        if self.seen.is_multiple_of(self.stride) {
            if self.pairs.len() >= PAIRS {
                let mut at = 0;
                self.pairs.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                self.stride *= 2;
            }
            // Where so many have come the stride has just grown.
            if self.seen.is_multiple_of(self.stride) {
                self.pairs.push(pair);
            }
        }
        self.seen += 1;
    }

    /// Adds those of another rank.
    fn join(&mut self, other: Self) {
        self.seen += other.seen;
        self.pairs.extend(other.pairs);
        let stride = self.pairs.len().div_ceil(PAIRS).max(1);
        self.pairs = std::mem::take(&mut self.pairs).into_iter().step_by(stride).collect();
    }

    fn json(&self) -> Value {
        let of = |side: usize| self.pairs.iter().map(|pair| to_json(pair[side])).collect::<Vec<_>>();
        json!({"name": self.name, "of": self.seen, "true": of(0), "predicted": of(1)})
    }
}

impl WorstSamplesHook {
    fn count(&mut self, cx: &mut Ctx<'_>, step: &Step<'_>) -> HookResult {
        if cx.info.dry_run {
            return cx.no_op();
        }
        let Some(losses) = &step.outputs.sample_losses else {
            cx.log.warn("WorstSamplesHook: the model tells no loss of each sample, none is kept");
            return Ok(());
        };
        self.kept.of += step.batch.valid as u64;
        let mut viewer = None;
        for (row, (loss, id)) in losses.iter().zip(&step.batch.ids).enumerate().take(step.batch.valid) {
            let (loss, id) = (f64::from(*loss), *id);
            let at = self.kept.samples.partition_point(|kept| kept.comes_before((loss, id)));
            if at >= self.number {
                continue;
            }
            let style = Style { numbered: false, score: true };
            let viewer: &Viewer = viewer.get_or_insert_with(|| Viewer::of(cx, step, style));
            let sample = sample(cx, id, loss, viewer.look(step, row, SIDE));
            self.kept.samples.insert(at, Worst { id, loss, sample });
            self.kept.samples.truncate(self.number);
        }
        self.add_residuals(cx, step);
        Ok(())
    }

    /// Adds the numbers of a batch, where numbers are predicted.
    fn add_residuals(&mut self, cx: &Ctx<'_>, step: &Step<'_>) {
        let reads = cx.model.reads();
        for (output, predicted) in step.outputs.predictions.iter() {
            let known = reads.outputs.iter().find(|(own, _)| own == output);
            let field = known.map_or(TARGET, |(_, field)| field);
            let Some(Column::Float(truth)) = step.batch.get(field) else { continue };
            let Some(width) = numbers(truth, predicted, step.batch.len()) else { continue };
            let names = cx.evaluated.and_then(|data| data.names_of(field)).unwrap_or_default();
            for at in 0..width {
                let unnamed = || if width == 1 { field.to_owned() } else { format!("{field} {at}") };
                let residuals = self.kept.residuals_of(names.get(at).cloned().unwrap_or_else(unnamed));
                for row in 0..step.batch.valid {
                    let of = |values: &ArrayD<Elem>| {
                        values.index_axis(Axis(0), row).iter().nth(at).map(|value| f64::from(*value))
                    };
                    residuals.add([of(truth), of(predicted)].map(|value| value.unwrap_or(f64::NAN)));
                }
            }
        }
    }

    /// The worst of all ranks, in place of those of this one.
    fn join(&mut self, comm: &dyn Comm) -> HookResult {
        let mut own = Vec::new();
        ciborium::into_writer(&std::mem::take(&mut self.kept), &mut own)?;
        for given in comm.gather(&own)? {
            let Kept { samples, residuals, of } = ciborium::from_reader(&given[..])?;
            for worst in samples {
                let kept = &mut self.kept.samples;
                let at = kept.partition_point(|kept| kept.comes_before((worst.loss, worst.id)));
                kept.insert(at, worst);
                kept.truncate(self.number);
            }
            for other in residuals {
                self.kept.residuals_of(other.name.clone()).join(other);
            }
            self.kept.of += of;
        }
        Ok(())
    }

    fn tell(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if cx.comm.place().world > 1 {
            self.join(cx.comm)?;
        }
        let Kept { samples, residuals, of } = std::mem::take(&mut self.kept);
        if samples.is_empty() || !cx.is_main() {
            return cx.no_op();
        }
        let mode = if cx.progress.phase == Phase::Test { Mode::Test } else { Mode::Val };
        let samples: Vec<_> = samples.into_iter().map(|worst| worst.sample).collect();
        let residuals: Vec<_> = residuals.iter().map(Residuals::json).collect();
        let told = json!({"mode": mode.name(), "epoch": cx.progress.epoch, "iter": cx.progress.iter, "of": of,
                          "samples": samples, "residuals": residuals});
        let file = cx.dirs.log.join(VIS_DATA).join(WORST_SAMPLES);
        if let Err(why) = durable::replace(cx.fs, &file, told.to_string().as_bytes()) {
            cx.log.warn(format_args!("WorstSamplesHook: the samples are not kept: {why}"));
        }
        Ok(())
    }
}

/// How many numbers a sample has, if they are as many on both sides and no labels that are given or not.
fn numbers(truth: &ArrayD<Elem>, predicted: &ArrayD<Elem>, samples: usize) -> Option<usize> {
    let width = |values: &ArrayD<Elem>| {
        values.shape().first().filter(|rows| **rows == samples).map(|rows| values.len() / rows.max(&1))
    };
    let is_switch = |value: &Elem| *value == 0.0 || *value == 1.0;
    let labels = truth.iter().all(is_switch) && predicted.iter().all(|p| (0.0..=1.0).contains(p));
    width(truth).filter(|own| !labels && width(predicted) == Some(*own) && (1..=NUMBERS).contains(own))
}

/// A sample as the file has it.
fn sample(cx: &Ctx<'_>, id: u64, loss: f64, shown: Shown) -> Value {
    let position = id as usize;
    let origin = cx.evaluated.map_or(Origin::Position, |data| data.dataset().origin(position));
    let png = Some(Drawing::beside(&shown.panels, 1)).filter(|_| !shown.panels.is_empty());
    // Without the feature `images` there are none.
    let png = png.and_then(|drawn| drawn.png().ok()).map(|png| BASE64_STANDARD.encode(png));
    json!({"name": origin.told(position), "loss": to_json(loss), "truth": shown.truth, "prediction": shown.prediction,
           "right": shown.right, "png": png})
}

impl Hook for WorstSamplesHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(self)
    }

    fn before_val_epoch(&mut self, _: &mut Ctx<'_>) -> HookResult {
        self.kept = Kept::default();
        Ok(())
    }

    fn after_val_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.count(cx, step)
    }

    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, _: &Metrics) -> HookResult {
        self.tell(cx)
    }

    fn before_test_epoch(&mut self, _: &mut Ctx<'_>) -> HookResult {
        self.kept = Kept::default();
        Ok(())
    }

    fn after_test_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.count(cx, step)
    }

    fn after_test_epoch(&mut self, cx: &mut Ctx<'_>, _: &Metrics) -> HookResult {
        self.tell(cx)
    }
}

register! {
    /// Keeps the samples of validations and tests with the largest losses, for `shanty report`.
    dyn Hook, "WorstSamplesHook" => WorstSamplesHook
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_pairs_are_thinned_evenly() {
        let mut all = Residuals { name: String::new(), stride: 1, seen: 0, pairs: Vec::new() };
        (0..10_000).for_each(|i| all.add([f64::from(i), 0.0]));
        assert_eq!((all.stride, all.seen), (8, 10_000));
        let kept: Vec<_> = all.pairs.iter().map(|pair| pair[0]).collect();
        assert_eq!(kept, (0..1250).map(|i| f64::from(8 * i)).collect::<Vec<_>>());
    }

    #[test]
    fn the_largest_losses_come_first_and_what_is_no_number_before_them() {
        let worst = |id, loss| Worst { id, loss, sample: Value::Null };
        let mut all: Vec<Worst> = Vec::new();
        for (id, loss) in [(0, 1.0), (1, 3.0), (2, f64::NAN), (3, 3.0), (4, f64::INFINITY), (5, 0.0)] {
            let at = all.partition_point(|kept| kept.comes_before((loss, id)));
            all.insert(at, worst(id, loss));
        }
        assert_eq!(all.iter().map(|worst| worst.id).collect::<Vec<_>>(), [2, 4, 1, 3, 0, 5]);
    }
}
