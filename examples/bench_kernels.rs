//! Times of single kernels: `cargo run --release --example bench_kernels -- [FILTER] [THREADS] [BATCH]`.
//!
//! One line a kernel and pass: median and minimum milliseconds and, where flops are counted, GFLOP/s of the median.
#![allow(clippy::print_stdout)]

use shanty::base::{BoxError, Elem};
use shanty::kernels::*;
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

/// Name, input channels, output channels, input size, kernel, stride, padding.
const LAYERS: [(&str, usize, usize, usize, usize, usize, usize); 30] = [
    ("r20 stem", 3, 16, 32, 3, 1, 1),
    ("r20 s1", 16, 16, 32, 3, 1, 1),
    ("r20 s2", 32, 32, 16, 3, 1, 1),
    ("r20 s3", 64, 64, 8, 3, 1, 1),
    ("r20 s1-2 /2", 16, 32, 32, 3, 2, 1),
    ("r18 s1", 64, 64, 32, 3, 1, 1),
    ("r18 s2", 128, 128, 16, 3, 1, 1),
    ("r18 s3", 256, 256, 8, 3, 1, 1),
    ("r18 s4", 512, 512, 4, 3, 1, 1),
    ("r18 1x1/2", 64, 128, 32, 1, 2, 0),
    ("lenet c1", 1, 6, 32, 5, 1, 0),
    ("lenet c2", 6, 16, 14, 5, 1, 0),
    ("lenet c3", 16, 120, 5, 5, 1, 0),
    // At 224 px, batch 16: ResNet-50, MobileNetV2, U-Net.
    ("r50 stem", 3, 64, 224, 7, 2, 3),
    ("r50 64-256x56", 64, 256, 56, 1, 1, 0),
    ("r50 256-64x56", 256, 64, 56, 1, 1, 0),
    ("r50 64x56", 64, 64, 56, 3, 1, 1),
    ("r50 128x28", 128, 128, 28, 3, 1, 1),
    ("r50 128x56 /2", 128, 128, 56, 3, 2, 1),
    ("r50 256-512x56 /2", 256, 512, 56, 1, 2, 0),
    ("r50 512-128x28", 512, 128, 28, 1, 1, 0),
    ("r50 256-1024x14", 256, 1024, 14, 1, 1, 0),
    ("r50 256x14", 256, 256, 14, 3, 1, 1),
    ("r50 2048-512x7", 2048, 512, 7, 1, 1, 0),
    ("r50 512x7", 512, 512, 7, 3, 1, 1),
    ("mb2 stem", 3, 32, 224, 3, 2, 1),
    ("mb2 16-96x112", 16, 96, 112, 1, 1, 0),
    ("mb2 144-24x56", 144, 24, 56, 1, 1, 0),
    ("mb2 384-64x14", 384, 64, 14, 1, 1, 0),
    ("unet 64-32x64", 64, 32, 64, 3, 1, 1),
];

/// Name, channels, size, kernel, stride, groups: as many output channels, the size kept or halved.
const GROUPED: [(&str, usize, usize, usize, usize, usize); 11] = [
    ("dw 144x56", 144, 56, 3, 1, 144),
    ("dw 144x56 /2", 144, 56, 3, 2, 144),
    ("dw 576x14 /2", 576, 14, 3, 2, 576),
    ("dw5 96x28 /2", 96, 28, 5, 2, 96),
    ("dw 192x28", 192, 28, 3, 1, 192),
    ("dw 576x14", 576, 14, 3, 1, 576),
    ("dw 960x7", 960, 7, 3, 1, 960),
    ("dw5 240x14", 240, 14, 5, 1, 240),
    ("dw7 96x56", 96, 56, 7, 1, 96),
    ("x32 128x56", 128, 56, 3, 1, 32),
    ("x32 512x14", 512, 14, 3, 1, 32),
];

