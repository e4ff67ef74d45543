//! Graphs of the places of a map, drawn anew by each layer between places that are alike.

use ndarray::{ArrayD, ArrayViewMutD, IxDyn};
use rayon::prelude::*;

use crate::base::{Elem, Error, Result, Rng, Tensor, left_out};
use crate::model::backbones::common::Chain;
use crate::module;
use crate::nn::init::{Fans, Initializer};
use crate::nn::{
    BatchNorm2d, Conv2d, ConvNormConfig, DropPath, Forward, GELU, Module, Param, PoolOptions, Var,
};

/// Which places each one looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbours {
    /// How many.
    pub k: usize,
    /// Every which of the nearest.
    pub dilation: usize,
    /// They are sought among means of so many places on each side.
    pub reduce: usize,
}

/// `x + fc2(graph_conv(fc1(x)))`.
pub(super) struct Grapher {
    relative_pos: Option<Param>,
    fc1: Chain,
    graph_conv: GraphConv,
    fc2: Chain,
    drop_path: DropPath,
    neighbours: Neighbours,
}

/// The place of the convolution in MMPretrain's names.
struct GraphConv {
    gconv: MaxRelative,
}

/// A convolution of each channel beside what its neighbours have most above it (Li et al. 2019,
/// <https://arxiv.org/abs/1904.03751>).
struct MaxRelative {
    nn: Chain,
}

/// Two convolutions of 1 × 1 beside their input.
pub(super) struct Ffn {
    fc1: Chain,
    fc2: Chain,
    drop_path: DropPath,
}

module!(Grapher { relative_pos, fc1, graph_conv, fc2, drop_path });
module!(GraphConv { gconv });
module!(MaxRelative { nn });
module!(Ffn { fc1, fc2, drop_path });

/// A convolution of 1 × 1 and its norm.
fn pointwise(from: usize, to: usize) -> Chain {
    Chain::default().with("0", Conv2d::new(from, to, 1)).with("1", BatchNorm2d::new(to))
}

impl Grapher {
    pub fn new(
        channels: usize,
        neighbours: Neighbours,
        norm: ConvNormConfig,
        [bias, placed]: [bool; 2],
        side: usize,
        drop_path: f64,
    ) -> Self {
        let conv = Conv2d::new(2 * channels, 2 * channels, 1).groups(4).bias(bias);
        let nn = Chain::default().with("0", conv).with("1", norm.build(2 * channels)).with("2", GELU::new());
        Self {
            relative_pos: placed
                .then(|| Apart { features: channels, side, reduce: neighbours.reduce }.param()),
            fc1: pointwise(channels, channels),
            graph_conv: GraphConv { gconv: MaxRelative { nn } },
            fc2: pointwise(2 * channels, channels),
            drop_path: DropPath::new(drop_path),
            neighbours,
        }
    }
}

impl Ffn {
    pub fn new(channels: usize, drop_path: f64) -> Self {
        let inner = channels.saturating_mul(4);
        Self {
            fc1: pointwise(channels, inner),
            fc2: pointwise(inner, channels),
            drop_path: DropPath::new(drop_path),
        }
    }
}

impl Module for Grapher {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("fc1", &mut self.fc1, x)?;
        let position = self.relative_pos.as_ref();
        let y = cx.within("graph_conv", &mut self.graph_conv, y, |conv, cx| {
            let both = beside_neighbours(y, position, self.neighbours)?;
            cx.child("gconv.nn", &mut conv.gconv.nn, both)
        })?;
        let y = cx.child("fc2", &mut self.fc2, y)?;
        (self.drop_path.forward(y, cx)? + x).checked()
    }
}

impl Module for Ffn {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let y = cx.child("fc1", &mut self.fc1, x)?.gelu();
        let y = cx.child("fc2", &mut self.fc2, y)?;
        (self.drop_path.forward(y, cx)? + x).checked()
    }
}

