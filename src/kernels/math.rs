//! Exponential, logarithm and hyperbolic tangent without branches, so that loops over them become vectors.
//!
//! For `f32` they are at most 2 ulp from the true value, which a test checks over all of the range, and are made as in
//! Moshier's Cephes library; for `f64` they are the functions of Rust's library.

use crate::base::Elem;

#[cfg(not(shanty_f64))]
#[allow(clippy::excessive_precision)]
mod single {
    /// `a * b + c`, rounded once where the CPU does that in one instruction.
    #[inline(always)]
    pub fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
        if FMA { a.mul_add(b, c) } else { a * b + c }
    }

    /// `e^x`: a polynomial on [-ln 2 / 2, ln 2 / 2], and a power of two in two steps, so that both ends of the range
    /// come out (infinity, denormals, zero).
    #[inline(always)]
    pub fn exp(x: f32) -> f32 {
        let x = if x > 89.0 { 89.0 } else { x };
        let x = if x < -105.0 { -105.0 } else { x };
        let (p, n) = parts::<false>(x);
        let half = n >> 1;
        (p + 1.0) * power(half) * power(n - half)
    }

    /// `e^x - 1`, exact near 0.
    #[inline(always)]
    pub fn exp_m1(x: f32) -> f32 {
        // Below -25 it is -1; above 88.7 infinity, as is 2 to the power of 128.
        let x = if x > 89.0 { 89.0 } else { x };
        let x = if x < -25.0 { -25.0 } else { x };
        let (p, n) = parts::<false>(x);
        let power = power(n);
        p * power + (power - 1.0)
    }

    /// `ln(1 + x)` for x in [0, 1]: `2 atanh(s)` with `s = x / (2 + x)`, by a polynomial in s².
    #[inline(always)]
    pub fn ln_1p(x: f32) -> f32 {
        let s = x / (2.0 + x);
        let z = s * s;
        let mut p = 1.161_950_9e-1;
        for c in [1.085_166_2e-1, 1.429_629_1e-1, 1.999_985_1e-1, 3.333_333_4e-1] {
            p = p * z + c;
        }
        2.0 * (p * z * s + s)
    }

    /// `p` and `n` with `e^x = (1 + p) * 2^n`.
    #[inline(always)]
    fn parts<const FMA: bool>(x: f32) -> (f32, i32) {
        // Adding 1.5 * 2^23 rounds to a whole number, which is then in the low bits.
        const ROUND: f32 = 12_582_912.0;
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = mul_add::<FMA>(n, 2.121_944_4e-4, mul_add::<FMA>(n, -0.693_359_375, x));
        let mut p = 1.987_569_1e-4;
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1] {
            p = mul_add::<FMA>(p, r, c);
        }
        (mul_add::<FMA>(p * r, r, r), shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
    }

    #[inline(always)]
    fn power(n: i32) -> f32 {
        f32::from_bits(((n + 127) << 23) as u32)
    }

    /// A polynomial near 0, `1 - 2 / (e^2x + 1)` further out.
    #[inline(always)]
    pub fn tanh<const FMA: bool>(x: f32) -> f32 {
        let a = x.abs();
        // From 10 on the result is 1, and up to there the power of two is no extreme one.
        let (p, n) = parts::<FMA>(2.0 * if a > 10.0 { 10.0 } else { a });
        let large = 1.0 - 2.0 / ((p + 1.0) * power(n) + 1.0);
        let z = x * x;
        let mut p = -5.704_988_7e-3;
        for c in [2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1] {
            p = mul_add::<FMA>(p, z, c);
        }
        let small = mul_add::<FMA>(p * z, x, x);
        if a < 0.625 { small } else { large.copysign(x) }
    }
}

#[cfg(not(shanty_f64))]
pub(super) use single::{exp, exp_m1, ln_1p, mul_add, tanh};

/// The library's exponential.
#[cfg(shanty_f64)]
#[inline(always)]
pub(super) fn exp(x: f64) -> f64 {
    x.exp()
}

/// The library's `e^x - 1`.
#[cfg(shanty_f64)]
#[inline(always)]
pub(super) fn exp_m1(x: f64) -> f64 {
    x.exp_m1()
}

/// The library's `ln(1 + x)`.
#[cfg(shanty_f64)]
#[inline(always)]
pub(super) fn ln_1p(x: f64) -> f64 {
    x.ln_1p()
}

/// The library's hyperbolic tangent.
#[cfg(shanty_f64)]
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f64) -> f64 {
    x.tanh()
}

/// The error function by its series around 0 and the continued fraction further out.
#[cfg(shanty_f64)]
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        return (sum * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
    }
    let mut f = 0.0;
    for n in (1..=60).rev() {
        f = n as f64 / 2.0 / (a + f);
    }
    (1.0 - (-a * a).exp() / (a + f) * 0.5 * std::f64::consts::FRAC_2_SQRT_PI).copysign(x)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: Elem) -> Elem {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + e^x)`, which neither overflows nor loses digits: `max(x, 0) + ln(1 + e^-|x|)`.
#[inline(always)]
pub(super) fn softplus(x: Elem) -> Elem {
    (if x > 0.0 { x } else { 0.0 }) + ln_1p(exp(-x.abs()))
}

/// The normal distribution function, `(1 + erf(x / sqrt 2)) / 2`.
#[cfg(shanty_f64)]
#[inline(always)]
pub(super) fn normal_cdf(x: Elem) -> Elem {
    0.5 + 0.5 * erf(x * std::f64::consts::FRAC_1_SQRT_2 as Elem)
}
