//! How fast pictures come from the disk: decode, RandomResizedCrop 224, flip, normalise, batches of 50, through the
//! loader that runs use. One line a pass: pictures a second by the clock and by the time of all CPUs, behind them those
//! of as many threads that take the next sample and put no batches together, which keep no order.
//! `scripts/peers/jpeg.py` does the same with torchvision.
//!
//! cargo run --release --example bench_jpeg -- FOLDER WORKERS [PASSES [TRANSFORM]]
//!
//! TRANSFORM comes behind the flip: `{type: RandAugment, policies: timm_increasing, num_policies: 2, magnitude_level: 9}`.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use shanty::base::{Error, Result, keyed};
use shanty::data::{
    Colors, DataLoader, Dataset, Direction, Filter, ImageFolder, LoadImageFromFile, Normalize, PackInputs,
    Pipeline, RandomFlip, RandomResizedCrop, RepeatDataset, Transform,
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
        Box::new(RandomFlip { prob: 0.5, directions: vec![Direction::Horizontal] }),
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
        let (start, busy, mut pictures, mut sum) = (Instant::now(), cpu_seconds(), 0, 0.0);
        for batch in loader.batches(pass * loader.len(), Some((pass + 1) * loader.len())) {
            let batch = batch?;
            pictures += batch.len();
            sum += batch.inputs()?[[0, 0, 0, 0]];
            loader.recycle(batch);
        }
        let (wall, busy) = (start.elapsed().as_secs_f64(), cpu_seconds() - busy);
        // The first pass warms up.
        if pass > 0 {
            let n = pictures as f64;
            let apart = n / unordered(&**loader.dataset(), pictures, workers.max(1))?;
            println!(
                "{:8.1} pictures/s   {:8.1} pictures/CPU-second   without order {apart:8.1} pictures/s   (check {sum:.3})",
                n / wall,
                n / busy
            );
        }
    }
    Ok(())
}

/// The seconds that `threads` take for so many samples in whatever order they come.
fn unordered(set: &dyn Dataset, samples: usize, threads: usize) -> Result<f64> {
    let (start, next) = (Instant::now(), AtomicUsize::new(0));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= samples {
                return Ok(());
            }
            black_box(set.get(index, &mut keyed(0, "bench", index as u64, 0))?);
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter()
            .try_for_each(|one| one.join().unwrap_or_else(|_| Err(Error::invalid("a thread panicked"))))
    })?;
    Ok(start.elapsed().as_secs_f64())
}

/// CPU seconds of this process, as Linux counts them: fields 14 and 15 of /proc/self/stat, in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