/// Each channel of a map [N, C, H, W], and behind it how much more of it the neighbours of a place have at most:
/// [N, 2 C, H, W].
fn beside_neighbours<'t>(x: Var<'t>, position: Option<&Param>, n: Neighbours) -> Result<Var<'t>> {
    let (tape, shape) = (x.tape(), x.shape());
    let &[samples, channels, h, w] = &shape[..] else {
        return Err(Error::invalid(format!("a graph of places wants a map, got shape {shape:?}")));
    };
    let reduced = match n.reduce {
        1 => x,
        reduce => x.avg_pool2d(PoolOptions::new([reduce, reduce])).checked()?,
    };
    let [from, to] = [x, reduced].map(|map| map.flatten(2, -1));
    let distances = tape.no_grad(|| {
        let unit = |x: Var<'t>| x / (x * x).sum_keepdim(&[1]).clamp(1e-24, Elem::MAX).sqrt();
        let [from, to] = [unit(from), unit(to)];
        let square = |x: Var<'t>| (x * x).sum_keepdim(&[1]);
        let distances = square(from).transpose(1, 2) - from.transpose(1, 2).matmul(to) * 2.0 + square(to);
        position.map_or(distances, |position| distances + tape.param(position)).checked()
    })?;
    let (places, among) = (h * w, to.shape()[2]);
    if n.k * n.dilation > among {
        return Err(Error::invalid(format!(
            "each place looks at {} of the {} nearest, but there are {among}: lower `k`",
            n.k,
            n.k * n.dilation
        )));
    }
    let nearest = nearest(&distances.value(), n);
    let best = best(&to.value(), &nearest, [samples, channels, places], n.k);
    let most = to.gather(2, &best) - from;
    tape.stack(&[from, most], 2).reshape(&[samples, 2 * channels, h, w]).checked()
}

/// For each row of distances the places of the nearest, of equal ones the first.
fn nearest(distances: &Tensor, n: Neighbours) -> Vec<usize> {
    let among = distances.shape().last().copied().unwrap_or(1).max(1);
    let mut found = vec![0; distances.len() / among * n.k];
    if left_out(distances.len()) {
        return found;
    }
    let rows = distances.as_slice().unwrap_or_default().par_chunks_exact(among);
    found.par_chunks_exact_mut(n.k).zip(rows).for_each(|(found, row)| {
        let nearer = |a: &usize, b: &usize| row[*a].total_cmp(&row[*b]).then(a.cmp(b));
        let mut order: Vec<usize> = (0..among).collect();
        let wanted = n.k * n.dilation;
        if wanted < among {
            order.select_nth_unstable_by(wanted, nearer);
        }
        let order = &mut order[..wanted];
        order.sort_unstable_by(nearer);
        found.iter_mut().zip(order.iter().step_by(n.dilation)).for_each(|(to, place)| *to = *place);
    });
    found
}

/// Which of the neighbours of each place has the most of each channel, of equal ones the first.
fn best(
    values: &Tensor,
    nearest: &[usize],
    [samples, channels, places]: [usize; 3],
    k: usize,
) -> ArrayD<i64> {
    let among = values.shape().last().copied().unwrap_or(1).max(1);
    let mut best = vec![0; samples * channels * places];
    if left_out(best.len()) {
        return ArrayD::from_shape_vec(IxDyn(&[samples, channels, places]), best).unwrap_or_default();
    }
    let planes = values.as_slice().unwrap_or_default().par_chunks_exact(among);
    best.par_chunks_exact_mut(places.max(1)).zip(planes).enumerate().for_each(|(i, (best, plane))| {
        let own = &nearest[i / channels * places * k..][..places * k];
        for (best, neighbours) in best.iter_mut().zip(own.chunks_exact(k)) {
            let most = |a: usize, b: &usize| if plane[*b] > plane[a] { *b } else { a };
            *best = neighbours.iter().fold(neighbours[0], most) as i64;
        }
    });
    ArrayD::from_shape_vec(IxDyn(&[samples, channels, places]), best).unwrap_or_default()
}

