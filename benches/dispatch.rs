//! What hooks cost: `cargo bench --bench dispatch`. Nanoseconds an iteration of a model that does nothing.
//!
//! First the fastest of many short rounds, then a run of a million iterations in slices: the mean of each, so that what
//! grows with the length of a run would show.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use ndarray::{ArrayD, IxDyn};
use shanty::data::{DataLoader, Synthetic};
use shanty::hook::HookConfig;
use shanty::optim::Sgd;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::LoopTotals;
use shanty::run::{Runner, Session, TrainLoop};

/// Iterations of a round: few enough that their batches stay in the cache.
const ITERS: u64 = 500;
const ROUNDS: u64 = 400;
const REPEATS: usize = 5;

struct Nothing;
impl HostParams for Nothing {
    fn visit(&self, _: &mut dyn FnMut(ParamRef<'_>)) {}
    fn visit_mut(&mut self, _: &mut dyn FnMut(ParamMut<'_>)) {}
}
impl Model for Nothing {
    fn train_step(&mut self, _: &Batch, _: &StepCx) -> Result<Outputs> {
        Ok(Outputs { vars: [("loss".into(), 1.0)].into_iter().collect(), ..Outputs::default() })
    }
    fn eval_step(&mut self, _: &Batch) -> Result<Outputs> {
        Ok(Outputs::default())
    }
    fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Iterations and nothing else: the batches are made beforehand, of one sample (an empty one would be passed over).
struct Bare;
impl TrainLoop for Bare {
    fn totals(&self, _: u64) -> LoopTotals {
        LoopTotals { epochs: 1, iters: ITERS * ROUNDS, by_epoch: false }
    }
    fn run(&self, s: &mut Session, _: &DataLoader) -> Result<()> {
        s.enter(Phase::Train);
        s.fire(Event::BeforeTrain)?;
        let mut nanoseconds = f64::INFINITY;
        for _ in 0..ROUNDS {
            let batches = made();
            let began = Instant::now();
            for batch in batches {
                s.train_iter(batch)?;
            }
            nanoseconds = nanoseconds.min(began.elapsed().as_secs_f64() * 1e9 / ITERS as f64);
        }
        s.state.message_hub.update_info("ns", nanoseconds);
        s.fire(Event::AfterTrain)
    }
}

/// The ends of the slices of the long run.
const SLICES: [(u64, &str); 3] = [(10_000, "10k"), (100_000, "100k"), (1_000_000, "1M")];

/// A million iterations; the mean of each slice. The batches are made beforehand here too, [`ITERS`] at a time.
struct Long;
impl TrainLoop for Long {
    fn totals(&self, _: u64) -> LoopTotals {
        LoopTotals { epochs: 1, iters: SLICES[2].0, by_epoch: false }
    }
    fn run(&self, s: &mut Session, _: &DataLoader) -> Result<()> {
        s.enter(Phase::Train);
        s.fire(Event::BeforeTrain)?;
        let mut first = 0;
        for (end, name) in SLICES {
            let mut seconds = 0.0;
            for _ in 0..(end - first) / ITERS {
                let batches = made();
                let began = Instant::now();
                for batch in batches {
                    s.train_iter(batch)?;
                }
                seconds += began.elapsed().as_secs_f64();
            }
            s.state.message_hub.update_info(name, seconds * 1e9 / (end - first) as f64);
            first = end;
        }
        s.fire(Event::AfterTrain)
    }
}

fn made() -> Vec<Batch> {
    (0..ITERS).map(|_| Batch::new(ArrayD::zeros(IxDyn(&[1])), vec![0])).collect()
}

struct Idle;
impl Hook for Idle {}

const DEFAULT: [&str; 6] = [
    "{type: RuntimeInfoHook}",
    "{type: IterTimerHook}",
    "{type: DistSamplerSeedHook}",
    // A line is worth more than an iteration that does nothing: none falls into the measurement.
    "{type: LoggerHook, interval: 100000000, interval_exp_name: 100000000}",
    "{type: ParamSchedulerHook}",
    "{type: CheckpointHook, interval: -1, save_last: false}",
];

/// What is logged as often as MMEngine logs unless told otherwise.
const LOGGING: &str = "{type: LoggerHook, interval: 10}";

/// Runs the loop with these hooks, and looks at the message hub.
fn trained<T>(
    train_loop: impl TrainLoop + 'static,
    hooks: &[&str],
    idle: usize,
    see: impl Fn(&MessageHub) -> T,
) -> T {
    let dir = tempfile::tempdir().unwrap();
    let iters = train_loop.totals(0).iters;
    let data = DataLoader::new(Synthetic::new(1 << 24, [1, 1, 1], 2, 0));
    let mut builder = Runner::builder(Nothing)
        .train(data, train_loop, Sgd::new(0.1))
        .without_default_hooks()
        .work_dir(dir.path());
    let mut cx = BuildCx::new(0);
    for text in hooks {
        let spec = Spec::<dyn Hook>::parse(text).unwrap();
        builder = builder.boxed_hook(spec.build(&mut cx).unwrap(), spec.name(), spec.extra.clone());
    }
    for _ in 0..idle {
        builder = builder.boxed_hook(Box::new(Idle), "Idle", HookConfig::default());
    }
    let mut runner = builder.build().unwrap();
    runner.train().unwrap();
    let message_hub = &runner.session().state.message_hub;
    let recorded = message_hub.scalar(Mode::Train, "loss").map_or(0, |loss| loss.count());
    assert_eq!(recorded, if hooks.is_empty() { 0 } else { iters }, "the hooks were called");
    see(message_hub)
}

/// The fastest round of some runs: what else the machine does only adds.
fn cost(hooks: &[&str], idle: usize) -> f64 {
    let once = || trained(Bare, hooks, idle, |message_hub| message_hub.get_info("ns").unwrap());
    (0..REPEATS).map(|_| once()).fold(f64::INFINITY, f64::min)
}

fn long(name: &str, hooks: &[&str]) {
    let mut runs: Vec<_> = (0..REPEATS)
        .map(|_| {
            trained(Long, hooks, 0, |message_hub| SLICES.map(|(_, name)| message_hub.get_info(name).unwrap()))
        })
        .collect();
    let spread = |slice: usize, runs: &mut Vec<[f64; 3]>| {
        runs.sort_by(|a, b| a[slice].total_cmp(&b[slice]));
        let at = |i: usize| runs[i][slice];
        format!("{:.0} ({:.0}-{:.0})", at(REPEATS / 2), at(0), at(REPEATS - 1))
    };
    let [a, b, c] = [0, 1, 2].map(|slice| spread(slice, &mut runs));
    println!("{name:<32}{a:<18}{b:<18}{c}");
}

fn main() {
    let bare = cost(&[], 0);
    let default = cost(&DEFAULT, 0);
    let idle = cost(&[], 50);
    let both = cost(&DEFAULT, 50);
    println!("the loop without hooks          {bare:8.1} ns an iteration");
    println!("the six default hooks add       {:8.1} ns (target: below 1000)", default - bare);
    println!("50 idle hooks add               {:8.1} ns (target: below 200)", idle - bare);
    println!("50 idle beside the default six  {:8.1} ns (target: below 200)", both - default);

    println!("\na million iterations, ns each    to 10k            10k-100k          100k-1M");
    long("without hooks", &[]);
    long("the six default hooks", &DEFAULT);
    let logging = DEFAULT.map(|hook| if hook.contains("LoggerHook") { LOGGING } else { hook });
    long("and a line every 10 iterations", &logging);
}
