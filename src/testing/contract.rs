//! What every hook owes the run, as one test: `shanty::testing::hook_contract!(MyHook, "interval: 2")`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{JudgedDisk, Op, Verdict};
use super::{ToyModel, toy_data, toy_optim, toy_runner_of};
use crate::base::{Error, Result};
use crate::checkpoint::{Checkpoint, load};
use crate::config::{Kind, Node, parse};
use crate::hook::builtin::LogProcessor;
use crate::hook::{Ctx, Event, Hook, HookConfig, HookResult, Point, Priority, Progress};
use crate::metric::Accuracy;
use crate::model::Model;
use crate::params::StateDict;
use crate::registry::{BuildCx, Spec};
use crate::run::{EpochBasedTrainLoop, RunnerBuilder};

/// A clause of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clause {
    /// It is registered, has a doc line, and is built from its config.
    Builds,
    /// A key that it does not know is refused.
    RefusesUnknownKeys,
    /// It does something at the points that it declares only, and it is called where it reads and writes.
    KeepsToItsPoints,
    /// What its state takes back is what it saved.
    StateRoundTrips,
    /// A run that was stopped and resumed ends as one that was not: all state is saved.
    ResumesExactly,
    /// A failure or panic of another hook at any point ends the run with that error; `on_error` puts back what the hook
    /// holds.
    SurvivesFailures,
    /// A second run in the same process is the same run.
    RunsTwice,
}

/// A clause that a hook does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Which.
    pub clause: Clause,
    /// How it showed.
    pub text: String,
}

/// A hook with its config, and the run in which it is tried.
pub struct Contract {
    name: String,
    yaml: String,
    run: fn(&Path) -> Result<RunnerBuilder>,
}

/// Tests that a hook keeps its contract: `hook_contract!(MyHook, "interval: 2")`, with the registered name (that of the
/// type) and the YAML of its keys. A third argument names another run than [`contract_run`], for a hook that needs a
/// model of its own kind. It makes one `#[test]`; several in one file go into modules.
#[macro_export]
macro_rules! hook_contract {
    ($hook:ty, $yaml:expr) => {
        $crate::hook_contract!($hook, $yaml, $crate::testing::contract_run);
    };
    ($hook:ty, $yaml:expr, $run:expr) => {
        #[test]
        fn the_hook_keeps_its_contract() {
            let breaches = $crate::testing::Contract::new(stringify!($hook), $yaml, $run).breaches();
            assert!(breaches.is_empty(), "{breaches:#?}");
        }
    };
}

/// Two epochs of four batches of the toy model, validated, then tested.
///
/// # Errors
/// Never in practice.
pub fn contract_run(dir: &Path) -> Result<RunnerBuilder> {
    contract_run_of(dir, ToyModel::new(3))
}

/// The same of another model.
///
/// # Errors
/// Never in practice.
pub fn contract_run_of(dir: &Path, model: impl Model) -> Result<RunnerBuilder> {
    let run = toy_runner_of(dir, model, toy_data(4, true)?, EpochBasedTrainLoop::new(2), toy_optim())?;
    Ok(run.test(toy_data(1, false)?, Accuracy::new(vec![1], vec![None])?))
}

impl Contract {
    /// The hook of this registered name (a path's last part), with these keys.
    pub fn new(name: &str, yaml: &str, run: fn(&Path) -> Result<RunnerBuilder>) -> Self {
        let name = name.rsplit("::").next().unwrap_or(name).trim().to_owned();
        Self { name, yaml: yaml.to_owned(), run }
    }

    /// The clauses that the hook does not keep.
    pub fn breaches(&self) -> Vec<Breach> {
        if let Err(text) = self.builds() {
            return vec![Breach { clause: Clause::Builds, text: text.to_string() }];
        }
        let clauses: [(Clause, fn(&Self) -> Result<()>); 6] = [
            (Clause::RefusesUnknownKeys, Self::refuses_unknown_keys),
            (Clause::KeepsToItsPoints, Self::keeps_to_its_points),
            (Clause::StateRoundTrips, Self::state_round_trips),
            (Clause::ResumesExactly, Self::resumes_exactly),
            (Clause::SurvivesFailures, Self::survives_failures),
            (Clause::RunsTwice, Self::runs_twice),
        ];
        let tried = clauses.into_iter().filter_map(|(clause, check)| Some((clause, check(self).err()?)));
        tried.map(|(clause, text)| Breach { clause, text: text.to_string() }).collect()
    }

    fn spec(&self, more: &str) -> Result<Spec<dyn Hook>> {
        let keys = parse(&self.name, if self.yaml.trim().is_empty() { "{}" } else { &self.yaml })?;
        let more = parse(&self.name, &format!("{{type: {}{more}}}", self.name))?;
        let entries = more.entries().iter().chain(keys.entries()).cloned().collect();
        Ok(Spec::from_node(&Node { kind: Arc::new(Kind::Map(entries)), ..keys })?)
    }