/// How far places of a square map are apart, by waves of as many features, with a minus: what is added to the distances of
/// what they hold. The second axis is that of a map reduced by `reduce` on each side, by PyTorch's bicubic weights.
struct Apart {
    features: usize,
    side: usize,
    reduce: usize,
}

impl Apart {
    fn param(self) -> Param {
        let places = self.side * self.side;
        let mut param = Param::init(&[1, places, places / (self.reduce * self.reduce)], self);
        param.trainable = false;
        param
    }
}

impl Initializer for Apart {
    fn describe(&self) -> String {
        "the distances of the places".to_owned()
    }

    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, _: Option<Fans>, _: &mut Rng) -> Result<()> {
        let Self { features, side, reduce } = *self;
        let waves = features / 4;
        let slow = |i: usize| 1.0 / libm::pow(10_000.0, i as f64 / waves.max(1) as f64);
        let along: Vec<f64> = (0..side)
            .map(|apart| (0..waves).map(|i| libm::cos(apart as f64 * slow(i))).sum::<f64>())
            .map(|sum| sum * 2.0 / features as f64)
            .collect();
        let near =
            |a: usize, b: usize| along[(a / side).abs_diff(b / side)] + along[(a % side).abs_diff(b % side)];
        let step = reduce * reduce;
        for (at, value) in weight.indexed_iter_mut() {
            let (row, column) = (at[1], at[2]);
            let apart: f64 = match step {
                1 => near(row, column),
                // Half-way between two columns.
                _ => [-0.093_75, 0.593_75, 0.593_75, -0.093_75]
                    .iter()
                    .enumerate()
                    .map(|(i, weight)| weight * near(row, column * step + step / 2 + i - 2))
                    .sum(),
            };
            *value = -apart as Elem;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of MMPretrain's `Grapher(8, r=…, n=side², relative_pos=True)`: those of the corner, its neighbour, and others.
    #[test]
    fn places_are_as_far_apart_as_in_mmpretrain() {
        let cases = [
            (4, 1, [-1.0, -0.885_063, -0.770_126, -0.148_303, -0.885_063]),
            (4, 2, [-0.768_168, -0.653_231, -0.860_79, -0.414_082, -0.975_727]),
            (8, 4, [-0.917_389, -0.549_009, -0.436_292, -0.678_353, -0.884_927]),
        ];
        for (side, reduce, wanted) in cases {
            let found = Apart { features: 8, side, reduce }.param().value;
            let (rows, columns) = (found.shape()[1], found.shape()[2]);
            let at = [(0, 0), (0, 1), (5, 2), (rows - 1, 1), (rows - 2, columns - 1)];
            for ((row, column), wanted) in at.into_iter().zip(wanted) {
                let found = found[[0, row, column]];
                assert!((found - wanted).abs() < 2e-6, "{side}, {reduce}: {found} at {row}, {column}");
            }
        }
    }

    /// Every second of the nearest, and of equal ones the first.
    #[test]
    fn neighbours_are_the_nearest() {
        let row = Tensor::from_shape_vec(vec![1, 1, 6], vec![3.0, 1.0, 2.0, 1.0, 0.5, 9.0]).unwrap();
        let of = |k, dilation| nearest(&row, Neighbours { k, dilation, reduce: 1 });
        assert_eq!(of(3, 1), [4, 1, 3]);
        assert_eq!(of(3, 2), [4, 3, 0]);
        assert_eq!(of(6, 1), [4, 1, 3, 2, 0, 5]);
        let values = Tensor::from_shape_vec(vec![1, 2, 3], vec![1.0, 5.0, 5.0, 7.0, 0.0, 2.0]).unwrap();
        let best = best(&values, &[2, 1, 0, 2], [1, 2, 2], 2);
        assert_eq!(best.iter().copied().collect::<Vec<_>>(), [2, 2, 2, 0]);
    }
}
