//! An iteration of a model that does nothing, under the six default hooks, does not touch the heap.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ndarray::{ArrayD, IxDyn};
use shanty::data::{DataLoader, Synthetic};
use shanty::optim::Sgd;
use shanty::plugin::prelude::*;
use shanty::registry::Spec;
use shanty::run::LoopTotals;
use shanty::run::{Runner, Session, TrainLoop};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches a thread-local number only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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

const ITERS: u64 = 3000;

struct Bare;
impl TrainLoop for Bare {
    fn totals(&self, _: u64) -> LoopTotals {
        LoopTotals { epochs: 1, iters: ITERS, by_epoch: false }
    }
    fn run(&self, s: &mut Session, _: &DataLoader) -> Result<()> {
        s.enter(Phase::Train);
        s.fire(Event::BeforeTrain)?;
        let batches: Vec<_> = (0..ITERS).map(|_| Batch::new(ArrayD::zeros(IxDyn(&[1])), vec![0])).collect();
        for (iter, batch) in batches.into_iter().enumerate() {
            if iter == 1 {
                ALLOCATIONS.set(0);
            }
            s.train_iter(batch)?;
        }
        s.state.message_hub.update_info("allocations", ALLOCATIONS.get() as f64);
        s.fire(Event::AfterTrain)
    }
}

/// Log lines are the one thing that allocates: none is due here.
#[test]
fn no_allocations_after_the_first_iteration() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataLoader::new(Synthetic::new(1 << 20, [1, 1, 1], 2, 0));
    let mut builder = Runner::builder(Nothing)
        .train(data, Bare, Sgd::new(0.1))
        .without_default_hooks()
        .work_dir(dir.path());
    for text in [
        "{type: RuntimeInfoHook}",
        "{type: IterTimerHook}",
        "{type: DistSamplerSeedHook}",
        "{type: LoggerHook, interval: 100000000, interval_exp_name: 100000000}",
        "{type: ParamSchedulerHook}",
        "{type: CheckpointHook, interval: -1, save_last: false}",
    ] {
        let spec = Spec::<dyn Hook>::parse(text).unwrap();
        let hook = spec.build(&mut BuildCx::new(0)).unwrap();
        builder = builder.boxed_hook(hook, spec.name(), spec.extra.clone());
    }
    let mut runner = builder.build().unwrap();
    runner.train().unwrap();
    let message_hub = &runner.session().state.message_hub;
    assert_eq!(
        message_hub.scalar(Mode::Train, "loss").map(|loss| loss.count()),
        Some(ITERS),
        "the hooks were called"
    );
    assert_eq!(message_hub.get_info("allocations"), Some(0.0));
}
