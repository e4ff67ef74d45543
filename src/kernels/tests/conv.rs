//! Convolutions against the definition.

use super::{close, noise, on_1_and_2_threads, pick};
use crate::base::{Elem, keyed};
use crate::kernels::conv::image_lanes;
use crate::kernels::{
    Act, ConvGeom, LayerEpilogue, Precision, Window, conv2d, conv2d_backward_data, conv2d_backward_weight,
    with_precision,
};

/// Calls `f` with the indices into x, w and y of every product of the definition.
fn each_product(g: &ConvGeom, mut f: impl FnMut(usize, usize, usize)) {
    let (cg, kg) = (g.c / g.groups, g.k / g.groups);
    let [oh, ow] = g.out;
    let [kh, kw] = g.kernel;
    for (n, k, oy, ox) in grid4(g.n, g.k, oh, ow) {
        let iy = ((n * g.k + k) * oh + oy) * ow + ox;
        for (_, c, r, s) in grid4(1, cg, kh, kw) {
            let yy = (oy * g.stride[0] + r * g.dilation[0]).wrapping_sub(g.padding[0]);
            let xx = (ox * g.stride[1] + s * g.dilation[1]).wrapping_sub(g.padding[1]);
            if yy < g.h && xx < g.w {
                let ix = ((n * g.c + k / kg * cg + c) * g.h + yy) * g.w + xx;
                f(ix, ((k * cg + c) * kh + r) * kw + s, iy);
            }
        }
    }
}

fn grid4(a: usize, b: usize, c: usize, d: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a).flat_map(move |i| {
        (0..b).flat_map(move |j| (0..c).flat_map(move |k| (0..d).map(move |l| (i, j, k, l))))
    })
}

/// Sums of products in f32 are within 2e-6 of the largest result; Winograd's transforms cost some more.
fn tolerance(g: &ConvGeom) -> f64 {
    if g.kernel == [3, 3] && g.stride == [1, 1] && [g.c, g.k].iter().all(|c| c.is_multiple_of(16)) {
        1e-5
    } else {
        2e-6
    }
}

/// All three passes against the definition, in full precision and with operands rounded to bf16.
fn check(g: &ConvGeom, seed: u64) {
    check_in(Precision::Full, g, seed);
    check_in(Precision::Bf16, g, seed);
}

/// What operands are rounded to: groups and small convolutions stay as they are, and windows of few numbers in bf16.
#[allow(clippy::unnecessary_cast)] // Elem may be f64
fn rounded(precision: Precision, g: &ConvGeom, numbers: &[Elem]) -> Vec<Elem> {
    let small = g.groups > 1 || g.flops() / 2 < 1 << 15;
    let narrow = g.w_len() / g.k.max(1) < 32 && !g.is_linear();
    let round = |v: Elem| match precision {
        Precision::Bf16 if !small && !narrow => half::bf16::from_f32(v as f32).to_f32() as Elem,
        Precision::F16 if !small => half::f16::from_f32(v as f32).to_f32() as Elem,
        _ => v,
    };
    numbers.iter().map(|&v| round(v)).collect()
}