    fn hook(&self) -> Result<(Box<dyn Hook>, HookConfig)> {
        let spec = self.spec("")?;
        let mut cx = BuildCx::new(0);
        cx.provide(LogProcessor::default());
        cx.provide(Progress {
            max_epochs: 2,
            max_iters: 8,
            epoch_len: 4,
            by_epoch: true,
            ..Progress::default()
        });
        Ok((spec.build(&mut cx)?, spec.extra.clone()))
    }

    /// The run with the hook in it, on a disk that does not wait and with a clock that stands still.
    fn builder(&self, dir: &Path) -> Result<RunnerBuilder> {
        let (hook, options) = self.hook()?;
        let builder = (self.run)(dir)?.file_system(unsynced()).timer(|| 0.0).record_calls();
        Ok(builder.boxed_hook(hook, &self.name, options))
    }

    fn builds(&self) -> Result<()> {
        let undocumented =
            self.spec("")?.entry().is_none_or(|entry| entry.doc().all(|line| line.trim().is_empty()));
        if undocumented {
            return Err(Error::invalid("it has no doc line in its `register!`"));
        }
        self.hook().map(drop)
    }

    fn refuses_unknown_keys(&self) -> Result<()> {
        match self.spec(", no_hook_has_this_key: 1") {
            Ok(_) => Err(Error::invalid("the unknown key `no_hook_has_this_key` was taken")),
            Err(_) => Ok(()),
        }
    }

    fn keeps_to_its_points(&self) -> Result<()> {
        let dir = scratch()?;
        let mut runner = self.builder(dir.path())?.build()?;
        runner.train()?;
        let key = self.key(runner.session().hooks.order().map(|(key, _)| key));
        let declared = self.hook()?.0.order();
        let idle = declared.reads.iter().chain(&declared.writes).find(|(point, _)| {
            !OUTSIDE_OF_TRAINING.contains(point) && !runner.session().hooks.wants(&key, *point)
        });
        if let Some((point, what)) = idle {
            let text = format!("it declares `{what}` in {}, but does nothing there", point.name());
            return Err(Error::invalid(text));
        }
        runner.test()?;
        let session = runner.session();
        let own = |place: usize| session.hooks.order().nth(place).is_some_and(|(k, _)| *k == key);
        let mut called = session.state.profile.calls().iter().filter(|c| own(c.hook)).map(|c| c.point);
        let declared = declared.points.as_ref();
        match declared.and_then(|declared| called.find(|p| !declared.contains(p))) {
            Some(stray) => {
                Err(Error::invalid(format!("it acts in {}, which it does not declare", stray.name())))
            }
            None => Ok(()),
        }
    }

