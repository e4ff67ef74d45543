//! Values in bf16: a kernel that reads them does what it does with the same numbers in full, and one that writes them
//! rounds what it writes in full.

use super::noise;
use crate::base::Elem;
use crate::kernels::number::{Number, Numbers, NumbersMut, bf16, narrow, widen};
use crate::kernels::{
    Act, AttentionArgs, AttnGeom, AttnOutput, AttnSaved, Bias, BnAffine, BnEpilogue, BnGrads, BnSaved,
    BnShape, ConvGeom, Epilogue, LayerEpilogue, LayerNormAffine, LayerNormStatsMut, Mat, MatMut, Moments,
    MomentsMut, PoolGeom, Precision, Window, act_backward, act_forward, add_halves, attention_packed,
    attention_packed_backward, bn_backward, bn_train, col_sums, conv2d, conv2d_backward_data,
    conv2d_backward_weight, gelu_halves, gemm, gemm_gelu_of_half, gemm_gelu_slope, layer_norm, max_pool2d,
    max_pool2d_backward, with_precision,
};

/// Noise in bf16, and the same numbers in full.
fn halves(seed: u64, len: usize) -> (Vec<bf16>, Vec<Elem>) {
    let (mut half, mut full) = (vec![bf16::ZERO; len], vec![0.0; len]);
    narrow(&noise(seed, len), &mut half);
    widen(&half, &mut full);
    (half, full)
}

fn rounded(full: &[Elem]) -> Vec<bf16> {
    full.iter().map(|v| bf16::of(*v)).collect()
}

fn bits(half: &[bf16]) -> Vec<u16> {
    half.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn column_sums_read_bf16() {
    let (half, full) = halves(16, 7 * 30);
    let sums = |x: Numbers<'_>| {
        let mut sums = vec![Elem::NAN; 30];
        col_sums(x, 0.0, &mut sums);
        sums
    };
    assert_eq!(sums(Numbers::Half(&half)), sums(Numbers::Full(&full)));
}

#[test]
fn sums_of_halves_are_rounded() {
    let ((x, full_x), (mut y, full_y)) = (halves(1, 70_000), halves(2, 70_000));
    add_halves(&x, &mut y);
    let sums: Vec<Elem> = full_x.iter().zip(&full_y).map(|(x, y)| x + y).collect();
    assert_eq!(bits(&y), bits(&rounded(&sums)));
}

#[test]
fn convolutions_read_and_write_bf16() {
    for (input, k, kernel, stride, padding, groups) in [
        ([3, 16, 9, 7], 32, [3, 3], [1, 1], [1, 1], 1),
        ([2, 32, 12, 10], 48, [3, 3], [1, 1], [1, 1], 1),
        ([2, 32, 8, 8], 16, [3, 3], [2, 2], [1, 1], 1),
        ([2, 32, 16, 16], 48, [1, 1], [1, 1], [0, 0], 1),
        ([2, 64, 32, 32], 33, [1, 1], [2, 2], [0, 0], 1),
        ([3, 3, 12, 12], 16, [3, 3], [1, 1], [1, 1], 1),
        ([2, 32, 9, 9], 32, [3, 3], [1, 1], [1, 1], 32),
    ] {
        let g =
            ConvGeom::new(input, k, Window { kernel, stride, padding, dilation: [1, 1] }, groups).unwrap();
        let ((x, full_x), (dy, full_dy)) = (halves(3, g.x_len()), halves(4, g.y_len()));
        let w = noise(5, g.w_len());
        with_precision(Precision::Bf16, || {
            let mut want = vec![Elem::NAN; g.y_len()];
            conv2d(&g, &full_x, &w, LayerEpilogue::default(), &mut want);
            let mut got = vec![Elem::NAN; g.y_len()];
            conv2d(&g, Numbers::Half(&x), &w, LayerEpilogue::default(), &mut got);
            assert_eq!(got, want, "{g:?}");
            let mut dx = vec![Elem::NAN; g.x_len()];
            conv2d_backward_data(&g, &full_dy, &w, &mut dx);
            let mut half = vec![bf16::ZERO; g.y_len()];
            conv2d(&g, Numbers::Half(&x), &w, LayerEpilogue::default(), NumbersMut::Half(&mut half));
            assert_eq!(bits(&half), bits(&rounded(&want)), "{g:?}");
            let mut half = vec![bf16::ZERO; g.x_len()];
            conv2d_backward_data(&g, Numbers::Half(&dy), &w, NumbersMut::Half(&mut half));
            assert_eq!(bits(&half), bits(&rounded(&dx)), "{g:?}");
            let mut got = vec![Elem::NAN; g.x_len()];
            conv2d_backward_data(&g, Numbers::Half(&dy), &w, &mut got);
            assert_eq!(got, dx, "{g:?}");
            let weight = |x: Numbers<'_>, dy: Numbers<'_>| {
                let (mut dw, mut db) = (vec![Elem::NAN; g.w_len()], vec![Elem::NAN; g.k]);
                conv2d_backward_weight(&g, x, dy, 0.0, &mut dw, Some(&mut db));
                (dw, db)
            };
            let want = weight(Numbers::Full(&full_x), Numbers::Full(&full_dy));
            assert_eq!(weight(Numbers::Half(&x), Numbers::Half(&dy)), want, "{g:?}");
        });
    }
}

