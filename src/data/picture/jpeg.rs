//! JPEG files by the `zune-jpeg` crate, down to the last row that is wanted. It gives the components as they are
//! stored; which colours they mean (`inks.rs`) and what lies between their pixels (`upsample.rs`) is decided here, as
//! libjpeg does.

use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::{JpegDecoder, RawImcuRowStatus};

use super::decode::Pixels;
use super::inks::Space;
use super::orientation::Turn;
use super::upsample::Plane;

/// What the segments before the first scan tell (ITU-T T.81, annex B).
#[derive(Debug)]
pub(super) struct Head {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) turn: Turn,
    /// What the components mean.
    space: Space,
    /// The horizontal and the vertical sampling factor of each component.
    factors: Vec<(usize, usize)>,
}

/// What says which colours are meant.
#[derive(Debug, Default)]
struct Marks {
    jfif: bool,
    /// The transform of the last Adobe marker.
    transform: Option<u8>,
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
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => frame = Some(body),
                0xe0 => marks.jfif |= contents.starts_with(b"JFIF\0") && contents.len() >= 12,
                0xe1 if marks.turn.is_none() => marks.turn = Turn::from_exif(contents),
                0xee if contents.starts_with(b"Adobe") && contents.len() >= 12 => {
                    marks.transform = contents.get(11).copied();
                }
                0xda => {
                    let at = frame.ok_or("it has no frame header")?;
                    // An end may stand in a thumbnail too, but not in the data of a scan.
                    if !file[end..].windows(2).rev().any(|two| two == [0xff, 0xd9]) {
                        return Err("it is cut off: there is no end marker".to_owned());
                    }
                    return Self::from_frame(file, at, marks);
                }
                _ => {}
            }
            at = end;
        }
    }

    /// Whether it has one component.
    pub(super) fn is_gray(&self) -> bool {
        self.space == Space::Gray
    }

    /// Height, width and turn by the beginning of a file; none where it ends before its frame header.
    pub(super) fn shape(beginning: &[u8]) -> Option<(usize, usize, Turn)> {
        let (mut at, mut turn) = (2, Turn::default());
        loop {
            let (marker, body, end) = segment(beginning, at)?;
            match marker {
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                    let &[_, h1, h0, w1, w0] = beginning.get(body..)?.first_chunk()?;
                    let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
                    return Some((side(h1, h0), side(w1, w0), turn));
                }
                0xe1 if turn.is_none() => turn = Turn::from_exif(beginning.get(body..end)?),
                0xda => return None,
                _ => {}
            }
            at = end;
        }
    }

    fn from_frame(file: &[u8], at: usize, marks: Marks) -> Result<Self, String> {
        let short = "it ends in its header";
        let &[bits, h1, h0, w1, w0, n] = file.get(at..).and_then(<[u8]>::first_chunk).ok_or(short)?;
        let (height, width) =
            (usize::from(u16::from_be_bytes([h1, h0])), usize::from(u16::from_be_bytes([w1, w0])));
        if bits != 8 {
            return Err(format!("its values have {bits} bits; 8 can be read"));
        }
        let components = file.get(at + 6..at + 6 + 3 * usize::from(n)).ok_or(short)?;
        let (components, _) = components.as_chunks::<3>();
        let factors: Vec<_> =
            components.iter().map(|c| (usize::from(c[1] >> 4), usize::from(c[1] & 15))).collect();
        let (wide, rows) = largest(&factors);
        // Each block of 8 × 8 values takes one bit at least, in whichever scan: more than that the file cannot hold.
        let side = |n: usize, factor: usize, most: usize| (n * factor).div_ceil(most).div_ceil(8);
        let blocks: usize = factors.iter().map(|&(x, y)| side(width, x, wide) * side(height, y, rows)).sum();
        if blocks > 8 * file.len() {
            return Err(format!(
                "it is cut off: a file of {} bytes cannot hold the {width} × {height} pixels that its header promises",
                file.len()
            ));
        }
        let ids: Vec<u8> = components.iter().map(|c| c[0]).collect();
        let space = Space::of(&ids, marks.jfif, marks.transform)?;
        Ok(Self { height, width, turn: marks.turn, space, factors })
    }

    /// Decodes the rows above `bottom`, unit by unit: what lies below is left alone.
    pub(super) fn decode(
        &self,
        file: &[u8],
        bottom: usize,
        gray: bool,
        out: &mut Pixels,
    ) -> Result<(), String> {
        let options =
            DecoderOptions::default().set_max_width(u16::MAX.into()).set_max_height(u16::MAX.into());
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
        decoder.decode_headers().map_err(|e| e.to_string())?;
        let mut raw = decoder.raw_output();
        let most = largest(&self.factors);
        let planes = self.factors.iter().map(|own| Plane::new((self.height, self.width), *own, most));
        let mut planes = planes.collect::<Result<Vec<_>, _>>()?;
        let layout = raw.layout().unwrap_or_default();
        let shapes =
            layout.iter().take(raw.num_components().unwrap_or(0)).map(|plane| (plane.height, plane.width));
        if !shapes.eq(planes.iter().map(Plane::shape)) {
            return Err("its headers contradict each other".to_owned());
        }
        let strides: Vec<usize> = planes.iter().map(|plane| plane.shape().1).collect();
        let used = if gray && self.space.has_luma() { 1 } else { planes.len() };

        // How many rows of the picture there are after one more unit.
        let mut unit = |y: usize, planes: &mut [Plane]| {
            let mut rooms: Vec<&mut [u8]> = planes.iter_mut().map(Plane::room).collect();
            match raw.decode_next_imcu_row(&mut rooms, &strides).map_err(|e| e.to_string())? {
                RawImcuRowStatus::RowReady { rows_written } => {
                    planes.iter_mut().zip(rows_written).for_each(|(plane, n)| plane.decoded(n));
                    Ok(planes.iter().map(Plane::until).min().unwrap_or(0))
                }
                _ => Err(format!("its data end after {y} rows of {}", self.height)),
            }
        };
        // The first unit of a progressive file comes when all scans are read, which take memory of their own.
        let mut until = unit(0, &mut planes)?;
        out.reshape(bottom, self.width, if gray { 1 } else { 4 });
        for (y, row) in out.bytes.chunks_exact_mut((self.width * out.depth).max(1)).enumerate() {
            while y >= until {
                until = unit(y, &mut planes)?;
            }
            let components = planes.iter_mut().take(used).map(|plane| plane.row(y));
            self.space.convert(&components.collect::<Vec<_>>(), gray, row);
        }
        Ok(())
    }
}

/// The largest horizontal and the largest vertical factor.
fn largest(factors: &[(usize, usize)]) -> (usize, usize) {
    factors.iter().fold((1, 1), |most, (h, v)| (most.0.max(*h), most.1.max(*v)))
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
