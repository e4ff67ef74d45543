//! Configs of MMCV 1.x (MMClassification 0.x): translated as they are read. Values keep the places at which they are
//! written, so that a mistake in one is told there.

mod data;
mod hooks;
mod parts;
mod pipeline;
mod schedule;
mod warmup;

use parts::{Taken, list, map};

use super::source::Origin;
use super::{Diag, Diags, Key, Kind, Node, merge};

/// Keys of MMCV 1.x that have another form today.
const OLD: [&str; 9] = [
    "lr_config",
    "optimizer_config",
    "checkpoint_config",
    "log_config",
    "momentum_config",
    "total_epochs",
    "optimizer",
    "data",
    "runner",
];
/// Those of them that are names of ordinary variables too.
const ORDINARY: [&str; 3] = ["optimizer", "data", "runner"];
/// Keys of today, of which such a config has none.
const TODAY: [&str; 4] = ["optim_wrapper", "train_dataloader", "val_dataloader", "train_cfg"];

/// The config in today's form, and a word about it if that is another one.
///
/// # Errors
/// What cannot be said today, with its place.
pub(super) fn modern(node: Node) -> Result<(Node, Option<Diag>), Diags> {
    let given = |key: &str| node.get(key).is_some_and(|value| !value.is_null());
    let written =
        |key: &&str| node.entry(key).is_some_and(|(key, _)| key.def.source().origin != Origin::Override);
    let old: Vec<_> = OLD.into_iter().filter(|key| given(key)).collect();
    let is_old = old.len() > 1 || old.iter().any(|key| !ORDINARY.contains(key));
    if TODAY.iter().any(written) || !is_old {
        return Ok(with_augments(node));
    }
    let mut reading = Reading { taken: Taken::of(&node), made: Vec::new(), wrong: Diags::default() };
    reading.run();
    let Reading { taken, made, wrong } = reading;
    if wrong.has_errors() {
        return Err(wrong);
    }
    let note = note(&node, &old, &made);
    // What a person adds in today's form wins.
    let (today, rest): (Vec<_>, Vec<_>) =
        taken.rest.into_iter().partition(|(key, _)| made.iter().any(|(own, _)| own == key));
    let translated = node.with_kind(Kind::Map(rest.into_iter().chain(made).collect()));
    let node = merge::merge(&translated, node.with_kind(Kind::Map(today)))?;
    Ok((node, Some(note)))
}

/// A config of today, whose model may have batch augments under their old names, `BatchCutMix`; those are translated too.
fn with_augments(node: Node) -> (Node, Option<Diag>) {
    let old = |model: &Node| {
        let augments = model.get("train_cfg")?.get("augments")?;
        let all = if augments.items().is_empty() { std::slice::from_ref(augments) } else { augments.items() };
        let is_old = |augment: &&Node| {
            augment.get("type").and_then(Node::as_str).is_some_and(|name| name.starts_with("Batch"))
        };
        all.iter().find(is_old).cloned()
    };
    let Some(first) = node.get("model").and_then(old) else { return (node, None) };
    let mut note =
        Diag::warning("batch augments of MMClassification 0.x are read in today's form").on(&first);
    let replaced = |(key, value): &(Key, Node)| {
        let value = if key.text == "model" { pipeline::augments(value.clone()) } else { value.clone() };
        (key.clone(), value)
    };
    let entries: Vec<_> = node.entries().iter().map(replaced).collect();
    let node = node.with_kind(Kind::Map(entries));
    if let Some(cfg) = node.get("model").and_then(|model| model.get("train_cfg")) {
        note = note.note(format!("train_cfg: {}", cfg.flow()));
    }
    (node, Some(note))
}

/// What was read as what.
fn note(node: &Node, old: &[&str], made: &[(Key, Node)]) -> Diag {
    let mut diag = Diag::warning(
        "a config of MMCV 1.x (MMClassification 0.x) is read in today's form; `shanty config` writes it whole",
    );
    if let Some((key, _)) = old.first().and_then(|key| node.entry(key)) {
        diag = diag.on_key(key);
    }
    for (key, value) in made.iter().filter(|(key, _)| !key.text.ends_with("_dataloader")) {
        diag = diag.note(format!("{}: {}", key.text, value.flow()));
    }
    diag
}

