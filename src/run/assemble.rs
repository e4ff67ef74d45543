//! From a config to a runner: the same builder that a program uses.

use std::path::Path;
use std::sync::Arc;

use super::{Evaluation, Limits, RunConfig, Runner, RunnerBuilder};
use crate::base::Result;
use crate::config::{Diag, Diags, Kind, Node, OneOrMany};
use crate::data::{DataLoaderConfig, Shard};
use crate::hook::{Clock, HookOptions};
use crate::metric::{Evaluator, Metric};
use crate::optim::Schedule;
use crate::registry::{BuildCx, Spec};

/// The slots that every run has unless its config says otherwise.
const DEFAULT_HOOKS: &str = "\
runtime_info: {type: RuntimeInfoHook}
timer: {type: IterTimerHook}
sampler_seed: {type: DistSamplerSeedHook}
logger: {type: LoggerHook}
param_scheduler: {type: ParamSchedulerHook}
checkpoint: {type: CheckpointHook}
";

/// The config with the top-level `data_preprocessor` put into the model, as the reference does.
pub(super) fn with_preprocessor(node: &Node) -> Node {
    let Some((key, preprocessor)) = node.entry("data_preprocessor").map(|(k, n)| (k.clone(), n.clone()))
    else {
        return node.clone();
    };
    let mut top: Vec<_> = node.entries().iter().filter(|(k, _)| k.text != key.text).cloned().collect();
    if let Some((_, model)) = top.iter_mut().find(|(k, _)| k.text == "model")
        && model.get(&key.text).is_none()
        && !preprocessor.is_null()
    {
        let mut entries = model.entries().to_vec();
        entries.push((key, preprocessor));
        model.kind = Arc::new(Kind::Map(entries));
    }
    Node { kind: Arc::new(Kind::Map(top)), ..node.clone() }
}

/// Builds everything that a config describes.
pub(super) fn from_config(node: &Node, name: Option<&str>, limits: Limits) -> Result<Runner> {
    builder(node, name, false)?.limits(limits).build()
}

/// The parts of the run that a config describes; for a dry run, shells of them.
pub(super) fn builder(node: &Node, name: Option<&str>, dry_run: bool) -> Result<RunnerBuilder> {
    let config = RunConfig::read(node)?;
    let odd = config.warnings(node).0.into_iter().map(|diag| diag.render(false));
    let stem = name.map(|n| Path::new(n).file_stem().unwrap_or_default().to_string_lossy().into_owned());
    let work_dir =
        config.work_dir.clone().unwrap_or_else(|| format!("work_dirs/{}", stem.as_deref().unwrap_or("run")));
    let mut builder = RunnerBuilder::default();
    let saved = || super::resume::saved_seed(Path::new(&work_dir), config.load_from.as_deref());
    builder.set_seed(config.randomness.seed.or_else(|| config.resume.then(saved).flatten()));
    let seed = builder.seed();
    let mut cx = BuildCx::new(seed);
    cx.provide(config.log_processor.clone());

    if let Some(train) = &config.train_dataloader {
        builder = builder.train_data(train.build(seed, Shard::default(), &mut cx)?);
        if let Some(train_cfg) = &config.train_cfg {
            builder = builder.boxed_loop(train_cfg.build(&mut cx)?);
        }
    }
    if let Some(evaluation) = evaluation(&config.val_dataloader, &config.val_evaluator, seed, &mut cx)? {
        builder = builder.evaluate(evaluation);
    }
    if let Some(evaluation) = evaluation(&config.test_dataloader, &config.test_evaluator, seed, &mut cx)? {
        builder = builder.test(evaluation);
    }
    builder = builder.boxed_model(config.model.build(&mut cx)?);
    if let Some(optim) = &config.optim_wrapper {
        let mut optim = optim.build(&mut cx)?;
        if let (Some(scale), Some(train)) = (&config.auto_scale_lr, &config.train_dataloader)
            && scale.enable
        {
            optim.scale_lr(train.batch_size as f64 / scale.base_batch_size as f64);
        }
        let (totals, epoch_len, by_epoch) = builder.totals();
        for spec in config.param_scheduler.iter().flat_map(|s| &s.0) {
            let curve = spec.build(&mut cx)?;
            let schedule =
                Schedule::from_options(curve, &spec.extra, by_epoch, (totals.0, totals.1, epoch_len))
                    .map_err(|text| Diags::from(Diag::error(text).on(spec.node())))?;
            optim = optim.schedule(schedule);
        }
        builder = builder.optim(optim);
    }
    let ((max_epochs, max_iters), epoch_len, by_epoch) = builder.totals();
    cx.provide(Clock { max_epochs, max_iters, epoch_len, by_epoch, ..Clock::default() });
    for spec in hooks(&config)? {
        builder = builder.boxed_hook(spec.build(&mut cx)?, spec.name(), spec.extra.clone());
    }
    if let Some(interval) = config.digest_interval {
        builder = builder.hook(crate::hook::builtin::DigestHook::every(interval));
    }
    let experiment = config.experiment_name.clone().or(stem);
    builder = builder
        .without_default_hooks()
        .work_dir(work_dir)
        .config_text(name, node.to_yaml())
        .notes(config.notes().into_iter().chain(odd).collect())
        .log_level(config.log_level)
        .load_from(config.load_from.clone())
        .resume(config.resume)
        .overwrite(config.overwrite)
        .load_options(config.load_options.clone())
        .async_save(config.async_save)
        .exclude_samples(config.exclude_samples.clone())
        .allow_hook_changes(config.allow_hook_changes)
        .allow_data_changes(config.allow_data_changes);
    if let Some(experiment) = experiment {
        builder = builder.experiment_name(experiment);
    }
    if dry_run { builder.hollow() } else { Ok(builder) }
}

