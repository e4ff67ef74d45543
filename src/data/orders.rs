//! Which samples a batch holds: a function of its number.

use std::sync::{Arc, PoisonError};

use crate::base::{Error, Result, caught_from};

use super::ShardPolicy;
use super::plan::{BATCH_SAMPLER, Plan};

/// One sample of a batch.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) pass: u64,
    /// Position in the data set.
    pub(super) index: usize,
    /// How often it came before in this pass.
    pub(super) repeat: u32,
}

/// Which samples make a batch, and how many of them are no repeats that fill up a share.
pub(super) struct BatchIndices {
    pub(super) samples: Vec<Place>,
    pub(super) valid: usize,
}

/// The orders of the passes, of which it keeps the one in use.
pub(super) struct Orders {
    pub(super) plan: Arc<Plan>,
    /// Samples that were left out when the first batch was asked for.
    excluded: Vec<u64>,
    pass: Option<u64>,
    order: Vec<usize>,
    /// How often each in the order came before; empty where none comes twice.
    repeats: Vec<u32>,
}

impl Orders {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let excluded = plan.excluded.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self { plan, excluded, pass: None, order: Vec::new(), repeats: Vec::new() }
    }

    /// The samples of batch `g`.
    pub(super) fn indices(&mut self, g: u64) -> Result<BatchIndices> {
        let (size, share, n) =
            (self.plan.batch_size as u64, self.plan.share() as u64, self.plan.pass_len() as u64);
        let endless = self.plan.policy == ShardPolicy::Endless;
        let (pass, first, last) = if endless {
            let end = g.checked_add(1).and_then(|after| after.checked_mul(size));
            let end =
                end.ok_or_else(|| Error::invalid(format!("batch {g} is beyond what can be counted")))?;
            (0, end - size, end)
        } else {
            let len = self.plan.batches() as u64;
            let first = g % len * size;
            (g / len, first, first.saturating_add(size).min(share))
        };
        let mut indices = BatchIndices { samples: Vec::new(), valid: 0 };
        for position in first..last {
            let place = self.plan.policy.place(position, n as usize, self.plan.shard);
            let pass = if endless { place / n } else { pass };
            let within = (place % n) as usize;
            let index = self.order_of(pass)?[within];
            if self.excluded.binary_search(&(index as u64)).is_err() {
                indices.valid += usize::from(endless || place < n);
                let repeat = self.repeats.get(within).copied().unwrap_or(0);
                indices.samples.push(Place { pass, index, repeat });
            }
        }
        Ok(indices)
    }

    fn order_of(&mut self, pass: u64) -> Result<&[usize]> {
        if self.pass != Some(pass) {
            let (n, len) = (self.plan.pass_len(), self.plan.len);
            self.pass = None;
            let sampler = self.plan.sampler()?;
            let draw = || Ok(sampler.draw(len, self.plan.seed, pass));
            self.order = caught_from("the sampler", draw)?;
            let beyond = |order: &[usize]| order.iter().any(|&i| i >= len);
            if self.order.len() != n || beyond(&self.order) {
                return Err(Error::invalid(format!(
                    "the sampler drew {} samples for pass {pass}; its pass_len promises {n}, each below {len}",
                    self.order.len()
                )));
            }
            if let Some(batching) = self.plan.batching()? {
                let (batch, begun) = (self.plan.of_ranks(), self.begun(pass));
                let own = self.order.get_mut(begun..).unwrap_or_default();
                caught_from(BATCH_SAMPLER, || {
                    batching.arrange(own, batch, self.plan.seed, pass);
                    Ok(())
                })?;
                if beyond(&self.order) {
                    return Err(Error::invalid(format!(
                        "the batch sampler put a sample into pass {pass} that is not below {len}"
                    )));
                }
            }
            self.repeats = repeats(&self.order, len);
            self.pass = Some(pass);
        }
        Ok(&self.order)
    }
}

impl Orders {
    /// How many samples of a pass fill up a batch that the pass before has begun.
    fn begun(&self, pass: u64) -> usize {
        if self.plan.policy != ShardPolicy::Endless {
            return 0;
        }
        let batch = self.plan.of_ranks().max(1) as u128;
        let before = u128::from(pass) * self.plan.pass_len() as u128 % batch;
        ((batch - before) % batch) as usize
    }
}

/// How often each of an order came before in it; nothing if none did.
fn repeats(order: &[usize], len: usize) -> Vec<u32> {
    let mut came = vec![0u32; len];
    let mut before = Vec::with_capacity(order.len());
    for index in order {
        before.push(came[*index]);
        came[*index] = came[*index].saturating_add(1);
    }
    if came.iter().all(|times| *times < 2) { Vec::new() } else { before }
}
