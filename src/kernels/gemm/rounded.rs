//! Copies of operands whose numbers are rounded.

use super::matrix::Mat;
use crate::base::Elem;
use crate::kernels::bf16::round;
use crate::kernels::isa::multiversion;
use crate::kernels::par;
use crate::kernels::precision::Precision;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// `mat` with its numbers rounded, in `to`, whose length is theirs; what lay side by side still does.
pub(crate) fn rounded<'a>(precision: Precision, mat: Mat<'_>, to: &'a mut [Elem], serial: bool) -> Mat<'a> {
    if mat.rs == 1 && mat.cs != 1 {
        return rounded(precision, mat.t(), to, serial).t();
    }
    let cols = mat.cols;
    par::chunks(cols.max(1), serial, to, |i, to| {
        let from = &mat.data[i * mat.rs..];
        if mat.cs == 1 {
            to.copy_from_slice(&from[..cols]);
        } else {
            to.iter_mut().zip(from.iter().step_by(mat.cs)).for_each(|(to, from)| *to = *from);
        }
        match precision {
            Precision::Full => {}
            Precision::Bf16 => to_bf16(to),
            Precision::F16 => to_f16(to),
        }
    });
    Mat { data: to, rows: mat.rows, cols, rs: cols, cs: 1 }
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