    /// Its key in a run: the last one of its name.
    fn key<'k>(&self, keys: impl Iterator<Item = &'k str>) -> String {
        let mut own: Vec<&str> = keys.filter(|k| k.split('#').next() == Some(self.name.as_str())).collect();
        own.sort_by_key(|k| k.len());
        own.last().map_or_else(|| self.name.clone(), |k| (*k).to_owned())
    }

    fn state_round_trips(&self) -> Result<()> {
        let end = self.end(None)?;
        let key = self.key(end.hooks.keys().map(String::as_str));
        let Some(saved) = end.hooks.get(&key) else { return Ok(()) };
        let mut fresh = self.hook()?.0;
        let state =
            fresh.state().ok_or_else(|| Error::invalid("it saved state, and a new one keeps none"))?;
        state.load(saved.clone())?;
        // A hook may take its tensors over only when the weights come: plain data must be there at once.
        let mut again = Some(state.save()?.data);
        if !saved.tensors.is_empty() {
            again = Some(saved.data.clone());
        }
        if again.as_ref() != Some(&saved.data) {
            let again = again.map_or("nothing".to_owned(), |data| data.to_string());
            return Err(Error::invalid(format!(
                "it saved {}, took it back, and then saved {again}",
                saved.data
            )));
        }
        Ok(())
    }

    /// The last checkpoint of the run, cut after some iteration and resumed.
    fn end(&self, cut: Option<u64>) -> Result<Checkpoint> {
        let dir = scratch()?;
        if let Some(cut) = cut {
            let stop = move |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
                if cx.progress.iter == cut {
                    cx.stop("cut by the contract kit");
                }
                Ok(())
            };
            self.builder(dir.path())?.on(Point::AfterTrainIter, stop).build()?.train()?;
        }
        let mut runner = self
            .builder(dir.path())?
            .resume(cut.is_some())
            .on(Point::AfterTrainIter, |_, _| Ok(()))
            .build()?;
        runner.train()?;
        let progress = &runner.session().state.progress;
        let last = if progress.by_epoch && progress.batch == 0 {
            format!("epoch_{}", progress.epoch)
        } else {
            format!("iter_{}", progress.iter)
        };
        load(&dir.path().join(last))
    }

    fn resumes_exactly(&self) -> Result<()> {
        let whole = self.end(None)?;
        for cut in [1, 3, 4, 6].into_iter().filter(|cut| *cut < whole.meta.iter) {
            let parts = self.end(Some(cut))?;
            let what = if whole.model != parts.model {
                "weights"
            } else if whole.optimizer != parts.optimizer {
                "the optimizer's state"
            } else if own_state(&whole) != own_state(&parts) {
                "the state of hooks"
            } else if whole.message_hub != parts.message_hub {
                "the message hub"
            } else {
                continue;
            };
            return Err(Error::invalid(format!(
                "cut after iteration {cut} and resumed, {what} came out different"
            )));
        }
        Ok(())
    }

    fn survives_failures(&self) -> Result<()> {
        for point in Point::ALL.iter().copied().filter(|p| !IN_FAILURES.contains(p)) {
            for panics in [false, true] {
                for priority in [Priority::HIGHEST, Priority::LOWEST] {
                    self.survives(point, panics, priority)?;
                }
            }
        }
        Ok(())
    }

    fn survives(&self, point: Point, panics: bool, priority: Priority) -> Result<()> {
        let dir = scratch()?;
        let held = Arc::new(Mutex::new(None));
        let failing = Failing { point, panics };
        let options = HookConfig { priority: Some(priority), ..HookConfig::default() };
        let mut runner = self
            .builder(dir.path())?
            .boxed_hook(Box::new(Witness(Arc::clone(&held))), "Witness", first())
            .boxed_hook(Box::new(failing), "Failing", options)
            .build()?;
        let error = match runner.train().and_then(|_| runner.test()) {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        let at = format!("{} in {}", if panics { "a panic" } else { "an error" }, point.name());
        if !error.contains("injected by the contract kit") {
            return Err(Error::invalid(format!("after {at} the run ended with another error: {error}")));
        }
        if let Some(failed) = runner.session().hooks.failures().first() {
            return Err(Error::invalid(format!("after {at}: {failed}")));
        }
        let before = held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let now = StateDict::of(&*runner.session().state.model)?;
        if before.is_some_and(|weights| weights != now) {
            return Err(Error::invalid(format!(
                "after {at} the model was left with other weights than it had"
            )));
        }
        Ok(())
    }

    fn runs_twice(&self) -> Result<()> {
        let (first, second) = (self.end(None)?, self.end(None)?);
        let same = first.model == second.model
            && first.optimizer == second.optimizer
            && first.hooks == second.hooks
            && first.message_hub == second.message_hub;
        if same { Ok(()) } else { Err(Error::invalid("a second run in the same process ended differently")) }
    }
}

/// Points that a training without failures does not meet.
const OUTSIDE_OF_TRAINING: [Point; 9] = [
    Point::BeforeTest,
    Point::BeforeTestEpoch,
    Point::BeforeTestIter,
    Point::AfterTestIter,
    Point::AfterTestEpoch,
    Point::AfterTest,
    Point::OnError,
    Point::OnCustom,
    Point::AfterLoadCheckpoint,
];

/// Points that are met only when something fails, or by loops of one's own; and after a load.
const IN_FAILURES: [Point; 3] = [Point::OnError, Point::OnCustom, Point::AfterLoadCheckpoint];

/// What hooks saved; names of checkpoints are those of this run.
fn own_state(checkpoint: &Checkpoint) -> Vec<(&String, &crate::base::Record)> {
    checkpoint.hooks.iter().filter(|(key, _)| !key.starts_with("CheckpointHook")).collect()
}

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|e| Error::Other(e.into()))
}

fn first() -> HookConfig {
    HookConfig { priority: Some(Priority::HIGHEST), ..HookConfig::default() }
}

type Held = Arc<Mutex<Option<StateDict>>>;

/// Notes the weights with which a validation or a test begins: a hook may change them for its length only.
struct Witness(Held);

impl Hook for Witness {
    fn on_event(&mut self, cx: &mut Ctx<'_>, event: &mut Event<'_>) -> HookResult {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::BeforeVal | Event::BeforeTest => *held = Some(StateDict::of(&**cx.model)?),
            Event::AfterVal | Event::AfterTest => *held = None,
            _ => {}
        }
        Ok(())
    }
}

/// Fails at one point.
struct Failing {
    point: Point,
    panics: bool,
}

impl Hook for Failing {
    #[allow(clippy::panic)] // it is what it is for
    fn on_event(&mut self, cx: &mut Ctx<'_>, event: &mut Event<'_>) -> HookResult {
        if event.point() != self.point {
            return cx.unsubscribe();
        }
        if self.panics {
            std::panic::panic_any("injected by the contract kit");
        }
        Err("injected by the contract kit".into())
    }
}

/// The real disk, which does not wait for anything to be durable.
fn unsynced() -> JudgedDisk {
    JudgedDisk::new(|op, _, _| if op == Op::Sync { Verdict::Skip } else { Verdict::Go })
}
