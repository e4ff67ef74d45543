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

    pub(super) fn components(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::YCbCr | Self::Rgb => 3,
            Self::Cmyk | Self::Ycck => 4,
        }
    }

    /// Makes pixels of 4 bytes, or of 1 where lightness is wanted, of raw components.
    pub(super) fn convert(self, raw: &[u8], gray: bool, out: &mut [u8]) {
        let pixels = raw.chunks_exact(self.components());
        if gray {
            pixels.zip(out).for_each(|(from, to)| *to = self.lightness(from));
        } else {
            let to = out.as_chunks_mut::<4>().0;
            pixels.zip(to).for_each(|(from, to)| {
                let [r, g, b] = self.rgb(from);
                *to = [r, g, b, 255];
            });
        }
    }

    fn lightness(self, pixel: &[u8]) -> u8 {
        match (self, pixel) {
            (Self::Gray | Self::YCbCr, [y, ..]) => *y,
            _ => lightness(self.rgb(pixel)),
        }
    }

    fn rgb(self, pixel: &[u8]) -> [u8; 3] {
        match (self, pixel) {
            (Self::YCbCr, &[y, cb, cr]) => from_ycc(y, cb, cr),
            (Self::Cmyk, &[c, m, y, k]) => [c, m, y].map(|ink| under(ink, k)),
            (Self::Ycck, &[y, cb, cr, k]) => from_ycc(y, cb, cr).map(|ink| under(255 - ink, k)),
            (_, &[r, g, b]) => [r, g, b],
            _ => [pixel.first().copied().unwrap_or(0); 3],
        }
    }
}

/// ITU-R BT.601 in 16 fractional bits, as libjpeg has it.
pub(super) fn from_ycc(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let part = |scaled: i32| (scaled + (1 << 15)) >> 16;
    [y + part(91881 * cr), y + part(-22554 * cb - 46802 * cr), y + part(116130 * cb)]
        .map(|v| v.clamp(0, 255) as u8)
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
            space.convert(&pixel, false, &mut out);
            out
        };
        assert_eq!(rgb(Space::Cmyk, [255; 4]), [255; 4]);
        assert_eq!(rgb(Space::Cmyk, [255, 255, 255, 0]), [0, 0, 0, 255]);
        assert_eq!(rgb(Space::Cmyk, [0, 255, 255, 255]), [0, 255, 255, 255]);
        // Brightness 0 of the inks' negative is no ink.
        assert_eq!(rgb(Space::Ycck, [0, 128, 128, 255]), [255; 4]);
        assert_eq!(rgb(Space::Ycck, [255, 128, 128, 255]), [0, 0, 0, 255]);
    }
}
