//! Every tensor operation, on inputs that are drawn as `fixtures/gen_tensor_ops.py` draws them.

use ndarray::ArrayD;
use shanty::base::{Elem, Tensor};
use shanty::nn::{BufferPool, Child, ChildMut, ModuleTree, PadMode, Param, Tape, Var};

use super::Answers;
use super::draw::Draw;

const TOLERANCE: f64 = if size_of::<Elem>() == 8 { 1e-13 } else { 2e-6 };

/// The inputs of an operation, which have gradients.
struct Inputs(Vec<Param>);

impl ModuleTree for Inputs {
    fn type_name(&self) -> &'static str {
        "Inputs"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        self.0.iter().enumerate().for_each(|(i, param)| f(&i.to_string(), Child::Param(param)));
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        self.0.iter_mut().enumerate().for_each(|(i, param)| f(&i.to_string(), ChildMut::Param(param)));
    }
}

/// An operation on values.
type Op = Box<dyn for<'t> Fn(&[Var<'t>]) -> Var<'t>>;

fn op(inputs: Vec<Tensor>, f: impl for<'t> Fn(&[Var<'t>]) -> Var<'t> + 'static) -> (Vec<Tensor>, Op) {
    (inputs, Box::new(f))
}

fn base(d: &mut Draw) -> (Vec<usize>, isize) {
    let axes = d.size(1, 3);
    let shape = d.shape(axes, 1, 4);
    let axis = d.axis(axes);
    (shape, axis)
}

/// The size of the axis that a number of either sign means.
fn at(shape: &mut [usize], axis: isize) -> &mut usize {
    let axes = shape.len() as isize;
    &mut shape[axis.rem_euclid(axes) as usize]
}

fn index(d: &mut Draw, shape: &mut [usize], axis: isize) -> ArrayD<i64> {
    let mut own: Vec<usize> = shape.iter().map(|size| d.size(1, *size)).collect();
    *at(&mut own, axis) = d.size(1, 5);
    d.ints(&own, 0, *at(shape, axis) as i64 - 1)
}

fn cat(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (mut shape, axis) = base(d);
    let count = d.size(1, 3);
    let one = |_| {
        *at(&mut shape, axis) = d.size(1, 3);
        d.values(&shape, 1.0)
    };
    op((0..count).map(one).collect(), move |x| x[0].tape().concat(x, axis))
}

fn stack(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (shape, _) = base(d);
    let (axis, count) = (d.axis(shape.len() + 1), d.size(1, 3));
    op((0..count).map(|_| d.values(&shape, 1.0)).collect(), move |x| x[0].tape().stack(x, axis))
}

fn split(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (mut shape, axis) = base(d);
    let size = *at(&mut shape, axis);
    let cut = d.size(0, size);
    op(vec![d.values(&shape, 1.0)], move |x| {
        let parts = x[0].split(&[cut, size - cut], axis);
        x[0].tape().concat(&[parts[1] * 2.0, parts[0]], axis)
    })
}

fn chunk(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (mut shape, axis) = base(d);
    *at(&mut shape, axis) *= 2;
    op(vec![d.values(&shape, 1.0)], move |x| {
        let [a, b] = x[0].chunk(axis);
        a * b
    })
}

fn narrow(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (mut shape, axis) = base(d);
    let size = *at(&mut shape, axis);
    let start = d.size(0, size - 1);
    let length = d.size(1, size - start);
    op(vec![d.values(&shape, 1.0)], move |x| x[0].slice(axis, start..start + length))
}

fn index_select(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (mut shape, axis) = base(d);
    let count = d.size(1, 5);
    let index = d.ints(&[count], 0, *at(&mut shape, axis) as i64 - 1).into_raw_vec_and_offset().0;
    op(vec![d.values(&shape, 1.0)], move |x| x[0].index_select(axis, &index))
}

fn gather(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (mut shape, axis) = base(d);
    let index = index(d, &mut shape, axis);
    op(vec![d.values(&shape, 1.0)], move |x| x[0].gather(axis, &index))
}