/// Half precision as `fp16` and the optimizer's hooks for it have it, with MMCV's scale where they name none.
fn half_precision(key: &Key, given: &mut Taken) -> Vec<(Key, Node)> {
    // How gradients go from process to process is not asked.
    given.take_all(&["coalesce", "bucket_size_mb"]);
    let scale = given.take("loss_scale").map(|(_, scale)| scale).filter(|scale| !scale.is_null());
    let scale = scale.unwrap_or_else(|| Node::new(Kind::Float(512.0), key.def.clone()));
    vec![
        (Key::like_key(key, "type"), Node::at_key(key, "AmpOptimWrapper")),
        (Key::like_key(key, "dtype"), Node::at_key(key, "float16")),
        (Key::like_key(key, "loss_scale"), scale),
    ]
}

/// A config on its way from one form to the other.
struct Reading {
    /// What is left of the old one.
    taken: Taken,
    /// Entries of the new one.
    made: Vec<(Key, Node)>,
    wrong: Diags,
}

impl Reading {
    fn run(&mut self) {
        self.mappings();
        if self.wrong.has_errors() {
            return;
        }
        // `EpochBasedRunner` counts epochs, and so do its schedules and hooks unless they say otherwise.
        let by_epoch = !self
            .taken
            .peek("runner")
            .and_then(|r| r.get("type"))
            .is_some_and(|name| name.as_str().is_some_and(|name| name.starts_with("IterBased")));
        let total = self.total(by_epoch);
        self.optimizer();
        let schedules = match schedule::translated(&mut self.taken, by_epoch, total) {
            Ok(schedules) => schedules,
            Err(wrong) => return self.wrong.extend(wrong.0),
        };
        if let Some((key, schedules)) = schedules {
            self.add("param_scheduler", &key, list(&key, schedules));
        }
        let evaluation = self.taken.take("evaluation");
        self.loops(by_epoch, evaluation.as_ref());
        data::translated(self, evaluation.as_ref(), by_epoch);
        self.hooks(by_epoch, evaluation.as_ref());
        self.averages();
        self.rest();
    }

    /// What is taken apart must have parts.
    fn mappings(&mut self) {
        let known = OLD.iter().copied().chain(["evaluation", "fp16"]).filter(|key| *key != "total_epochs");
        for key in known {
            let Some(value) = self.taken.peek(key) else { continue };
            if !matches!(*value.kind, Kind::Map(_) | Kind::Null) {
                let text = format!("`{key}` is a mapping, and this is {}", value.kind.name());
                self.wrong.extend([Diag::error(text).on(value)]);
            }
        }
    }

    /// Adds an entry of today's form, whose key stands where the old one does.
    fn add(&mut self, name: &str, like: &Key, value: Node) {
        self.made.push((Key { text: name.to_owned(), ..like.clone() }, value));
    }

    fn refuse(&mut self, diag: Diag) {
        self.wrong.extend([diag]);
    }

    /// Length of the run in the unit of its loop, where the config says it.
    fn total(&self, by_epoch: bool) -> Option<u64> {
        let runner = self.taken.peek("runner");
        let own = runner.and_then(|runner| runner.get(if by_epoch { "max_epochs" } else { "max_iters" }));
        own.or(self.taken.peek("total_epochs")).and_then(Node::as_u64)
    }

    /// `optimizer` and `optimizer_config` → `optim_wrapper`.
    fn optimizer(&mut self) {
        let config = self.taken.take("optimizer_config");
        let Some((key, optimizer)) = self.taken.take("optimizer") else { return };
        let mut optimizer = Taken::of(&optimizer);
        let mut wrapper = optimizer.take_all(&["paramwise_cfg", "constructor"]);
        let mut half = Vec::new();
        if let Some((_, config)) = config.filter(|(_, config)| !config.is_null()) {
            let mut config = Taken::of(&config);
            let kind = config.take("type");
            wrapper.extend(
                config.renamed(&[("grad_clip", "clip_grad"), ("cumulative_iters", "accumulative_counts")]),
            );
            match kind.as_ref().and_then(|(key, kind)| Some((key, kind, kind.as_str()?))) {
                None | Some((.., "OptimizerHook" | "GradientCumulativeOptimizerHook")) => {}
                Some((key, _, "Fp16OptimizerHook" | "GradientCumulativeFp16OptimizerHook")) => {
                    half = half_precision(key, &mut config);
                }
                Some((_, at, name)) => {
                    let message = format!("`{name}` is a hook of MMCV 1.x that has no form of today");
                    self.refuse(Diag::error(message).on(at).note("`optim_wrapper` steps the optimizer now"));
                }
            }
            config.take("detect_anomalous_params");
            wrapper.extend(config.rest);
        }
        if let Some((key, fp16)) = self.taken.take("fp16").filter(|(_, fp16)| !fp16.is_null()) {
            let mut fp16 = Taken::of(&fp16);
            half = half_precision(&key, &mut fp16);
            wrapper.append(&mut fp16.rest);
        }
        wrapper.splice(0..0, half);
        wrapper.push((Key::like_key(&key, "optimizer"), optimizer.whole()));
        self.add("optim_wrapper", &key, map(&key, wrapper));
    }

