//! The Gaussian error linear unit `x Φ(x)` and its slope `Φ(x) + x φ(x)`, which share one exponential.

use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::math;
use crate::kernels::number::{Number, bf16};
use crate::kernels::par;

/// `Φ(x)` and `exp(-x² / 2)`, each within 1e-7.
///
/// The tail `Φ(-|x|)` is `exp(-x² / 2) R(|x|)` with a polynomial R, fitted on [0, 5] so that the largest error, with
/// the exponential as weight, is least under R(0) = 1/2. Further out R stays as at 5, where the exponential is below
/// 4e-6.
#[cfg(not(shanty_f64))]
#[allow(clippy::excessive_precision)]
#[inline(always)]
pub(super) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    let z = x.abs();
    // exp(-x² / 2) = 2^-y² with y² = x² log2(e) / 2: a power of a whole number times one of a remainder in ±1/2; 0 from
    // y² = 127 on.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if z > 13.268_9 { 13.268_9 } else { z };
    let y = clamped * 0.849_321_8;
    let shifted = ROUND - y * y;
    let n = shifted - ROUND;
    let r = math::mul_add::<FMA>(-y, y, -n);
    let mut p = 1.534_582e-4;
    for c in [1.339_993_7e-3, 9.618_489e-3, 5.550_328_8e-2, 2.402_264_7e-1, 6.931_472_1e-1, 1.0] {
        p = math::mul_add::<FMA>(p, r, c);
    }
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let e = p * f32::from_bits(power);
    let z = if z > 5.0 { 5.0 } else { z };
    let mut q = -3.296_409_3e-7;
    for c in [
        7.984_404_9e-6,
        -8.707_257_8e-5,
        5.744_074e-4,
        -2.621_046e-3,
        9.060_797_3e-3,
        -2.553_908_9e-2,
        6.197_387_4e-2,
        -1.328_279_2e-1,
        2.499_778_9e-1,
        -3.989_411_6e-1,
        0.5,
    ] {
        q = math::mul_add::<FMA>(q, z, c);
    }
    let tail = e * q;
    (if x > 0.0 { 1.0 - tail } else { tail }, e)
}

/// `Φ(x)` and `exp(-x² / 2)`.
#[cfg(shanty_f64)]
#[inline(always)]
pub(super) fn normal<const FMA: bool>(x: f64) -> (f64, f64) {
    (math::normal_cdf(x), math::exp(-0.5 * x * x))
}

/// Value and slope.
#[inline(always)]
pub(super) fn value_and_slope<const FMA: bool>(x: Elem) -> (Elem, Elem) {
    /// 1 / sqrt(2 pi).
    const PEAK: f64 = 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let (cdf, e) = normal::<FMA>(x);
    (x * cdf, cdf + x * PEAK as Elem * e)
}

multiversion! {
    /// `x` becomes the value at `x + bias`, and `slope` the slope there.
    pub(in crate::kernels) fn with_slope<const FMA: bool>(bias: &[Elem], x: &mut [Elem], slope: &mut [Elem]) {
        for ((x, s), b) in x.iter_mut().zip(slope).zip(bias) {
            (*x, *s) = value_and_slope::<FMA>(*x + *b);
        }
    }
}

multiversion! {
    /// `at` becomes `x + bias`, rounded, and `x` the value there.
    pub(in crate::kernels) fn of_rounded<const FMA: bool>(bias: &[Elem], x: &mut [Elem], at: &mut [bf16]) {
        for ((x, at), b) in x.iter_mut().zip(at).zip(bias) {
            *at = bf16::of(*x + *b);
            *x = value_and_slope::<FMA>(at.wide()).0;
        }
    }
}

multiversion! {
    /// `x` becomes its product with the slope at `at`.
    pub(in crate::kernels) fn times_slope<const FMA: bool>(at: &[bf16], x: &mut [Elem]) {
        for (x, at) in x.iter_mut().zip(at) {
            *x *= value_and_slope::<FMA>(at.wide()).1;
        }
    }
}

multiversion! {
    fn values<const FMA: bool>(at: &[bf16], y: &mut [bf16]) {
        for (y, at) in y.iter_mut().zip(at) {
            *y = bf16::of(value_and_slope::<FMA>(at.wide()).0);
        }
    }
}

/// `y = gelu(x)` of bf16 numbers.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_halves(x: &[bf16], y: &mut [bf16]) {
    par::zip(x, y, values);
}

/// Value and slope of the approximation `x (1 + tanh(u)) / 2 = x sigmoid(2 u)`, `u = sqrt(2 / pi) (x + 0.044715 x³)`.
#[inline(always)]
pub(super) fn by_tanh(x: Elem) -> (Elem, Elem) {
    /// 2 sqrt(2 / pi).
    const RISE: Elem = (2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2) as Elem;
    const BEND: Elem = 0.044715;
    // Beyond 12 the sigmoid is 0 or 1 to all digits, and no power overflows.
    let z = if x > 12.0 { 12.0 } else { x };
    let z = if z < -12.0 { -12.0 } else { z };
    let s = math::sigmoid(RISE * (z + BEND * z * z * z));
    (x * s, s + x * s * (1.0 - s) * RISE * (1.0 + 3.0 * BEND * z * z))
}