/// Name, m, k, n, and whether a and b are transposed in memory.
const PRODUCTS: [(&str, usize, usize, usize, bool, bool); 17] = [
    ("mlp l1 fwd", 64, 784, 512, false, true),
    ("mlp l1 dw", 512, 64, 784, true, false),
    ("mlp l2 fwd", 64, 512, 256, false, true),
    ("mlp l2 dx", 64, 256, 512, false, false),
    ("mlp l2 dw", 256, 64, 512, true, false),
    ("mlp l3 fwd", 64, 256, 10, false, true),
    ("mlp l3 dx", 64, 10, 256, false, false),
    ("vit qkv fwd", 4160, 192, 576, false, true),
    ("vit mlp fwd", 4160, 192, 768, false, true),
    ("vit mlp dx", 4160, 768, 192, false, false),
    ("vit mlp dw", 768, 4160, 192, true, false),
    ("lm ffn fwd", 4096, 256, 1024, false, true),
    ("lm head fwd", 4096, 256, 10_000, false, true),
    ("square 256", 256, 256, 256, false, false),
    ("square 512", 512, 512, 512, false, false),
    ("square 1024", 1024, 1024, 1024, false, false),
    ("large 3072x1024", 3072, 1024, 1024, false, true),
];

/// What is timed on a map of ResNet-20.
const ACTIVATIONS: [(&str, Act); 17] = [
    ("relu r20", Act::Relu),
    ("leaky relu r20", Act::LeakyRelu { slope: 0.01 }),
    ("relu6 r20", Act::Ramp { scale: 1.0, shift: 0.0, min: 0.0, max: 6.0 }),
    ("elu r20", Act::Elu { alpha: 1.0, scale: 1.0, input_scale: 1.0 }),
    ("gelu tanh r20", Act::GeluTanh),
    ("silu r20", Act::Silu),
    ("mish r20", Act::Mish),
    ("hardswish r20", Act::Hardswish),
    ("hardsigmoid r20", Act::Ramp { scale: 1.0 / 6.0, shift: 0.5, min: 0.0, max: 1.0 }),
    ("softplus r20", Act::Softplus { beta: 1.0, threshold: 20.0 }),
    ("log sigmoid r20", Act::LogSigmoid),
    ("softsign r20", Act::Softsign),
    ("sigmoid r20", Act::Sigmoid),
    ("tanhshrink r20", Act::Tanhshrink),
    ("softshrink r20", Act::Softshrink { bound: 0.5 }),
    ("hardshrink r20", Act::Hardshrink { bound: 0.5 }),
    ("tanh r20", Act::Tanh),
];

#[allow(unsafe_code)]
fn cpu_seconds() -> f64 {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(progress: i32, time: *mut Timespec) -> i32;
    }
    const THREAD_CPUTIME: i32 = 3;
    let mut t = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: 64-bit Linux's `struct timespec`, which lives through the call.
    unsafe { clock_gettime(THREAD_CPUTIME, &mut t) };
    t.seconds as f64 + t.nanoseconds as f64 * 1e-9
}

struct Bench {
    filter: String,
    time: Duration,
    /// Count this thread's time on the processor: on one thread that leaves out what a busy machine takes away.
    cpu_time: bool,
    origin: Instant,
}

impl Bench {
    fn progress(&self) -> f64 {
        if self.cpu_time { cpu_seconds() } else { self.origin.elapsed().as_secs_f64() }
    }

    /// Times `f` until its share of time is used up and prints a line.
    fn run(&self, name: &str, flops: f64, mut f: impl FnMut()) {
        if !name.contains(&self.filter) {
            return;
        }
        f();
        f();
        let (end, mut times) = (Instant::now() + self.time, Vec::new());
        while Instant::now() < end || times.len() < 7 {
            let start = self.progress();
            f();
            times.push(self.progress() - start);
        }
        times.sort_by(f64::total_cmp);
        let (median, min) = (times[times.len() / 2] * 1e3, times[0] * 1e3);
        let rate =
            if flops > 0.0 { format!("\t{:6.1} GFLOP/s", flops / median / 1e6) } else { String::new() };
        if let Err(e) = writeln!(std::io::stdout(), "{name:24}\t{median:8.3} ms (min {min:8.3}){rate}") {
            // Nobody reads on, as behind `head`.
            std::process::exit(i32::from(e.kind() != ErrorKind::BrokenPipe));
        }
    }

    /// Times `f` with operands as they are and rounded to bf16.
    fn run_both(&self, name: &str, flops: f64, mut f: impl FnMut()) {
        self.run(name, flops, &mut f);
        self.run(&format!("{name} bf16"), flops, || with_precision(Precision::Bf16, &mut f));
    }
}

fn noise(len: usize) -> Vec<Elem> {
    let mut s = 1u32;
    (0..len)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as Elem / (1 << 23) as Elem - 1.0
        })
        .collect()
}

