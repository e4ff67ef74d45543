//! Small pictures of samples with a caption, as PNG files.

use ndarray::{ArrayView2, ArrayView3, Axis, s};

use crate::base::{Error, Result};

/// Red, green and blue of a pixel.
pub type Rgb = [u8; 3];

/// What stands behind pictures and captions.
const GROUND: Rgb = [24, 27, 31];
/// Pixels around a caption.
const GAP: usize = 4;
/// Lines of a caption; what is longer ends in dots.
const LINES: usize = 6;
const DOTS: &str = "...";
/// What says in a PNG file that shanty has drawn it.
#[cfg(feature = "images")]
const SOFTWARE: (&str, &str) = ("Software", "shanty");

/// A picture of red, green and blue bytes, to be looked at: samples of any values, class maps, captions.
///
/// ```
/// use ndarray::Array3;
/// use shanty::vis::Drawing;
///
/// let digit = Drawing::of_values(Array3::<f32>::zeros((1, 8, 8)).view(), false, 160);
/// let sheet = digit.at_least(96).captioned(&[("a zero".to_owned(), [255; 3])]);
/// assert_eq!(sheet.size(), (96, 96 + 24));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    width: usize,
    /// Row by row.
    pixels: Vec<Rgb>,
}

impl Drawing {
    /// A picture of one colour, at least one pixel wide.
    pub fn blank(width: usize, height: usize, color: Rgb) -> Self {
        let width = width.max(1);
        Self { width, pixels: vec![color; width * height] }
    }

    fn of(width: usize, height: usize, pixel: impl Fn(usize, usize) -> Rgb) -> Self {
        let at = |i: usize| pixel(i / width.max(1), i % width.max(1));
        Self { width: width.max(1), pixels: (0..width * height).map(at).collect() }
    }

    /// Planes of one channel, or of three, `bgr` if blue is the first. Values that are none of bytes, normalised ones
    /// say, are stretched from the smallest to the largest; what is no number is black. Of a picture with a side longer
    /// than `side` each pixel is the mean of several.
    pub fn of_values<E: Copy + Into<f64>>(planes: ArrayView3<'_, E>, bgr: bool, side: usize) -> Self {
        let (channels, height, width) = planes.dim();
        let step = height.max(width).div_ceil(side.max(1)).max(1);
        let number = |value: &E| -> f64 { (*value).into() };
        let finite = planes.iter().map(number).filter(|value| value.is_finite());
        let (low, high) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        // Digits of 0 to 16 would be black.
        let are_bytes = low >= 0.0 && high <= 255.0 && high > 32.0;
        let (low, scale) =
            if are_bytes { (0.0, 1.0) } else { (low, 255.0 / (high - low).max(f64::MIN_POSITIVE)) };
        Self::of(width.div_ceil(step), height.div_ceil(step), |y, x| {
            let rows = y * step..((y + 1) * step).min(height);
            let part = planes.slice(s![.., rows, x * step..((x + 1) * step).min(width)]);
            [0, 1, 2].map(|color| {
                let channel = if channels < 3 {
                    0
                } else if bgr {
                    2 - color
                } else {
                    color
                };
                let plane = part.index_axis(Axis(0), channel);
                let mean = plane.iter().map(number).sum::<f64>() / plane.len() as f64;
                ((mean - low) * scale).round() as u8
            })
        })
    }

    /// A class at each place, by colours that are far apart; 0 is black. Of a long side every second, third, … is
    /// shown.
    pub fn of_classes(classes: ArrayView2<'_, i64>, side: usize) -> Self {
        let (height, width) = classes.dim();
        let step = height.max(width).div_ceil(side.max(1)).max(1);
        Self::of(width.div_ceil(step), height.div_ceil(step), |y, x| {
            color_of(classes.get((y * step, x * step)).copied().unwrap_or_default())
        })
    }

