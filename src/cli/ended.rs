//! What a person wants to know when they come back to a training: how it ended, how good it is, where it lies, what it
//! took, and what went wrong on the way.

use crate::base::memory;
use crate::base::number::{count, fixed, grouped};
use crate::hook::builtin::CheckpointHook;
use crate::hook::{Mode, Point};
use crate::run::{Outcome, Runner, State};

/// Warnings that are told again.
const SHOWN: usize = 10;
/// Hooks that are named.
const NAMED: usize = 4;

/// A training that is over.
pub(super) struct Ended<'r> {
    pub runner: &'r Runner,
    pub seconds: f64,
}

impl Ended<'_> {
    fn state(&self) -> &State {
        &self.runner.session().state
    }

    /// Notes the end in the log file.
    pub fn write_down(&self, line: &str) {
        self.state().log.detail(line);
    }

    /// How it ended, its metrics with the best of each, its folder.
    pub fn first_line(&self, outcome: &Outcome) -> String {
        let State { progress, message_hub, dirs, .. } = self.state();
        let how = match outcome {
            Outcome::Finished => "finished".to_owned(),
            Outcome::Interrupted(reason) => format!("interrupted ({reason}; `--resume` goes on)"),
            Outcome::Stopped(stop) => format!("stopped by {} ({})", stop.by, stop.reason),
        };
        let mut line = format!(
            "{how} after {}, {}, {:.1} s",
            count(progress.epoch, "epoch"),
            count(progress.iter, "iteration"),
            self.seconds
        );
        let is_metric = |name: &str| !matches!(name, "time" | "data_time");
        for (name, history) in message_hub.scalars(Mode::Val).filter(|(name, _)| is_metric(name)) {
            let Some(value) = history.current() else { continue };
            line += &format!("; {name} {}", fixed(value, 4));
            let hook = self.runner.hook::<CheckpointHook>();
            if let Some((best, dir)) = hook.and_then(|hook| hook.best_so_far(name)) {
                line += &format!(" (best {}: {dir})", fixed(best, 4));
            }
        }
        match self.runner.session().unreadable().len() {
            0 => {}
            n => line += &format!("; unreadable samples left out: {n}"),
        }
        let here = std::env::current_dir().unwrap_or_default();
        let near = dirs.work.strip_prefix(&here).ok().filter(|near| !near.as_os_str().is_empty());
        format!("{line}; in {}", near.unwrap_or(&dirs.work).display())
    }

    /// Throughput, memory, the time of hooks, and the warnings once more.
    pub fn more(&self) -> Vec<String> {
        let facts =
            [self.throughput(), self.memory(), self.hooks()].into_iter().flatten().collect::<Vec<_>>();
        let facts = (!facts.is_empty()).then(|| format!("  {}", facts.join("; ")));
        facts.into_iter().chain(self.warnings()).collect()
    }

    /// Of the iterations alone: validations and saves take their own time.
    fn throughput(&self) -> Option<String> {
        let State { message_hub, batch_size, .. } = self.state();
        let each = message_hub.scalar(Mode::Train, "time")?.global_mean().filter(|mean| *mean > 0.0)?;
        let rate = *batch_size as f64 / each;
        let digits = if rate < 100.0 { fixed(rate, 1) } else { grouped(rate.round() as u64) };
        Some(format!("{digits} samples/s in training"))
    }

    fn memory(&self) -> Option<String> {
        memory::peak().map(|bytes| format!("at most {} of memory", memory::human(bytes as f64)))
    }

    /// The hooks that took most, where there is anything to tell.
    fn hooks(&self) -> Option<String> {
        let session = self.runner.session();
        let profile = &session.state.profile;
        let all = session.hooks.keys().iter().enumerate();
        let took = |hook: usize| Point::ALL.iter().map(|point| profile.estimate(hook, *point)).sum::<f64>();
        let mut times: Vec<_> = all.map(|(hook, key)| (took(hook), key)).collect();
        times.sort_by(|a, b| b.0.total_cmp(&a.0));
        let sum: f64 = times.iter().map(|(seconds, _)| seconds).sum();
        let named: Vec<_> = times
            .iter()
            .take(NAMED)
            .filter(|(seconds, _)| *seconds >= 0.01 * sum && *seconds > 0.0)
            .map(|(seconds, key)| format!("{key} {}", shown(*seconds)))
            .collect();
        (!named.is_empty()).then(|| format!("hooks took {}: {}", shown(sum), named.join(", ")))
    }

    fn warnings(&self) -> Vec<String> {
        let all = self.state().log.warnings();
        if all.is_empty() {
            return Vec::new();
        }
        let line = |(text, times): &(String, u64)| {
            let text = text.lines().next().unwrap_or_default();
            if *times > 1 { format!("    {text} ({times} times)") } else { format!("    {text}") }
        };
        let head = format!("  {}, once more:", count(all.len() as u64, "warning"));
        let more = all.len().saturating_sub(SHOWN);
        let rest = (more > 0).then(|| format!("    and {more} more: see the log file"));
        std::iter::once(head).chain(all.iter().take(SHOWN).map(line)).chain(rest).collect()
    }
}

/// `1.20 s`, and of less than a hundredth of a second `4.5 ms`.
fn shown(seconds: f64) -> String {
    if seconds < 0.01 { format!("{:.1} ms", 1e3 * seconds) } else { format!("{} s", fixed(seconds, 2)) }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn short_times_have_a_unit_that_fits_them() {
        let all = [1.2, 0.046, 0.00448, 0.00002].map(shown);
        assert_eq!(all, ["1.20 s", "0.05 s", "4.5 ms", "0.0 ms"]);
    }
}
