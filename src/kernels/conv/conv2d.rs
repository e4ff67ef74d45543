//! The three passes of a convolution, and which algorithm computes them.

#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
use super::bf16;
use super::geometry::ConvGeom;
use super::parts::{Part, as_stored, in_full, write_parts};
use super::precision::Way;
use super::weight_layout::WeightLayout;
use super::{forward, grouped, image_lanes, input_grad, pointwise, thinned, weight_grad, winograd};
use crate::base::Elem;
use crate::kernels::elementwise::{act_inplace, add_assign};
use crate::kernels::gemm::{Epilogue, LayerEpilogue, Mat, MatMut, gemm, linear};
use crate::kernels::isa::multiversion;
use crate::kernels::number::{Numbers, NumbersMut};
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::precision::Precision;
use crate::kernels::reduce::{channel_sums, scale_or_zero};
use crate::kernels::scratch::Scratch;

/// `y = act(conv(x, w) * scale + bias + residual)`.
pub fn conv2d<'a>(
    g: &ConvGeom,
    x: impl Into<Numbers<'a>>,
    w: &[Elem],
    then: LayerEpilogue<'_>,
    y: impl Into<NumbersMut<'a>>,
) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(w.len(), g.w_len(), "the weight does not fit {g:?}");
    check(g, x.len(), then, y.len());
    match Way::of(g) {
        #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
        Way::Tiles => {
            if !left_out(g) {
                bf16::forward(g, x, w, y, |at, out| follow(g, then, at, out));
            }
        }
        Way::InFull(precision) => {
            if let Some(shape) = winograd::Shape::forward(g) {
                if !left_out(g) {
                    let mut copy = None;
                    let x = as_stored(precision, x, g.n, &mut copy);
                    winograd::forward(&shape, (g, precision), x, w, y, |at, out| follow(g, then, at, out));
                }
                return;
            }
            let w = in_full(precision, Numbers::Full(w), g.k);
            write_parts(g, x, y, |part, y| {
                full_precision(&part.g, &part.in_full(precision, x), &w, part.then(then), y);
            });
        }
    }
}

fn full_precision(g: &ConvGeom, x: &[Elem], w: &[Elem], then: LayerEpilogue<'_>, y: &mut [Elem]) {
    let layout = WeightLayout::of(g);
    let mut packed = Scratch::take(layout.len(g));
    layout.pack(g, w, &mut packed);
    run(g, x, if layout == WeightLayout::Plain { w } else { &packed }, then, y);
}

/// Panics if a slice does not fit.
fn check(g: &ConvGeom, x: usize, then: LayerEpilogue<'_>, y: usize) {
    assert!(x == g.x_len() && y == g.y_len(), "slices do not fit {g:?}");
    assert!(then.scale.is_none_or(|s| s.len() == g.k), "scale does not fit {g:?}");
    assert!(then.bias.is_none_or(|b| b.len() == g.k), "bias does not fit {g:?}");
    assert!(then.residual.is_none_or(|r| r.len() == y), "residual does not fit {g:?}");
}

/// The forward pass by a weight in the layout of `g`.
fn run(g: &ConvGeom, x: &[Elem], w: &[Elem], then: LayerEpilogue<'_>, y: &mut [Elem]) {
    check(g, x.len(), then, y.len());
    if left_out(g) {
        return;
    }
    if let Some(thin) = thinned::thinned_input(g) {
        let mut seen = Scratch::take(thin.x_len());
        thinned::gather(g, x, &mut seen);
        return run(&thin, &seen, w, then, y);
    }
    let epilogue = |at: usize, out: &mut [Elem]| follow(g, then, at, out);
    if g.is_linear() {
        let inner = g.c * g.h * g.w;
        linear(Mat::new(x, g.n, inner), Mat::new(w, g.k, inner), then, MatMut::new(y, g.n, g.k));
    } else if pointwise::fits_forward(g) {
        pointwise::forward(g, x, w, y, epilogue);
    } else if grouped::fits(g) {
        grouped::forward(g, x, w, y, epilogue);
    } else {
        forward::forward(g, x, w, y, epilogue);
    }
}

/// Whether it is large enough to be left out where only shapes count.
fn left_out(g: &ConvGeom) -> bool {
    par::left_out(g.flops() < SERIAL_FLOPS)
}

/// What follows, on `out`: the part of the output that begins at `at` and lies in one plane.
fn follow(g: &ConvGeom, then: LayerEpilogue<'_>, at: usize, out: &mut [Elem]) {
    let channel = at / (g.out[0] * g.out[1]) % g.k;
    match (then.scale, then.bias.map(|bias| bias[channel])) {
        (Some(scale), bias) => affine(scale[channel], bias.unwrap_or(0.0), out),
        (None, Some(bias)) => affine(1.0, bias, out),
        (None, None) => {}
    }
    if let Some(residual) = then.residual {
        add_assign(&residual[at..][..out.len()], out);
    }
    act_inplace(then.act, out);
}

multiversion! {
    /// `x = x * scale + shift`.
    fn affine(scale: Elem, shift: Elem, x: &mut [Elem]) {
        x.iter_mut().for_each(|x| *x = *x * scale + shift);
    }
}

