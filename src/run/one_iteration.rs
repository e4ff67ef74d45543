//! The hook of a rehearsal: it puts the largest and the smallest numbers that the data have into the batch, which need
//! not be among the few samples that are looked at, and ends the rehearsal after one iteration.

use super::RunnerBuilder;
use crate::config::Diag;
use crate::data::{Batch, DataLoader, FieldSpec, TARGET, label_range};
use crate::hook::{Ctx, Hook, HookResult, Step};

pub(super) struct OneIteration {
    /// What each field of the training data has at most, where it says so.
    largest: Vec<(String, i64)>,
    pub(super) labels: Vec<Labels>,
    /// Whether the step of the optimizer is left out: what it writes and keeps of large weights takes memory.
    undrawn: bool,
}

/// The smallest and the largest class of a loader's data, each with the first sample that has it.
#[derive(Clone)]
pub(super) struct Labels {
    mode: &'static str,
    range: [(i64, usize); 2],
}

impl OneIteration {
    /// What the data of a run say before their samples are read; samples that are left out do not count.
    pub(super) fn of(builder: &RunnerBuilder, excluded: &[u64], undrawn: bool) -> Self {
        let largest = builder.train_data.as_ref().map(largest).unwrap_or_default();
        let evaluated = [("val", &builder.val), ("test", &builder.test)];
        // Where classes have names, those of a validation are counted by the training's.
        let evaluated =
            evaluated.into_iter().filter_map(|(mode, of)| Some((mode, &of.as_ref()?.data, &[][..])));
        let evaluated = evaluated.filter(|(_, data, _)| data.dataset().classes().is_none());
        let all = builder.train_data.iter().map(|data| ("train", data, excluded)).chain(evaluated);
        let labels = all.filter_map(|(mode, data, without)| {
            Some(Labels { mode, range: label_range(&**data.dataset(), without)? })
        });
        Self { largest, labels: labels.collect(), undrawn }
    }

    /// Puts them into the first sample and the last.
    fn put(&self, mode: &str, batch: &mut Batch) {
        let Some(Labels { range: [low, high], .. }) = self.labels.iter().find(|labels| labels.mode == mode)
        else {
            return;
        };
        let Ok(numbers) = batch.int_mut(TARGET) else { return };
        let several = numbers.len() > 1;
        if let Some(first) = numbers.iter_mut().next() {
            *first = high.0;
        }
        if let Some(last) = numbers.iter_mut().last().filter(|_| several) {
            *last = low.0;
        }
    }
}

impl Labels {
    /// Adds to complaints of a label, of a run of this mode, which sample has it: they count the samples of a batch.
    pub(super) fn say_whose(&self, mode: &str, told: &mut [Diag]) {
        for diag in told.iter_mut().filter(|_| mode == self.mode) {
            if let Some((label, index)) = self
                .range
                .iter()
                .find(|(label, _)| diag.message.contains(&format!("target {label} of sample ")))
            {
                diag.notes.push(format!(
                    "it is sample {index} of `{}_dataloader`, counted from 0, that has {label} in `{TARGET}`",
                    self.mode
                ));
            }
        }
    }
}

/// The largest number of each field of which it is known.
fn largest(data: &DataLoader) -> Vec<(String, i64)> {
    let fields = data.dataset().fields().unwrap_or_default();
    let of = |(name, spec): (&str, &FieldSpec)| Some((name.to_owned(), spec.below?.checked_sub(1)? as i64));
    fields.iter().filter_map(of).collect()
}

impl Hook for OneIteration {
    fn before_train_iter(&mut self, _: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        self.put("train", batch);
        for (name, most) in &self.largest {
            if let Some(first) = batch.int_mut(name).ok().and_then(|numbers| numbers.iter_mut().next()) {
                *first = *most;
            }
        }
        Ok(())
    }

    fn before_val_iter(&mut self, _: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        self.put("val", batch);
        Ok(())
    }

    fn before_test_iter(&mut self, _: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        self.put("test", batch);
        Ok(())
    }

    fn after_backward(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        if self.undrawn {
            cx.skip_update("the weights are not drawn");
        }
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        cx.stop("the rehearsal is over");
        Ok(())
    }
}
