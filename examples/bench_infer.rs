//! Inference of a network from YAML: its layers one by one, and fused, alternately.
//!
//! `cargo run --release --example bench_infer -- '{type: ResNet, depth: 18}' [--batch 1] [--size 224] [--threads 2]
//! [--rounds 20]`. `scripts/bench_inference.sh` holds it against PyTorch and ONNX Runtime.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use rand::RngExt as _;
use shanty::base::{BoxError, Elem, Tensor, keyed};
use shanty::nn::init::init_weights;
use shanty::nn::{Autograd, Module};
use shanty::registry::{BuildCx, Spec};

/// Passes that are not counted: buffers grow, pages come in.
const WARM_UP: usize = 2;

/// The network and what it is measured with.
struct Job {
    net: Box<dyn Module>,
    input: Tensor,
}

impl Job {
    /// Seconds of one pass.
    fn pass(&mut self, autograd: &mut Autograd) -> Result<f64, BoxError> {
        let (input, start) = (&self.input, Instant::now());
        autograd.eval(&mut self.net, &mut keyed(0, "eval", 0, 0), |net, tape, cx| {
            Ok(net.forward(tape.input(input.clone()), cx)?.item())
        })?;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
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
    init_weights(&mut net, 0)?;
    let mut rng = keyed(0, "bench", 0, 0);
    let input =
        Tensor::from_shape_simple_fn(vec![batch, 3, size, size], || rng.random_range(-1.0..1.0 as Elem));
    let mut job = Job { net, input };
    let mut modes = [false, true].map(|fused| {
        let mut autograd = Autograd::default();
        autograd.fuse(fused);
        (autograd, Vec::with_capacity(rounds))
    });
    rayon::scope(|_| -> Result<(), BoxError> {
        for round in 0..rounds + WARM_UP {
            for (autograd, seconds) in &mut modes {
                let took = job.pass(autograd)?;
                if round >= WARM_UP {
                    seconds.push(took);
                }
            }
        }
        Ok(())
    })?;
    let [plain, fused] = modes.map(|(_, seconds)| batch as f64 / median(seconds));
    println!("plain images/s {plain:.1}\nfused images/s {fused:.1}");
    Ok(())
}
