//! Training throughput of a network: forward, cross entropy, backward and SGD with momentum on one synthetic batch.
//!
//! `cargo run --release --example bench -- MODEL [--batch 64] [--threads 2] [--iters 20] [--warm-up 3] [--dtype float32]`,
//! MODEL one of mlp, lenet5, resnet20, resnet18, vit; at 224 px resnet50, mobilenet_v2, shufflenet_v2; unet, lstm,
//! transformer. With `--dtype bfloat16` or `float16` as an AmpOptimWrapper trains, its dynamic loss scale included.
//! `scripts/bench_vs_torch.sh` holds it against PyTorch.
#![allow(clippy::print_stdout, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ndarray::ArrayD;
use rand::RngExt as _;
use shanty::base::{BoxError, Elem, keyed};
use shanty::data::Batch;
use shanty::model::{Model, StepCx};
use shanty::optim::{Amp, AmpDtype, OptimWrapper, Sgd};
use shanty::registry::{BuildCx, Spec};

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

/// What goes into a network, a sample.
enum Input {
    /// Pixels, and a class of ten or of a thousand.
    Image([usize; 3], i64),
    /// Pixels, and a class of this many for each.
    Masks([usize; 3], i64),
    /// This many characters of 64, and after each the next one.
    Text(usize),
}

/// The classifier of images with this backbone, whose maps have so many channels.
fn classifier(backbone: &str, channels: usize, classes: usize) -> String {
    format!(
        "{{type: ImageClassifier, backbone: {backbone}, neck: {{type: GlobalAveragePooling}}, \
         head: {{type: LinearClsHead, num_classes: {classes}, in_channels: {channels}}}}}"
    )
}

/// 65 tokens of 192 numbers, four blocks, three heads.
fn vit(out_type: &str) -> String {
    format!(
        "{{type: ImageClassifier, head: {{type: LinearClsHead, num_classes: 10, in_channels: 192}}, \
         backbone: {{type: VisionTransformer, img_size: 32, patch_size: 4, out_type: {out_type}, \
         arch: {{embed_dims: 192, num_layers: 4, num_heads: 3, feedforward_channels: 768}}}}}}"
    )
}

/// A model of text by characters: these layers between vectors of 256 numbers and the scores of the next character.
fn language_model(layers: &str) -> String {
    format!(
        "{{type: Supervised, loss: {{type: CrossEntropyLoss}}, network: [\
         {{type: Embedding, num_embeddings: 64, embedding_dim: 256}}, {layers}, \
         {{type: Linear, in_features: 256, out_features: 64}}, {{type: Transpose}}]}}"
    )
}

/// A model's config, and what goes in.
fn config(name: &str) -> Result<(String, Input), BoxError> {
    let (mnist, small, large) =
        (Input::Image([1, 32, 32], 10), Input::Image([3, 32, 32], 10), Input::Image([3, 224, 224], 1000));
    Ok(match name {
        "mlp" => (
            "{type: ImageClassifier, backbone: {type: MLP, sizes: [784, 512, 256, 10]}, head: {type: ClsHead}}".into(),
            Input::Image([1, 28, 28], 10),
        ),
        "lenet5" => (
            "{type: ImageClassifier, backbone: {type: LeNet5, num_classes: 10}, head: {type: ClsHead}}".into(),
            mnist,
        ),
        "resnet20" => (classifier("{type: ResNet_CIFAR, depth: 20}", 64, 10), small),
        "resnet18" => (classifier("{type: ResNet_CIFAR, depth: 18}", 512, 10), small),
        // The last block computes what the class token needs; in vit_mean all tokens are needed to the end.
        "vit" => (vit("cls_token"), small),
        "vit_mean" => (vit("avg_featmap"), small),
        "resnet50" => (classifier("{type: ResNet, depth: 50}", 2048, 1000), large),
        "mobilenet_v2" => (classifier("{type: MobileNetV2}", 1280, 1000), large),
        "shufflenet_v2" => (classifier("{type: ShuffleNetV2}", 1024, 1000), large),
        "unet" => {
            let head = "{type: Conv2d, in_channels: 32, out_channels: 3, kernel_size: 1}";
            let unet = "{type: UNet, base_channels: 32, num_stages: 4}";
            let loss = "{type: CrossEntropyLoss}";
            (format!("{{type: Supervised, network: [{unet}, {head}], loss: {loss}}}"), Input::Masks([3, 64, 64], 3))
        }
        "lstm" => {
            (language_model("{type: LSTM, input_size: 256, hidden_size: 256, num_layers: 2}"), Input::Text(64))
        }
        "transformer" => {
            let layer = "{type: TransformerEncoderLayer, d_model: 256, nhead: 4, dim_feedforward: 1024, dropout: 0.0, \
                         activation: gelu, norm_first: true, causal: true}";
            let layers = [layer; 6].join(", ");
            let positions = "{type: PositionalEncoding, mode: learnt, d_model: 256, max_len: 128}";
            let norm = "{type: LayerNorm, normalized_shape: 256}";
            (language_model(&format!("{positions}, {layers}, {norm}")), Input::Text(128))
        }
        other => {
            return Err(format!(
                "no model `{other}`: mlp, lenet5, resnet20, resnet18, vit, vit_mean, resnet50, mobilenet_v2, \
                 shufflenet_v2, unet, lstm or transformer"
            )
            .into());
        }
    })
}

