//! Windows of a map, and attention by what tokens know of their distances: parts of several networks.

use crate::base::{Elem, Result, Tensor};
use crate::module;
use crate::nn::{Param, Var};

/// What is added to the score of two tokens that the shift has put into one window, though the map has them at opposite
/// ends.
pub(super) const APART: Elem = -100.0;

/// How the tokens of a map are put into windows.
pub(super) struct Windows {
    /// For each place of each window the token that stands there; the one behind the last where the map has none.
    order: Vec<i64>,
    /// For each token its place.
    back: Vec<i64>,
    /// For each place the part of the map that it belongs to, if there are several.
    parts: Option<Vec<usize>>,
    /// Tokens of a window.
    tokens: usize,
}

impl Windows {
    /// Windows that begin `shift` places later than the map.
    pub fn new([h, w]: [usize; 2], window: usize, shift: usize) -> Self {
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
        Self { order, back, parts: (shift > 0).then_some(parts), tokens: window * window }
    }

    /// The same, whose places without a token are kept apart from the others.
    pub fn apart(mut self) -> Self {
        let none = self.back.len() as i64;
        self.parts = Some(self.order.iter().map(|token| usize::from(*token == none)).collect());
        self
    }

    /// The tokens [N, H W, C] of a map as `attend` makes them of those of each window, [N · windows, T, C]. Where a window
    /// has tokens of several parts, it gets beside them what is to be added to the scores, [windows, 1, T, T]: `far` for two
    /// tokens that are not of one part.
    pub fn attend<'t>(
        &self,
        x: Var<'t>,
        far: Elem,
        attend: impl FnOnce(Var<'t>, Option<Var<'t>>) -> Result<Var<'t>>,
    ) -> Result<Var<'t>> {
        let [n, l, c] = [0, 1, 2].map(|axis| x.shape()[axis]);
        let (tape, count) = (x.tape(), self.order.len() / self.tokens);
        let filled =
            if self.order.len() > l { tape.concat(&[x, x.slice(1, 0..1).zeros_like()], 1) } else { x };
        let inside = filled.index_select(1, &self.order).reshape(&[n * count, self.tokens, c]);
        let y = attend(inside.checked()?, self.mask(far).map(|mask| tape.input(mask)))?;
        let dims = y.shape()[2];
        y.reshape(&[n, count * self.tokens, dims]).index_select(1, &self.back).checked()
    }

    /// `far` for two tokens of different parts of the map.
    fn mask(&self, far: Elem) -> Option<Tensor> {
        let (parts, tokens) = (self.parts.as_ref()?, self.tokens);
        let shape = vec![parts.len() / tokens, 1, tokens, tokens];
        Some(Tensor::from_shape_fn(shape, |i| {
            let part = |token: usize| parts[i[0] * tokens + token];
            if part(i[2]) == part(i[3]) { 0.0 } else { far }
        }))
    }
}

/// For each pair of tokens of a map the number of their distance, of (2 h - 1) (2 w - 1).
pub(super) fn distances([h, w]: [usize; 2]) -> Vec<i64> {
    let tokens = || (0..h).flat_map(|row| (0..w).map(move |column| (row, column)));
    let place =
        |(a, b): (usize, usize), (c, d): (usize, usize)| (a + h - 1 - c) * (2 * w - 1) + b + w - 1 - d;
    tokens().flat_map(|from| tokens().map(move |to| place(from, to) as i64)).collect()
}

/// The values [N · windows, heads, T, C / heads] weighed by the softmax of scores to which a mask is added, heads side by
/// side.
pub(super) fn weighed<'t>(mut scores: Var<'t>, mask: Option<Var<'t>>, v: Var<'t>) -> Result<Var<'t>> {
    let shape = scores.checked()?.shape();
    if let Some(mask) = mask {
        let windows = mask.shape()[0];
        let grouped = scores.reshape(&[shape[0] / windows, windows, shape[1], shape[2], shape[3]]);
        scores = (grouped + mask).reshape(&shape);
    }
    let [b, heads, asked, dims] = [shape[0], shape[1], shape[2], v.shape()[3]];
    scores.softmax(-1).matmul(v).transpose(1, 2).reshape(&[b, asked, heads * dims]).checked()
}

/// `x` divided by its length along the last axis.
pub(super) fn unit(x: Var<'_>) -> Var<'_> {
    x / (x * x).sum_keepdim(&[-1]).clamp(1e-24, Elem::MAX).sqrt()
}

/// A learnt number of each head for the distance of two tokens, whose sign does not matter: LeViT's.
pub(super) struct Offsets {
    /// [heads, distances].
    attention_biases: Param,
    size: [usize; 2],
    stride: usize,
}

module!(Offsets { attention_biases });

impl Offsets {
    /// Of a map of this size, of whose rows and columns each `stride`th asks.
    pub fn new(heads: usize, size: [usize; 2], stride: usize) -> Self {
        let distances = size[0].saturating_mul(size[1]);
        Self { attention_biases: Param::full(&[heads, distances], 0.0), size, stride }
    }

    /// What is added to the scores: [heads, tokens that ask, tokens].
    pub fn bias<'t>(&self, near: Var<'t>) -> Var<'t> {
        let ([h, w], stride) = (self.size, self.stride);
        let asking = || (0..h).step_by(stride).flat_map(|a| (0..w).step_by(stride).map(move |b| (a, b)));
        let place =
            |(a, b): (usize, usize), (c, d): (usize, usize)| (a.abs_diff(c) * w + b.abs_diff(d)) as i64;
        let tokens = || (0..h).flat_map(|c| (0..w).map(move |d| (c, d)));
        let places: Vec<i64> = asking().flat_map(|from| tokens().map(move |to| place(from, to))).collect();
        let biases = near.tape().param(&self.attention_biases);
        let heads = self.attention_biases.value.shape()[0];
        biases.index_select(1, &places).reshape(&[heads, asking().count(), h * w])
    }

    /// Attention of heads that lie side by side in `qkv` [N, T, heads (2 K + V)], each with a query and a key of `key`
    /// features and a value: [N, T, heads V].
    ///
    /// # Errors
    /// When there are not as many tokens as the map has.
    pub fn attention<'t>(&self, qkv: Var<'t>, key: usize) -> Result<Var<'t>> {
        let [n, t, all] = [0, 1, 2].map(|axis| qkv.shape()[axis]);
        let heads = self.attention_biases.value.shape()[0];
        let parts = qkv.reshape(&[n, t, heads, all / heads]).transpose(1, 2);
        let [q, k] = [parts.slice(-1, ..key), parts.slice(-1, key..2 * key)];
        let scores = q.matmul(k.transpose(2, 3)) * (1.0 / (key as Elem).sqrt()) + self.bias(qkv);
        weighed(scores, None, parts.slice(-1, 2 * key..))
    }
}
