//! How an iteration divides into computing, waiting and communicating, and what that predicts for more ranks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::RunnerBuilder;
use super::lr_find::LEFT_OUT;
use crate::base::{Elem, Error, Result};
use crate::comm::{Comm, Spent, Timed};
use crate::config::{Node, overridden};
use crate::hook::{Ctx, Hook, HookConfig, HookResult, Priority, Step};

/// Iterations that are not counted: memory is found, and files come into the cache.
const WARM: u64 = 3;
/// Calls of which the time of one is the mean, and the elements of two sums of which the time of a byte is the slope.
const CALLS: u32 = 100;
/// The same of sums as large as an iteration's.
const LARGE_CALLS: u32 = 20;
const SUMS: [usize; 2] = [1 << 12, 1 << 20];

/// A step of several ranks, in seconds; means over the ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scale {
    /// How many ranks.
    pub world: usize,
    /// All of it.
    pub iteration: f64,
    /// Until the slowest rank has come, before each call.
    pub waiting: f64,
    /// What the calls take from then on.
    pub communication: f64,
    /// Calls of the group.
    pub calls: f64,
    /// Bytes that a rank gives to them.
    pub bytes: f64,
    /// A call without data: α.
    pub of_call: f64,
    /// A byte of a sum: β.
    pub of_byte: f64,
    /// One sum of as many bytes as an iteration's, in the order of the ranks.
    pub of_sum: f64,
    /// The same by the library's own call, whose order is its own; of a transport that has one.
    pub of_library: Option<f64>,
}

impl Scale {
    /// What the rank does by itself.
    pub fn compute(&self) -> f64 {
        (self.iteration - self.waiting - self.communication).max(0.0)
    }

    /// A step of so many ranks, each with as large a batch: a call sends a message to each other rank, and of a sum each
    /// rank sends and gets 2 (w - 1) / w.
    pub fn predicted(&self, world: usize) -> f64 {
        let others = |world: usize| world.saturating_sub(1) as f64;
        let share = |world: usize| others(world) / world.max(1) as f64;
        let calls = self.calls * self.of_call * others(world) / others(self.world).max(1.0);
        let bytes = self.bytes * self.of_byte * share(world) / share(self.world.max(2));
        self.compute() + self.waiting + calls + bytes
    }

    /// How much of its time a rank computes, on so many.
    pub fn efficiency(&self, world: usize) -> f64 {
        self.compute() / self.predicted(world)
    }
}

/// Trains what a config describes for some iterations, on all ranks of a group, and measures them. Nothing is written;
/// validations, schedules and custom hooks are left out.
///
/// # Errors
/// As those of a training; a group of one.
pub fn scale(node: &Node, name: Option<&str>, comm: Arc<dyn Comm>, iters: u64) -> Result<Scale> {
    let world = comm.place().world;
    if world == 1 {
        return Err(Error::config("one rank has nothing to wait for, and nobody to tell: start several"));
    }
    let gone = LEFT_OUT.into_iter().filter(|key| node.get(key).is_some()).map(|key| format!("~{key}"));
    let iters = iters.max(1);
    let length = format!("train_cfg={{_delete_: true, by_epoch: false, max_iters: {}}}", iters + WARM);
    let quiet = ["default_hooks.checkpoint=null", "default_hooks.logger=null", "resume=false"];
    let changes: Vec<_> = gone.chain([length]).chain(quiet.map(str::to_owned)).collect();
    let node = overridden(node, &changes)?;
    let timed = Arc::new(Timed::new(Arc::clone(&comm)));
    let seen = Arc::new(Mutex::new(None));
    let watch = Stopwatch { timed: Arc::clone(&timed), iters, began: None, seen: Arc::clone(&seen) };
    let options = HookConfig { priority: Some(Priority::LOWEST), ..HookConfig::default() };
    let builder = RunnerBuilder::from_config_among(&node, name, timed)?.dry();
    builder.boxed_hook(Box::new(watch), "the stopwatch", options).build()?.train()?;
    let seen = *seen.lock().unwrap_or_else(PoisonError::into_inner);
    let (seconds, spent) = seen.ok_or_else(|| Error::invalid("the training ended before it was measured"))?;
    let per_step = |value: f64| value / iters as f64 / world as f64;
    let Spent { calls, bytes, waiting, moving } = spent;
    let mut own = [seconds, waiting.as_secs_f64(), moving.as_secs_f64(), calls as f64, bytes as f64];
    comm.sum(&mut own)?;
    let [iteration, waiting, communication, calls, bytes] = own.map(per_step);
    let measured = Scale { world, iteration, waiting, communication, calls, bytes, ..Scale::default() };
    measured.with_costs(&*comm)
}

/// The mean seconds of a call that all ranks make.
fn seconds(comm: &dyn Comm, calls: u32, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    comm.agree(0)?;
    let began = Instant::now();
    (0..calls).try_for_each(|_| call())?;
    Ok(began.elapsed().as_secs_f64() / f64::from(calls))
}

/// The seconds of a sum of so many elements.
fn of_sum(comm: &dyn Comm, len: usize, calls: u32) -> Result<f64> {
    let mut data = vec![0.0 as Elem; len];
    seconds(comm, calls, || {
        data = comm.finish(comm.start_sum(std::mem::take(&mut data), 1.0)?)?;
        Ok(())
    })
}

impl Scale {
    /// With what calls and sums cost by themselves.
    fn with_costs(self, comm: &dyn Comm) -> Result<Self> {
        let of_call = seconds(comm, CALLS, || comm.agree(0).map(drop))?;
        let [small, large] = SUMS;
        let bytes = (large - small) * size_of::<Elem>();
        let of_byte = (of_sum(comm, large, CALLS)? - of_sum(comm, small, CALLS)?) / bytes as f64;
        let len = (self.bytes / size_of::<Elem>() as f64).ceil() as usize;
        let (mut data, mut has_one) = (vec![0.0 as Elem; len], false);
        let of_library = seconds(comm, LARGE_CALLS, || {
            has_one = comm.sum_in_any_order(&mut data)?;
            Ok(())
        })?;
        Ok(Self {
            of_call,
            of_byte: of_byte.max(0.0),
            of_sum: of_sum(comm, len, LARGE_CALLS)?,
            of_library: has_one.then_some(of_library),
            ..self
        })
    }
}

/// Measures all iterations but the first ones.
struct Stopwatch {
    timed: Arc<Timed>,
    iters: u64,
    began: Option<Instant>,
    seen: Arc<Mutex<Option<(f64, Spent)>>>,
}

impl Hook for Stopwatch {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        if cx.progress.iter == WARM {
            self.timed.take();
            self.began = Some(Instant::now());
        }
        if let Some(began) = self.began.filter(|_| cx.progress.iter == WARM + self.iters) {
            let seen = Some((began.elapsed().as_secs_f64(), self.timed.take()));
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
        Ok(())
    }
}
