//! Inference of a network from YAML: its layers one by one, and fused.
//!
//! `cargo run --release --example bench_infer -- '{type: ResNet, depth: 18}' [--batch 1] [--size 224] [--threads 2]
//! [--rounds 20]` prints the largest difference of the results, in units of the largest, and the medians of alternate
//! passes. With `--rounds 0` it answers each line of its input, `plain` or `fused`, with the seconds of a pass: so
//! `scripts/bench_inference.sh` holds it against PyTorch and ONNX Runtime by turns.
#![allow(clippy::print_stdout)]

use std::io::Write as _;
use std::time::Instant;

use rand::RngExt as _;
use shanty::base::{BoxError, Elem, Tensor, keyed};
use shanty::nn::init::init_weights;
use shanty::nn::{Autograd, Module};
use shanty::params::HostParams as _;
use shanty::registry::{BuildCx, Spec};

/// Passes that are not counted: buffers grow, pages come in.
const WARM_UP: usize = 2;

/// The network, what it is measured with, and what computes it one by one and fused.
struct Job {
    net: Box<dyn Module>,
    input: Tensor,
    modes: [Autograd; 2],
}

impl Job {
    /// The result and the seconds of one pass.
    fn pass(&mut self, fused: bool) -> Result<(Tensor, f64), BoxError> {
        let (input, start) = (&self.input, Instant::now());
        let autograd = &mut self.modes[usize::from(fused)];
        let y = autograd.eval(&mut self.net, &mut keyed(0, "eval", 0, 0), |net, tape, cx| {
            Ok(net.forward(tape.input(input.clone()), cx)?.value())
        })?;
        Ok((y, start.elapsed().as_secs_f64()))
    }

    /// The largest difference of the results, in units of the largest.
    fn difference(&mut self) -> Result<f64, BoxError> {
        let (plain, fused) = (self.pass(false)?.0, self.pass(true)?.0);
        let largest = plain.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
        let apart = plain.iter().zip(&fused).map(|(a, b)| f64::from((a - b).abs()));
        Ok(apart.fold(0.0, f64::max) / largest)
    }

    /// Seconds of a pass for each line of the input.
    fn answer(&mut self) -> Result<(), BoxError> {
        for mode in std::io::stdin().lines() {
            println!("{}", self.pass(mode? == "fused")?.1);
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    /// The medians of alternate passes.
    fn alternate(&mut self, rounds: usize) -> Result<(), BoxError> {
        let mut seconds = [Vec::new(), Vec::new()];
        for round in 0..rounds + WARM_UP {
            for (mode, seconds) in seconds.iter_mut().enumerate() {
                let took = self.pass(mode == 1)?.1;
                if round >= WARM_UP {
                    seconds.push(took);
                }
            }
        }
        let batch = self.input.shape()[0] as f64;
        let [plain, fused] = seconds.map(|seconds| batch / median(seconds));
        println!("plain images/s {plain:.1}\nfused images/s {fused:.1}");
        Ok(())
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Weights as a run begins with, and statistics of batch norms that are neither 0 nor 1.
fn begin(net: &mut Box<dyn Module>) -> Result<(), BoxError> {
    init_weights(net, 0)?;
    net.visit_mut(&mut |mut p| {
        let mut rng = keyed(0, p.name, 0, 0);
        let range = if p.name.ends_with("running_mean") { -0.2..0.2 } else { 0.5..1.5 as Elem };
        if p.name.contains("running_") {
            p.value.map_inplace(|v| *v = rng.random_range(range.clone()));
        }
    });
    Ok(())
}

fn main() -> Result<(), BoxError> {
    let (mut batch, mut size, mut threads, mut rounds, mut network) = (1, 224, 2, 20, String::new());
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut number =
            || given.next().ok_or(format!("{arg} needs a number"))?.parse().map_err(BoxError::from);
        match arg.as_str() {
            "--batch" => batch = number()?,
            "--size" => size = number()?,
            "--threads" => threads = number()?,
            "--rounds" => rounds = number()?,
            _ => network = arg,
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let mut net = Spec::<dyn Module>::parse(&network)?.build(&mut BuildCx::new(0))?;
    begin(&mut net)?;
    let mut rng = keyed(0, "bench", 0, 0);
    let input =
        Tensor::from_shape_simple_fn(vec![batch, 3, size, size], || rng.random_range(-1.0..1.0 as Elem));
    let mut modes = [Autograd::default(), Autograd::default()];
    modes[1].fuse(true);
    let mut job = Job { net, input, modes };
    println!("difference {:.1e}", job.difference()?);
    rayon::scope(|_| if rounds == 0 { job.answer() } else { job.alternate(rounds) })
}
