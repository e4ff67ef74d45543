//! Matrix products against the definition.

use super::{close, noise, on_1_and_2_threads, pick};
use crate::base::{Elem, keyed};
use crate::kernels::number::Number;
use crate::kernels::{
    Act, Bias, Epilogue, Mat, MatMut, Precision, act_backward, gemm, gemm_add, gemm_gelu, gemm_mul,
    with_precision,
};

/// What a product of `multiplications` makes of an operand: those of fewer than 32,768 are not rounded.
#[allow(clippy::unnecessary_cast)] // Elem may be f64
fn operand(precision: Precision, multiplications: usize, v: Elem) -> f64 {
    match precision {
        _ if multiplications < 32_768 => v as f64,
        Precision::Full => v as f64,
        Precision::Bf16 => half::bf16::from_f32(v as f32).to_f64(),
        Precision::F16 => half::f16::from_f32(v as f32).to_f64(),
    }
}

/// [`check_in`] full precision.
fn check(m: usize, k: usize, n: usize, t: (bool, bool), numbers: (Elem, Elem), extra: usize, seed: u64) {
    check_in(Precision::Full, [m, k, n], t, numbers, extra, seed);
}

/// One product in every layout, with stale output, padding between rows, bias and activation.
fn check_in(
    precision: Precision,
    [m, k, n]: [usize; 3],
    (ta, tb): (bool, bool),
    (alpha, beta): (Elem, Elem),
    extra: usize,
    seed: u64,
) {
    let (rs_a, rs_b, rs) = (if ta { m } else { k } + extra, if tb { k } else { n } + extra, n + extra);
    let a = noise(seed, (if ta { k } else { m }) * rs_a);
    let b = noise(seed + 1, (if tb { n } else { k }) * rs_b);
    let old = if beta == 0.0 { vec![Elem::NAN; m * rs] } else { noise(seed + 2, m * rs) };
    let bias = noise(seed + 3, m.max(n));
    let a = if ta {
        Mat { data: (&a).into(), rows: k, cols: m, rs: rs_a, cs: 1 }.t()
    } else {
        Mat { data: (&a).into(), rows: m, cols: k, rs: rs_a, cs: 1 }
    };
    let b = if tb {
        Mat { data: (&b).into(), rows: n, cols: k, rs: rs_b, cs: 1 }.t()
    } else {
        Mat { data: (&b).into(), rows: k, cols: n, rs: rs_b, cs: 1 }
    };
    let ep = match seed % 3 {
        0 => Epilogue::default(),
        1 => Epilogue { bias: Bias::Cols(&bias[..n]), act: Act::Relu },
        _ => Epilogue { bias: Bias::Rows(&bias[..m]), act: Act::Identity },
    };
    let got = on_1_and_2_threads(|| {
        let mut c = old.clone();
        with_precision(precision, || {
            gemm(alpha, a, b, beta, MatMut { data: (&mut c).into(), rows: m, cols: n, rs }, ep);
        });
        c
    });
    let what = format!(
        "{precision:?}, {m} x {k} x {n}, transposed {ta} {tb}, alpha {alpha}, beta {beta}, {extra} between rows"
    );
    let (mut of_product, mut want) = (Vec::new(), Vec::new());
    for i in 0..m {
        for j in 0..rs {
            if j >= n {
                assert_eq!(
                    got[i * rs + j].to_bits(),
                    old[i * rs + j].to_bits(),
                    "{what}: wrote between rows"
                );
                continue;
            }
            let of = |v| operand(precision, m * k * n, v);
            let (left, right) = (Elem::all(a.data), Elem::all(b.data));
            let sum: f64 =
                (0..k).map(|p| of(left[i * a.rs + p * a.cs]) * of(right[p * b.rs + j * b.cs])).sum();
            let mut v =
                alpha as f64 * sum + if beta == 0.0 { 0.0 } else { beta as f64 * old[i * rs + j] as f64 };
            match ep.bias {
                Bias::None => {}
                Bias::Cols(b) => v += b[j] as f64,
                Bias::Rows(b) => v += b[i] as f64,
            }
            want.push(if ep.act == Act::Relu { v.max(0.0) } else { v });
            of_product.push(got[i * rs + j]);
        }
    }
    close(&of_product, &want, 3e-6, &what);
}

#[test]
fn random_products_equal_the_definition() {
    random_products(Precision::Full, 200);
}

/// Sums of rounded operands are those of the definition: only the operands lose bits.
#[test]
fn random_products_of_rounded_operands_equal_the_definition() {
    random_products(Precision::Bf16, 200);
    random_products(Precision::F16, 50);
}

fn random_products(precision: Precision, count: u64) {
    let mut rng = keyed(3, "products", 0, 0);
    for seed in 0..count {
        let mut p = |range| pick(&mut rng, range);
        let (m, k, n) = match p(0..=3) {
            0 => (p(1..=9), p(1..=9), p(1..=9)),
            1 => (p(100..=300), p(1..=40), p(1..=80)),
            2 => (p(1..=70), p(1..=100), p(100..=300)),
            _ => (p(1..=40), p(900..=1100), p(1..=40)),
        };
        let numbers = [(1.0, 0.0), (1.0, 1.0), (0.5, 0.0), (1.0, -0.5), (-2.0, 0.25)][p(0..=4)];
        let layout = (p(0..=1) == 1, p(0..=1) == 1);
        let extra = [0, 0, 3][p(0..=2)];
        check_in(precision, [m, k, n], layout, numbers, extra, seed);
    }
}