/// Kernels that write in full go over large values in parts, by kernels of fewer images and with sums in another order.
#[test]
fn convolutions_of_many_numbers_in_bf16() {
    let near = |got: &[bf16], want: &[Elem]| {
        let far = |(a, b): (&bf16, &Elem)| (a.wide() - b).abs() > b.abs() / 256.0 + 1e-4;
        assert!(!got.iter().zip(want).any(far));
    };
    let window = Window { padding: [1, 1], ..Window::new([3, 3]) };
    for (c, k, groups) in [(3, 25, 1), (24, 24, 24)] {
        let g = ConvGeom::new([5, c, 120, 100], k, window, groups).unwrap();
        let ((x, full_x), (dy, full_dy)) = (halves(17, g.x_len()), halves(18, g.y_len()));
        let w = noise(19, g.w_len());
        with_precision(Precision::Bf16, || {
            let (mut want, mut got) = (vec![Elem::NAN; g.y_len()], vec![bf16::ZERO; g.y_len()]);
            conv2d(&g, &full_x, &w, LayerEpilogue::default(), &mut want);
            conv2d(&g, Numbers::Half(&x), &w, LayerEpilogue::default(), NumbersMut::Half(&mut got));
            near(&got, &want);
            let (mut want, mut got) = (vec![Elem::NAN; g.x_len()], vec![bf16::ZERO; g.x_len()]);
            conv2d_backward_data(&g, &full_dy, &w, &mut want);
            conv2d_backward_data(&g, Numbers::Half(&dy), &w, NumbersMut::Half(&mut got));
            near(&got, &want);
            let (mut want, mut got) = (vec![1.0; g.w_len()], vec![1.0; g.w_len()]);
            conv2d_backward_weight(&g, &full_x, &full_dy, 0.5, &mut want, None);
            conv2d_backward_weight(&g, Numbers::Half(&x), Numbers::Half(&dy), 0.5, &mut got, None);
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 0.01), "{got:?}, {want:?}");
        });
    }
}

#[test]
fn batch_norms_read_and_write_bf16() {
    for (s, residual) in [
        (BnShape { n: 3, c: 5, inner: 100 }, true),
        (BnShape { n: 4, c: 3, inner: 9 }, true),
        (BnShape { n: 4, c: 3, inner: 77 }, false),
    ] {
        let len = s.n * s.c * s.inner;
        let ((x, full_x), (res, full_res), (dy, full_dy)) = (halves(6, len), halves(7, len), halves(8, len));
        let gamma = noise(9, s.c);
        let affine = BnAffine { gamma: Some(&gamma), beta: None, eps: 1e-5 };
        let run = |x: Numbers<'_>, res: Numbers<'_>, y: NumbersMut<'_>| {
            let (mut mean, mut var) = (vec![0.0; s.c], vec![0.0; s.c]);
            let epilogue = BnEpilogue { residual: residual.then_some(res), relu: Some(Elem::INFINITY) };
            bn_train(s, x, affine, epilogue, y, MomentsMut { mean: &mut mean, var: &mut var });
            (mean, var)
        };
        let (mut y, mut full_y) = (vec![bf16::ZERO; len], vec![Elem::NAN; len]);
        let moments = run(Numbers::Full(&full_x), Numbers::Full(&full_res), NumbersMut::Full(&mut full_y));
        let got = run(Numbers::Half(&x), Numbers::Half(&res), NumbersMut::Half(&mut y));
        assert_eq!(got, moments, "{s:?}");
        assert_eq!(bits(&y), bits(&rounded(&full_y)), "{s:?}");

        let moments = Moments { mean: &moments.0, var: &moments.1 };
        let back = |x: Numbers<'_>, y: Numbers<'_>, dy: NumbersMut<'_>, dres: NumbersMut<'_>| {
            let saved = BnSaved { x, y: Some((y, Elem::INFINITY)), gamma: Some(&gamma), moments, eps: 1e-5 };
            let (mut dg, mut db) = (vec![0.0; s.c], vec![0.0; s.c]);
            let dresidual = residual.then_some(dres);
            bn_backward(s, saved, BnGrads { dy, dgamma: &mut dg, dbeta: &mut db, dresidual });
            (dg, db)
        };
        let (mut dx, mut dres) = (full_dy, vec![0.0; len]);
        let (half_y, mut half_dx, mut half_dres) = (y, dy, vec![bf16::ZERO; len]);
        let want = back(
            Numbers::Full(&full_x),
            Numbers::Full(&full_y),
            NumbersMut::Full(&mut dx),
            NumbersMut::Full(&mut dres),
        );
        let got = back(
            Numbers::Half(&x),
            Numbers::Half(&half_y),
            NumbersMut::Half(&mut half_dx),
            NumbersMut::Half(&mut half_dres),
        );
        assert_eq!(got, want, "{s:?}");
        assert_eq!(bits(&half_dx), bits(&rounded(&dx)), "{s:?}");
        assert_eq!(bits(&half_dres), bits(&rounded(&dres)), "{s:?}");
    }
}

