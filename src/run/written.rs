//! Where a config writes the parts of its run, so that what goes wrong in one of them is told with its place: by
//! `check`, by `train` and by whoever else runs the config.

use std::io;
use std::sync::Arc;

use super::assemble::Purpose;
use super::eval::Insane;
use super::slots::misplaced;
use super::unreadable::NotGiven;
use super::{RunConfig, RunnerBuilder};
use crate::base::Error;
use crate::config::{Diag, Diags, Node, OneOrMany};
use crate::data::{DataLoaderConfig, Dataset, SampleError};
use crate::hook::Misplaced;
use crate::metric::{Metric, MetricFailed};
use crate::registry::{Spec, blamed};

/// The parts of a run that errors can be about.
pub(super) struct Written {
    node: Node,
    model: Node,
    /// What the weights start from; the model where they are drawn. None where the command line names a checkpoint.
    start: Option<Node>,
    /// The hooks, by their keys.
    hooks: Vec<(Arc<str>, Node)>,
    /// Whether the config itself says that a run is to be gone on with.
    resumes: bool,
    train: Option<Loader>,
    val: Option<Loader>,
    test: Option<Loader>,
}

/// A loader and what is counted over it.
struct Loader {
    described: Node,
    /// The data set, where it could be opened.
    set: Option<Arc<dyn Dataset>>,
    metrics: Vec<Node>,
}

impl Written {
    pub fn of(
        config: &RunConfig,
        node: &Node,
        builder: &RunnerBuilder,
        hooks: &[(Arc<str>, Node)],
        purpose: Purpose,
    ) -> Self {
        let sets = builder.sets();
        let loader = |mode: &str, loader: &Option<DataLoaderConfig>, metrics: Vec<Node>| {
            let set = sets.iter().find(|(of, _)| *of == mode).map(|(_, set)| Arc::clone(set));
            loader.as_ref().map(|loader| Loader { described: loader.dataset.node().clone(), set, metrics })
        };
        let metrics = |evaluator: &Option<OneOrMany<Spec<dyn Metric>>>| {
            evaluator.iter().flat_map(|all| &all.0).map(|spec| spec.node().clone()).collect()
        };
        let model = config.model.node().clone();
        let given =
            ["load_from", "resume"].iter().filter_map(|key| node.get(key)).find(|node| !node.is_null());
        let given = given.filter(|_| config.resume || config.load_from.is_some());
        Self {
            node: node.clone(),
            resumes: config.resume,
            start: (purpose == Purpose::Run || purpose == Purpose::Look)
                .then(|| given.unwrap_or(&model).clone()),
            model,
            hooks: hooks.to_vec(),
            train: loader("train", &config.train_dataloader, Vec::new()),
            val: loader("val", &config.val_dataloader, metrics(&config.val_evaluator)),
            test: loader("test", &config.test_dataloader, metrics(&config.test_evaluator)),
        }
    }

    /// An error of putting the run together.
    pub fn unbuilt(&self, error: Error) -> Error {
        self.placed("train", error, &self.node)
    }

    /// An error of what the weights start from; `resumes`: of a run to go on with.
    pub fn unstarted(&self, error: Error, resumes: bool) -> Error {
        // What a run left behind is no part of the config, unless the config names what cannot be resumed by its kind.
        let left = resumes && !matches!(error, Error::Config(_));
        let start = self.start.as_ref().filter(|_| !of_the_machine(&error) && (!left || self.resumes));
        let Some(start) = start else { return error };
        let failed = |diag: Diag| Diag { failure: diag.failure || left, ..diag };
        Diags(self.about("train", error, start).into_iter().map(failed).collect()).into()
    }

    /// An error of the first steps of a run.
    pub fn failed(&self, mode: &str, error: Error) -> Error {
        self.placed(mode, error, self.dataset(mode))
    }

    fn placed(&self, mode: &str, error: Error, place: &Node) -> Error {
        if of_the_machine(&error) { error } else { Diags(self.about(mode, error, place)).into() }
    }

    /// Where the data of a loader are described.
    fn dataset(&self, mode: &str) -> &Node {
        self.loader(mode).map_or(&self.node, |loader| &loader.described)
    }

    fn loader(&self, mode: &str) -> Option<&Loader> {
        match mode {
            "val" => self.val.as_ref(),
            "test" => self.test.as_ref(),
            _ => self.train.as_ref(),
        }
    }