fn scatter_add(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (mut shape, axis) = base(d);
    let index = index(d, &mut shape, axis);
    let source = d.values(index.shape(), 1.0);
    op(vec![d.values(&shape, 1.0), source], move |x| x[0].scatter_add(axis, &index, x[1]))
}

fn masked_select(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (shape, _) = base(d);
    let mask = d.mask(&shape);
    op(vec![d.values(&shape, 1.0)], move |x| x[0].masked_select(&mask))
}

fn masked_fill(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (shape, _) = base(d);
    let mask = d.mask(&shape[shape.len() - 1..]);
    op(vec![d.values(&shape, 1.0)], move |x| x[0].masked_fill(&mask, -7.0))
}

fn where_mask(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (shape, _) = base(d);
    let mask = d.mask(&shape[shape.len() - 1..]);
    let own: Vec<usize> = shape.iter().map(|size| if d.int(0, 1) == 1 { *size } else { 1 }).collect();
    let other = d.values(&own, 1.0);
    op(vec![d.values(&shape, 1.0), other], move |x| x[0].where_mask(&mask, x[1]))
}

fn pad_constant(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let axes = d.size(1, 3);
    let shape = d.shape(axes, 3, 5);
    let pads: Vec<isize> = (0..2 * d.size(1, axes)).map(|_| d.int(-1, 2) as isize).collect();
    op(vec![d.values(&shape, 1.0)], move |x| x[0].pad(&pads, PadMode::Constant(0.5)))
}

fn pad(d: &mut Draw, mode: PadMode, most: fn(usize) -> usize) -> (Vec<Tensor>, Op) {
    let mut shape = d.shape(4, 1, 3);
    shape[2..].iter_mut().for_each(|size| *size += 1);
    let pads = [3, 3, 2, 2].map(|axis| d.size(0, most(shape[axis])) as isize);
    op(vec![d.values(&shape, 1.0)], move |x| x[0].pad(&pads, mode))
}

fn clamp(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (shape, _) = base(d);
    op(vec![d.values(&shape, 1.0)], |x| x[0].clamp(-0.4, 0.6))
}

/// One axis or all of them.
fn some_axes(d: &mut Draw, shape: &[usize], axis: isize) -> Vec<isize> {
    if d.int(0, 1) == 1 { vec![axis] } else { (0..shape.len() as isize).collect() }
}

fn extreme(d: &mut Draw, f: for<'t> fn(Var<'t>, &[isize]) -> Var<'t>) -> (Vec<Tensor>, Op) {
    let (shape, axis) = base(d);
    let axes = some_axes(d, &shape, axis);
    op(vec![d.ints(&shape, -2, 2).mapv(|v| v as Elem).into_shared()], move |x| f(x[0], &axes))
}

fn extreme_place(d: &mut Draw, f: for<'t> fn(Var<'t>, isize) -> ArrayD<i64>) -> (Vec<Tensor>, Op) {
    let (shape, axis) = base(d);
    let _ = d.int(0, 1);
    let x = d.ints(&shape, -2, 2).mapv(|v| v as Elem).into_shared();
    // No gradient comes through it.
    op(vec![Tensor::zeros(vec![])], move |one| {
        let tape = one[0].tape();
        tape.input(f(tape.input(x.clone()), axis).mapv(|place| place as Elem)) + one[0]
    })
}

fn spread(d: &mut Draw, root: bool) -> (Vec<Tensor>, Op) {
    let axes = d.size(1, 3);
    let shape = d.shape(axes, 2, 4);
    let axis = d.axis(axes);
    let axes = some_axes(d, &shape, axis);
    let (correction, keep) = (d.size(0, 1), d.int(0, 1) == 1);
    op(vec![d.values(&shape, 1.0)], move |x| match (root, keep) {
        (false, false) => x[0].var_axes(&axes, correction),
        (false, true) => x[0].var_keepdim(&axes, correction),
        (true, false) => x[0].std_axes(&axes, correction),
        (true, true) => x[0].std_keepdim(&axes, correction),
    })
}

