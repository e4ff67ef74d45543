//! Batch and layer normalisation against the formulas in f64.

use super::{close, noise, on_1_and_2_threads};
use crate::base::Elem;
use crate::kernels::*;

const EPS: Elem = 1e-5;

/// Mean, biased variance, output; then dx, dgamma, dbeta, dresidual for the gradient `dy`.
fn batch_norm(
    s: BnShape,
    x: &[Elem],
    g: &[Elem],
    b: &[Elem],
    res: &[Elem],
    relu: Option<Elem>,
    dy: &[Elem],
) -> [Vec<f64>; 7] {
    let channel = |i: usize| i / s.inner % s.c;
    let count = s.count() as f64;
    let (mut mean, mut var) = (vec![0.0f64; s.c], vec![0.0f64; s.c]);
    x.iter().enumerate().for_each(|(i, v)| mean[channel(i)] += *v as f64 / count);
    x.iter().enumerate().for_each(|(i, v)| var[channel(i)] += (*v as f64 - mean[channel(i)]).powi(2) / count);
    let xhat = |i: usize| (x[i] as f64 - mean[channel(i)]) / (var[channel(i)] + EPS as f64).sqrt();
    let raw = |i: usize| xhat(i) * g[channel(i)] as f64 + b[channel(i)] as f64 + res[i] as f64;
    let y: Vec<f64> =
        (0..x.len()).map(|i| relu.map_or(raw(i), |most| raw(i).clamp(0.0, most as f64))).collect();
    let passes = |i: usize| relu.is_none_or(|most| raw(i) > 0.0 && raw(i) < most as f64);
    let dres: Vec<f64> = (0..x.len()).map(|i| if passes(i) { dy[i] as f64 } else { 0.0 }).collect();
    let (mut dg, mut db) = (vec![0.0; s.c], vec![0.0; s.c]);
    for (i, d) in dres.iter().enumerate() {
        dg[channel(i)] += d * xhat(i);
        db[channel(i)] += d;
    }
    let dx = (0..x.len())
        .map(|i| {
            let c = channel(i);
            g[c] as f64 / (var[c] + EPS as f64).sqrt() * (dres[i] - db[c] / count - xhat(i) * dg[c] / count)
        })
        .collect();
    [mean, var, y, dx, dg, db, dres]
}

#[test]
fn batch_norm_with_relu_and_residual_equals_the_formulas() {
    for (n, c, inner) in [(4, 3, 25), (64, 16, 100), (5, 6, 1), (9, 2, 1030), (3, 40, 16)] {
        let s = BnShape { n, c, inner };
        let len = n * c * inner;
        let (x, res, dy) = (noise(1, len), noise(2, len), noise(3, len));
        let (g, b) = (noise(4, c), noise(5, c));
        let (plain, cut) = (Some(Elem::INFINITY), Some(0.75));
        let cases = [(None, false), (plain, false), (plain, true), (None, true), (cut, false), (cut, true)];
        for (relu, with_res) in cases {
            let zeros = vec![0.0; len];
            let want = batch_norm(s, &x, &g, &b, if with_res { &res } else { &zeros }, relu, &dy);
            let res = with_res.then_some(&res[..]);
            let got = on_1_and_2_threads(|| {
                let (mut mean, mut var) = (vec![Elem::NAN; c], vec![Elem::NAN; c]);
                let (mut y, mut dx, mut dres) = (vec![Elem::NAN; len], dy.clone(), vec![Elem::NAN; len]);
                let (mut dg, mut db) = (vec![Elem::NAN; c], vec![Elem::NAN; c]);
                let affine = BnAffine { gamma: Some(&g), beta: Some(&b), eps: EPS };
                let moments = MomentsMut { mean: &mut mean, var: &mut var };
                bn_train(s, &x, affine, BnEpilogue { residual: res.map(Into::into), relu }, &mut y, moments);
                let moments = Moments { mean: &mean, var: &var };
                let saved = BnSaved {
                    x: (&x).into(),
                    y: relu.map(|most| ((&y).into(), most)),
                    gamma: Some(&g),
                    moments,
                    eps: EPS,
                };
                let dresidual = Some((&mut dres).into());
                bn_backward(
                    s,
                    saved,
                    BnGrads { dy: (&mut dx).into(), dgamma: &mut dg, dbeta: &mut db, dresidual },
                );
                [mean, var, y, dx, dg, db, dres].concat()
            });
            close(&got, &want.concat(), 1e-5, &format!("{s:?}, relu {relu:?}, residual {with_res}"));
        }
    }
}

#[test]
fn one_channel_by_hand() {
    // [1, 2, 3, 4]: mean 2.5, biased variance 1.25; the running variance takes 1.25 * 4 / 3.
    let s = BnShape { n: 4, c: 1, inner: 1 };
    let (mut y, mut mean, mut var) = ([Elem::NAN; 4], [Elem::NAN], [Elem::NAN]);
    let moments = MomentsMut { mean: &mut mean, var: &mut var };
    bn_train(s, &[1.0, 2.0, 3.0, 4.0], BnAffine::default(), BnEpilogue::default(), &mut y, moments);
    assert_eq!((mean[0], var[0]), (2.5, 1.25));
    let want = [-1.5, -0.5, 0.5, 1.5].map(|v: f64| v / 1.25f64.sqrt());
    close(&y, &want, 1e-6, "normalised");
}

