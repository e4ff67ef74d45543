//! Picture files to bytes, and bytes to another size. Each thread keeps its buffers from picture to picture.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use fast_image_resize as fir;
use fir::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fir::pixels::U8x4;

use crate::base::error::IoContext;
use crate::base::{Error, Result, stale};

use super::{
    Backend, Bytes, Colors, Cut, Filter, Interpolation, Picture, PictureFile, Window, jpeg, orientation,
    other, png, resample, unchanged::unchanged,
};

/// What a thread works with.
#[derive(Default)]
struct Scratch {
    /// The file as it lies on the disk.
    file: Vec<u8>,
    pixels: Pixels,
    resizer: fir::Resizer,
}

/// Decoded pixels of 4 bytes (red, green, blue and one that means nothing: four are faster to work on than three) or of
/// 1.
#[derive(Default)]
pub(super) struct Pixels {
    pub(super) bytes: Vec<u8>,
    /// Rows that are there: all, or as many as were asked for from the top.
    pub(super) rows: usize,
    pub(super) width: usize,
    /// 4 or 1.
    pub(super) depth: usize,
}

impl Pixels {
    /// Makes room for an image; what the bytes hold is stale.
    pub(super) fn reshape(&mut self, rows: usize, width: usize, depth: usize) {
        let len = rows * width * depth;
        // A larger block is not worth the copy of what the old one holds.
        if self.bytes.capacity() < len {
            self.bytes = Vec::new();
        }
        self.bytes.resize(len, 0);
        stale::hand_out(&mut self.bytes);
        (self.rows, self.width, self.depth) = (rows, width, depth);
    }
}

/// What a thread keeps from picture to picture, in bytes.
const MOST_KEPT: usize = 64 << 20;

