//! Values in bf16 for kernels that read and write in full: a few images at a time, whose copies stay in a cache.

use super::geometry::ConvGeom;
use crate::base::Elem;
use crate::kernels::gemm::{LayerEpilogue, rounded_copy};
use crate::kernels::number::{Numbers, NumbersMut, narrow};
use crate::kernels::precision::Precision;
use crate::kernels::scratch::Scratch;
use std::ops::{Deref, Range};

/// Numbers that a part reads and writes, about: 4 MiB.
const PART: usize = 1 << 20;

/// Some images of a convolution.
pub(super) struct Part {
    /// Of these images.
    pub g: ConvGeom,
    first: usize,
    all: usize,
}

impl Part {
    /// All images, in parts if one of the values is in bf16.
    pub fn each(g: &ConvGeom, bf16: bool) -> impl Iterator<Item = Self> + use<> {
        let (g, all) = (*g, g.n);
        let parts = if bf16 { (g.x_len() + g.y_len()).div_ceil(PART) } else { 1 };
        let images = all.div_ceil(parts.max(1)).max(1);
        (0..all.max(1)).step_by(images).map(move |first| {
            let g = ConvGeom { n: images.min(all - first), ..g };
            Self { g, first, all }
        })
    }

    /// Whether it is the first one.
    pub fn is_first(&self) -> bool {
        self.first == 0
    }

    /// The place of these images among the numbers of all of them.
    fn of(&self, len: usize) -> Range<usize> {
        let image = len / self.all.max(1);
        self.first * image..(self.first + self.g.n) * image
    }

    /// The numbers of these images in full, rounded to `precision`.
    pub fn in_full<'a>(&self, precision: Precision, all: Numbers<'a>) -> InFull<'a> {
        in_full(precision, all.range(self.of(all.len())), self.g.n)
    }

    /// What follows on these images.
    pub fn then<'a>(&self, then: LayerEpilogue<'a>) -> LayerEpilogue<'a> {
        LayerEpilogue { residual: then.residual.map(|all| &all[self.of(all.len())]), ..then }
    }
}

/// Calls `f` on parts of the images with where it writes, in full.
pub(super) fn write_parts(
    g: &ConvGeom,
    read: Numbers<'_>,
    mut to: NumbersMut<'_>,
    f: impl Fn(&Part, &mut [Elem]),
) {
    let bf16 = read.is_half() || matches!(to, NumbersMut::Half(_));
    for part in Part::each(g, bf16) {
        let range = part.of(to.len());
        match &mut to {
            NumbersMut::Full(to) => f(&part, &mut to[range]),
            NumbersMut::Half(to) => {
                let mut full = Scratch::take(range.len());
                f(&part, &mut full);
                narrow(&full, &mut to[range]);
            }
        }
    }
}

/// Numbers in full: as they are, or a copy.
pub(super) enum InFull<'a> {
    Given(&'a [Elem]),
    Copy(Scratch),
}

impl Deref for InFull<'_> {
    type Target = [Elem];
    fn deref(&self) -> &[Elem] {
        match self {
            Self::Given(given) => given,
            Self::Copy(copy) => copy,
        }
    }
}

/// So many rows of numbers in full, rounded to `precision`.
pub(super) fn in_full(precision: Precision, numbers: Numbers<'_>, rows: usize) -> InFull<'_> {
    match (precision, numbers) {
        (Precision::Full, Numbers::Full(given)) => InFull::Given(given),
        _ => InFull::Copy(rounded_copy(precision, numbers, rows)),
    }
}

/// Numbers rounded to `precision`, for a kernel that reads them as they are stored: a copy only of those that are not of
/// it already.
pub(super) fn as_stored<'a>(
    precision: Precision,
    numbers: Numbers<'a>,
    rows: usize,
    copy: &'a mut Option<Scratch>,
) -> Numbers<'a> {
    match (precision, numbers) {
        (Precision::Full, _) | (Precision::Bf16, Numbers::Half(_)) => numbers,
        _ => Numbers::Full(copy.insert(rounded_copy(precision, numbers, rows))),
    }
}