#[test]
fn operands_that_are_gathered_first() {
    // Rows 512 apart, columns far apart, several blocks of the inner size.
    check(64, 512, 200, (false, true), (1.0, 0.0), 0, 0);
    check(110, 1024, 300, (false, false), (1.0, 1.0), 0, 1);
    check(130, 2100, 70, (false, true), (0.5, -0.5), 0, 2);
    check(300, 2100, 100, (true, false), (1.0, 0.0), 0, 4);
    check(70, 1500, 600, (true, true), (1.0, 0.5), 0, 5);
}

#[test]
fn strides_in_both_directions() {
    // Every second column of every third row.
    let (a, b) = (noise(1, 400), noise(2, 400));
    let x = Mat { data: (&a).into(), rows: 5, cols: 6, rs: 36, cs: 2 };
    let y = Mat { data: (&b).into(), rows: 6, cols: 7, rs: 40, cs: 3 };
    let mut c = vec![Elem::NAN; 35];
    gemm(1.0, x, y, 0.0, MatMut::new(&mut c, 5, 7), Epilogue::default());
    let want = |i: usize, j: usize| (0..6).map(|p| a[i * 36 + p * 2] as f64 * b[p * 40 + j * 3] as f64).sum();
    let want: Vec<f64> = (0..35).map(|i| want(i / 7, i % 7)).collect();
    close(&c, &want, 1e-6, "strided product");
}

#[test]
fn products_without_elements() {
    // [2, 0] x [0, 3]: zeros, or the bias; the shape is kept.
    let (none, bias) = (Mat::new(&[], 2, 0), [1.0, 2.0, 3.0]);
    let mut c = [Elem::NAN; 6];
    gemm(1.0, none, Mat::new(&[], 0, 3), 0.0, MatMut::new(&mut c, 2, 3), Epilogue::default());
    assert_eq!(c, [0.0; 6]);
    let ep = Epilogue { bias: Bias::Cols(&bias), act: Act::Identity };
    gemm(1.0, none, Mat::new(&[], 0, 3), 0.0, MatMut::new(&mut c, 2, 3), ep);
    assert_eq!(c, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    gemm(1.0, none, Mat::new(&[], 0, 3), 2.0, MatMut::new(&mut c, 2, 3), Epilogue::default());
    assert_eq!(c, [2.0, 4.0, 6.0, 2.0, 4.0, 6.0]);
    // No rows or no columns: nothing to do.
    gemm(
        1.0,
        Mat::new(&[], 0, 4),
        Mat::new(&[0.0; 12], 4, 3),
        0.0,
        MatMut::new(&mut [], 0, 3),
        Epilogue::default(),
    );
    gemm(
        1.0,
        Mat::new(&[0.0; 8], 2, 4),
        Mat::new(&[], 4, 0),
        0.0,
        MatMut::new(&mut [], 2, 0),
        Epilogue::default(),
    );
}

/// The fused ends are the plain product and what follows it, for shapes whose vectors come from either operand, with
/// rests, on stale results.
#[test]
fn fused_ends_are_the_steps_one_by_one() {
    for (m, k, n) in [(1, 1, 1), (300, 20, 70), (5, 33, 100), (200, 48, 3), (130, 96, 192), (64, 7, 17)] {
        let (a, b) = (noise(1, m * k), noise(2, n * k));
        let (bias, more) = (noise(3, n), noise(4, m * n));
        let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, n, k).t());
        let to = |c: &mut Vec<Elem>| {
            c.resize(m * n, 0.0);
            c.fill(Elem::NAN);
        };
        let product = |ep: Epilogue<'_>| {
            let mut c = vec![Elem::NAN; m * n];
            gemm(1.0, a, b, 0.0, MatMut::new(&mut c, m, n), ep);
            c
        };
        let sum = product(Epilogue { bias: Bias::Cols(&bias), act: Act::Identity });
        let got = on_1_and_2_threads(|| {
            let mut c = Vec::new();
            to(&mut c);
            gemm_add(a, b, Bias::Cols(&bias), &more, MatMut::new(&mut c, m, n));
            c
        });
        let want: Vec<f64> = sum.iter().zip(&more).map(|(s, r)| f64::from(s + r)).collect();
        close(&got, &want, 0.0, "sum");
        let got = on_1_and_2_threads(|| {
            let mut c = Vec::new();
            to(&mut c);
            gemm_mul(a, b, &more, MatMut::new(&mut c, m, n));
            c
        });
        let plain = product(Epilogue::default());
        let want: Vec<f64> = plain.iter().zip(&more).map(|(s, r)| f64::from(s * r)).collect();
        close(&got, &want, 0.0, "product");
        let got = on_1_and_2_threads(|| {
            let (mut c, mut slope) = (Vec::new(), Vec::new());
            to(&mut c);
            to(&mut slope);
            gemm_gelu(a, b, &bias, MatMut::new(&mut c, m, n), &mut slope);
            c.extend(slope);
            c
        });
        let mut slope = vec![1.0; m * n];
        act_backward(Act::Gelu, &sum, &mut slope);
        let value = product(Epilogue { bias: Bias::Cols(&bias), act: Act::Gelu });
        let want: Vec<f64> = value.into_iter().chain(slope).map(f64::from).collect();
        close(&got, &want, 0.0, "GELU and its slope");
    }
}