impl Input {
    /// So many samples of it.
    fn batch(&self, n: usize) -> Batch {
        let mut rng = keyed(0, "bench", 0, 0);
        let mut pixels = |[c, h, w]: [usize; 3]| {
            ArrayD::from_shape_simple_fn(vec![n, c, h, w], || rng.random_range(-1.0..1.0 as Elem))
        };
        match *self {
            Self::Image(shape, classes) => {
                Batch::new(pixels(shape), (0..n as i64).map(|i| i % classes).collect())
            }
            Self::Masks([c, h, w], classes) => {
                let mask =
                    ArrayD::from_shape_fn(vec![n, h, w], |at| (at[0] + at[1] + at[2]) as i64 % classes);
                Batch::unlabelled(pixels([c, h, w])).with("target", mask)
            }
            Self::Text(length) => {
                let text = |from| {
                    ArrayD::from_shape_fn(vec![n, length], |at| ((at[0] + at[1] * at[1] + from) % 64) as i64)
                };
                Batch::unlabelled(text(0).mapv(|i| i as Elem)).with("target", text(1))
            }
        }
    }
}

/// Floating-point operations of a step: three products for each of the forward pass, but two of the first layer with
/// weights, whose input needs no gradient. That layer may be an embedding, which multiplies nothing.
fn flops(model: &mut dyn Model, batch: &Batch) -> Result<f64, BoxError> {
    let modules = model.trace(batch)?;
    let all =
        modules.iter().find(|module| module.path.is_empty()).map_or(0, |module| module.work.multiply_adds);
    let leaf = |path: &str| modules.iter().all(|other| !other.path.starts_with(&format!("{path}.")));
    let first = modules.iter().find(|m| !m.path.is_empty() && m.parameters > 0 && leaf(&m.path));
    Ok(2.0 * (3 * all - first.map_or(0, |module| module.work.multiply_adds)) as f64)
}

struct Args {
    model: String,
    batch: usize,
    threads: usize,
    iters: usize,
    /// Iterations that are not counted: buffers grow, pages come in.
    warm_up: usize,
    /// That of mixed precision.
    dtype: Option<AmpDtype>,
}

fn args() -> Result<Args, BoxError> {
    let mut args = Args { model: String::new(), batch: 64, threads: 2, iters: 20, warm_up: 3, dtype: None };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        if arg == "--dtype" {
            args.dtype = match given.next().as_deref() {
                Some("float32") => None,
                Some("bfloat16") => Some(AmpDtype::Bfloat16),
                Some("float16") => Some(AmpDtype::Float16),
                _ => return Err("--dtype is float32, bfloat16 or float16".into()),
            };
            continue;
        }
        let mut number =
            || given.next().ok_or(format!("{arg} needs a number"))?.parse().map_err(BoxError::from);
        match arg.as_str() {
            "--batch" => args.batch = number()?,
            "--threads" => args.threads = number()?,
            "--iters" => args.iters = number()?,
            "--warm-up" => args.warm_up = number()?,
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
    let (yaml, input) = config(&args.model)?;
    let mut model = Spec::<dyn Model>::parse(&yaml)?.build(&mut BuildCx::new(0))?;
    model.init_weights(0)?;
    let batch = input.batch(args.batch);
    let flops = flops(model.as_mut(), &input.batch(1))? * args.batch as f64;
    let plain = OptimWrapper::new(Sgd::new(0.01).momentum(0.9));
    let amp = args.dtype.map(|dtype| Amp { dtype, ..Amp::default() });
    let mut optim = amp.into_iter().fold(plain, OptimWrapper::amp);

    // On a thread of the pool from the first iteration to the last, as the runner trains: nothing is handed over for
    // each kernel.
    let mut before = (0, 0);
    let mut seconds = rayon::scope(|_| -> Result<Vec<f64>, BoxError> {
        let mut seconds = Vec::with_capacity(args.iters + args.warm_up);
        for iter in 0..args.iters + args.warm_up {
            if iter == args.warm_up {
                before = (CALLS.load(Relaxed), LARGE.load(Relaxed));
            }
            let start = Instant::now();
            let cx = StepCx { seed: 0, iter: iter as u64, loss_scale: optim.loss_scale(batch.len()) };
            let outputs = optim.gradients(model.as_mut(), |model| model.train_step(&batch, &cx))?;
            optim.update(model.as_mut())?;
            seconds.push(start.elapsed().as_secs_f64());
            if !outputs.loss().is_some_and(f64::is_finite) {
                return Err("the loss is not finite".into());
            }
        }
        Ok(seconds)
    })?;
    seconds.drain(..args.warm_up);
    let per_iter = |now: u64, then: u64| (now - then) as f64 / args.iters as f64;
    let (calls, large) = (per_iter(CALLS.load(Relaxed), before.0), per_iter(LARGE.load(Relaxed), before.1));
    seconds.sort_by(f64::total_cmp);
    let (median, n) = (seconds[seconds.len() / 2], args.batch as f64);
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
