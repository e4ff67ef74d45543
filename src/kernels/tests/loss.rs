//! Softmax, cross entropy and attention.

use super::{close, noise, on_1_and_2_threads};
use crate::base::Elem;
use crate::kernels::*;

const NINF: Elem = Elem::NEG_INFINITY;

#[test]
fn softmax_and_its_logarithm() {
    for (rows, k) in [(5, 3), (3000, 65), (2, 1), (1, 1000)] {
        let (x, dy) = (noise(1, rows * k), noise(2, rows * k));
        let got = on_1_and_2_threads(|| {
            let (mut p, mut l) = (vec![Elem::NAN; x.len()], vec![Elem::NAN; x.len()]);
            softmax(k, &x, &mut p);
            log_softmax(k, &x, &mut l);
            let (mut dp, mut dl) = (dy.clone(), dy.clone());
            softmax_backward(k, &p, &mut dp);
            log_softmax_backward(k, &l, &mut dl);
            [p, l, dp, dl].concat()
        });
        let mut want: [Vec<f64>; 4] = Default::default();
        for (x, dy) in x.chunks(k).zip(dy.chunks(k)) {
            let sum: f64 = x.iter().map(|v| (*v as f64).exp()).sum();
            let p: Vec<f64> = x.iter().map(|v| (*v as f64).exp() / sum).collect();
            let inner: f64 = p.iter().zip(dy).map(|(p, d)| p * *d as f64).sum();
            let all: f64 = dy.iter().map(|d| *d as f64).sum();
            want[1].extend(p.iter().map(|p| p.ln()));
            want[2].extend(p.iter().zip(dy).map(|(p, d)| p * (*d as f64 - inner)));
            want[3].extend(p.iter().zip(dy).map(|(p, d)| *d as f64 - p * all));
            want[0].extend(p);
        }
        close(&got, &want.concat(), 1e-6, &format!("softmax of {rows} x {k}"));
    }
    softmax(0, &[], &mut []);
}

/// The mean loss and the gradient of the logits.
fn mean(ce: CrossEntropy<'_>, logits: &[Elem], targets: &[i64]) -> (f64, Vec<Elem>) {
    let (mut losses, mut p) = (vec![Elem::NAN; targets.len()], vec![Elem::NAN; logits.len()]);
    let sums = cross_entropy(&ce, logits, targets, &mut losses, &mut p).unwrap();
    assert!((losses.iter().map(|l| *l as f64).sum::<f64>() - sums.loss).abs() < 1e-6);
    let scale = if sums.weight == 0.0 { 0.0 } else { 1.0 / sums.weight };
    cross_entropy_backward(&ce, targets, RowGrad::Same(scale as Elem), &mut p);
    (sums.loss * scale, p)
}

#[test]
fn label_smoothing_with_class_weights() {
    let weight = [1.0, 2.0, 4.0];
    let ce = CrossEntropy { k: 3, weight: Some(&weight), smoothing: 0.3, ignore: None };
    let logits = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0];
    assert!((mean(ce, &logits, &[2, 0]).0 - 0.672_936).abs() < 1e-6);
    assert!((mean(CrossEntropy { smoothing: 0.0, ..ce }, &logits, &[2, 0]).0 - 0.545_807).abs() < 1e-6);
    let two = CrossEntropy { k: 2, smoothing: 0.1, ..CrossEntropy::default() };
    assert!((mean(two, &[2.0, 0.0], &[0]).0 - 0.226_928).abs() < 1e-6);
    // An ignored row leaves both sums.
    let ce = CrossEntropy { ignore: Some(255), ..ce };
    let more = [1.0, 2.0, 3.0, 9.0, 9.0, 8.0, 0.0, 0.0, 0.0];
    let (loss, grad) = mean(ce, &more, &[2, 255, 0]);
    assert!((loss - 0.672_936).abs() < 1e-6 && grad[3..6] == [0.0; 3]);
    // The gradient is the slope of the loss.
    for j in 0..9 {
        let moved = |h: Elem| {
            let mut x = more;
            x[j] += h;
            mean(ce, &x, &[2, 255, 0]).0
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!((grad[j] as f64 - slope).abs() < 1e-4, "{j}: {} is not {slope}", grad[j]);
    }
}

