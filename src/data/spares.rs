//! Memory of batches that nobody needs any more.

use std::sync::{Mutex, PoisonError};

use crate::base::{Elem, stale};

/// Blocks of memory that wait for the next batch. A fresh block of a large batch costs a fault and a cleared page every 4 KiB.
pub(super) struct Spares {
    blocks: Mutex<Vec<Vec<Elem>>>,
    most: usize,
}

impl Spares {
    /// Keeps so many blocks at most.
    pub(super) fn new(most: usize) -> Self {
        Self { blocks: Mutex::default(), most }
    }

    pub(super) fn give(&self, block: Vec<Elem>) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks.len() < self.most {
            blocks.push(block);
        }
    }

    /// A block that was given, with stale contents, or an empty one.
    pub(super) fn take(&self) -> Vec<Elem> {
        let mut block = self.blocks.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        stale::hand_out(&mut block);
        block
    }
}
