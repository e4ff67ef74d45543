//! Memory of batches that nobody needs any more.

use std::sync::{Mutex, PoisonError};

use crate::base::stale;

use super::{Batch, Column};

/// Batches that were given back and whose memory waits for the next one. A fresh block of a large batch costs a fault
/// and a cleared page every 4 KiB.
pub(super) struct BufferPool {
    spent: Mutex<Vec<Batch>>,
    most: usize,
}

impl BufferPool {
    /// Keeps the memory of so many batches at most.
    pub(super) fn new(most: usize) -> Self {
        Self { spent: Mutex::default(), most }
    }

    pub(super) fn give(&self, batch: Batch) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() < self.most {
            spent.push(batch);
        }
    }

    /// A batch that was given, with stale contents, or an empty one.
    pub(super) fn take(&self) -> Batch {
        let mut batch = self.spent.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        for (_, column) in batch.fields.iter_mut() {
            match column {
                Column::Float(values) => values.as_slice_mut().map_or((), stale::hand_out),
                Column::Int(values) => values.as_slice_mut().map_or((), stale::hand_out),
                Column::Text(_) | Column::List(_) => {}
            }
        }
        batch
    }
}
