//! Pooling against the definition.

use super::{close, noise, on_1_and_2_threads, pick};
use crate::base::{Elem, keyed, shapes_only};
use crate::kernels::*;

/// The places of a window: (output, position in the input plane), window by window.
fn windows(g: &PoolGeom) -> Vec<Vec<usize>> {
    let inside = |o: usize, r: usize, i: usize, size: usize| {
        (o * g.stride[i] + r * g.dilation[i]).checked_sub(g.padding[i]).filter(|p| *p < size)
    };
    let mut all = Vec::new();
    for oy in 0..g.out[0] {
        for ox in 0..g.out[1] {
            let mut window = Vec::new();
            for r in 0..g.kernel[0] {
                for s in 0..g.kernel[1] {
                    if let (Some(y), Some(x)) = (inside(oy, r, 0, g.h), inside(ox, s, 1, g.w)) {
                        window.push(y * g.w + x);
                    }
                }
            }
            all.push(window);
        }
    }
    all
}

#[test]
fn random_poolings_equal_the_definition() {
    let mut rng = keyed(5, "poolings", 0, 0);
    let mut done = 0;
    while done < 200 {
        let mut p = |range| pick(&mut rng, range);
        let (input, kernel) = ([p(0..=3), p(1..=5), p(1..=12), p(1..=12)], [p(1..=4), p(1..=4)]);
        let (stride, padding) = ([p(1..=3), p(1..=3)], [p(0..=2), p(0..=2)]);
        let dilation = if done % 2 == 0 { [1, 1] } else { [p(1..=2), p(1..=2)] };
        let Ok(g) = PoolGeom::new(input, Window { kernel, stride, padding, dilation }, p(0..=1) == 1) else {
            continue;
        };
        check(&g, done);
        done += 1;
    }
    // The large maps take the parallel path.
    check(
        &PoolGeom::new([20, 6, 28, 28], Window { stride: [2, 2], ..Window::new([2, 2]) }, false).unwrap(),
        0,
    );
    let window = Window { stride: [2, 2], padding: [1, 1], ..Window::new([3, 3]) };
    check(&PoolGeom::new([8, 16, 33, 33], window, false).unwrap(), 0);
}

fn check(g: &PoolGeom, seed: u64) {
    let (x, dy) = (noise(seed, g.x_len()), noise(seed + 1, g.y_len()));
    let (plane, windows) = (g.h * g.w, windows(g));
    let value = |i: usize, p: usize| x[i / windows.len() * plane + p] as f64;
    let (mut y, mut at, mut dx) = (vec![], vec![], vec![0.0f64; x.len()]);
    for i in 0..dy.len() {
        let window = &windows[i % windows.len()];
        let best =
            window.iter().copied().fold(window[0], |b, p| if value(i, p) > value(i, b) { p } else { b });
        y.push(value(i, best));
        at.push(best as u32);
        dx[i / windows.len() * plane + best] += dy[i] as f64;
    }
    let got = on_1_and_2_threads(|| {
        let (mut y, mut argmax) = (vec![Elem::NAN; dy.len()], vec![7; dy.len()]);
        let mut dx = vec![Elem::NAN; x.len()];
        max_pool2d(g, &x, &mut y, &mut argmax);
        assert_eq!(argmax, at, "{g:?}");
        max_pool2d_backward(g, &dy, &argmax, None, &mut dx);
        let slope = Slope { act: Act::Tanh, saved: &x };
        let mut sloped = vec![Elem::NAN; x.len()];
        max_pool2d_backward(g, &dy, &argmax, Some(slope), &mut sloped);
        let mut apart = dx.clone();
        act_backward(Act::Tanh, &x, &mut apart);
        assert_eq!(sloped, apart, "{g:?}");
        [y, dx].concat()
    });
    close(&got, &[y, dx].concat(), 1e-6, &format!("maximum of {g:?}"));
    if g.dilation != [1, 1] {
        return;
    }
    for count_include_pad in [true, false] {
        let (mut y, mut dx) = (vec![], vec![0.0f64; x.len()]);
        for i in 0..dy.len() {
            let window = &windows[i % windows.len()];
            let (oy, ox) = (i % windows.len() / g.out[1], i % windows.len() % g.out[1]);
            let reach = |o: usize, a: usize, size: usize| {
                (o * g.stride[a] + g.kernel[a]).min(size + 2 * g.padding[a]) - o * g.stride[a]
            };
            let n =
                if count_include_pad { reach(oy, 0, g.h) * reach(ox, 1, g.w) } else { window.len() } as f64;
            y.push(window.iter().map(|p| value(i, *p)).sum::<f64>() / n);
            window.iter().for_each(|p| dx[i / windows.len() * plane + p] += dy[i] as f64 / n);
        }
        let got = on_1_and_2_threads(|| {
            let (mut y, mut dx) = (vec![Elem::NAN; dy.len()], vec![Elem::NAN; x.len()]);
            avg_pool2d(g, count_include_pad, &x, &mut y);
            avg_pool2d_backward(g, count_include_pad, &dy, None, &mut dx);
            let slope = Slope { act: Act::Tanh, saved: &x };
            let mut sloped = vec![Elem::NAN; x.len()];
            avg_pool2d_backward(g, count_include_pad, &dy, Some(slope), &mut sloped);
            let mut apart = dx.clone();
            act_backward(Act::Tanh, &x, &mut apart);
            assert_eq!(sloped, apart, "{g:?}");
            [y, dx].concat()
        });
        close(&got, &[y, dx].concat(), 1e-6, &format!("mean of {g:?}"));
    }
}