/// All three passes against the definition on rounded operands, on stale outputs, on one and two threads.
fn check_in(precision: Precision, g: &ConvGeom, seed: u64) {
    let (x, w, dy) = (noise(seed, g.x_len()), noise(seed + 1, g.w_len()), noise(seed + 2, g.y_len()));
    let [rounded_x, rounded_w, rounded_dy] = [&x, &w, &dy].map(|v| rounded(precision, g, v));
    let (bias, old) = (noise(seed + 3, g.k), noise(seed + 4, g.w_len()));
    let residual = noise(seed + 5, g.y_len());
    let (mut y, mut dx, mut dw) = (vec![0.0f64; y_len(g)], vec![0.0f64; g.x_len()], vec![0.0f64; g.w_len()]);
    each_product(g, |ix, iw, iy| {
        y[iy] += rounded_x[ix] as f64 * rounded_w[iw] as f64;
        dx[ix] += rounded_dy[iy] as f64 * rounded_w[iw] as f64;
        dw[iw] += rounded_dy[iy] as f64 * rounded_x[ix] as f64;
    });
    let plane = g.out[0] * g.out[1];
    y.iter_mut().enumerate().for_each(|(i, y)| {
        *y = (*y + bias[i / plane % g.k] as f64 + residual[i] as f64).max(0.0);
    });
    dw.iter_mut().zip(&old).for_each(|(d, o)| *d += 0.5 * *o as f64);
    let mut db: Vec<f64> = vec![0.0; g.k];
    dy.iter().enumerate().for_each(|(i, d)| db[i / plane % g.k] += *d as f64);

    let got = on_1_and_2_threads_in(precision, || {
        let mut got = vec![Elem::NAN; g.y_len()];
        let then = LayerEpilogue {
            bias: Some(&bias),
            residual: Some(&residual),
            act: Act::Relu,
            ..Default::default()
        };
        conv2d(g, &x, &w, then, &mut got);
        got
    });
    close(&got, &y, tolerance(g), &format!("forward of {g:?} in {precision:?}"));
    let got = on_1_and_2_threads_in(precision, || {
        let mut got = vec![Elem::NAN; g.x_len()];
        conv2d_backward_data(g, &dy, &w, &mut got);
        got
    });
    close(&got, &dx, tolerance(g), &format!("gradient of the input of {g:?} in {precision:?}"));
    let got = on_1_and_2_threads_in(precision, || {
        let (mut got, mut got_b) = (old.clone(), vec![Elem::NAN; g.k]);
        conv2d_backward_weight(g, &x, &dy, 0.5, &mut got, None);
        conv2d_backward_weight(g, &x, &dy, 0.0, &mut vec![Elem::NAN; g.w_len()], Some(&mut got_b));
        got.extend(got_b);
        got
    });
    dw.extend(db);
    close(&got, &dw, tolerance(g), &format!("gradient of the weight of {g:?} in {precision:?}"));
}

fn on_1_and_2_threads_in(precision: Precision, f: impl Fn() -> Vec<Elem> + Send + Sync) -> Vec<Elem> {
    on_1_and_2_threads(|| with_precision(precision, &f))
}

/// Blocks of 2 to 32 channels, so that a step has one tap or several; strides whose phases lie apart, gaps that lines
/// share, dilation, padding of more than the kernel, images in parts and together.
#[test]
fn rounded_operands_on_many_shapes() {
    let mut rng = keyed(11, "conv shapes", 0, 0);
    let mut done = 0;
    while done < 120 {
        let mut p = |range| pick(&mut rng, range);
        let channels = [p(1..=5), p(6..=20), p(30..=70)][p(0..=2)];
        let size = if p(0..=3) == 0 { 40 } else { 12 };
        let input = [p(1..=6), channels, p(1..=size), p(1..=size)];
        let (k, kernel, stride) = (p(1..=70), [p(1..=5), p(1..=5)], [p(1..=3), p(1..=3)]);
        let (padding, dilation) = ([p(0..=4), p(0..=4)], [p(1..=3), p(1..=3)]);
        let Ok(g) = ConvGeom::new(input, k, Window { kernel, stride, padding, dilation }, 1) else {
            continue;
        };
        if g.flops() / 2 >= 1 << 15 && g.flops() < 20_000_000 {
            check_in(Precision::Bf16, &g, 20_000 + done);
            done += 1;
        }
    }
}

#[test]
fn operands_rounded_to_f16() {
    // The second goes through Winograd's algorithm by panels, the last of them narrow.
    for (input, k, kernel, groups) in [
        ([3, 16, 12, 12], 32, 3, 1),
        ([70, 96, 4, 4], 80, 3, 1),
        ([2, 40, 9, 7], 24, 1, 1),
        ([2, 8, 9, 9], 8, 3, 8),
    ] {
        let window = Window { padding: [kernel / 2; 2], ..Window::new([kernel; 2]) };
        check_in(Precision::F16, &ConvGeom::new(input, k, window, groups).unwrap(), 30_000);
    }
}

