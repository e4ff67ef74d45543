//! Proof by experiment: cut a run, resume it, compare every step with the run that was not cut.

use std::path::Path;

use rand::RngExt;

use super::{Limits, Outcome, Runner};
use crate::base::fs::Disk;
use crate::base::{Error, Result, keyed};
use crate::checkpoint::{self, Folders, digest};
use crate::hook::{Ctx, Hook, HookResult, Priority, Step};

/// The first thing that a resumed run did otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The completed iteration.
    pub iter: u64,
    /// Tensor or data: `model/head.fc.weight`, `optimizer/momentum.head.fc.weight`, `samples`, `hook EMAHook (data)`.
    pub part: String,
}

/// What became of one cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The run was cut after this many iterations.
    pub at: u64,
    /// The iterations that the whole run made: fewer than planned where a hook ended it.
    pub total: u64,
    /// The first difference; `None` for an equal run.
    pub difference: Option<Difference>,
}

/// `k` different iterations of a run of `total`, ascending.
pub fn random_cuts(total: u64, k: u64, seed: u64) -> Vec<u64> {
    let mut rng = keyed(seed, "cuts", 0, 0);
    let mut cuts = std::collections::BTreeSet::new();
    while (cuts.len() as u64) < k.min(total.saturating_sub(1)) {
        cuts.insert(rng.random_range(1..total));
    }
    cuts.into_iter().collect()
}

/// Runs what `make` gives for a work_dir once as a whole, and once for each cut in two parts: told to leave after the
/// cut, then resumed. `cuts` are asked for with the iterations that the whole run made; what became of each is `told`
/// as soon as it is known. Compares weights, optimizer and samples after every step, and the last checkpoint.
///
/// # Errors
/// When a run fails, and when a cut is not inside the run.
pub fn verify(
    make: &dyn Fn(&Path, bool, Limits) -> Result<Runner>,
    cuts: impl FnOnce(u64) -> Vec<u64>,
    scratch: &Path,
    told: &mut dyn FnMut(&Cut),
) -> Result<Vec<Cut>> {
    let home = scratch.join("whole");
    let mut whole = make(&home, false, Limits::default())?;
    whole.add_hook(Tracer::default())?;
    whole.train()?;
    let total = whole.session().state.progress.iter;
    let expected = trace(&whole)?;
    let mut all = Vec::new();
    for at in cuts(total) {
        if at == 0 || at >= total {
            return Err(Error::invalid(format!("a cut at {at} is not inside the run of {total} iterations")));
        }
        let dir = scratch.join(format!("cut_{at}"));
        let mut first = make(&dir, false, Limits { after_iter: Some(at), ..Limits::default() })?;
        if !matches!(first.train()?, Outcome::Interrupted(_)) {
            return Err(Error::invalid(format!("the run ended before the cut at {at}")));
        }
        let mut second = make(&dir, true, Limits::default())?;
        second.add_hook(Tracer::default())?;
        second.train()?;
        // An iteration without a sample leaves no trace.
        let cut = expected.iter().position(|step| step.iter >= at).unwrap_or(expected.len());
        let first_half = cut + usize::from(expected.get(cut).is_some_and(|step| step.iter == at));
        let steps = compare(&expected[first_half..], trace(&second)?);
        let difference = match steps {
            Some(found) => Some(found),
            None => ends_differ(&home, &dir, total)?,
        };
        let cut = Cut { at, total, difference };
        told(&cut);
        all.push(cut);
        drop((first, second));
        let _ = std::fs::remove_dir_all(&dir);
    }
    Ok(all)
}

fn trace(runner: &Runner) -> Result<&[Trace]> {
    runner.hook::<Tracer>().map(|t| &t.steps[..]).ok_or_else(|| Error::invalid("the tracer is gone"))
}

/// The steps after the cut, one by one: a run that goes back makes some of them twice.
fn compare(expected: &[Trace], resumed: &[Trace]) -> Option<Difference> {
    for (other, step) in expected.iter().zip(resumed) {
        if other.iter != step.iter {
            let part = format!("the order of steps (against iteration {})", other.iter);
            return Some(Difference { iter: step.iter, part });
        }
        if other.parts != step.parts {
            let both = other.parts.iter().zip(&step.parts).find(|(a, b)| a != b);
            let part = both.map_or("the number of tensors", |(a, _)| &a.0).to_owned();
            return Some(Difference { iter: step.iter, part });
        }
    }
    let after = expected.get(resumed.len()).or(resumed.get(expected.len()))?;
    Some(Difference { iter: after.iter, part: "the number of steps".into() })
}

/// The last checkpoints hold what no step shows: state of hooks.
fn ends_differ(whole: &Path, parts: &Path, total: u64) -> Result<Option<Difference>> {
    let last = |dir: &Path| {
        Ok::<_, Error>(checkpoint::newest(&Disk, &Folders::of(dir), None)?.checkpoint.map(|(_, c)| c))
    };
    let (Some(mut a), Some(mut b)) = (last(whole)?, last(parts)?) else { return Ok(None) };
    // Which checkpoints lie on the disk depends on where the run was cut.
    for c in [&mut a, &mut b] {
        let own = |key: &String, _: &mut _| !key.starts_with("CheckpointHook");
        c.hooks.retain(own);
        if let Some(earlier) = &mut c.rollback {
            std::sync::Arc::make_mut(earlier).hooks.retain(own);
        }
    }
    Ok(digest::first_difference(&a, &b).map(|part| Difference { iter: total, part }))
}

/// What one step left behind.
#[derive(Debug, Clone, PartialEq)]
struct Trace {
    iter: u64,
    parts: Vec<(String, String)>,
}

/// Writes down every step.
#[derive(Default)]
struct Tracer {
    steps: Vec<Trace>,
}

impl Hook for Tracer {
    fn priority(&self) -> Priority {
        Priority::LOWEST
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        let optimizer = cx.optim.as_ref().map(|o| o.save_state(&**cx.model)).transpose()?;
        let model = crate::params::StateDict::of(&**cx.model)?;
        let state = checkpoint::Checkpoint { model, optimizer, ..Default::default() };
        let mut parts = digest::parts(&state);
        parts.push(("samples".into(), format!("{:?}", step.batch.ids)));
        let loss = step.outputs.loss().map(f64::to_bits);
        parts.push(("loss".into(), format!("{loss:?}")));
        self.steps.push(Trace { iter: cx.progress.iter, parts });
        Ok(())
    }
}
