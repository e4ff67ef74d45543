//! Transforms and batch augments under their names of today.

use super::parts::{Taken, list, text, typed};
use crate::config::{Key, Kind, Node};

/// Keys that have another name today: the transform, its key, the key of today.
const KEYS: [(&str, &str, &str); 5] = [
    ("RandomResizedCrop", "size", "scale"),
    ("EfficientNetRandomCrop", "size", "scale"),
    ("RandomCrop", "size", "crop_size"),
    ("RandomFlip", "flip_prob", "prob"),
    ("RandomGrayscale", "gray_prob", "prob"),
];
/// What made tensors of a sample: `PackInputs` does that now.
const PACKING: [&str; 3] = ["ImageToTensor", "ToTensor", "Collect"];

/// A data set, with its pipeline and the data sets in it.
pub(super) fn dataset(node: Node) -> Node {
    if let Kind::Seq(items) = &*node.kind {
        let sets = items.iter().cloned().map(dataset).collect();
        return typed(&node, "ConcatDataset", vec![("datasets", Kind::Seq(sets))]);
    }
    let entry = |(key, value): &(Key, Node)| {
        let value = match key.text.as_str() {
            "pipeline" => pipeline(value),
            "dataset" => dataset(value.clone()),
            "datasets" => value.with_kind(Kind::Seq(value.items().iter().cloned().map(dataset).collect())),
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    match &*node.kind {
        Kind::Map(entries) => node.with_kind(Kind::Map(entries.iter().map(entry).collect())),
        _ => node,
    }
}

fn pipeline(node: &Node) -> Node {
    let name = |step: &Node| step.get("type").and_then(Node::as_str).unwrap_or_default().to_owned();
    let (packing, steps): (Vec<_>, Vec<_>) =
        node.items().iter().partition(|step| PACKING.contains(&name(step).as_str()));
    let mut made: Vec<_> = steps.into_iter().map(|step| transform(step, &name(step))).collect();
    if let Some(step) = packing.last() {
        made.push(typed(step, "PackInputs", Vec::new()));
    }
    node.with_kind(Kind::Seq(made))
}

fn transform(step: &Node, name: &str) -> Node {
    let mut keys = Taken::of(step);
    let style = keys.take("efficientnet_style").and_then(|(_, value)| value.as_bool()).unwrap_or(false);
    let today = match (name, style) {
        ("RandomResizedCrop", true) => "EfficientNetRandomCrop",
        ("CenterCrop", true) => "EfficientNetCenterCrop",
        ("Resize", _) => return resize(keys),
        _ => name,
    };
    for (_, old, new) in KEYS.iter().filter(|(kind, ..)| *kind == today) {
        let renamed = keys.renamed(&[(*old, *new)]);
        keys.rest.extend(renamed);
    }
    keys.retyped(today)
}

/// `size: [256, -1]` is the short edge; a pair was height and width, and is width and height now.
fn resize(mut keys: Taken) -> Node {
    let Some((key, size)) = keys.take("size") else { return keys.whole() };
    let scale = Key::like_key(&key, "scale");
    match size.items() {
        [edge, other] if other.as_f64() == Some(-1.0) => {
            keys.rest.push((scale, edge.clone()));
            keys.rest.push((Key::like_key(&key, "edge"), text(&size, "short")));
            return keys.retyped("ResizeEdge");
        }
        [height, width] => keys.rest.push((scale, list(&key, vec![width.clone(), height.clone()]))),
        _ => keys.rest.push((scale, list(&key, vec![size.clone(), size]))),
    }
    keys.whole()
}

/// `train_cfg.augments` of a model: `BatchMixup` is `Mixup`, knows the classes from the head, and has its part in
/// `probs`.
pub(super) fn augments(model: Node) -> Node {
    let Some(augments) = model.get("train_cfg").and_then(|cfg| cfg.get("augments")).filter(|a| !a.is_null())
    else {
        return model;
    };
    let all = if augments.items().is_empty() { std::slice::from_ref(augments) } else { augments.items() };
    let (mut made, mut probs) = (Vec::new(), Vec::new());
    for augment in all {
        let mut keys = Taken::of(augment);
        keys.take("num_classes");
        let prob = keys.take("prob").map(|(_, prob)| prob);
        let name = augment.get("type").and_then(Node::as_str).unwrap_or_default();
        // What is left of the probabilities is that nothing happens.
        if name == "Identity" {
            continue;
        }
        made.push(keys.retyped(name.strip_prefix("Batch").unwrap_or(name)));
        probs.extend(prob);
    }
    let key = Key::like(augments, "augments");
    let mut cfg = vec![(key.clone(), list(&key, made))];
    if !probs.is_empty() {
        cfg.push((Key::like(augments, "probs"), list(&key, probs)));
    }
    let replaced = |(key, value): &(Key, Node)| match key.text.as_str() {
        "train_cfg" => (key.clone(), value.with_kind(Kind::Map(cfg.clone()))),
        _ => (key.clone(), value.clone()),
    };
    model.with_kind(Kind::Map(model.entries().iter().map(replaced).collect()))
}
