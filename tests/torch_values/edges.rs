//! What happens at the edges: NaN, equal elements, nothing, and whatever does not fit.

use ndarray::{ArrayD, arr1, arr2};
use shanty::base::{Elem, Tensor, keyed};
use shanty::config::parse;
use shanty::nn::{BufferPool, Module, PadMode, Param, Tape, Var};
use shanty::registry::{BuildCx, Spec};

fn tensor(shape: &[usize], values: &[Elem]) -> Tensor {
    Tensor::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap()
}

fn counting() -> Tensor {
    tensor(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
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

/// Whatever does not fit is told, with the op's name, and nothing panics.
#[test]
fn ops_that_do_not_fit_are_told() {
    let cases: [(for<'t> fn(Var<'t>) -> Var<'t>, &str); 30] = [
        (
            |x| x.gather(0, &arr1(&[0]).into_dyn()),
            "`gather` along axis 0 of shape [2, 3] got an index of shape [1]",
        ),
        (|x| x.gather(1, &arr2(&[[-1]]).into_dyn()), "`gather` got place -1 of axis 1, which has 3"),
        (|x| x.gather(1, &arr2(&[[0], [0], [0]]).into_dyn()), "along the other axes it must not be longer"),
        (|x| x.scatter_add(2, &arr2(&[[0]]).into_dyn(), x), "`scatter_add` along axis 2 does not fit"),
        (
            |x| x.scatter_add(0, &arr2(&[[2]]).into_dyn(), x),
            "`scatter_add` got place 2 of axis 0, which has 2",
        ),
        (|x| x.scatter_add(0, &arr2(&[[0, 0, 0, 0]]).into_dyn(), x), "`scatter_add` along axis 0"),
        (
            |x| x.scatter_add(1, &arr2(&[[0, 0, 0, 0]]).into_dyn(), x),
            "an index of shape [1, 4] for a source of shape [2, 3]",
        ),
        (|x| x.masked_select(&arr1(&[true; 2]).into_dyn()), "`masked_select` wants shapes that broadcast"),
        (|x| x.index_select(0, &[i64::MIN]), "`index_select` got place -9223372036854775808"),
        (|x| x.cumsum(2), "`cumsum` along axis 2 does not fit an input of shape [2, 3]"),
        (|x| x.sum().cumsum(0), "`cumsum` along axis 0 does not fit an input of shape []"),
        (|x| x.var_axes(&[2], 0), "`var_axes` along axis 2"),
        (|x| x.var_axes(&[0], 2), "`var_axes` with correction 2 wants more than 2 elements"),
        (|x| x.slice(0, ..1).var_keepdim(&[0], 1), "`var_keepdim` with correction 1 wants more than 1"),
        (|x| x.slice(0, ..0).std_axes(&[0], 0), "`std_axes` with correction 0 wants more than 0"),
        (|x| x.std_keepdim(&[0, 0], 0), "`std_keepdim` names axis 0 twice"),
        (|x| x.pad(&[1], PadMode::Constant(0.0)), "`pad` by [1] does not fit shape [2, 3]"),
        (|x| x.pad(&[0; 6], PadMode::Constant(0.0)), "`pad` by [0, 0, 0, 0, 0, 0] does not fit"),
        (|x| x.pad(&[-2, -2], PadMode::Constant(0.0)), "`pad` of axis 1 of shape [2, 3] by -2 and -2"),
        (|x| x.pad(&[isize::MAX, 1], PadMode::Circular), "`pad` of axis 1"),
        (|x| x.pad(&[isize::MIN, 1], PadMode::Replicate), "`pad` of axis 1"),
        (|x| x.pad(&[3, 0], PadMode::Reflect), "a mirror has less than the axis itself to show"),
        (|x| x.pad(&[0, 4], PadMode::Circular), "the axis goes round once at most"),
        (|x| x.slice(1, ..0).pad(&[0, 1], PadMode::Replicate), "there is nothing to repeat"),
        (
            |x| x.einsum("ij,jk->ik", x),
            "`einsum` of \"ij,jk->ik\": `j` is 3 in one factor and 2 in the other",
        ),
        (|x| x.einsum("ij->ji", x), "it wants two factors"),
        (|x| x.einsum("ij,ij->ik", x), "the result names `k`"),
        (|x| x.einsum("ii,ij", x), "`i` comes twice in one factor"),
        (|x| x.einsum("i,ij", x), "1 letters do not name the axes of shape [2, 3]"),
        (|x| x.einsum("...j,ij", x), "an axis is a letter, not `.`"),
    ];
    for (f, wanted) in cases {
        let tape = Tape::without_grad(BufferPool::default());
        f(tape.input(counting()));
        let text = tape.finish().unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}\nfor\n{wanted}");
    }
    let tape = Tape::without_grad(BufferPool::default());
    let x = tape.input(counting());
    let told = |x: Var<'_>, axis| x.argmax(axis).unwrap_err().to_string();
    assert!(told(x, 2).contains("`argmax` along axis 2"), "{}", told(x, 2));
    assert!(told(x.slice(0, ..0), 0).contains("`argmax` has nothing to choose from in shape [0, 3]"));
}

#[test]
fn activations_that_do_not_fit_are_told() {
    let cases: [(for<'t> fn(Var<'t>) -> Var<'t>, &str); 5] = [
        (|x| x.glu(-1), "`glu` cuts axis 1 of shape [2, 3] in two halves, but its size is odd"),
        (|x| x.swiglu(2), "`swiglu` along axis 2 does not fit"),
        (|x| x.prelu(x), "got slopes of shape [2, 3]"),
        (
            |x| x.prelu(x.select(1, 0)),
            "one for each of the 3 channels of shape [2, 3], got slopes of shape [2]",
        ),
        (|x| x.softmax(2), "`softmax` along axis 2"),
    ];
    for (f, wanted) in cases {
        let tape = Tape::without_grad(BufferPool::default());
        f(tape.input(counting()));
        let text = tape.finish().unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}\nfor\n{wanted}");
    }
    for (yaml, wanted) in [
        ("{type: Hardtanh, min_val: 2.0}", "`min_val` must be below `max_val`, got 2 and 1"),
        ("{type: HSigmoid, max_value: -1}", "`min_value` must be below `max_value`"),
        ("{type: Clip, min: 1}", "`min` must be below `max`"),
        ("{type: CELU, alpha: 0}", "alpha"),
        ("{type: Softplus, beta: -1}", "beta"),
        ("{type: Softshrink, lambd: -0.1}", "lambd"),
        ("{type: GELU, approximate: erf}", "erf"),
        ("{type: Softmax}", "dim"),
        ("{type: Tanh, inplace: true}", "inplace"),
    ] {
        let built = parse("act.yaml", yaml).and_then(|node| node.read::<Spec<dyn Module>>());
        let built =
            built.map_err(shanty::base::Error::from).and_then(|spec| spec.build(&mut BuildCx::new(0)));
        let text = built.err().unwrap_or_else(|| panic!("{yaml} is taken")).to_string();
        assert!(text.contains(wanted), "{text}\nfor {yaml}");
    }
}