    /// The complaints at the parts that they are about; at `place` where nobody else is to blame.
    fn about(&self, mode: &str, error: Error, place: &Node) -> Vec<Diag> {
        let (text, absent) = (error.to_string(), error.is_absence());
        let on = |node: &Node, text: &str| vec![Diag { absent, ..Diag::error(text).on(blamed(node, text)) }];
        match error {
            Error::Run { source, .. } if source.is::<MetricFailed>() => {
                let metric =
                    source.downcast_ref().and_then(|failed: &MetricFailed| self.metric(mode, failed.index));
                on(metric.unwrap_or(place), &source.to_string())
            }
            Error::Run { source, point, .. } if source.is::<NotGiven>() => {
                let mode = point.strip_suffix("_dataloader").unwrap_or(mode);
                let sample = source.downcast_ref().and_then(|why: &NotGiven| SampleError::of(&why.source));
                match sample {
                    // When it was is told too: a failure may be gone the next time.
                    Some(sample) if sample.transform().is_empty() => self.refused(mode, sample, &text),
                    Some(sample) => self.refused(mode, sample, &source.to_string()),
                    None => on(self.dataset(mode), &source.to_string()),
                }
            }
            Error::Run { who, source, .. } => {
                let hook = self.hooks.iter().find(|(key, _)| who == format!("hook `{key}`"));
                let node = hook.map_or(&self.model, |(_, node)| node);
                let text = format!("{who}: {source}");
                // A hook may complain about a key elsewhere, by its whole path.
                let paths = text.split('`').skip(1).step_by(2);
                let find = |path: &str| match hook {
                    Some(_) => below(node, path).or(below(&self.node, path)).filter(|_| path.contains('.')),
                    // A module inside of one that the config names is shown there.
                    None => std::iter::successors(Some(path), |path| Some(path.rsplit_once('.')?.0))
                        .find_map(|path| below(node, path)),
                };
                on(paths.into_iter().find_map(find).unwrap_or(node), &text)
            }
            Error::Config(source) => match source.downcast::<Insane>() {
                Ok(insane) => self.about_insane(*insane),
                Err(source) if source.is::<Misplaced>() => {
                    vec![misplaced(Error::Config(source), &self.hooks)]
                }
                Err(source) => match source.downcast::<Diags>() {
                    Ok(diags) => diags.0,
                    Err(_) => on(place, &text),
                },
            },
            Error::Other(source) => match source.downcast::<Insane>() {
                Ok(insane) => self.about_insane(*insane),
                Err(source) => match source.downcast_ref::<MetricFailed>() {
                    Some(failed) => on(self.metric(mode, failed.index).unwrap_or(place), &text),
                    None => match SampleError::of(&Error::Other(source)) {
                        Some(sample) => self.refused(mode, sample, &text),
                        None => on(place, &text),
                    },
                },
            },
            _ => on(place, &text),
        }
    }

    /// Two batches of the validation are tried before a training.
    fn about_insane(&self, Insane(error): Insane) -> Vec<Diag> {
        let found = self.about("val", error, self.dataset("val"));
        found.into_iter().map(|diag| diag.note(Insane::WHY)).collect()
    }

    /// A sample that cannot be read is a failure, one that a transform refuses a mistake of the config.
    fn refused(&self, mode: &str, sample: &SampleError, text: &str) -> Vec<Diag> {
        let diag = Diag::error(text).on(blamed(self.refused_at(mode, sample), text));
        vec![Diag { failure: sample.transform().is_empty(), ..diag }]
    }

    /// The transform that refused a sample; where it was none, the data set that holds the sample.
    fn refused_at(&self, mode: &str, sample: &SampleError) -> &Node {
        let whole = self.dataset(mode);
        let set = self.loader(mode).and_then(|loader| loader.set.as_ref());
        let mut part = set.map_or(0, |set| set.part_of(sample.index));
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
        self.loader(mode)?.metrics.get(index)
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

/// Whether a disk refused, or the system has no more to give: no config is to blame for that.
fn of_the_machine(error: &Error) -> bool {
    /// EIO, ENOMEM, ENFILE, EMFILE, EFBIG, ENOSPC, EROFS, EDQUOT.
    const REFUSALS: [i32; 8] = [5, 12, 23, 24, 27, 28, 30, 122];
    if matches!(error, Error::Io { .. }) && !error.is_absence() {
        return true;
    }
    let first: &(dyn std::error::Error + 'static) = error;
    let refused = |error: &&(dyn std::error::Error + 'static)| {
        let refused = error.downcast_ref().and_then(io::Error::raw_os_error);
        refused.is_some_and(|code| REFUSALS.contains(&code))
    };
    std::iter::successors(Some(first), |error| error.source()).any(|error| refused(&error))
}
