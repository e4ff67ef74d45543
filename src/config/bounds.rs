//! How large a config may be. Files have a length; aliases, references and overrides can double it with every use.

use super::{Diag, Diags, Node, yaml};

/// Larger files are no configs, and what references make of one may be no longer.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// A value keeps so many of those that it replaced: the whole chain of a long command line could not be taken down
/// again.
pub(super) const MAX_HISTORY: usize = 100;

/// What is left of the room.
struct Room {
    nodes: usize,
    bytes: usize,
}

/// Why a tree is too large.
enum Beyond {
    Nodes,
    Bytes,
    Depth,
}

impl Room {
    fn take(&mut self, node: &Node, depth: usize) -> Result<(), Beyond> {
        let text = node.as_str().map_or(0, str::len)
            + node.entries().iter().map(|(k, _)| k.text.len()).sum::<usize>();
        self.bytes = self.bytes.checked_sub(text).ok_or(Beyond::Bytes)?;
        // The parser counts keys too, and what is accepted must be read back from its own dump.
        self.nodes = self.nodes.checked_sub(1 + node.entries().len()).ok_or(Beyond::Nodes)?;
        let depth = depth.checked_sub(1).ok_or(Beyond::Depth)?;
        let children = node.items().iter().chain(node.entries().iter().map(|(_, value)| value));
        children.into_iter().try_for_each(|child| self.take(child, depth))
    }
}

/// The tree, unless it is larger than a config may be.
///
/// # Errors
/// Says in what it is too large.
pub(super) fn within_bounds(node: Node) -> Result<Node, Diags> {
    let mut room = Room { nodes: yaml::MAX_NODES, bytes: MAX_BYTES };
    let what = match room.take(&node, yaml::MAX_DEPTH) {
        Ok(()) => return Ok(node),
        Err(Beyond::Nodes) => format!("more than {} keys and values", yaml::MAX_NODES),
        Err(Beyond::Bytes) => format!("more than {} MiB of text", MAX_BYTES >> 20),
        Err(Beyond::Depth) => format!("a nesting of more than {} levels", yaml::MAX_DEPTH),
    };
    let message = format!("with what aliases, references and overrides add, this config has {what}");
    Err(Diag::error(message).at(node.at.clone()).into())
}
