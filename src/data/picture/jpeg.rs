//! JPEG files by the `zune-jpeg` crate, down to the last row that is wanted. Which colours the components mean is
//! decided here, as libjpeg does; what that crate does not turn into red, green and blue by itself, or not as libjpeg,
//! is taken raw and turned in `inks.rs` and `chroma.rs`.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::chroma::{self, Units};
use super::decode::Pixels;
use super::inks::Space;
use super::orientation::Turn;

/// What the segments before the first scan tell (ITU-T T.81, annex B).
#[derive(Debug)]
pub(super) struct Head {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) turn: Turn,
    /// What the components mean.
    space: Space,
    /// Where in the file the height stands.
    height_at: usize,
    /// Where an Adobe marker names itself.
    adobe_at: Vec<usize>,
    /// Rows of a unit that is decoded at once; none where all rows come out of the last scan.
    unit: Option<usize>,
    /// Whether colours have half the rows and half the columns, all in one scan.
    quartered: bool,
}

/// What says which colours are meant.
#[derive(Debug, Default)]
struct Marks {
    jfif: bool,
    /// The transform of the last Adobe marker.
    transform: Option<u8>,
    adobe_at: Vec<usize>,
    turn: Turn,
}

impl Head {
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let mut at = 2;
        let (mut frame, mut marks) = (None, Marks::default());
        loop {
            let (marker, body, end) = segment(file, at).ok_or("it ends in its header")?;
            let contents = file.get(body..end).unwrap_or_default();
            match marker {
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => frame = Some((marker, body)),
                0xe0 => marks.jfif |= contents.starts_with(b"JFIF\0") && contents.len() >= 12,
                0xe1 if marks.turn.is_none() => marks.turn = Turn::from_exif(contents),
                0xee if contents.starts_with(b"Adobe") && contents.len() >= 12 => {
                    marks.transform = contents.get(11).copied();
                    marks.adobe_at.push(body);
                }
                0xda => {
                    let (marker, at) = frame.ok_or("it has no frame header")?;
                    // An end may stand in a thumbnail too, but not in the data of a scan.
                    if !file[end..].windows(2).rev().any(|two| two == [0xff, 0xd9]) {
                        return Err("it is cut off: there is no end marker".to_owned());
                    }
                    let scan_components = file.get(body).copied().unwrap_or(0);
                    return Self::from_frame(file, marker, at, scan_components, marks);
                }
                _ => {}
            }
            at = end;
        }
    }

    fn from_frame(file: &[u8], marker: u8, at: usize, in_scan: u8, marks: Marks) -> Result<Self, String> {
        let short = "it ends in its header";
        let &[bits, h1, h0, w1, w0, n] = file.get(at..).and_then(<[u8]>::first_chunk).ok_or(short)?;
        let (height, width) =
            (usize::from(u16::from_be_bytes([h1, h0])), usize::from(u16::from_be_bytes([w1, w0])));
        if bits != 8 {
            return Err(format!("its values have {bits} bits; 8 can be read"));
        }
        let components = file.get(at + 6..at + 6 + 3 * usize::from(n)).ok_or(short)?;
        let (components, _) = components.as_chunks::<3>();
        let factors = || components.iter().map(|c| (usize::from(c[1] >> 4), usize::from(c[1] & 15)));
        let (wide, rows) = factors().fold((1, 1), |most, (x, y)| (most.0.max(x), most.1.max(y)));
        // Each block of 8 × 8 values takes one bit at least, in whichever scan: more than that the file cannot hold.
        let side = |n: usize, factor: usize, most: usize| (n * factor).div_ceil(most).div_ceil(8);
        let blocks: usize = factors().map(|(x, y)| side(width, x, wide) * side(height, y, rows)).sum();
        if blocks > 8 * file.len() {
            return Err(format!(
                "it is cut off: a file of {} bytes cannot hold the {width} × {height} pixels that its header promises",
                file.len()
            ));
        }
        // Baseline and extended sequential, with all colours in one scan: rows come from top to bottom.
        let unit = (marker <= 0xc1 && in_scan == n && in_scan > 1).then_some(8 * rows);
        let quartered = unit.is_some() && factors().eq([(2, 2), (1, 1), (1, 1)]);
        let ids: Vec<u8> = components.iter().map(|c| c[0]).collect();
        let space = Space::of(&ids, marks.jfif, marks.transform)?;
        let (turn, adobe_at) = (marks.turn, marks.adobe_at);
        Ok(Self { height, width, turn, space, height_at: at + 1, adobe_at, unit, quartered })
    }

    /// Decodes the rows above `bottom`, at least.
    ///
    /// A decoder stops where the frame header says that the picture ends. So the header is made to say that it ends
    /// below the last row wanted, at the end of a unit, and one row further, since colours are interpolated between
    /// rows.
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
        // The decoder would read other colours out of these markers than libjpeg does: it is not to know them.
        self.adobe_at.iter().for_each(|&at| file[at] = b'-');
        if self.quartered && self.space == Space::YCbCr && !gray && self.decode_quartered(file, rows, out) {
            return Ok(());
        }
        self.set_frame(file, rows, self.width);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*file), options(ColorSpace::RGBA));
        decoder.decode_headers().map_err(|e| e.to_string())?;
        let stored = decoder.input_colorspace().ok_or("its headers tell no colours")?;
        let luma = matches!((self.space, stored), (Space::Gray, _) | (Space::YCbCr, ColorSpace::YCbCr));
        let wanted = match (luma, gray) {
            (true, true) => ColorSpace::Luma,
            (true, false) => ColorSpace::RGBA,
            (false, _) => stored,
        };
        decoder.set_options(options(wanted));
        let depth = wanted.num_components();
        if decoder.output_buffer_size() != Some(rows * self.width * depth)
            || (!luma && depth != self.space.components())
        {
            return Err("its headers contradict each other".to_owned());
        }
        if luma {
            out.reshape(rows, self.width, depth);
            out.unwritten();
            decoder.decode_into(&mut out.bytes).map_err(|e| e.to_string())?;
            return out.written();
        }
        let mut raw = vec![0; rows * self.width * depth];
        decoder.decode_into(&mut raw).map_err(|e| e.to_string())?;
        out.reshape(rows, self.width, if gray { 1 } else { 4 });
        self.space.convert(&raw, gray, &mut out.bytes);
        Ok(())
    }
}

