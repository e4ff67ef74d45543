//! A run of one process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Comm, Pending, Place};
use crate::base::{Elem, Error, Result};

/// One process: each sum is what went in.
#[derive(Debug, Default)]
pub struct Solo {
    rank: usize,
    under_way: Mutex<(u64, BTreeMap<u64, Vec<Elem>>)>,
}

impl Solo {
    /// One process that does what a rank of a larger run did, as where a step of it is taken again: noise is drawn as
    /// for that rank.
    pub fn in_place_of(rank: usize) -> Self {
        Self { rank, ..Self::default() }
    }
}

impl Comm for Solo {
    fn place(&self) -> Place {
        Place { rank: self.rank, ..Place::SOLO }
    }

    fn sum(&self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn start_sum(&self, mut data: Vec<Elem>, factor: Elem) -> Result<Pending> {
        data.iter_mut().for_each(|sum| *sum *= factor);
        let (last, under_way) = &mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        under_way.insert(*last, data);
        Ok(Pending { id: *last })
    }

    fn poll(&self) -> Result<()> {
        Ok(())
    }

    fn finish(&self, sum: Pending) -> Result<Vec<Elem>> {
        let (_, under_way) = &mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&sum.id).ok_or_else(|| Error::Comm("a sum of another group is waited for".into()))
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec()])
    }

    fn set_patience(&self, _: Duration) {}

    fn fail(&self, _: &str) -> bool {
        true
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}
