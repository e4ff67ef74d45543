//! Means over a given number of parts of an image, however large it is.

use std::ops::Range;

use crate::base::{Elem, Error, Result, memory};
use crate::nn::buffer_pool::{slice, tensor};
use crate::nn::{PoolOptions, Var};

use crate::nn::shapes::images;

impl<'t> Var<'t> {
    /// The mean of each of `out` parts of `x` [N, C, H, W]: part i of o along an axis of size s runs from ⌊i s / o⌋ to
    /// ⌈(i + 1) s / o⌉, as in PyTorch.
    pub fn adaptive_avg_pool2d(self, out: [usize; 2]) -> Self {
        self.attempt(|| self.try_adaptive_avg_pool2d(out))
    }

    fn try_adaptive_avg_pool2d(self, out: [usize; 2]) -> Result<Self> {
        let x = self.value();
        let [n, c, h, w] = images(&x, "adaptive average pooling")?;
        if h == 0 || w == 0 || out.contains(&0) {
            return Err(Error::invalid(format!(
                "adaptive average pooling cannot cut {h} x {w} into {out:?} parts"
            )));
        }
        if out == [1, 1] {
            return Ok(self.global_avg_pool().reshape(&[n, c, 1, 1]));
        }
        if h % out[0] == 0 && w % out[1] == 0 {
            return Ok(self.avg_pool2d(PoolOptions::new([h / out[0], w / out[1]])));
        }
        memory::fits("the output of adaptive average pooling", &[n, c, out[0], out[1]], size_of::<Elem>())?;
        let mut y = self.tape.take(n * c * out[0] * out[1]);
        for (y, x) in y.chunks_exact_mut(out[0] * out[1]).zip(slice(&x).chunks_exact(h * w)) {
            for (y, (rows, cols)) in y.iter_mut().zip(bins([h, w], out)) {
                let count = (rows.len() * cols.len()) as Elem;
                *y = rows.map(|r| x[r * w..][cols.clone()].iter().sum::<Elem>()).sum::<Elem>() / count;
            }
        }
        Ok(self.tape.node(
            "adaptive_avg_pool2d",
            tensor(&[n, c, out[0], out[1]], y),
            &[self],
            move |dy, grads| {
                let mut dx = grads.pool.take(n * c * h * w);
                dx.fill(0.0);
                for (dy, dx) in dy.chunks_exact(out[0] * out[1]).zip(dx.chunks_exact_mut(h * w)) {
                    for (dy, (rows, cols)) in dy.iter().zip(bins([h, w], out)) {
                        let share = dy / (rows.len() * cols.len()) as Elem;
                        rows.for_each(|r| dx[r * w..][cols.clone()].iter_mut().for_each(|d| *d += share));
                    }
                }
                grads.pool.give(dy);
                grads.add(0, dx);
            },
        ))
    }
}

/// Rows and columns of each part, row by row; neighbours may overlap by one.
fn bins(size: [usize; 2], out: [usize; 2]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let bin =
        move |axis: usize, i: usize| i * size[axis] / out[axis]..((i + 1) * size[axis]).div_ceil(out[axis]);
    (0..out[0]).flat_map(move |i| (0..out[1]).map(move |j| (bin(0, i), bin(1, j))))
}
