//! Which way up a camera was held: the orientation tag of EXIF (CIPA DC-008, tag 0x0112).

use super::decode::Pixels;

/// How stored rows and columns become those that are shown: transposed first, then mirrored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) transpose: bool,
    pub(super) flip_x: bool,
    pub(super) flip_y: bool,
}

impl Turn {
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    /// The turn of an orientation of 1..=8.
    pub(super) fn of(orientation: u16) -> Self {
        let (transpose, flip_x, flip_y) = match orientation {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Self { transpose, flip_x, flip_y }
    }

    /// From the contents of a JPEG's APP1 segment; none where it says nothing or makes no sense.
    pub(super) fn from_exif(segment: &[u8]) -> Self {
        segment.strip_prefix(b"Exif\0\0").map_or_else(Self::default, Self::from_tiff)
    }

    /// From EXIF data alone, as PNG's chunk has them; programs that copy a JPEG's segment leave its name before them.
    pub(super) fn from_tiff(tiff: &[u8]) -> Self {
        let tiff = tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff);
        tag(tiff).map_or_else(Self::default, Self::of)
    }

    /// The picture as it is to be shown.
    pub(super) fn applied(self, pixels: &Pixels) -> Pixels {
        let Pixels { ref bytes, rows, width, depth } = *pixels;
        let mut out = Pixels::default();
        let (to_rows, to_width) = if self.transpose { (width, rows) } else { (rows, width) };
        out.reshape(to_rows, to_width, depth);
        for (at, pixel) in out.bytes.chunks_exact_mut(depth).enumerate() {
            let (mut y, mut x) = (at / to_width, at % to_width);
            if self.flip_x {
                x = to_width - 1 - x;
            }
            if self.flip_y {
                y = to_rows - 1 - y;
            }
            if self.transpose {
                (y, x) = (x, y);
            }
            pixel.copy_from_slice(&bytes[(y * width + x) * depth..][..depth]);
        }
        out
    }
}

/// The orientation in a TIFF directory.
fn tag(tiff: &[u8]) -> Option<u16> {
    let little = tiff.starts_with(b"II");
    let short = |at: usize| {
        let two = [*tiff.get(at)?, *tiff.get(at + 1)?];
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let long = |at: usize| {
        let (a, b) = (usize::from(short(at)?), usize::from(short(at + 2)?));
        Some(if little { b << 16 | a } else { a << 16 | b })
    };
    let directory = long(4)?;
    let entries = (0..usize::from(short(directory)?)).map(|i| directory + 2 + 12 * i);
    let at = entries.into_iter().find(|&at| short(at) == Some(0x0112))?;
    // A word of two bytes; of four where a program took the other type.
    match short(at + 2)? {
        4 => long(at + 8).and_then(|value| u16::try_from(value).ok()),
        _ => short(at + 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 rows of 3 pixels, `a` to `f`, turned.
    fn turned(orientation: u16) -> (usize, String) {
        let pixels = Pixels { bytes: b"abcdef".to_vec(), rows: 2, width: 3, depth: 1 };
        let out = Turn::of(orientation).applied(&pixels);
        (out.width, String::from_utf8(out.bytes).unwrap())
    }

    #[test]
    fn eight_ways_to_hold_a_camera() {
        // CIPA DC-008: what is row 0 and what column 0 of the stored picture when it is shown
        let expected = [
            (1, 3, "abcdef"), // top, left
            (2, 3, "cbafed"), // top, right
            (3, 3, "fedcba"), // bottom, right
            (4, 3, "defabc"), // bottom, left
            (5, 2, "adbecf"), // left, top
            (6, 2, "daebfc"), // right, top
            (7, 2, "fcebda"), // right, bottom
            (8, 2, "cfbead"), // left, bottom
        ];
        for (orientation, width, pixels) in expected {
            assert_eq!(turned(orientation), (width, pixels.to_owned()), "{orientation}");
        }
    }

    #[test]
    fn reads_both_byte_orders_and_survives_nonsense() {
        let little = b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        assert_eq!((Turn::from_exif(little), Turn::from_exif(big)), (Turn::of(6), Turn::of(6)));
        for len in 0..little.len() - 3 {
            assert!(Turn::from_exif(&little[..len]).is_none(), "{len}");
        }
    }
}