#[test]
fn infinities_and_nan() {
    let window = Window { stride: [1, 2], padding: [0, 1], ..Window::new([1, 3]) };
    let g = PoolGeom::new([1, 1, 1, 5], window, false).unwrap();
    let (mut y, mut at) = ([0.0; 3], [9; 3]);
    max_pool2d(&g, &[Elem::NEG_INFINITY; 5], &mut y, &mut at);
    assert_eq!((y, at), ([Elem::NEG_INFINITY; 3], [0, 1, 3]));
    max_pool2d(&g, &[1.0, Elem::NAN, 3.0, 2.0, 2.0], &mut y, &mut at);
    assert!(y[0].is_nan() && y[1].is_nan() && y[2] == 2.0);
    assert_eq!(at, [1, 1, 3]);
}

/// Where only shapes count the places of the maxima are stale if they were not looked for, and nothing is sent to them: also
/// of 65,280 numbers whose maxima are 73,695.
#[test]
fn stale_places_are_not_read() {
    let window = Window { padding: [1, 1], ..Window::new([2, 2]) };
    let g = PoolGeom::new([1, 255, 16, 16], window, false).unwrap();
    let (x, mut y, mut at) = (vec![0.0; g.x_len()], vec![0.0; g.y_len()], vec![u32::MAX; g.y_len()]);
    let mut dx = x.clone();
    shapes_only(true, || {
        max_pool2d(&g, &x, &mut y, &mut at);
        max_pool2d_backward(&g, &y, &at, None, &mut dx);
    });
}

#[test]
fn sizes_follow_torch() {
    let size = |h, k, s, p, ceil| {
        let window = Window { stride: [s; 2], padding: [p; 2], ..Window::new([k; 2]) };
        PoolGeom::new([1, 1, h, h], window, ceil).map(|g| g.out[0])
    };
    assert_eq!(size(5, 2, 2, 0, false).unwrap(), 2);
    assert_eq!(size(5, 2, 2, 0, true).unwrap(), 3);
    // The third window would start in the right padding.
    assert_eq!(size(4, 2, 3, 1, true).unwrap(), 2);
    assert!(size(4, 2, 2, 2, false).unwrap_err().to_string().contains("more than half"));
    assert!(size(1, 3, 1, 0, false).unwrap_err().to_string().contains(": what comes in is too small."));
}

#[test]
fn whole_planes() {
    let x = noise(1, 4000 * 49);
    let got = on_1_and_2_threads(|| {
        let (mut y, mut dx) = (vec![Elem::NAN; 4000], vec![Elem::NAN; x.len()]);
        global_avg_pool(49, &x, &mut y);
        global_avg_pool_backward(49, &y, &mut dx);
        [y, dx].concat()
    });
    let y: Vec<f64> = x.chunks(49).map(|c| c.iter().map(|v| *v as f64).sum::<f64>() / 49.0).collect();
    let dx: Vec<f64> = y.iter().flat_map(|v| [v / 49.0; 49]).collect();
    close(&got, &[y, dx].concat(), 1e-6, "global mean");
}
