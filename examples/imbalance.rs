//! Measures what docs/imbalance.md says: `cargo run --release --example imbalance`.
//!
//! Five of the ten digits are rare, three samples each beside about 150: 1 to 50. One network learns from them under each
//! remedy, with five seeds, which draw the rare samples too, and is asked for all digits, none of which is rare then.
//! `cargo run --release --example imbalance -- 1` takes one seed.
#![allow(clippy::print_stdout)] // an example speaks

use anyhow::{Context, Result};
use shanty::base::keyed;
use shanty::base::rng::permutation;
use shanty::data::{Dataset, Digits, DigitsSplit, Smote, SplitBy, Subset};
use shanty::metric::{Average, Item, SingleLabelMetric};
use shanty::ndarray::{Array2, Axis};
use shanty::nn::{ClassWeight, SoftmaxFocalLoss};
use shanty::prelude::*;

const CLASSES: usize = 10;
/// The classes from this one on are rare.
const RARE: usize = 5;
/// How many samples a rare class has.
const FEW: usize = 3;

/// What is done about the rare classes: of the data, and of the loss.
#[derive(Clone, Copy, PartialEq)]
enum Remedy {
    None,
    Weights,
    Focal,
    FocalWeights,
    Oversampling,
    Undersampling,
    Smote,
}

const ALL: [(Remedy, &str); 7] = [
    (Remedy::None, "none"),
    (Remedy::Weights, "`class_weight: balanced`"),
    (Remedy::Focal, "SoftmaxFocalLoss, `gamma: 2`"),
    (Remedy::FocalWeights, "SoftmaxFocalLoss, `weight: balanced`"),
    (Remedy::Oversampling, "oversampling"),
    (Remedy::Smote, "Smote"),
    (Remedy::Undersampling, "undersampling"),
];

/// The pixels of a part, with mean 0 and deviation 1, and their classes.
fn pixels(split: DigitsSplit) -> Result<(Array2<f32>, Vec<i64>)> {
    let digits = Digits::load(split, SplitBy::Index)?;
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for index in 0..digits.len() {
        let sample = digits.get(index, &mut keyed(0, "digits", 0, index as u64))?;
        x.extend(sample.float("inputs")?.iter().map(|value| (value - 4.88) / 6.0));
        y.push(sample.label().context("a digit has a class")?);
    }
    Ok((Array2::from_shape_vec((y.len(), 64), x)?, y))
}

/// The positions of each class's samples, few of the rare ones.
fn unbalanced(y: &[i64], seed: u64) -> Vec<Vec<usize>> {
    let of_class = |class: usize| {
        let all: Vec<usize> = (0..y.len()).filter(|row| y[*row] == class as i64).collect();
        let drawn = permutation(all.len(), &mut keyed(seed, "rare", class as u64, 0));
        let kept = if class < RARE { all.len() } else { FEW };
        drawn.into_iter().take(kept).map(|at| all[at]).collect()
    };
    (0..CLASSES).map(of_class).collect()
}

/// The samples that are learnt from.
fn learnt_from(x: &Array2<f32>, y: &[i64], rows: &[Vec<usize>], remedy: Remedy) -> Result<Box<dyn Dataset>> {
    let most = rows.iter().map(Vec::len).max().unwrap_or(0);
    let each = |rows: &Vec<usize>| -> Vec<usize> {
        let n = match remedy {
            Remedy::Oversampling => most,
            Remedy::Undersampling => FEW,
            _ => rows.len(),
        };
        rows.iter().copied().cycle().take(n).collect()
    };
    let rows: Vec<usize> = rows.iter().flat_map(each).collect();
    let target: shanty::ndarray::Array1<i64> = y.iter().copied().collect();
    let set = ArrayDataset::new("inputs", x.clone())?.with("target", target)?;
    let set = Box::new(Subset::new(Box::new(set), rows)?);
    Ok(if remedy == Remedy::Smote { Box::new(Smote::new(set, 5, 1.0, 0)?) } else { set })
}

/// scikit-learn's `balanced`, as a config has it from the training data.
fn balanced(rows: &[Vec<usize>]) -> Option<ClassWeight> {
    let n: usize = rows.iter().map(Vec::len).sum();
    let weight = |rows: &Vec<usize>| n as f64 / (CLASSES * rows.len()) as f64;
    Some(ClassWeight::Given(rows.iter().map(weight).collect()))
}

