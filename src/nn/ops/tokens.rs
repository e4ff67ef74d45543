//! From images to sequences of tokens and back.

use crate::base::{Error, Result};
use crate::kernels::{TokenGeom, col_sums, embed_tokens, token_mean, token_mean_backward, token_planes};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::{expect_shape, images};

impl<'t> Var<'t> {
    /// Images [N, C, H, W] as tokens [N, T, C], row by row: T = H W, and one more if there is a class token `cls` [1, 1, C],
    /// which is put in front. To each token its position `pos` [1, T, C] is added.
    pub fn embed_tokens(self, cls: Option<Self>, pos: Option<Self>) -> Self {
        self.attempt(|| self.try_embed_tokens(cls, pos))
    }

    fn try_embed_tokens(self, cls: Option<Self>, pos: Option<Self>) -> Result<Self> {
        let x = self.value();
        let [n, c, h, w] = images(&x, "an embedding of patches")?;
        let g = TokenGeom { n, c, l: h * w, first: usize::from(cls.is_some()) };
        if let Some(cls) = cls {
            expect_shape("the class token", &cls.shape(), &[1, 1, c])?;
        }
        if let Some(pos) = pos {
            expect_shape("the positions of tokens", &pos.shape(), &[1, g.tokens(), c])?;
        }
        let (front, place) = (cls.map(Var::value), pos.map(Var::value));
        let mut y = self.tape.take(g.tokens_len());
        embed_tokens(&g, slice(&x), front.as_ref().map(slice), place.as_ref().map(slice), &mut y);
        let inputs: Vec<Var<'t>> = [Some(self), cls, pos].into_iter().flatten().collect();
        let (at_cls, at_pos) = (cls.map(|_| 1), pos.map(|_| 1 + g.first));
        Ok(self.tape.node("embed_tokens", tensor(&[n, g.tokens(), c], y), &inputs, move |dy, grads| {
            if grads.wants(0) {
                let mut dx = grads.pool.take(g.planes_len());
                token_planes(&g, &dy, &mut dx);
                grads.add(0, dx);
            }
            if [at_cls, at_pos].into_iter().flatten().any(|i| grads.wants(i)) {
                // The sum over the batch; that of the class token is its first row.
                let mut sums = grads.pool.take(g.tokens() * c);
                col_sums(&dy, 0.0, &mut sums);
                if let Some(i) = at_cls {
                    let mut dcls = grads.pool.take(c);
                    dcls.copy_from_slice(&sums[..c]);
                    grads.add(i, dcls);
                }
                match at_pos {
                    Some(i) => grads.add(i, sums),
                    None => grads.pool.give(sums),
                }
            }
            grads.pool.give(dy);
        }))
    }

    /// Tokens [N, T, C] as images [N, C, H, W] of the last H W of them; those in front are left out.
    pub fn token_planes(self, size: [usize; 2]) -> Self {
        self.attempt(|| self.try_token_planes(size))
    }

    fn try_token_planes(self, size: [usize; 2]) -> Result<Self> {
        let y = self.value();
        let [n, t, c] = tokens(y.shape())?;
        let [h, w] = size;
        let Some(first) = t.checked_sub(h * w) else {
            return Err(Error::invalid(format!("{t} tokens do not fill images of {h} x {w}")));
        };
        let g = TokenGeom { n, c, l: h * w, first };
        let mut x = self.tape.take(g.planes_len());
        token_planes(&g, slice(&y), &mut x);
        Ok(self.tape.node("token_planes", tensor(&[n, c, h, w], x), &[self], move |dx, grads| {
            let mut dy = grads.pool.take(g.tokens_len());
            embed_tokens(&g, &dx, None, None, &mut dy);
            grads.pool.give(dx);
            grads.add(0, dy);
        }))
    }

    /// The mean of all tokens but the `first` ones: [N, T, C] to [N, C].
    pub fn token_mean(self, first: usize) -> Self {
        self.attempt(|| self.try_token_mean(first))
    }

    fn try_token_mean(self, first: usize) -> Result<Self> {
        let x = self.value();
        let [n, t, c] = tokens(x.shape())?;
        let Some(l) = t.checked_sub(first).filter(|l| *l > 0) else {
            return Err(Error::invalid(format!("no mean of {t} tokens without the first {first}")));
        };
        let g = TokenGeom { n, c, l, first };
        let mut y = self.tape.take(n * c);
        token_mean(&g, slice(&x), &mut y);
        Ok(self.tape.node("token_mean", tensor(&[n, c], y), &[self], move |dy, grads| {
            let mut dx = grads.pool.take(g.tokens_len());
            token_mean_backward(&g, &dy, &mut dx);
            grads.pool.give(dy);
            grads.add(0, dx);
        }))
    }
}

/// The three sizes of a batch of sequences.
pub(super) fn tokens(shape: &[usize]) -> Result<[usize; 3]> {
    <[usize; 3]>::try_from(shape).map_err(|_| {
        Error::invalid(format!("tokens have the shape [N, T, C], got an input of shape {shape:?}"))
    })
}
