//! How far a check goes: what would take long, or much memory, is tried by its shapes alone.

use super::RunnerBuilder;
use super::stand_in::StandInData;
use crate::base::memory::human;
use crate::base::{caught, shapes_only};
use crate::config::Diag;
use crate::data::DataLoader;
use crate::model::Model;
use crate::nn::Work;

/// Bytes of weights above which none are drawn: with gradients and what an optimizer keeps there are four times as many.
const MOST_WEIGHTS: u64 = 1 << 28;
/// Multiply-adds of a batch of a few samples above which nothing is computed: a step of so many takes a second or two
/// where nothing is optimised, and a check makes several.
const MOST_WORK: u64 = 4_000_000_000;
/// The same of the numbers that products give, which are kept until the way back.
const MOST_ACTIVATIONS: u64 = 1 << 26;

/// What is tried of a run.
pub(super) struct Extent {
    /// Whether the weights are left as they are, so that the layers are all that can be tried.
    pub layers_only: bool,
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
        let layers_only = weight_bytes > MOST_WEIGHTS;
        let why = if layers_only {
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
        Self { layers_only, shapes_only: fails || why.is_some(), tried: !work.is_empty(), why }
    }

    /// What is to be said of it.
    pub fn diag(&self) -> Option<Diag> {
        let what = match (self.tried, self.layers_only) {
            (false, _) => "neither the layers nor the first iteration were tried",
            (true, true) => "the layers were tried by their shapes alone, the first iteration not",
            (true, false) => "the layers were tried by their shapes alone, their numbers not",
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
