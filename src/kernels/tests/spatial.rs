//! Poolings of parts, resizing, and the norms of groups and pixels: the same bits on one and two threads, on stale
//! memory. Their values are checked layer by layer, against PyTorch's.

use super::{close, noise, on_1_and_2_threads};
use crate::base::Elem;
use crate::kernels::*;

#[test]
fn parts_equal_the_definition() {
    for (input, out) in [([3, 40, 17, 13], [5, 7]), ([2, 3, 2, 3], [5, 4]), ([1, 1, 7, 7], [7, 2])] {
        let g = AdaptivePoolGeom::new(input, out).unwrap();
        let (x, dy) = (noise(1, g.x_len()), noise(2, g.y_len()));
        let bin = |i: usize, size: usize, out: usize| i * size / out..((i + 1) * size).div_ceil(out);
        let (mut mean, mut max, mut dmean) = (Vec::new(), Vec::new(), vec![0.0f64; g.x_len()]);
        for i in 0..g.y_len() {
            let (p, r, c) = (i / out[1] / out[0], i / out[1] % out[0], i % out[1]);
            let rows = bin(r, g.h, out[0]);
            let at: Vec<usize> =
                rows.flat_map(|r| bin(c, g.w, out[1]).map(move |c| (p * g.h + r) * g.w + c)).collect();
            mean.push(at.iter().map(|i| x[*i] as f64).sum::<f64>() / at.len() as f64);
            max.push(at.iter().fold(f64::NEG_INFINITY, |m, i| m.max(x[*i] as f64)));
            at.iter().for_each(|at_i| dmean[*at_i] += dy[i] as f64 / at.len() as f64);
        }
        let got = on_1_and_2_threads(|| {
            let (mut y, mut best) = (vec![Elem::NAN; g.y_len()], vec![Elem::NAN; g.y_len()]);
            let (mut dx, mut at) = (vec![Elem::NAN; g.x_len()], vec![0; g.y_len()]);
            adaptive_avg_pool2d(&g, &x, &mut y);
            adaptive_max_pool2d(&g, &x, &mut best, &mut at);
            adaptive_avg_pool2d_backward(&g, &dy, &mut dx);
            assert!(
                at.iter()
                    .zip(&best)
                    .enumerate()
                    .all(|(i, (at, v))| { x[i / out[0] / out[1] * g.h * g.w + *at as usize] == *v })
            );
            [y, best, dx].concat()
        });
        close(&got, &[mean, max, dmean].concat(), 1e-6, &format!("{g:?}"));
    }
}

#[test]
fn resizing_and_its_gradient_are_one_matrix() {
    for align_corners in [false, true] {
        let mode = UpsampleMode::Bilinear { align_corners };
        for (mode, out) in [(mode, [9, 5]), (mode, [3, 11]), (UpsampleMode::Nearest, [9, 5])] {
            let g = UpsampleGeom::new([4, 30, 6, 7], out, mode, None).unwrap();
            let (x, dy) = (noise(1, g.x_len()), noise(2, g.y_len()));
            let all = on_1_and_2_threads(|| {
                let (mut y, mut dx) = (vec![Elem::NAN; g.y_len()], vec![Elem::NAN; g.x_len()]);
                upsample(&g, &x, &mut y);
                upsample_backward(&g, &dy, &mut dx);
                [y, dx].concat()
            });
            let (y, dx) = all.split_at(g.y_len());
            let dot =
                |a: &[Elem], b: &[Elem]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
            let (forth, back) = (dot(y, &dy), dot(&x, dx));
            assert!((forth - back).abs() < 1e-4 * forth.abs().max(1.0), "{forth} {back}");
        }
    }
}

#[test]
fn images_of_twice_the_size_equal_the_definition() {
    for ([h, w], bilinear) in
        [[5, 1], [1, 2], [3, 3], [4, 4], [7, 20]].into_iter().flat_map(|s| [(s, false), (s, true)])
    {
        let mode =
            if bilinear { UpsampleMode::Bilinear { align_corners: false } } else { UpsampleMode::Nearest };
        let g = UpsampleGeom::new([2, 3, h, w], [2 * h, 2 * w], mode, Some([2.0; 2])).unwrap();
        let (x, dy) = (noise(1, g.x_len()), noise(2, g.y_len()));
        // The pixels that a place comes from, and their shares.
        let from = |i: usize, size: usize| {
            let exact = if bilinear { (0.5 * (i as f64 + 0.5) - 0.5).max(0.0) } else { (i / 2) as f64 };
            let low = exact as usize;
            [(low, 1.0 - (exact - low as f64)), ((low + 1).min(size - 1), exact - low as f64)]
        };
        let (mut y, mut dx) = (vec![0.0f64; g.y_len()], vec![0.0f64; g.x_len()]);
        for i in 0..g.y_len() {
            let (plane, row, col) = (i / (4 * h * w), i / (2 * w) % (2 * h), i % (2 * w));
            for ((r, a), (c, b)) in from(row, h).into_iter().flat_map(|r| from(col, w).map(|c| (r, c))) {
                y[i] += a * b * x[(plane * h + r) * w + c] as f64;
                dx[(plane * h + r) * w + c] += a * b * dy[i] as f64;
            }
        }
        let got = on_1_and_2_threads(|| {
            let (mut y, mut dx) = (vec![Elem::NAN; g.y_len()], vec![Elem::NAN; g.x_len()]);
            upsample(&g, &x, &mut y);
            upsample_backward(&g, &dy, &mut dx);
            [y, dx].concat()
        });
        close(&got, &[y, dx].concat(), 1e-6, &format!("{g:?}"));
    }
}