impl Head {
    /// Makes the frame header say so.
    fn set_frame(&self, file: &mut [u8], rows: usize, width: usize) {
        let sides = [rows, width].map(|side| (side as u16).to_be_bytes());
        file[self.height_at..self.height_at + 4].copy_from_slice(sides.as_flattened());
    }

    /// Decodes by the planes as they are stored. Whether it could: what is odd about a file is said by the other way.
    fn decode_quartered(&self, file: &mut [u8], rows: usize, out: &mut Pixels) -> bool {
        let Some(units) = Units::of(rows, self.width) else { return false };
        let (down, across) = units.stretched();
        self.set_frame(file, down, across);
        // Height, width and the number of components stand before the first one's name and factors.
        let factors = self.height_at + 6;
        file[factors] = 0x41;
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*file), options(ColorSpace::YCbCr));
        let mut raw = vec![0; down * across * 3];
        let read = decoder.decode_headers().is_ok()
            && decoder.input_colorspace() == Some(ColorSpace::YCbCr)
            && decoder.output_buffer_size() == Some(raw.len())
            && decoder.decode_into(&mut raw).is_ok();
        file[factors] = 0x22;
        // The decoder fills up what a file lacks.
        let read = read && raw.iter().rev().take(across * 3).any(|byte| *byte != 128);
        if read {
            out.reshape(rows, self.width, 4);
            chroma::convert(&raw, units, self.height, out);
        }
        read
    }
}

fn options(wanted: ColorSpace) -> DecoderOptions {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(wanted);
    options.set_max_width(u16::MAX.into()).set_max_height(u16::MAX.into())
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
