//! Whether a config would train: its parts are put together the way a run does it, and the first iteration is rehearsed
//! on a few samples, in memory. What a run refuses before its first iteration is refused here, with its place.

use std::sync::Arc;

use super::assemble::{Assembled, Purpose, assemble};
use super::eval::REHEARSED;
use super::extent::{Extent, undrawn};
use super::one_iteration::OneIteration;
use super::places::{self, Refused};
use super::resume::to_resume;
use super::stand_in::{StandInData, try_layers};
use super::{RunConfig, Runner, RunnerBuilder};
use crate::base::Result;
use crate::base::rng::fresh_seed;
use crate::config::{Diag, Diags, Level, Node};
use crate::data::Dataset;
use crate::hook::{HookConfig, Priority};

/// All that would keep a config from its first iteration, or is odd about it; nothing is written or trained. That the
/// work_dir holds an earlier run is odd only: `resume` or `overwrite` say what is to become of it.
///
/// Data sets are opened if they are there, and their first batches are read as a run would read them. A data set that
/// is not on this machine is a warning: another one may have it, and then no iteration is rehearsed. The layers are
/// tried all the same where the shape of a sample is known, and what the weights begin with is read. A large model is
/// rehearsed by its shapes.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn check(node: &Node, name: Option<&str>) -> Result<Diags> {
    check_as(node, name, fresh_seed())
}

/// The same on the first batch that a run has which draws this seed, where the config has none.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_as(node: &Node, name: Option<&str>, seed: u64) -> Result<Diags> {
    let assembled = assemble(node, name, Purpose::Look, Some(seed))?;
    let Assembled { mut builder, config, odd, hooks, stand_ins, weight_bytes, .. } = assembled;
    let resumed = builder.resume.then(|| to_resume(&builder.home(), builder.load_from.as_deref())).flatten();
    if builder.load_from.is_none() {
        // What is rehearsed has no folders in which it could look for it.
        builder.load_from = resumed.as_ref().map(|(path, _)| path.to_string_lossy().into_owned());
    }
    let mut found = odd;
    let resumed = resumed.as_ref().map(|(_, checkpoint)| &checkpoint.meta);
    let Refused { errors, inhabited } = places::refused(&builder, node, &hooks, resumed)?;
    found.extend(errors);
    found.extend(inhabited.map(|diag| Diag { level: Level::Warning, ..diag }));
    let extent = Extent::of(&mut builder, &stand_ins, weight_bytes);
    found.extend(extent.diag().map(|diag| diag.on(config.model.node())));
    builder.shapes_only = extent.shapes_only;
    if builder.has_all_of(&config) {
        rehearse(builder, &config, node, extent.undrawn, &mut found)?;
    } else {
        say_what_stands_in(&stand_ins, &config, &mut found);
        let start = builder.load_from.clone();
        for error in try_layers(builder, stand_ins) {
            found.extend(error.diags()?.0);
        }
        // The layers took the parts of the run: what follows needs others.
        let Assembled { mut builder, config, .. } = assemble(node, name, Purpose::Look, Some(seed))?;
        builder.load_from = start;
        let told = found.0.len();
        try_start(builder, &config, node, extent.undrawn, &mut found)?;
        found.0.iter_mut().skip(told).for_each(only_warn_of_what_is_elsewhere);
    }
    if !(config.train_dataloader.is_some()
        || config.val_dataloader.is_some()
        || config.test_dataloader.is_some())
    {
        let text = "there is nothing to train, validate or test: give data, such as a `train_dataloader` with `train_cfg` and \
                    `optim_wrapper`";
        found.extend([Diag::error(text).on(node)]);
    }
    if found.has_errors() { Err(found.into()) } else { Ok(found) }
}

/// Of data that are not here: whether the layers could be tried all the same.
fn say_what_stands_in(stand_ins: &[StandInData], config: &RunConfig, found: &mut Diags) {
    let loaders = [
        ("train", &config.train_dataloader),
        ("val", &config.val_dataloader),
        ("test", &config.test_dataloader),
    ];
    for diag in found.0.iter_mut().filter(|diag| diag.absent) {
        let of = |node: &Node| diag.at.as_ref().is_some_and(|at| node.holds(at));
        let mode = loaders.iter().find(|(_, loader)| loader.iter().any(|loader| of(loader.dataset.node())));
        let known = mode.is_some_and(|(mode, _)| stand_ins.iter().any(|data| data.mode == *mode));
        diag.notes.push(match known {
            true => "the layers were tried on a sample of the shape that the pipeline makes".into(),
            false => "what its samples look like is not known without it: whether the layers fit them was not checked".into(),
        });
    }
    let hooks = config.custom_hooks.iter().flatten().next().is_some();
    if let Some(first) = found.0.iter_mut().find(|diag| diag.absent && hooks) {
        first.notes.push("what the hooks do in a training was not tried".into());
    }
}