/// The first of equal ones, and the first NaN before any number.
#[test]
fn the_place_of_an_extreme_is_the_first() {
    let nan = Elem::NAN;
    let tape = Tape::without_grad(BufferPool::default());
    let x = tape.input(tensor(
        &[4, 4],
        &[
            1.0, 3.0, 3.0, -1.0, //
            2.0, nan, 5.0, nan, //
            0.0, 0.0, 0.0, 0.0, //
            4.0, -4.0, -4.0, 4.0,
        ],
    ));
    assert_eq!(x.argmax(1).unwrap(), arr1(&[1, 1, 0, 0]).into_dyn());
    assert_eq!(x.argmin(-1).unwrap(), arr1(&[3, 1, 0, 1]).into_dyn());
    assert_eq!(x.argmax(0).unwrap(), arr1(&[3, 1, 1, 1]).into_dyn());
}

/// As `x.max(dim)` of PyTorch, whose gradient goes to the place that it names.
#[test]
fn a_maximum_by_its_place_gives_its_gradient_to_that_place() {
    fn largest(x: Var<'_>) -> Var<'_> {
        x.gather(1, &x.argmax(1).unwrap().insert_axis(ndarray::Axis(1)))
    }
    let x = tensor(&[2, 3], &[1.0, 7.0, 7.0, 4.0, 0.0, 2.0]);
    assert_eq!(slope(x, largest), arr2(&[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).into_dyn());
}

/// Nothing is selected, nothing is padded, nothing is summed: no panic, and gradients of the right shape.
#[test]
fn empty_values_go_through() {
    let zeros = || ArrayD::<Elem>::zeros(vec![2, 3]);
    assert_eq!(slope(counting(), |x| x.masked_select(&arr2(&[[false; 3]; 2]).into_dyn())), zeros());
    assert_eq!(slope(counting(), |x| x.index_select(0, &[])), zeros());
    assert_eq!(slope(counting(), |x| x.slice(0, ..0).cumsum(0).cumsum(1)), zeros());
    assert_eq!(slope(counting(), |x| x.slice(1, ..0).pad(&[1, 1], PadMode::Constant(2.0))), zeros());
    assert_eq!(slope(counting(), |x| x.slice(1, ..0).einsum("ij,kj", x.slice(1, ..0))), zeros());
    assert_eq!(slope(counting(), |x| x.slice(1, ..0).glu(1) + x.slice(1, ..0).softplus(1.0, 20.0)), zeros());
    let filled =
        slope(counting(), |x| x.pad(&[], PadMode::Reflect).scatter_add(0, &ArrayD::zeros(vec![0, 3]), x));
    assert_eq!(filled, ArrayD::<Elem>::ones(vec![2, 3]));
}

/// The deviation of equal elements has no slope, that of PyTorch 0: `x.std(0, correction=0)` of [1, 1] gives [0, 0].
#[test]
fn a_deviation_of_zero_has_no_gradient() {
    let grad = slope(tensor(&[2], &[1.0, 1.0]), |x| x.std_axes(&[0], 0));
    assert_eq!(grad, arr1(&[0.0, 0.0]).into_dyn());
}

/// The variance of numbers far from 0 keeps its digits: 1e4 + {0, 1, 2, 3} as {0, 1, 2, 3}.
#[test]
fn a_variance_does_not_lose_digits_to_the_mean() {
    let tape = Tape::without_grad(BufferPool::default());
    let x = tape.input(tensor(&[4], &[0.0, 1.0, 2.0, 3.0])) + 1e4;
    assert!((x.var_axes(&[0], 1).item() - 5.0 / 3.0).abs() < 1e-6);
}

/// A running sum of a million tenths is that of f64, rounded.
#[test]
fn running_sums_do_not_lose_digits() {
    let tape = Tape::without_grad(BufferPool::default());
    let y = tape.input(Tensor::from_elem(vec![1_000_000], 0.1)).cumsum(0).value();
    assert!((f64::from(y[999_999]) - f64::from(0.1 as Elem) * 1e6).abs() < 0.004);
}

/// Draws follow from the generator that a layer is given, and nothing else.
#[test]
fn random_values_follow_from_their_key() {
    let draw = |iteration| {
        let tape = Tape::without_grad(BufferPool::default());
        let x = tape.input(Tensor::zeros(vec![500]));
        let mut rng = keyed(3, "step", iteration, 0);
        (x.rand_like(&mut rng).value(), x.randn_like(&mut rng).value())
    };
    let (uniform, normal) = draw(7);
    assert_eq!((uniform.clone(), normal.clone()), draw(7));
    assert_ne!(uniform, draw(8).0);
    assert!(uniform.iter().all(|u| (0.0..1.0).contains(u)));
    assert!((uniform.sum() / 500.0 - 0.5).abs() < 0.05 && (normal.sum() / 500.0).abs() < 0.15);
    assert!((normal.iter().map(|v| v * v).sum::<Elem>() / 500.0 - 1.0).abs() < 0.2);
}

/// No gradient goes back through it, parameters in it need not be listed, and it ends where its closure does.
#[test]
fn no_grad_cuts_values_off() {
    let teacher = Param::new(tensor(&[2], &[2.0, 3.0]));
    let mut only = Only { x: Param::new(tensor(&[2], &[1.0, 1.0])) };
    let tape = Tape::new(BufferPool::default());
    let x = tape.param(&only.x);
    let target = tape.no_grad(|| {
        let inner = tape.no_grad(|| x * 2.0);
        x * tape.param(&teacher) + inner
    });
    assert!(!target.requires_grad() && (x * 1.0).requires_grad());
    let loss = (x * target).sum().id();
    tape.backward(loss, &mut only).unwrap();
    assert_eq!(only.x.grad.unwrap(), arr1(&[4.0, 5.0]).into_dyn());
}
