//! Who initialised what.

use std::collections::HashMap;

use ndarray::ArrayViewD;

use crate::base::{Elem, number};
use crate::nn::{ModuleTree, tree};
use crate::params::{HostParams, ParamMut, ParamRef};

/// For every parameter the last rule that set it.
pub(super) struct Report {
    lines: Vec<Line>,
    index: HashMap<String, usize>,
}

struct Line {
    name: String,
    shape: Vec<usize>,
    info: String,
}

impl Report {
    /// Nobody has touched anything yet.
    pub fn of(root: &dyn ModuleTree) -> Self {
        let info = "as its layer was made; no rule of init_cfg reaches it".to_owned();
        let mut lines = Vec::new();
        tree::visit(root, &mut |p| {
            if p.role.is_trained() {
                lines.push(Line { name: p.name.into(), shape: p.value.shape().into(), info: info.clone() });
            }
        });
        let index = lines.iter().enumerate().map(|(i, line)| (line.name.clone(), i)).collect();
        Self { lines, index }
    }

    /// `rule` has set the parameter `name`; buffers have no line.
    pub fn set(&mut self, name: &str, rule: &str) {
        if let Some(&i) = self.index.get(name) {
            self.lines[i].info = rule.to_owned();
        }
    }

    /// `name - shape: rule (mean, std)`, in the order of the model; mean and standard deviation are those of the values
    /// that `root` has now.
    pub fn lines(&self, root: &dyn ModuleTree) -> Vec<String> {
        let mut lines = Vec::with_capacity(self.lines.len());
        tree::visit(root, &mut |p| {
            if let Some(&at) = self.index.get(p.name) {
                let Line { name, shape, info } = &self.lines[at];
                let (mean, std) = moments(&p.value);
                let (mean, std) = (number::short(mean), number::short(std));
                lines.push(format!("{name} - {shape:?}: {info} (mean {mean}, std {std})"));
            }
        });
        lines
    }
}

/// Mean and standard deviation, both over all values; four digits are enough for a log.
fn moments(values: &ArrayViewD<'_, Elem>) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    let rounded = |v: f64| format!("{v:.3e}").parse().unwrap_or(v);
    (rounded(mean), rounded(variance.sqrt()))
}

/// A sub-tree as a bag of tensors.
pub(super) struct Tree<'a>(pub &'a mut dyn ModuleTree);

impl HostParams for Tree<'_> {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        tree::visit(self.0, f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        tree::visit_mut(self.0, f);
    }
}