/// Weights that are not here are no mistake of a config whose data are not here either.
fn only_warn_of_what_is_elsewhere(diag: &mut Diag) {
    if diag.absent && diag.level == Level::Error {
        diag.level = Level::Warning;
        diag.notes.push("a training refuses to begin without it".into());
    }
}

/// Puts the weights in place that a run would begin with, without data: what `load_from`, `resume` and an `init_cfg`
/// name is read as a prediction would read it.
///
/// # Errors
/// A refusal of the machine, for which no config is to blame.
fn try_start(
    mut builder: RunnerBuilder,
    config: &RunConfig,
    node: &Node,
    undrawn: bool,
    found: &mut Diags,
) -> Result<()> {
    // The parts of a training that is not whole would be missed, and what is wrong with them has been told.
    (builder.train_data, builder.train_loop) = (None, None);
    (builder.val, builder.test) = (None, None);
    builder.leave_undrawn(config, undrawn);
    let (written, resumes) = (builder.written.clone(), builder.resume);
    let mut refused = Told(found);
    if let Some(mut runner) = refused.take(builder.dry().build())? {
        let loaded = runner.load().map_err(|error| match &written {
            Some(written) => written.unstarted(error, resumes),
            None => error,
        });
        refused.take(loaded)?;
        refused.odd_weights(&runner, node);
    }
    Ok(())
}

/// Builds the run and goes through its first iteration. Its errors have their places, as those of any run of a config.
///
/// # Errors
/// A refusal of the machine, for which no config is to blame.
fn rehearse(
    mut builder: RunnerBuilder,
    config: &RunConfig,
    node: &Node,
    undrawn: bool,
    found: &mut Diags,
) -> Result<()> {
    builder.leave_undrawn(config, undrawn);
    let options = HookConfig { priority: Some(Priority::LOWEST), ..HookConfig::default() };
    let hook = Box::new(OneIteration::of(&builder, &config.exclude_samples, undrawn));
    let labels = hook.labels.clone();
    let builder = builder.rehearsal().boxed_hook(hook, "the check", options);
    let mut refused = Told(found);
    if let Some(mut runner) = refused.take(builder.build())? {
        type Run = fn(&mut Runner) -> Result<()>;
        let runs: [(bool, Run); 3] = [
            (config.val_dataloader.is_some(), |runner| runner.val().map(drop)),
            (config.test_dataloader.is_some(), |runner| runner.test().map(drop)),
            (config.train_dataloader.is_some(), |runner| runner.train().map(drop)),
        ];
        let mut told = false;
        for (nth, (_, run)) in runs.into_iter().enumerate().filter(|(_, (given, _))| *given) {
            let before = refused.0.0.len();
            let done = refused.take(run(&mut runner))?.is_some();
            let mode = ["val", "test", "train"][nth];
            labels
                .iter()
                .for_each(|own| own.say_whose(mode, refused.0.0.get_mut(before..).unwrap_or_default()));
            if !told {
                told = refused.odd_weights(&runner, node);
            }
            if done {
                continue;
            }
            // Without weights there is nothing to go on with.
            if !runner.is_prepared() {
                break;
            }
            if nth == 0 {
                // A training begins with batches of which no hook hears: another mistake may come first there.
                refused.unless_told(runner.rehearse_validation())?;
                // The training would meet it again, and come no further.
                runner.drop_validation();
            }
        }
    }
    Ok(())
}

/// Complaints of a config; other errors end the check.
struct Told<'a>(&'a mut Diags);

impl Told<'_> {
    fn take<V>(&mut self, result: Result<V>) -> Result<Option<V>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.0.extend(error.diags()?.0);
                Ok(None)
            }
        }
    }
}

