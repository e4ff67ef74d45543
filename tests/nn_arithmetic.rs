//! The arithmetic of `Var`: values by closed forms, broadcasting by its definition, and errors that are told.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use ndarray::{ArrayD, Dimension as _, IxDyn, arr1, arr2};
use rand::RngExt as _;
use shanty::base::{Elem, Tensor, keyed};
use shanty::nn::{BufferPool, Param, Tape, Var};

fn tensor(shape: &[usize], values: &[Elem]) -> Tensor {
    Tensor::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap()
}

fn counting(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    tensor(shape, &(0..len).map(|i| i as Elem).collect::<Vec<_>>())
}

/// The value of what `f` makes of `x`.
fn of(x: Tensor, f: impl for<'t> FnOnce(Var<'t>) -> Var<'t>) -> ArrayD<Elem> {
    let tape = Tape::without_grad(BufferPool::default());
    f(tape.input(x)).checked().unwrap().value().into_owned()
}

/// What is told of an op that does not fit.
fn told(x: Tensor, f: impl for<'t> FnOnce(Var<'t>) -> Var<'t>) -> String {
    let tape = Tape::without_grad(BufferPool::default());
    let y = f(tape.input(x));
    assert!(y.value().iter().all(|y| y.is_nan()), "{:?}", y.value());
    tape.finish().unwrap_err().to_string()
}

struct Only {
    x: Param,
}
shanty::module!(Only { x });

/// The gradient of the sum of what `f` makes of `x`.
fn slope(x: Tensor, f: impl for<'t> FnOnce(Var<'t>) -> Var<'t>) -> ArrayD<Elem> {
    let mut only = Only { x: Param::new(x) };
    let tape = Tape::new(BufferPool::default());
    let id = f(tape.param(&only.x)).sum().id();
    tape.backward(id, &mut only).unwrap();
    only.x.grad.unwrap()
}

#[test]
fn operators_take_values_and_numbers_on_both_sides() {
    let x = || tensor(&[3], &[1.0, 2.0, 4.0]);
    let cases: [(&str, for<'t> fn(Var<'t>) -> Var<'t>, [Elem; 3], [Elem; 3]); 15] = [
        ("x + x", |x| x + x, [2.0, 4.0, 8.0], [2.0; 3]),
        ("x - x", |x| x - x, [0.0; 3], [0.0; 3]),
        ("x * x", |x| x * x, [1.0, 4.0, 16.0], [2.0, 4.0, 8.0]),
        ("x / x", |x| x / x, [1.0; 3], [0.0; 3]),
        ("-x", |x| -x, [-1.0, -2.0, -4.0], [-1.0; 3]),
        ("x + 1", |x| x + 1.0, [2.0, 3.0, 5.0], [1.0; 3]),
        ("x - 1", |x| x - 1.0, [0.0, 1.0, 3.0], [1.0; 3]),
        ("x * 3", |x| x * 3.0, [3.0, 6.0, 12.0], [3.0; 3]),
        ("x / 2", |x| x / 2.0, [0.5, 1.0, 2.0], [0.5; 3]),
        ("1 + x", |x| 1.0 + x, [2.0, 3.0, 5.0], [1.0; 3]),
        ("1 - x", |x| 1.0 - x, [0.0, -1.0, -3.0], [-1.0; 3]),
        ("3 * x", |x| 3.0 * x, [3.0, 6.0, 12.0], [3.0; 3]),
        ("4 / x", |x| 4.0 / x, [4.0, 2.0, 1.0], [-4.0, -1.0, -0.25]),
        ("x³", |x| x.powi(3), [1.0, 8.0, 64.0], [3.0, 12.0, 48.0]),
        ("x^½", |x| (x * x).powf(0.5), [1.0, 2.0, 4.0], [1.0; 3]),
    ];
    for (name, f, value, gradient) in cases {
        assert_eq!(of(x(), f), arr1(&value).into_dyn(), "{name}");
        assert_eq!(slope(x(), f), arr1(&gradient).into_dyn(), "the slope of {name}");
    }
}