    /// Pixels: width, height.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.pixels.len() / self.width)
    }

    /// Each pixel becomes a square of so many, as many as make the picture at least `width` wide.
    #[must_use]
    pub fn at_least(self, width: usize) -> Self {
        let times = width.div_ceil(self.width);
        let (own, height) = self.size();
        if times < 2 { self } else { self.resized(own * times, height * times) }
    }

    /// The pixels that lie where those of a picture of another size do: nothing is smoothed.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize) -> Self {
        let (own_width, own_height) = self.size();
        let (width, height) = (width.max(1), height.max(1));
        Self::of(width, height, |y, x| self.get(x * own_width / width, y * own_height / height))
    }

    fn get(&self, x: usize, y: usize) -> Rgb {
        self.pixels.get(y * self.width + x).copied().unwrap_or(GROUND)
    }

    /// Copies another one into this one, its left upper corner at this place; what lies outside is left out.
    pub fn paste(&mut self, other: &Self, x: usize, y: usize) {
        let fits = self.width.saturating_sub(x).min(other.width);
        let rows =
            self.pixels.chunks_exact_mut(self.width).skip(y).zip(other.pixels.chunks_exact(other.width));
        rows.for_each(|(to, from)| {
            to.iter_mut().skip(x).zip(from.iter().take(fits)).for_each(|(to, from)| *to = *from);
        });
    }

    /// Several in a row, so many pixels apart.
    pub fn beside(parts: &[Self], gap: usize) -> Self {
        let width = parts.iter().map(|part| part.width + gap).sum::<usize>().saturating_sub(gap);
        let height = parts.iter().map(|part| part.size().1).max().unwrap_or(0);
        let mut all = Self::blank(width, height, GROUND);
        parts.iter().fold(0, |x, part| {
            all.paste(part, x, 0);
            x + part.width + gap
        });
        all
    }

    /// Several below each other, so many pixels apart.
    pub fn below(parts: &[Self], gap: usize) -> Self {
        let width = parts.iter().map(|part| part.width).max().unwrap_or(0);
        let height = parts.iter().map(|part| part.size().1 + gap).sum::<usize>().saturating_sub(gap);
        let mut all = Self::blank(width, height, GROUND);
        parts.iter().fold(0, |y, part| {
            all.paste(part, 0, y);
            y + part.size().1 + gap
        });
        all
    }

    /// The picture with texts below it, each in its colour; what does not fit into a line goes on in the next.
    #[must_use]
    pub fn captioned(self, texts: &[(String, Rgb)]) -> Self {
        let most = (self.width.saturating_sub(2 * GAP) / glyph::WIDTH).max(1);
        let mut lines: Vec<(Vec<char>, Rgb)> = Vec::new();
        for (text, color) in texts {
            let chars: Vec<char> = text.chars().take(most * (LINES + 1)).collect();
            lines.extend(chars.chunks(most).map(|line| (line.to_vec(), *color)));
        }
        if lines.len() > LINES {
            lines.truncate(LINES);
            lines.iter_mut().last().into_iter().for_each(|(line, _)| {
                line.truncate(most.saturating_sub(DOTS.len()));
                line.extend(DOTS.chars());
            });
        }
        let (width, height) = self.size();
        let mut all = Self::blank(width, height + lines.len() * glyph::HEIGHT + 2 * GAP, GROUND);
        all.paste(&self, 0, 0);
        for (i, (line, color)) in lines.iter().enumerate() {
            for (k, c) in line.iter().enumerate() {
                all.put(*c, (GAP + k * glyph::WIDTH, height + GAP + i * glyph::HEIGHT), *color);
            }
        }
        all
    }

    fn put(&mut self, c: char, (x, y): (usize, usize), color: Rgb) {
        let width = self.width;
        let rows = glyph::of(c).chunks_exact(glyph::WIDTH);
        for (row, line) in rows.zip(self.pixels.chunks_exact_mut(width).skip(y)) {
            for (ink, pixel) in row.iter().zip(line.iter_mut().skip(x)) {
                let mix = |(under, over): (u8, u8)| {
                    let (under, over, ink) = (i32::from(under), i32::from(over), i32::from(*ink));
                    (under + (over - under) * ink / 255) as u8
                };
                *pixel = [0, 1, 2].map(|i| mix((pixel[i], color[i])));
            }
        }
    }

    /// The bytes of a PNG file, which [`is_own`](Self::is_own) knows again.
    ///
    /// # Errors
    /// In a program without the feature `images`; a picture that is too large for the format.
    #[cfg(feature = "images")]
    pub fn png(&self) -> Result<Vec<u8>> {
        let (width, height) = self.size();
        let large = || Error::invalid(format!("a picture of {width} × {height} pixels is too large"));
        let side = |side: usize| u32::try_from(side).map_err(|_| large());
        let failed = |why: png::EncodingError| Error::Other(why.into());
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(width)?, side(height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        encoder.add_text_chunk(SOFTWARE.0.to_owned(), SOFTWARE.1.to_owned()).map_err(failed)?;
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(self.pixels.as_flattened()).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    /// In a program without the feature `images`, as this one is.
    #[cfg(not(feature = "images"))]
    pub fn png(&self) -> Result<Vec<u8>> {
        Err(Error::invalid("this program was built without the feature `images`, which writes pictures"))
    }

    /// Whether a file that begins so is a PNG file that shanty has drawn: nothing else is replaced by one.
    pub fn is_own(begin: &[u8]) -> bool {
        let mark = b"tEXtSoftware\0shanty";
        begin.starts_with(b"\x89PNG\r\n") && begin.windows(mark.len()).any(|part| part == mark)
    }
}

/// The colour of a class: black for 0, and hues a golden angle apart.
fn color_of(class: i64) -> Rgb {
    if class == 0 {
        return [0; 3];
    }
    let hue = (class.rem_euclid(360) as f64 * 137.508).rem_euclid(360.0) / 60.0;
    [5.0, 3.0, 1.0].map(|offset: f64| {
        let k: f64 = (offset + hue).rem_euclid(6.0);
        (240.0 * (1.0 - 0.7 * k.min(4.0 - k).clamp(0.0, 1.0))).round() as u8
    })
}

/// Letters of Noto Sans Mono, row by row; what it has not here is a question mark.
mod glyph {
    pub const WIDTH: usize = 7;
    pub const HEIGHT: usize = 16;

    #[cfg(feature = "images")]
    pub fn of(c: char) -> &'static [u8] {
        use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};
        let raster = |c: char| get_raster(c, FontWeight::Regular, RasterHeight::Size16);
        raster(c).or_else(|| raster('?')).map_or(&[][..], |raster| raster.pixels())
    }

    #[cfg(not(feature = "images"))]
    pub fn of(_: char) -> &'static [u8] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn bytes(drawing: &Drawing) -> &[u8] {
        drawing.pixels.as_flattened()
    }

    #[test]
    fn values_become_bytes_in_the_order_of_a_screen() {
        let planes = Array3::from_shape_vec((3, 1, 2), vec![10.0, 20.0, 30.0, 40.0, 50.0, 60.0]).unwrap();
        assert_eq!(bytes(&Drawing::of_values(planes.view(), false, 160)), [10, 30, 50, 20, 40, 60]);
        assert_eq!(bytes(&Drawing::of_values(planes.view(), true, 160)), [50, 30, 10, 60, 40, 20]);
        assert_eq!(bytes(&Drawing::of_values(planes.view(), false, 1)), [15, 35, 55], "the mean of two");
        let normalised = Array3::from_shape_vec((1, 1, 3), vec![-1.0, 0.0, f64::NAN]).unwrap();
        let drawn = Drawing::of_values(normalised.view(), false, 160);
        assert_eq!(bytes(&drawn), [0, 0, 0, 255, 255, 255, 0, 0, 0]);
        assert_eq!(Drawing::of_values(Array3::<f64>::zeros((1, 0, 0)).view(), false, 9).size(), (1, 0));
    }

    #[test]
    fn a_picture_is_enlarged_pasted_and_captioned() {
        let two = Drawing::of(2, 1, |_, x| [x as u8; 3]);
        assert_eq!(two.clone().at_least(3).size(), (4, 2));
        assert_eq!(bytes(&two.clone().at_least(3))[..12], [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
        assert_eq!(Drawing::beside(&[two.clone(), two.clone()], 3).size(), (7, 1));
        assert_eq!(Drawing::below(&[two.clone(), two.clone()], 3).size(), (2, 5));
        let wide = two.at_least(100);
        let text = |n: usize| [("x".repeat(n), [255; 3])];
        let lines = |n: usize| (wide.clone().captioned(&text(n)).size().1 - 50 - 2 * GAP) / glyph::HEIGHT;
        assert_eq!([lines(13), lines(14), lines(10_000)], [1, 2, LINES]);
    }

    #[test]
    fn classes_have_colours_of_their_own() {
        let all: std::collections::BTreeSet<_> = (0..40).map(color_of).collect();
        assert_eq!((all.len(), color_of(0)), (40, [0; 3]));
    }

    #[cfg(feature = "images")]
    #[test]
    fn letters_are_of_one_size_and_a_file_knows_who_drew_it() {
        for c in ['a', 'É', '…', '?', '本', '\n'] {
            assert_eq!(glyph::of(c).len(), glyph::WIDTH * glyph::HEIGHT, "{c}");
        }
        let drawn = Drawing::of(3, 2, |y, x| [y as u8, x as u8, 200]).png().unwrap();
        assert!(Drawing::is_own(&drawn) && !Drawing::is_own(&drawn[1..]));
        let mut reader = png::Decoder::new(std::io::Cursor::new(&drawn)).read_info().unwrap();
        let mut pixels = vec![0; 18];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [0, 0, 200, 0, 1, 200, 0, 2, 200, 1, 0, 200, 1, 1, 200, 1, 2, 200]);
    }
}
