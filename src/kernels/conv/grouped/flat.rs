//! Planes of one pitch, in which a tap is a shift.

use super::super::geometry::ConvGeom;
use super::sums::SLACK;
use super::vector::{Vector, ask_ahead, vectorised};
use crate::base::Elem;
use crate::kernels::gemm::microkernel::LANES;

/// Where a tap of the kernel reads the padded input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    /// The remainders of its row and column by the strides, as one number.
    pub phase: usize,
    /// How far its pixels lie behind those of the window's first tap, in the plane of its phase.
    pub shift: usize,
}

/// How a plane lies flat: the padded input in one plane a phase, that is a pair of remainders (vertical, horizontal) by
/// the strides. All planes have one pitch, and so has the output: output pixel i of a plane and tap t meet at place i +
/// shift of the plane of the tap's phase.
///
/// The pitch leaves a gap behind each row of the output, at least as wide as a tap reaches. What the loops compute for
/// the gap of the output is left out when rows are copied; the gap of its gradient holds zeros.
#[derive(Debug, Clone)]
pub(super) struct Flat {
    h: usize,
    w: usize,
    out: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    /// Rows of one phase.
    rows: usize,
    pub pitch: usize,
    /// The columns of each remainder.
    columns: Vec<Columns>,
    /// The taps in the order of the kernel.
    pub taps: Vec<Tap>,
}

/// Columns `from..from + width` of a phase are columns `skip`, `skip + stride`, … of the image.
#[derive(Debug, Clone, Copy)]
struct Columns {
    from: usize,
    skip: usize,
    width: usize,
}

impl Columns {
    fn new(g: &ConvGeom, remainder: usize) -> Self {
        let (left, stride) = (g.padding[1], g.stride[1]);
        let from = left.saturating_sub(remainder).div_ceil(stride);
        let skip = from * stride + remainder - left;
        Self { from, skip, width: g.w.saturating_sub(skip).div_ceil(stride) }
    }
}

impl Flat {
    pub fn new(g: &ConvGeom) -> Self {
        let size = |axis: usize, input: usize| {
            let reach = (g.kernel[axis] - 1) * g.dilation[axis] / g.stride[axis];
            (g.out[axis] + reach).max((input + g.padding[axis]).div_ceil(g.stride[axis]))
        };
        let (rows, pitch) = (size(0, g.h), size(1, g.w));
        let [sh, sw] = g.stride;
        let tap = |r: usize, s: usize| {
            let (y, x) = (r * g.dilation[0], s * g.dilation[1]);
            Tap { phase: y % sh * sw + x % sw, shift: y / sh * pitch + x / sw }
        };
        let taps = (0..g.kernel[0]).flat_map(|r| (0..g.kernel[1]).map(move |s| (r, s)));
        Self {
            h: g.h,
            w: g.w,
            out: g.out,
            stride: g.stride,
            padding: g.padding,
            rows,
            pitch,
            columns: (0..sw).map(|b| Columns::new(g, b)).collect(),
            taps: taps.map(|(r, s)| tap(r, s)).collect(),
        }
    }

    /// Elements of the flat output up to its last pixel.
    pub fn span(&self) -> usize {
        (self.out[0] - 1) * self.pitch + self.out[1]
    }

    pub fn phases(&self) -> usize {
        self.stride[0] * self.stride[1]
    }

    /// Elements of one phase of a plane of the input, with room behind them: a vector of zeros, and what its last row is
    /// written too much.
    pub fn phase_len(&self) -> usize {
        self.rows * self.pitch + 2 * LANES
    }

    /// Elements of the flat input of `channels` channels.
    pub fn input_len(&self, channels: usize) -> usize {
        channels * self.phases() * self.phase_len() + SLACK
    }

    /// Where each (channel, tap) reads the flat input.
    pub fn steps(&self, channels: usize) -> Vec<usize> {
        let plane = self.phases() * self.phase_len();
        let of = |c: usize| self.taps.iter().map(move |t| c * plane + t.phase * self.phase_len() + t.shift);
        (0..channels).flat_map(of).collect()
    }

