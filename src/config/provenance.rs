//! Where a value came from: base file, child, environment, command line.

use std::fmt;

use super::source::{Loc, Source};
use super::{Diags, Node, merge, path};

/// One writing of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Where its text stands.
    pub def: Loc,
    /// Where it is used, if that is elsewhere: an alias, a merge key, a reference.
    pub via: Option<Loc>,
    /// The value, on one line.
    pub value: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.def)?;
        match &self.via {
            Some(via) => write!(f, ", used at {via}"),
            None => Ok(()),
        }
    }
}

/// The chain of the value at `path` (`a.b.0.c`), first writing first, the one that counts last.
///
/// # Errors
/// If the path leads nowhere; it points into the path and knows the nearest one.
pub fn provenance(root: &Node, path: &str) -> Result<Vec<Step>, Diags> {
    let source = Source::new("path", path, super::source::Origin::Override);
    if let Err(miss) = path::find(root, path) {
        return Err(miss.diag(Loc::whole(&source), "the config has", str::to_owned).into());
    }
    let parts = split(path).unwrap_or_default();
    let mut steps = Vec::new();
    collect(root, &parts, &mut steps);
    Ok(steps)
}

/// The steps of `node`, or of what lies at `rest` below it, oldest first.
fn collect(node: &Node, rest: &[String], steps: &mut Vec<Step>) {
    let Some((part, deeper)) = rest.split_first() else {
        if let Some(before) = &node.before {
            collect(before, rest, steps);
        }
        let via = (node.at != node.def).then(|| node.at.clone());
        let step = Step { def: node.def.clone(), via, value: node.summary() };
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        return;
    };
    let Ok(child) = path::step(node, part) else { return };
    // A list or a mapping that was replaced as a whole took the values inside of it along.
    if let Some(before) = &node.before
        && path::step(before, part).is_ok_and(|old| !merge::descends(child, old))
    {
        collect(before, rest, steps);
    }
    collect(child, deeper, steps);
}

/// The keys and indices of a path.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    Some(path::parts(text).ok()?.into_iter().map(|(part, _)| part).collect())
}

impl Node {
    /// One step down: the value of a key, or the item at an index.
    pub fn child(&self, part: &str) -> Option<&Node> {
        path::step(self, part).ok()
    }

    /// The value at a path `a.b.0.c`; a key with a point in it stands in double quotes.
    pub fn at_path(&self, path: &str) -> Option<&Node> {
        path::find(self, path).ok()
    }

    /// Every value that holds no others, with its path.
    pub fn leaves(&self) -> Vec<(String, &Node)> {
        let mut leaves = Vec::new();
        self.walk(String::new(), &mut leaves);
        leaves
    }

    fn walk<'n>(&'n self, path: String, leaves: &mut Vec<(String, &'n Node)>) {
        let join = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
        if self.entries().is_empty() && self.items().is_empty() {
            leaves.push((path, self));
            return;
        }
        for (key, value) in self.entries() {
            value.walk(join(&path::quoted(&key.text)), leaves);
        }
        for (i, item) in self.items().iter().enumerate() {
            item.walk(join(&i.to_string()), leaves);
        }
    }
}
