//! Transposing blocks: panels are packed by it, and results with channels last become planes.

use crate::base::Elem;
use crate::kernels::number::Number;

/// `dst[c * rs_dst + r] = beta * dst[c * rs_dst + r] + src[r * rs_src + c]` for r < rows and c < cols; `beta = 0`
/// does not read `dst`.
pub(super) fn transpose<X: Number>(
    rows: usize,
    cols: usize,
    src: &[X],
    rs_src: usize,
    beta: Elem,
    dst: &mut [Elem],
    rs_dst: usize,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    assert!((rows - 1) * rs_src + cols <= src.len() && (cols - 1) * rs_dst + rows <= dst.len());
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    if crate::kernels::isa::isa() == crate::kernels::isa::Isa::Avx512 {
        for r in (0..rows).step_by(16) {
            for c in (0..cols).step_by(16) {
                let (s, d) = (&src[r * rs_src + c..], &mut dst[c * rs_dst + r..]);
                avx512::block(16.min(rows - r), 16.min(cols - c), s, rs_src, beta, d, rs_dst);
            }
        }
        return;
    }
    for r in (0..rows).step_by(16) {
        for c in 0..cols {
            for r in r..rows.min(r + 16) {
                let (s, d) = (src[r * rs_src + c].wide(), &mut dst[c * rs_dst + r]);
                *d = if beta == 0.0 { s } else { beta * *d + s };
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
#[allow(unsafe_code)]
pub(super) mod avx512 {
    use crate::kernels::bf16::load;
    use crate::kernels::number::Number;
    use std::arch::x86_64::*;

    /// Transposes at most 16 x 16 elements.
    pub fn block<X: Number>(
        rows: usize,
        cols: usize,
        src: &[X],
        rs_src: usize,
        beta: f32,
        dst: &mut [f32],
        rs_dst: usize,
    ) {
        assert!(
            (rows - 1) * rs_src + cols <= src.len()
                && (cols - 1) * rs_dst + rows <= dst.len()
                && rows.max(cols) <= 16
        );
        // SAFETY: the caller chose this class because the CPU has it; the assertion bounds every row and column.
        unsafe { block512(rows, cols, src.as_ptr(), rs_src, beta, dst.as_mut_ptr(), rs_dst) }
    }

    /// # Safety
    /// The CPU must have AVX-512 F, BW and VL; `src` and `dst` must hold the rows and columns asked for, at most 16 each.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn block512<X: Number>(
        rows: usize,
        cols: usize,
        src: *const X,
        rs_src: usize,
        beta: f32,
        dst: *mut f32,
        rs_dst: usize,
    ) {
        let (row_mask, col_mask) = ((0xffff_u32 >> (16 - rows)) as u16, (0xffff_u32 >> (16 - cols)) as u16);
        let mut r = [_mm512_setzero_ps(); 16];
        for (i, r) in r.iter_mut().enumerate() {
            if i < rows {
                // SAFETY: row i < rows exists; lanes past `cols` are masked.
                *r = unsafe { load(src.add(i * rs_src), 1, col_mask) };
            }
        }
        let t = transposed(r);
        for (i, t) in t.iter().enumerate() {
            if i < cols {
                // SAFETY: column i < cols of the result exists; lanes past `rows` are masked.
                unsafe {
                    let out = dst.add(i * rs_dst);
                    let mut v = *t;
                    if beta != 0.0 {
                        v = _mm512_fmadd_ps(_mm512_set1_ps(beta), _mm512_maskz_loadu_ps(row_mask, out), v);
                    }
                    _mm512_mask_storeu_ps(out, row_mask, v);
                }
            }
        }
    }

    /// The transpose of 16 x 16 elements in registers.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn transposed(r: [__m512; 16]) -> [__m512; 16] {
        let pd = |a: __m512| _mm512_castps_pd(a);
        let ps = |a: __m512d| _mm512_castpd_ps(a);
        let mut t = r;
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        // u[4 i + j]: column j of each 4 x 4 block of rows 4 i..4 i + 4.
        let mut u = t;
        for i in 0..4 {
            u[4 * i] = ps(_mm512_unpacklo_pd(pd(t[4 * i]), pd(t[4 * i + 2])));
            u[4 * i + 1] = ps(_mm512_unpackhi_pd(pd(t[4 * i]), pd(t[4 * i + 2])));
            u[4 * i + 2] = ps(_mm512_unpacklo_pd(pd(t[4 * i + 1]), pd(t[4 * i + 3])));
            u[4 * i + 3] = ps(_mm512_unpackhi_pd(pd(t[4 * i + 1]), pd(t[4 * i + 3])));
        }
        let mut out = u;
        for j in 0..4 {
            let a = _mm512_shuffle_f32x4::<0x88>(u[j], u[4 + j]);
            let b = _mm512_shuffle_f32x4::<0x88>(u[8 + j], u[12 + j]);
            let c = _mm512_shuffle_f32x4::<0xdd>(u[j], u[4 + j]);
            let d = _mm512_shuffle_f32x4::<0xdd>(u[8 + j], u[12 + j]);
            out[j] = _mm512_shuffle_f32x4::<0x88>(a, b);
            out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(a, b);
            out[4 + j] = _mm512_shuffle_f32x4::<0x88>(c, d);
            out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(c, d);
        }
        out
    }
}
