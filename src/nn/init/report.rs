//! Who initialised what.

use std::collections::HashMap;

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

    /// `name - shape: rule`, in the order of the model.
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().map(|Line { name, shape, info }| format!("{name} - {shape:?}: {info}")).collect()
    }
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
