//! The kernels against their definitions, written as plain loops.

mod bf16;
mod conv;
mod elementwise;
mod gemm;
mod halves;
mod loss;
mod norm;
mod pool;
mod spatial;

use crate::base::Elem;

/// Numbers in [-1, 1) that a seed determines.
pub(super) fn noise(seed: u64, len: usize) -> Vec<Elem> {
    use rand::RngExt;
    let mut rng = crate::base::keyed(seed, "kernel tests", len as u64, 0);
    (0..len).map(|_| rng.random::<f64>() as Elem * 2.0 - 1.0).collect()
}

/// A small whole number in `range`.
pub(super) fn pick(rng: &mut crate::base::Rng, range: std::ops::RangeInclusive<usize>) -> usize {
    use rand::RngExt;
    rng.random_range(*range.start() as u64..=*range.end() as u64) as usize
}

/// Asserts that no element is further off than `tol`, as a share of the largest expected one (or of 1).
pub(super) fn close(got: &[Elem], want: &[f64], tol: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let top = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((g as f64 - w).abs() <= tol * top, "{what}: element {i} is {g}, not {w}");
    }
}

/// Runs `f` on one and on two threads; its results must be the same bits.
pub(super) fn on_1_and_2_threads(f: impl Fn() -> Vec<Elem> + Send + Sync) -> Vec<Elem> {
    let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&f);
    let (one, two) = (run(1), run(2));
    assert!(one.iter().zip(&two).all(|(a, b)| a.to_bits() == b.to_bits()), "bits depend on the thread count");
    one
}
