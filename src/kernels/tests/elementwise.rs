//! Activations, dropout, sums, and the SGD update.

use super::{close, noise, on_1_and_2_threads};
use crate::base::Elem;
use crate::kernels::*;

/// The true function, in f64, and its derivative by the derivative's formula.
fn truth(act: Act, x: f64) -> (f64, f64) {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match act {
        Act::Identity => (x, 1.0),
        Act::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
        Act::LeakyRelu { slope } => {
            if x > 0.0 {
                (x, 1.0)
            } else {
                (slope as f64 * x, slope as f64)
            }
        }
        Act::Elu { alpha, scale, input_scale } => {
            let (a, k) = (alpha as f64, input_scale as f64);
            if x > 0.0 {
                (scale as f64 * x, scale as f64)
            } else {
                (a * (k * x).exp_m1(), a * k * (k * x).exp())
            }
        }
        Act::Ramp { scale, shift, min, max } => {
            let y = scale as f64 * x + shift as f64;
            let within = y > min as f64 && y < max as f64;
            (y.clamp(min as f64, max as f64), if within { scale as f64 } else { 0.0 })
        }
        Act::Hardswish if x <= -3.0 => (0.0, 0.0),
        Act::Hardswish if x < 3.0 => (x * (x + 3.0) / 6.0, x / 3.0 + 0.5),
        Act::Hardswish => (x, 1.0),
        Act::Hardshrink { bound } | Act::Softshrink { bound } if x.abs() <= bound as f64 => (0.0, 0.0),
        Act::Hardshrink { .. } => (x, 1.0),
        Act::Softshrink { bound } => (x - x.signum() * bound as f64, 1.0),
        Act::Tanhshrink => (x - x.tanh(), x.tanh().powi(2)),
        Act::LogSigmoid => (x.min(0.0) - (-x.abs()).exp().ln_1p(), sigmoid(-x)),
        Act::Softplus { beta, threshold } => {
            let z = beta as f64 * x;
            if z > threshold as f64 { (x, 1.0) } else { (z.exp().ln_1p() / beta as f64, sigmoid(z)) }
        }
        Act::Softsign => (x / (1.0 + x.abs()), (1.0 + x.abs()).powi(-2)),
        Act::GeluTanh => {
            let (rise, bend) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044715);
            let t = (rise * (x + bend * x.powi(3))).tanh();
            let slope = 0.5 * x * (1.0 - t * t) * rise * (1.0 + 3.0 * bend * x * x);
            (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + slope)
        }
        Act::Mish => {
            let t = x.exp().ln_1p().tanh();
            (x * t, t + x * (1.0 - t * t) * sigmoid(x))
        }
        Act::Tanh => (x.tanh(), 1.0 - x.tanh().powi(2)),
        Act::Sigmoid => (sigmoid(x), sigmoid(x) * (1.0 - sigmoid(x))),
        Act::Silu => (x * sigmoid(x), sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)))),
        Act::Gelu => {
            let cdf = normal_cdf(x);
            (x * cdf, cdf + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt())
        }
    }
}

/// Simpson's rule on the density from 0 to x.
fn normal_cdf(x: f64) -> f64 {
    let (n, end) = (400, x.clamp(-9.0, 9.0));
    let h = end / n as f64;
    let f = |i: usize| (-0.5 * (i as f64 * h).powi(2)).exp();
    let sum: f64 = (1..n).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum::<f64>() + f(0) + f(n);
    0.5 + sum * h / 3.0 / (2.0 * std::f64::consts::PI).sqrt()
}

const ALL: [Act; 21] = [
    Act::Identity,
    Act::Relu,
    Act::LeakyRelu { slope: 0.01 },
    Act::Elu { alpha: 1.0, scale: 1.0, input_scale: 1.0 },
    Act::Elu { alpha: 1.7580993, scale: 1.050701, input_scale: 1.0 },
    Act::Elu { alpha: 2.0, scale: 1.0, input_scale: 0.5 },
    Act::Ramp { scale: 1.0, shift: 0.0, min: 0.0, max: 6.0 },
    Act::Ramp { scale: 0.25, shift: 0.5, min: -1.0, max: 1.0 },
    Act::Hardswish,
    Act::Hardshrink { bound: 0.5 },
    Act::Softshrink { bound: 0.5 },
    Act::Tanhshrink,
    Act::Tanh,
    Act::Sigmoid,
    Act::LogSigmoid,
    Act::Softplus { beta: 2.0, threshold: 20.0 },
    Act::Softsign,
    Act::Gelu,
    Act::GeluTanh,
    Act::Silu,
    Act::Mish,
];

