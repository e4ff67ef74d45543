//! What is left when the power fails: any state that POSIX allows.

use rand::RngExt;

use super::tree::{Bytes, Node, SECTOR, Tree};
use crate::base::Rng;

/// How a process ends without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// It alone dies (SIGKILL): what it wrote stays, its locks go.
    Kill,
    /// The machine stops: of what was not synced, any part may be lost.
    Power,
}

impl Tree {
    /// The disk after a power failure.
    ///
    /// Changes of directories: none, all, the first few, or any set in which each change of a name comes with the
    /// earlier ones of that name. Bytes of files: see [`Bytes::fail`]. Files and entries do not know of each other.
    pub fn fail(&mut self, rng: &mut Rng) {
        let count = self.pending.len();
        let mut kept = vec![false; count];
        match rng.random_range(0..4) {
            0 => {}
            1 => kept.fill(true),
            2 => kept[..rng.random_range(0..=count)].fill(true),
            _ => {
                for late in 0..count {
                    if rng.random() {
                        self.mark_with_earlier(late, &mut kept);
                    }
                }
            }
        }
        self.make_durable(&kept);
        self.pending.clear();
        for node in &mut self.nodes {
            match node {
                Node::File(bytes) => bytes.fail(rng),
                Node::Dir(names) => names.now.clone_from(&names.safe),
                Node::Link(_) => {}
            }
        }
        self.count_used();
    }

    fn count_used(&mut self) {
        let left = self.reachable();
        let bytes = left.iter().map(|(_, id)| match &self.nodes[*id] {
            Node::File(bytes) => bytes.now.len() as u64,
            _ => 0,
        });
        self.used = bytes.sum::<u64>() + 64 * (left.len() as u64).saturating_sub(1);
    }
}

impl Bytes {
    /// The old bytes, the new ones, a prefix of the new ones, the new length with zeros, or old and new sectors mixed.
    fn fail(&mut self, rng: &mut Rng) {
        if !self.dirty.is_empty() || self.resized {
            let new_len = if self.resized { self.now.len() } else { self.safe.len() };
            match rng.random_range(0..5) {
                0 => self.forget(),
                1 => {}
                2 => {
                    let len = rng.random_range(self.shortest.min(new_len)..=new_len);
                    self.now.truncate(len);
                    self.resized = true;
                    self.dirty.extend(len / SECTOR..self.safe.len().div_ceil(SECTOR));
                }
                3 => self.dirty.clear(),
                _ => {
                    self.dirty.retain(|_| rng.random());
                    self.resized &= rng.random::<bool>();
                }
            }
            self.sync();
        }
        self.now.clone_from(&self.safe);
    }
}
