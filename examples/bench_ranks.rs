//! Training throughput of ranks: what a launcher started trains together, as a run does; alone it is one process.
//!
//! `mpirun -np 2 target/release/examples/bench_ranks MODEL [--batch 64] [--iters 100]`, MODEL one of mlp, lenet5, resnet20; the
//! batch is that of one process, which has one thread, and comes from memory. The first rank prints.
//! `scripts/bench_ranks.sh` holds it against PyTorch's DDP. `--apart` lets the processes know nothing of each other: what the
//! machine itself allows. `--buckets N` measures instead what it brings to send gradients, in so many parts, while others
//! are computed.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ndarray::{Array1, ArrayD};
use rand::RngExt as _;
use shanty::base::{BoxError, Elem, keyed};
use shanty::comm::{Comm, Solo, join};
use shanty::data::{ArrayDataset, Batch, DataLoader};
use shanty::hook::{Ctx, Event, Point};
use shanty::model::{Model, Outputs, StepCx};
use shanty::optim::Sgd;
use shanty::params::Params;
use shanty::registry::{BuildCx, Spec};
use shanty::run::{IterBasedTrainLoop, Runner};

/// Iterations that are not counted.
const WARM_UP: usize = 5;

/// A network from a config, for a runner.
struct Net {
    inner: Box<dyn Model>,
}

shanty::forward_params!(Net, inner);

impl Model for Net {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> shanty::base::Result<Outputs> {
        self.inner.train_step(batch, cx)
    }
    fn eval_step(&mut self, batch: &Batch) -> shanty::base::Result<Outputs> {
        self.inner.eval_step(batch)
    }
    fn init_weights(&mut self, seed: u64) -> shanty::base::Result<Vec<String>> {
        self.inner.init_weights(seed)
    }
    fn beside(&mut self, comm: Arc<dyn Comm>) {
        self.inner.beside(comm);
    }
}

/// A network, and the shape of a sample.
fn network(name: &str) -> Result<(Net, [usize; 3]), BoxError> {
    let (backbone, neck, head, shape) = match name {
        "mlp" => ("{type: MLP, sizes: [784, 512, 256, 10]}", "null", "{type: ClsHead}", [1, 28, 28]),
        "lenet5" => ("{type: LeNet5, num_classes: 10}", "null", "{type: ClsHead}", [1, 32, 32]),
        "resnet20" => (
            "{type: ResNet_CIFAR, depth: 20}",
            "{type: GlobalAveragePooling}",
            "{type: LinearClsHead, num_classes: 10, in_channels: 64}",
            [3, 32, 32],
        ),
        other => return Err(format!("no model `{other}`: mlp, lenet5 or resnet20").into()),
    };
    let yaml = format!("{{type: ImageClassifier, backbone: {backbone}, neck: {neck}, head: {head}}}");
    let inner = Spec::<dyn Model>::parse(&yaml)?.build(&mut BuildCx::new(0))?;
    Ok((Net { inner }, shape))
}

fn pixels(n: usize, [c, h, w]: [usize; 3]) -> ArrayD<f32> {
    let mut rng = keyed(0, "bench", 0, 0);
    ArrayD::from_shape_simple_fn(vec![n, c, h, w], || rng.random_range(-1.0..1.0f32))
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// A run of so many iterations, as a program makes one.
fn train(args: &Args, comm: Arc<dyn Comm>) -> Result<String, BoxError> {
    let (net, shape) = network(&args.model)?;
    let world = comm.place().world;
    let n = args.batch * world;
    let classes = Array1::from_shape_fn(n, |at| at as i64 % 10);
    let set = ArrayDataset::new("inputs", pixels(n, shape))?.with("target", classes)?;
    let ends = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ends);
    let note = move |_: &mut Ctx<'_>, _: &mut Event<'_>| {
        noted.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        Ok(())
    };
    let long = IterBasedTrainLoop::new((args.iters + WARM_UP) as u64);
    let dir = std::env::temp_dir()
        .join(format!("shanty_bench_ranks_{}", if args.apart { std::process::id() } else { 0 }));
    let run = Runner::builder(net).train(
        DataLoader::new(set).batch_size(args.batch),
        long,
        Sgd::new(0.01).momentum(0.9),
    );
    let run = run
        .on(Point::AfterTrainIter, note)
        .without_default_hooks()
        .work_dir(&dir)
        .overwrite(true)
        .seed(0)
        .comm(comm);
    run.build()?.train()?;
    let _ = std::fs::remove_dir_all(&dir);
    let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
    let mut seconds: Vec<f64> =
        ends[WARM_UP - 1..].windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    let of_step = median(&mut seconds);
    Ok(format!("{} ranks: images/s {:.1}, ms/iteration {:.3}", world, n as f64 / of_step, of_step * 1e3))
}

