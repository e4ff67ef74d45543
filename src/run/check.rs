//! Whether a config would train: its parts are put together the way a run does it, and the first iteration is rehearsed on a
//! few samples, in memory. What a run refuses before its first iteration is refused here, with its place.

use std::sync::Arc;

use super::assemble::{Assembled, Purpose, assemble, misplaced};
use super::eval::{Insane, REHEARSED};
use super::unreadable::NotGiven;
use super::{RunConfig, Runner, RunnerBuilder, places};
use crate::base::{Error, Result};
use crate::config::{Diag, Diags, Node};
use crate::data::{Dataset, SampleError};
use crate::hook::{Ctx, Hook, HookConfig, HookResult, Misplaced, Priority, Step};
use crate::metric::MetricFailed;
use crate::registry::blamed;

/// Bytes of weights above which a model is put together, but not rehearsed.
const LARGE: u64 = 1 << 29;

/// All that would keep a config from its first iteration, or is odd about it; nothing is written or trained.
///
/// Data sets are opened if they are there, and their first batches are read as a run would read them. A data set that is not on
/// this machine is a warning: another one may have it, and then the rest of the run is not rehearsed.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn check(node: &Node, name: Option<&str>) -> Result<Diags> {
    let Assembled { builder, config, odd, hooks, weight_bytes } = assemble(node, name, Purpose::Look)?;
    let mut found = odd;
    found.extend(places::unmakeable(&builder, node, &hooks));
    if !config.resume {
        found.extend(places::in_the_way(&builder, node, &hooks)?);
    }
    if builder.has_all_of(&config) && weight_bytes <= LARGE {
        let stage = Stage { config: &config, node, hooks: &hooks, sets: builder.sets() };
        stage.rehearse(builder, &mut found);
    }
    if found.has_errors() { Err(found.into()) } else { Ok(found) }
}

/// What the errors of a rehearsal may be about.
struct Stage<'a> {
    config: &'a RunConfig,
    node: &'a Node,
    hooks: &'a [(Arc<str>, Node)],
    /// The data sets, by their loaders.
    sets: Vec<(&'static str, Arc<dyn Dataset>)>,
}

