//! Whether anything is left of what a loader is to give.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::DataLoader;
use super::orders::Orders;
use crate::base::Result;

impl DataLoader {
    /// Whether not one sample of these batches is left: each is excluded, or was met and cannot be read. It follows
    /// from what is left out alone, so that a resumed run says the same.
    ///
    /// # Errors
    /// The sampler's.
    pub fn nothing_left(&self, batches: Range<u64>) -> Result<bool> {
        let unreadable: BTreeSet<_> = self.bad_samples().into_iter().map(|(index, _)| index).collect();
        let mut orders = Orders::new(Arc::clone(&self.plan));
        for batch in batches {
            if orders.indices(batch)?.samples.iter().any(|place| !unreadable.contains(&place.index)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