/// Lets go of memory that only a rare picture needs.
fn tidy(bytes: &mut Vec<u8>) {
    if bytes.capacity() > MOST_KEPT {
        *bytes = Vec::new();
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The formats, with what the header tells.
pub(super) enum Head {
    Jpeg(jpeg::Head),
    Png(png::Head),
    Other(other::Head),
}

impl Head {
    pub(super) fn read(file: &[u8]) -> std::result::Result<Self, String> {
        match file {
            [0xff, 0xd8, ..] => jpeg::Head::read(file).map(Self::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => png::Head::read(file).map(Self::Png),
            [] => Err("the file is empty".to_owned()),
            _ => match other::Head::read(file) {
                Some(head) => head.map(Self::Other),
                None => Err("no JPEG, PNG, WebP, BMP, GIF, PNM or TIFF file".to_owned()),
            },
        }
    }

    /// Height and width as they are stored, and how to turn them.
    pub(super) fn shape(&self) -> (usize, usize, orientation::Turn) {
        match self {
            Self::Jpeg(head) => (head.height, head.width, head.turn),
            Self::Png(head) => (head.height, head.width, head.turn),
            Self::Other(head) => (head.height, head.width, head.turn),
        }
    }
}

/// The whole picture.
pub(super) fn decoded(file: &PictureFile) -> Result<Picture> {
    if file.unchanged {
        return unchanged(file);
    }
    let whole = |height, width| Ok(Cut { window: Window { y: 0, x: 0, height, width }, height, width });
    decoded_cut(file, Filter::default(), whole).map(Picture::Bytes)
}

/// A part of the picture in another size. What lies below it is not decoded.
pub(super) fn decoded_cut(
    file: &PictureFile,
    filter: Filter,
    choose: impl FnOnce(usize, usize) -> Result<Cut>,
) -> Result<Bytes> {
    SCRATCH.with_borrow_mut(|scratch| {
        let wrong = |reason: String| undecodable(file, &reason);
        read(file, u64::MAX, &mut scratch.file)?;
        let head = Head::read(&scratch.file).map_err(wrong)?;
        let (height, width, turn) = head.shape();
        let turn = if file.turn { turn } else { orientation::Turn::default() };
        let (shown_height, shown_width) = if turn.transpose { (width, height) } else { (height, width) };
        within(file, height, width)?;
        let mut cut = choose(shown_height, shown_width)?;
        let bottom = if turn.is_none() { cut.window.y + cut.window.height } else { height };
        let gray = file.colors == Colors::Gray;
        match &head {
            Head::Jpeg(head) => head.decode(&scratch.file, bottom, gray, &mut scratch.pixels),
            Head::Other(head) => head.decode(&scratch.file, gray, &mut scratch.pixels),
            Head::Png(_) if turn.is_none() => {
                let window = cut.window;
                (cut.window.y, cut.window.x) = (0, 0);
                png::decode(&scratch.file, gray, window, &mut scratch.pixels)
            }
            Head::Png(_) => {
                let all = Window { y: 0, x: 0, height, width };
                png::decode(&scratch.file, gray, all, &mut scratch.pixels)
            }
        }
        .map_err(wrong)?;
        tidy(&mut scratch.file);
        if !turn.is_none() {
            scratch.pixels = turn.applied(&scratch.pixels);
        }
        let Pixels { bytes, rows, width, depth } = &mut scratch.pixels;
        let shape = (*rows, *width, *depth);
        let out = match (cut.window.height, cut.window.width) == (*rows, *width) && cut.keeps_size() {
            // What is too large to be kept for the next picture need not be copied.
            true if bytes.capacity() > MOST_KEPT => std::mem::take(bytes),
            _ => scaled(bytes, shape, cut, filter, &mut scratch.resizer)?,
        };
        let out = Bytes::decoded(out, (cut.height, cut.width, shape.2), file.colors);
        tidy(&mut scratch.pixels.bytes);
        Ok(out)
    })
}

/// What of a JPEG is read to know its size: what cameras write before the frame header fits into it.
const BEGINNING: u64 = 64 << 10;

/// Height and width as the picture is shown, without decoding it.
pub(super) fn size(file: &PictureFile) -> Result<[usize; 2]> {
    let mut bytes = Vec::new();
    read(file, BEGINNING, &mut bytes)?;
    let known = if bytes.starts_with(&[0xff, 0xd8]) { jpeg::Head::shape(&bytes) } else { None };
    let (height, width, turn) = match known {
        Some(shape) => shape,
        None => {
            read(file, u64::MAX, &mut bytes)?;
            let head = Head::read(&bytes).map_err(|reason| undecodable(file, &reason))?;
            head.shape()
        }
    };
    Ok(if file.turn && turn.transpose { [width, height] } else { [height, width] })
}

/// The bytes of the file.
pub(super) fn bytes_of(file: &PictureFile) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read(file, u64::MAX, &mut bytes).map(|()| bytes)
}

/// Refuses a picture without pixels, or with more than are allowed.
pub(super) fn within(file: &PictureFile, height: usize, width: usize) -> Result<()> {
    if height == 0 || width == 0 {
        return Err(undecodable(file, "it has no pixels"));
    }
    match height.checked_mul(width).is_some_and(|pixels| pixels <= file.max_pixels) {
        true => Ok(()),
        false => Err(undecodable(
            file,
            &format!(
                "its header promises {width} × {height} pixels, more than `max_pixels` {}: if that is meant, raise it at \
                 LoadImageFromFile",
                file.max_pixels
            ),
        )),
    }
}

/// Not `invalid`, which would be the mistake of whoever asked.
pub(super) fn undecodable(file: &PictureFile, reason: &str) -> Error {
    Error::Other(format!("{file}: cannot be decoded: {reason}").into())
}

/// The first bytes of the file, `at_most` so many; not those of a device or a pipe, which may never end.
fn read(file: &PictureFile, at_most: u64, bytes: &mut Vec<u8>) -> Result<()> {
    let wrong = |reason: String| Error::Other(format!("{file}: {reason}").into());
    let about = std::fs::metadata(&file.path).at(&file.path)?;
    if !about.is_file() {
        return Err(wrong("not a file".to_owned()));
    }
    // The largest pixels are four words of 16 bits; of what else a file may hold, some is allowed.
    let most = (file.max_pixels as u64).saturating_mul(8).saturating_add(1 << 24);
    let (start, len) = file.member.as_ref().map_or((0, about.len()), |member| (member.offset, member.len));
    if len > most {
        let pixels = file.max_pixels;
        return Err(wrong(format!("its {len} bytes are more than `max_pixels` {pixels} pixels can take")));
    }
    bytes.clear();
    let mut opened = File::open(&file.path).at(&file.path)?;
    if file.member.is_some() {
        opened.seek(SeekFrom::Start(start)).at(&file.path)?;
    }
    // A file may grow meanwhile; a part of one has its length.
    let len = if file.member.is_some() { len } else { most };
    opened.take(len.min(at_most)).read_to_end(bytes).at(&file.path)?;
    Ok(())
}

/// A part of an image in another size.
pub(super) fn resized(
    bytes: &[u8],
    shape: (usize, usize, usize),
    cut: Cut,
    filter: Filter,
) -> Result<Vec<u8>> {
    SCRATCH.with_borrow_mut(|scratch| scaled(bytes, shape, cut, filter, &mut scratch.resizer))
}

fn scaled(
    bytes: &[u8],
    shape: (usize, usize, usize),
    cut: Cut,
    filter: Filter,
    resizer: &mut fir::Resizer,
) -> Result<Vec<u8>> {
    let (rows, width, depth) = shape;
    let w = cut.window;
    if cut.keeps_size() {
        return Ok(rows_of(bytes, shape, w).collect::<Vec<_>>().concat());
    }
    let Some(how) = quick(filter).filter(|_| (1..=4).contains(&depth)) else {
        return resample::by_values(bytes, shape, cut, filter);
    };
    if depth < 4 {
        // What is quick works on four bytes a pixel alone.
        let inside = rows_of(bytes, shape, w).flat_map(|row| row.chunks_exact(depth));
        let wide: Vec<u8> =
            inside.flat_map(|pixel| std::array::from_fn::<u8, 4, _>(|c| pixel[c % depth])).collect();
        let all = Cut { window: Window { y: 0, x: 0, ..w }, ..cut };
        let wide = scaled(&wide, (w.height, w.width, 4), all, filter, resizer)?;
        return Ok(wide.chunks_exact(4).flat_map(|pixel| &pixel[..depth]).copied().collect());
    }
    let options = fir::ResizeOptions::new().resize_alg(how).use_alpha(false);
    // Of this one type of pixel: asked for any, the library is compiled for all that it has.
    let mut pass = |bytes: &[u8], (rows, width): (usize, usize), w: Window, to: (usize, usize)| {
        let side = |n: usize| u32::try_from(n).map_err(|e| Error::invalid(e.to_string()));
        let wrong = |e: &dyn std::fmt::Display| Error::invalid(format!("the picture cannot be resized: {e}"));
        let source = TypedImageRef::<U8x4>::from_buffer(side(width)?, side(rows)?, bytes);
        let source = source.map_err(|e| wrong(&e))?;
        // Pixels outside of the window have no part in those at its rim.
        let [x, y, width, height] = [side(w.x)?, side(w.y)?, side(w.width)?, side(w.height)?];
        let source = TypedCroppedImage::from_ref(&source, x, y, width, height).map_err(|e| wrong(&e))?;
        let mut bytes = vec![0; 4 * to.0 * to.1];
        let out = TypedImage::<U8x4>::from_buffer(side(to.1)?, side(to.0)?, &mut bytes);
        resizer.resize_typed(&source, &mut out.map_err(|e| wrong(&e))?, &options).map_err(|e| wrong(&e))?;
        Ok(bytes)
    };
    let to = (cut.height, cut.width);
    if !filter.overshoots() || w.height == cut.height || w.width == cut.width {
        return pass(bytes, (rows, width), w, to);
    }
    // What rows make of the pixels is cut off at 0 and 255 before columns are gone through, as Pillow does.
    let wide = pass(bytes, (rows, width), w, (w.height, cut.width))?;
    let all = Window { y: 0, x: 0, height: w.height, width: cut.width };
    pass(&wide, (w.height, cut.width), all, to)
}

/// The rows of a window.
fn rows_of(bytes: &[u8], (_, width, depth): (usize, usize, usize), w: Window) -> impl Iterator<Item = &[u8]> {
    let rows = bytes.chunks_exact((width * depth).max(1)).skip(w.y).take(w.height);
    rows.map(move |row| &row[w.x * depth..][..w.width * depth])
}

/// The ways that work on bytes alone.
fn quick(filter: Filter) -> Option<fir::ResizeAlg> {
    let smooth = match (filter.backend, filter.interpolation) {
        (Backend::Cv2, Interpolation::Bilinear) => {
            return Some(fir::ResizeAlg::Interpolation(fir::FilterType::Bilinear));
        }
        (Backend::Pillow, Interpolation::Box) => fir::FilterType::Box,
        (Backend::Pillow, Interpolation::Bilinear) => fir::FilterType::Bilinear,
        (Backend::Pillow, Interpolation::Hamming) => fir::FilterType::Hamming,
        (Backend::Pillow, Interpolation::Bicubic) => fir::FilterType::CatmullRom,
        (Backend::Pillow, Interpolation::Lanczos) => fir::FilterType::Lanczos3,
        _ => return None,
    };
    Some(fir::ResizeAlg::Convolution(smooth))
}
