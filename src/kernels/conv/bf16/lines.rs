//! Lines of f32 numbers, or of bf16 ones, become lines of bf16 numbers with their padding: one number, or those of two
//! channels, a position.
#![allow(unsafe_code)]

use super::axis::Axis;
use crate::kernels::bf16::{TILE, bf16, load};
use crate::kernels::isa::{Bf16Isa, bf16_isa};
use crate::kernels::number::Number;
use crate::kernels::transpose::avx512::transposed;
use std::arch::x86_64::*;
use std::mem::transmute;
use std::ops::Range;

/// Where the lines of one phase of a padded copy come from.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Columns of the plane that is copied, and its elements.
    width: usize,
    plane: usize,
    /// Rows of the plane that the lines come from: the first one's, how far apart they are, and which lines have one.
    origin: isize,
    row_stride: usize,
    rows: Range<usize>,
    /// Elements of a line, which of them are columns of the plane, where the first of those lies, how far apart they
    /// are.
    pitch: usize,
    cols: Range<usize>,
    first: usize,
    stride: usize,
}

impl View {
    pub fn new(y: &Axis, x: &Axis, [py, px]: [usize; 2]) -> Self {
        let cols = x.seen(px, x.pitch);
        let first = x.origin(px) + (x.stride * cols.start) as isize;
        Self {
            width: x.size,
            plane: x.size * y.size,
            origin: y.origin(py),
            row_stride: y.stride,
            rows: y.seen(py, y.pitch),
            pitch: x.pitch,
            first: if cols.is_empty() { 0 } else { first as usize },
            cols,
            stride: x.stride,
        }
    }

    /// A plane with padding behind and below it, in lines of `pitch` elements.
    pub fn plain([rows, cols]: [usize; 2], pitch: usize) -> Self {
        Self {
            width: cols,
            plane: rows * cols,
            origin: 0,
            row_stride: 1,
            rows: 0..rows,
            pitch,
            cols: 0..cols,
            first: 0,
            stride: 1,
        }
    }

    /// Where the first element of line `i` that is not padding lies in the plane.
    #[inline(always)]
    fn source(&self, i: usize) -> Option<usize> {
        let row = self.origin + (self.row_stride * i) as isize;
        (self.rows.contains(&i) && !self.cols.is_empty()).then(|| row as usize * self.width + self.first)
    }

    /// Panics if a plane of `len` elements is too small, or `to` has not an element for each of `lines`.
    fn check(&self, lines: &Range<usize>, len: usize, to: usize) {
        assert_eq!(to, lines.len() * self.pitch, "lines do not fit their copy");
        if let Some(last) = self.rows.end.checked_sub(1).and_then(|last| self.source(last)) {
            assert!(last + (self.cols.len() - 1) * self.stride < len, "a plane is too small");
        }
    }
}

/// Lines `lines` of the copy of two planes (or of one and zeros) as pairs of bf16 numbers in the bits of an element.
pub(super) fn pairs<X: Number>(v: &View, lines: Range<usize>, a: &[X], b: Option<&[X]>, to: &mut [f32]) {
    // The planes of the next two channels most likely come next.
    let ahead = 2 * v.plane;
    v.check(&lines, a.len().min(b.map_or(usize::MAX, <[X]>::len)), to.len());
    assert!(is_there(), "no instructions for bf16");
    // SAFETY: the CPU has this class, and the lengths are checked.
    unsafe { avx512_pairs(v, lines, [a.as_ptr(), b.map_or(std::ptr::null(), <[X]>::as_ptr)], ahead, to) };
}

/// Lines `lines` of the copy of a plane; the one that comes next lies `ahead` elements behind.
pub(super) fn singles<X: Number>(v: &View, lines: Range<usize>, from: &[X], ahead: usize, to: &mut [bf16]) {
    v.check(&lines, from.len(), to.len());
    assert!(is_there(), "no instructions for bf16");
    // SAFETY: the CPU has this class, and the lengths are checked.
    unsafe { avx512_singles(v, lines, from, ahead, to) };
}