/// `dx`: the gradient of the input; overwritten.
pub fn conv2d_backward_data<'a>(
    g: &ConvGeom,
    dy: impl Into<Numbers<'a>>,
    w: &[Elem],
    dx: impl Into<NumbersMut<'a>>,
) {
    let (dy, dx) = (dy.into(), dx.into());
    assert!(
        dx.len() == g.x_len() && w.len() == g.w_len() && dy.len() == g.y_len(),
        "slices do not fit {g:?}"
    );
    if left_out(g) {
        return;
    }
    match Way::of(g) {
        #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
        Way::Tiles => bf16::backward_data(g, dy, w, dx),
        Way::InFull(precision) => {
            if let Some(shape) = winograd::Shape::backward(g) {
                let mut copy = None;
                let dy = as_stored(precision, dy, g.n, &mut copy);
                return winograd::backward_data(&shape, (g, precision), dy, w, dx);
            }
            let w = in_full(precision, Numbers::Full(w), g.k);
            write_parts(g, dy, dx, |part, dx| {
                input_gradient(&part.g, &part.in_full(precision, dy), &w, dx);
            });
        }
    }
}

fn input_gradient(g: &ConvGeom, dy: &[Elem], w: &[Elem], dx: &mut [Elem]) {
    if let Some(thin) = thinned::thinned(g) {
        let mut seen = Scratch::take(thin.x_len());
        input_gradient(&thin, dy, w, &mut seen);
        return thinned::spread(g, &seen, dx);
    }
    if g.is_linear() {
        let inner = g.c * g.h * g.w;
        let (dy, w) = (Mat::new(dy, g.n, g.k), Mat::new(w, g.k, inner));
        gemm(1.0, dy, w, 0.0, MatMut::new(dx, g.n, inner), Epilogue::default());
    } else if pointwise::fits_backward(g) {
        pointwise::backward_data(g, dy, w, dx);
    } else if grouped::fits(g) {
        grouped::backward_data(g, dy, w, dx);
    } else if input_grad::is_narrow(g) && image_lanes::fits(g) {
        image_lanes::backward_data(g, dy, w, dx);
    } else {
        input_grad::backward_data(g, dy, w, dx);
    }
}

/// `y = conv_transpose(x, w) + bias`, of a transposed convolution: `g` is the convolution that takes its output back to
/// its input, so `y` has the shape of that one's input.
pub fn conv_transpose2d(g: &ConvGeom, x: &[Elem], w: &[Elem], bias: Option<&[Elem]>, y: &mut [Elem]) {
    assert!(bias.is_none_or(|b| b.len() == g.c), "bias does not fit {g:?}");
    conv2d_backward_data(g, x, w, &mut *y);
    if let Some(bias) = bias {
        par::each_index((g.h * g.w).max(1), y, |p, y| y.iter_mut().for_each(|v| *v += bias[p % g.c]));
    }
}

/// `dw = beta * dw + gradient`, and the same for the bias where there is one.
pub fn conv2d_backward_weight<'a>(
    g: &ConvGeom,
    x: impl Into<Numbers<'a>>,
    dy: impl Into<Numbers<'a>>,
    beta: Elem,
    dw: &mut [Elem],
    db: Option<&mut [Elem]>,
) {
    let (x, dy) = (x.into(), dy.into());
    assert!(
        x.len() == g.x_len() && dw.len() == g.w_len() && dy.len() == g.y_len(),
        "slices do not fit {g:?}"
    );
    if dw.is_empty() || left_out(g) {
        // Nothing to compute.
    } else if g.n == 0 {
        scale_or_zero(beta, dw);
    } else {
        match Way::of(g) {
            Way::InFull(precision) => {
                if let Some(shape) = winograd::Shape::forward(g) {
                    let [mut of_x, mut of_dy] = [None, None];
                    let x = as_stored(precision, x, g.n, &mut of_x);
                    let dy = as_stored(precision, dy, g.n, &mut of_dy);
                    winograd::backward_weight(&shape, x, dy, beta, dw);
                } else {
                    backward_weight_in_full(g, precision, x, dy, beta, dw);
                }
            }
            #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
            Way::Tiles => bf16::backward_weight(g, x, dy, beta, dw),
        }
    }
    if let Some(db) = db {
        channel_sums(g.n, g.k, g.out[0] * g.out[1], dy, beta, db);
    }
}

/// The gradient of the weight by kernels that read in full: part after part of the images.
fn backward_weight_in_full(
    g: &ConvGeom,
    precision: Precision,
    x: Numbers<'_>,
    dy: Numbers<'_>,
    beta: Elem,
    dw: &mut [Elem],
) {
    for part in Part::each(g, x.is_half() || dy.is_half()) {
        let [x, dy] = [x, dy].map(|all| part.in_full(precision, all));
        backward_weight(&part.g, &x, &dy, if part.is_first() { beta } else { 1.0 }, dw);
    }
}

fn backward_weight(g: &ConvGeom, x: &[Elem], dy: &[Elem], beta: Elem, dw: &mut [Elem]) {
    if let Some(thin) = thinned::thinned_input(g) {
        let mut seen = Scratch::take(thin.x_len());
        thinned::gather(g, x, &mut seen);
        return backward_weight(&thin, &seen, dy, beta, dw);
    }
    if grouped::fits(g) {
        return grouped::backward_weight(g, x, dy, beta, dw);
    }
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    if super::weight_grad_narrow::fits(g) {
        return super::weight_grad_narrow::backward_weight(g, x, dy, beta, dw);
    }
    if g.is_linear() {
        let inner = g.c * g.h * g.w;
        let (dy, x) = (Mat::new(dy, g.n, g.k), Mat::new(x, g.n, inner));
        return gemm(1.0, dy.t(), x, beta, MatMut::new(dw, g.k, inner), Epilogue::default());
    }
    weight_grad::backward_weight(g, x, dy, beta, dw);
}
