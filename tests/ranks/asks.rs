//! What one rank sees or wants, and all do.

use super::*;

/// What one rank asks for by what it alone sees, all do: stop, validate, skip the update, go back.
#[test]
fn what_one_rank_asks_for_all_do() {
    let run = |act: fn(&mut Ctx<'_>), point: Point, at: u64| {
        let dir = tempfile::tempdir().unwrap();
        let validated = Arc::new(AtomicUsize::new(0));
        let seen = train(2, dir.path(), |dir| {
            let count = Arc::clone(&validated);
            let ask = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
                if (cx.comm.place().rank, cx.progress.iter) == (1, at) {
                    act(cx);
                }
                Ok(())
            };
            let count = move |_: &mut Ctx<'_>, _: &mut Event<'_>| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            toy_runner(dir, 1, 8).unwrap().on(point, ask).on(Point::AfterVal, count)
        });
        (alike(seen), validated.load(Ordering::Relaxed))
    };
    let (seen, _) = run(|cx| cx.stop("far enough"), Point::AfterTrainIter, 2);
    assert_eq!(seen.losses.len(), 2);
    assert!(
        matches!(&seen.end, Outcome::Stopped(why) if why.reason == "rank 1: far enough"),
        "{:?}",
        seen.end
    );
    let (_, validated) = run(|cx| cx.val(), Point::AfterTrainIter, 2);
    assert_eq!(validated, 4, "one more on both ranks");
    let (skipped, _) = run(|cx| cx.skip_update("bad"), Point::AfterBackward, 1);
    assert_eq!(skipped.losses.len(), 4);
}

/// A loss that is NaN on one rank is NaN on all, which skip the update together.
#[test]
fn what_is_not_finite_on_one_rank_is_skipped_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let seen = train(2, dir.path(), |dir| {
        let poison = |cx: &mut Ctx<'_>, event: &mut Event<'_>| {
            if let Event::BeforeTrainIter(batch) = event
                && (cx.comm.place().rank, cx.progress.iter) == (1, 2)
            {
                batch.inputs_mut()?.fill(Elem::NAN);
            }
            Ok(())
        };
        toy_runner(dir, 2, 8).unwrap().on(Point::BeforeTrainIter, poison).hook(CheckInvalidLossHook::skip())
    });
    let nan: Vec<Vec<usize>> = seen
        .iter()
        .map(|seen| (0..seen.losses.len()).filter(|at| seen.losses[*at].is_nan()).collect())
        .collect();
    assert_eq!(nan, [[2], [2]]);
    let [StateDict(first), StateDict(second)] = [&seen[0].weights, &seen[1].weights];
    assert_eq!(first, second);
    assert!(first.iter().all(|(_, tensor)| tensor.value.iter().all(|value| value.is_finite())));
}

/// A sample that is no number is met by one rank: all go back, and on without that sample, of the others none.
#[test]
fn all_ranks_go_back_from_what_one_has_met() {
    let dir = tempfile::tempdir().unwrap();
    let seen = train(2, dir.path(), |dir| {
        let poison = |_: &mut Ctx<'_>, event: &mut Event<'_>| {
            if let Event::BeforeTrainIter(batch) = event
                && let Some(row) = batch.ids.iter().position(|id| *id == 5)
            {
                batch.inputs_mut()?.index_axis_mut(ndarray::Axis(0), row).fill(Elem::NAN);
            }
            Ok(())
        };
        toy_runner(dir, 3, 8)
            .unwrap()
            .on(Point::BeforeTrainIter, poison)
            .hook(CheckInvalidLossHook::rollback(2).bundle(false))
    });
    assert_eq!(load(&dir.path().join("epoch_3")).unwrap().meta.excluded, [5]);
    assert!(seen.iter().all(|seen| seen.end == Outcome::Finished));
    assert_eq!(seen[0].weights, seen[1].weights);
    assert_eq!(seen[0].losses.len(), seen[1].losses.len());
    assert_eq!(seen[0].losses.iter().filter(|loss| loss.is_nan()).count(), 1);
}

/// Early stopping goes by the figures of all samples, which all ranks have.
#[test]
fn early_stopping_is_decided_by_the_samples_of_all_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let seen = alike(train(3, dir.path(), |dir| {
        let watch = EarlyStoppingHook::new("accuracy/top1").patience(2);
        toy_runner(dir, 9, 9)
            .unwrap()
            .val(toy_data(2, false).unwrap(), Accuracy::new(vec![1], vec![None]).unwrap())
            .hook(watch)
    }));
    assert!(matches!(&seen.end, Outcome::Stopped(why) if why.by == "EarlyStoppingHook"), "{:?}", seen.end);
    assert!(seen.losses.len() < 27, "{}", seen.losses.len());
}

/// Weights that one rank has changed are told with the rank and the tensor.
#[test]
fn weights_that_differ_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = tried(3, dir.path(), |dir| {
        let spoil = |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
            if (cx.comm.place().rank, cx.progress.iter) == (2, 3) {
                cx.model.edit(
                    Set::Values,
                    &|p| p.name.ends_with("4.bias") || p.name.ends_with("3.bias"),
                    &mut |_, mut v| {
                        v.fill(9.0);
                    },
                )?;
            }
            Ok(())
        };
        Runner::builder(model(None))
            .train(data(24, 2), EpochBasedTrainLoop::new(2), optim())
            .on(Point::BeforeTrainIter, spoil)
            .hook(DigestHook::every(1))
            .work_dir(dir)
            .seed(5)
    });
    let text = text.unwrap_err().to_string();
    assert!(text.contains("rank 2 holds other weights than rank 0") && text.contains(".bias"), "{text}");
}
