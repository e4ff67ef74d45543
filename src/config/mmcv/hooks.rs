//! `checkpoint_config`, `log_config` and the `EMAHook` of `custom_hooks`.

use super::Reading;
use super::parts::{Taken, list, map, text, typed};
use crate::base::number::short;
use crate::config::source::Origin;
use crate::config::{Diag, Key, Kind, Node};

/// Loggers of MMCV 1.x that have a backend of MMEngine.
const LOGGERS: [(&str, &str); 8] = [
    ("TensorboardLoggerHook", "TensorboardVisBackend"),
    ("WandbLoggerHook", "WandbVisBackend"),
    ("MMClsWandbHook", "WandbVisBackend"),
    ("MlflowLoggerHook", "MLflowVisBackend"),
    ("ClearMLLoggerHook", "ClearMLVisBackend"),
    ("NeptuneLoggerHook", "NeptuneVisBackend"),
    ("DvcliveLoggerHook", "DVCLiveVisBackend"),
    ("AimLoggerHook", "AimVisBackend"),
];

impl Reading {
    /// `checkpoint_config`, `log_config` and the best checkpoint of `evaluation` → `default_hooks`.
    pub(super) fn hooks(&mut self, by_epoch: bool, evaluation: Option<&(Key, Node)>) {
        let mut slots = Vec::new();
        let checkpoint = self.taken.take("checkpoint_config").filter(|(_, c)| !c.is_null());
        let best = evaluation.map(|(_, e)| Taken::of(e).take_all(&["save_best", "rule"])).unwrap_or_default();
        let best: Vec<_> = best.into_iter().map(|(key, value)| (key, score(value))).collect();
        if let Some((key, config)) = checkpoint {
            let mut config = Taken::of(&config);
            config.take("create_symlink");
            config.take("type");
            let mut hook = vec![(Key::like_key(&key, "type"), Node::at_key(&key, "CheckpointHook"))];
            hook.append(&mut config.rest);
            if !by_epoch && hook.iter().all(|(key, _)| key.text != "by_epoch") {
                hook.push((Key::like_key(&key, "by_epoch"), Node::new(Kind::Bool(false), key.at.clone())));
            }
            hook.extend(best);
            slots.push((Key::like_key(&key, "checkpoint"), map(&key, hook)));
        } else if let Some((key, _)) = best.first() {
            let key = key.clone();
            let kind = (Key::like_key(&key, "type"), Node::at_key(&key, "CheckpointHook"));
            slots.push((Key::like_key(&key, "checkpoint"), map(&key, [kind].into_iter().chain(best))));
        }
        if let Some((key, config)) = self.taken.take("log_config").filter(|(_, c)| !c.is_null()) {
            let mut config = Taken::of(&config);
            let loggers = config.take("hooks");
            let kind = (Key::like_key(&key, "type"), Node::at_key(&key, "LoggerHook"));
            slots.push((Key::like_key(&key, "logger"), map(&key, [kind].into_iter().chain(config.rest))));
            self.loggers(loggers);
        }
        if let Some((key, _)) = slots.first().cloned() {
            self.add("default_hooks", &key, map(&key, slots));
        }
    }

    /// The text of a log is always written, and so are the scalars that other loggers of MMCV draw.
    fn loggers(&mut self, loggers: Option<(Key, Node)>) {
        let Some((key, loggers)) = loggers else { return };
        let mut backends = Vec::new();
        for kind in loggers.items().iter().filter_map(|logger| logger.get("type")) {
            let Some(name) = kind.as_str().filter(|name| *name != "TextLoggerHook") else { continue };
            if let Some((_, backend)) = LOGGERS.iter().find(|(old, _)| *old == name) {
                backends.push(typed(kind, backend, Vec::new()));
            } else {
                let message = format!("the logger `{name}` has no form of today: leave it out");
                let usual = "all that a run logs is in `vis_data/events.jsonl` of the log folder";
                self.refuse(Diag::error(message).on(kind).note(usual));
            }
        }
        if !backends.is_empty() {
            self.add("vis_backends", &key, list(&key, backends));
        }
    }

    /// MMCV's `EMAHook` → that of today, which has no warm-up, and whose momentum is that of one step.
    pub(super) fn averages(&mut self) {
        let mut wrong = Vec::new();
        for (key, hooks) in &mut self.taken.rest {
            if key.text == "custom_hooks" && matches!(*hooks.kind, Kind::Seq(_)) {
                let made = hooks.items().iter().map(|hook| average(hook, &mut wrong)).collect();
                *hooks = hooks.with_kind(Kind::Seq(made));
            }
        }
        wrong.into_iter().for_each(|diag| self.refuse(diag));
    }
}

/// The value after which the best checkpoint is chosen, by its name of today.
fn score(value: Node) -> Node {
    let k = value.as_str().and_then(|name| name.strip_prefix("accuracy_top-"));
    match k.map(|k| format!("accuracy/top{k}")) {
        Some(name) => text(&value, &name),
        None => value,
    }
}

/// A hook as it is, unless it is an `EMAHook` that a config of MMCV wrote.
fn average(hook: &Node, wrong: &mut Vec<Diag>) -> Node {
    let is_average = |name: &str| name.rsplit('.').next() == Some("EMAHook");
    let kind = hook.get("type").filter(|kind| kind.as_str().is_some_and(is_average));
    let Some(kind) = kind.filter(|_| hook.def.source().origin != Origin::Override) else {
        return hook.clone();
    };
    let mut keys = Taken::of(hook);
    if keys.peek("resume_from").is_some_and(Node::is_null) {
        keys.take("resume_from");
    }
    let given = keys.peek("momentum").cloned();
    let momentum = given.as_ref().and_then(Node::as_f64).unwrap_or(0.0002);
    let interval = keys.peek("interval").and_then(Node::as_u64).unwrap_or(1);
    // MMCV takes the power of it, once for each iteration of the interval.
    let power = momentum.powf(interval as f64);
    if interval > 1 && momentum > 0.0 && momentum < 1.0 {
        keys.take("momentum");
        let place = given.as_ref().unwrap_or(kind);
        keys.rest.push((Key::like(place, "momentum"), Node::new(Kind::Float(power), place.def.clone())));
    }
    let warm_up = keys.take("warm_up").map(|(_, warm_up)| warm_up);
    let Some(steps) = warm_up.as_ref().map_or(Some(100.0), Node::as_f64) else {
        let place = warm_up.as_ref().unwrap_or(kind);
        wrong.push(Diag::error("`warm_up` must be a number, as `warm_up: 100`").on(place));
        return keys.whole();
    };
    // MMCV takes the smaller one of it and (1 + t) / (warm_up + t), which is never below 1 / warm_up.
    if steps > 1.0 && power * steps > 1.0 {
        let text = format!(
            "MMCV's EMAHook warms a `momentum` of {} up, as `warm_up` is {}: there is no warm-up here",
            short(power),
            short(steps)
        );
        let diag = Diag::error(text).on(warm_up.as_ref().unwrap_or(kind));
        wrong.push(diag.note("write `warm_up: 1` to do without it, or a smaller `momentum`"));
    }
    keys.whole()
}
