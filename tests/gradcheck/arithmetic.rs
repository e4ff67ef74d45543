//! The arithmetic of `Var`.

use ndarray::{arr1, arr2};
use shanty::nn::Var;

use super::probe::{Op, Simple, check, random, spaced};

#[test]
fn operators_with_broadcasting() {
    check("sum", random(&[3, 4]), true, Op(|x| Ok(x + x.slice(0, ..1))));
    check("difference", random(&[3, 4]), true, Op(|x| Ok(x.slice(1, ..1) - x * 0.5)));
    check("product", random(&[2, 3, 4]), true, Op(|x| Ok(x * x.select(0, 1) * 2.0 + 1.0)));
    check("outer product", random(&[4]), true, Op(|x| Ok(x.unsqueeze(1) * x)));
    check(
        "quotient",
        random(&[3, 4]),
        true,
        Op(|x| Ok(x / (x.select(1, 0).unsqueeze(1) + 3.0) - 1.0 / (x + 3.0))),
    );
    check("negative", random(&[3]), true, Op(|x| Ok(-(2.0 - x) / 3.0)));
    check("expanded", random(&[3, 1]), true, Op(|x| Ok(x.expand(&[2, 3, 4]).powi(2))));
}

#[test]
fn functions() {
    let ops: [(&str, for<'t> fn(Var<'t>) -> Var<'t>); 9] = [
        ("exp", |x| x.exp()),
        ("log", |x| (x * x + 1.0).log()),
        ("sqrt", |x| (x * x + 1.0).sqrt()),
        ("abs", |x| x.abs()),
        ("a whole power", |x| x.powi(3)),
        ("a negative power", |x| (x * x + 1.0).powi(-2)),
        ("a power", |x| (x * x + 1.0).powf(0.7)),
        ("clamp", |x| x.clamp(-0.26, 0.31)),
        ("extremes", |x| x.maximum(x.transpose(0, 1)) - x.minimum(x * 0.5)),
    ];
    for (name, op) in ops {
        check(name, spaced(&[4, 4]), true, Simple(op));
    }
}

#[test]
fn reductions() {
    let ops: [(&str, for<'t> fn(Var<'t>) -> Var<'t>); 7] = [
        ("sums", |x| x.sum_axes(&[0, 2]).powi(2)),
        ("sums that stay", |x| x - x.sum_keepdim(&[-1])),
        ("means", |x| x.mean_axes(&[1]).powi(2)),
        ("variance", |x| (x - x.mean_keepdim(&[0, 1])).powi(2).mean_axes(&[0, 1]).sqrt()),
        ("maxima", |x| x.max_axes(&[1]).powi(2)),
        ("minima", |x| x * x.min_keepdim(&[0, 2])),
        ("root mean square", |x| (x * x).mean().sqrt()),
    ];
    for (name, op) in ops {
        check(name, spaced(&[2, 3, 4]), true, Simple(op));
    }
}

#[test]
fn products() {
    let ops: [(&str, for<'t> fn(Var<'t>) -> Var<'t>); 6] = [
        ("of matrices", |x| x.select(0, 0).matmul(x.select(0, 1).transpose(0, 1))),
        ("of batches", |x| x.matmul(x.transpose(1, 2))),
        ("with one for all", |x| x.matmul(x.select(0, 0).transpose(0, 1))),
        ("of one with all", |x| x.select(0, 0).matmul(x.transpose(1, 2))),
        ("of repeated ones", |x| x.unsqueeze(1).matmul(x.transpose(1, 2).unsqueeze(0))),
        ("with a vector", |x| x.matmul(x.select(0, 0).select(0, 1))),
    ];
    for (name, op) in ops {
        check(name, random(&[2, 3, 4]), true, Simple(op));
    }
}

#[test]
fn parts_and_shapes() {
    let ops: [(&str, for<'t> fn(Var<'t>) -> Var<'t>); 11] = [
        ("a range", |x| x.slice(1, 1..).powi(2)),
        ("split", |x| x.tape().concat(&x.powi(2).split(&[1, 2], 1), 1)),
        ("chunk", |x| {
            x.chunk::<2>(2).into_iter().fold(x.tape().input(ndarray::ArrayD::ones(vec![])), |y, x| y * x)
        }),
        ("stack", |x| x.tape().stack(&[x, x * x], 1)),
        ("places", |x| x.index_select(2, &[3, 0, 0]).powi(2)),
        ("gather", |x| x.select(0, 0).gather(1, &arr2(&[[0], [3], [3]]).into_dyn()).powi(2)),
        ("masked", |x| x.where_mask(&arr1(&[true, false, false, true]).into_dyn(), x.select(0, 0) * 3.0)),
        ("permuted", |x| x.permute(&[2, 0, 1]).powi(2)),
        ("transposed", |x| x.transpose(0, -1) * x.transpose(0, -1)),
        ("softmax of an inner axis", |x| x.softmax(1)),
        ("log softmax of the first axis", |x| x.log_softmax(0)),
    ];
    for (name, op) in ops {
        check(name, random(&[2, 3, 4]), true, Simple(op));
    }
}

/// A loss in a line: focal loss of scores, the mean of `-(1 - p)² log p` of the right class.
#[test]
fn a_loss_of_one_line() {
    fn focal(x: Var<'_>) -> Var<'_> {
        let log = x.log_softmax(-1).gather(-1, &arr2(&[[0], [2], [1]]).into_dyn());
        -((1.0 - log.exp()).powi(2) * log).mean()
    }
    check("focal loss", random(&[3, 3]), true, Op(|x| Ok(focal(x))));
}