    /// `runner`, `total_epochs` and the intervals of `evaluation` → `train_cfg`.
    fn loops(&mut self, by_epoch: bool, evaluation: Option<&(Key, Node)>) {
        let runner = self.taken.take("runner").filter(|(_, runner)| !runner.is_null());
        let epochs = self.taken.take("total_epochs");
        let Some((key, _)) = runner.as_ref().or(epochs.as_ref()) else { return self.without_length() };
        let (key, mut runner) =
            (key.clone(), runner.map_or_else(Taken::default, |(_, runner)| Taken::of(&runner)));
        let mut cfg =
            vec![(Key::like_key(&key, "by_epoch"), Node::new(Kind::Bool(by_epoch), key.at.clone()))];
        let known = ["EpochBasedRunner", "IterBasedRunner"];
        if let Some((_, kind)) =
            runner.take("type").filter(|(_, k)| k.as_str().is_none_or(|k| !known.contains(&k)))
        {
            let message = format!("the runner {} has no form of today", kind.summary());
            self.refuse(Diag::error(message).on(&kind).note(format!("there are {}", known.join(" and "))));
        }
        // MMCV asserts that both are equal.
        if let (Some((at, total)), Some(own)) = (&epochs, runner.peek("max_epochs"))
            && !total.is_null()
            && !own.is_null()
            && total.as_u64() != own.as_u64()
        {
            let (total, own) = (total.summary(), own.summary());
            let message = format!("`total_epochs` is {total} and `max_epochs` of `runner` is {own}");
            self.refuse(Diag::error(message).on_key(at).note("leave `total_epochs` out: `runner` is enough"));
        }
        let has_length = runner.peek("max_epochs").or(runner.peek("max_iters")).is_some();
        if let Some((key, epochs)) = epochs.filter(|_| !has_length) {
            cfg.push((Key::like_key(&key, "max_epochs"), epochs));
        }
        cfg.append(&mut runner.rest);
        if let Some((_, evaluation)) = evaluation {
            let mut evaluation = Taken::of(evaluation);
            cfg.extend(evaluation.renamed(&[("interval", "val_interval"), ("start", "val_begin")]));
        }
        self.add("train_cfg", &key, map(&key, cfg));
    }

    /// Who trains says how long; the word for that is the old config's own.
    fn without_length(&mut self) {
        let data = self.taken.peek("data").and_then(|data| data.get("train"));
        let trains = data.is_some_and(|set| !set.is_null()) && self.taken.peek("train_cfg").is_none();
        let stepped = self.made.iter().find(|(key, _)| key.text == "optim_wrapper");
        let Some((key, _)) = stepped.filter(|_| trains) else { return };
        let message = "`runner` is missing, as `runner: {type: EpochBasedRunner, max_epochs: 100}`";
        let diag = Diag::error(message).on_key(key);
        self.refuse(diag);
    }

    /// What is small: `workflow`, `resume_from`, `seed`, `dist_params`.
    fn rest(&mut self) {
        if let Some((key, workflow)) = self.taken.take("workflow") {
            let train = |step: &Node| step.items().first().and_then(Node::as_str) == Some("train");
            if !workflow.items().iter().all(train) {
                let diag = Diag::error("a `workflow` that validates has no form of today").on_key(&key);
                self.refuse(diag.note("`train_cfg.val_interval` says when to validate"));
            }
        }
        if let Some((key, from)) = self.taken.take("resume_from").filter(|(_, from)| !from.is_null()) {
            self.taken.take("load_from");
            self.add("resume", &key, Node::new(Kind::Bool(true), from.at.clone()));
            self.add("load_from", &key, from);
        }
        if let Some((key, auto)) = self.taken.take("auto_resume") {
            self.add("resume", &key, auto);
        }
        if let Some((key, seed)) = self.taken.take("seed").filter(|(_, seed)| !seed.is_null()) {
            let mut randomness = vec![(Key::like_key(&key, "seed"), seed)];
            randomness.extend(self.taken.take_all(&["deterministic"]));
            self.add("randomness", &key, map(&key, randomness));
        }
        if let Some((key, dist)) = self.taken.take("dist_params") {
            self.add("env_cfg", &key, map(&key, [(Key::like_key(&key, "dist_cfg"), dist)]));
        }
    }
}