impl Told<'_> {
    /// Tells what is odd about the weights that were loaded, and whether anything is.
    fn odd_weights(&mut self, runner: &Runner, node: &Node) -> bool {
        let odd = runner.odd_weights();
        self.0.extend(odd.map(|odd| Diag::warning(odd).on(node.get("load_from").unwrap_or(node))));
        odd.is_some()
    }

    /// The complaints of places of which nothing was said so far.
    fn unless_told(&mut self, result: Result<()>) -> Result<()> {
        let places: Vec<_> =
            self.0.0.iter().filter_map(|diag| diag.at.as_ref().map(ToString::to_string)).collect();
        let mut more = Diags::default();
        Told(&mut more).take(result)?;
        self.0.extend(
            more.0
                .into_iter()
                .filter(|diag| diag.at.as_ref().is_some_and(|at| !places.contains(&at.to_string()))),
        );
        Ok(())
    }
}

impl RunnerBuilder {
    fn has_all_of(&self, config: &RunConfig) -> bool {
        let pairs = [
            (self.train_data.is_some(), config.train_dataloader.is_some()),
            (self.val.is_some(), config.val_dataloader.is_some()),
            (self.test.is_some(), config.test_dataloader.is_some()),
        ];
        pairs.iter().all(|(have, given)| have == given)
    }

    /// Keeps a model that is too large to be tried from drawing its weights.
    fn leave_undrawn(&mut self, config: &RunConfig, large: bool) {
        if large {
            self.model = self.model.take().map(|model| undrawn(model, config.model.node()));
        }
    }

    /// The same run over a few samples of each batch, which writes nothing.
    fn rehearsal(mut self) -> Self {
        self.train_data = self.train_data.map(|data| data.rehearsal(None));
        for evaluation in [&mut self.val, &mut self.test].into_iter().flatten() {
            evaluation.data = evaluation.data.rehearsal(Some(REHEARSED as usize));
        }
        self.dry()
    }

    /// The data sets of the run, by their loaders.
    pub(super) fn sets(&self) -> Vec<(&'static str, Arc<dyn Dataset>)> {
        let evaluated = [("val", &self.val), ("test", &self.test)];
        let evaluated = evaluated.into_iter().filter_map(|(mode, e)| Some((mode, &e.as_ref()?.data)));
        let all = self.train_data.iter().map(|data| ("train", data)).chain(evaluated);
        all.map(|(mode, data)| (mode, Arc::clone(data.dataset()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use ndarray::Array1;

    use super::*;
    use crate::base::{Elem, Rng};
    use crate::data::Sample;
    use crate::registry::BuildCx;

    static READ: Mutex<Vec<usize>> = Mutex::new(Vec::new());

    struct Watched;

    #[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
    struct WatchedConfig {}

    impl Watched {
        fn from_config(_: WatchedConfig, _: &mut BuildCx) -> Result<Self> {
            Ok(Self)
        }
    }

    crate::register! {
        /// Notes which samples are read.
        dyn Dataset, "WatchedForTests" => fn Watched::from_config
    }

    impl Dataset for Watched {
        fn len(&self) -> usize {
            100
        }
        fn get(&self, index: usize, _: &mut Rng) -> Result<Sample> {
            READ.lock().unwrap().push(index);
            Ok(Sample::new(Array1::<Elem>::zeros(3), 0))
        }
    }

    /// Without `randomness.seed` the check looked at another first batch than the run that it was for.
    #[test]
    fn the_check_of_a_training_looks_at_its_first_batch() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "model: {{type: ToyModel, n: 100}}\n\
             train_dataloader: {{batch_size: 4, dataset: {{type: WatchedForTests}}}}\n\
             optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\n\
             train_cfg: {{by_epoch: false, max_iters: 1}}\nwork_dir: {}\noverwrite: true\n",
            dir.path().join("w").display()
        );
        let node = crate::config::parse("c.yaml", &text).unwrap();
        let read = |run: &dyn Fn()| {
            READ.lock().unwrap().clear();
            run();
            BTreeSet::from_iter(READ.lock().unwrap().iter().copied())
        };
        let mut all = BTreeSet::new();
        for seed in 0..4 {
            let checked = read(&|| drop(check_as(&node, None, seed).unwrap()));
            let trained = read(&|| {
                let builder = RunnerBuilder::to_train(
                    &node,
                    None,
                    Some(seed),
                    std::sync::Arc::new(crate::comm::Solo::default()),
                )
                .unwrap();
                builder.build().unwrap().train().unwrap();
            });
            assert!(checked == trained && checked.len() == 4, "{checked:?} {trained:?}");
            all.insert(checked);
        }
        assert_eq!(all.len(), 4, "each seed has its own");
    }
}
