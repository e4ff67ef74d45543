//! A bar for the iterations of a training; only on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::escape::escaped;
use crate::base::number::{duration, fixed, short};
use crate::hook::History;
use crate::plugin::prelude::*;

/// Seconds between two looks: more often nobody reads it.
const PERIOD: f64 = 0.1;

/// Moves the bar. The last hook in line.
pub(super) struct ProgressHook {
    bar: ProgressBar,
    /// When it was drawn last.
    drawn: f64,
    /// The first metric of the last validation.
    metric: String,
}

impl ProgressHook {
    /// `None` where nobody watches.
    pub fn on_terminal() -> Option<Self> {
        super::console::is_watched().then(|| {
            let style = ProgressStyle::with_template("{bar:16.cyan} {wide_msg}");
            let bar =
                ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            super::console::show(&bar);
            Self { bar, drawn: f64::NEG_INFINITY, metric: String::new() }
        })
    }

    fn is_period_over(&self, now: f64) -> bool {
        now - self.drawn >= PERIOD
    }

    /// Whether it is time to draw again.
    fn is_due(&mut self, now: f64) -> bool {
        let due = self.is_period_over(now);
        if due {
            self.drawn = now;
        }
        due
    }
}

/// `564/940 iterations, 17.2/s, 0:00:21 left, loss 0.0162, lr 0.0189, accuracy/top1 99.6656`: what matters most comes
/// first, since a narrow terminal cuts the end.
fn training(progress: &Progress, message_hub: &MessageHub, metric: &str) -> String {
    let mean = |name: &str| message_hub.scalar(Mode::Train, name)?.mean(10);
    let mut text = format!("{}/{} iterations", progress.iter, progress.max_iters);
    let mut add = |part: String| text += &format!(", {part}");
    mean("time").filter(|time| *time > 0.0).into_iter().for_each(|time| add(rate(1.0 / time)));
    message_hub.get_info("eta").into_iter().for_each(|eta| add(format!("{} left", duration(eta))));
    mean("loss").into_iter().for_each(|loss| add(format!("loss {}", fixed(loss, 4))));
    let lr = message_hub.scalar(Mode::Train, "lr").and_then(History::current);
    lr.into_iter().for_each(|lr| add(format!("lr {}", short(lr))));
    if !metric.is_empty() {
        add(metric.to_owned());
    }
    text
}

/// Iterations a second, or seconds an iteration.
fn rate(each_second: f64) -> String {
    if each_second >= 1.0 {
        format!("{each_second:.1}/s")
    } else {
        format!("{:.1} s each", 1.0 / each_second)
    }
}

impl Hook for ProgressHook {
    fn priority(&self) -> Priority {
        Priority::LOWEST
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.bar.set_length(cx.progress.max_iters);
        self.bar.set_position(cx.progress.iter);
        Ok(())
    }

    fn reads_numbers(&self, point: Point, progress: &Progress) -> bool {
        point == Point::AfterTrainIter && self.is_period_over(progress.now)
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if self.is_due(cx.progress.now) {
            self.bar.set_message(training(cx.progress, cx.message_hub, &self.metric));
            self.bar.set_position(cx.progress.iter);
        }
        Ok(())
    }

    fn after_val_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if self.is_due(cx.progress.now) {
            let Progress { eval_batch, eval_len, .. } = cx.progress;
            let left = cx
                .message_hub
                .get_info("eta")
                .map_or(String::new(), |eta| format!(", {} left", duration(eta)));
            self.bar.set_message(format!("validation, {eval_batch}/{eval_len} batches{left}"));
        }
        Ok(())
    }

    fn after_val_epoch(&mut self, _cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        if let Some((name, value)) = metrics.0.first() {
            self.metric = format!("{} {}", escaped(name), fixed(*value, 4));
        }
        Ok(())
    }

    fn after_train(&mut self, _cx: &mut Ctx<'_>) -> HookResult {
        self.bar.finish_and_clear();
        Ok(())
    }

    fn on_error(&mut self, _cx: &mut Ctx<'_>, _error: &Error) -> HookResult {
        self.bar.finish_and_clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_tells_what_matters_most_first() {
        let mut hub = MessageHub::default();
        for (name, value) in [("lr", 0.0189), ("loss", 0.0162), ("time", 0.05)] {
            hub.update_scalar(Mode::Train, name, value);
        }
        hub.update_info("eta", 21.9);
        let progress = Progress { iter: 564, max_iters: 940, ..Progress::default() };
        assert_eq!(
            training(&progress, &hub, "accuracy/top1 99.6656"),
            "564/940 iterations, 20.0/s, 0:00:21 left, loss 0.0162, lr 0.0189, accuracy/top1 99.6656"
        );
        assert_eq!(training(&progress, &MessageHub::default(), ""), "564/940 iterations");
        assert_eq!([rate(312.04), rate(1.0), rate(0.25)], ["312.0/s", "1.0/s", "4.0 s each"]);
    }
}
