//! Runs whose ranks are threads: who writes what, and what they must have in common.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use shanty::base::Result;
use shanty::comm::Comm;
use shanty::config::parse;
use shanty::hook::{Ctx, Hook, HookResult, Ranks, Step};
use shanty::run::{Outcome, Runner, RunnerBuilder};
use shanty::testing::{ranks, toy_data, toy_runner};

/// The files below a folder, by their paths in it.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => found.push(path.strip_prefix(dir).unwrap().to_string_lossy().into_owned()),
            }
        }
    }
    found.sort();
    found
}

fn train(dir: &Path, epochs: u64, resume: bool, comm: Arc<dyn Comm>) -> Result<(Outcome, u64)> {
    let mut runner = toy_runner(dir, epochs, 4)?.comm(comm).resume(resume).build()?;
    let outcome = runner.train()?;
    Ok((outcome, runner.session().state.progress.epoch))
}

/// Checkpoints, events and reports are the first rank's; others have a log file. One process goes on with what two wrote.
#[test]
fn the_first_rank_writes_and_the_others_log() {
    let dir = tempfile::tempdir().unwrap();
    let ended = ranks(2, |_, comm| train(dir.path(), 2, false, comm)).unwrap();
    assert_eq!(ended, [(Outcome::Finished, 2), (Outcome::Finished, 2)]);
    let all = files(dir.path());
    let ending = |end: &str| all.iter().filter(|file| file.ends_with(end)).count();
    assert_eq!((ending("_rank1.log"), ending(".log"), ending("events.jsonl")), (1, 2, 1), "{all:?}");
    assert_eq!(ending("manifest.json"), 2, "{all:?}");
    let ended = ranks(3, |_, comm| train(dir.path(), 3, true, comm)).unwrap();
    assert_eq!(ended, [(); 3].map(|()| (Outcome::Finished, 3)));
    let (outcome, epochs) = train(dir.path(), 4, true, Arc::new(shanty::comm::Solo::default())).unwrap();
    assert_eq!((outcome, epochs), (Outcome::Finished, 4));
}

/// Counts its calls; only those of one rank, if it says so.
struct Counts {
    of: Ranks,
    calls: Arc<Mutex<Vec<usize>>>,
}

impl Hook for Counts {
    fn ranks(&self) -> Ranks {
        self.of
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        self.calls.lock().unwrap()[cx.comm.place().rank] += 1;
        Ok(())
    }
}

#[test]
fn a_hook_runs_on_all_ranks_unless_it_says_otherwise() {
    for of in [Ranks::All, Ranks::Main] {
        let (dir, calls) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(vec![0, 0])));
        ranks(2, |_, comm| {
            let hook = Counts { of, calls: Arc::clone(&calls) };
            toy_runner(dir.path(), 1, 4)?.comm(comm).hook(hook).build()?.train().map(drop)
        })
        .unwrap();
        let calls = calls.lock().unwrap();
        assert!(calls[0] > 0);
        assert_eq!(calls[1], if of == Ranks::All { calls[0] } else { 0 });
    }
}

/// What each rank says at the end, if it fails.
fn said(world: usize, run: impl Fn(usize, Arc<dyn Comm>) -> Result<()> + Sync) -> Vec<String> {
    let told =
        ranks(world, |rank, comm| Ok(run(rank, comm).err().map(|e| e.to_string()).unwrap_or_default()));
    told.unwrap()
}

/// Another config, seed, or other data on one rank: all ranks say the same of it, and nothing is left behind.
#[test]
fn ranks_of_unlike_minds_do_not_begin() {
    let config = |lr: &str, launcher: &str| {
        format!(
            "model: {{type: ToyModel, n: 3}}\n{launcher}\nrandomness: {{seed: 1}}\n\
             train_dataloader: {{batch_size: 4, dataset: {{type: Synthetic, n: 16, shape: [3, 1, 1], classes: 2}}}}\n\
             optim_wrapper: {{optimizer: {{type: SGD, lr: {lr}}}}}\ntrain_cfg: {{by_epoch: true, max_epochs: 1}}\n"
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let written = |text: String, comm: Arc<dyn Comm>| -> Result<()> {
        let node = parse("run.yaml", &format!("{text}work_dir: '{}'\n", dir.path().display()))?;
        RunnerBuilder::from_config_among(&node, None, comm)?.build()?.train().map(drop)
    };
    let made = |seed: u64, batches: usize, comm: Arc<dyn Comm>| -> Result<()> {
        let data = toy_data(batches, true)?;
        let model = shanty::testing::ToyModel::new(3);
        let looped = shanty::run::EpochBasedTrainLoop::new(1);
        let builder = Runner::builder(model).train(data, looped, shanty::testing::toy_optim());
        builder.work_dir(dir.path()).seed(seed).comm(comm).build()?.train().map(drop)
    };
    let lr = said(3, |rank, comm| written(config(if rank == 2 { "0.2" } else { "0.1" }, ""), comm));
    assert!(
        lr[0].contains("rank 2 has another config than rank 0: optim_wrapper.optimizer.lr: 0.1 -> 0.2"),
        "{lr:?}"
    );
    let seed = said(3, |rank, comm| made(rank as u64 / 2, 4, comm));
    assert!(seed[0].contains("rank 2 has another seed than rank 0"), "{seed:?}");
    let data = said(3, |rank, comm| made(0, 4 + rank / 2 * 4, comm));
    assert!(data[0].contains("rank 2 sees other training data than rank 0"), "{data:?}");
    assert!(data[0].contains("16 samples then, 32 now"), "{data:?}");
    let alone = said(2, |_, comm| written(config("0.1", "launcher: none"), comm));
    assert!(alone[0].contains("2 processes were started together, and `launcher: none`"), "{alone:?}");
    for told in [lr, seed, data, alone] {
        assert!(told.iter().all(|text| *text == told[0]), "{told:?}");
    }
    for launcher in ["mpi", "slurm"] {
        let error =
            written(config("0.1", &format!("launcher: {launcher}")), Arc::new(shanty::comm::Solo::default()));
        assert!(error.unwrap_err().to_string().contains("this process was started alone"));
    }
    assert_eq!(files(dir.path()), Vec::<String>::new());
}

/// Fails on one rank.
struct Fails(usize);

impl Hook for Fails {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        match cx.comm.place().rank == self.0 && cx.progress.iter == 3 {
            true => Err("no space left on device".into()),
            false => Ok(()),
        }
    }
}

/// A rank that fails ends all, each knows why, and the run goes on from what was saved.
#[test]
fn a_rank_that_fails_ends_all() {
    for odd in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let told = said(2, |_, comm| {
            let run = toy_runner(dir.path(), 2, 4)?.comm(Arc::clone(&comm)).hook(Fails(odd)).build()?.train();
            run.map(drop).inspect_err(|error| {
                comm.fail(&error.to_string());
            })
        });
        assert!(told[odd].contains("no space left on device"), "{told:?}");
        assert!(told[1 - odd].contains(&format!("rank {odd} failed: hook `Fails`")), "{told:?}");
        ranks(2, |_, comm| train(dir.path(), 3, true, comm)).unwrap();
    }
}
