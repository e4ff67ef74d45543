//! JPEG files by the `zune-jpeg` crate, down to the last row that is wanted.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decode::Pixels;
use super::orientation::Turn;

/// What the segments before the first scan tell (ITU-T T.81, annex B).
#[derive(Debug)]
pub(super) struct Head {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) turn: Turn,
    /// Where in the file the height stands.
    height_at: usize,
    /// Rows of a unit that is decoded at once; none where all rows come out of the last scan.
    unit: Option<usize>,
}

impl Head {
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let mut at = 2;
        let (mut frame, mut turn) = (None, Turn::default());
        loop {
            let (marker, body, end) = segment(file, at).ok_or("it ends in its header")?;
            match marker {
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => frame = Some((marker, body)),
                0xe1 if turn.is_none() => turn = Turn::from_exif(&file[body..end]),
                0xda => {
                    let (marker, at) = frame.ok_or("it has no frame header")?;
                    // An end may stand in a thumbnail too, but not in the data of a scan.
                    if !file[end..].windows(2).rev().any(|two| two == [0xff, 0xd9]) {
                        return Err("it is cut off: there is no end marker".to_owned());
                    }
                    let scan_components = file.get(body).copied().unwrap_or(0);
                    return Self::from_frame(file, marker, at, scan_components, turn);
                }
                _ => {}
            }
            at = end;
        }
    }

    fn from_frame(file: &[u8], marker: u8, at: usize, in_scan: u8, turn: Turn) -> Result<Self, String> {
        let frame = file.get(at..at + 6).ok_or("it ends in its header")?;
        let word = |i: usize| usize::from(frame[i]) << 8 | usize::from(frame[i + 1]);
        let components =
            file.get(at + 6..at + 6 + 3 * usize::from(frame[5])).ok_or("it ends in its header")?;
        let rows = components.chunks_exact(3).map(|c| usize::from(c[1] & 15)).max().unwrap_or(1);
        // Baseline and extended sequential, with all colours in one scan: rows come from top to bottom.
        let unit = (marker <= 0xc1 && in_scan == frame[5] && in_scan > 1).then_some(8 * rows);
        Ok(Self { height: word(1), width: word(3), turn, height_at: at + 1, unit })
    }

    /// Decodes the rows above `bottom`, at least.
    ///
    /// A decoder stops where the frame header says that the picture ends. So the header is made to say that it ends below
    /// the last row wanted, at the end of a unit, and one row further, since colours are interpolated between rows.
    pub(super) fn decode(
        &self,
        file: &mut [u8],
        bottom: usize,
        gray: bool,
        out: &mut Pixels,
    ) -> Result<(), String> {
        let rows = match self.unit {
            Some(unit) => ((bottom + 1).div_ceil(unit) * unit).min(self.height),
            None => self.height,
        };
        file[self.height_at..self.height_at + 2].copy_from_slice(&(rows as u16).to_be_bytes());
        let (colors, depth) = if gray { (ColorSpace::Luma, 1) } else { (ColorSpace::RGBA, 4) };
        let options = DecoderOptions::default().jpeg_set_out_colorspace(colors);
        let options = options.set_max_width(u16::MAX.into()).set_max_height(u16::MAX.into());
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*file), options);
        decoder.decode_headers().map_err(|e| e.to_string())?;
        if decoder.output_buffer_size() != Some(rows * self.width * depth) {
            return Err("its headers contradict each other".to_owned());
        }
        out.reshape(rows, self.width, depth);
        decoder.decode_into(&mut out.bytes).map_err(|e| e.to_string())
    }
}

/// The segment at `at`: its marker, where its contents begin and where they end.
fn segment(file: &[u8], mut at: usize) -> Option<(u8, usize, usize)> {
    if *file.get(at)? != 0xff {
        return None;
    }
    // Any number of fill bytes may stand before a marker.
    while *file.get(at)? == 0xff {
        at += 1;
    }
    let marker = file[at];
    if matches!(marker, 0x01 | 0xd0..=0xd7) {
        return Some((marker, at + 1, at + 1));
    }
    let len = usize::from(*file.get(at + 1)?) << 8 | usize::from(*file.get(at + 2)?);
    let end = at + 1 + len.max(2);
    (end <= file.len()).then_some((marker, at + 3, end))
}
