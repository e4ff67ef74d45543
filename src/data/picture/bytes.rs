//! The bytes of a picture, as they lie in memory. Mirroring it, or another order of colours, moves nothing.

use ndarray::{Array3, Axis};

use crate::base::{Error, Result};

#[cfg(feature = "images")]
use super::Colors;
use super::Window;

/// A picture of bytes: height, width, channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Bytes {
    /// Rows of pixels of `depth` bytes.
    pub(super) stored: Vec<u8>,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) depth: usize,
    /// The first so many bytes of a pixel count.
    pub(super) channels: usize,
    /// Whether the channels are shown in the opposite order, and rows and pixels from the other end.
    pub(super) turned: bool,
    pub(super) flip_x: bool,
    pub(super) flip_y: bool,
}

impl Bytes {
    /// From bytes in the order row, pixel, channel.
    pub fn new(pixels: Array3<u8>) -> Self {
        let (height, width, depth) = pixels.dim();
        let stored = match pixels.is_standard_layout() {
            true => pixels.into_iter().collect(),
            false => pixels.iter().copied().collect(),
        };
        Self { stored, height, width, depth, channels: depth, turned: false, flip_x: false, flip_y: false }
    }

    /// Pixels of red, green, blue and a byte that means nothing, or of one byte.
    #[cfg(feature = "images")]
    pub(super) fn decoded(stored: Vec<u8>, shape: (usize, usize, usize), colors: Colors) -> Self {
        let (height, width, depth) = shape;
        let (channels, turned) = (depth.min(3), colors == Colors::Bgr);
        Self { stored, height, width, depth, channels, turned, flip_x: false, flip_y: false }
    }

    /// Height, width, channels.
    pub fn dim(&self) -> (usize, usize, usize) {
        (self.height, self.width, self.channels)
    }

    /// The bytes: height, width, channels.
    pub fn to_array(&self) -> Array3<u8> {
        let shape = (self.height, self.width, self.depth);
        let mut all =
            Array3::from_shape_fn(shape, |(y, x, c)| self.stored[(y * self.width + x) * self.depth + c]);
        all.slice_collapse(ndarray::s![.., .., ..self.channels]);
        let flips = [self.flip_y, self.flip_x, self.turned];
        (0..3).filter(|&axis| flips[axis]).for_each(|axis| all.invert_axis(Axis(axis)));
        all
    }

    /// Mirrors left and right, top and bottom, or both.
    pub fn mirror(&mut self, horizontal: bool, vertical: bool) {
        self.flip_x ^= horizontal;
        self.flip_y ^= vertical;
    }

    /// Shows the channels in the opposite order.
    pub fn turn_channels(&mut self) {
        self.turned ^= true;
    }

    /// The window of it; it must lie within.
    pub(super) fn part(&self, window: Window) -> Self {
        let w = self.place(window);
        let mut stored = Vec::with_capacity(w.height * w.width * self.depth);
        for row in self.stored.chunks_exact((self.width * self.depth).max(1)).skip(w.y).take(w.height) {
            stored.extend_from_slice(&row[w.x * self.depth..][..w.width * self.depth]);
        }
        Self { stored, height: w.height, width: w.width, ..*self }
    }

    /// Another size for the window of it, by a function of stored bytes, their height, width and depth, and the window
    /// in them.
    pub(super) fn resized(
        &self,
        window: Window,
        (height, width): (usize, usize),
        resize: impl FnOnce(&[u8], (usize, usize, usize), Window) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let shape = (self.height, self.width, self.depth);
        let stored = resize(&self.stored, shape, self.place(window))?;
        Ok(Self { stored, height, width, ..*self })
    }

    /// Where a window lies in the stored rows.
    fn place(&self, w: Window) -> Window {
        let y = if self.flip_y { self.height - w.y - w.height } else { w.y };
        let x = if self.flip_x { self.width - w.x - w.width } else { w.x };
        Window { y, x, ..w }
    }

    /// A plane of values a channel, appended to `out`; `table` gives the value of each byte, by channel.
    pub(super) fn planes(&self, table: impl Fn(usize) -> [f32; 256], out: &mut Vec<f32>) -> Result<()> {
        for channel in 0..self.channels {
            let table = table(channel);
            let at = if self.turned { self.channels - 1 - channel } else { channel };
            match self.depth {
                1 => self.plane::<1>(at, &table, out),
                3 => self.plane::<3>(at, &table, out),
                4 => self.plane::<4>(at, &table, out),
                _ => self.any_plane(at, &table, out),
            }
        }
        let len = self.height * self.width * self.channels;
        if out.len() == len { Ok(()) } else { Err(Error::invalid("a picture has more pixels than bytes")) }
    }

    fn plane<const DEPTH: usize>(&self, channel: usize, table: &[f32; 256], out: &mut Vec<f32>) {
        let value = |pixel: &[u8; DEPTH]| table[usize::from(pixel[channel])];
        for row in self.rows() {
            let (pixels, _) = row.as_chunks::<DEPTH>();
            match self.flip_x {
                true => out.extend(pixels.iter().rev().map(value)),
                false => out.extend(pixels.iter().map(value)),
            }
        }
    }

    fn any_plane(&self, channel: usize, table: &[f32; 256], out: &mut Vec<f32>) {
        for row in self.rows() {
            let values = row.chunks_exact(self.depth.max(1)).map(|pixel| table[usize::from(pixel[channel])]);
            match self.flip_x {
                true => out.extend(values.rev()),
                false => out.extend(values),
            }
        }
    }

    /// Stored rows, in the order in which they are shown.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let len = self.width * self.depth;
        (0..self.height).map(move |y| {
            let y = if self.flip_y { self.height - 1 - y } else { y };
            &self.stored[y * len..][..len]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    #[test]
    fn windows_mirrors_and_values_agree_with_arrays() {
        for depth in 1..=5 {
            let array = Array3::from_shape_fn((4, 5, depth), |(y, x, c)| (50 * y + 9 * x + c) as u8);
            for (horizontal, vertical) in [(false, false), (true, false), (false, true), (true, true)] {
                let mut bytes = Bytes::new(array.clone());
                bytes.mirror(horizontal, vertical);
                let bytes = bytes.part(Window { y: 1, x: 2, height: 2, width: 3 });
                let mut expected = array.clone();
                if horizontal {
                    expected.invert_axis(Axis(1));
                }
                if vertical {
                    expected.invert_axis(Axis(0));
                }
                let expected = expected.slice_move(s![1..3, 2..5, ..]);
                assert_eq!(bytes.to_array(), expected);
                let mut planes = Vec::new();
                bytes.planes(|_| std::array::from_fn(|byte| byte as f32), &mut planes).unwrap();
                let expected = expected.mapv(f32::from).permuted_axes([2, 0, 1]);
                assert_eq!(planes, expected.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