#[test]
fn activations_and_their_slopes_are_exact_to_2e_7() {
    let x: Vec<Elem> = (-3000..=3000).map(|i| i as Elem * 0.005).collect();
    for act in ALL {
        let (mut y, mut inplace) = (vec![Elem::NAN; x.len()], x.clone());
        act_forward(act, &x, &mut y);
        act_inplace(act, &mut inplace);
        assert_eq!(y, inplace);
        let mut dy = vec![2.0; x.len()];
        act_backward(act, if act.saves_input() { &x } else { &y }, &mut dy);
        for (i, &x) in x.iter().enumerate() {
            let (value, slope) = truth(act, x as f64);
            let scale = (x as f64).abs().max(1.0);
            assert!((y[i] as f64 - value).abs() <= 2e-7 * scale, "{act:?}({x}) is {}, not {value}", y[i]);
            assert!(
                (dy[i] as f64 - 2.0 * slope).abs() <= 1e-6 * scale,
                "{act:?}'({x}) is {}, not 2 x {slope}",
                dy[i]
            );
        }
    }
}

/// The distance from the true value in units of the last place of f32 there.
#[cfg(not(shanty_f64))]
fn ulps(got: f32, want: f64) -> f64 {
    let near = (want as f32).abs().max(f32::MIN_POSITIVE);
    let unit = f32::from_bits(near.to_bits() + 1) - near;
    (got as f64 - want).abs() / unit as f64
}

#[test]
#[cfg(not(shanty_f64))]
fn exponentials_and_logarithms_are_within_two_ulp_and_keep_the_ends() {
    use crate::kernels::math::{exp, exp_m1, ln_1p, tanh};
    // All exponents, a few hundred mantissas each.
    let mut worst = [0.0f64; 4];
    for bits in (0..0x7f80_0000u32).step_by(20_011) {
        for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
            if x.abs() < 87.0 {
                worst[0] = worst[0].max(ulps(exp(x), (x as f64).exp()));
            }
            for tanh in [tanh::<false>, tanh::<true>] {
                worst[1] = worst[1].max(ulps(tanh(x), (x as f64).tanh()));
            }
            if x < 87.0 {
                worst[2] = worst[2].max(ulps(exp_m1(x), (x as f64).exp_m1()));
            }
            if (0.0..=1.0).contains(&x) {
                worst[3] = worst[3].max(ulps(ln_1p(x), (x as f64).ln_1p()));
            }
        }
    }
    assert!(worst.iter().all(|ulps| *ulps <= 2.0), "{worst:?} ulp");
    assert_eq!(
        (exp(f32::INFINITY), exp(f32::NEG_INFINITY), exp(89.0), exp(0.0)),
        (f32::INFINITY, 0.0, f32::INFINITY, 1.0)
    );
    assert!(exp(88.7).is_finite() && exp(-100.0) > 0.0 && exp(-110.0) == 0.0);
    for tanh in [tanh::<false>, tanh::<true>] {
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
    }
    assert!(exp(f32::NAN).is_nan());
    assert_eq!((exp_m1(f32::INFINITY), exp_m1(f32::NEG_INFINITY), exp_m1(0.0)), (f32::INFINITY, -1.0, 0.0));
    assert!(exp_m1(f32::NAN).is_nan() && ln_1p(f32::NAN).is_nan());
}

#[test]
fn no_activation_swallows_nan_or_overflows() {
    for act in ALL {
        let mut y = [Elem::NAN, -1e4, 1e4, -300.0, 300.0, -89.0, 89.0];
        let mut d = [1.0; 7];
        let x = y;
        act_inplace(act, &mut y);
        act_backward(act, if act.saves_input() { &x } else { &y }, &mut d);
        assert!(y[0].is_nan(), "{act:?} swallows NaN");
        assert!(y[1..].iter().chain(&d[1..]).all(|v| v.is_finite()), "{act:?}: {y:?}, slopes {d:?}");
        for (i, x) in x.iter().enumerate().skip(1) {
            let (value, slope) = truth(act, *x as f64);
            if value.is_finite() && slope.is_finite() {
                assert!((y[i] as f64 - value).abs() <= 2e-7 * (x.abs() as f64), "{act:?}({x}) is {}", y[i]);
                assert!((d[i] as f64 - slope).abs() <= 1e-6, "{act:?}'({x}) is {}, not {slope}", d[i]);
            }
        }
    }
}

/// Far out GELU is `x` or 0, not what a polynomial makes of it; and at 0 it is exact.
#[test]
fn gelu_keeps_the_ends() {
    let x = [Elem::MAX, 1e30, 14.0, 13.2, 5.5, 0.0, -5.5, -13.3, -14.0, -1e30, Elem::MIN];
    let (mut y, mut d) = (x, [1.0; 11]);
    act_inplace(Act::Gelu, &mut y);
    act_backward(Act::Gelu, &x, &mut d);
    for i in 0..5 {
        assert!((y[i] / x[i] - 1.0).abs() < 1e-7 && (d[i] - 1.0).abs() < 1e-5, "{} {} {}", x[i], y[i], d[i]);
    }
    assert_eq!((y[5], d[5]), (0.0, 0.5));
    // Python: -5.5 * 0.5 * math.erfc(5.5 / math.sqrt(2)).
    assert!((y[6] + 1.044_425_9e-7).abs() < 1e-8, "{}", y[6]);
    let end = if cfg!(shanty_f64) { 1e-35 } else { 0.0 };
    assert!(y[7..].iter().chain(&d[7..]).all(|v| v.abs() <= end), "{y:?} {d:?}");
}

