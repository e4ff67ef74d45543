//! Matrix product with strides, bias and activation.

use super::gemm_plan::{Last, product};
use super::tile::Out;
use super::{Act, Elem};

/// A matrix in a slice: element (i, j) is `data[i * rs + j * cs]`.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    /// The elements; what lies between rows is not looked at.
    pub data: &'a [Elem],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance of two rows.
    pub rs: usize,
    /// Distance of two columns.
    pub cs: usize,
}

impl<'a> Mat<'a> {
    /// A dense row-major matrix.
    pub fn new(data: &'a [Elem], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, rs: cols, cs: 1 }
    }

    /// The transpose; nothing moves.
    pub fn t(self) -> Self {
        Self { data: self.data, rows: self.cols, cols: self.rows, rs: self.cs, cs: self.rs }
    }

    fn check(&self) {
        let last = if self.rows == 0 || self.cols == 0 {
            0
        } else {
            (self.rows - 1) * self.rs + (self.cols - 1) * self.cs + 1
        };
        assert!(last <= self.data.len(), "a {} x {} matrix does not fit its slice", self.rows, self.cols);
    }
}

/// A matrix to write to: row i is `data[i * rs..][..cols]`.
#[derive(Debug)]
pub struct MatMut<'a> {
    /// The elements; what lies between rows is not touched.
    pub data: &'a mut [Elem],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance of two rows, at least `cols`.
    pub rs: usize,
}

impl<'a> MatMut<'a> {
    /// A dense row-major matrix.
    pub fn new(data: &'a mut [Elem], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, rs: cols }
    }
}

/// What is added to a product before the activation.
#[derive(Debug, Clone, Copy, Default)]
pub enum Bias<'a> {
    /// Nothing.
    #[default]
    None,
    /// One number a column: a linear layer's outputs.
    Cols(&'a [Elem]),
    /// One number a row: a convolution's channels.
    Rows(&'a [Elem]),
}

/// What happens to a product on its way to memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added first.
    pub bias: Bias<'a>,
    /// Applied last.
    pub act: Act,
}

impl Bias<'_> {
    fn check(&self, rows: usize, cols: usize) {
        match self {
            Self::Cols(v) => assert_eq!(v.len(), cols, "bias of a product: one number a column"),
            Self::Rows(v) => assert_eq!(v.len(), rows, "bias of a product: one number a row"),
            Self::None => {}
        }
    }
}

/// Panics if the shapes do not fit each other or their slices.
fn check(a: &Mat<'_>, b: &Mat<'_>, c: &MatMut<'_>, bias: &Bias<'_>) {
    assert!(
        a.rows == c.rows && b.rows == a.cols && b.cols == c.cols,
        "shapes of a matrix product do not fit"
    );
    a.check();
    b.check();
    Mat { data: &*c.data, rows: c.rows, cols: c.cols, rs: c.rs, cs: 1 }.check();
    assert!(c.rs >= c.cols || c.rows <= 1, "rows of a product overlap");
    bias.check(c.rows, c.cols);
}

/// `c = act(alpha * a * b + beta * c + bias)`.
///
/// With `beta = 0` the old `c` is not read. An inner size of 0 is a product of zeros.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm(alpha: Elem, a: Mat<'_>, b: Mat<'_>, beta: Elem, c: MatMut<'_>, ep: Epilogue<'_>) {
    check(&a, &b, &c, &ep.bias);
    product(alpha, a, b, beta, c, ep.bias, Last::Act(ep.act));
}

/// `c = a * b + bias + more`, where `more` lies as `c` does: a linear layer at the end of a residual branch.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_add(a: Mat<'_>, b: Mat<'_>, bias: Bias<'_>, more: &[Elem], c: MatMut<'_>) {
    check(&a, &b, &c, &bias);
    assert_eq!(more.len(), c.data.len(), "what is added to a product lies as the product does");
    product(1.0, a, b, 0.0, c, bias, Last::Add(more));
}

/// `c = (a * b) ⊙ factor`, element by element, where `factor` lies as `c` does: the gradient before an activation.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_mul(a: Mat<'_>, b: Mat<'_>, factor: &[Elem], c: MatMut<'_>) {
    check(&a, &b, &c, &Bias::None);
    assert_eq!(factor.len(), c.data.len(), "what a product is multiplied with lies as the product does");
    product(1.0, a, b, 0.0, c, Bias::None, Last::Mul(factor));
}

/// `c = gelu(a * b + bias)`, a number of `bias` a column, and `slope`, which lies as `c` does, the derivative of each element.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_gelu(a: Mat<'_>, b: Mat<'_>, bias: &[Elem], c: MatMut<'_>, slope: &mut [Elem]) {
    check(&a, &b, &c, &Bias::Cols(bias));
    assert_eq!(slope.len(), c.data.len(), "the slope of a product lies as the product does");
    product(1.0, a, b, 0.0, c, Bias::Cols(bias), Last::Gelu(Out::from(slope)));
}
