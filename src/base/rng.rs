//! Randomness is addressed, not consumed: a generator is a pure function of what it is for.
//!
//! Data order, augmentation, dropout and initial weights each have their own key, so that no part can disturb
//! another, a resumed run needs no stored generator state, and results do not depend on workers or threads.

use rand::SeedableRng;
use xxhash_rust::xxh3::xxh3_64;

/// The generator of the whole crate: portable, with the same values on every machine.
pub type Rng = rand::rngs::ChaCha8Rng;

/// The generator for `purpose` at the address `(a, b)`, for example (epoch, sample) or (iteration, 0).
///
/// The four numbers are the ChaCha key itself: two addresses never share a stream.
///
/// ```
/// use rand::RngExt;
/// use shanty::base::keyed;
/// let draw = |a| keyed(0, "augment", a, 7).random::<u64>();
/// assert_eq!(draw(3), draw(3));
/// assert_ne!(draw(3), draw(4));
/// ```
pub fn keyed(seed: u64, purpose: &str, a: u64, b: u64) -> Rng {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, xxh3_64(purpose.as_bytes()), a, b]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    Rng::from_seed(key)
}

/// A seed for a run whose config names none.
pub fn fresh_seed() -> u64 {
    use rand::TryRng;
    // Below 2^31, the range of MMEngine's own random seeds.
    rand::rngs::SysRng.try_next_u64().unwrap_or_else(|_| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
    }) >> 33
}

/// A permutation of `0..n` (Fisher–Yates over 64-bit draws, so that it is equal on 32- and 64-bit machines).
pub fn permutation(n: usize, rng: &mut Rng) -> Vec<usize> {
    use rand::RngExt;
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.random_range(0..=i as u64) as usize);
    }
    order
}

/// A draw of the Beta distribution. It is made of logarithms, so that it is a number for the smallest parameters too,
/// and of `libm`, so that it is the same on every machine.
pub fn beta(a: f64, b: f64, rng: &mut Rng) -> f64 {
    let (x, y) = (ln_gamma(a, rng), ln_gamma(b, rng));
    1.0 / (1.0 + libm::exp(y - x))
}

/// The logarithm of a draw of the Gamma distribution of scale 1 (Marsaglia and Tsang 2000): one of `shape + 1`, times
/// U^(1 / shape).
fn ln_gamma(shape: f64, rng: &mut Rng) -> f64 {
    use rand::RngExt;
    let uniform = |rng: &mut Rng| libm::log(rng.sample::<f64, _>(rand_distr::Open01));
    let d = shape + 1.0 - 1.0 / 3.0;
    let large = loop {
        let x: f64 = rng.sample(rand_distr::StandardNormal);
        let v = 1.0 + x / (9.0 * d).sqrt();
        let v = v * v * v;
        if v > 0.0 && uniform(rng) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            break libm::log(d * v);
        }
    };
    large + uniform(rng) / shape
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean 1/2 and variance 1 / (4 (2 a + 1)) of Beta(a, a), within five standard deviations of 20,000 draws.
    #[test]
    fn beta_has_its_moments() {
        for a in [0.001, 0.2, 0.8, 1.0, 30.0] {
            let mut rng = keyed(0, "beta", 0, 0);
            let draws: Vec<f64> = (0..20_000).map(|_| beta(a, a, &mut rng)).collect();
            assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|x| (x - 0.5) * (x - 0.5)).sum::<f64>() / draws.len() as f64;
            let expected = 1.0 / (4.0 * (2.0 * a + 1.0));
            assert!((mean - 0.5).abs() < 5.0 * (expected / 20_000.0).sqrt(), "{a}: mean {mean}");
            // The fourth central moment is at most expected / 4.
            assert!(
                (variance - expected).abs() < 5.0 * (expected / 4.0 / 20_000.0).sqrt(),
                "{a}: {variance}"
            );
        }
    }
}
