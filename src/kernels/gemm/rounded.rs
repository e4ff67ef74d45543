//! Copies of operands whose numbers are rounded.

use super::matrix::{FullMat, Mat};
use crate::base::Elem;
use crate::kernels::bf16::round;
use crate::kernels::isa::multiversion;
use crate::kernels::number::{Number, Numbers};
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::precision::Precision;
use crate::kernels::scratch::Scratch;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// `mat` with its numbers rounded, in `to`, whose length is theirs; what lay side by side still does.
pub(super) fn rounded<'a>(
    precision: Precision,
    mat: Mat<'_>,
    to: &'a mut [Elem],
    serial: bool,
) -> FullMat<'a> {
    if mat.rs == 1 && mat.cs != 1 {
        return rounded(precision, mat.t(), to, serial).t();
    }
    let cols = mat.cols;
    par::chunks(cols.max(1), serial, to, |i, to| {
        match mat.data.tail(i * mat.rs) {
            Numbers::Full(from) => copy(from, mat.cs, to),
            Numbers::Half(from) => copy(from, mat.cs, to),
        }
        match (precision, mat.data) {
            (Precision::Bf16, Numbers::Half(_)) => {}
            (precision, _) => round_in_place(precision, to),
        }
    });
    FullMat { data: to, rows: mat.rows, cols, rs: cols, cs: 1 }
}

/// A copy of `rows` rows without gaps, rounded.
pub(crate) fn rounded_copy(precision: Precision, from: Numbers<'_>, rows: usize) -> Scratch {
    let mut to = Scratch::take(from.len());
    let mat = Mat::new(from, rows, from.len() / rows.max(1));
    rounded(precision, mat, &mut to, from.len() < SERIAL_FLOPS / 8);
    to
}

/// Numbers rounded where they are.
pub(crate) fn round_in_place(precision: Precision, numbers: &mut [Elem]) {
    match precision {
        Precision::Full => {}
        Precision::Bf16 => to_bf16(numbers),
        Precision::F16 => to_f16(numbers),
    }
}

/// Every `step`th number, as many as `to` has.
fn copy<X: Number>(from: &[X], step: usize, to: &mut [Elem]) {
    match step {
        1 => X::read(&from[..to.len()], to),
        _ => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, from)| *to = from.wide()),
    }
}

multiversion! {
    fn to_bf16(numbers: &mut [Elem]) {
        for v in numbers {
            *v = f32::from_bits(u32::from(round(*v).to_bits()) << 16) as Elem;
        }
    }
}

fn to_f16(numbers: &mut [Elem]) {
    let mut halves = [f16::ZERO; 64];
    for numbers in numbers.chunks_mut(halves.len()) {
        let halves = &mut halves[..numbers.len()];
        #[cfg(not(shanty_f64))]
        {
            halves.convert_from_f32_slice(numbers);
            halves.convert_to_f32_slice(numbers);
        }
        #[cfg(shanty_f64)]
        {
            halves.convert_from_f64_slice(numbers);
            halves.convert_to_f64_slice(numbers);
        }
    }
}