    /// The largest shift of a tap.
    pub fn reach(&self) -> usize {
        self.taps.iter().map(|t| t.shift).max().unwrap_or(0)
    }

    /// Elements of one plane of the flat output, which has zeros before it as far as a tap reaches, and behind it as
    /// many as the input has rows.
    pub fn output_plane(&self) -> usize {
        self.reach() + self.phase_len()
    }

    /// Elements of the flat output of `channels` channels.
    pub fn output_len(&self, channels: usize) -> usize {
        channels * self.output_plane() + SLACK
    }

    /// For each phase of the input, where each (channel, tap) that meets it reads the flat output.
    pub fn output_steps(&self, channels: usize) -> Vec<Vec<usize>> {
        let (plane, reach) = (self.output_plane(), self.reach());
        let of = |phase: usize| {
            let taps = self.taps.iter().filter(|t| t.phase == phase).map(|t| reach - t.shift);
            let taps: Vec<usize> = taps.collect();
            (0..channels).flat_map(|c| taps.iter().map(move |at| c * plane + at)).collect()
        };
        (0..self.phases()).map(of).collect()
    }

    /// The first row of the phases that holds pixels of the input, not padding, and how many rows do.
    pub fn covered_rows(&self) -> (usize, usize) {
        let first = self.padding[0] / self.stride[0];
        (first, (self.h + self.padding[0]).div_ceil(self.stride[0]) - first)
    }

    /// Copies channels, the first planes of `src`, to their phases.
    pub fn fill(&self, channels: usize, src: &[Elem], dst: &mut [Elem]) {
        let plane = self.phases() * self.phase_len();
        for c in 0..channels {
            split(self, &src[c * self.h * self.w..], &mut dst[c * plane..]);
        }
        dst[channels * plane..].fill(0.0);
    }

    /// Copies channels of the output, the first planes of `src`, to their places.
    pub fn fill_output(&self, channels: usize, src: &[Elem], dst: &mut [Elem]) {
        let plane = self.output_plane();
        for c in 0..channels {
            spread(self, &src[c * self.out[0] * self.out[1]..], &mut dst[c * plane..]);
        }
        dst[channels * plane..].fill(0.0);
    }

    /// Puts the pixels of a plane of the input, the first of `dst`, together from its phases.
    pub fn merge<'a>(&self, phases: impl Fn(usize) -> &'a [Elem], dst: &mut [Elem]) {
        let [sh, sw] = self.stride;
        let [top, left] = self.padding;
        for y in 0..self.h {
            let (row, at) = ((y + top) % sh * sw, (y + top) / sh * self.pitch);
            let dst = &mut dst[y * self.w..];
            let column = |x: usize| &phases(row + (x + left) % sw)[at + (x + left) / sw..];
            match sw {
                1 => copy_row(column(0), dst, self.w),
                2 => interleave(column(0), column(1), dst, self.w),
                _ => {
                    for x in 0..sw.min(self.w) {
                        let to = dst[..self.w].iter_mut().skip(x).step_by(sw);
                        to.zip(column(x)).for_each(|(d, s)| *d = *s);
                    }
                }
            }
        }
    }
}

vectorised! {
    /// A plane of the input, row by row; what lies behind its phases in `dst` may be overwritten.
    fn split<V>(f: &Flat, src: &[Elem], dst: &mut [Elem]) {
        let [sh, sw] = f.stride;
        for (phase, columns) in (0..sh).flat_map(|a| f.columns.iter().enumerate().map(move |(b, c)| (a * sw + b, c))) {
            zeros::<V>(&mut dst[phase * f.phase_len()..], columns.from);
        }
        for i in 0..f.rows {
            for a in 0..sh {
                let y = (i * sh + a).wrapping_sub(f.padding[0]);
                for (b, columns) in f.columns.iter().enumerate() {
                    let row = &mut dst[(a * sw + b) * f.phase_len() + i * f.pitch + columns.from..];
                    let width = if y < f.h { columns.width } else { 0 };
                    if width > 0 {
                        copy::<V>(sw, &src[y * f.w + columns.skip..], row, width);
                    }
                    // The gap, and that before the next row.
                    let last = if i + 1 == f.rows { LANES - columns.from.min(LANES) } else { 0 };
                    zeros::<V>(&mut row[width..], f.pitch - width + last);
                }
            }
        }
    }
}