fn model(remedy: Remedy, rows: &[Vec<usize>]) -> Supervised {
    let net = Sequential::new().with(Linear::new(64, 64)).with(ReLU::new()).with(Linear::new(64, CLASSES));
    let focal = SoftmaxFocalLoss { alpha: 1.0, ..SoftmaxFocalLoss::default() };
    match remedy {
        Remedy::Focal => Supervised::new(net, focal),
        Remedy::FocalWeights => Supervised::new(net, SoftmaxFocalLoss { weight: balanced(rows), ..focal }),
        Remedy::Weights => Supervised::new(
            net,
            CrossEntropyLoss { class_weight: balanced(rows), ..CrossEntropyLoss::default() },
        ),
        _ => Supervised::new(net, CrossEntropyLoss::default()),
    }
}

/// Accuracy as the classes come in training, balanced accuracy, macro F1, and the mean recall of the rare classes.
fn figures(remedy: Remedy, seed: u64) -> Result<[f64; 4]> {
    let (x, y) = pixels(DigitsSplit::Train)?;
    let rows = unbalanced(&y, seed);
    let (val_x, val_y) = pixels(DigitsSplit::Val)?;
    let val_y: shanty::ndarray::Array1<i64> = val_y.into_iter().collect();
    let val = ArrayDataset::new("inputs", val_x)?.with("target", val_y)?;
    let train = DataLoader::new(learnt_from(&x, &y, &rows, remedy)?).batch_size(32).shuffle(true);
    let recalls = SingleLabelMetric::new(vec![None], vec![Item::Recall], None, None)?;
    let f1 = SingleLabelMetric::new(vec![None], vec![Item::F1Score], Some(Average::Macro), None)?;
    // As many steps for each: a pass over more samples is longer.
    let train_loop = IterBasedTrainLoop::new(500).val_interval(500);
    let mut runner = Runner::builder(model(remedy, &rows))
        .train(train, train_loop, Adam::new(0.005))
        .val(DataLoader::new(val).batch_size(64), (BalancedAccuracy::default(), recalls, f1))
        .work_dir(std::env::temp_dir().join("shanty_imbalance"))
        .overwrite(true)
        .seed(seed)
        .build()?;
    runner.train()?;
    let metrics = runner.val()?;
    let get = |name: &str| metrics.get(name).with_context(|| format!("there is no {name}"));
    let recalls: Vec<f64> =
        (0..CLASSES).map(|k| get(&format!("single-label/recall_classwise/{k}"))).collect::<Result<_>>()?;
    let n: usize = rows.iter().map(Vec::len).sum();
    let as_they_come =
        recalls.iter().zip(&rows).map(|(recall, rows)| recall * rows.len() as f64 / n as f64).sum();
    let rare = recalls[RARE..].iter().sum::<f64>() / (CLASSES - RARE) as f64;
    Ok([as_they_come, get("accuracy/balanced")?, get("single-label/f1-score")?, rare])
}

fn main() -> Result<()> {
    let seeds: u64 = std::env::args().nth(1).map_or(Ok(5), |n| n.parse())?;
    println!(
        "| remedy | accuracy | balanced accuracy | macro F1 | recall of the rare |\n|---|---|---|---|---|"
    );
    let mut rare = Vec::new();
    for (remedy, name) in ALL {
        let all: Vec<[f64; 4]> = (0..seeds).map(|seed| figures(remedy, seed)).collect::<Result<_>>()?;
        let all = Array2::from_shape_fn((all.len(), 4), |(i, j)| all[i][j]);
        let cell = |column: shanty::ndarray::ArrayView1<'_, f64>| {
            let (least, most) = column.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            format!("{:.1} ({least:.1}–{most:.1})", column.mean().unwrap_or(0.0))
        };
        let cells: Vec<String> = all.axis_iter(Axis(1)).map(cell).collect();
        println!("| {name} | {} |", cells.join(" | "));
        rare.push((remedy, all.column(3).mean().unwrap_or(0.0)));
    }
    let of = |remedy| rare.iter().find(|(own, _)| *own == remedy).map_or(0.0, |(_, recall)| *recall);
    anyhow::ensure!(of(Remedy::Smote) > of(Remedy::None), "made-up samples help the rare classes");
    Ok(())
}
