//! Cubic parabolas through four places.

use crate::base::Elem;

/// Of which four of `from` places along an axis each of `to` places is made, and with which weights: PyTorch's
/// `interpolate` with `mode="bicubic"` and corners that are not aligned. Beyond the ends the last place is repeated.
pub fn bicubic_taps(from: usize, to: usize) -> Vec<[(usize, Elem); 4]> {
    /// The slope of the parabolas where they meet.
    const A: f64 = -0.75;
    let near = |d: f64| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    let last = from.saturating_sub(1) as f64;
    let taps = |at: usize| {
        let x = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let (first, t) = (x.floor(), x - x.floor());
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        std::array::from_fn(|k| ((first + k as f64 - 1.0).clamp(0.0, last) as usize, weights[k] as Elem))
    };
    (0..to).map(taps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch.nn.functional.interpolate(torch.tensor([[[1., 4, 2]]])[..., None].expand(1, 1, 3, 3), size=(5, 3),
    /// mode="bicubic")
    #[test]
    fn places_are_those_of_pytorch() {
        let x: [Elem; 3] = [1.0, 4.0, 2.0];
        let y: Vec<Elem> = bicubic_taps(3, 5)
            .iter()
            .map(|taps| taps.iter().map(|(at, weight)| x[*at] * weight).sum())
            .collect();
        let wanted = [0.712, 2.308, 4.0, 2.992, 1.808];
        assert!(y.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?}");
        let ones: Vec<Elem> =
            bicubic_taps(7, 4).iter().map(|taps| taps.iter().map(|(_, w)| w).sum()).collect();
        assert!(ones.iter().all(|sum| (sum - 1.0).abs() < 1e-6), "{ones:?}");
        let same = bicubic_taps(3, 3);
        assert_eq!(same.iter().map(|taps| taps[1]).collect::<Vec<_>>(), [(0, 1.0), (1, 1.0), (2, 1.0)]);
    }
}