/// The pairs of `count` pixels of two planes (none: zeros) as rows of tiles, 16 pixels each: two tiles side by side,
/// the next two `panel` numbers behind. The planes that come next lie `ahead` elements behind.
pub(super) fn columns<X: Number>(
    planes: [Option<&[X]>; 2],
    count: usize,
    ahead: usize,
    to: &mut [bf16],
    panel: usize,
) {
    let last = count.div_ceil(16) - 1;
    assert!(planes.iter().flatten().all(|plane| plane.len() >= count), "a plane is too small");
    assert!(is_there() && last / 2 * panel + last % 2 * TILE + 32 <= to.len(), "columns do not fit");
    // SAFETY: the CPU has this class, and the lengths are checked.
    unsafe { avx512_columns(planes, count, ahead, to, panel) };
}

/// A tile of B from rows of 16 elements: row i of its 32 begins at `at[i]`.
pub(super) fn tile(rows: &[f32], at: &[usize; 32], to: &mut [bf16]) {
    assert!(at.iter().all(|&at| at + 16 <= rows.len()) && to.len() == TILE, "the rows of a tile");
    assert!(is_there(), "no instructions for bf16");
    // SAFETY: the CPU has this class, and the lengths are checked.
    unsafe { avx512_tile(rows, at, to) };
}

/// Whether the CPU has AVX512-BF16.
pub(super) fn is_there() -> bool {
    bf16_isa() != Bf16Isa::Portable
}

/// Asks for what will be read.
#[inline(always)]
fn ask<X>(at: *const X) {
    // SAFETY: any address may be asked for.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// The lowest `n` lanes.
fn lanes(n: usize) -> u16 {
    ((1_u32 << n.min(16)) - 1) as u16
}

/// The numbers of `a` and `b`, one after the other.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn paired(a: __m512, b: __m512) -> __m512i {
    // Word 2 i comes from word i, the next one from word 16 + i.
    let order = _mm512_add_epi32(
        _mm512_set1_epi32(16 << 16),
        _mm512_mullo_epi32(
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
            _mm512_set1_epi32(1 << 16 | 1),
        ),
    );
    // SAFETY: both are 512 bits, all of which are allowed.
    let v = unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) };
    _mm512_permutexvar_epi16(order, v)
}

/// Calls `$elements` with where 16 elements at most lie in the plane and in the copy, and a mask of them, for all that
/// `$lines` show; `$zeros` with a place in the copy and a mask for what is padding.
macro_rules! each_vector {
    ($v:ident, $lines:ident, $elements:expr, $zeros:expr) => {
        for (line, i) in $lines.enumerate() {
            let to = line * $v.pitch;
            let (mut at, mut seen) = (to, to..to);
            if let Some(source) = $v.source(i) {
                seen = to + $v.cols.start..to + $v.cols.end;
                for j in (0..seen.len()).step_by(16) {
                    $elements(source + j * $v.stride, seen.start + j, lanes(seen.len() - j));
                }
            }
            while at < to + $v.pitch {
                if at == seen.start {
                    at = seen.end.max(at);
                    if at == to + $v.pitch {
                        break;
                    }
                }
                let end = if at < seen.start { seen.start } else { to + $v.pitch };
                let n = (end - at).min(16);
                $zeros(at, lanes(n));
                at += n;
            }
        }
    };
}

/// # Safety
/// The CPU has AVX-512 F, BW, VL and BF16; the arguments have passed [`View::check`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn avx512_pairs<X: Number>(
    v: &View,
    lines: Range<usize>,
    [a, b]: [*const X; 2],
    ahead: usize,
    to: &mut [f32],
) {
    let to = to.as_mut_ptr().cast::<i32>();
    each_vector!(
        v,
        lines,
        // SAFETY: the lanes that are not masked have been checked.
        |from: usize, at: usize, mask: u16| unsafe {
            let first = load(a.add(from), v.stride, mask);
            ask(a.wrapping_add(from + ahead));
            let second = if b.is_null() {
                _mm512_setzero_ps()
            } else {
                ask(b.wrapping_add(from + ahead));
                load(b.add(from), v.stride, mask)
            };
            _mm512_mask_storeu_epi32(to.add(at), mask, paired(first, second));
        },
        // SAFETY: the same.
        |at: usize, mask: u16| unsafe { _mm512_mask_storeu_epi32(to.add(at), mask, _mm512_setzero_si512()) }
    );
}

