//! Images with their padding around them, and where windows and taps lie in them.

use super::Elem;
use super::isa::multiversion;
use super::tile::Steps;

/// A padded (or, where `top` or `left` is negative, cropped) copy of one image's channels: [c, fh, fw].
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub top: isize,
    pub left: isize,
    pub fh: usize,
    pub fw: usize,
}

impl Frame {
    pub fn len(&self) -> usize {
        self.c * self.fh * self.fw
    }

    /// Whether the copy would equal the image.
    pub fn is_image(&self) -> bool {
        self.top == 0 && self.left == 0 && self.fh == self.h && self.fw == self.w
    }

    /// Copies the channels `src` ([c, h, w]).
    pub fn fill(&self, src: &[Elem], dst: &mut [Elem]) {
        if src.is_empty() {
            dst.fill(0.0);
            return;
        }
        let planes = src.chunks_exact(self.h * self.w).zip(dst.chunks_exact_mut(self.fh * self.fw));
        for (src, dst) in planes {
            fill_plane(self, src, dst);
        }
    }
}

multiversion! {
    fn fill_plane(f: &Frame, src: &[Elem], dst: &mut [Elem]) {
        // Frame columns left..right hold image columns skip.. .
        let left = f.left.max(0) as usize;
        let skip = (-f.left).max(0) as usize;
        let width = f.w.saturating_sub(skip).min(f.fw.saturating_sub(left));
        for (y, row) in dst.chunks_exact_mut(f.fw).enumerate() {
            let from = y as isize - f.top;
            if width == 0 || from < 0 || from >= f.h as isize {
                row.fill(0.0);
                continue;
            }
            let src = &src[from as usize * f.w + skip..][..width];
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

/// The steps of a product over all channels of a frame: the taps of one channel, repeated.
#[derive(Debug, Clone)]
pub(super) struct Taps {
    inner: Vec<u32>,
    outer: usize,
    stride: usize,
    pub max_inner: usize,
}

impl Taps {
    pub fn new(taps: &[usize], channels: usize, plane: usize) -> Self {
        // Few taps make a short inner loop: let one round of it cover several channels.
        let mut fold = 1;
        for m in 2..=channels {
            if channels.is_multiple_of(m) && m * taps.len() <= 64 {
                fold = m;
            }
        }
        let inner: Vec<u32> =
            (0..fold).flat_map(|c| taps.iter().map(move |t| (c * plane + t) as u32)).collect();
        let max_inner = inner.iter().max().map_or(0, |&m| m as usize);
        Self {
            inner,
            outer: if channels == 0 { 0 } else { channels / fold },
            stride: fold * plane,
            max_inner,
        }
    }

    pub fn steps(&self) -> Steps<'_> {
        Steps { inner: &self.inner, outer: self.outer, stride: self.stride }
    }
}

/// The offsets of a grid of `rows` x `cols` windows in a frame, image after image.
pub(super) fn grid(
    images: usize,
    image: usize,
    rows: usize,
    row: usize,
    cols: usize,
    col: usize,
) -> Vec<u32> {
    (0..images)
        .flat_map(|i| {
            (0..rows).flat_map(move |y| (0..cols).map(move |x| (i * image + y * row + x * col) as u32))
        })
        .collect()
}