#[test]
fn winograd_is_as_exact_as_promised() {
    // Whole and cut tiles, every padding, few and many channels: within 1e-5 of the largest element.
    for (input, k, padding) in [
        ([4, 64, 8, 8], 64, [1, 1]),
        ([2, 32, 15, 22], 48, [1, 0]),
        ([17, 16, 4, 4], 16, [1, 1]),
        ([3, 16, 12, 12], 32, [2, 2]),
        ([2, 16, 34, 14], 16, [0, 1]),
        ([70, 96, 4, 4], 80, [1, 1]),
        ([16, 512, 4, 4], 512, [1, 1]),
        ([1, 112, 13, 22], 272, [1, 1]),
    ] {
        check(&ConvGeom::new(input, k, Window { padding, ..Window::new([3, 3]) }, 1).unwrap(), 2000);
    }
}

#[test]
fn small_maps_whose_gradient_hangs_over_the_edge() {
    // Full and broken blocks of images, more channels than a tile has rows, padding, a kernel larger than the output,
    // a tap that meets nothing.
    for (input, k, kernel, padding) in [
        ([64, 6, 14, 14], 16, [5, 5], [0, 0]),
        ([47, 3, 9, 20], 5, [5, 3], [1, 0]),
        ([16, 14, 7, 7], 3, [5, 5], [0, 0]),
        ([33, 2, 6, 6], 2, [5, 6], [2, 0]),
        ([32, 1, 5, 9], 4, [1, 7], [3, 0]),
    ] {
        let g = ConvGeom::new(input, k, Window { padding, ..Window::new(kernel) }, 1).unwrap();
        check(&g, 3000);
        // The check of the whole chooses by shape; this one is asked directly.
        let (w, dy) = (noise(1, g.w_len()), noise(2, g.y_len()));
        let mut dx = vec![0.0f64; g.x_len()];
        each_product(&g, |ix, iw, iy| dx[ix] += dy[iy] as f64 * w[iw] as f64);
        let got = on_1_and_2_threads(|| {
            let mut got = vec![Elem::NAN; g.x_len()];
            image_lanes::backward_data(&g, &dy, &w, &mut got);
            got
        });
        close(&got, &dx, 2e-6, &format!("gradient by images of {g:?}"));
    }
    assert!(image_lanes::fits(&ConvGeom::new([64, 6, 14, 14], 16, Window::new([5, 5]), 1).unwrap()));
}

fn y_len(g: &ConvGeom) -> usize {
    g.y_len()
}

#[test]
fn two_hundred_random_shapes_equal_the_definition() {
    let mut rng = keyed(7, "conv shapes", 0, 0);
    let mut done = 0;
    while done < 200 {
        let mut p = |range| pick(&mut rng, range);
        let groups = if p(0..=2) == 0 { p(1..=3) } else { 1 };
        let input = [p(0..=5), groups * p(1..=20), p(1..=13), p(1..=13)];
        let k = groups * p(1..=40);
        let (kernel, stride) = ([p(1..=5), p(1..=5)], [p(1..=3), p(1..=3)]);
        let (padding, dilation) = ([p(0..=4), p(0..=4)], [p(1..=3), p(1..=3)]);
        if let Ok(g) = ConvGeom::new(input, k, Window { kernel, stride, padding, dilation }, groups) {
            check(&g, done);
            done += 1;
        }
    }
}

#[test]
fn groups_of_few_channels_equal_the_definition() {
    let mut rng = keyed(9, "conv shapes", 0, 0);
    let mut done = 0;
    while done < 150 {
        let mut p = |range| pick(&mut rng, range);
        let groups = p(2..=20);
        let (per_group, multiplier) = if p(0..=1) == 0 { (1, p(1..=2)) } else { (p(1..=6), p(1..=7)) };
        let input = [p(0..=4), groups * per_group, p(1..=30), p(1..=40)];
        let (kernel, stride) = ([p(1..=6), p(1..=6)], [p(1..=4), p(1..=4)]);
        let (padding, dilation) = ([p(0..=5), p(0..=5)], [p(1..=3), p(1..=3)]);
        let window = Window { kernel, stride, padding, dilation };
        if let Ok(g) = ConvGeom::new(input, groups * multiplier, window, groups) {
            check(&g, 4000 + done);
            done += 1;
        }
    }
}

