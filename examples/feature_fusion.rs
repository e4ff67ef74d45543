//! Measures what two kinds of features of one picture are worth together: `cargo run --release --example feature_fusion`.
//!
//! Of each digit there are histograms of its gradients (HOG-like: 8 directions in each quarter, 32 numbers), and the 32
//! hidden units of a network that has learnt from the same few samples. Both go to a nearest neighbour and to the nearest
//! mean of a class: each alone, one behind the other, and through discriminant correlation analysis (`fusion::Dca`).
#![allow(clippy::print_stdout)] // an example speaks

use anyhow::{Context, Result};
use shanty::base::rng::permutation;
use shanty::base::{Elem, keyed};
use shanty::data::{Dataset, Digits, DigitsSplit, SplitBy};
use shanty::fusion::{Dca, Fused};
use shanty::ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, concatenate};
use shanty::nn::init::init_weights;
use shanty::nn::{Autograd, CrossEntropyLoss, Linear, Loss, Module, ReLU, Sequential, Target};
use shanty::optim::{Adam, OptimWrapper};
use shanty::params::HostParams;

/// How many digits are learnt from.
const FEW: usize = 200;
const EPOCHS: u64 = 60;
const SEEDS: u64 = 5;

/// Pixels from 0 to 1, and classes.
struct Data {
    x: Array2<Elem>,
    y: Vec<usize>,
}

impl Data {
    fn load(split: DigitsSplit) -> Result<Self> {
        let digits = Digits::load(split, SplitBy::Index)?;
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for index in 0..digits.len() {
            let sample = digits.get(index, &mut keyed(0, "digits", 0, index as u64))?;
            x.extend(sample.float("inputs")?.iter().map(|value| *value as Elem / 16.0));
            y.push(usize::try_from(sample.label().context("a digit has a class")?)?);
        }
        Ok(Self { x: Array2::from_shape_vec((y.len(), 64), x)?, y })
    }

    fn few(&self, seed: u64) -> Self {
        let rows: Vec<usize> =
            permutation(self.y.len(), &mut keyed(seed, "few", 0, 0)).into_iter().take(FEW).collect();
        Self { x: self.x.select(Axis(0), &rows), y: rows.iter().map(|row| self.y[*row]).collect() }
    }
}

/// In each quarter of a picture how much it rises in each of eight directions; all of it has length 1.
fn histograms(picture: ArrayView1<'_, Elem>) -> Array1<f64> {
    let at =
        |row: isize, column: isize| f64::from(picture[(row.clamp(0, 7) * 8 + column.clamp(0, 7)) as usize]);
    let mut bins = Array1::<f64>::zeros(32);
    for (row, column) in (0..8isize).flat_map(|row| (0..8isize).map(move |column| (row, column))) {
        let (down, right) =
            (at(row + 1, column) - at(row - 1, column), at(row, column + 1) - at(row, column - 1));
        let turn = down.atan2(right) / std::f64::consts::TAU * 8.0 + 8.0;
        let (quarter, share) = ((row / 4 * 2 + column / 4) as usize, turn.fract());
        for (bin, part) in [(turn as usize, 1.0 - share), (turn as usize + 1, share)] {
            bins[quarter * 8 + bin % 8] += part * down.hypot(right);
        }
    }
    let length = bins.dot(&bins).sqrt();
    bins / f64::max(length, 1e-12)
}

fn described(x: &Array2<Elem>) -> Array2<f64> {
    let mut all = Array2::zeros((x.nrows(), 32));
    all.rows_mut().into_iter().zip(x.rows()).for_each(|(mut row, picture)| row.assign(&histograms(picture)));
    all
}

/// A network that has learnt from these samples.
fn learnt(data: &Data, seed: u64) -> Result<Sequential> {
    let mut net = Sequential::new().with(Linear::new(64, 32)).with(ReLU::new()).with(Linear::new(32, 10));
    init_weights(&mut net, seed)?;
    let (mut autograd, mut optim) = (Autograd::default(), OptimWrapper::new(Adam::new(0.005)));
    for epoch in 0..EPOCHS {
        let order = permutation(data.y.len(), &mut keyed(seed, "order", epoch, 0));
        for rows in order.chunks(20) {
            let x = data.x.select(Axis(0), rows).into_dyn();
            let y: Vec<i64> = rows.iter().map(|row| data.y[*row] as i64).collect();
            autograd.train(&mut net, &mut keyed(seed, "pass", epoch, 0), |net, tape, cx| {
                let scores = net.forward(tape.input(x.clone()), cx)?;
                let loss = CrossEntropyLoss::default().forward(scores, Target::Classes(&y))?.loss;
                Ok((loss, ()))
            })?;
            optim.update(&mut net)?;
            net.zero_grads();
        }
    }
    Ok(net)
}

