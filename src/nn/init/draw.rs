//! What a tensor can be filled with. All draws are made in `f64` by portable arithmetic and then rounded, so that a
//! seed means the same weights on every machine, in `f32` and in `f64`.

use ndarray::ArrayViewMutD;
use rand::RngExt;
use rand_distr::{Open01, StandardNormal};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, Rng};

/// Fills with draws from N(`mean`, `std`²).
pub fn normal(values: &mut ArrayViewMutD<'_, Elem>, mean: f64, std: f64, rng: &mut Rng) {
    values.mapv_inplace(|_| (mean + std * rng.sample::<f64, _>(StandardNormal)) as Elem);
}

/// Fills with draws from U(`low`, `high`).
pub fn uniform(values: &mut ArrayViewMutD<'_, Elem>, low: f64, high: f64, rng: &mut Rng) {
    values.mapv_inplace(|_| (low + (high - low) * rng.random::<f64>()) as Elem);
}

/// The family of a draw with mean 0 whose standard deviation is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// N(0, std²).
    #[default]
    Normal,
    /// U(−√3·std, √3·std).
    Uniform,
}

impl Distribution {
    /// Fills with draws of this standard deviation.
    pub fn fill(self, values: &mut ArrayViewMutD<'_, Elem>, std: f64, rng: &mut Rng) {
        let reach = 3f64.sqrt() * std;
        match self {
            Self::Normal => normal(values, 0.0, std, rng),
            Self::Uniform => uniform(values, -reach, reach, rng),
        }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Uniform => "uniform",
        })
    }
}

/// N(mean, std²) under the condition that the value lies between two bounds, which are absolute numbers and not
/// multiples of `std`.
///
/// Drawn through the inverse of the distribution function. Each half of the curve is reached from its own tail,
/// so that no draw is lost to rounding and none lands on a bound by accident.
#[derive(Debug, Clone, Copy)]
pub struct TruncatedNormal {
    mean: f64,
    std: f64,
    bounds: (Elem, Elem),
    below: (f64, f64),
    above: (f64, f64),
}

impl TruncatedNormal {
    /// The distribution with values strictly between `a` and `b`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `std` is not positive, `a` is not below `b`, or the curve has no weight between them
    /// (a mean some 38 `std` away).
    pub fn new(mean: f64, std: f64, a: f64, b: f64) -> Result<Self> {
        if !(std > 0.0 && std.is_finite() && mean.is_finite()) {
            return Err(Error::invalid(format!(
                "a truncated normal needs a std above 0, not mean {mean}, std {std}"
            )));
        }
        let bounds = ((a as Elem).next_up(), (b as Elem).next_down());
        if a.is_nan() || b.is_nan() || bounds.0 > bounds.1 {
            return Err(Error::invalid(format!("a truncated normal needs a < b, not a {a}, b {b}")));
        }
        let (low, high) = ((a - mean) / std, (b - mean) / std);
        let (below, above) = ((tail(-low), tail(-high)), (tail(low), tail(high)));
        if below.1 - below.0 <= 0.0 && above.0 - above.1 <= 0.0 {
            return Err(Error::invalid(format!(
                "a normal with mean {mean}, std {std} never falls between {a} and {b}"
            )));
        }
        if low > 2.0 || high < -2.0 {
            log::warn!(
                "the mean {mean} is more than 2 std outside [{a}, {b}]: the weights will crowd at a bound"
            );
        }
        Ok(Self { mean, std, bounds, below, above })
    }

    /// One draw.
    pub fn sample(&self, rng: &mut Rng) -> Elem {
        let share: f64 = rng.sample(Open01);
        let below = self.below.0 + (self.below.1 - self.below.0) * share;
        let above = self.above.1 + (self.above.0 - self.above.1) * (1.0 - share);
        let z = if below < above { -quantile(below) } else { quantile(above) };
        ((self.mean + self.std * z) as Elem).clamp(self.bounds.0, self.bounds.1)
    }

    /// Fills with draws.
    pub fn fill(&self, values: &mut ArrayViewMutD<'_, Elem>, rng: &mut Rng) {
        values.mapv_inplace(|_| self.sample(rng));
    }
}

/// The weight of the standard normal above `z`.
fn tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2)
}

