//! Shares of a data set to train, validate and test with.

use std::collections::BTreeMap;

use super::{Part, Split};
use crate::base::{Error, Result, keyed, rng::permutation};

impl Split {
    /// The positions of a part among `all`, ascending; `classes` gives the class of each, if it is asked for.
    ///
    /// # Errors
    /// When the shares are more than all, or there are no classes.
    pub(super) fn shares<C: Ord>(
        &self,
        all: usize,
        part: Part,
        classes: impl FnOnce() -> Result<Vec<C>>,
    ) -> Result<Vec<usize>> {
        if self.val + self.test > 1.0 {
            return Err(Error::config(format!(
                "`split`: the shares {} and {} are more than all",
                self.val, self.test
            )));
        }
        let count = |share: f64| (share * all as f64).round() as usize;
        let val = count(self.val).min(all);
        let test = count(self.test).min(all - val);
        let mut order = permutation(all, &mut keyed(self.seed, "split", 0, 0));
        if self.stratify {
            order = spread(&order, &classes()?);
        }
        let mut chosen = match part {
            Part::All => order,
            Part::Val => order[..val].to_vec(),
            Part::Test => order[val..val + test].to_vec(),
            Part::Train => order[val + test..].to_vec(),
        };
        chosen.sort_unstable();
        Ok(chosen)
    }

    /// The part that `split` and `part` of a config ask for.
    ///
    /// # Errors
    /// When one of them is there without the other: all rows where a part was meant are those to validate with, too.
    pub(super) fn part(split: Option<&Self>, part: Option<Part>) -> Result<Part> {
        match (split, part) {
            (None, None | Some(Part::All)) => Ok(Part::All),
            (Some(_), Some(part)) => Ok(part),
            (Some(_), None) => Err(Error::config(
                "`split` says which samples are for what, but no `part` says which of them these are: give `part`, which is \
                 train, val, test, or all",
            )),
            (None, Some(part)) => Err(Error::config(format!(
                "`part` asks for {part:?}, but there is no `split` that says which samples"
            ))),
        }
    }

    /// The part that everything is fitted on.
    pub(super) fn fitted_on(split: Option<&Self>) -> Part {
        if split.is_some() { Part::Train } else { Part::All }
    }

    /// The positions of a part of something that has no columns.
    ///
    /// # Errors
    /// A column; a part of nothing; no classes to stratify by.
    pub(super) fn of<C: Ord>(
        split: Option<&Self>,
        all: usize,
        part: Part,
        classes: impl FnOnce() -> Result<Vec<C>>,
    ) -> Result<Vec<usize>> {
        let chosen = match (split, part) {
            (_, Part::All) | (None, _) => (0..all).collect(),
            (Some(split), _) if split.column.is_some() => {
                return Err(Error::config("`split.column` is for tables: give shares, `val` and `test`"));
            }
            (Some(split), part) => split.shares(all, part, classes)?,
        };
        match chosen.is_empty() {
            true => {
                Err(Error::invalid(format!("the part {part:?} of {all} samples is empty: look at `split`")))
            }
            false => Ok(chosen),
        }
    }
}

/// The same positions in an order in which every stretch has its share of each class, give or take one: the first of
/// the n samples of a class stands at 1/2n of the way, the second at 3/2n, and so on.
fn spread<C: Ord>(order: &[usize], classes: &[C]) -> Vec<usize> {
    let mut counts = BTreeMap::new();
    classes.iter().for_each(|class| *counts.entry(class).or_insert(0u64) += 1);
    let mut seen = BTreeMap::new();
    let mut placed: Vec<(f64, usize)> = Vec::with_capacity(order.len());
    for &at in order {
        let Some(class) = classes.get(at) else { continue };
        let before = seen.entry(class).or_insert(0u64);
        placed.push(((*before as f64 + 0.5) / counts[class] as f64, at));
        *before += 1;
    }
    // The sort is stable: what stands at one place stays in the order drawn.
    placed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    placed.into_iter().map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each class a part has the share that it has of all, give or take one, and the seed decides who it is.
    #[test]
    fn every_part_has_its_share_of_every_class() {
        let classes: Vec<usize> =
            (0..200).map(|i| usize::from(i % 10 == 0) + usize::from(i % 50 == 7)).collect();
        let of = |seed, stratify, part| {
            let split = Split { val: 0.25, test: 0.1, seed, stratify, column: None };
            split.shares(classes.len(), part, || Ok(classes.clone())).unwrap()
        };
        for seed in 0..20 {
            let parts = [(Part::Val, 0.25), (Part::Test, 0.1), (Part::Train, 0.65)];
            let mut all: Vec<usize> = parts.iter().flat_map(|(part, _)| of(seed, true, *part)).collect();
            for (part, share) in parts {
                let chosen = of(seed, true, part);
                assert_eq!(chosen.len(), of(seed, false, part).len());
                for class in 0..2 {
                    let n = |of: &[usize]| of.iter().filter(|at| classes[**at] == class).count() as f64;
                    let (own, whole) = (n(&chosen), n(&(0..200).collect::<Vec<_>>()));
                    assert!((own - share * whole).abs() <= 1.0, "{part:?} {class}: {own} of {whole}");
                }
            }
            all.sort_unstable();
            assert_eq!(all, (0..200).collect::<Vec<_>>());
        }
        assert_ne!(of(0, true, Part::Val), of(1, true, Part::Val));
    }
}
