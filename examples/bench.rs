//! Training throughput of a network: forward, cross entropy, backward and SGD with momentum on one synthetic batch.
//!
//! `cargo run --release --example bench -- MODEL [--batch 64] [--threads 2] [--iters 20]`, MODEL one of mlp, lenet5,
//! resnet20, resnet18, vit. `scripts/bench_vs_torch.sh` holds it against PyTorch.
#![allow(clippy::print_stdout, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ndarray::ArrayD;
use rand::RngExt as _;
use shanty::base::{BoxError, Elem, keyed};
use shanty::data::Batch;
use shanty::model::{
    ArchConfig, ClsHead, ImageClassifier, LeNet5, LinearClsHead, MLP, Model, OutType, ResNet, ResNetConfig,
    StepCx, VisionTransformer, VisionTransformerArch, VisionTransformerConfig,
};
use shanty::nn::{GlobalAveragePooling, ReLU};
use shanty::optim::{OptimWrapper, Sgd};

/// Counts what is asked of the heap.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
/// Those of 64 KiB and more.
static LARGE: AtomicU64 = AtomicU64::new(0);

fn count(size: usize) {
    CALLS.fetch_add(1, Relaxed);
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

/// Iterations that are not counted: buffers grow, pages come in.
const WARM_UP: usize = 3;

/// A network for ten classes, its input, and the multiplications of one image: of the forward pass, and of the first
/// layer, whose input needs no gradient.
struct Job {
    model: ImageClassifier,
    input: [usize; 3],
    all: f64,
    first: f64,
}

fn job(name: &str) -> Result<Job, BoxError> {
    let resnet = |depth, width| -> Result<_, BoxError> {
        let model = ImageClassifier::new(
            ResNet::cifar(&ResNetConfig::new(depth))?,
            LinearClsHead::new(10, width, ClsHead::default()),
        );
        Ok(model.neck(GlobalAveragePooling::default()))
    };
    let (model, input, all, first) = match name {
        "mlp" => {
            let net = MLP::new(&[784, 512, 256, 10], Box::new(ReLU::default()))?;
            (ImageClassifier::new(net, ClsHead::default()), [1, 28, 28], 0.535_040, 0.401_408)
        }
        "lenet5" => {
            let net = LeNet5::new(Some(10), 1)?;
            (ImageClassifier::new(net, ClsHead::default()), [1, 32, 32], 0.416_520, 0.117_600)
        }
        "resnet20" => (resnet(20, 64)?, [3, 32, 32], 40.813_184, 0.442_368),
        "resnet18" => (resnet(18, 512)?, [3, 32, 32], 555.422_720, 1.769_472),
        // The last block computes what the class token needs; in vit_mean all tokens are needed to the end.
        "vit" => (vit(OutType::ClsToken)?, [3, 32, 32], 122.097_024, 0.589_824),
        "vit_mean" => (vit(OutType::AvgFeatmap)?, [3, 32, 32], 122.097_024, 0.589_824),
        other => {
            return Err(
                format!("no model `{other}`: mlp, lenet5, resnet20, resnet18, vit or vit_mean").into()
            );
        }
    };
    Ok(Job { model, input, all: all * 1e6, first: first * 1e6 })
}

/// 65 tokens of 192 numbers, four blocks, three heads.
fn vit(out_type: OutType) -> Result<ImageClassifier, BoxError> {
    let arch =
        VisionTransformerArch { embed_dims: 192, num_layers: 4, num_heads: 3, feedforward_channels: 768 };
    let net = VisionTransformer::new(&VisionTransformerConfig {
        arch: ArchConfig(arch),
        img_size: 32.into(),
        patch_size: 4.into(),
        out_type,
        ..Default::default()
    })?;
    Ok(ImageClassifier::new(net, LinearClsHead::new(10, 192, ClsHead::default())))
}

struct Args {
    model: String,
    batch: usize,
    threads: usize,
    iters: usize,
}

fn args() -> Result<Args, BoxError> {
    let mut args = Args { model: String::new(), batch: 64, threads: 2, iters: 20 };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut number =
            || given.next().ok_or(format!("{arg} needs a number"))?.parse().map_err(BoxError::from);
        match arg.as_str() {
            "--batch" => args.batch = number()?,
            "--threads" => args.threads = number()?,
            "--iters" => args.iters = number()?,
            _ => args.model = arg,
        }
    }
    Ok(args)
}

/// The most memory that the process ever held, in MiB; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn main() -> Result<(), BoxError> {
    let args = args()?;
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    let mut job = job(&args.model)?;
    job.model.init_weights(0)?;
    let mut rng = keyed(0, "bench", 0, 0);
    let [c, h, w] = job.input;
    let pixels =
        ArrayD::from_shape_simple_fn(vec![args.batch, c, h, w], || rng.random_range(-1.0..1.0 as Elem));
    let batch = Batch::new(pixels, (0..args.batch as i64).map(|i| i % 10).collect());
    let mut optim = OptimWrapper::new(Sgd::new(0.01).momentum(0.9));

    // On a thread of the pool from the first iteration to the last, as the runner trains: nothing is handed over for
    // each kernel.
    let mut before = (0, 0);
    let mut seconds = rayon::scope(|_| -> Result<Vec<f64>, BoxError> {
        let mut seconds = Vec::with_capacity(args.iters + WARM_UP);
        for iter in 0..args.iters + WARM_UP {
            if iter == WARM_UP {
                before = (CALLS.load(Relaxed), LARGE.load(Relaxed));
            }
            let start = Instant::now();
            let cx = StepCx { seed: 0, iter: iter as u64, loss_scale: 1.0 };
            let outputs = job.model.train_step(&batch, &cx)?;
            optim.update(&mut job.model)?;
            seconds.push(start.elapsed().as_secs_f64());
            if !outputs.loss().is_some_and(f64::is_finite) {
                return Err("the loss is not finite".into());
            }
        }
        Ok(seconds)
    })?;
    seconds.drain(..WARM_UP);
    let per_iter = |now: u64, then: u64| (now - then) as f64 / args.iters as f64;
    let (calls, large) = (per_iter(CALLS.load(Relaxed), before.0), per_iter(LARGE.load(Relaxed), before.1));
    seconds.sort_by(f64::total_cmp);
    let (median, n) = (seconds[seconds.len() / 2], args.batch as f64);
    let flops = 2.0 * (3.0 * job.all - job.first) * n;
    println!(
        "images/s {:.1} (min {:.1} max {:.1}), ms/iteration {:.3}, {:.1} GFLOP/s, allocations/iteration {calls:.0} ({large:.1} of 64 KiB or more), \
         memory at the peak {} MiB",
        n / median,
        n / seconds[seconds.len() - 1],
        n / seconds[0],
        median * 1e3,
        flops / median / 1e9,
        peak_memory(),
    );
    Ok(())
}