/// The `z` above which the standard normal has the weight `q`, for 0 < q <= 1/2: algorithm AS 241 (PPND16) of
/// M. J. Wichura, Applied Statistics 37 (1988), with a relative error of 1e-16.
fn quantile(q: f64) -> f64 {
    let from_middle = 0.5 - q;
    if from_middle <= 0.425 {
        return from_middle * ratio(0.180_625 - from_middle * from_middle, &MIDDLE);
    }
    let r = libm::sqrt(-libm::log(q));
    if r <= 5.0 { ratio(r - 1.6, &TAIL) } else { ratio(r - 5.0, &FAR_TAIL) }
}

/// Numerator over denominator, both by Horner's rule; coefficients from the constant upwards.
fn ratio(x: f64, [over, under]: &[[f64; 8]; 2]) -> f64 {
    let polynomial = |c: &[f64; 8]| c.iter().rev().fold(0.0, |sum, c| sum * x + c);
    polynomial(over) / polynomial(under)
}

#[rustfmt::skip]
const MIDDLE: [[f64; 8]; 2] = [
    [3.387_132_872_796_366_5, 133.141_667_891_784_38, 1_971.590_950_306_551_3, 13_731.693_765_509_46,
     45_921.953_931_549_87, 67_265.770_927_008_7, 33_430.575_583_588_13, 2_509.080_928_730_122_7],
    [1.0, 42.313_330_701_600_91, 687.187_007_492_057_9, 5_394.196_021_424_751,
     21_213.794_301_586_597, 39_307.895_800_092_71, 28_729.085_735_721_943, 5_226.495_278_852_854],
];
#[rustfmt::skip]
const TAIL: [[f64; 8]; 2] = [
    [1.423_437_110_749_683_5, 4.630_337_846_156_546, 5.769_497_221_460_691, 3.647_848_324_763_204_5,
     1.270_458_252_452_368_4, 0.241_780_725_177_450_6, 0.022_723_844_989_269_184, 7.745_450_142_783_414e-4],
    [1.0, 2.053_191_626_637_759, 1.676_384_830_183_803_8, 0.689_767_334_985_1,
     0.148_103_976_427_480_08, 0.015_198_666_563_616_457, 5.475_938_084_995_345e-4, 1.050_750_071_644_416_9e-9],
];
#[rustfmt::skip]
const FAR_TAIL: [[f64; 8]; 2] = [
    [6.657_904_643_501_103, 5.463_784_911_164_114, 1.784_826_539_917_291_3, 0.296_560_571_828_504_87,
     0.026_532_189_526_576_124, 0.001_242_660_947_388_078_4, 2.711_555_568_743_487_6e-5, 2.010_334_399_292_288_1e-7],
    [1.0, 0.599_832_206_555_887_9, 0.136_929_880_922_735_8, 0.014_875_361_290_850_615,
     7.868_691_311_456_133e-4, 1.846_318_317_510_054_8e-5, 1.421_511_758_316_446e-7, 2.044_263_103_389_939_8e-15],
];

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::base::keyed;

    const DRAWS: usize = 10_000_000;

    /// Largest magnitude, mean and standard deviation of `n` draws.
    fn statistics(n: usize, mut draw: impl FnMut() -> Elem) -> (f64, f64, f64) {
        let (mut largest, mut sum, mut squares) = (0f64, 0f64, 0f64);
        for _ in 0..n {
            let x = f64::from(draw());
            (largest, sum, squares) = (largest.max(x.abs()), sum + x, squares + x * x);
        }
        let mean = sum / n as f64;
        (largest, mean, (squares / n as f64 - mean * mean).sqrt())
    }

    /// From Python: `-statistics.NormalDist().inv_cdf(q)`, the last two by mpmath at 50 digits (`sqrt(2) * erfinv(1 -
    /// 2q)`).
    #[test]
    fn quantiles_are_those_of_the_normal() {
        let known = [
            (0.5, 0.0),
            (0.3, 0.524_400_512_708_040_9),
            (0.025, 1.959_963_984_540_053_6),
            (1e-9, 5.997_807_015_007_687),
            (1e-100, 21.273_453_560_965_324),
        ];
        for (q, z) in known {
            assert!((quantile(q) - z).abs() <= 1e-13 * z, "{q}: {} for {z}", quantile(q));
        }
        for z in [0.0, 0.3, 1.0, 2.5, 6.0, 12.0, 37.0] {
            assert!((quantile(tail(z)) - z).abs() < 1e-12, "{z}: {}", quantile(tail(z)));
        }
    }

    /// INI-02, first case: bounds 2,000 std away must not draw anything towards them.
    #[test]
    fn far_bounds_leave_a_plain_normal() {
        let dist = TruncatedNormal::new(0.0, 0.001, -2.0, 2.0).unwrap();
        let mut rng = keyed(0, "init", 1, 0);
        let (largest, mean, std) = statistics(DRAWS, || dist.sample(&mut rng));
        assert!(largest < 0.01 && largest > 0.0045, "{largest}");
        assert!(mean.abs() < 2e-6, "{mean}");
        assert!((std / 0.001 - 1.0).abs() < 0.01, "{std}");
    }

    /// INI-02, second case; the standard deviation is sqrt(1 - 4 φ(2) / (2 Φ(2) - 1)) = 0.87963.
    #[test]
    fn near_bounds_hold_and_are_never_hit() {
        let dist = TruncatedNormal::new(0.0, 1.0, -2.0, 2.0).unwrap();
        let mut rng = keyed(0, "init", 2, 0);
        let (largest, mean, std) = statistics(DRAWS, || dist.sample(&mut rng));
        assert!(largest < 2.0 && largest > 1.999, "{largest}");
        assert!(mean.abs() < 2e-3, "{mean}");
        assert!((std - 0.87963).abs() < 1e-3, "{std}");
    }

    /// One-sided tail beyond 6 std: mean φ(6) / (1 - Φ(6)) = 6.15848, far from any rounding of 1 - Φ.
    #[test]
    fn a_far_tail_keeps_its_shape() {
        for sign in [1.0, -1.0] {
            let (a, b) = if sign > 0.0 { (6.0, 60.0) } else { (-60.0, -6.0) };
            let dist = TruncatedNormal::new(0.0, 1.0, a, b).unwrap();
            let mut rng = keyed(0, "init", 3, 0);
            let (largest, mean, _) = statistics(1_000_000, || dist.sample(&mut rng));
            assert!((sign * mean - 6.15848).abs() < 2e-3, "{mean}");
            assert!(largest < 9.0, "{largest}");
        }
    }

    /// INI-02, last cases.
    #[test]
    fn nonsense_is_refused() {
        let refused = |mean, std, a, b| TruncatedNormal::new(mean, std, a, b).unwrap_err().to_string();
        assert_eq!(refused(0.0, 1.0, 2.0, -2.0), "a truncated normal needs a < b, not a 2, b -2");
        assert!(refused(0.0, 1.0, 2.0, 2.0).contains("a < b"));
        assert!(refused(0.0, 1.0, f64::NAN, 2.0).contains("a < b"));
        assert!(refused(0.0, 0.0, -2.0, 2.0).contains("std above 0"));
        assert!(refused(0.0, 0.001, 1.0, 2.0).contains("never falls between 1 and 2"));
        assert!(TruncatedNormal::new(3.0, 1.0, -2.0, 2.0).is_ok());
    }

    #[test]
    fn normal_and_uniform_have_their_moments() {
        let mut values = ArrayD::zeros(IxDyn(&[1000, 1000]));
        normal(&mut values.view_mut(), 3.0, 0.5, &mut keyed(0, "init", 4, 0));
        let mut drawn = values.iter().copied();
        let (_, mean, std) = statistics(1_000_000, || drawn.next().unwrap());
        assert!((mean - 3.0).abs() < 2e-3 && (std - 0.5).abs() < 2e-3, "{mean} {std}");

        uniform(&mut values.view_mut(), -1.0, 1.0, &mut keyed(0, "init", 5, 0));
        let mut drawn = values.iter().copied();
        let (largest, mean, std) = statistics(1_000_000, || drawn.next().unwrap());
        assert!(largest <= 1.0 && largest > 0.999, "{largest}");
        assert!(mean.abs() < 2e-3 && (std - 3f64.sqrt().recip()).abs() < 2e-3, "{mean} {std}");
    }
}
