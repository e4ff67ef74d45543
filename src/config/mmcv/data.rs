//! `data` and `evaluation` → loaders and evaluators.

use super::parts::{Taken, list, map, text, typed};
use super::{Reading, pipeline};
use crate::config::{Diag, Key, Kind, Node};

/// The keys of a loader: MMCV's name, and today's.
const LOADER: [(&str, &str); 6] = [
    ("samples_per_gpu", "batch_size"),
    ("workers_per_gpu", "num_workers"),
    ("persistent_workers", "persistent_workers"),
    ("pin_memory", "pin_memory"),
    ("prefetch_factor", "prefetch_factor"),
    ("drop_last", "drop_last"),
];

/// Metrics of `SingleLabelMetric` and `MultiLabelMetric`, as `evaluation` calls them.
const SINGLE: [&str; 4] = ["precision", "recall", "f1_score", "support"];
const MULTI: [&str; 6] = ["CP", "CR", "CF1", "OP", "OR", "OF1"];

/// `data` → `train_dataloader`, `val_dataloader`, `test_dataloader` and what belongs to them.
pub(super) fn translated(reading: &mut Reading, evaluation: Option<&(Key, Node)>, by_epoch: bool) {
    if let Some((key, model)) = reading.taken.take("model") {
        reading.taken.rest.insert(0, (key, pipeline::augments(model)));
    }
    let (evaluator, wrong) = metrics(evaluation, by_epoch);
    wrong.into_iter().for_each(|diag| reading.refuse(diag));
    let Some((at, data)) = reading.taken.take("data").filter(|(_, data)| !data.is_null()) else { return };
    let mut data = Taken::of(&data);
    let common = data.renamed(&LOADER);
    for mode in ["train", "val", "test"] {
        let own = data.take(&format!("{mode}_dataloader")).map(|(_, own)| Taken::of(&own));
        let Some((key, dataset)) = data.take(mode).filter(|(_, set)| !set.is_null()) else { continue };
        let mut own = own.unwrap_or_default();
        let mut loader = own.renamed(&LOADER);
        let shuffle =
            own.take("shuffle").map_or(Kind::Bool(mode == "train"), |(_, shuffle)| (*shuffle.kind).clone());
        loader.append(&mut own.rest);
        for (name, value) in &common {
            if loader.iter().all(|(own, _)| own.text != name.text) {
                loader.push((name.clone(), value.clone()));
            }
        }
        loader.push((Key::like_key(&key, "dataset"), pipeline::dataset(dataset)));
        let sampler = typed(&Node::at_key(&key, ""), "DefaultSampler", vec![("shuffle", shuffle)]);
        loader.push((Key::like_key(&key, "sampler"), sampler));
        reading.add(&format!("{mode}_dataloader"), &key, map(&key, loader));
        if mode != "train" {
            reading.add(&format!("{mode}_cfg"), &key, map(&key, []));
            let place = evaluation.map_or(&key, |(key, _)| key);
            let evaluator = list(place, evaluator.clone().unwrap_or_else(|| vec![accuracy(&key, None)]));
            reading.add(&format!("{mode}_evaluator"), place, evaluator);
        }
    }
    for (key, _) in data.rest {
        let text = format!("unknown key `{}` in `data` of MMCV 1.x", key.text);
        reading.refuse(Diag::error(text).on_key(&key).label(format!("in `{}`", at.text)));
    }
}

fn accuracy(key: &Key, topk: Option<(Key, Node)>) -> Node {
    let place = Node::at_key(key, "");
    let usual = Kind::Seq(vec![place.with_kind(Kind::Int(1)), place.with_kind(Kind::Int(5))]);
    let topk = topk.unwrap_or_else(|| (Key::like_key(key, "topk"), place.with_kind(usual)));
    map(key, [(Key::like_key(key, "type"), Node::at_key(key, "Accuracy")), topk])
}

/// The evaluators that `evaluation` asks for; none if it names no metric.
fn metrics(evaluation: Option<&(Key, Node)>, by_epoch: bool) -> (Option<Vec<Node>>, Vec<Diag>) {
    let Some((at, evaluation)) = evaluation else { return (None, Vec::new()) };
    let mut wrong = Vec::new();
    let mut keys = Taken::of(evaluation);
    keys.take_all(&["interval", "start", "save_best", "rule", "gpu_collect", "out_dir"]);
    if let Some((key, _)) = keys.take("by_epoch").filter(|(_, own)| own.as_bool() != Some(by_epoch)) {
        let text = "a validation is counted as the loop counts: `by_epoch` of `evaluation` must be that of the runner";
        wrong.push(Diag::error(text).on_key(&key));
    }
    let mut options = keys.take("metric_options").map(|(_, options)| Taken::of(&options)).unwrap_or_default();
    let named = keys.take("metric").map(|(_, metric)| metric);
    for (key, _) in keys.rest {
        let text = format!("unknown key `{}` in `evaluation` of MMCV 1.x", key.text);
        wrong.push(Diag::error(text).on_key(&key));
    }
    let Some(named) = named else { return (None, wrong) };
    let names = if named.items().is_empty() { vec![named.clone()] } else { named.items().to_vec() };
    let is = |node: &Node, known: &[&str]| node.as_str().is_some_and(|name| known.contains(&name));
    let mut made = Vec::new();
    let average = options.take("average_mode");
    if names.iter().any(|name| is(name, &["accuracy"])) {
        made.push(accuracy(at, options.take("topk")));
    }
    for (kind, known) in [("SingleLabelMetric", &SINGLE[..]), ("MultiLabelMetric", &MULTI[..])] {
        let own: Vec<_> = names.iter().filter(|name| is(name, known)).collect();
        let Some(first) = own.first() else { continue };
        let mut metric = vec![(Key::like(first, "type"), text(first, kind))];
        if kind == "SingleLabelMetric" {
            let item = |name: &&Node| text(name, &name.as_str().unwrap_or_default().replace('_', "-"));
            metric.push((
                Key::like(first, "items"),
                list(&Key::like(first, ""), own.iter().map(item).collect()),
            ));
        }
        metric.extend(average.clone().map(|(key, mode)| (Key::like_key(&key, "average"), mode)));
        made.push(Node::new(Kind::Map(metric), first.def.clone()));
    }
    if let Some(name) = names.iter().find(|name| is(name, &["mAP"])) {
        made.push(typed(name, "AveragePrecision", Vec::new()));
    }
    let all = [&SINGLE[..], &MULTI[..], &["accuracy", "mAP"]].concat();
    for name in names.iter().filter(|name| !is(name, &all)) {
        let text = format!("the metric {} of `evaluation` has no form of today", name.summary());
        wrong.push(Diag::error(text).on(name).note(format!("there are {}", all.join(", "))));
    }
    (Some(made), wrong)
}
