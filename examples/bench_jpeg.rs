//! How fast pictures come from the disk: decode, RandomResizedCrop 224, flip, normalise, batches of 50, through the
//! loader that runs use. One line a pass: pictures a second by the clock and by the time of all CPUs, behind them those
//! of as many threads that make the same batches in whatever order, and of such that put no batches together.
//! `scripts/peers/jpeg.py` does the same with torchvision.
//!
//! cargo run --release --example bench_jpeg -- FOLDER WORKERS [PASSES [TRANSFORM]]
//!
//! TRANSFORM comes behind the flip: `{type: RandAugment, policies: timm_increasing, num_policies: 2, magnitude_level: 9}`.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shanty::base::{Error, Result, keyed};
use shanty::data::{
    Colors, DataLoader, Direction, Filter, ImageFolder, LoadImageFromFile, Normalize, PackInputs, Pipeline,
    RandomFlip, RandomResizedCrop, RepeatDataset, Transform,
};
use shanty::registry::{BuildCx, Spec};

const BATCH: usize = 50;
/// Each pass reads the folder so often, so that the start of the workers does not count.
const REPEAT: usize = 5;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, workers, passes @ ..] = &args[..] else {
        return Err(Error::config("bench_jpeg FOLDER WORKERS [PASSES [TRANSFORM]]"));
    };
    let number = |text: &String| text.parse().map_err(|e| Error::config(format!("{text}: {e}")));
    let (workers, count) = (number(workers)?, passes.first().map_or(Ok(5), number)?);

    let mut transforms: Vec<Box<dyn Transform>> = vec![
        Box::new(LoadImageFromFile { colors: Colors::Rgb, ..LoadImageFromFile::default() }),
        Box::new(RandomResizedCrop { filter: Filter::PILLOW, ..RandomResizedCrop::new(224, 224) }),
        Box::new(RandomFlip::new(0.5, &[Direction::Horizontal])),
    ];
    if let Some(config) = passes.get(1) {
        transforms.push(Spec::<dyn Transform>::parse(config)?.build(&mut BuildCx::new(0))?);
    }
    transforms.push(Box::new(Normalize::new(vec![123.675, 116.28, 103.53], vec![58.395, 57.12, 57.375])?));
    transforms.push(Box::new(PackInputs {}));
    let set = ImageFolder::load(Path::new(folder))?.with_pipeline(Pipeline::new(transforms));
    let set = RepeatDataset::new(Box::new(set), REPEAT)?;
    let loader = DataLoader::new(set).batch_size(BATCH).shuffle(true).num_workers(workers);

    for pass in 0..=count as u64 {
        let numbers = pass * loader.len()..(pass + 1) * loader.len();
        let mut sum = 0.0;
        let in_order = measured(|| {
            loader.batches(numbers.start, Some(numbers.end)).try_for_each(|batch| {
                let batch = batch?;
                sum += batch.inputs()?[[0, 0, 0, 0]];
                loader.recycle(batch);
                Ok(())
            })
        })?;
        // Each thread with memory of its own, as a loader of one has it.
        let batch = || {
            let alone = loader.clone().num_workers(0);
            move |i| {
                alone.batches(i, Some(i + 1)).try_for_each(|batch| batch.map(|batch| alone.recycle(batch)))
            }
        };
        let sample =
            || |i| loader.dataset().get(i as usize, &mut keyed(0, "bench", i, 0)).map(|s| drop(black_box(s)));
        let n = loader.dataset().len() as u64;
        let in_any_order = measured(|| shared_out(numbers.clone(), workers, batch))?;
        let apart = measured(|| shared_out(0..n, workers, sample))?;
        // The first pass warms up.
        if pass > 0 {
            let rates =
                [in_order, in_any_order, apart].map(|[wall, busy]| [n as f64 / wall, n as f64 / busy]);
            println!(
                "pictures/s (a CPU-second): {}   (check {sum:.3})",
                ["", "in any order ", "without batches "]
                    .iter()
                    .zip(rates)
                    .map(|(what, [wall, busy])| format!("{what}{wall:.1} ({busy:.1})"))
                    .collect::<Vec<_>>()
                    .join("   ")
            );
        }
    }
    Ok(())
}

/// The seconds that something takes by the clock, and those of all CPUs.
fn measured(work: impl FnOnce() -> Result<()>) -> Result<[f64; 2]> {
    let (start, busy) = (Instant::now(), cpu_seconds());
    work()?;
    Ok([start.elapsed().as_secs_f64(), cpu_seconds() - busy])
}

/// As many threads as there are workers do these pieces of work, each taking the next one.
fn shared_out<W: FnMut(u64) -> Result<()>>(
    pieces: Range<u64>,
    workers: usize,
    worker: impl Fn() -> W + Sync,
) -> Result<()> {
    let next = AtomicU64::new(pieces.start);
    let until_done = || {
        let mut work = worker();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= pieces.end {
                return Ok(());
            }
            work(i)?;
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(until_done)).collect();
        all.into_iter()
            .try_for_each(|one| one.join().unwrap_or_else(|_| Err(Error::invalid("a thread panicked"))))
    })
}

/// CPU seconds of this process, as Linux counts them: fields 14 and 15 of /proc/self/stat, in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