fn cumsum(d: &mut Draw) -> (Vec<Tensor>, Op) {
    let (shape, axis) = base(d);
    op(vec![d.values(&shape, 1.0)], move |x| x[0].cumsum(axis))
}

fn einsum(d: &mut Draw) -> (Vec<Tensor>, Op) {
    const EQUATIONS: [&str; 10] = [
        "ij,jk->ik",
        "bij,bjk->bik",
        "bhqd,bhkd->bhqk",
        "i,j->ij",
        "ij,ij->",
        "ijk,k->ji",
        "ab,cb",
        "aij,ija->ij",
        "ij,k->k",
        "bi,bij->bj",
    ];
    let equation = EQUATIONS[d.size(0, EQUATIONS.len() - 1)];
    let (a, b) = equation.split("->").next().unwrap().split_once(',').unwrap();
    let mut letters: Vec<char> = a.chars().chain(b.chars()).collect();
    letters.sort_unstable();
    letters.dedup();
    let sizes: Vec<usize> = letters.iter().map(|_| d.size(1, 4)).collect();
    let size = |letter: char| sizes[letters.iter().position(|l| *l == letter).unwrap()];
    let inputs = [a, b].map(|part| d.values(&part.chars().map(size).collect::<Vec<_>>(), 1.0));
    op(inputs.to_vec(), move |x| x[0].einsum(equation, x[1]))
}

const OPS: [(&str, fn(&mut Draw) -> (Vec<Tensor>, Op)); 24] = [
    ("cat", cat),
    ("stack", stack),
    ("split", split),
    ("chunk", chunk),
    ("narrow", narrow),
    ("index_select", index_select),
    ("gather", gather),
    ("scatter_add", scatter_add),
    ("masked_select", masked_select),
    ("masked_fill", masked_fill),
    ("where", where_mask),
    ("pad_constant", pad_constant),
    ("pad_reflect", |d| pad(d, PadMode::Reflect, |size| size - 1)),
    ("pad_replicate", |d| pad(d, PadMode::Replicate, |_| 4)),
    ("pad_circular", |d| pad(d, PadMode::Circular, |size| size)),
    ("clamp", clamp),
    ("amax", |d| extreme(d, |x, axes| x.max_axes(axes))),
    ("amin", |d| extreme(d, |x, axes| x.min_axes(axes))),
    ("argmax", |d| extreme_place(d, |x, axis| x.argmax(axis).unwrap())),
    ("argmin", |d| extreme_place(d, |x, axis| x.argmin(axis).unwrap())),
    ("var", |d| spread(d, false)),
    ("std", |d| spread(d, true)),
    ("cumsum", cumsum),
    ("einsum", einsum),
];

/// Values and gradients of all inputs.
#[test]
fn every_tensor_operation_equals_pytorch() {
    let (mut answers, _) = Answers::read("tensor_ops.safetensors");
    for (seed, (name, make)) in OPS.iter().enumerate() {
        let mut draw = Draw::new(1000 + seed as u32);
        for _ in 0..20 {
            let (inputs, op) = make(&mut draw);
            let mut inputs = Inputs(inputs.into_iter().map(Param::new).collect());
            let tape = Tape::new(BufferPool::default());
            let vars: Vec<Var<'_>> = inputs.0.iter().map(|param| tape.param(param)).collect();
            let y = op(&vars).checked().unwrap();
            answers.compare(&format!("{name}.y"), &y.value(), 1.0, TOLERANCE);
            let loss = (y * tape.input(draw.values(&y.shape(), 1.0))).sum().id();
            tape.backward(loss, &mut inputs).unwrap();
            if !name.starts_with("arg") {
                let name = format!("{name}.d");
                let grads = inputs.0.iter().map(|param| param.grad.as_ref().unwrap());
                grads.for_each(|grad| answers.compare(&name, grad, 1.0, TOLERANCE));
            }
        }
        println!("{name:18} worst error {:.1e}", answers.take_worst());
    }
    answers.finish();
}