fn evaluation(
    data: &Option<DataLoaderConfig>,
    evaluator: &Option<OneOrMany<Spec<dyn Metric>>>,
    seed: u64,
    cx: &mut BuildCx,
) -> Result<Option<Evaluation>> {
    let (Some(data), Some(evaluator)) = (data, evaluator) else { return Ok(None) };
    Ok(Some(Evaluation::new(data.build(seed, Shard::default(), cx)?, Evaluator::build(&evaluator.0, cx)?)))
}

/// Default slots with the config's replacements, then the custom hooks.
fn hooks(config: &RunConfig) -> Result<Vec<Spec<dyn crate::hook::Hook>>> {
    let mut slots = default_slots()?;
    for (name, given) in &config.default_hooks.0 {
        match slots.iter_mut().find(|(n, _)| n == name) {
            Some((_, slot)) => *slot = given.clone(),
            None if given.is_some() => slots.push((name.clone(), given.clone())),
            None => {
                let known: Vec<_> = slots.iter().map(|(n, _)| n.as_str()).collect();
                let text = format!(
                    "there is no default hook slot `{name}` to remove: known are {}",
                    known.join(", ")
                );
                return Err(crate::base::Error::config(text));
            }
        }
    }
    let custom = config.custom_hooks.iter().flatten().cloned();
    Ok(slots.into_iter().filter_map(|(_, spec)| spec).chain(custom).collect())
}

fn default_slots() -> Result<Vec<(String, Option<Spec<dyn crate::hook::Hook>>)>> {
    Ok(crate::config::parse("default hooks", DEFAULT_HOOKS)?.read::<super::HookSlots>()?.0)
}

/// The default hooks, built, for a runner without a config.
pub(super) fn default_hooks(
    cx: &mut BuildCx,
) -> Result<Vec<(Box<dyn crate::hook::Hook>, String, HookOptions)>> {
    let specs = default_slots()?.into_iter().filter_map(|(_, spec)| spec);
    specs.map(|spec| Ok((spec.build(cx)?, spec.name().to_owned(), spec.extra.clone()))).collect()
}
