//! What a network ends with, and whether its loss wants that: a softmax before a loss that takes one itself trains, and
//! badly.

use crate::config::{Diag, Node};
use crate::nn::{Loss, ModuleTree, named_modules};
use crate::registry::{self, Spec};

/// Layers that change no scores where a model is evaluated.
const PASSED_OVER: [&str; 4] = ["Identity", "Flatten", "Dropout", "Dropout2d"];

/// Layers whose outputs are probabilities, or their logarithms.
const SQUASHING: [&str; 5] = ["Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid", "Hardsigmoid"];

/// Losses that take the softmax or the sigmoid themselves.
const OF_SCORES: [&str; 6] = [
    "CrossEntropyLoss",
    "LabelSmoothLoss",
    "FocalLoss",
    "SoftmaxFocalLoss",
    "BCEWithLogitsLoss",
    "MultiLabelSoftMarginLoss",
];

/// Losses that want a network to end with one of these layers; how a config writes it, and the loss of raw scores that
/// needs none.
const OF_PROBABILITIES: [(&str, &[&str], &str, &str); 2] = [
    ("NLLLoss", &["LogSoftmax", "LogSigmoid"], "{type: LogSoftmax, dim: 1}", "CrossEntropyLoss"),
    ("BCELoss", &["Sigmoid", "Softmax", "Hardsigmoid"], "{type: Sigmoid}", "BCEWithLogitsLoss"),
];

/// The last layer of a network.
pub(super) struct LastLayer {
    name: &'static str,
    /// Where a config writes it, or the module around it.
    written: Node,
}

impl LastLayer {
    /// That of a network which a config writes as `written`; `None` where it is none of this crate's.
    pub fn of(network: &dyn ModuleTree, written: &Node) -> Option<Self> {
        let all = named_modules(network);
        let (path, layer) = all.iter().rev().find(|(_, layer)| !PASSED_OVER.contains(&layer.type_name()))?;
        let name = layer.type_name();
        let known =
            |(kind, entry): (&str, &registry::Entry)| kind == "module" && entry.origin.krate() == "shanty";
        if !registry::find(name).any(known) {
            return None;
        }
        let mut node = written;
        for step in path.split('.') {
            let layers = node.get("layers").unwrap_or(node).items();
            match step.parse().map_or_else(|_| node.get(step), |index: usize| layers.get(index)) {
                Some(inner) => node = inner,
                None => break,
            }
        }
        Some(Self { name, written: node.get("type").unwrap_or(node).clone() })
    }

    /// What is odd about a loss of what it gives.
    pub fn odd_before(&self, loss: &Spec<dyn Loss>) -> Option<Diag> {
        let (name, loss) = (self.name, loss.name());
        if OF_SCORES.contains(&loss) && SQUASHING.contains(&name) {
            let text =
                format!("the network ends with {name}, and {loss} takes raw scores: it squashes them itself");
            return Some(Diag::warning(text).on(&self.written).note(format!("leave out the {name}")));
        }
        let (_, wanted, layer, raw) = OF_PROBABILITIES.iter().find(|(own, ..)| *own == loss)?;
        (!wanted.contains(&name)).then(|| {
            let text = format!("{loss} does not take raw scores, and the network ends with {name}");
            let cure = format!("end it with `{layer}`, or take {raw}, which needs none");
            Diag::warning(text).on(&self.written).note(cure)
        })
    }
}