#[test]
fn functions_at_points_that_are_known() {
    let near = |f: for<'t> fn(Var<'t>) -> Var<'t>, x: Elem, value: f64, gradient: f64| {
        let (y, dx) = (of(tensor(&[1], &[x]), f)[0], slope(tensor(&[1], &[x]), f)[0]);
        assert!((f64::from(y) - value).abs() < 1e-6 * value.abs().max(1.0), "{x}: {y} for {value}");
        assert!(
            (f64::from(dx) - gradient).abs() < 1e-6 * gradient.abs().max(1.0),
            "{x}: slope {dx} for {gradient}"
        );
    };
    near(|x| x.exp(), 1.0, std::f64::consts::E, std::f64::consts::E);
    near(|x| x.log(), 2.0, std::f64::consts::LN_2, 0.5);
    near(|x| x.sqrt(), 2.0, std::f64::consts::SQRT_2, 0.5 / std::f64::consts::SQRT_2);
    near(|x| x.abs(), -3.0, 3.0, -1.0);
    near(|x| x.abs(), 0.0, 0.0, 0.0);
    near(|x| x.powi(-2), 2.0, 0.25, -0.25);
    near(|x| x.powi(0), 0.0, 1.0, 0.0);
    near(|x| x.powf(1.5), 4.0, 8.0, 3.0);
    near(|x| x.clamp(-1.0, 1.0), 2.0, 1.0, 0.0);
    near(|x| x.clamp(-1.0, 1.0), 1.0, 1.0, 0.0);
    near(|x| x.clamp(-1.0, Elem::INFINITY), 7.0, 7.0, 1.0);
    near(|x| x.maximum(x), 2.0, 2.0, 1.0);
    assert!(of(tensor(&[1], &[Elem::NAN]), |x| x.clamp(0.0, 1.0))[0].is_nan());
}

#[test]
fn sums_means_and_extremes_along_axes() {
    let x = || counting(&[2, 3]);
    let row = |values: &[Elem]| arr1(values).into_dyn();
    assert_eq!(of(x(), |x| x.sum_axes(&[0])), row(&[3.0, 5.0, 7.0]));
    assert_eq!(of(x(), |x| x.sum_axes(&[-1])), row(&[3.0, 12.0]));
    assert_eq!(of(x(), |x| x.sum_axes(&[1, 0])), ArrayD::from_elem(vec![], 15.0));
    assert_eq!(of(x(), |x| x.sum_axes(&[])), x().into_owned());
    assert_eq!(of(x(), |x| x.mean_axes(&[0])), row(&[1.5, 2.5, 3.5]));
    assert_eq!(of(x(), |x| x.mean_keepdim(&[1])), arr2(&[[1.0], [4.0]]).into_dyn());
    assert_eq!(of(x(), |x| x.max_axes(&[1])), row(&[2.0, 5.0]));
    assert_eq!(of(x(), |x| x.min_keepdim(&[0])), arr2(&[[0.0, 1.0, 2.0]]).into_dyn());
    assert_eq!(of(counting(&[2, 3, 4]), |x| x.sum_axes(&[0, 2])), row(&[60.0, 92.0, 124.0]));
    assert_eq!(slope(x(), |x| x.mean_axes(&[0])), ArrayD::from_elem(vec![2, 3], 0.5));
    // As PyTorch's amax: equal ones share.
    assert_eq!(slope(tensor(&[4], &[1.0, 3.0, 3.0, 2.0]), |x| x.max_axes(&[0])), row(&[0.0, 0.5, 0.5, 0.0]));
    assert_eq!(of(counting(&[2, 0]), |x| x.mean_axes(&[1])), row(&[0.0, 0.0]));
}