#[test]
fn products_read_and_write_bf16() {
    for (m, k, n) in [(40, 70, 50), (3, 4, 5), (300, 33, 90), (50, 33, 700), (40, 1100, 33)] {
        let bias = noise(15, n);
        let ((a, full_a), (b, full_b)) = (halves(10, m * k), halves(11, k * n));
        for precision in [Precision::Full, Precision::Bf16, Precision::F16] {
            with_precision(precision, || {
                let product = |a: Mat<'_>, b: Mat<'_>| {
                    let (mut c, mut half) = (vec![Elem::NAN; m * n], vec![bf16::ZERO; m * n]);
                    let then = Epilogue { bias: Bias::Cols(&bias), act: Act::Relu };
                    gemm(1.0, a, b, 0.0, MatMut::new(&mut c, m, n), then);
                    gemm(1.0, a, b, 0.0, MatMut::new(NumbersMut::Half(&mut half), m, n), then);
                    assert_eq!(bits(&half), bits(&rounded(&c)), "{m} x {k} x {n}, {precision:?}");
                    c
                };
                let want = product(Mat::new(&full_a, m, k), Mat::new(&full_b, k, n));
                let got = product(Mat::new(Numbers::Half(&a), m, k), Mat::new(Numbers::Half(&b), k, n));
                assert_eq!(got, want, "{m} x {k} x {n}, {precision:?}");
                let want = product(Mat::new(&full_a, k, m).t(), Mat::new(&full_b, n, k).t());
                let got =
                    product(Mat::new(Numbers::Half(&a), k, m).t(), Mat::new(Numbers::Half(&b), n, k).t());
                assert_eq!(got, want, "transposed {m} x {k} x {n}, {precision:?}");
            });
        }
    }
}

/// The largest of rounded numbers is one of them, NaN and infinity too; gradients of windows that overlap are rounded once.
#[test]
fn maxima_are_taken_of_bf16() {
    for (input, kernel, stride, padding) in
        [([3, 5, 9, 7], 3, 2, 1), ([2, 40, 33, 33], 3, 1, 1), ([1, 4, 8, 8], 2, 2, 0)]
    {
        let window = Window { stride: [stride; 2], padding: [padding; 2], ..Window::new([kernel; 2]) };
        let g = PoolGeom::new(input, window, false).unwrap();
        let (mut x, mut full_x) = halves(30, g.x_len());
        for (at, odd) in [(3, Elem::NAN), (17, Elem::INFINITY), (30, Elem::NEG_INFINITY)] {
            (x[at], full_x[at]) = (bf16::of(odd), odd);
        }
        let (mut y, mut full_y) = (vec![bf16::ZERO; g.y_len()], vec![0.0; g.y_len()]);
        let (mut at, mut full_at) = (vec![7; g.y_len()], vec![9; g.y_len()]);
        max_pool2d(&g, Numbers::Half(&x), NumbersMut::Half(&mut y), &mut at);
        max_pool2d(&g, &full_x, &mut full_y, &mut full_at);
        assert_eq!(at, full_at);
        assert_eq!(bits(&y), bits(&rounded(&full_y)));
        let (dy, full_dy) = halves(31, g.y_len());
        let (mut dx, mut full_dx) = (vec![bf16::ONE; g.x_len()], vec![Elem::NAN; g.x_len()]);
        max_pool2d_backward(&g, Numbers::Half(&dy), &at, None, NumbersMut::Half(&mut dx));
        max_pool2d_backward(&g, &full_dy, &at, None, &mut full_dx);
        assert_eq!(bits(&dx), bits(&rounded(&full_dx)));
        max_pool2d_backward(&g, &full_dy, &at, None, NumbersMut::Half(&mut dx));
        assert_eq!(bits(&dx), bits(&rounded(&full_dx)));
    }
}

