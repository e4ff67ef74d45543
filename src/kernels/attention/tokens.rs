//! From planes of channels to tokens and back: the ends of a vision transformer (Dosovitskiy et al., arXiv:2010.11929).

use crate::base::Elem;
use crate::kernels::elementwise::{add_assign, scale};
use crate::kernels::par;
use crate::kernels::reduce::col_sums;
use crate::kernels::transpose::transpose;

/// The shape of a sequence of tokens made from images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenGeom {
    /// Images.
    pub n: usize,
    /// Channels: the size of a token.
    pub c: usize,
    /// Pixels of a plane.
    pub l: usize,
    /// Tokens in front of those of the image: 1 with a class token, else 0.
    pub first: usize,
}

impl TokenGeom {
    /// Tokens of one image.
    pub fn tokens(&self) -> usize {
        self.first + self.l
    }

    /// Elements of all planes.
    pub fn planes_len(&self) -> usize {
        self.n * self.c * self.l
    }

    /// Elements of all tokens.
    pub fn tokens_len(&self) -> usize {
        self.n * self.tokens() * self.c
    }
}

/// `y[n, t, c] = x[n, c, t - first] + pos[t, c]`; the tokens in front are `front[t, c] + pos[t, c]`. What is absent
/// counts as 0.
pub fn embed_tokens(g: &TokenGeom, x: &[Elem], front: Option<&[Elem]>, pos: Option<&[Elem]>, y: &mut [Elem]) {
    let (head, size) = (g.first * g.c, g.tokens() * g.c);
    assert!(x.len() == g.planes_len() && y.len() == g.tokens_len(), "slices do not fit {g:?}");
    assert!(front.is_none_or(|f| f.len() == head) && pos.is_none_or(|p| p.len() == size), "not of {g:?}");
    par::each_index(size.max(1), y, |i, y| {
        match pos {
            Some(pos) => y.copy_from_slice(pos),
            None => y[..head].fill(0.0),
        }
        if let Some(front) = front {
            add_assign(front, &mut y[..head]);
        }
        let planes = &x[i * g.c * g.l..][..g.c * g.l];
        let beta = if pos.is_some() { 1.0 } else { 0.0 };
        transpose(g.c, g.l, planes, g.l, beta, &mut y[head..], g.c);
    });
}

/// The planes of tokens, without those in front: `x[n, c, l] = y[n, first + l, c]`.
pub fn token_planes(g: &TokenGeom, y: &[Elem], x: &mut [Elem]) {
    assert!(x.len() == g.planes_len() && y.len() == g.tokens_len(), "slices do not fit {g:?}");
    let size = g.tokens() * g.c;
    par::each_index((g.c * g.l).max(1), x, |i, x| {
        let tokens = &y[i * size + g.first * g.c..(i + 1) * size];
        transpose(g.l, g.c, tokens, g.c, 0.0, x, g.l);
    });
}

/// The mean of the tokens behind the first ones: `out[n, c]`, 0 for none.
pub fn token_mean(g: &TokenGeom, y: &[Elem], out: &mut [Elem]) {
    assert!(out.len() == g.n * g.c && y.len() == g.tokens_len(), "slices do not fit {g:?}");
    let size = g.tokens() * g.c;
    par::each_index(g.c.max(1), out, |i, out| {
        col_sums(&y[i * size + g.first * g.c..(i + 1) * size], 0.0, out);
        scale(1.0 / g.l.max(1) as Elem, out);
    });
}

/// The backward pass of [`token_mean`]: overwrites `dy`.
pub fn token_mean_backward(g: &TokenGeom, dout: &[Elem], dy: &mut [Elem]) {
    assert!(dout.len() == g.n * g.c && dy.len() == g.tokens_len(), "slices do not fit {g:?}");
    let share = 1.0 / g.l.max(1) as Elem;
    par::each_index((g.tokens() * g.c).max(1), dy, |i, dy| {
        let (front, tokens) = dy.split_at_mut(g.first * g.c);
        front.fill(0.0);
        for token in tokens.chunks_exact_mut(g.c.max(1)) {
            token.iter_mut().zip(&dout[i * g.c..]).for_each(|(d, g)| *d = g * share);
        }
    });
}