#[test]
fn long_vectors_give_the_same_bits_on_one_and_two_threads() {
    let (x, y) = (noise(1, 200_001), noise(2, 200_001));
    let keep: Vec<u8> = x.iter().map(|v| (*v > 0.0) as u8).collect();
    let all = on_1_and_2_threads(|| {
        let mut out = vec![Elem::NAN; x.len()];
        act_forward(Act::Gelu, &x, &mut out);
        act_backward(Act::Tanh, &x, &mut out);
        axpy(0.5, &y, &mut out);
        dropout_inplace(&keep, 2.0, &mut out);
        let mut sum = vec![Elem::NAN; x.len()];
        add(&out, &y, &mut sum);
        scale(3.0, &mut sum);
        sum.push(sum_squares(&out) as Elem);
        sum.push(dot(&x, &y) as Elem);
        sum
    });
    for i in (0..x.len()).step_by(997) {
        let (x, y) = (x[i] as f64, y[i] as f64);
        let out = (truth(Act::Gelu, x).0 * (1.0 - x * x) + 0.5 * y) * if x > 0.0 { 2.0 } else { 0.0 };
        assert!((all[i] as f64 - 3.0 * (out + y)).abs() < 1e-5);
    }
    let want: f64 = x.iter().zip(&y).map(|(a, b)| *a as f64 * *b as f64).sum();
    assert!((all[x.len() + 1] as f64 - want).abs() < 1e-4 * want.abs().max(1.0));
}

#[test]
fn dropout_keeps_and_scales() {
    let mut y = [Elem::NAN; 4];
    dropout(&[1, 0, 255, 0], 2.0, &[1.0, 2.0, 3.0, Elem::INFINITY], &mut y);
    assert_eq!(y, [2.0, 0.0, 6.0, 0.0]);
}

#[test]
fn sums_of_rows_columns_and_channels() {
    for (rows, cols) in [
        (3, 5),
        (700, 300),
        (1, 1),
        (64, 10),
        (3, 70_000),
        (9, 8_000),
        (20_000, 65),
        (1, 100_000),
        (2, 65_535),
    ] {
        let x = noise(rows as u64, rows * cols);
        let of = |f: &dyn Fn(usize) -> usize, n: usize| {
            let mut s = vec![0.0f64; n];
            x.iter().enumerate().for_each(|(i, v)| s[f(i)] += *v as f64);
            s
        };
        let got = on_1_and_2_threads(|| {
            let mut s = vec![Elem::NAN; cols];
            col_sums(&x, 0.0, &mut s);
            s
        });
        close(&got, &of(&|i| i % cols, cols), 2e-6, "column sums");
        let got = on_1_and_2_threads(|| {
            let mut s = vec![1.0; rows];
            row_sums(&x, 2.0, &mut s);
            s
        });
        let want: Vec<f64> = of(&|i| i / cols, rows).iter().map(|v| v + 2.0).collect();
        // Blocks of 4096 are summed in f32, whose errors add up over many of them.
        close(&got, &want, if cols > 10_000 { 3e-5 } else { 2e-6 }, "row sums");
    }
    let (n, c, inner) = (40, 7, 500);
    let x = noise(9, n * c * inner);
    let mut want = vec![0.0f64; c];
    x.iter().enumerate().for_each(|(i, v)| want[i / inner % c] += *v as f64);
    let got = on_1_and_2_threads(|| {
        let mut s = vec![Elem::NAN; c];
        channel_sums(n, c, inner, &x, 0.0, &mut s);
        s
    });
    close(&got, &want, 1e-6, "channel sums");
    col_sums(&[], 0.0, &mut []);
}

#[test]
fn sgd_takes_torchs_steps() {
    // torch.optim.SGD(lr=0.1, momentum=0.9, dampening=d, weight_decay=0.01, nesterov=n) by hand, p = 1, g = 0.5 twice.
    for (nesterov, dampening) in [(false, 0.0), (false, 0.5), (true, 0.0)] {
        let (mut p, mut buf) = (vec![1.0; 70_000], vec![Elem::NAN; 70_000]);
        let (mut want, mut b) = (1.0f64, 0.0f64);
        for i in 0..3 {
            let g = vec![1.0; p.len()];
            let step = SgdStep {
                lr: 0.1,
                momentum: 0.9,
                entering: 1.0 - dampening,
                weight_decay: 0.01,
                nesterov,
                grad_scale: 0.5,
                first: i == 0,
            };
            sgd_momentum(&step, &mut p, &g, Some(&mut buf));
            let d = 0.5 + 0.01 * want;
            b = if i == 0 { d } else { 0.9 * b + (1.0 - dampening as f64) * d };
            want -= 0.1 * if nesterov { d + 0.9 * b } else { b };
            assert!(p.iter().all(|p| (*p as f64 - want).abs() < 1e-6), "{} is not {want}", p[0]);
        }
    }
    let mut p = [1.0];
    sgd_momentum(&SgdStep { lr: 0.1, ..SgdStep::default() }, &mut p, &[0.5], None);
    assert!((p[0] - 0.95).abs() < 1e-7);
}