fn main() -> Result<(), BoxError> {
    let arg = |i: usize| std::env::args().nth(i);
    let number = |i, default| arg(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (threads, batch) = (number(2, 1), number(3, 64));
    let bench = Bench {
        filter: arg(1).unwrap_or_default(),
        time: Duration::from_millis(400),
        cpu_time: threads == 1,
        origin: Instant::now(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| {
        convolutions(&bench, batch)?;
        grouped(&bench, batch)?;
        images(&bench, batch)?;
        products(&bench);
        normalisation(&bench, batch);
        embeddings(&bench, batch);
        elementwise(&bench, batch)
    })
}

fn convolutions(bench: &Bench, n: usize) -> Result<(), BoxError> {
    for (name, c, k, size, kernel, stride, pad) in LAYERS {
        let window = Window { stride: [stride; 2], padding: [pad; 2], ..Window::new([kernel; 2]) };
        let g = ConvGeom::new([n, c, size, size], k, window, 1)?;
        let (x, w, dy) = (noise(g.x_len()), noise(g.w_len()), noise(g.y_len()));
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        let flops = g.flops() as f64;
        let then = LayerEpilogue::default();
        bench.run_both(&format!("{name} fwd"), flops, || conv2d(&g, &x, &w, then, &mut y));
        bench.run_both(&format!("{name} bwd-data"), flops, || conv2d_backward_data(&g, &dy, &w, &mut dx));
        bench.run_both(&format!("{name} bwd-weight"), flops, || {
            conv2d_backward_weight(&g, &x, &dy, 0.0, &mut dw, None)
        });
    }
    Ok(())
}

fn grouped(bench: &Bench, n: usize) -> Result<(), BoxError> {
    for (name, c, size, kernel, stride, groups) in GROUPED {
        let window = Window { stride: [stride; 2], padding: [kernel / 2; 2], ..Window::new([kernel; 2]) };
        let g = ConvGeom::new([n, c, size, size], c, window, groups)?;
        let (x, w, dy) = (noise(g.x_len()), noise(g.w_len()), noise(g.y_len()));
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        bench.run(&format!("{name} fwd"), g.flops() as f64, || {
            conv2d(&g, &x, &w, LayerEpilogue::default(), &mut y);
        });
        bench.run(&format!("{name} bwd"), 2.0 * g.flops() as f64, || {
            conv2d_backward_data(&g, &dy, &w, &mut dx);
            conv2d_backward_weight(&g, &x, &dy, 0.0, &mut dw, None);
        });
    }
    Ok(())
}

/// What else there is for images: transposed convolution, resizing, parts, and the norms of groups and pixels.
fn images(bench: &Bench, n: usize) -> Result<(), BoxError> {
    let window = Window { stride: [2; 2], ..Window::new([2; 2]) };
    let g = ConvGeom::new([n, 32, 32, 32], 64, window, 1)?;
    let (x, w, b, dy) = (noise(g.y_len()), noise(g.w_len()), noise(g.c), noise(g.x_len()));
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    bench.run("conv transpose unet fwd", g.flops() as f64, || {
        conv_transpose2d(&g, &x, &w, Some(&b), &mut y);
    });
    bench.run("conv transpose unet bwd", 2.0 * g.flops() as f64, || {
        conv2d(&g, &dy, &w, LayerEpilogue::default(), &mut dx);
        conv2d_backward_weight(&g, &dy, &x, 0.0, &mut dw, None);
    });
    let (x, dy) = (noise(n * 64 * 256), noise(n * 64 * 1024));
    let (mut y, mut dx) = (dy.clone(), x.clone());
    let bilinear = UpsampleMode::Bilinear { align_corners: false };
    for (name, mode) in [("nearest", UpsampleMode::Nearest), ("bilinear", bilinear)] {
        let g = UpsampleGeom::new([n, 64, 16, 16], [32, 32], mode, None)?;
        bench.run(&format!("{name} 64x16 fwd"), 0.0, || upsample(&g, &x, &mut y));
        bench.run(&format!("{name} 64x16 bwd"), 0.0, || upsample_backward(&g, &dy, &mut dx));
    }
    let g = AdaptivePoolGeom::new([n, 64, 16, 16], [7, 7])?;
    let (mut at, dy, mut y) = (vec![0; g.y_len()], noise(g.y_len()), noise(g.y_len()));
    bench.run("adaptive avg 64x16 fwd", 0.0, || adaptive_avg_pool2d(&g, &x, &mut y));
    bench.run("adaptive avg 64x16 bwd", 0.0, || adaptive_avg_pool2d_backward(&g, &dy, &mut dx));
    bench.run("adaptive max 64x16 fwd", 0.0, || adaptive_max_pool2d(&g, &x, &mut y, &mut at));
    bench.run("adaptive max 64x16 bwd", 0.0, || adaptive_max_pool2d_backward(&g, &dy, &at, &mut dx));
    let (c, inner) = (96, 784);
    let (x, mut y, mut d) = (noise(n * c * inner), noise(n * c * inner), noise(n * c * inner));
    let (g, mut dg, mut db) = (noise(c), noise(c), noise(c));
    let (mut m, mut r) = (noise(n * inner), noise(n * inner));
    let affine = LayerNormAffine { gamma: Some(&g), beta: Some(&g) };
    for (name, groups) in [("group norm 32", 32), ("instance norm", c)] {
        let s = GroupNormShape { n, c, groups, inner };
        let rows = s.rows();
        bench.run(&format!("{name} 96x28 fwd"), 0.0, || {
            let stats = LayerNormStatsMut { mean: &mut m[..rows], rstd: &mut r[..rows] };
            group_norm(s, &x, affine, 1e-5, &mut y, stats);
        });
        bench.run(&format!("{name} 96x28 bwd"), 0.0, || {
            let grads = LayerNormGrads { dy: &mut d, dgamma: &mut dg, dbeta: &mut db };
            group_norm_backward(
                s,
                &x,
                Some(&g),
                LayerNormStats { mean: &m[..rows], rstd: &r[..rows] },
                grads,
            );
        });
    }
    bench.run("layer norm 2d 96x28 fwd", 0.0, || {
        pixel_norm([n, c, inner], &x, affine, 1e-5, &mut y, LayerNormStatsMut { mean: &mut m, rstd: &mut r });
    });
    bench.run("layer norm 2d 96x28 bwd", 0.0, || {
        let grads = LayerNormGrads { dy: &mut d, dgamma: &mut dg, dbeta: &mut db };
        pixel_norm_backward([n, c, inner], &x, Some(&g), LayerNormStats { mean: &m, rstd: &r }, grads);
    });
    bench.run("rms norm fwd", 0.0, || rms_norm(c, &x, Some(&g), 1e-5, &mut y, &mut r));
    bench.run("rms norm bwd", 0.0, || {
        rms_norm_backward(c, &x, Some(&g), &r, RmsNormGrads { dy: &mut d, dgamma: &mut dg });
    });
    Ok(())
}

/// Words of texts of 128 words, out of ten thousand.
fn embeddings(bench: &Bench, n: usize) {
    let (words, width) = (10_000, 256);
    let index: Vec<u32> = (0..n * 128).map(|i| (i * 7919 % words) as u32).collect();
    let (table, mut dtable) = (noise(words * width), noise(words * width));
    let mut y = noise(index.len() * width);
    bench.run("embedding 10000x256 fwd", 0.0, || embedding(width, &index, &table, &mut y));
    bench.run("embedding 10000x256 bwd", 0.0, || embedding_backward(width, &index, &y, None, &mut dtable));
}

fn products(bench: &Bench) {
    for (name, m, k, n, ta, tb) in PRODUCTS {
        let (a, b, mut c) = (noise(m * k), noise(k * n), vec![0.0; m * n]);
        let a = if ta { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
        let b = if tb { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
        bench.run_both(name, 2.0 * (m * k * n) as f64, || {
            gemm(1.0, a, b, 0.0, MatMut::new(&mut c, m, n), Epilogue::default())
        });
    }
}

/// Batch norm at the stages of ResNet-20 and -18, and the transformer's rows.
fn normalisation(bench: &Bench, n: usize) {
    for (c, size) in [(16, 32), (32, 16), (64, 8), (64, 32), (512, 4)] {
        let s = BnShape { n, c, inner: size * size };
        let len = n * c * size * size;
        let (x, res, g, b) = (noise(len), noise(len), noise(c), noise(c));
        let (mut y, mut d, mut dr, mut m, mut v) = (x.clone(), x.clone(), x.clone(), g.clone(), g.clone());
        let (mut dg, mut db) = (g.clone(), g.clone());
        let name = |what: &str| format!("bn {c}x{size}x{size} {what}");
        let affine = BnAffine { gamma: Some(&g), beta: Some(&b), eps: 1e-5 };
        for (what, residual) in [("relu", None), ("add relu", Some(&res[..]))] {
            bench.run(&name(&format!("{what} fwd")), 0.0, || {
                let moments = MomentsMut { mean: &mut m, var: &mut v };
                let then = BnEpilogue { residual: residual.map(Into::into), relu: Some(Elem::INFINITY) };
                bn_train(s, &x, affine, then, &mut y, moments);
            });
            bench.run(&name(&format!("{what} bwd")), 0.0, || {
                let moments = Moments { mean: &m, var: &v };
                let saved = BnSaved {
                    x: (&x).into(),
                    y: Some(((&y).into(), Elem::INFINITY)),
                    gamma: Some(&g),
                    moments,
                    eps: 1e-5,
                };
                let dresidual = residual.map(|_| (&mut dr).into());
                let grads = BnGrads { dy: (&mut d).into(), dgamma: &mut dg, dbeta: &mut db, dresidual };
                bn_backward(s, saved, grads);
            });
        }
    }
    let (rows, d) = (n * 65, 192);
    let (x, g) = (noise(rows * d), noise(d));
    let (mut y, mut m, mut r, mut dx) = (x.clone(), noise(rows), noise(rows), x.clone());
    let (mut dg, mut db) = (g.clone(), g.clone());
    bench.run("layer norm fwd", 0.0, || {
        let affine = LayerNormAffine { gamma: Some(&g), beta: Some(&g) };
        layer_norm(d, &x, affine, 1e-5, &mut y, LayerNormStatsMut { mean: &mut m, rstd: &mut r });
    });
    bench.run("layer norm bwd", 0.0, || {
        let grads = LayerNormGrads { dy: &mut dx, dgamma: &mut dg, dbeta: &mut db };
        layer_norm_backward(d, &x, Some(&g), LayerNormStats { mean: &m, rstd: &r }, grads);
    });
    let a = AttnGeom { batch: n, heads: 3, q_len: 65, k_len: 65, dim: 64 };
    let (qkv, mut out, mut lse) = (noise(rows * 3 * d), x.clone(), noise(rows * 3));
    let (dout, mut dqkv) = (x.clone(), qkv.clone());
    let flops = 4.0 * (n * 3 * 65 * 65 * 64) as f64;
    bench.run_both("attention fwd", flops, || {
        let output = AttnOutput { out: (&mut out).into(), lse: &mut lse };
        attention_packed(&a, AttentionArgs::default(), &qkv, output);
    });
    bench.run_both("attention bwd", 2.5 * flops, || {
        let saved = AttnSaved { out: (&out).into(), lse: &lse };
        attention_packed_backward(&a, AttentionArgs::default(), &qkv, saved, &dout, &mut dqkv);
    });
}

/// One layer of 256 features over 64 steps.
fn recurrent_layers(bench: &Bench, n: usize) {
    let (steps, d) = (64, 256);
    for (name, cell) in [("lstm", Cell::Lstm), ("gru", Cell::Gru), ("rnn", Cell::Tanh)] {
        let g = RecurrentGeom { cell, steps, batch: n, ins: d, hidden: d, reverse: false, given: false };
        let (rows, wide) = (steps * n, cell.gates() * d);
        let scaled = |len: usize| noise(len).iter().map(|v| v / 16.0).collect::<Vec<Elem>>();
        let (x, ih, hh, b) = (noise(rows * d), scaled(wide * d), scaled(wide * d), scaled(wide));
        let (mut gates, mut state) = (vec![0.0; g.gates_len()], vec![0.0; g.state_len()]);
        let (mut h, mut dx) = (vec![0.0; rows * d], vec![0.0; rows * d]);
        let (mut dih, mut dhh, mut db, mut dbh) = (ih.clone(), hh.clone(), b.clone(), b.clone());
        let w = RecurrentWeights { ih: &ih, hh: &hh, bias: Some([&b, &b]) };
        let flops = 4.0 * (rows * d * wide) as f64;
        bench.run_both(&format!("{name} 64x256 fwd + bwd"), 3.0 * flops, || {
            let saved = RecurrentSaved { gates: &mut gates, state: &mut state };
            recurrent(&g, None, &x, w, saved, &mut h);
            let mut dy = h.clone();
            let saved = RecurrentSaved { gates: &mut gates, state: &mut state };
            recurrent_backward(&g, None, w, &h, saved, [&mut dy, &mut []]);
            let (all, xs) = (Mat::new(&gates, rows, wide), Mat::new(&x, rows, d));
            gemm(1.0, all.t(), xs, 0.0, MatMut::new(&mut dih, wide, d), Epilogue::default());
            recurrent_hidden_grads(&g, [&gates, &state, &h], &mut dhh, Some([&mut db, &mut dbh]));
            gemm(1.0, all, Mat::new(&ih, wide, d), 0.0, MatMut::new(&mut dx, rows, d), Epilogue::default());
        });
    }
}

/// PReLU with a slope a channel on the same map; GLU and SwiGLU on the hidden features of a ViT.
fn gated_and_learnt(bench: &Bench, n: usize) {
    let (x, slopes) = (noise(n * 16 * 32 * 32), noise(16));
    let (mut y, mut terms, mut dw) = (x.clone(), x.clone(), slopes.clone());
    bench.run("prelu r20 fwd", 0.0, || prelu(&slopes, 32 * 32, &x, &mut y));
    bench.run("prelu r20 bwd", 0.0, || {
        terms.copy_from_slice(&y);
        prelu_slope_terms(&x, &mut terms);
        channel_sums(n, 16, 32 * 32, &terms, 0.0, &mut dw);
        prelu_backward(&slopes, 32 * 32, &x, &mut y);
    });
    let half = 768;
    let (x, mut y) = (noise(n * 65 * 2 * half), noise(n * 65 * half));
    let mut dx = x.clone();
    for (name, gate) in [("glu vit", Gate::Sigmoid), ("swiglu vit", Gate::Swish)] {
        bench.run(&format!("{name} fwd"), 0.0, || gated(gate, half, &x, &mut y));
        bench.run(&format!("{name} bwd"), 0.0, || gated_backward(gate, half, &x, &y, &mut dx));
    }
}

fn elementwise(bench: &Bench, n: usize) -> Result<(), BoxError> {
    for (name, act, len) in
        [("tanh lenet", Act::Tanh, n * 6 * 28 * 28), ("gelu vit", Act::Gelu, n * 65 * 768)]
            .into_iter()
            .chain(ACTIVATIONS.map(|(name, act)| (name, act, n * 16 * 32 * 32)))
    {
        let x: Vec<Elem> = noise(len).iter().map(|v| v * 3.0).collect();
        let (mut y, mut d) = (x.clone(), x.clone());
        bench.run(&format!("{name} fwd"), 0.0, || act_forward(act, &x, &mut y));
        let saved = if act.saves_input() { x.clone() } else { y.clone() };
        bench.run(&format!("{name} bwd"), 0.0, || act_backward(act, &saved, &mut d));
    }
    gated_and_learnt(bench, n);
    recurrent_layers(bench, n);
    let g = PoolGeom::new([n, 6, 28, 28], Window { stride: [2; 2], ..Window::new([2; 2]) }, false)?;
    let (x, mut y, mut dx, mut at) =
        (noise(g.x_len()), noise(g.y_len()), noise(g.x_len()), vec![0; g.y_len()]);
    let dy = y.clone();
    bench.run("avg pool lenet fwd", 0.0, || avg_pool2d(&g, true, &x, &mut y));
    bench.run("avg pool lenet bwd", 0.0, || avg_pool2d_backward(&g, true, &dy, None, &mut dx));
    bench.run("max pool lenet fwd", 0.0, || max_pool2d(&g, &x, &mut y, &mut at));
    bench.run("max pool lenet bwd", 0.0, || max_pool2d_backward(&g, &dy, &at, None, &mut dx));
    let (x, t) = (noise(n * 10), vec![3; n]);
    let (ce, mut losses, mut p) = (CrossEntropy { k: 10, ..CrossEntropy::default() }, noise(n), x.clone());
    bench.run("cross entropy fwd + bwd", 0.0, || {
        let Ok(sums) = cross_entropy(&ce, &x, &t, &mut losses, &mut p) else { return };
        cross_entropy_backward(&ce, &t, RowGrad::Same(1.0 / sums.weight as Elem), &mut p);
    });
    let (mut v, g, mut b) = (noise(535_818), noise(535_818), noise(535_818));
    let step = SgdStep { lr: 1e-3, momentum: 0.9, ..SgdStep::default() };
    bench.run("sgd mlp", 0.0, || sgd_momentum(&step, &mut v, &g, Some(&mut b)));
    Ok(())
}
