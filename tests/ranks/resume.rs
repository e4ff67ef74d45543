//! Runs of ranks that are repeated, cut and gone on with.

use super::*;

fn resumable(dir: &Path, epochs: u64, accumulate: u64) -> RunnerBuilder {
    let model = Supervised::new(network(Some(BatchNorm2d::new(4))), CrossEntropyLoss::default());
    Runner::builder(model)
        .train(data(25, 3), EpochBasedTrainLoop::new(epochs), optim().accumulate(accumulate))
        .val(data(7, 2), Accuracy::new(vec![1], vec![None]).unwrap())
        .hook(SyncBuffersHook::default())
        .hook(EMAHook::new(0.1, 2))
        .work_dir(dir)
        .seed(5)
}

/// 4 epochs are 2, a stop, and 2 more: every part of the last checkpoint has equal bits. So it is at cuts within an
/// accumulation window, of which each rank holds a part, and whoever is told to leave.
#[test]
fn a_resumed_run_of_ranks_ends_as_one_that_was_not_cut() {
    for world in [2, 3] {
        for accumulate in [1, 3] {
            let whole = tempfile::tempdir().unwrap();
            train(world, whole.path(), |dir| resumable(dir, 4, accumulate));
            let whole = load(&whole.path().join("epoch_4")).unwrap();
            let per_epoch = whole.meta.epoch_len;
            for cut in [2 * per_epoch, per_epoch + 1, 3] {
                let dir = tempfile::tempdir().unwrap();
                let told = AtomicUsize::new(0);
                let first = train(world, dir.path(), |dir| {
                    // One rank alone hears of it.
                    let is_told = told.fetch_add(1, Ordering::Relaxed) == 0;
                    let limits = Limits { after_iter: is_told.then_some(cut), ..Limits::default() };
                    resumable(dir, 4, accumulate).limits(limits)
                });
                assert!(matches!(alike(first).end, Outcome::Interrupted(_)));
                let newest = std::fs::read_to_string(dir.path().join("last_checkpoint")).unwrap();
                let from = dir.path().join(newest.trim());
                assert_eq!(load(&from).unwrap().meta.iter, cut);
                alike(train(world, dir.path(), |dir| resumable(dir, 4, accumulate).resume(true)));
                let parts = load(&dir.path().join("epoch_4")).unwrap();
                let differs = digest::first_difference(&whole, &parts);
                assert_eq!(differs, None, "{world} ranks, window of {accumulate}, cut at {cut}");
            }
        }
    }
}

/// 2 ranks, then 1, then 3: at the end of an epoch a run goes on with any number of ranks, and within one where a batch
/// of theirs begins there; each sample of the epoch comes once.
#[test]
fn another_number_of_ranks_goes_on() {
    let sampler = |blocks: bool| -> Box<dyn Sampler> {
        let blocks_of = SequentialSampler { subsample_type: Subsample::Sequential, ..Default::default() };
        if blocks { Box::new(blocks_of) } else { Box::new(DefaultSampler::default()) }
    };
    struct Part {
        world: usize,
        batch: usize,
        cut: Option<u64>,
        resumes: bool,
    }
    let run = |dir: &Path, blocks: bool, accumulate: u64, part: Part| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let result = ranks(part.world, |_, comm| {
            let noted = Arc::clone(&seen);
            let note = move |_: &mut Ctx<'_>, event: &mut Event<'_>| {
                if let Event::BeforeTrainIter(batch) = event {
                    noted.lock().unwrap().extend(batch.ids.iter().copied());
                }
                Ok(())
            };
            let data = data(24, part.batch).sampler(sampler(blocks));
            let builder = Runner::builder(model(None))
                .train(data, EpochBasedTrainLoop::new(3), optim().accumulate(accumulate))
                .work_dir(dir)
                .seed(5)
                .comm(comm)
                .on(Point::BeforeTrainIter, note)
                .limits(Limits { after_iter: part.cut, ..Limits::default() });
            let mut runner = builder.resume(part.resumes).build()?;
            runner.train()?;
            Ok(runner.session().state.progress.epoch)
        });
        let mut ids = seen.lock().unwrap().clone();
        ids.sort_unstable();
        result.map(|_| ids)
    };
    let pass: Vec<u64> = (0..24).collect();
    // At the ends of epochs, whatever the batches.
    let dir = tempfile::tempdir().unwrap();
    for (nth, (world, batch, cut)) in
        [(2, 3, Some(4)), (1, 5, Some(10)), (3, 4, None)].into_iter().enumerate()
    {
        let part = Part { world, batch, cut, resumes: nth > 0 };
        assert_eq!(run(dir.path(), false, 1, part).unwrap(), pass, "{world} ranks");
    }
    // Within one: 12 of 24 samples are seen.
    let dir = tempfile::tempdir().unwrap();
    let mut all =
        run(dir.path(), false, 1, Part { world: 2, batch: 3, cut: Some(2), resumes: false }).unwrap();
    all.extend(run(dir.path(), false, 1, Part { world: 3, batch: 2, cut: Some(4), resumes: true }).unwrap());
    all.sort_unstable();
    assert_eq!(all, pass, "each sample once");
    let refused = |blocks: bool, accumulate: u64, half: Part, (world, batch): (usize, usize)| {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), blocks, accumulate, half).unwrap();
        let rest = Part { world, batch, cut: None, resumes: true };
        run(dir.path(), blocks, accumulate, rest).unwrap_err().to_string()
    };
    let half = || Part { world: 2, batch: 3, cut: Some(2), resumes: false };
    let text = refused(false, 1, half(), (1, 5));
    assert!(
        text.contains("no whole number of this run's batches") && text.contains("batch_size 6"),
        "{text}"
    );
    let text = refused(true, 1, half(), (3, 2));
    assert!(text.contains("its sampler gives each rank a block"), "{text}");
    let text = refused(false, 4, half(), (1, 6));
    assert!(text.contains("within an accumulation window") && text.contains("2 ranks"), "{text}");
}

/// Equal seeds give equal bits, run for run, also where a hook changes the weights by the batch of its rank before the
/// first step.
#[test]
fn runs_of_ranks_repeat_bit_for_bit() {
    let run = || {
        let dir = tempfile::tempdir().unwrap();
        alike(train(3, dir.path(), |dir| {
            Runner::builder(model(Some(SyncBatchNorm::new(4))))
                .train(data(25, 3), EpochBasedTrainLoop::new(2), optim())
                .hook(LSUVHook::default())
                .hook(PreciseBNHook::default())
                .hook(DigestHook::every(1))
                .work_dir(dir)
                .seed(5)
        }))
    };
    let (a, b) = (run(), run());
    assert_eq!(a.losses, b.losses);
    assert_eq!(a.weights, b.weights);
}
