//! Pixels as they lie in memory, for what draws on them or moves them.

use ndarray::Array3;

use crate::base::{Error, Result};

use super::{Bytes, Picture, Window};

/// A value of a pixel: a byte, or a number that is not rounded.
pub(in crate::data) trait Pixel: Copy + Send + Sync + 'static {
    fn value(self) -> f32;
    /// Rounded, halves up, and cut off at 0 and 255, where it is a byte.
    fn of(value: f32) -> Self;
    /// Rounded down and cut off, as numpy makes bytes.
    fn cut(value: f32) -> Self;
}

impl Pixel for u8 {
    fn value(self) -> f32 {
        f32::from(self)
    }
    fn of(value: f32) -> Self {
        (value + 0.5) as u8
    }
    fn cut(value: f32) -> Self {
        value as u8
    }
}

impl Pixel for f32 {
    fn value(self) -> f32 {
        self
    }
    fn of(value: f32) -> Self {
        value
    }
    fn cut(value: f32) -> Self {
        value
    }
}

/// A picture that is not mirrored: rows of pixels of `depth` values, the first `channels` of which count.
pub(in crate::data) struct Canvas<'a, P> {
    pub(in crate::data) pixels: &'a mut Vec<P>,
    pub(in crate::data) height: usize,
    pub(in crate::data) width: usize,
    pub(in crate::data) depth: usize,
    pub(in crate::data) channels: usize,
    /// Whether the channels are shown in the opposite order.
    turned: bool,
}

/// Does the same to a picture of bytes and to one of values.
pub(in crate::data) trait Draw {
    fn draw<P: Pixel>(self, canvas: &mut Canvas<'_, P>) -> Result<()>;
}

impl<P: Pixel> Canvas<'_, P> {
    /// Where the channel that is shown at `channel` lies in a pixel.
    pub(in crate::data) fn place(&self, channel: usize) -> usize {
        if self.turned { self.channels - 1 - channel } else { channel }
    }

    /// A colour in the order in which pixels are stored: one number for all channels, or one for each in the order in
    /// which they are shown.
    ///
    /// # Errors
    /// When there are other numbers of channels, or more than four.
    pub(in crate::data) fn color(&self, color: &[f64], key: &str) -> Result<[f64; 4]> {
        let mut stored = [0.0; 4];
        let known = stored.get_mut(..self.channels).ok_or_else(|| too_deep(self.channels))?;
        match *color {
            [all] => known.fill(all),
            // Grey pictures take grey colours of configs that were written for colours.
            [b, g, r] if self.channels == 1 && b == g && g == r => known.fill(b),
            _ if color.len() == self.channels => {
                color.iter().enumerate().for_each(|(channel, value)| known[self.place(channel)] = *value);
            }
            _ => {
                return Err(Error::invalid(format!(
                    "`{key}` has {} numbers for a picture of {} channels: give one for all, or one for each",
                    color.len(),
                    self.channels
                )));
            }
        }
        Ok(stored)
    }

    /// A pixel of this colour, as it is stored.
    ///
    /// # Errors
    /// As [`color`](Self::color).
    pub(in crate::data) fn pixel(&self, color: &[f64], key: &str) -> Result<[P; 4]> {
        Ok(self.color(color, key)?.map(|value| P::of(value as f32)))
    }

    /// Fills a window, which lies within, by a function that changes each of its pixels.
    pub(in crate::data) fn fill(&mut self, window: Window, mut paint: impl FnMut(&mut [P])) {
        let rows = self.pixels.chunks_exact_mut((self.width * self.depth).max(1));
        for row in rows.skip(window.y).take(window.height) {
            let part = &mut row[window.x * self.depth..][..window.width * self.depth];
            part.chunks_exact_mut(self.depth.max(1)).for_each(&mut paint);
        }
    }
}

/// Pictures are read with four channels at most; those of arrays may have more.
pub(super) fn too_deep(channels: usize) -> Error {
    Error::invalid(format!("it draws on pictures of 4 channels at most, and this one has {channels}"))
}

impl Bytes {
    /// The bytes, no longer mirrored.
    pub(in crate::data) fn canvas(&mut self) -> Canvas<'_, u8> {
        if self.flip_x || self.flip_y {
            let rows: Vec<&[u8]> = self.rows().collect();
            let mut straight = Vec::with_capacity(self.stored.len());
            for row in rows {
                match self.flip_x {
                    true => {
                        row.chunks_exact(self.depth.max(1)).rev().for_each(|pixel| straight.extend(pixel))
                    }
                    false => straight.extend(row),
                }
            }
            (self.stored, self.flip_x, self.flip_y) = (straight, false, false);
        }
        let Self { stored, height, width, depth, channels, turned, .. } = self;
        Canvas {
            pixels: stored,
            height: *height,
            width: *width,
            depth: *depth,
            channels: *channels,
            turned: *turned,
        }
    }
}

impl Picture {
    /// Changes pixels, of bytes or of values.
    ///
    /// # Errors
    /// When the file cannot be decoded, or what `drawing` says.
    pub(in crate::data) fn draw(&mut self, drawing: impl Draw) -> Result<()> {
        if let Some(bytes) = self.bytes()? {
            return drawing.draw(&mut bytes.canvas());
        }
        let values = self.values()?;
        let (height, width, channels) = values.dim();
        let rows = std::mem::take(values);
        let mut pixels: Vec<f32> = match rows.is_standard_layout() {
            true => rows.into_iter().collect(),
            false => rows.iter().copied().collect(),
        };
        let drawn = drawing.draw(&mut Canvas {
            pixels: &mut pixels,
            height,
            width,
            depth: channels,
            channels,
            turned: false,
        });
        *values = Array3::from_shape_vec((height, width, channels), pixels)
            .map_err(|e| Error::invalid(e.to_string()))?;
        drawn
    }

    /// Its bytes, for what is defined for bytes alone. Values become bytes: whole numbers as they are, others rounded.
    ///
    /// # Errors
    /// When the file cannot be decoded, and where its values are none of a byte's.
    pub(in crate::data) fn as_bytes(&mut self) -> Result<Canvas<'_, u8>> {
        self.bytes()?;
        if let Self::Values(values) = self {
            let (mut least, mut most, mut whole) = (f32::INFINITY, f32::NEG_INFINITY, true);
            for v in values.iter() {
                // `max` and `min` pass NaN by: the last condition does not.
                (least, most, whole) = (least.min(*v), most.max(*v), whole && v.trunc() == *v);
                if v.is_nan() {
                    least = *v;
                    break;
                }
            }
            // What is scaled to 0..1 would become black and white.
            let other = least.is_nan() || least < 0.0 || most > 255.0 || (!whole && most <= 1.0);
            if !values.is_empty() && other {
                let cure = match whole && most > 255.0 {
                    true => {
                        "it comes before `Normalize`, and a picture of 16 bits becomes bytes by another `color_type` than `unchanged`"
                    }
                    false => "it comes before `Normalize`, or the values are to be scaled",
                };
                return Err(Error::invalid(format!(
                    "it works on bytes, values from 0 to 255, and the image has {least} to {most}: {cure}"
                )));
            }
            *self = Self::Bytes(Bytes::new(values.mapv(u8::of)));
        }
        match self.bytes()? {
            Some(bytes) => Ok(bytes.canvas()),
            None => Err(Error::invalid("a picture has neither bytes nor values")),
        }
    }
}