#[test]
fn gelu_is_found_again_from_rounded_sums() {
    let (m, k, n) = (66, 40, 50);
    let ((a, full_a), b, bias) = (halves(20, m * k), noise(21, k * n), noise(22, n));
    let (mut sums, mut values) = (vec![Elem::NAN; m * n], vec![bf16::ZERO; m * n]);
    let mut at = values.clone();
    let (left, right) = (Mat::new(Numbers::Half(&a), m, k), Mat::new(&b, k, n));
    let to = MatMut::new(NumbersMut::Half(&mut values), m, n);
    gemm_gelu_of_half(left, right, &bias, to, &mut at);
    let then = Epilogue { bias: Bias::Cols(&bias), act: Act::Identity };
    gemm(1.0, Mat::new(&full_a, m, k), right, 0.0, MatMut::new(&mut sums, m, n), then);
    assert_eq!(bits(&at), bits(&rounded(&sums)));
    let mut again = vec![bf16::ZERO; m * n];
    gelu_halves(&at, &mut again);
    assert_eq!(bits(&again), bits(&values));

    let mut full_at = vec![0.0; m * n];
    widen(&at, &mut full_at);
    let (mut wanted, mut slope) = (vec![0.0; m * n], vec![1.0; m * n]);
    act_forward(Act::Gelu, &full_at, &mut wanted);
    assert_eq!(bits(&values), bits(&rounded(&wanted)));
    act_backward(Act::Gelu, &full_at, &mut slope);
    let (mut product, mut got) = (vec![0.0; m * n], vec![0.0; m * n]);
    gemm(1.0, left, right, 0.0, MatMut::new(&mut product, m, n), Epilogue::default());
    gemm_gelu_slope(left, right, &at, MatMut::new(&mut got, m, n));
    for ((got, product), slope) in got.iter().zip(&product).zip(&slope) {
        assert!((got - product * slope).abs() < 1e-5, "{got} is not {product} times {slope}");
    }
}

#[test]
fn attention_and_layer_norm_read_and_write_bf16() {
    let g = AttnGeom { batch: 2, heads: 3, q_len: 33, k_len: 33, dim: 32 };
    let (width, rows) = (96, 66);
    let ((qkv, full_qkv), dout) = (halves(12, rows * 3 * width), noise(13, rows * width));
    let opts = AttentionArgs::default();
    with_precision(Precision::Bf16, || {
        let (mut out, mut half, mut lse) =
            (vec![0.0; rows * width], vec![bf16::ZERO; rows * width], vec![0.0; rows * 3]);
        let to = AttnOutput { out: NumbersMut::Half(&mut half), lse: &mut lse };
        attention_packed(&g, opts, Numbers::Half(&qkv), to);
        attention_packed(&g, opts, &full_qkv, AttnOutput { out: (&mut out).into(), lse: &mut lse });
        assert_eq!(bits(&half), bits(&rounded(&out)));
        let mut full_out = vec![0.0; half.len()];
        widen(&half, &mut full_out);
        let back = |qkv: Numbers<'_>, out: Numbers<'_>| {
            let (mut dqkv, mut half) =
                (vec![Elem::NAN; rows * 3 * width], vec![bf16::ZERO; rows * 3 * width]);
            let saved = AttnSaved { out, lse: &lse };
            attention_packed_backward(&g, opts, qkv, saved, &dout, &mut dqkv);
            attention_packed_backward(&g, opts, qkv, saved, &dout, NumbersMut::Half(&mut half));
            assert_eq!(bits(&half), bits(&rounded(&dqkv)));
            dqkv
        };
        let want = back(Numbers::Full(&full_qkv), Numbers::Full(&full_out));
        assert_eq!(back(Numbers::Half(&qkv), Numbers::Half(&half)), want);
    });
    let x = noise(14, rows * width);
    let norm = |y: NumbersMut<'_>| {
        let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
        let stats = LayerNormStatsMut { mean: &mut mean, rstd: &mut rstd };
        layer_norm(width, &x, LayerNormAffine::default(), 1e-5, y, stats);
    };
    let (mut full, mut half) = (vec![0.0; rows * width], vec![bf16::ZERO; rows * width]);
    norm(NumbersMut::Full(&mut full));
    norm(NumbersMut::Half(&mut half));
    assert_eq!(bits(&half), bits(&rounded(&full)));
}
