//! Tensor operations.

use ndarray::{arr2, arr3};
use shanty::nn::{PadMode, Var};

use super::probe::{Simple, check, spaced};

#[test]
fn by_places() {
    let ops: [(&str, for<'t> fn(Var<'t>) -> Var<'t>); 5] = [
        ("gather of fewer rows", |x| x.gather(1, &arr3(&[[[2, 0], [0, 0]]]).into_dyn()).powi(2)),
        ("scatter_add", |x| {
            let index = arr3(&[[[2, 0, 1, 1], [0, 0, 2, 1]]]).into_dyn();
            x.scatter_add(1, &index, x.powi(2)) * x
        }),
        ("masked_select", |x| {
            let mask = arr2(&[[true, false, true, true]]).into_dyn();
            x.masked_select(&mask).powi(2)
        }),
        ("masked_select that repeats", |x| {
            let mask = arr2(&[[true, false, true, true], [false, true, true, false]]).into_dyn();
            x.slice(1, ..1).masked_select(&mask).powi(2)
        }),
        ("masked_fill", |x| x.masked_fill(&arr2(&[[true], [false], [true]]).into_dyn(), 3.0).powi(2)),
    ];
    for (name, op) in ops {
        check(name, spaced(&[2, 3, 4]), true, Simple(op));
    }
}

#[test]
fn padding() {
    let ops: [(&str, for<'t> fn(Var<'t>) -> Var<'t>); 4] = [
        ("pad", |x| x.pad(&[1, -1, 0, 2, -1, 1], PadMode::Constant(0.5)).powi(2)),
        ("pad by a mirror", |x| x.pad(&[3, 2, 1, 2], PadMode::Reflect).powi(2)),
        ("pad by the end", |x| x.pad(&[2, 5, 0, 1], PadMode::Replicate).powi(2)),
        ("pad all round", |x| x.pad(&[4, 1, 0, 0, 1, 2], PadMode::Circular).powi(2)),
    ];
    for (name, op) in ops {
        check(name, spaced(&[2, 3, 4]), true, Simple(op));
    }
}

#[test]
fn sums() {
    let ops: [(&str, for<'t> fn(Var<'t>) -> Var<'t>); 8] = [
        ("variance", |x| x.var_axes(&[0, 2], 1)),
        ("variance of all", |x| x.var_keepdim(&[0, 1, 2], 0) * x),
        ("deviation", |x| x.std_axes(&[-1], 1)),
        ("standardised", |x| (x - x.mean_keepdim(&[1])) / x.std_keepdim(&[1], 0)),
        ("cumsum", |x| x.cumsum(1).powi(2)),
        ("einsum of batches", |x| x.einsum("bij,bkj->bik", x)),
        ("einsum over all", |x| x.einsum("bij,bij->", x)),
        ("einsum of an outer product", |x| x.select(0, 0).einsum("ij,kl->ljk", x.select(0, 1))),
    ];
    for (name, op) in ops {
        check(name, spaced(&[2, 3, 4]), true, Simple(op));
    }
}
