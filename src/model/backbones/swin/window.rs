//! Attention within windows of a map.

use crate::base::{Elem, Error, Result};
use crate::model::backbones::windows::{APART, Windows, distances, weighed};
use crate::module;
use crate::nn::init::TruncNormal;
use crate::nn::{Forward, Linear, Module, Param, Var};

/// Attention of the tokens of a map within windows, which begin `shift` places later in every other block, so that what one
/// block keeps apart the next one brings together.
pub(in crate::model::backbones) struct ShiftWindowMSA {
    /// Takes windows [N · windows, T, C], and what is added to the scores, [windows, 1, T, T].
    w_msa: Box<dyn Module>,
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
    window: usize,
}

module!(ShiftWindowMSA { w_msa });
module!(WindowMSA { relative_position_bias_table, qkv, proj });

impl ShiftWindowMSA {
    pub fn new(dims: usize, heads: usize, [window, shift]: [usize; 2], pad_small: bool) -> Result<Self> {
        if heads == 0 || !dims.is_multiple_of(heads) {
            return Err(Error::config(format!(
                "`num_heads: {heads}` does not divide the {dims} features of its stage"
            )));
        }
        let side = 2 * window - 1;
        let rule = TruncNormal { std: 0.02, ..TruncNormal::default() };
        let w_msa = WindowMSA {
            relative_position_bias_table: Param::init(&[side * side, heads], rule),
            qkv: Linear::new(dims, dims.saturating_mul(3)),
            proj: Linear::new(dims, dims),
            heads,
            window,
        };
        Ok(Self::of(w_msa, [window, shift], pad_small))
    }

    /// With another attention within the windows.
    pub fn of(w_msa: impl Module, [window, shift]: [usize; 2], pad_small: bool) -> Self {
        Self { w_msa: Box::new(w_msa), window, shift, pad_small }
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
        Windows::new(size, self.window, shift).attend(x, APART, |inside, mask| {
            let inputs: Vec<_> = [Some(inside), mask].into_iter().flatten().collect();
            cx.child_all("w_msa", &mut self.w_msa, &inputs)
        })
    }
}

impl Module for WindowMSA {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.forward_all(&[x], cx)
    }

    fn forward_all<'t>(&mut self, xs: &[Var<'t>], cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let (x, mask) = windows_of(xs)?;
        let ([b, t, c], heads) = ([x.shape()[0], x.shape()[1], x.shape()[2]], self.heads);
        let qkv = self.qkv.forward(x, cx)?.reshape(&[b, t, 3, heads, c / heads]).permute(&[2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|i| qkv.select(0, i));
        let q = q * (1.0 / ((c / heads) as Elem).sqrt());
        let table = x.tape().param(&self.relative_position_bias_table);
        let bias =
            table.index_select(0, &distances([self.window; 2])).transpose(0, 1).reshape(&[heads, t, t]);
        let y = weighed(q.matmul(k.transpose(2, 3)) + bias, mask, v)?;
        self.proj.forward(y, cx)
    }
}

/// The windows, and what is added to their scores.
pub(super) fn windows_of<'t>(xs: &[Var<'t>]) -> Result<(Var<'t>, Option<Var<'t>>)> {
    match xs {
        [x, more @ ..] => Ok((*x, more.first().copied())),
        [] => Err(Error::invalid("an attention of windows got no input")),
    }
}
