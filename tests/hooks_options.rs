//! Hooks that a program makes are asked for their options like those of a config, before the run begins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;

use shanty::data::Pipeline;
use shanty::hook::builtin::*;
use shanty::metric::Accuracy;
use shanty::plugin::prelude::*;
use shanty::run::RunnerBuilder;
use shanty::testing::{toy_data, toy_runner};

fn run(dir: &Path) -> RunnerBuilder {
    let metric = Accuracy::new(vec![1], vec![None]).unwrap();
    toy_runner(dir, 2, 4).unwrap().val(toy_data(1, false).unwrap(), metric)
}

fn refused(run: RunnerBuilder) -> String {
    run.build().err().expect("the options must be refused").to_string()
}

/// The very sentence that a config hears about these keys.
fn of_a_config(dir: &Path, yaml: &str) -> String {
    match run(dir).hook_yaml(yaml) {
        Err(error) => error.as_diags().unwrap().0[0].message.clone(),
        Ok(run) => {
            run.build().err().expect("the config must be refused").as_diags().unwrap().0[0].message.clone()
        }
    }
}

/// A hook of a program was believed, and failed after the first epoch, or did something else than it said.
#[test]
fn a_program_hears_what_a_config_hears() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut count = 0;
    macro_rules! same {
        ($hook:expr, $yaml:expr) => {
            let name = std::any::type_name_of_val(&$hook).rsplit("::").next().unwrap();
            let own = of_a_config(dir.path(), &format!("{{type: {name}, {}}}", $yaml));
            let (prefix, own) =
                ("cannot build `", own.rsplit_once("`: ").map_or(own.clone(), |(_, own)| own.to_owned()));
            let said = refused(run(dir.path()).hook($hook));
            assert!(said.starts_with(prefix) && said.ends_with(&own), "{said} | {own}");
            let mut built = run(other.path()).build().unwrap();
            assert_eq!(built.add_hook($hook).unwrap_err().to_string(), said, "added later");
            count += 1;
        };
    }
    same!(CheckpointHook::every(0), "interval: 0");
    same!(CheckpointHook::every(1).keep(0), "max_keep_ckpts: 0");
    same!(CheckpointHook::every(1).best("auto").best("accuracy/top1"), "save_best: [auto, accuracy/top1]");
    same!(EMAHook::new(1.5, 0), "momentum: 1.5");
    same!(EMAHook::new(f64::NAN, 0), "momentum: .nan");
    same!(EMAHook::new(0.1, 0).interval(0), "interval: 0");
    same!(EMAHook::new(0.1, 8), "begin_iter: 8");
    same!(EMAHook::new(0.1, 0).begin_epoch(3), "begin_epoch: 3");
    same!(EMAHook::new(0.1, 1).begin_epoch(1), "{begin_iter: 1, begin_epoch: 1}".trim_matches(['{', '}']));
    same!(CheckInvalidLossHook::skip().interval(5), "action: skip, interval: 5");
    same!(CheckInvalidLossHook::rollback(0), "action: rollback, rollback_steps: 0");
    same!(DigestHook::every(0), "interval: 0");
    same!(LoggerHook::every(0), "interval: 0");
    same!(LoggerHook::every(1).interval_exp_name(0), "interval_exp_name: 0");
    same!(PreciseBNHook::default().num_samples(0), "num_samples: 0");
    same!(MeanTeacherHook::default().momentum(0.0), "momentum: 0.0");
    same!(EarlyStoppingHook::new("accuracy/top1").patience(0), "monitor: accuracy/top1, patience: 0");
    same!(EarlyStoppingHook::new("accuracy/top1").min_delta(-1.0), "monitor: accuracy/top1, min_delta: -1.0");
    same!(EarlyStoppingHook::new("shine"), "monitor: shine");
    same!(WarmupParamHook::new("p", "dropout", 0), "param_name: p, module_name: dropout, warmup_epochs: 0");
    same!(ProfilerHook::default().profile_times(0), "profile_times: 0");
    same!(ProfilerHook::default().profile_times(3), "profile_times: 3");
    same!(LSUVHook::default().tolerance(0.0), "tolerance: 0.0");
    same!(LSUVHook::default().max_iters(0), "max_iters: 0");
    assert_eq!(count, 24);
    let twice = SwitchRecipeHook::new(vec![(1, Pipeline::default()), (1, Pipeline::default())]);
    assert!(refused(run(dir.path()).hook(twice)).ends_with("`schedule` has epoch 2 twice"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a refused run leaves nothing");
}

/// Options of a hook that a crate brings.
struct Picky(u64);

impl Hook for Picky {
    fn check_options(&self, cx: &BuildCx) -> Result<()> {
        match cx.get::<Progress>() {
            Some(run) if run.max_iters == self.0 => Ok(()),
            run => {
                Err(Error::config(format!("made for {} iterations: {:?}", self.0, run.map(|r| r.max_iters))))
            }
        }
    }
}

/// Whatever brings a hook: it knows how long the run is.
#[test]
fn a_hook_of_ones_own_is_asked_too() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path()).hook(Picky(8)).build().unwrap().add_hook(Picky(8)).unwrap();
    let said = refused(run(dir.path()).hook(Picky(9)));
    assert_eq!(said, "cannot build `Picky`: made for 9 iterations: Some(8)");
}
