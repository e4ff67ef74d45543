//! The operands of a product: matrices in slices.

use crate::base::Elem;
use crate::kernels::number::{Numbers, NumbersMut};

/// A matrix in a slice: element (i, j) is `data[i * rs + j * cs]`.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    /// The elements; what lies between rows is not looked at.
    pub data: Numbers<'a>,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Row stride: the distance of two rows.
    pub rs: usize,
    /// Column stride: the distance of two columns.
    pub cs: usize,
}

impl<'a> Mat<'a> {
    /// A dense row-major matrix.
    pub fn new(data: impl Into<Numbers<'a>>, rows: usize, cols: usize) -> Self {
        Self { data: data.into(), rows, cols, rs: cols, cs: 1 }
    }

    /// The transpose; nothing moves.
    pub fn t(self) -> Self {
        Self { data: self.data, rows: self.cols, cols: self.rows, rs: self.cs, cs: self.rs }
    }

    /// Panics if an element lies outside of the slice.
    pub(super) fn check(&self) {
        let last = if self.rows == 0 || self.cols == 0 {
            0
        } else {
            (self.rows - 1) * self.rs + (self.cols - 1) * self.cs + 1
        };
        assert!(last <= self.data.len(), "a {} x {} matrix does not fit its slice", self.rows, self.cols);
    }
}

/// A matrix whose elements are all there in full.
#[derive(Clone, Copy)]
pub(super) struct FullMat<'a> {
    pub data: &'a [Elem],
    pub rows: usize,
    pub cols: usize,
    pub rs: usize,
    pub cs: usize,
}

impl FullMat<'_> {
    /// The transpose; nothing moves.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, rs: self.cs, cs: self.rs, ..self }
    }
}

/// A matrix to write to: row i is `data[i * rs..][..cols]`.
#[derive(Debug)]
pub struct MatMut<'a> {
    /// The elements; what lies between rows is not touched.
    pub data: NumbersMut<'a>,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Row stride: the distance of two rows, at least `cols`.
    pub rs: usize,
}

impl<'a> MatMut<'a> {
    /// A dense row-major matrix.
    pub fn new(data: impl Into<NumbersMut<'a>>, rows: usize, cols: usize) -> Self {
        Self { data: data.into(), rows, cols, rs: cols }
    }

    /// Panics if an element lies outside of the slice, or rows overlap, or have gaps in bf16.
    pub(super) fn check(&self) {
        let last = if self.rows == 0 || self.cols == 0 { 0 } else { (self.rows - 1) * self.rs + self.cols };
        let (rows, cols) = (self.rows, self.cols);
        assert!(last <= self.data.len(), "a {rows} x {cols} matrix does not fit its slice");
        assert!(self.rs >= self.cols || self.rows <= 1, "rows of a product overlap");
        let dense = self.rs == self.cols || matches!(self.data, NumbersMut::Full(_));
        assert!(dense, "rows of a product in bf16 have no gaps");
    }
}