#[test]
fn nothing_but_ignored_rows_is_a_loss_of_zero() {
    let ce = CrossEntropy { k: 3, ignore: Some(-1), ..CrossEntropy::default() };
    assert_eq!(mean(ce, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[-1, -1]), (0.0, vec![0.0; 6]));
    let zero = CrossEntropy { k: 2, weight: Some(&[0.0, 1.0]), ..CrossEntropy::default() };
    assert_eq!(mean(zero, &[1.0, 2.0], &[0]).0, 0.0);
}

#[test]
fn logits_of_minus_infinity_poison_nothing() {
    let ce = CrossEntropy { k: 2, ..CrossEntropy::default() };
    let (loss, grad) = mean(ce, &[NINF, NINF, 0.0, NINF, 1.0, 1.0], &[0, 0, 1]);
    assert!((loss - 2f64.ln() / 3.0).abs() < 1e-6, "{loss}");
    assert_eq!(grad[..4], [0.0; 4]);
    assert!((grad[4] - 1.0 / 6.0).abs() < 1e-6 && (grad[5] + 1.0 / 6.0).abs() < 1e-6);
    let (mut losses, mut p) = ([Elem::NAN], [Elem::NAN; 2]);
    soft_cross_entropy(&ce, &[0.0, NINF], &[1.0, 0.0], &mut losses, &mut p);
    soft_cross_entropy_backward(&ce, &[1.0, 0.0], RowGrad::Each(&[1.0]), &mut p);
    assert_eq!((losses, p), ([0.0], [0.0, 0.0]));
}

#[test]
fn targets_outside_the_classes_are_named() {
    let ce = CrossEntropy { k: 5, ignore: Some(-1), ..CrossEntropy::default() };
    for t in [-4, 5, 255] {
        let (mut losses, mut p) = ([0.0; 2], [0.0; 10]);
        let error = cross_entropy(&ce, &[0.0; 10], &[0, t], &mut losses, &mut p).unwrap_err().to_string();
        assert!(error.contains(&format!("target {t} of sample 1")), "{error}");
    }
}

/// Attention by its definition, in f64, with the gradients for `dout`.
fn attention_truth(g: &AttnGeom, o: AttentionArgs<'_>, x: [&[Elem]; 3], dout: &[Elem]) -> [Vec<f64>; 4] {
    let w = g.heads * g.dim;
    let at = |b: usize, len: usize, t: usize, h: usize| (b * len + t) * w + h * g.dim;
    let scale = 1.0 / (g.dim as f64).sqrt();
    let mut out = vec![0.0; x[0].len()];
    let mut grads = x.map(|x| vec![0.0f64; x.len()]);
    for row in 0..g.batch * g.heads * g.q_len {
        let (b, h, i) = (row / g.q_len / g.heads, row / g.q_len % g.heads, row % g.q_len);
        let q = at(b, g.q_len, i, h);
        let dots = |a: &[Elem], p: usize, c: &[Elem], r: usize| -> f64 {
            (0..g.dim).map(|d| a[p + d] as f64 * c[r + d] as f64).sum()
        };
        let s: Vec<f64> = (0..g.k_len)
            .map(|j| {
                if (o.causal && j > i) || o.keys.is_some_and(|keys| j >= keys[b]) {
                    return f64::NEG_INFINITY;
                }
                dots(x[0], q, x[1], at(b, g.k_len, j, h)) * scale
                    + o.bias.map_or(0.0, |m| m[i * g.k_len + j] as f64)
            })
            .collect();
        let sum: f64 = s.iter().map(|s| s.exp()).sum();
        if sum == 0.0 {
            continue;
        }
        let keep =
            |j: usize| o.dropout.map_or(1.0, |(k, s)| (k[row * g.k_len + j] != 0) as u8 as f64 * s as f64);
        let p: Vec<f64> = s.iter().map(|s| s.exp() / sum).collect();
        let dp: Vec<f64> =
            (0..g.k_len).map(|j| dots(dout, q, x[2], at(b, g.k_len, j, h)) * keep(j)).collect();
        let delta: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
        for j in 0..g.k_len {
            let k = at(b, g.k_len, j, h);
            let ds = p[j] * (dp[j] - delta) * scale;
            for d in 0..g.dim {
                out[q + d] += p[j] * keep(j) * x[2][k + d] as f64;
                grads[0][q + d] += ds * x[1][k + d] as f64;
                grads[1][k + d] += ds * x[0][q + d] as f64;
                grads[2][k + d] += p[j] * keep(j) * dout[q + d] as f64;
            }
        }
    }
    let [dq, dk, dv] = grads;
    [out, dq, dk, dv]
}

