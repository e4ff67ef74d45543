//! What the calls of a group cost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Comm, Pending, Place};
use crate::base::{Elem, Result};

/// A group whose calls are timed. Before each of them all ranks meet, so that waiting for the slowest is told from the
/// time that numbers take.
#[derive(Debug)]
pub struct Timed {
    inner: Arc<dyn Comm>,
    spent: Mutex<Spent>,
}

/// What the calls of a rank have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Calls that all ranks make.
    pub calls: u64,
    /// What this rank gave to them.
    pub bytes: u64,
    /// Until the last rank had come.
    pub waiting: Duration,
    /// From then on.
    pub moving: Duration,
}

impl Timed {
    /// This group, timed.
    pub fn new(inner: Arc<dyn Comm>) -> Self {
        Self { inner, spent: Mutex::default() }
    }

    /// What was spent since this was asked last.
    pub fn take(&self) -> Spent {
        std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn timed<T>(&self, bytes: usize, call: impl FnOnce(&dyn Comm) -> Result<T>) -> Result<T> {
        let began = Instant::now();
        self.inner.agree(0)?;
        let met = Instant::now();
        let done = call(&*self.inner)?;
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.calls += 1;
        spent.bytes += bytes as u64;
        spent.waiting += met - began;
        spent.moving += met.elapsed();
        Ok(done)
    }
}

impl Comm for Timed {
    fn place(&self) -> Place {
        self.inner.place()
    }

    fn sum(&self, numbers: &mut [f64]) -> Result<()> {
        self.timed(size_of_val(numbers), |comm| comm.sum(numbers))
    }

    fn start_sum(&self, data: Vec<Elem>, factor: Elem) -> Result<Pending> {
        self.timed(size_of_val(&data[..]), |comm| comm.start_sum(data, factor))
    }

    fn poll(&self) -> Result<()> {
        self.inner.poll()
    }

    fn finish(&self, sum: Pending) -> Result<Vec<Elem>> {
        let began = Instant::now();
        let sum = self.inner.finish(sum)?;
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).moving += began.elapsed();
        Ok(sum)
    }

    fn sum_in_any_order(&self, data: &mut [Elem]) -> Result<bool> {
        self.timed(size_of_val(data), |comm| comm.sum_in_any_order(data))
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.timed(own.len(), |comm| comm.gather(own))
    }

    fn broadcast(&self, from: usize, data: &mut Vec<u8>) -> Result<()> {
        self.timed(data.len(), |comm| comm.broadcast(from, data))
    }

    fn agree(&self, flags: u64) -> Result<u64> {
        self.timed(size_of::<u64>(), |comm| comm.agree(flags))
    }

    fn set_patience(&self, limit: Duration) {
        self.inner.set_patience(limit);
    }

    fn fail(&self, why: &str) -> bool {
        self.inner.fail(why)
    }

    fn abort(&self, code: i32) -> ! {
        self.inner.abort(code)
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