/// Mean and deviation of some places, as the formula has them.
fn moments(x: &[Elem], places: &[usize], eps: f64) -> (f64, f64) {
    let mean = places.iter().map(|i| x[*i] as f64).sum::<f64>() / places.len() as f64;
    let var = places.iter().map(|i| (x[*i] as f64 - mean).powi(2)).sum::<f64>() / places.len() as f64;
    (mean, (var + eps).sqrt())
}

#[test]
fn norms_of_groups_pixels_and_rows_equal_the_formulas() {
    let (n, c, inner) = (3, 12, 1111);
    let len = n * c * inner;
    let (x, dy, g, b) = (noise(1, len), noise(2, len), noise(3, c), noise(4, c));
    let channel = |i: usize| i / inner % c;
    let affine = LayerNormAffine { gamma: Some(&g), beta: Some(&b) };
    let group = |groups: usize| move |i: usize| i / inner / (c / groups);
    let pixel = move |i: usize| i / inner / c * inner + i % inner;
    let sets: [(&str, usize, Box<dyn Fn(usize) -> usize>); 4] = [
        ("one group", 1, Box::new(group(1))),
        ("groups", 4, Box::new(group(4))),
        ("instances", c, Box::new(group(c))),
        ("pixels", 0, Box::new(pixel)),
    ];
    for (what, groups, set) in sets {
        let mut places = vec![Vec::new(); if groups == 0 { n * inner } else { n * groups }];
        (0..len).for_each(|i| places[set(i)].push(i));
        let stats: Vec<(f64, f64)> = places.iter().map(|p| moments(&x, p, 1e-3)).collect();
        let xhat: Vec<f64> = (0..len).map(|i| (x[i] as f64 - stats[set(i)].0) / stats[set(i)].1).collect();
        let y: Vec<f64> = (0..len).map(|i| xhat[i] * g[channel(i)] as f64 + b[channel(i)] as f64).collect();
        let d: Vec<f64> = (0..len).map(|i| dy[i] as f64 * g[channel(i)] as f64).collect();
        let mut dx = vec![0.0; len];
        for (p, (_, deviation)) in places.iter().zip(&stats) {
            let mean = |f: &dyn Fn(usize) -> f64| p.iter().map(|i| f(*i)).sum::<f64>() / p.len() as f64;
            let (a, b) = (mean(&|i| d[i]), mean(&|i| d[i] * xhat[i]));
            p.iter().for_each(|i| dx[*i] = (d[*i] - a - xhat[*i] * b) / deviation);
        }
        let (mut dg, mut db) = (vec![0.0; c], vec![0.0; c]);
        for i in 0..len {
            dg[channel(i)] += dy[i] as f64 * xhat[i];
            db[channel(i)] += dy[i] as f64;
        }
        let got = on_1_and_2_threads(|| {
            let (mut y, mut dx) = (vec![Elem::NAN; len], dy.clone());
            let (mut mean, mut rstd) = (vec![Elem::NAN; places.len()], vec![Elem::NAN; places.len()]);
            let (mut dg, mut db) = (vec![Elem::NAN; c], vec![Elem::NAN; c]);
            let s = GroupNormShape { n, c, groups: groups.max(1), inner };
            let to = LayerNormStatsMut { mean: &mut mean, rstd: &mut rstd };
            match groups {
                0 => pixel_norm([n, c, inner], &x, affine, 1e-3, &mut y, to),
                _ => group_norm(s, &x, affine, 1e-3, &mut y, to),
            }
            let stats = LayerNormStats { mean: &mean, rstd: &rstd };
            let grads = LayerNormGrads { dy: &mut dx, dgamma: &mut dg, dbeta: &mut db };
            match groups {
                0 => pixel_norm_backward([n, c, inner], &x, Some(&g), stats, grads),
                _ => group_norm_backward(s, &x, Some(&g), stats, grads),
            }
            [y, dx, dg, db].concat()
        });
        let want = [y, dx, dg, db].concat();
        close(&got, &want, 1e-5, what);
    }
}

#[test]
fn rms_norm_equals_the_formula() {
    for (rows, d) in [(300, 300), (5, 7), (130, 64)] {
        let (x, dy, g) = (noise(1, rows * d), noise(2, rows * d), noise(3, d));
        let (mut y, mut dx, mut dg) = (Vec::new(), Vec::new(), vec![0.0f64; d]);
        for row in 0..rows {
            let at = row * d;
            let sum = |f: &dyn Fn(usize) -> f64| (0..d).map(f).sum::<f64>() / d as f64;
            let root = (sum(&|j| (x[at + j] as f64).powi(2)) + 1e-3).sqrt();
            let slope = sum(&|j| dy[at + j] as f64 * g[j] as f64 * x[at + j] as f64 / root);
            for j in 0..d {
                let xhat = x[at + j] as f64 / root;
                y.push(xhat * g[j] as f64);
                dx.push((dy[at + j] as f64 * g[j] as f64 - xhat * slope) / root);
                dg[j] += dy[at + j] as f64 * xhat;
            }
        }
        let got = on_1_and_2_threads(|| {
            let (mut y, mut dx) = (vec![Elem::NAN; rows * d], dy.clone());
            let (mut roots, mut dg) = (vec![Elem::NAN; rows], vec![Elem::NAN; d]);
            rms_norm(d, &x, Some(&g), 1e-3, &mut y, &mut roots);
            rms_norm_backward(d, &x, Some(&g), &roots, RmsNormGrads { dy: &mut dx, dgamma: &mut dg });
            [y, dx, dg].concat()
        });
        close(&got, &[y, dx, dg].concat(), 1e-5, &format!("{rows} x {d}"));
    }
}