#[test]
fn the_depthwise_convolutions_of_common_networks() {
    for (channels, size, kernel, stride) in [
        (144, 56, 3, 1),
        (144, 56, 3, 2),
        (24, 28, 3, 1),
        (37, 14, 3, 1),
        (96, 7, 3, 1),
        (24, 28, 5, 2),
        (24, 14, 5, 1),
        (24, 7, 5, 1),
        (5, 14, 7, 1),
        (3, 43, 7, 1),
        (6, 17, 5, 1),
    ] {
        let window = Window { stride: [stride; 2], padding: [kernel / 2; 2], ..Window::new([kernel; 2]) };
        check(&ConvGeom::new([3, channels, size, size], channels, window, channels).unwrap(), 5000);
    }
}

/// Depthwise convolutions that halve their images: rows of all lengths about a vector, every padding that is less than
/// the kernel and more, rows and columns that no window sees.
#[test]
fn depthwise_convolutions_of_stride_2() {
    let mut rng = keyed(10, "conv shapes", 0, 0);
    let mut done = 0;
    while done < 60 {
        let mut p = |range| pick(&mut rng, range);
        let (channels, kernel) = (p(2..=9), if p(0..=1) == 0 { 3 } else { 5 });
        let input = [p(1..=3), channels, p(1..=20), p(1..=80)];
        let window = Window { stride: [2; 2], padding: [p(0..=5), p(0..=20)], ..Window::new([kernel; 2]) };
        if let Ok(g) = ConvGeom::new(input, channels, window, channels) {
            check(&g, 8000 + done);
            done += 1;
        }
    }
}

/// Kernels of one pixel with a stride see only some pixels: the others have no gradient.
#[test]
fn kernels_of_one_pixel_with_a_stride() {
    for (input, k, stride, groups) in [
        ([3, 24, 14, 14], 48, [2, 2], 1),
        ([2, 200, 9, 7], 30, [2, 2], 1),
        ([1, 5, 8, 33], 4, [1, 2], 1),
        ([2, 6, 10, 11], 9, [3, 4], 3),
        ([2, 8, 7, 6], 8, [2, 3], 8),
        ([3, 7, 1, 1], 9, [2, 2], 1),
        ([2, 3, 2, 9], 40, [5, 2], 1),
        ([0, 3, 4, 4], 2, [2, 2], 1),
    ] {
        check(&ConvGeom::new(input, k, Window { stride, ..Window::new([1, 1]) }, groups).unwrap(), 9000);
    }
}

#[test]
fn kernels_of_one_pixel_equal_the_definition() {
    // Panels within an image, across two and across many; rows that are shared out; more rows than one micro-kernel has.
    for (input, k) in [
        ([4, 32, 20, 20], 48),
        ([3, 16, 9, 37], 40),
        ([20, 64, 7, 7], 96),
        ([40, 5, 3, 3], 7),
        ([1, 160, 14, 14], 70),
        ([1, 190, 3, 2], 33),
        ([2, 192, 24, 24], 4),
        ([2, 4, 24, 24], 192),
        ([2, 300, 10, 10], 250),
    ] {
        check(&ConvGeom::new(input, k, Window::new([1, 1]), 1).unwrap(), 6000);
    }
}

#[test]
fn large_and_single_images_are_computed_in_parts() {
    for (input, k, kernel, stride) in [
        ([1, 3, 70, 61], 40, 7, 2),
        ([5, 6, 64, 60], 20, 3, 2),
        ([1, 40, 37, 41], 35, 5, 1),
        ([1, 9, 33, 80], 8, 5, 1),
    ] {
        let window = Window { stride: [stride; 2], padding: [kernel / 2; 2], ..Window::new([kernel; 2]) };
        check(&ConvGeom::new(input, k, window, 1).unwrap(), 7000);
    }
}

