//! Once warm, a training iteration of the shipped networks asks the heap for nothing large, and a profile of a long run
//! grows no more.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)] // helpers of tests

mod nets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::Array2;
use shanty::data::Batch;
use shanty::hook::builtin::ProfilerHook;
use shanty::model::ImageClassifier;
use shanty::model::{Model, StepCx};
use shanty::nn::{Linear, MSELoss, ReLU, Sequential};
use shanty::optim::{Amp, ClipGrad, OptimWrapper, Sgd};
use shanty::prelude::{ArrayDataset, DataLoader, IterBasedTrainLoop, Point, Runner, Supervised};

/// Counts what is asked for in pieces of 64 KiB and more, and the bytes that are held.
struct Counting;

static LARGE: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicI64 = AtomicI64::new(0);
/// The most that were held.
static PEAK: AtomicI64 = AtomicI64::new(0);
/// The numbers are those of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn count(size: usize) {
    LARGE.fetch_add(u64::from(size >= 1 << 16), Relaxed);
    let held = HELD.fetch_add(size as i64, Relaxed) + size as i64;
    PEAK.fetch_max(held, Relaxed);
}

fn gone(size: usize) {
    HELD.fetch_sub(size as i64, Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        gone(layout.size());
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        gone(layout.size());
        count(size);
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls `f` on a thread of its own, which computes all by itself. Working memory belongs to threads: this one's is free
/// again when the call returns. That of a pool's thread is some time after the pool is dropped.
fn on_one_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let run =
        || rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap().install(f);
    std::thread::scope(|threads| threads.spawn(run).join().unwrap())
}

/// Which thread runs which task varies, and each keeps working memory of its own: with one thread the count is exact.
#[test]
fn a_warm_iteration_asks_for_nothing_large() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, mut model, batch) in nets::all() {
        let asked = on_one_thread(|| {
            let mut optim = OptimWrapper::new(Sgd::new(0.01).momentum(0.9)).clip(ClipGrad::by_norm(5.0));
            let mut step = |iter| {
                model.train_step(&batch, &StepCx { seed: 0, iter, loss_scale: 1.0 }).unwrap();
                optim.update(&mut model).unwrap();
            };
            (0..2).for_each(&mut step);
            let before = LARGE.load(Relaxed);
            (2..5).for_each(&mut step);
            LARGE.load(Relaxed) - before
        });
        assert_eq!(asked, 0, "{name}");
    }
}

/// What is kept for the way back is in bf16, and so are gradients between layers: with weights, momentum and working
/// memory a training takes at most 0.65 of the memory, and once warm it asks for nothing large either.
#[test]
fn mixed_precision_takes_two_thirds_of_the_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let peak = |build: fn() -> ImageClassifier, batch: &Batch, amp: Option<Amp>| {
        on_one_thread(|| {
            let before = HELD.load(Relaxed);
            PEAK.store(before, Relaxed);
            let mut model = build();
            model.init_weights(0).unwrap();
            let plain = OptimWrapper::new(Sgd::new(0.01).momentum(0.9));
            let mut optim = amp.into_iter().fold(plain, OptimWrapper::amp);
            let mut step = |iter| {
                let cx = StepCx { seed: 0, iter, loss_scale: optim.loss_scale(batch.len()) };
                optim.gradients(&mut model, |model| model.train_step(batch, &cx)).unwrap();
                optim.update(&mut model).unwrap();
            };
            (0..2).for_each(&mut step);
            let large = LARGE.load(Relaxed);
            step(2);
            assert_eq!(LARGE.load(Relaxed) - large, 0);
            (PEAK.load(Relaxed) - before) as f64
        })
    };
    let nets: [(&str, fn() -> ImageClassifier); 2] =
        [("resnet20", || nets::resnet(20, 16, 64)), ("vit", || nets::vit(6))];
    for (name, build) in nets {
        let batch = nets::batch([32, 3, 32, 32]);
        let [full, half] = [None, Some(Amp::default())].map(|amp| peak(build, &batch, amp));
        assert!(half < 0.65 * full, "{name}: {half} of {full} bytes, {:.3}", half / full);
    }
}

/// The trace of `--profile` has an end, and sums take the place of what follows: an hour of training takes as much memory
/// as a minute.
#[test]
fn a_profile_of_a_long_run_stays_flat() {
    const ITERS: u64 = 12_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let x = Array2::from_shape_fn((32, 3), |(n, axis)| ((n * (axis + 2)) % 13) as f32);
    let data = ArrayDataset::new("inputs", x.clone()).unwrap().with("target", x).unwrap();
    let network = Sequential::new().with(Linear::new(3, 4)).with(ReLU::new()).with(Linear::new(4, 3));
    // Bytes that are held at each hundredth iteration since the trace is full, and those of the spans.
    let (held, spans) = (Arc::new(Mutex::new(Vec::with_capacity(200))), Arc::new(Mutex::new(0)));
    let (notes, kept) = (Arc::clone(&held), Arc::clone(&spans));
    let mut runner = Runner::builder(Supervised::new(network, MSELoss::default()))
        .train(DataLoader::new(data).batch_size(4), IterBasedTrainLoop::new(ITERS), Sgd::new(0.001))
        .without_default_hooks()
        .hook(ProfilerHook::whole_run())
        .on(Point::AfterTrainIter, move |cx, _| {
            if cx.profile.is_cut() && cx.progress.iter.is_multiple_of(100) {
                notes.lock().unwrap().push(HELD.load(Relaxed));
                *kept.lock().unwrap() = cx.profile.spans().len();
            }
            Ok(())
        })
        .work_dir(dir.path())
        .build()
        .unwrap();
    runner.train().unwrap();
    let held = held.lock().unwrap();
    assert!(held.len() > 20, "the trace was full for {} hundred iterations", held.len());
    assert_eq!(*spans.lock().unwrap(), 100_000);
    let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
    assert!(most - least < 1 << 16, "{least} to {most} bytes");
    let profile = &runner.session().state.profile;
    let forward = profile.parts().iter().find(|(part, _)| *part == "forward").unwrap().1;
    assert_eq!(forward.calls, ITERS, "sums go on");
}