/// The same work, its gradients summed whole behind it, in buckets that are under way while the next part is computed, and
/// not at all.
fn overlap(args: &Args, comm: &dyn Comm) -> Result<String, BoxError> {
    let (mut net, shape) = network(&args.model)?;
    net.init_weights(0)?;
    let mut len = 0;
    net.infos(&mut |p| len += if p.role.is_trained() { p.shape.iter().product() } else { 0 });
    let part = Batch::new(
        pixels(args.batch / args.buckets, shape).mapv(Elem::from),
        vec![0; args.batch / args.buckets],
    );
    let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
    let mut buckets = vec![vec![0.0 as Elem; len / args.buckets]; args.buckets];
    let mut whole = vec![0.0 as Elem; len / args.buckets * args.buckets];
    for iter in 0..(args.iters + WARM_UP) * 3 {
        comm.agree(0)?;
        let (way, began) = (iter % 3, Instant::now());
        let mut under_way = Vec::new();
        for bucket in &mut buckets {
            net.train_step(&part, &StepCx { seed: 0, iter: iter as u64, loss_scale: 1.0 })?;
            if way == 1 {
                under_way.push(comm.start_sum(std::mem::take(bucket), 1.0)?);
            }
        }
        if way == 0 {
            whole = comm.finish(comm.start_sum(std::mem::take(&mut whole), 1.0)?)?;
        }
        for (bucket, sum) in buckets.iter_mut().zip(under_way) {
            *bucket = comm.finish(sum)?;
        }
        seconds[way].push(began.elapsed().as_secs_f64());
        net.clear_grads()?;
    }
    let [behind, within, without] = seconds.map(|mut all| median(&mut all[WARM_UP..]) * 1e3);
    Ok(format!(
        "{} ranks, {:.2} MB of gradients: ms/iteration {behind:.3} summed behind, {within:.3} in {} buckets, {without:.3} not summed",
        comm.place().world,
        (len * size_of::<Elem>()) as f64 / 1e6,
        args.buckets
    ))
}

struct Args {
    model: String,
    batch: usize,
    iters: usize,
    buckets: usize,
    apart: bool,
}

fn args() -> Result<Args, BoxError> {
    let mut args = Args { model: String::new(), batch: 64, iters: 100, buckets: 0, apart: false };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut number =
            || given.next().ok_or(format!("{arg} needs a number"))?.parse().map_err(BoxError::from);
        match arg.as_str() {
            "--batch" => args.batch = number()?,
            "--iters" => args.iters = number()?,
            "--buckets" => args.buckets = number()?,
            "--apart" => args.apart = true,
            _ => args.model = arg,
        }
    }
    Ok(args)
}

fn main() -> Result<(), BoxError> {
    let args = args()?;
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let comm: Arc<dyn Comm> = if args.apart { Arc::new(Solo::default()) } else { join()? };
    let done = match args.buckets {
        0 => train(&args, Arc::clone(&comm)),
        _ => overlap(&args, &*comm),
    };
    match done {
        Ok(line) => {
            if comm.place().is_main() {
                println!("{line}");
            }
            Ok(comm.close()?)
        }
        Err(error) => {
            if comm.fail(&error.to_string()) {
                eprintln!("{error}");
            }
            comm.abort(1)
        }
    }
}
