//! Whether a config would train: its parts are put together the way a run does it, and the first iteration is rehearsed on a
//! few samples, in memory. What a run refuses before its first iteration is refused here, with its place.

use std::path::Path;
use std::sync::Arc;

use super::assemble::{Assembled, Purpose, assemble, misplaced};
use super::eval::Insane;
use super::{RunConfig, Runner, RunnerBuilder, places};
use crate::base::{Error, Result, Rng};
use crate::config::{Diag, Diags, Level, Node};
use crate::data::{DataLoader, Dataset, Pipeline, Sample};
use crate::hook::{Ctx, Hook, HookOptions, HookResult, Misplaced, Priority, Step};
use crate::metric::MetricFailed;
use crate::registry::{Collected, blamed};

/// Bytes of weights above which a model is put together, but not rehearsed.
const LARGE: u64 = 1 << 30;
/// Samples in a batch of the rehearsal: batch norms of vectors need two.
const SAMPLES: usize = 2;

/// All that would keep a config from its first iteration, or is odd about it; nothing is written or trained.
///
/// Data sets are opened if they are there, and a sample or two is read. What is not on this machine is a warning.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn check(node: &Node, name: Option<&str>) -> Result<Diags> {
    let Assembled { builder, config, odd, hooks, weight_bytes } = assemble(node, name, Purpose::Look)?;
    let mut found = Collected(odd);
    found.0.extend(places::unmakeable(&builder, node, &hooks));
    if !config.resume {
        found.0.extend(places::in_the_way(&builder, node, &hooks)?);
    }
    if builder.has_all_of(&config) && weight_bytes <= LARGE {
        let stage = Stage { config: &config, node, hooks: &hooks };
        stage.rehearse(builder, &mut found)?;
    }
    if found.0.has_errors() { Err(found.0.into()) } else { Ok(found.0) }
}

/// What the errors of a rehearsal may be about.
struct Stage<'a> {
    config: &'a RunConfig,
    node: &'a Node,
    hooks: &'a [(Arc<str>, Node)],
}

impl Stage<'_> {
    fn rehearse(&self, mut builder: RunnerBuilder, found: &mut Collected) -> Result<()> {
        let seed = builder.seed();
        let load_from = self.load_from(found);
        if (load_from.is_none() || !self.config.load_options.strict)
            && let Some(model) = &mut builder.model
            && let Err(error) = model.init_weights(seed)
        {
            let mut wrong = Collected::default();
            wrong.take_on::<()>(Err(error), self.config.model.node());
            // Another machine may have the file.
            for diag in wrong.0.0.iter_mut().filter(|diag| diag.absent) {
                diag.level = Level::Warning;
            }
            found.0.extend(wrong.0.0);
        }
        let options = HookOptions { priority: Some(Priority::LOWEST), ..HookOptions::default() };
        let builder = builder.rehearsal()?.resume(false).load_from(load_from);
        let mut runner = builder.boxed_hook(Box::new(OneIteration), "the check", options).build()?;
        type Run = fn(&mut Runner) -> Result<()>;
        let runs: [(&str, bool, Run); 3] = [
            ("val", self.config.val_dataloader.is_some(), |runner| runner.val().map(drop)),
            ("test", self.config.test_dataloader.is_some(), |runner| runner.test().map(drop)),
            ("train", self.config.train_dataloader.is_some(), |runner| runner.train().map(drop)),
        ];
        for (mode, _, run) in runs.into_iter().filter(|(_, given, _)| *given) {
            if let Err(error) = run(&mut runner) {
                let dataset = match mode {
                    "val" => &self.config.val_dataloader,
                    "test" => &self.config.test_dataloader,
                    _ => &self.config.train_dataloader,
                };
                let place = dataset.as_ref().map_or(self.node, |data| data.dataset.node());
                found.0.extend([self.about(mode, error, place)]);
            }
        }
        Ok(())
    }

    /// The checkpoint that the weights come from, if it is there.
    fn load_from(&self, found: &mut Collected) -> Option<String> {
        let path = self.config.load_from.clone()?;
        let work_dir = self.config.work_dir.as_deref().unwrap_or_default();
        if Path::new(&path).exists() || Path::new(work_dir).join(&path).exists() {
            return Some(path).filter(|_| !self.config.resume);
        }
        let place = self.node.get("load_from").unwrap_or(self.node);
        found.0.extend([Diag::warning(format!("there is no checkpoint `{path}` here")).on(place)]);
        None
    }

    /// The complaint at the part that it is about; at `place` where nobody else is to blame.
    fn about(&self, mode: &str, error: Error, place: &Node) -> Diag {
        let text = error.to_string();
        let on = |node: &Node, text: &str| Diag::error(text).on(blamed(node, text));
        match error {
            Error::Run { source, .. } if source.is::<MetricFailed>() => {
                let metric =
                    source.downcast_ref().and_then(|failed: &MetricFailed| self.metric(mode, failed.index));
                on(metric.unwrap_or(place), &source.to_string())
            }
            Error::Run { who, source, .. } => {
                let hook = self.hooks.iter().find(|(key, _)| who == format!("hook `{key}`"));
                let node = hook.map_or(self.config.model.node(), |(_, node)| node);
                let text = format!("{who}: {source}");
                // A hook may complain about a key elsewhere, by its whole path.
                let paths = text.split('`').skip(1).step_by(2);
                let find = |path: &str| match hook {
                    Some(_) => below(self.node, path).filter(|_| path.contains('.')),
                    None => below(node, path),
                };
                on(paths.into_iter().find_map(find).unwrap_or(node), &text)
            }
            Error::Config(source) => match source.downcast::<Insane>() {
                Ok(insane) => self.about("val", insane.0, place),
                Err(source) if source.is::<Misplaced>() => misplaced(Error::Config(source), self.hooks),
                Err(_) => on(place, &text),
            },
            Error::Other(source) => match source.downcast::<Insane>() {
                Ok(insane) => self.about("val", insane.0, place),
                Err(source) => match source.downcast_ref::<MetricFailed>() {
                    Some(failed) => on(self.metric(mode, failed.index).unwrap_or(place), &text),
                    None => on(place, &text),
                },
            },
            Error::Checkpoint { .. } => on(self.node.get("load_from").unwrap_or(place), &text),
            _ => on(place, &text),
        }
    }

    fn metric(&self, mode: &str, index: usize) -> Option<&Node> {
        let config = self.config;
        let all = if mode == "test" { &config.test_evaluator } else { &config.val_evaluator };
        all.as_ref()?.0.get(index).map(|spec| spec.node())
    }
}

