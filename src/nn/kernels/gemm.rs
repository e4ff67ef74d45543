//! Matrix product with strides, bias and activation.

use super::gemm_plan::product;
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

/// `c = act(alpha * a * b + beta * c + bias)`.
///
/// With `beta = 0` the old `c` is not read. An inner size of 0 is a product of zeros.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm(alpha: Elem, a: Mat<'_>, b: Mat<'_>, beta: Elem, c: MatMut<'_>, ep: Epilogue<'_>) {
    let (m, n, k) = (c.rows, c.cols, a.cols);
    assert!(a.rows == m && b.rows == k && b.cols == n, "shapes of a matrix product do not fit");
    a.check();
    b.check();
    Mat { data: &*c.data, rows: m, cols: n, rs: c.rs, cs: 1 }.check();
    assert!(c.rs >= n || m <= 1, "rows of a product overlap");
    match ep.bias {
        Bias::Cols(v) => assert_eq!(v.len(), n, "bias of a product: one number a column"),
        Bias::Rows(v) => assert_eq!(v.len(), m, "bias of a product: one number a row"),
        Bias::None => {}
    }
    product(alpha, a, b, beta, c, ep);
}