/// The share of `y` that the nearest of the known samples, and the nearest mean of a class, says.
fn right(known: ArrayView2<'_, f64>, classes: &[usize], x: ArrayView2<'_, f64>, y: &[usize]) -> [f64; 2] {
    let distance = |a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>| (&a - &b).mapv(|d| d * d).sum();
    let nearest = |all: ArrayView2<'_, f64>, row: ArrayView1<'_, f64>| {
        let of = |at: &usize| distance(all.row(*at), row);
        (0..all.nrows()).min_by(|a, b| of(a).total_cmp(&of(b))).unwrap_or(0)
    };
    let mean = |class: usize| {
        let rows: Vec<usize> = (0..classes.len()).filter(|row| classes[*row] == class).collect();
        known.select(Axis(0), &rows).sum_axis(Axis(0)) / rows.len().max(1) as f64
    };
    let mut means = Array2::zeros((10, known.ncols()));
    means.rows_mut().into_iter().enumerate().for_each(|(class, mut row)| row.assign(&mean(class)));
    let mut hits = [0, 0];
    for (row, class) in x.rows().into_iter().zip(y) {
        hits[0] += usize::from(classes[nearest(known, row)] == *class);
        hits[1] += usize::from(nearest(means.view(), row) == *class);
    }
    hits.map(|hits| 100.0 * hits as f64 / y.len() as f64)
}

/// Each column with the mean and deviation that it has in `known` taken away.
fn standard(known: &Array2<f64>, x: &Array2<f64>) -> Result<Array2<f64>> {
    let mean = known.mean_axis(Axis(0)).context("there are samples")?;
    let deviation = known.std_axis(Axis(0), 0.0).mapv(|d| if d > 0.0 { d } else { 1.0 });
    Ok((x - &mean) / &deviation)
}

fn main() -> Result<()> {
    let (train, val) = (Data::load(DigitsSplit::Train)?, Data::load(DigitsSplit::Val)?);
    let names =
        ["histograms", "learnt", "one behind the other", "Dca, one behind the other", "Dca, added up"];
    let mut all: Vec<Vec<[f64; 2]>> = vec![Vec::new(); names.len()];
    for seed in 0..SEEDS {
        let few = train.few(seed);
        let mut net = learnt(&few, seed)?;
        let mut hidden = |x: &Array2<Elem>| -> Result<Array2<f64>> {
            let x = x.clone().into_dyn();
            let run = Autograd::default().trace(&mut net, &mut keyed(0, "look", 0, 0), |net, tape, cx| {
                net.forward(tape.input(x), cx).map(|_| ())
            })?;
            let output =
                run.1.iter().find(|module| module.path == "1").and_then(|module| module.output.clone());
            let output = output.context("the hidden layer has an output")?;
            Ok(output.mapv(f64::from).into_dimensionality()?)
        };
        let (learnt, learnt_val) = (hidden(&few.x)?, hidden(&val.x)?);
        let (own, own_val) = (described(&few.x), described(&val.x));
        let (a, a_val) = (standard(&own, &own)?, standard(&own, &own_val)?);
        let (b, b_val) = (standard(&learnt, &learnt)?, standard(&learnt, &learnt_val)?);
        let dca = Dca::fit(a.view(), b.view(), &few.y)?;
        let fused = |how| -> Result<[Array2<f64>; 2]> {
            Ok([dca.fuse(a.view(), b.view(), how)?, dca.fuse(a_val.view(), b_val.view(), how)?])
        };
        let both = [
            concatenate(Axis(1), &[a.view(), b.view()])?,
            concatenate(Axis(1), &[a_val.view(), b_val.view()])?,
        ];
        let sets = [
            [a.clone(), a_val.clone()],
            [b.clone(), b_val.clone()],
            both,
            fused(Fused::Concat)?,
            fused(Fused::Sum)?,
        ];
        for (figures, [known, x]) in all.iter_mut().zip(&sets) {
            figures.push(right(known.view(), &few.y, x.view(), &val.y));
        }
    }
    println!("| features | values | nearest neighbour | nearest mean |\n|---|---|---|---|");
    let values = [32, 32, 64, 18, 9];
    let mean =
        |figures: &[[f64; 2]], of: usize| figures.iter().map(|f| f[of]).sum::<f64>() / figures.len() as f64;
    for ((name, values), figures) in names.iter().zip(values).zip(&all) {
        let cell = |of: usize| {
            let each = figures.iter().map(|f| f[of]);
            let (least, most) = each.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
            format!("{:.1} ({least:.1}–{most:.1})", mean(figures, of))
        };
        println!("| {name} | {values} | {} | {} |", cell(0), cell(1));
    }
    let gain = mean(&all[3], 0) - mean(&all[0], 0).max(mean(&all[1], 0));
    println!("\nDca gains {gain:.1} points over the better kind of features, by their nearest neighbours.");
    Ok(())
}
