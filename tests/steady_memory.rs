//! Once warm, a training iteration of the shipped networks asks the heap for nothing large.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)] // helpers of tests

mod nets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shanty::model::{Model, StepCx};
use shanty::optim::{ClipGrad, OptimWrapper, Sgd};

/// Counts what is asked for in pieces of 64 KiB and more.
struct Counting;

static LARGE: AtomicU64 = AtomicU64::new(0);

fn count(size: usize) {
    LARGE.fetch_add(u64::from(size >= 1 << 16), Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Which thread runs which task varies, and each keeps working memory of its own: with one thread the count is exact.
#[test]
fn a_warm_iteration_asks_for_nothing_large() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for (name, mut model, batch) in nets::all() {
        let mut optim = OptimWrapper::new(Sgd::new(0.01).momentum(0.9)).clip(ClipGrad::by_norm(5.0));
        let mut step = |iter| {
            pool.install(|| {
                model.train_step(&batch, &StepCx { seed: 0, iter, loss_scale: 1.0 }).unwrap();
                optim.update(&mut model).unwrap();
            });
        };
        (0..2).for_each(&mut step);
        let before = LARGE.load(Relaxed);
        (2..5).for_each(&mut step);
        assert_eq!(LARGE.load(Relaxed) - before, 0, "{name}");
    }
}