/// Where pixels lie along the vectors: few channels, images of some width.
#[test]
fn few_channels_equal_the_definition() {
    let mut rng = keyed(8, "conv shapes", 0, 0);
    for seed in 0..40 {
        let mut p = |range| pick(&mut rng, range);
        let input = [p(1..=20), p(1..=3), p(14..=24), p(14..=40)];
        let (k, kernel) = (p(1..=16), [p(1..=5), p(3..=11)]);
        let (padding, dilation) = ([p(0..=2), p(0..=6)], [p(1..=2), p(1..=2)]);
        if let Ok(g) = ConvGeom::new(input, k, Window { padding, dilation, ..Window::new(kernel) }, 1) {
            check(&g, 3000 + seed);
        }
    }
}

#[test]
fn the_shapes_of_common_networks() {
    for (input, k, kernel, stride, padding, groups) in [
        ([3, 3, 32, 32], 16, 3, 1, 1, 1),
        ([3, 16, 32, 32], 32, 3, 2, 1, 1),
        ([3, 64, 8, 8], 64, 3, 1, 1, 1),
        ([5, 70, 4, 4], 50, 3, 1, 1, 1),
        ([3, 33, 9, 9], 70, 1, 2, 0, 1),
        ([9, 1, 32, 32], 6, 5, 1, 0, 1),
        ([4, 16, 5, 5], 120, 5, 1, 0, 1),
        ([2, 24, 14, 14], 24, 3, 1, 1, 24),
        ([2, 3, 32, 32], 48, 4, 4, 0, 1),
    ] {
        let window = Window { stride: [stride; 2], padding: [padding; 2], ..Window::new([kernel; 2]) };
        check(&ConvGeom::new(input, k, window, groups).unwrap(), 1000);
    }
}

#[test]
fn dilation_spreads_taps_and_uncovered_input_has_no_gradient() {
    // 1-D: x = 0..6, kernel of ones, stride 2, dilation 2.
    let window = Window { stride: [1, 2], dilation: [1, 2], ..Window::new([1, 3]) };
    let g = ConvGeom::new([1, 1, 1, 7], 1, window, 1).unwrap();
    let x: Vec<Elem> = (0..7).map(|v| v as Elem).collect();
    let mut y = vec![Elem::NAN; 2];
    conv2d(&g, &x, &[1.0; 3], LayerEpilogue::default(), &mut y);
    assert_eq!(y, [6.0, 12.0]);
    // 5 x 5 ones, 2 x 2 kernel, stride 2: the last row and column take no part.
    let window = Window { stride: [2, 2], ..Window::new([2, 2]) };
    let g = ConvGeom::new([1, 1, 5, 5], 1, window, 1).unwrap();
    let (mut dw, mut dx) = (vec![Elem::NAN; 4], vec![Elem::NAN; 25]);
    conv2d_backward_weight(&g, &[1.0; 25], &[1.0; 4], 0.0, &mut dw, None);
    conv2d_backward_data(&g, &[1.0; 4], &[1.0; 4], &mut dx);
    assert_eq!(dw, [4.0; 4]);
    for (i, d) in dx.iter().enumerate() {
        assert_eq!(*d, if i / 5 == 4 || i % 5 == 4 { 0.0 } else { 1.0 });
    }
}

#[test]
fn shapes_that_cannot_be_are_refused_by_name() {
    let refuse = |input, k, kernel, stride, groups| {
        ConvGeom::new(input, k, Window { stride, ..Window::new(kernel) }, groups).unwrap_err().to_string()
    };
    let small = refuse([1, 1, 4, 4], 1, [5, 1], [1, 1], 1);
    assert!(
        small.contains("does not fit an input of 4 x 4: what comes in is too small. Make the pictures"),
        "{small}"
    );
    assert!(refuse([1, 1, 4, 4], 1, [1, 0], [1, 1], 1).contains("kernel size"));
    assert!(refuse([1, 1, 4, 4], 1, [1, 1], [0, 1], 1).contains("stride"));
    assert!(refuse([1, 3, 4, 4], 4, [1, 1], [1, 1], 2).contains("2 groups"));
}