#[test]
fn products_of_matrices() {
    let eye = || tensor(&[2, 2], &[0.0, 1.0, 1.0, 0.0]);
    assert_eq!(of(counting(&[2, 2]), |x| x.matmul(x)), arr2(&[[2.0, 3.0], [6.0, 11.0]]).into_dyn());
    assert_eq!(of(counting(&[3]), |x| x.matmul(x)), ArrayD::from_elem(vec![], 5.0));
    let swapped = of(counting(&[2, 2, 2]), |x| x.matmul(x.tape().input(eye())));
    assert_eq!(swapped.as_slice().unwrap(), [1.0, 0.0, 3.0, 2.0, 5.0, 4.0, 7.0, 6.0]);
    assert_eq!(
        of(counting(&[2, 3]), |x| x.matmul(x.tape().input(counting(&[3])))),
        arr1(&[5.0, 14.0]).into_dyn()
    );
    let empty = of(counting(&[2, 0]), |x| x.matmul(x.transpose(0, 1)));
    assert_eq!(empty, ArrayD::<Elem>::zeros(vec![2, 2]));
}

/// A batched product is that of each pair of matrices, whatever is repeated.
#[test]
fn batches_of_products_broadcast() {
    let mut rng = keyed(3, "matmul", 0, 0);
    for (a, b, batch) in [
        (vec![4, 1, 2, 3], vec![5, 3, 2], vec![4, 5]),
        (vec![2, 3], vec![4, 3, 5], vec![4]),
        (vec![3, 1, 4], vec![3, 4, 2], vec![3]),
        (vec![2, 3, 2, 3], vec![3, 2], vec![2, 3]),
    ] {
        let [x, y] =
            [&a, &b].map(|shape| Tensor::from_shape_simple_fn(IxDyn(shape), || rng.random_range(-1.0..1.0)));
        let product = of(x.clone(), |v| v.matmul(v.tape().input(y.clone())));
        let (m, k, n) = (a[a.len() - 2], a[a.len() - 1], b[b.len() - 1]);
        let full = |shape: &[usize]| [&batch[..], shape].concat();
        let (x, y) =
            (x.broadcast(full(&[m, k])).unwrap().to_owned(), y.broadcast(full(&[k, n])).unwrap().to_owned());
        assert_eq!(product.shape(), full(&[m, n]));
        for (at, found) in product.indexed_iter() {
            let at = at.slice();
            let (place, &[i, j]) = at.split_at(batch.len()) else { panic!() };
            let at = |i: usize, j: usize| IxDyn(&[place, &[i, j][..]].concat());
            let wanted: Elem = (0..k).map(|l| x[at(i, l)] * y[at(l, j)]).sum();
            assert!((found - wanted).abs() < 1e-5, "{a:?} {b:?} {place:?}");
        }
    }
}

