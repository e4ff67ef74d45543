//! What the layers of a network took in a run, beside what the machine can do.

use std::collections::HashMap;

use crate::kernels::{PEAK_SIZE, peak_flops};
use crate::nn::{Cost, LayerTimes};

/// Layers that a table names; the others are summed up.
const ROWS: usize = 40;

/// The sums of all passes that were measured.
#[derive(Debug, Clone, Default)]
pub struct LayerTotals {
    layers: Vec<LayerTimes>,
    by_path: HashMap<String, usize>,
    peak: Option<f64>,
}

impl LayerTotals {
    /// Each layer with what it took by itself, in the order of the first calls.
    pub fn all(&self) -> &[LayerTimes] {
        &self.layers
    }

    /// Operations a second of a matrix product on this machine, if that was measured.
    pub fn peak(&self) -> Option<f64> {
        self.peak
    }

    /// Adds what a layer took in a pass; its place.
    pub(super) fn add(&mut self, layer: &LayerTimes) -> usize {
        match self.by_path.get(&layer.path) {
            Some(at) => {
                self.layers[*at].forward += layer.forward;
                self.layers[*at].backward += layer.backward;
                *at
            }
            None => {
                self.layers.push(layer.clone());
                self.by_path.insert(layer.path.clone(), self.layers.len() - 1);
                self.layers.len() - 1
            }
        }
    }

    pub(super) fn measure_peak(&mut self) {
        let multiplied = |layer: &LayerTimes| layer.forward.multiply_adds > 0;
        if self.peak.is_none() && self.layers.iter().any(multiplied) {
            self.peak = Some(peak_flops());
        }
    }

    /// A line for each layer, longest first, with its rate and what it is of the machine's; none without layers.
    pub(super) fn table(&self) -> Option<String> {
        let mut sorted: Vec<&LayerTimes> = self.layers.iter().collect();
        sorted.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
        let (named, others) = sorted.split_at(sorted.len().min(ROWS));
        let mut rows: Vec<[String; 8]> = vec![TITLES.map(str::to_owned)];
        rows.extend(named.iter().map(|layer| self.row(layer.name().to_owned(), layer.kind, layer)));
        let sum = |layers: &[&LayerTimes]| {
            let first = layers.first().copied().cloned();
            first.map(|first| {
                layers[1..].iter().fold(first, |mut sum, layer| {
                    sum.forward += layer.forward;
                    sum.backward += layer.backward;
                    sum
                })
            })
        };
        rows.extend(sum(others).map(|sum| self.row(format!("{} more", others.len()), "", &sum)));
        rows.push(self.row("together".to_owned(), "", &sum(&sorted)?));
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        let line = |row: &[String; 8]| {
            let cells = row.iter().zip(widths).enumerate();
            let cells = cells.map(|(at, (cell, width))| match at {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let peak = self.peak.map(|peak| {
            format!(
                "the machine: {:.1} GFLOP/s, measured by a product of two matrices of {PEAK_SIZE} x {PEAK_SIZE} on {} threads",
                peak / 1e9,
                rayon::current_num_threads()
            )
        });
        Some(rows.iter().map(line).chain(peak).collect::<Vec<_>>().join("\n"))
    }

    fn row(&self, name: String, kind: &str, layer: &LayerTimes) -> [String; 8] {
        let cells = |cost: &Cost| {
            let rate = 2.0 * cost.multiply_adds as f64 / cost.seconds;
            let known = cost.multiply_adds > 0 && cost.seconds > 0.0;
            let share = self.peak.filter(|_| known).map(|peak| format!("{:.0} %", 100.0 * rate / peak));
            let rate = if known { format!("{:.1}", rate / 1e9) } else { String::new() };
            [format!("{:.4} s", cost.seconds), rate, share.unwrap_or_default()]
        };
        let [forward, backward] = [cells(&layer.forward), cells(&layer.backward)];
        let [a, b, c] = forward;
        let [d, e, f] = backward;
        [name, kind.to_owned(), a, b, c, d, e, f]
    }
}

const TITLES: [&str; 8] =
    ["layer", "type", "forward", "GFLOP/s", "of peak", "backward", "GFLOP/s", "of peak"];

fn seconds(layer: &LayerTimes) -> f64 {
    layer.forward.seconds + layer.backward.seconds
}
