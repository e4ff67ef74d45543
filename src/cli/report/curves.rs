//! The curves of a report: which scalars stand in one chart, and how many points of them are kept.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::rounded;
use crate::base::escape::brief;
use crate::base::number::{count, steep};
use crate::cli::run_files::{Line, RunFiles};
use crate::hook::Mode;

/// Points of all curves together: they take half of a megabyte.
const POINTS: usize = 30_000;
/// Points of one curve: more than a screen has columns.
const MOST: usize = 2_000;
/// Charts of a page, and curves of a chart: a browser draws them all at once.
const CHARTS: usize = 60;
const TOGETHER: usize = 40;
/// Places in the order of charts.
const METRIC: u8 = 1;
const OWN: u8 = 7;

/// One curve.
struct Curve {
    run: usize,
    name: String,
    mode: Mode,
    /// Of a hook's own scalars.
    own: bool,
    points: Vec<(f64, f64)>,
}

/// All charts, those first that are looked at first.
pub(super) fn charts(runs: &[RunFiles]) -> Vec<Value> {
    let curves: Vec<Curve> = runs.iter().enumerate().flat_map(|(i, run)| of_run(i, run)).collect();
    let mut titles: Vec<(u8, String)> = curves.iter().map(title).collect();
    let in_order = titles.clone();
    titles.sort_by_key(|(rank, _)| *rank);
    let mut seen = BTreeSet::new();
    titles.retain(|title| seen.insert(title.clone()));
    let left_out = keep_charts(&mut titles);
    let of = |title: &(u8, String)| -> Vec<&Curve> {
        curves.iter().zip(&in_order).filter(|(_, of)| *of == title).map(|(curve, _)| curve).collect()
    };
    let drawn: Vec<_> = titles.iter().map(|title| (title, of(title))).collect();
    let many: usize = drawn.iter().map(|(_, curves)| curves.len().min(TOGETHER)).sum();
    let kept = (POINTS / many.max(1)).clamp(20, MOST);
    let mut charts: Vec<Value> = drawn
        .iter()
        .map(|((_, title), curves)| {
            let shown: Vec<_> = curves.iter().take(TOGETHER).map(|curve| curve.json(kept)).collect();
            let note = (curves.len() > shown.len())
                .then(|| format!("The first {} of {} curves.", shown.len(), curves.len()));
            json!({"title": brief(title), "series": shown, "log": is_steep(curves), "note": note})
        })
        .collect();
    if left_out > 0
        && let Some(last) = charts.last_mut()
    {
        last["note"] =
            json!(format!("And {}: the event log has them.", count(left_out as u64, "more chart")));
    }
    charts
}

/// Keeps as many as can be looked at: all that every run has, and the first of its metrics and own scalars. How many are
/// left out.
fn keep_charts(titles: &mut Vec<(u8, String)>) -> usize {
    let all = titles.len();
    let is_own = |rank: u8| matches!(rank, METRIC | OWN);
    let usual = titles.iter().filter(|(rank, _)| !is_own(*rank)).count();
    let mut room = CHARTS.saturating_sub(usual);
    titles.retain(|(rank, _)| {
        let kept = !is_own(*rank) || room > 0;
        room = room.saturating_sub(usize::from(is_own(*rank)));
        kept
    });
    all - titles.len()
}

/// Whether a linear scale would show little but the beginning, as of most losses.
fn is_steep(curves: &[&Curve]) -> bool {
    let values = curves.iter().flat_map(|curve| &curve.points).map(|(_, y)| *y);
    curves.iter().all(|curve| curve.name.contains("loss")) && steep(values)
}

/// Where a curve stands, and in which chart.
fn title(curve: &Curve) -> (u8, String) {
    let name = curve.name.as_str();
    let evaluated = curve.mode != Mode::Train;
    match name {
        _ if name.contains("loss") => (0, "Loss".into()),
        "time" | "data_time" => (5, "Seconds an iteration".into()),
        _ if evaluated => (METRIC, without_class(name).into()),
        _ if name.ends_with("lr") => (2, "Learning rate".into()),
        _ if name.ends_with("grad_norm") => (3, "Gradient norm".into()),
        "samples/s" | "iterations/s" => (4, "Throughput".into()),
        "memory" => (6, "Memory (MiB)".into()),
        _ => (OWN, name.into()),
    }
}

/// Metrics of single classes stand in one chart: `single-label/recall_classwise/7`.
fn without_class(name: &str) -> &str {
    let is_number = |class: &str| !class.is_empty() && class.bytes().all(|byte| byte.is_ascii_digit());
    name.rsplit_once('/').filter(|(_, class)| is_number(class)).map_or(name, |(metric, _)| metric)
}

