//! Copies of images with their padding around them, and where windows and taps lie in them.

use super::geometry::ConvGeom;
use crate::base::Elem;
use crate::kernels::gemm::microkernel::Offsets;
use crate::kernels::isa::multiversion;
use crate::kernels::par;

/// A padded (or, where `top` or `left` is negative, cropped) copy of one image's channels: [c, padded_h, padded_w].
#[derive(Debug, Clone, Copy)]
pub(super) struct Padded {
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub top: isize,
    pub left: isize,
    pub padded_h: usize,
    pub padded_w: usize,
}

impl Padded {
    /// One group of the channels of the input of `g`.
    pub fn input(g: &ConvGeom) -> Self {
        Self {
            c: g.c / g.groups,
            h: g.h,
            w: g.w,
            top: g.padding[0] as isize,
            left: g.padding[1] as isize,
            padded_h: g.h + 2 * g.padding[0],
            padded_w: g.w + 2 * g.padding[1],
        }
    }

    /// Elements of the copy.
    pub fn len(&self) -> usize {
        self.c * self.padded_h * self.padded_w
    }

    /// Whether the copy would equal the image.
    pub fn is_image(&self) -> bool {
        self.top == 0 && self.left == 0 && self.padded_h == self.h && self.padded_w == self.w
    }

    /// Copies the channels `src` ([c, h, w]); threads share them if `shared`.
    pub fn fill(&self, src: &[Elem], shared: bool, dst: &mut [Elem]) {
        if src.is_empty() {
            dst.fill(0.0);
            return;
        }
        let (plane, image) = (self.padded_h * self.padded_w, self.h * self.w);
        let fill = |c: usize, dst: &mut [Elem]| fill_plane(self, &src[c * image..][..image], dst);
        match shared {
            true => par::each_index(plane, dst, fill),
            false => dst.chunks_exact_mut(plane).enumerate().for_each(|(c, dst)| fill(c, dst)),
        }
    }
}

multiversion! {
    fn fill_plane(p: &Padded, src: &[Elem], dst: &mut [Elem]) {
        // Columns left..left + width of the copy hold the columns of the image from `skip` on.
        let left = p.left.max(0) as usize;
        let skip = (-p.left).max(0) as usize;
        let width = p.w.saturating_sub(skip).min(p.padded_w.saturating_sub(left));
        for (y, row) in dst.chunks_exact_mut(p.padded_w).enumerate() {
            let from = y as isize - p.top;
            if width == 0 || from < 0 || from >= p.h as isize {
                row.fill(0.0);
                continue;
            }
            let src = &src[from as usize * p.w + skip..][..width];
            for v in &mut row[..left] {
                *v = 0.0;
            }
            for (d, s) in row[left..].iter_mut().zip(src) {
                *d = *s;
            }
            for v in &mut row[left + width..] {
                *v = 0.0;
            }
        }
    }
}

/// The most entries of the table of a product's steps: 256 bytes, a small part of a first-level cache.
const TABLE: usize = 64;

/// The steps of a product over all channels of a padded image: the taps of one channel, or of a few, repeated.
#[derive(Debug, Clone)]
pub(super) struct TapOffsets {
    inner: Vec<u32>,
    max_inner: usize,
    outer: usize,
    stride: usize,
}

impl TapOffsets {
    /// The steps for these taps of each of `channels` planes of `plane` elements.
    pub fn new(taps: &[usize], channels: usize, plane: usize) -> Self {
        // Few taps make a short inner loop: let one round of it cover as many channels as divide their number.
        let mut fold = 1;
        for m in 2..=channels {
            if channels.is_multiple_of(m) && m * taps.len() <= TABLE {
                fold = m;
            }
        }
        let inner: Vec<u32> =
            (0..fold).flat_map(|c| taps.iter().map(move |t| (c * plane + t) as u32)).collect();
        let max_inner = inner.iter().max().map_or(0, |&m| m as usize);
        let outer = if channels == 0 { 0 } else { channels / fold };
        Self { inner, max_inner, outer, stride: fold * plane }
    }

    /// What the micro-kernel reads.
    pub fn offsets(&self) -> Offsets<'_> {
        Offsets { inner: &self.inner, max_inner: self.max_inner, outer: self.outer, stride: self.stride }
    }
}

/// Where the windows of a grid begin, image after image; each axis is (number, distance of two).
pub(super) fn grid(images: (usize, usize), rows: (usize, usize), cols: (usize, usize)) -> Vec<u32> {
    (0..images.0)
        .flat_map(|i| {
            (0..rows.0)
                .flat_map(move |y| (0..cols.0).map(move |x| (i * images.1 + y * rows.1 + x * cols.1) as u32))
        })
        .collect()
}