#[test]
fn a_large_mean_does_not_cancel() {
    let s = BnShape { n: 8, c: 1, inner: 1000 };
    let x: Vec<Elem> = (0..8000).map(|i| 4000.0 + (i % 2) as Elem).collect();
    let (mut y, mut mean, mut var) = (vec![Elem::NAN; x.len()], [0.0], [0.0]);
    let moments = MomentsMut { mean: &mut mean, var: &mut var };
    bn_train(s, &x, BnAffine::default(), BnEpilogue::default(), &mut y, moments);
    assert_eq!((mean[0], var[0]), (4000.5, 0.25));
}

#[test]
fn constant_statistics_have_no_gradient() {
    let s = BnShape { n: 3, c: 4, inner: 10 };
    let (x, dy, g) = (noise(1, 120), noise(2, 120), noise(3, 4));
    let (mean, var) = (noise(4, 4), [0.5, 1.0, 2.0, 3.0]);
    let moments = Moments { mean: &mean, var: &var };
    let mut y = vec![Elem::NAN; 120];
    let affine = BnAffine { gamma: Some(&g), beta: None, eps: EPS };
    bn_apply(s, &x, moments, affine, BnEpilogue { residual: None, relu: Some(Elem::INFINITY) }, &mut y);
    let scale = |i: usize| g[i / 10 % 4] as f64 / (var[i / 10 % 4] as f64 + EPS as f64).sqrt();
    let raw = |i: usize| (x[i] as f64 - mean[i / 10 % 4] as f64) * scale(i);
    let want: Vec<f64> = (0..120).map(|i| raw(i).max(0.0)).collect();
    close(&y, &want, 1e-6, "eval");
    let (mut dx, mut dg, mut db) = (dy.clone(), [Elem::NAN; 4], [Elem::NAN; 4]);
    let saved = BnSaved {
        x: (&x).into(),
        y: Some(((&y).into(), Elem::INFINITY)),
        gamma: Some(&g),
        moments,
        eps: EPS,
    };
    let grads = BnGrads { dy: (&mut dx).into(), dgamma: &mut dg, dbeta: &mut db, dresidual: None };
    bn_eval_backward(s, saved, grads);
    let want: Vec<f64> = (0..120).map(|i| if raw(i) > 0.0 { dy[i] as f64 * scale(i) } else { 0.0 }).collect();
    close(&dx, &want, 1e-6, "eval backward");
    // The affine map's gradients do not depend on where the statistics come from.
    let (mut want_g, mut want_b) = ([0.0; 4], [0.0; 4]);
    for i in (0..120).filter(|i| raw(*i) > 0.0) {
        let c = i / 10 % 4;
        want_b[c] += dy[i] as f64;
        want_g[c] += dy[i] as f64 * (x[i] as f64 - mean[c] as f64) / (var[c] as f64 + EPS as f64).sqrt();
    }
    close(&dg, &want_g, 1e-6, "the gradient of gamma");
    close(&db, &want_b, 1e-6, "the gradient of beta");
}

#[test]
fn layer_norm_equals_the_formulas() {
    for (rows, d) in [(3, 5), (200, 192), (1000, 96), (4, 1), (2, 33)] {
        let (x, dy) = (noise(1, rows * d), noise(2, rows * d));
        let (g, b) = (noise(3, d), noise(4, d));
        let got = on_1_and_2_threads(|| {
            let (mut y, mut dx) = (vec![Elem::NAN; rows * d], dy.clone());
            let (mut mean, mut rstd) = (vec![Elem::NAN; rows], vec![Elem::NAN; rows]);
            let (mut dg, mut db) = (vec![Elem::NAN; d], vec![Elem::NAN; d]);
            let affine = LayerNormAffine { gamma: Some(&g), beta: Some(&b) };
            let stats = LayerNormStatsMut { mean: &mut mean, rstd: &mut rstd };
            layer_norm(d, &x, affine, EPS, &mut y, stats);
            let stats = LayerNormStats { mean: &mean, rstd: &rstd };
            let grads = LayerNormGrads { dy: &mut dx, dgamma: &mut dg, dbeta: &mut db };
            layer_norm_backward(d, &x, Some(&g), stats, grads);
            [y, dx, dg, db].concat()
        });
        let (mut y, mut dx, mut dg, mut db) = (vec![], vec![], vec![0.0; d], vec![0.0; d]);
        for (x, dy) in x.chunks(d).zip(dy.chunks(d)) {
            let mean = x.iter().map(|v| *v as f64).sum::<f64>() / d as f64;
            let var = x.iter().map(|v| (*v as f64 - mean).powi(2)).sum::<f64>() / d as f64;
            let rstd = 1.0 / (var + EPS as f64).sqrt();
            let xhat: Vec<f64> = x.iter().map(|v| (*v as f64 - mean) * rstd).collect();
            let (mut a, mut c) = (0.0, 0.0);
            for j in 0..d {
                y.push(xhat[j] * g[j] as f64 + b[j] as f64);
                dg[j] += dy[j] as f64 * xhat[j];
                db[j] += dy[j] as f64;
                a += dy[j] as f64 * g[j] as f64 / d as f64;
                c += dy[j] as f64 * g[j] as f64 * xhat[j] / d as f64;
            }
            dx.extend((0..d).map(|j| rstd * (dy[j] as f64 * g[j] as f64 - a - xhat[j] * c)));
        }
        close(&got, &[y, dx, dg, db].concat(), 1e-5, &format!("layer norm of {rows} x {d}"));
    }
    // A batch without rows has gradients of zero.
    let (mut dg, mut db) = ([Elem::NAN; 5], [Elem::NAN; 5]);
    let grads = LayerNormGrads { dy: &mut [], dgamma: &mut dg, dbeta: &mut db };
    layer_norm_backward(5, &[], None, LayerNormStats { mean: &[], rstd: &[] }, grads);
    assert_eq!((dg, db), ([0.0; 5], [0.0; 5]));
}