fn of_run(run: usize, files: &RunFiles) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    let mut add = |line: &Line, name: &str, value: f64| {
        let is_same = |curve: &Curve| (curve.mode, curve.own) == (line.mode, line.own) && curve.name == name;
        let found = curves.iter_mut().find(|curve| is_same(curve));
        match found {
            Some(curve) => curve.points.push((line.iter, value)),
            None => {
                let (name, points) = (name.to_owned(), vec![(line.iter, value)]);
                curves.push(Curve { run, name, mode: line.mode, own: line.own, points });
            }
        }
    };
    let batch = files.configured("train_dataloader.batch_size");
    for line in files.scalars() {
        for (name, value) in &line.values {
            add(line, name, *value);
        }
        let trains = line.mode == Mode::Train && !line.own;
        if let Some(time) = line.get("time").filter(|time| trains && *time > 0.0) {
            let (name, each) = batch.map_or(("iterations/s", 1.0), |batch| ("samples/s", batch));
            add(line, name, each / time);
        }
    }
    curves
}

impl Curve {
    fn json(&self, kept: usize) -> Value {
        let (thin, means) = (thinned(&self.points, kept), means(&self.points, kept));
        let name = if self.mode == Mode::Train { self.name.clone() } else { named(self.mode, &self.name) };
        let xs = |points: &[(f64, f64)]| points.iter().map(|(x, _)| rounded_place(*x)).collect::<Vec<_>>();
        let ys = |points: &[(f64, f64)]| points.iter().map(|(_, y)| rounded(*y)).collect::<Vec<_>>();
        let means = (!means.is_empty()).then(|| json!({"x": xs(&means), "y": ys(&means)}));
        let dash = self.mode != Mode::Train;
        json!({"run": self.run, "name": brief(&name), "dash": dash, "x": xs(&thin), "y": ys(&thin), "mean": means})
    }
}

/// `val loss` where training has a loss too; a metric is what it is, unless it is one of a test beside validations.
fn named(mode: Mode, name: &str) -> String {
    if mode == Mode::Test || matches!(name, "loss" | "time" | "data_time") {
        format!("{} {name}", mode.name())
    } else {
        name.to_owned()
    }
}

fn rounded_place(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

/// At most about `kept` points: of each bucket the smallest and the largest, in their order, so that no peak is lost;
/// the first, the last, and of those that are no number one a bucket.
fn thinned(points: &[(f64, f64)], kept: usize) -> Vec<(f64, f64)> {
    if points.len() <= kept {
        return points.to_vec();
    }
    let bucket = points.len().div_ceil((kept / 2).max(1));
    let mut thin: Vec<(f64, f64)> = Vec::with_capacity(kept + 2);
    thin.extend(points.first());
    for (i, part) in points.chunks(bucket).enumerate() {
        let finite = || part.iter().enumerate().filter(|(_, (_, y))| y.is_finite());
        let by_value = |a: &(usize, &(f64, f64)), b: &(usize, &(f64, f64))| a.1.1.total_cmp(&b.1.1);
        let bad = part.iter().position(|(_, y)| !y.is_finite());
        let mut take = [finite().min_by(by_value).map(|p| p.0), finite().max_by(by_value).map(|p| p.0), bad];
        take.sort();
        let mut before = if i == 0 { Some(0) } else { None };
        for at in take.into_iter().flatten() {
            if before != Some(at) {
                thin.extend(part.get(at));
            }
            before = Some(at);
        }
    }
    if let Some(last) = points.last().filter(|last| thin.last().is_some_and(|own| own.0 != last.0)) {
        thin.push(*last);
    }
    thin
}

/// The means of stretches, at their middles: what is seen of a noisy curve; none where all points are kept.
fn means(points: &[(f64, f64)], kept: usize) -> Vec<(f64, f64)> {
    if points.len() <= kept {
        return Vec::new();
    }
    let mean = |part: &[(f64, f64)]| {
        let finite: Vec<f64> = part.iter().map(|(_, y)| *y).filter(|y| y.is_finite()).collect();
        let (middle, _) = part.get(part.len() / 2)?;
        (!finite.is_empty()).then(|| (*middle, finite.iter().sum::<f64>() / finite.len() as f64))
    };
    points.chunks(points.len().div_ceil((kept / 4).max(1))).filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_ends_its_peaks_and_its_gaps() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        points[31_234].1 = 1e9;
        points[77_777].1 = -5.0;
        points[50_000].1 = f64::NAN;
        let thin = thinned(&points, 2000);
        assert!(thin.len() <= 2004, "{}", thin.len());
        assert_eq!([thin[0], thin[thin.len() - 1]], [points[0], points[99_999]]);
        assert!(thin.contains(&(31_234.0, 1e9)) && thin.contains(&(77_777.0, -5.0)));
        assert_eq!(thin.iter().filter(|(_, y)| y.is_nan()).map(|(x, _)| *x).collect::<Vec<_>>(), [50_000.0]);
        assert!(thin.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, each once");
        assert_eq!(thinned(&points[..100], 2000), points[..100]);
        assert!(means(&points[..100], 2000).is_empty());
        let flat: Vec<(f64, f64)> = (0..70_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        let means = means(&flat, 400);
        assert_eq!((means.len(), means[3]), (100, (700.0 * 3.0 + 350.0, 3.0)));
    }
}
