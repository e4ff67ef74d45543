//! What this machine multiplies at most: the measure of what layers reach.

use std::time::{Duration, Instant};

use super::gemm::{Epilogue, Mat, MatMut, gemm};
use crate::base::Elem;

/// Rows and columns of the matrices: many enough for all threads, few enough for the cache.
pub const PEAK_SIZE: usize = 768;
/// How long to multiply: a machine that has just woken up gets time to reach its clock rate.
const TIME: Duration = Duration::from_millis(60);
const LEAST: usize = 3;

/// Operations a second, a multiplication and an addition being two, of the product of two matrices of [`PEAK_SIZE`] rows
/// and columns on all threads: the fastest of those that fit in 60 ms, of three at least.
pub fn peak_flops() -> f64 {
    let size = PEAK_SIZE;
    let a: Vec<Elem> = (0..size * size).map(|i| (i % 7) as Elem - 3.0).collect();
    let mut c = vec![0.0; size * size];
    let (mut times, began) = (Vec::new(), Instant::now());
    while times.len() < LEAST || began.elapsed() < TIME {
        let (x, start) = (Mat::new(&a, size, size), Instant::now());
        gemm(1.0, x, x, 0.0, MatMut::new(&mut c, size, size), Epilogue::default());
        times.push(start.elapsed().as_secs_f64());
    }
    let best = times.into_iter().fold(f64::INFINITY, f64::min);
    2.0 * (size as f64).powi(3) / best
}