vectorised! {
    /// A plane of the output; what lies behind it in `dst` may be overwritten.
    fn spread<V>(f: &Flat, src: &[Elem], dst: &mut [Elem]) {
        let ([rows, width], reach) = (f.out, f.reach());
        zeros::<V>(dst, reach);
        let dst = &mut dst[reach..];
        for y in 0..rows {
            let row = &mut dst[y * f.pitch..];
            copy::<V>(1, &src[y * width..], row, width);
            zeros::<V>(&mut row[width..], f.pitch - width);
        }
        zeros::<V>(&mut dst[rows * f.pitch..], f.phase_len() - rows * f.pitch);
    }
}

/// Sets `n` elements to zero, in whole vectors where the slice has room for them.
#[inline(always)]
fn zeros<V: Vector>(dst: &mut [Elem], n: usize) {
    let whole = n.next_multiple_of(LANES);
    if whole > dst.len() {
        dst[..n].fill(0.0);
        return;
    }
    for d in dst[..whole].as_chunks_mut::<LANES>().0 {
        V::splat(0.0).store(d);
    }
}

vectorised! {
    /// Rows `pitch` apart in `src` to rows side by side; what lies behind them in `dst` may be overwritten.
    pub(super) fn compact<V>(src: &[Elem], pitch: usize, size: [usize; 2], dst: &mut [Elem]) {
        let [rows, width] = size;
        for y in 0..rows {
            copy::<V>(1, &src[y * pitch..], &mut dst[y * width..], width);
        }
    }
}

vectorised! {
    fn copy_row<V>(src: &[Elem], dst: &mut [Elem], n: usize) {
        copy::<V>(1, src, dst, n);
    }
}

/// Copies every `step`th element of `src`, `n` in all, in whole vectors where both slices have room for them: rows are
/// short, and what is written too much is overwritten by the next one.
#[inline(always)]
fn copy<V: Vector>(step: usize, src: &[Elem], dst: &mut [Elem], n: usize) {
    let whole = n.next_multiple_of(LANES);
    if step > 2 || whole * step > src.len() || whole > dst.len() {
        for (d, s) in dst[..n].iter_mut().zip(src.iter().step_by(step)) {
            *d = *s;
        }
        return;
    }
    let (dst, _) = dst[..whole].as_chunks_mut::<LANES>();
    let (src, _) = src.as_chunks::<LANES>();
    if step == 1 {
        for (d, s) in dst.iter_mut().zip(src) {
            ask_ahead(s.as_ptr());
            ask_ahead(d.as_ptr());
            V::load(s).store(d);
        }
    } else {
        for (d, [a, b]) in dst.iter_mut().zip(src.as_chunks::<2>().0) {
            ask_ahead(a.as_ptr());
            ask_ahead(b.as_ptr());
            V::load(a).evens(V::load(b)).store(d);
        }
    }
}

vectorised! {
    /// `n` elements, of `even` and `odd` by turns; what lies behind them in `dst` may be overwritten.
    fn interleave<V>(even: &[Elem], odd: &[Elem], dst: &mut [Elem], n: usize) {
        let whole = n.next_multiple_of(2 * LANES);
        if whole <= dst.len() && whole / 2 <= even.len().min(odd.len()) {
            let sources = even.as_chunks::<LANES>().0.iter().zip(odd.as_chunks::<LANES>().0);
            let (dst, _) = dst[..whole].as_chunks_mut::<LANES>();
            for ([low, high], (even, odd)) in dst.as_chunks_mut::<2>().0.iter_mut().zip(sources) {
                ask_ahead(low.as_ptr());
                ask_ahead(high.as_ptr());
                let [a, b] = V::load(even).interleave(V::load(odd));
                a.store(low);
                b.store(high);
            }
            return;
        }
        for (i, d) in dst[..n].iter_mut().enumerate() {
            *d = if i % 2 == 0 { even[i / 2] } else { odd[i / 2] };
        }
    }
}
