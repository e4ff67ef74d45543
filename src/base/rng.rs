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
