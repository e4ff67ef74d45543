//! Attention within windows of a map.

use crate::base::{Elem, Error, Result, Tensor};
use crate::module;
use crate::nn::init::TruncNormal;
use crate::nn::{Forward, Linear, Module as _, Param, Var};

/// Attention of the tokens of a map within windows, which begin `shift` places later in every other block, so that what one
/// block keeps apart the next one brings together.
pub(super) struct ShiftWindowMSA {
    w_msa: WindowMSA,
    window: usize,
    shift: usize,
    pad_small: bool,
}

/// Attention of the tokens of a window, with a learnt number for each distance of two.
struct WindowMSA {
    relative_position_bias_table: Param,
    qkv: Linear,
    proj: Linear,
    heads: usize,
    /// The row of the table for each pair of tokens.
    places: Vec<i64>,
}

module!(ShiftWindowMSA { w_msa });
module!(WindowMSA { relative_position_bias_table, qkv, proj });

/// What is added to the score of two tokens that the shift has put into one window, though the map has them at opposite
/// ends.
const APART: Elem = -100.0;

impl ShiftWindowMSA {
    pub fn new(dims: usize, heads: usize, [window, shift]: [usize; 2], pad_small: bool) -> Result<Self> {
        if heads == 0 || !dims.is_multiple_of(heads) {
            return Err(Error::config(format!(
                "`num_heads: {heads}` does not divide the {dims} features of its stage"
            )));
        }
        let side = 2 * window - 1;
        let tokens = || (0..window).flat_map(|row| (0..window).map(move |column| (row, column)));
        let place =
            |(a, b): (usize, usize), (c, d): (usize, usize)| (a + window - 1 - c) * side + b + window - 1 - d;
        let places = tokens().flat_map(|from| tokens().map(move |to| place(from, to) as i64)).collect();
        let rule = TruncNormal { std: 0.02, ..TruncNormal::default() };
        let w_msa = WindowMSA {
            relative_position_bias_table: Param::init(&[side * side, heads], rule),
            qkv: Linear::new(dims, dims.saturating_mul(3)),
            proj: Linear::new(dims, dims),
            heads,
            places,
        };
        Ok(Self { w_msa, window, shift, pad_small })
    }

    /// Of the tokens [N, H W, C] of a map.
    pub fn forward<'t>(&mut self, x: Var<'t>, size: [usize; 2], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let least = size[0].min(size[1]);
        if least < self.window && !self.pad_small {
            let ([h, w], window) = (size, self.window);
            return Err(Error::invalid(format!(
                "a map of {h} × {w} is smaller than `window_size: {window}`: take larger images, a smaller window, or \
                 `pad_small_map: true`"
            )));
        }
        let shift = if least == self.window && !self.pad_small { 0 } else { self.shift };
        let windows = Windows::new(size, self.window, shift);
        let [n, l, c] = [x.shape()[0], x.shape()[1], x.shape()[2]];
        let filled =
            if windows.order.len() > l { x.tape().concat(&[x, x.slice(1, 0..1).zeros_like()], 1) } else { x };
        let tokens = self.window * self.window;
        let count = windows.order.len() / tokens;
        let inside = filled.index_select(1, &windows.order).reshape(&[n * count, tokens, c]);
        let y = self.w_msa.forward(inside.checked()?, windows.mask(tokens), cx)?;
        y.reshape(&[n, count * tokens, c]).index_select(1, &windows.back).checked()
    }
}

impl WindowMSA {
    /// Of windows [N · windows, T, C]; the mask [windows, 1, T, T] is added to the scores.
    fn forward<'t>(&mut self, x: Var<'t>, mask: Option<Tensor>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let ([b, t, c], heads) = ([x.shape()[0], x.shape()[1], x.shape()[2]], self.heads);
        let qkv = self.qkv.forward(x, cx)?.reshape(&[b, t, 3, heads, c / heads]).permute(&[2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|i| qkv.select(0, i));
        let q = q * (1.0 / ((c / heads) as Elem).sqrt());
        let table = x.tape().param(&self.relative_position_bias_table);
        let bias = table.index_select(0, &self.places).transpose(0, 1).reshape(&[heads, t, t]);
        let mut scores = q.matmul(k.transpose(2, 3)) + bias;
        if let Some(mask) = mask {
            let windows = mask.shape()[0];
            let grouped = scores.reshape(&[b / windows, windows, heads, t, t]);
            scores = (grouped + x.tape().input(mask)).reshape(&[b, heads, t, t]);
        }
        let y = scores.softmax(-1).matmul(v).transpose(1, 2).reshape(&[b, t, c]);
        self.proj.forward(y.checked()?, cx)
    }
}

/// How the tokens of a map are put into windows.
struct Windows {
    /// For each place of each window the token that stands there; the one behind the last where the map has none.
    order: Vec<i64>,
    /// For each token its place.
    back: Vec<i64>,
    /// For each place the part of the map that it belongs to, if there are several.
    parts: Option<Vec<usize>>,
}

impl Windows {
    fn new([h, w]: [usize; 2], window: usize, shift: usize) -> Self {
        let [rows, columns] = [h, w].map(|size| size.div_ceil(window) * window);
        let mut order = Vec::with_capacity(rows * columns);
        let mut back = vec![0; h * w];
        let mut parts = Vec::with_capacity(if shift > 0 { rows * columns } else { 0 });
        // Which of three parts of an axis a shifted place is in: the second and third come together in the last window.
        let part =
            |at: usize, size: usize| usize::from(at + window >= size) + usize::from(at + shift >= size);
        for top in (0..rows).step_by(window) {
            for left in (0..columns).step_by(window) {
                for (row, column) in
                    (top..top + window).flat_map(|row| (left..left + window).map(move |c| (row, c)))
                {
                    let (y, x) = ((row + shift) % rows, (column + shift) % columns);
                    if y < h && x < w {
                        back[y * w + x] = order.len() as i64;
                        order.push((y * w + x) as i64);
                    } else {
                        order.push((h * w) as i64);
                    }
                    if shift > 0 {
                        parts.push(part(row, rows) * 3 + part(column, columns));
                    }
                }
            }
        }
        Self { order, back, parts: (shift > 0).then_some(parts) }
    }

    /// What is added to the scores of windows of so many tokens.
    fn mask(&self, tokens: usize) -> Option<Tensor> {
        let parts = self.parts.as_ref()?;
        let shape = vec![parts.len() / tokens, 1, tokens, tokens];
        Some(Tensor::from_shape_fn(shape, |i| {
            let part = |token: usize| parts[i[0] * tokens + token];
            if part(i[2]) == part(i[3]) { 0.0 } else { APART }
        }))
    }
}