/// The value at a dotted path. A list stands for a `Sequential` with its `layers`.
fn below<'n>(root: &'n Node, path: &str) -> Option<&'n Node> {
    path.split('.').try_fold(root, |node, key| match key.parse::<usize>() {
        Ok(index) => node.items().get(index),
        Err(_) if key == "layers" && !node.items().is_empty() => Some(node),
        Err(_) => node.get(key),
    })
}

/// The last hook in line ends the rehearsal.
struct OneIteration;

impl Hook for OneIteration {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        cx.stop("the rehearsal is over");
        // A few samples need not be of the last class: a model with too few scores would pass unseen.
        let scores = cx.model.eval_step(step.batch)?.scores;
        let classes = cx.info.classes.len();
        match scores.as_ref().map(|scores| scores.shape()) {
            Some([_, k]) if *k < classes => {
                let what = "the training data have";
                Err(format!("the model gives {k} scores, {what} {classes} classes").into())
            }
            _ => Ok(()),
        }
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

    /// The same run over a few samples, which writes nothing.
    fn rehearsal(mut self) -> Result<Self> {
        if let Some(data) = self.train_data.take() {
            self.train_data = Some(few(&data, data.len())?);
        }
        for evaluation in [&mut self.val, &mut self.test].into_iter().flatten() {
            evaluation.data = few(&evaluation.data, 1)?;
        }
        Ok(self.dry())
    }
}

/// As many batches, of the first samples over and over.
fn few(data: &DataLoader, batches: u64) -> Result<DataLoader> {
    let size = data.batch_size().min(SAMPLES);
    let len = usize::try_from(batches).unwrap_or(usize::MAX).saturating_mul(size);
    let set = Few { first: data.dataset().len().min(size), set: Arc::clone(data.dataset()), len };
    data.over(Arc::new(set), size)
}

struct Few {
    set: Arc<dyn Dataset>,
    first: usize,
    len: usize,
}

impl Dataset for Few {
    fn len(&self) -> usize {
        self.len
    }
    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.set.get(index % self.first.max(1), rng)
    }
    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        self.set.get_through(index % self.first.max(1), rng, pipeline)
    }
    fn classes(&self) -> Option<&[String]> {
        self.set.classes()
    }
}
