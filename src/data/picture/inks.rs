//! What the components of a JPEG mean, and red, green and blue from them, with the arithmetic of libjpeg and Pillow.

/// What the components of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Gray,
    YCbCr,
    Rgb,
    /// Inks; as everybody stores them, 255 for none.
    Cmyk,
    /// The first three inks as brightness and colour.
    Ycck,
}

impl Space {
    /// As libjpeg decides: from the number of components, a JFIF marker, an Adobe marker's transform, and the names.
    pub(super) fn of(ids: &[u8], jfif: bool, transform: Option<u8>) -> Result<Self, String> {
        Ok(match (ids, transform) {
            ([_], _) => Self::Gray,
            ([_, _, _], _) if jfif => Self::YCbCr,
            ([_, _, _], Some(0)) | (b"RGB", None) => Self::Rgb,
            ([_, _, _], _) => Self::YCbCr,
            ([_, _, _, _], None | Some(0)) => Self::Cmyk,
            ([_, _, _, _], _) => Self::Ycck,
            _ => return Err(format!("its pixels have {} components; 1, 3 or 4 can be read", ids.len())),
        })
    }

    /// Whether its first component is how light a pixel is.
    pub(super) fn has_luma(self) -> bool {
        matches!(self, Self::Gray | Self::YCbCr)
    }

    /// Makes a row of pixels of 4 bytes, or of 1 where lightness is wanted, of a row of each component; of the first
    /// alone where that is the lightness.
    pub(super) fn convert(self, rows: &[&[u8]], gray: bool, out: &mut [u8]) {
        match (self, gray, rows) {
            (_, true, [luma, ..]) if self.has_luma() => {
                out.iter_mut().zip(*luma).for_each(|(to, from)| *to = *from);
            }
            (Self::YCbCr, false, [y, cb, cr]) => rgba(y, cb, cr, out),
            (_, true, _) => {
                out.iter_mut().enumerate().for_each(|(x, to)| *to = lightness(self.rgb(rows, x)));
            }
            (_, false, _) => out.as_chunks_mut::<4>().0.iter_mut().enumerate().for_each(|(x, to)| {
                let [r, g, b] = self.rgb(rows, x);
                *to = [r, g, b, 255];
            }),
        }
    }

    fn rgb(self, rows: &[&[u8]], x: usize) -> [u8; 3] {
        match (self, rows) {
            (Self::Cmyk, [c, m, y, k]) => [c[x], m[x], y[x]].map(|ink| under(ink, k[x])),
            (Self::Ycck, [y, cb, cr, k]) => from_ycc(y[x], cb[x], cr[x]).map(|ink| under(255 - ink, k[x])),
            (Self::YCbCr, [y, cb, cr]) => from_ycc(y[x], cb[x], cr[x]),
            (_, [r, g, b]) => [r[x], g[x], b[x]],
            _ => [rows.first().map_or(0, |row| row[x]); 3],
        }
    }
}

/// ITU-R BT.601 in 16 fractional bits, as libjpeg has it.
fn from_ycc(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let part = |scaled: i32| (scaled + (1 << 15)) >> 16;
    [y + part(91881 * cr), y + part(-22554 * cb - 46802 * cr), y + part(116130 * cb)]
        .map(|v| v.clamp(0, 255) as u8)
}

/// ITU-R BT.601 in 16 fractional bits, as libjpeg has it. Whole parts are taken out of the factors, so that they fit
/// into 16 bits, and each colour is a loop of its own: compilers make vectors of that.
fn rgba(brightness: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    const LANES: usize = 32;
    let from = brightness.chunks(LANES).zip(cb.chunks(LANES).zip(cr.chunks(LANES)));
    for ((y, (cb, cr)), to) in from.zip(out.as_chunks_mut::<4>().0.chunks_mut(LANES)) {
        let color = |v: u8| i16::from(v) - 128;
        // (v · factor + 2^15) / 2^16, rounded down
        let part = |v: i16, factor: i16| ((((i32::from(2 * v) * i32::from(factor)) >> 16) as i16) + 1) >> 1;
        let byte = |y: &u8, more: i16| (i16::from(*y) + more).clamp(0, 255) as u8;
        let [mut red, mut green, mut blue] = [[0; LANES]; 3];
        for ((to, y), cr) in red[..to.len()].iter_mut().zip(y).zip(cr) {
            // 1.402 = 1 + 26345 / 2^16
            *to = byte(y, color(*cr) + part(color(*cr), 26345));
        }
        for ((to, y), (cb, cr)) in green[..to.len()].iter_mut().zip(y).zip(cb.iter().zip(cr)) {
            // 0.714 = 1 - 18734 / 2^16, 0.344 = 22554 / 2^16
            let parts = i32::from(color(*cb)) * -22554 + i32::from(color(*cr)) * 18734;
            *to = byte(y, ((parts + (1 << 15)) >> 16) as i16 - color(*cr));
        }
        for ((to, y), cb) in blue[..to.len()].iter_mut().zip(y).zip(cb) {
            // 1.772 = 2 - 14942 / 2^16
            *to = byte(y, 2 * color(*cb) + part(color(*cb), -14942));
        }
        for ((to, red), (green, blue)) in to.iter_mut().zip(&red).zip(green.iter().zip(&blue)) {
            let rgba = u32::from(*red) | u32::from(*green) << 8 | u32::from(*blue) << 16 | 255 << 24;
            *to = rgba.to_le_bytes();
        }
    }
}

