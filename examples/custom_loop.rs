//! A training loop of one's own: it validates after 1, 2, 4, 8, … iterations, where learning is fast, and resumes
//! exactly.
#![allow(clippy::print_stdout)] // an example speaks

use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::params::StateDict;
use shanty::prelude::*;
use shanty::run::{ExitReason, Intervals, LoopTotals, Session, TrainLoop};

struct Doubling {
    max_iters: u64,
}

impl Doubling {
    fn val_if_due(&self, s: &mut Session) -> Result<()> {
        let iter = s.state.progress.iter;
        match iter.is_power_of_two() || iter == self.max_iters {
            true => s.val_if_due(&Intervals::every(1), iter, self.max_iters),
            false => Ok(()),
        }
    }
}

impl TrainLoop for Doubling {
    fn totals(&self, _: u64) -> LoopTotals {
        LoopTotals { epochs: 1, iters: self.max_iters, by_epoch: false }
    }

    fn run(&self, s: &mut Session, data: &DataLoader) -> Result<()> {
        s.begin_train()?;
        s.begin_epoch()?;
        // A run that is resumed owes the validation that was due when its checkpoint was written.
        self.val_if_due(s)?;
        let mut batches = data.batches(s.state.progress.iter, Some(self.max_iters));
        while !s.stopping()
            && let Some(batch) = s.next_batch(&mut batches, data)?
        {
            s.train_iter(batch)?;
            if s.take_rollback() {
                batches = data.batches(s.state.progress.iter, Some(self.max_iters));
            }
            self.val_if_due(s)?;
        }
        s.end_epoch()?;
        s.end_train()
    }
}

/// A run of 100 iterations, which notes when it validates.
fn run(dir: &Path, validated: &Arc<Mutex<Vec<u64>>>) -> Result<RunnerBuilder> {
    let digits = |split| Ok::<_, Error>(DataLoader::new(Digits::load(split, SplitBy::Index)?).batch_size(32));
    let network = MLP::new(&[64, 32, 10], Box::new(ReLU::default()))?;
    let noted = Arc::clone(validated);
    Ok(Runner::builder(ImageClassifier::new(network, ClsHead::default()))
        .train(digits(DigitsSplit::Train)?.shuffle(true), Doubling { max_iters: 100 }, Adam::new(0.001))
        .val(digits(DigitsSplit::Val)?, Accuracy::default())
        .on(Point::AfterValEpoch, move |cx, _| {
            noted.lock().map_err(|e| e.to_string())?.push(cx.progress.iter);
            Ok(())
        })
        .work_dir(dir)
        .seed(0))
}

fn main() -> anyhow::Result<()> {
    let (whole, parts) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let notes = || Arc::new(Mutex::new(Vec::new()));
    let (all, pieces) = (notes(), notes());

    let mut straight = run(whole.path(), &all)?.build()?;
    anyhow::ensure!(straight.train()? == Outcome::Finished);

    // Cut after iteration 64, whose validation the resumed run owes.
    let limits = Limits { after_iter: Some(64), ..Limits::default() };
    let cut = run(parts.path(), &pieces)?.limits(limits).build()?.train()?;
    anyhow::ensure!(cut == Outcome::Interrupted(ExitReason::Signal(15)));
    let mut resumed = run(parts.path(), &pieces)?.resume(true).build()?;
    anyhow::ensure!(resumed.train()? == Outcome::Finished);

    let noted = |notes: &Mutex<Vec<u64>>| notes.lock().map(|notes| notes.clone()).unwrap_or_default();
    println!("validated after iterations {:?}", noted(&all));
    anyhow::ensure!(noted(&all) == [1, 2, 4, 8, 16, 32, 64, 100]);
    anyhow::ensure!(noted(&pieces) == noted(&all), "{:?}", noted(&pieces));
    anyhow::ensure!(StateDict::of(straight.model()?)? == StateDict::of(resumed.model()?)?, "bit for bit");
    Ok(())
}
