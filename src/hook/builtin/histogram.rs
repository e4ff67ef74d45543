//! Histograms of weights and gradients.

use crate::base::number::count;
use crate::plugin::prelude::*;
use crate::vis::to_json;

/// Tells the event log every `interval` iterations how the values of each trained tensor are spread, and those of its
/// gradient before clipping: `TensorboardVisBackend` draws it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HistogramHook {
    /// Iterations between two of a tensor; where gradients are accumulated, at the update that follows.
    #[schemars(range(min = 1))]
    pub interval: u64,
    /// Bins of equal width between the smallest and the largest value.
    #[schemars(range(min = 2, max = 1000))]
    pub bins: usize,
    /// Whether the weights are told.
    pub weights: bool,
    /// Whether the gradients are.
    pub gradients: bool,
    #[serde(skip)]
    due: Due,
}

/// The iteration at which the next are due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Due(u64);

impl Default for HistogramHook {
    fn default() -> Self {
        Self { interval: 500, bins: 30, weights: true, gradients: true, due: Due::default() }
    }
}

impl HistogramHook {
    fn tell(&self, set: Set, cx: &mut Ctx<'_>, step: u64) -> Result<()> {
        let prefix = if set == Set::Grads { "gradients" } else { "weights" };
        let (mut told, mut without, bins) = (Vec::new(), Vec::new(), self.bins);
        cx.model.read(set, &crate::params::trained, &mut |info, values| {
            let values = values.iter().map(|value| f64::from(*value));
            let name = format!("{prefix}/{}", info.name);
            match histogram(values, bins) {
                Some(event) => told.push(event.with("name", name)),
                None => without.push(name),
            }
        })?;
        told.into_iter().for_each(|event| cx.vis.add(event.with("step", step)));
        if let Some(first) = without.first() {
            cx.log.warn(format_args!(
                "HistogramHook: {} without a finite value, first {first}: no histogram of them",
                count(without.len() as u64, "tensor")
            ));
        }
        Ok(())
    }
}

/// The event of finite values, with the number of the others if there are some; none where none is finite.
fn histogram(values: impl Iterator<Item = f64> + Clone, bins: usize) -> Option<VisEvent> {
    let not_finite = values.clone().filter(|value| !value.is_finite()).count() as u64;
    let finite = values.filter(|value| value.is_finite());
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut num, mut sum, mut sum_squares) = (0u64, 0.0, 0.0);
    for value in finite.clone() {
        (min, max) = (min.min(value), max.max(value));
        (num, sum, sum_squares) = (num + 1, sum + value, sum_squares + value * value);
    }
    let width = if max > min { (max - min) / bins as f64 } else { 1.0 };
    let mut counts = vec![0u64; bins];
    for value in finite {
        let at = (((value - min) / width) as usize).min(bins.saturating_sub(1));
        counts.get_mut(at).into_iter().for_each(|count| *count += 1);
    }
    let limit = |at: usize| if at == bins && max > min { max } else { min + width * at as f64 };
    let limits: Vec<_> = (1..=bins).map(limit).map(to_json).collect();
    let event = VisEvent::new("histogram").with("min", to_json(min)).with("max", to_json(max));
    let event = event.with("num", num).with("sum", to_json(sum)).with("sum_squares", to_json(sum_squares));
    let event = event.with("limits", limits).with("counts", counts);
    (num > 0).then(|| if not_finite > 0 { event.with("not_finite", not_finite) } else { event })
}

impl Hook for HistogramHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(self)
    }

    /// Before the gradients are clipped or looked at by others.
    fn priority(&self) -> Priority {
        Priority::LOW
    }

    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.due)
    }

    fn after_backward(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        let step = cx.progress.iter + 1;
        if step < self.due.0.max(self.interval) || cx.info.placeholders {
            return cx.no_op();
        }
        self.due = Due((step / self.interval + 1).saturating_mul(self.interval));
        if self.weights {
            self.tell(Set::Values, cx, step)?;
        }
        if self.gradients {
            self.tell(Set::Grads, cx, step)?;
        }
        Ok(())
    }
}

register! {
    /// Tells the event log at intervals how weights and gradients are spread.
    dyn Hook, "HistogramHook" => HistogramHook
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five values in two bins, one of them on the edge; what is not finite is not counted.
    #[test]
    fn values_are_counted_in_bins_of_equal_width() {
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, f64::NAN, f64::INFINITY];
        let event = histogram(values.into_iter(), 2).unwrap();
        let of = |key: &str| event.get(key).unwrap().to_string();
        let told = ["num", "sum", "sum_squares", "min", "max", "limits", "counts", "not_finite"].map(of);
        assert_eq!(told, ["5", "10", "30", "0", "4", "[2,4]", "[2,3]", "2"]);
        assert!(histogram([f64::NAN].into_iter(), 2).is_none());
        let alike = histogram([7.0, 7.0].into_iter(), 3).unwrap();
        assert_eq!(alike.get("counts").unwrap().to_string(), "[2,0,0]");
        assert!(alike.get("not_finite").is_none());
    }
}
