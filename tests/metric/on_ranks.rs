//! Metrics that ranks count together, each over its share of the samples, through a run.

use std::collections::BTreeSet;
use std::path::Path;

use shanty::data::{ArrayDataset, Column, DataLoader, DefaultSampler};
use shanty::hook::Metrics;
use shanty::metric::DumpResults;
use shanty::model::{Model, Outputs, SCORES, StepCx};
use shanty::params::{HostParams, ParamMut, ParamRef};
use shanty::registry::entries;
use shanty::run::Runner;
use shanty::testing::ranks;

use super::figures::{Case, built};
use super::*;

/// Predicts what goes in.
struct Echo;

impl HostParams for Echo {
    fn visit(&self, _: &mut dyn FnMut(ParamRef<'_>)) {}
    fn visit_mut(&mut self, _: &mut dyn FnMut(ParamMut<'_>)) {}
}

impl Model for Echo {
    fn train_step(&mut self, _: &Batch, _: &StepCx) -> Result<Outputs> {
        Ok(Outputs::default())
    }
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        Ok(Outputs::predicted(SCORES, batch.inputs()?.clone()))
    }
    fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// What the ranks say of a case, which is the same on all of them.
fn on_ranks(
    world: usize,
    (scores, target): &(ArrayD<Elem>, Column),
    round_up: bool,
    dir: &Path,
    metrics: impl Fn() -> Evaluator + Sync,
) -> Metrics {
    let all = ranks(world, |_, comm| {
        let set = ArrayDataset::new("inputs", scores.clone())?;
        let set = match target {
            Column::Int(target) => set.with("target", target.clone())?,
            Column::Float(target) => set.with("target", target.clone())?,
            other => unreachable!("no numbers: {other:?}"),
        };
        let sampler = DefaultSampler { round_up, ..DefaultSampler::default() };
        let data = DataLoader::new(set).sampler(sampler).batch_size(7);
        let run = Runner::builder(Echo).val(data, metrics()).seed(0);
        run.work_dir(dir).comm(comm).build()?.val()
    });
    let mut all = all.unwrap();
    let first = all.remove(0);
    // NaN is no number that equals itself.
    let bits = |metrics: &Metrics| -> Vec<u64> { metrics.0.iter().map(|(_, v)| v.to_bits()).collect() };
    assert!(all.iter().all(|other| bits(other) == bits(&first)), "equal bits on all ranks");
    first
}

/// All samples of a case.
fn samples(case: &Case) -> (ArrayD<Elem>, Column) {
    let (batch, outputs) = case.batch(&(0..case.len()).collect::<Vec<_>>());
    (outputs.only().unwrap().1.clone(), batch.get("target").unwrap().clone())
}

/// Equal values and tables on 1, 2, 3 and 4 ranks.
fn equal_on_ranks(
    what: &str,
    samples: &(ArrayD<Elem>, Column),
    metrics: impl Fn() -> Evaluator + Sync + Copy,
) {
    let dir = tempfile::tempdir().unwrap();
    let one = on_ranks(1, samples, true, dir.path(), metrics);
    for world in [2, 3, 4] {
        let many = on_ranks(world, samples, (what.len() + world).is_multiple_of(2), dir.path(), metrics);
        assert_eq!(one.0.len(), many.0.len());
        for ((name, one), (other, many)) in one.0.iter().zip(&many.0) {
            assert_eq!(name, other);
            let near = (one - many).abs() <= 1e-12 * one.abs().max(1.0);
            assert!(near || one.is_nan() && many.is_nan(), "{what}: {name} {one} {many} on {world}");
        }
        assert_eq!(one.tables().len(), many.tables().len());
        for ((name, one), (_, many)) in one.tables().iter().zip(many.tables()) {
            let far = one.values().iter().zip(many.values()).map(|(a, b)| (a - b).abs());
            assert!(far.fold(0.0, f64::max) < 1e-12, "{what}: {name} on {world}");
        }
    }
}

/// Every registered metric, on 1, 2, 3 and 4 ranks, whose shares do not come out even: with repeats that fill them up,
/// which do not count, or with one sample more on some.
#[test]
fn every_metric_has_one_value_on_any_number_of_ranks() {
    let mut taken = BTreeSet::from(["DumpResults".to_owned()]);
    for case in Case::all() {
        let of_classes = ["{type: ConfusionMatrix}".to_owned()];
        let of_labels = ["{type: VOCMultiLabelMetric}", "{type: VOCAveragePrecision}"].map(str::to_owned);
        let configs: Vec<String> = case.expected.keys().cloned().chain(of_classes).chain(of_labels).collect();
        // What has no figure for these samples has none in parts.
        let configs: Vec<String> =
            configs.into_iter().filter(|config| case.evaluated(config, 1).is_ok()).collect();
        let metrics = || {
            let build = |(nth, config): (usize, &String)| {
                let spec: Spec<dyn Metric> = parse("c.yaml", config).unwrap().read().unwrap();
                let options = MetricConfig { prefix: Some(format!("m{nth}")), ..spec.extra.clone() };
                (options, spec.build(&mut BuildCx::default()).unwrap())
            };
            Evaluator::with_options(configs.iter().enumerate().map(build).collect()).unwrap()
        };
        taken.extend(configs.iter().map(|config| {
            let name = config.trim_start_matches("{type: ").split([',', '}']).next().unwrap();
            name.to_owned()
        }));
        equal_on_ranks(&case.name, &samples(&case), metrics);
    }
    // Masks of 5 by 3, each place with the scores of 4 classes.
    let scores = ArrayD::from_shape_fn(vec![23, 4, 5, 3], |at| {
        ((at[0] * 7 + at[1] * 5 + at[2] * 3 + at[3]) % 11) as Elem
    });
    let target = ArrayD::from_shape_fn(vec![23, 5, 3], |at| ((at[0] + at[1] * at[2]) % 4) as i64);
    equal_on_ranks("masks", &(scores, Column::Int(target)), || built("{type: IoUMetric}"));
    taken.insert("IoUMetric".to_owned());
    let registered: BTreeSet<String> = entries("metric").map(|entry| entry.name.to_owned()).collect();
    assert_eq!(taken, registered);
}

/// What is predicted for each sample stands in one file, in the order of the samples, whoever predicted it.
#[test]
fn predictions_of_all_ranks_are_gathered_in_order() {
    let case = Case::all().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let file = |world: usize| {
        let path = dir.path().join(format!("{world}.jsonl"));
        let dump = || DumpResults::new(&path, Vec::new()).unwrap().into();
        on_ranks(world, &samples(&case), true, dir.path(), dump);
        std::fs::read_to_string(&path).unwrap()
    };
    let one = file(1);
    assert_eq!(one.lines().count(), case.len());
    assert_eq!(file(2), one);
    assert_eq!(file(3), one);
}