#[test]
fn attention_equals_the_definition() {
    for (batch, heads, nq, nk, dim, masked, dropped, causal, lengths) in [
        (2, 3, 7, 7, 8, true, false, false, None),
        (3, 2, 5, 9, 4, false, true, false, None),
        (1, 1, 65, 65, 64, false, false, false, None),
        (2, 2, 1, 3, 5, true, true, false, None),
        (2, 2, 130, 130, 8, false, true, true, None),
        (3, 2, 70, 70, 4, true, false, true, Some([70, 66, 3])),
        (3, 1, 5, 9, 4, false, true, false, Some([9, 0, 4])),
        (2, 1, 70, 20, 4, false, false, true, None),
        (2, 1, 3, 20, 4, false, false, true, None),
    ] {
        let g = AttnGeom { batch, heads, q_len: nq, k_len: nk, dim };
        let (lq, lk) = (batch * nq * heads * dim, batch * nk * heads * dim);
        let (q, k, v, dout) = (noise(1, lq), noise(2, lk), noise(3, lk), noise(4, lq));
        // Nobody looks ahead; the last token looks nowhere.
        let bias: Vec<Elem> =
            (0..nq * nk).map(|i| if i % nk > i / nk || i / nk == 6 { NINF } else { 0.1 }).collect();
        let keep: Vec<u8> = (0..batch * heads * nq * nk).map(|i| (i % 3 != 0) as u8).collect();
        let o = AttentionArgs {
            bias: masked.then_some(&bias[..]),
            causal,
            keys: lengths.as_ref().map(|lengths| &lengths[..batch]),
            dropout: dropped.then_some((&keep[..], 1.5)),
        };
        let want = attention_truth(&g, o, [&q, &k, &v], &dout).concat();
        let got = on_1_and_2_threads(|| {
            let (mut out, mut lse) = (vec![Elem::NAN; lq], vec![Elem::NAN; batch * heads * nq]);
            let (mut dq, mut dk, mut dv) = (vec![Elem::NAN; lq], vec![Elem::NAN; lk], vec![Elem::NAN; lk]);
            let qkv = Qkv { q: &q, k: &k, v: &v };
            attention(&g, o, qkv, AttnOutput { out: (&mut out).into(), lse: &mut lse });
            let saved = AttnSaved { out: (&out).into(), lse: &lse };
            attention_backward(&g, o, qkv, saved, &dout, QkvMut { q: &mut dq, k: &mut dk, v: &mut dv });
            [out, dq, dk, dv].concat()
        });
        close(&got, &want, 2e-6, &format!("{g:?}"));
        if nq != nk {
            continue;
        }
        // The packed form gives the same.
        let w = heads * dim;
        let pack = |q: &[Elem], k: &[Elem], v: &[Elem]| -> Vec<Elem> {
            (0..batch * nq).flat_map(|t| [q, k, v].map(|x| x[t * w..][..w].to_vec()).concat()).collect()
        };
        let qkv = pack(&q, &k, &v);
        let (mut out, mut lse) = (vec![Elem::NAN; lq], vec![Elem::NAN; batch * heads * nq]);
        let mut dqkv = vec![Elem::NAN; 3 * lq];
        attention_packed(&g, o, &qkv, AttnOutput { out: (&mut out).into(), lse: &mut lse });
        attention_packed_backward(&g, o, &qkv, AttnSaved { out: (&out).into(), lse: &lse }, &dout, &mut dqkv);
        assert_eq!(out, got[..lq]);
        assert_eq!(dqkv, pack(&got[lq..2 * lq], &got[2 * lq..3 * lq], &got[3 * lq..]));
    }
}