/// # Safety
/// The CPU has AVX-512 F, BW, VL and BF16; the arguments have passed [`View::check`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn avx512_singles<X: Number>(
    v: &View,
    lines: Range<usize>,
    from: &[X],
    ahead: usize,
    to: &mut [bf16],
) {
    let (source, to) = (from.as_ptr(), to.as_mut_ptr().cast::<i16>());
    each_vector!(
        v,
        lines,
        // SAFETY: the lanes that are not masked have been checked; both types are 256 bits.
        |from: usize, at: usize, mask: u16| unsafe {
            ask(source.wrapping_add(from + ahead));
            let numbers = _mm512_cvtneps_pbh(load(source.add(from), v.stride, mask));
            _mm256_mask_storeu_epi16(to.add(at), mask, transmute::<__m256bh, __m256i>(numbers));
        },
        // SAFETY: the same.
        |at: usize, mask: u16| unsafe { _mm256_mask_storeu_epi16(to.add(at), mask, _mm256_setzero_si256()) }
    );
}

/// Rows of sums become planes: element p of the `c`th of `cols` planes, which are `plane` apart, is element `c` of row
/// `at[p]`; rows are `width` elements, whole vectors.
pub(super) fn turn(sums: &[f32], width: usize, at: &[u32], cols: usize, to: &mut [f32], plane: usize) {
    let last = at.iter().max().map_or(0, |&at| at as usize);
    assert!(is_there() && width.is_multiple_of(16) && cols <= width && (last + 1) * width <= sums.len());
    assert!(cols > 0 && (cols - 1) * plane + at.len() <= to.len(), "planes of sums do not fit");
    let (blocks, rest) = at.as_chunks::<16>();
    for c in (0..cols).step_by(16) {
        for (i, at) in blocks.iter().enumerate() {
            // SAFETY: the CPU has this class, and the lengths are checked.
            unsafe { turn_block(sums, width, at, 16, [c, cols], &mut to[c * plane + 16 * i..], plane) };
        }
        if !rest.is_empty() {
            let mut last = [rest[0]; 16];
            last[..rest.len()].copy_from_slice(rest);
            let to = &mut to[c * plane + 16 * blocks.len()..];
            // SAFETY: the same.
            unsafe { turn_block(sums, width, &last, rest.len(), [c, cols], to, plane) };
        }
    }
}

/// # Safety
/// The CPU has AVX-512 F; the rows of `sums` exist, and `to` has the first `count` elements of planes `c..cols`, at
/// most 16.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn turn_block(
    sums: &[f32],
    width: usize,
    at: &[u32; 16],
    count: usize,
    [c, cols]: [usize; 2],
    to: &mut [f32],
    plane: usize,
) {
    let mut rows = [_mm512_setzero_ps(); 16];
    // SAFETY: the caller's promise.
    unsafe {
        for i in 0..16 {
            rows[i] = _mm512_loadu_ps(sums.as_ptr().add(at[i] as usize * width + c));
        }
        let columns = transposed(rows);
        for i in 0..16 {
            if c + i < cols {
                _mm512_mask_storeu_ps(to.as_mut_ptr().add(i * plane), lanes(count), columns[i]);
            }
        }
    }
}

/// # Safety
/// As [`columns`] has asserted.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn avx512_columns<X: Number>(
    planes: [Option<&[X]>; 2],
    count: usize,
    ahead: usize,
    to: &mut [bf16],
    panel: usize,
) {
    for i in 0..count.div_ceil(16) {
        let mask = lanes(count - 16 * i);
        let mut numbers = [_mm512_setzero_ps(); 2];
        // SAFETY: lanes past the end are masked, and rows of tiles have been checked.
        unsafe {
            for (numbers, plane) in numbers.iter_mut().zip(planes) {
                if let Some(plane) = plane {
                    *numbers = load(plane.as_ptr().add(16 * i), 1, mask);
                    ask(plane.as_ptr().wrapping_add(16 * i + ahead));
                }
            }
            let to = to.as_mut_ptr().add(i / 2 * panel + i % 2 * TILE);
            _mm512_storeu_si512(to.cast(), paired(numbers[0], numbers[1]));
        }
    }
}

/// # Safety
/// The CPU has AVX-512 F, BW, VL and BF16; `rows` has 16 elements from each of `at` on, `to` those of a tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn avx512_tile(rows: &[f32], at: &[usize; 32], to: &mut [bf16]) {
    for p in 0..16 {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b) = (rows.as_ptr().add(at[2 * p]), rows.as_ptr().add(at[2 * p + 1]));
            let out = paired(_mm512_loadu_ps(a), _mm512_loadu_ps(b));
            _mm512_storeu_si512(to.as_mut_ptr().add(32 * p).cast(), out);
        }
    }
}