#[test]
fn parts_and_joints() {
    let x = || counting(&[2, 3]);
    assert_eq!(of(x(), |x| x.slice(1, 1..)), arr2(&[[1.0, 2.0], [4.0, 5.0]]).into_dyn());
    assert_eq!(of(x(), |x| x.slice(-1, ..=0)), arr2(&[[0.0], [3.0]]).into_dyn());
    assert_eq!(of(x(), |x| x.select(0, 1)), arr1(&[3.0, 4.0, 5.0]).into_dyn());
    assert_eq!(
        of(x(), |x| x.index_select(1, &[2, 0, 2])),
        arr2(&[[2.0, 0.0, 2.0], [5.0, 3.0, 5.0]]).into_dyn()
    );
    assert_eq!(slope(x(), |x| x.index_select(1, &[2, 0, 2])), arr2(&[[1.0, 0.0, 2.0]; 2]).into_dyn());
    let index = arr2(&[[2, 0], [1, 1]]).into_dyn();
    assert_eq!(of(x(), |x| x.gather(1, &index)), arr2(&[[2.0, 0.0], [4.0, 4.0]]).into_dyn());
    assert_eq!(slope(x(), |x| x.gather(1, &index)), arr2(&[[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]]).into_dyn());
    assert_eq!(of(x(), |x| x.transpose(0, 1)), arr2(&[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]).into_dyn());
    assert_eq!(
        of(counting(&[2, 1, 3]), |x| x.permute(&[2, 0, -2]).flatten(0, -1)).as_slice().unwrap(),
        [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    );
    assert_eq!(of(x(), |x| x.unsqueeze(-1)).shape(), [2, 3, 1]);
    assert_eq!(of(x(), |x| x.unsqueeze(0).squeeze(0)), x().into_owned());
    let mask = arr1(&[true, false, true]).into_dyn();
    assert_eq!(of(x(), |x| x.masked_fill(&mask, 9.0)), arr2(&[[9.0, 1.0, 9.0], [9.0, 4.0, 9.0]]).into_dyn());
    assert_eq!(slope(x(), |x| x.where_mask(&mask, x * 2.0)), arr2(&[[1.0, 2.0, 1.0]; 2]).into_dyn());
    assert_eq!(of(x(), |x| x.tape().stack(&[x, x], 0)).shape(), [2, 2, 3]);
    let thirds = |x: Var<'_>| x.chunk::<3>(1).map(|part| part.value().iter().copied().collect::<Vec<_>>());
    let tape = Tape::without_grad(BufferPool::default());
    assert_eq!(thirds(tape.input(x())), [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
}

/// Cut anywhere along any axis and joined again, a value is what it was, and so is its gradient.
#[test]
fn what_is_split_and_joined_is_the_same() {
    let shape = [3, 4, 2];
    let x = || counting(&shape);
    for axis in -3..3_isize {
        let size = shape[axis.rem_euclid(3) as usize];
        for cut in 0..=size {
            let joined = of(x(), |x| x.tape().concat(&x.split(&[cut, size - cut], axis), axis));
            assert_eq!(joined, x().into_owned(), "axis {axis} at {cut}");
            let gradient = slope(x(), |x| x.tape().concat(&x.powi(2).split(&[cut, size - cut], axis), axis));
            assert_eq!(gradient, (x() * 2.0).into_owned(), "axis {axis} at {cut}");
        }
    }
}

/// Two shapes broadcast if ndarray's rule says so, to the same values; the gradient of a factor is the sum over its
/// repetitions.
#[test]
fn broadcasting_is_that_of_numpy() {
    let mut rng = keyed(1, "broadcast", 0, 0);
    let mut fitted = 0;
    for _ in 0..2000 {
        let [a, b] = [0; 2].map(|_| {
            let axes = rng.random_range(0..4);
            (0..axes).map(|_| [1, 1, 2, 3, 0][rng.random_range(0..5)]).collect::<Vec<usize>>()
        });
        let [x, y] = [&a, &b]
            .map(|shape| Tensor::from_shape_simple_fn(IxDyn(shape), || rng.random_range(1..5) as Elem));
        let axes = a.len().max(b.len());
        let size = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(axes).map_or(1, |i| shape[i]);
        let fits = (0..axes).all(|i| size(&a, i) == size(&b, i) || size(&a, i) == 1 || size(&b, i) == 1);
        if !fits {
            let text = told(x, |x| x * x.tape().input(y));
            assert!(
                text.contains(&format!("`mul` wants shapes that broadcast, got {a:?} and {b:?}")),
                "{text}"
            );
            continue;
        }
        fitted += 1;
        assert_eq!(of(x.clone(), |x| x - x.tape().input(y.clone())), (&x - &y).into_owned(), "{a:?} {b:?}");
        let gradient = slope(x.clone(), |x| x * x.tape().input(y.clone()));
        let ones = Tensor::ones(IxDyn(&a));
        let mut wanted = ArrayD::<Elem>::zeros(IxDyn(&a));
        let all = (&ones * &y).into_owned();
        for (at, value) in all.indexed_iter() {
            let at = &at.slice()[axes - a.len()..];
            let own: Vec<usize> =
                at.iter().zip(&a).map(|(i, size)| if *size == 1 { 0 } else { *i }).collect();
            wanted[IxDyn(&own)] += value;
        }
        assert_eq!(gradient, wanted, "{a:?} {b:?}");
    }
    assert!(fitted > 300, "{fitted}");
}

/// Whatever does not fit is told, with the op's name and the shapes, and nothing panics.
#[test]
fn ops_that_do_not_fit_are_told() {
    let x = || counting(&[2, 3]);
    let cases: [(for<'t> fn(Var<'t>) -> Var<'t>, &str); 24] = [
        (|x| x + x.reshape(&[3, 2]), "`add` wants shapes that broadcast, got [2, 3] and [3, 2]"),
        (|x| x.reshape(&[7]), "shape [2, 3] cannot be reshaped to [7]"),
        (|x| x.flatten(1, 0), "flatten from axis 1 to 0"),
        (|x| x.sum_axes(&[2]), "`sum_axes` along axis 2 does not fit an input of shape [2, 3]"),
        (|x| x.mean_axes(&[0, -2]), "`mean_axes` names axis -2 twice"),
        (|x| x.slice(1, ..0).max_axes(&[1]), "`max_axes` has nothing to choose from in shape [2, 0]"),
        (|x| x.matmul(x), "`matmul` wants [.., m, k] and [.., k, n], got [2, 3] and [2, 3]"),
        (|x| x.matmul(x.sum()), "`matmul` wants"),
        (|x| x.slice(1, 2..5), "`slice` of 2..5 along axis 1 does not fit an input of shape [2, 3]"),
        (|x| x.slice(3, ..), "`slice` along axis 3"),
        (|x| x.select(0, usize::MAX), "`select`"),
        (|x| x.index_select(0, &[-1]), "`index_select` got place -1 of axis 0, which has 2"),
        (|x| x.gather(0, &arr1(&[0]).into_dyn()), "`gather` along axis 0 of shape [2, 3]"),
        (|x| x.gather(1, &arr2(&[[3], [0]]).into_dyn()), "`gather` got place 3 of axis 1"),
        (|x| x.transpose(0, 2), "`transpose` along axis 2"),
        (|x| x.permute(&[0, 0]), "`permute` by [0, 0] does not name each axis of shape [2, 3] once"),
        (|x| x.squeeze(0), "`squeeze` takes axis 0 away from shape [2, 3], but its size is not 1"),
        (|x| x.expand(&[3, 3]), "`expand` cannot repeat shape [2, 3] to [3, 3]"),
        (|x| x.clamp(1.0, 0.0), "`clamp` wants min <= max, got 1 and 0"),
        (|x| x.chunk::<2>(1)[0], "`chunk` cannot cut axis 1 of shape [2, 3] into 2 equal parts"),
        (|x| x.chunk::<0>(1).first().copied().unwrap_or(x * Elem::NAN), "`chunk` cannot cut"),
        (|x| x.split(&[1, 1], 1)[1], "`split` into [1, 1] along axis 1 does not take all of shape [2, 3]"),
        (
            |x| x.tape().concat(&[x, x.slice(1, 1..)], 0),
            "`concat` along axis 0 wants shapes that are equal in all other",
        ),
        (|x| x.tape().stack(&[], 0), "`concat` got no values"),
    ];
    for (f, wanted) in cases {
        let text = told(x(), f);
        assert!(text.contains(wanted), "{text}\nfor\n{wanted}");
    }
    let mask = arr1(&[true; 2]).into_dyn();
    let text = told(x(), |x| x.where_mask(&mask, x));
    assert!(text.contains("`where_mask` wants shapes that broadcast, got [2, 3] and [2]"), "{text}");
}

/// The first error counts: what follows from it is not told.
#[test]
fn the_first_error_is_told_once() {
    let tape = Tape::without_grad(BufferPool::default());
    let x = tape.input(counting(&[2, 3]));
    let y = (x.matmul(x) + x).sum_axes(&[7]).reshape(&[100]);
    assert!(y.checked().unwrap_err().to_string().contains("matmul"));
    assert!(tape.finish().is_ok());
}

#[test]
fn values_of_two_tapes_do_not_mix() {
    let (one, two) = (Tape::new(BufferPool::default()), Tape::new(BufferPool::default()));
    let (a, b) = (one.input(counting(&[2])), two.input(counting(&[2])));
    assert!((a * b).checked().unwrap_err().to_string().contains("the inputs of `mul` are on two tapes"));
}