impl Stage<'_> {
    fn rehearse(&self, builder: RunnerBuilder, found: &mut Diags) {
        let options = HookConfig { priority: Some(Priority::LOWEST), ..HookConfig::default() };
        let builder = builder.rehearsal().boxed_hook(Box::new(OneIteration), "the check", options);
        let mut runner = match builder.build() {
            Ok(runner) => runner,
            Err(error) => return found.extend(self.about("train", error, self.node)),
        };
        type Run = fn(&mut Runner) -> Result<()>;
        let runs: [(&str, bool, Run); 3] = [
            ("val", self.config.val_dataloader.is_some(), |runner| runner.val().map(drop)),
            ("test", self.config.test_dataloader.is_some(), |runner| runner.test().map(drop)),
            ("train", self.config.train_dataloader.is_some(), |runner| runner.train().map(drop)),
        ];
        for (mode, _, run) in runs.into_iter().filter(|(_, given, _)| *given) {
            let Err(error) = run(&mut runner) else { continue };
            if !runner.is_prepared() {
                // Without weights there is nothing to go on with.
                let given = ["load_from", "resume"].iter().find_map(|key| self.node.get(key));
                let given = given.filter(|_| self.config.resume || self.config.load_from.is_some());
                return found.extend(self.about(mode, error, given.unwrap_or(self.config.model.node())));
            }
            found.extend(self.about(mode, error, self.dataset(mode)));
            if mode == "val" {
                // The training would meet it again, and come no further.
                runner.drop_validation();
            }
        }
    }

    /// Where the data of a loader are described.
    fn dataset(&self, mode: &str) -> &Node {
        let loader = match mode {
            "val" => &self.config.val_dataloader,
            "test" => &self.config.test_dataloader,
            _ => &self.config.train_dataloader,
        };
        loader.as_ref().map_or(self.node, |loader| loader.dataset.node())
    }

    /// The complaints at the parts that they are about; at `place` where nobody else is to blame.
    fn about(&self, mode: &str, error: Error, place: &Node) -> Vec<Diag> {
        let text = error.to_string();
        let on = |node: &Node, text: &str| vec![Diag::error(text).on(blamed(node, text))];
        match error {
            Error::Run { source, .. } if source.is::<MetricFailed>() => {
                let metric =
                    source.downcast_ref().and_then(|failed: &MetricFailed| self.metric(mode, failed.index));
                on(metric.unwrap_or(place), &source.to_string())
            }
            Error::Run { source, point, .. } if source.is::<NotGiven>() => {
                let mode = point.strip_suffix("_dataloader").unwrap_or(mode);
                let sample = source.downcast_ref().and_then(|why: &NotGiven| SampleError::of(&why.source));
                on(self.refused_at(mode, sample), &source.to_string())
            }
            Error::Run { who, source, .. } => {
                let hook = self.hooks.iter().find(|(key, _)| who == format!("hook `{key}`"));
                let node = hook.map_or(self.config.model.node(), |(_, node)| node);
                let text = format!("{who}: {source}");
                // A hook may complain about a key elsewhere, by its whole path.
                let paths = text.split('`').skip(1).step_by(2);
                let find = |path: &str| match hook {
                    Some(_) => below(node, path).or(below(self.node, path)).filter(|_| path.contains('.')),
                    // A module inside of one that the config names is shown there.
                    None => std::iter::successors(Some(path), |path| Some(path.rsplit_once('.')?.0))
                        .find_map(|path| below(node, path)),
                };
                on(paths.into_iter().find_map(find).unwrap_or(node), &text)
            }
            Error::Config(source) => match source.downcast::<Insane>() {
                Ok(insane) => self.about("val", insane.0, self.dataset("val")),
                Err(source) if source.is::<Misplaced>() => vec![misplaced(Error::Config(source), self.hooks)],
                Err(source) => match source.downcast::<Diags>() {
                    Ok(diags) => diags.0,
                    Err(_) => on(place, &text),
                },
            },
            Error::Other(source) => match source.downcast::<Insane>() {
                Ok(insane) => self.about("val", insane.0, self.dataset("val")),
                Err(source) => match source.downcast_ref::<MetricFailed>() {
                    Some(failed) => on(self.metric(mode, failed.index).unwrap_or(place), &text),
                    None => match SampleError::of(&Error::Other(source)) {
                        Some(sample) => on(self.refused_at(mode, Some(sample)), &text),
                        None => on(place, &text),
                    },
                },
            },
            _ => on(place, &text),
        }
    }

    /// The transform that refused a sample; where it was none, the data set that holds the sample.
    fn refused_at(&self, mode: &str, sample: Option<&SampleError>) -> &Node {
        let whole = self.dataset(mode);
        let Some(sample) = sample else { return whole };
        let set = self.sets.iter().find(|(of, _)| *of == mode);
        let mut part = set.map_or(0, |(_, set)| set.part_of(sample.index));
        let leaf = leaf(whole, &mut part).unwrap_or(whole);
        let mut place = leaf;
        for (depth, index) in sample.transform().into_iter().enumerate() {
            let key = if depth == 0 { "pipeline" } else { "transforms" };
            match place.get(key).and_then(|list| list.items().get(index)) {
                Some(transform) => place = transform,
                None => break,
            }
        }
        place
    }

    fn metric(&self, mode: &str, index: usize) -> Option<&Node> {
        let config = self.config;
        let all = if mode == "test" { &config.test_evaluator } else { &config.val_evaluator };
        all.as_ref()?.0.get(index).map(|spec| spec.node())
    }
}

/// The value at a dotted path of modules. The children of a `Sequential` are the items of its `layers`.
fn below<'n>(root: &'n Node, path: &str) -> Option<&'n Node> {
    path.split('.').try_fold(root, |node, key| match key.parse::<usize>() {
        Ok(index) => node.get("layers").unwrap_or(node).items().get(index),
        Err(_) => node.get(key),
    })
}

/// The data set, of those that others are made of, that holds the samples of a part.
fn leaf<'n>(node: &'n Node, part: &mut usize) -> Option<&'n Node> {
    let joined = node.get("datasets").map_or(&[][..], Node::items);
    if let Some(inner) = node.get("dataset") {
        return leaf(inner, part);
    }
    if !joined.is_empty() {
        return joined.iter().find_map(|inner| leaf(inner, part));
    }
    let own = *part == 0;
    *part = part.saturating_sub(1);
    own.then_some(node)
}

/// The last hook ends the rehearsal.
struct OneIteration;

impl Hook for OneIteration {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _: &mut Step<'_>) -> HookResult {
        cx.stop("the rehearsal is over");
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

    /// The same run over a few samples of each batch, which writes nothing.
    fn rehearsal(mut self) -> Self {
        self.train_data = self.train_data.map(|data| data.rehearsal(None));
        for evaluation in [&mut self.val, &mut self.test].into_iter().flatten() {
            evaluation.data = evaluation.data.rehearsal(Some(REHEARSED as usize));
        }
        self.dry()
    }

    /// The data sets of the run, by their loaders.
    fn sets(&self) -> Vec<(&'static str, Arc<dyn Dataset>)> {
        let evaluated = [("val", &self.val), ("test", &self.test)];
        let evaluated = evaluated.into_iter().filter_map(|(mode, e)| Some((mode, &e.as_ref()?.data)));
        let all = self.train_data.iter().map(|data| ("train", data)).chain(evaluated);
        all.map(|(mode, data)| (mode, Arc::clone(data.dataset()))).collect()
    }
}