/// What is left of white under this ink and this black, both stored as 255 for none: `k - (255 - ink) * k / 255`, as
/// Pillow rounds.
fn under(ink: u8, k: u8) -> u8 {
    let product = u32::from(255 - ink) * u32::from(k) + 128;
    k - ((product + (product >> 8)) >> 8) as u8
}

/// ITU-R BT.601, as JPEG's luma and OpenCV's grey: 0.299 R + 0.587 G + 0.114 B.
pub(super) fn lightness([r, g, b]: [u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libjpeg's `default_decompress_parms`.
    #[test]
    fn markers_say_what_components_mean() {
        let of = |ids: &[u8], jfif, transform| Space::of(ids, jfif, transform).unwrap();
        assert_eq!(of(&[1], false, None), Space::Gray);
        assert_eq!(of(&[1, 2, 3], true, Some(0)), Space::YCbCr, "JFIF comes first");
        assert_eq!(of(&[1, 2, 3], false, Some(0)), Space::Rgb);
        assert_eq!(of(&[1, 2, 3], false, None), Space::YCbCr);
        assert_eq!(of(b"RGB", false, None), Space::Rgb);
        assert_eq!(of(b"RGB", false, Some(1)), Space::YCbCr);
        assert_eq!(of(b"RGB", true, None), Space::YCbCr);
        assert_eq!(of(&[1, 2, 3, 4], false, None), Space::Cmyk);
        assert_eq!(of(&[1, 2, 3, 4], false, Some(0)), Space::Cmyk);
        assert_eq!(of(&[1, 2, 3, 4], false, Some(2)), Space::Ycck);
        assert!(Space::of(&[1, 2], false, None).unwrap_err().contains("2 components"));
    }

    #[test]
    fn no_ink_is_white_and_full_black_is_black() {
        let rgb = |space: Space, pixel: [u8; 4]| {
            let mut out = [0; 4];
            space.convert(&pixel.each_ref().map(std::slice::from_ref), false, &mut out);
            out
        };
        assert_eq!(rgb(Space::Cmyk, [255; 4]), [255; 4]);
        assert_eq!(rgb(Space::Cmyk, [255, 255, 255, 0]), [0, 0, 0, 255]);
        assert_eq!(rgb(Space::Cmyk, [0, 255, 255, 255]), [0, 255, 255, 255]);
        // Brightness 0 of the inks' negative is no ink.
        assert_eq!(rgb(Space::Ycck, [0, 128, 128, 255]), [255; 4]);
        assert_eq!(rgb(Space::Ycck, [255, 128, 128, 255]), [0, 0, 0, 255]);
    }

    #[test]
    fn colours_are_those_of_the_other_way_round() {
        let values = || (0..=255).step_by(5).chain([1, 127, 128, 129, 254]).map(|v| v as u8);
        for (y, cb) in values().flat_map(|y| values().map(move |cb| (y, cb))) {
            let cr: Vec<u8> = values().collect();
            let mut out = vec![0; 4 * cr.len()];
            rgba(&vec![y; cr.len()], &vec![cb; cr.len()], &cr, &mut out);
            for (cr, pixel) in cr.iter().zip(out.as_chunks::<4>().0) {
                let [r, g, b] = from_ycc(y, cb, *cr);
                assert_eq!(*pixel, [r, g, b, 255], "{y} {cb} {cr}");
            }
        }
    }
}
