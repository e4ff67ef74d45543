//! Picture files to bytes, and bytes to another size. Each thread keeps its buffers from picture to picture.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;

use fast_image_resize as fir;

use crate::base::error::IoContext;
use crate::base::{Error, Result};

use super::{Bytes, Colors, Cut, Filter, Kernel, PictureFile, Window, jpeg, orientation, png};

/// What a thread works with.
#[derive(Default)]
struct Desk {
    /// The file as it lies on the disk.
    file: Vec<u8>,
    pixels: Pixels,
    resizer: fir::Resizer,
}

/// Decoded pixels of 4 bytes (red, green, blue and one that means nothing: four are faster to work on than three) or of 1.
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
    /// Makes room for an image; what the bytes hold is left as it is.
    pub(super) fn reshape(&mut self, rows: usize, width: usize, depth: usize) {
        let len = rows * width * depth;
        // A larger block is not worth the copy of what the old one holds.
        if self.bytes.capacity() < len {
            self.bytes = Vec::new();
        }
        self.bytes.resize(len, 0);
        (self.rows, self.width, self.depth) = (rows, width, depth);
    }
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
}

/// The two formats, with what the header tells.
enum Head {
    Jpeg(jpeg::Head),
    Png(png::Head),
}

impl Head {
    fn read(file: &[u8]) -> std::result::Result<Self, String> {
        match file {
            [0xff, 0xd8, ..] => jpeg::Head::read(file).map(Self::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => png::Head::read(file).map(Self::Png),
            [] => Err("the file is empty".to_owned()),
            _ => Err("neither a JPEG nor a PNG file".to_owned()),
        }
    }

    /// Height and width as they are stored, and how to turn them.
    fn shape(&self) -> (usize, usize, orientation::Turn) {
        match self {
            Self::Jpeg(head) => (head.height, head.width, head.turn),
            Self::Png(head) => (head.height, head.width, orientation::Turn::default()),
        }
    }
}

/// The whole picture.
pub(super) fn decoded(file: &PictureFile) -> Result<Bytes> {
    let whole = |height, width| Ok(Cut { window: Window { y: 0, x: 0, height, width }, height, width });
    let filter = Filter { kernel: Kernel::Bilinear, antialias: true };
    decoded_cut(file, filter, whole)
}

/// A part of the picture in another size. What lies below it is not decoded.
pub(super) fn decoded_cut(
    file: &PictureFile,
    filter: Filter,
    choose: impl FnOnce(usize, usize) -> Result<Cut>,
) -> Result<Bytes> {
    DESK.with_borrow_mut(|desk| {
        let wrong =
            |reason: String| Error::invalid(format!("{}: cannot be decoded: {reason}", file.path.display()));
        desk.file.clear();
        let mut opened = File::open(&file.path).at(&file.path)?;
        opened.read_to_end(&mut desk.file).at(&file.path)?;
        let head = Head::read(&desk.file).map_err(wrong)?;
        let (height, width, turn) = head.shape();
        let turn = if file.turn { turn } else { orientation::Turn::default() };
        let (shown_height, shown_width) = if turn.transpose { (width, height) } else { (height, width) };
        if height == 0 || width == 0 {
            return Err(wrong("it has no pixels".to_owned()));
        }
        let cut = choose(shown_height, shown_width)?;
        let bottom = if turn.is_none() { cut.window.y + cut.window.height } else { height };
        let gray = file.colors == Colors::Gray;
        match &head {
            Head::Jpeg(head) => head.decode(&mut desk.file, bottom, gray, &mut desk.pixels),
            Head::Png(_) => png::decode(&desk.file, gray, &mut desk.pixels),
        }
        .map_err(wrong)?;
        if !turn.is_none() {
            desk.pixels = turn.applied(&desk.pixels);
        }
        let Pixels { bytes, rows, width, depth } = &desk.pixels;
        let out = scaled(bytes, (*rows, *width, *depth), cut, filter, &mut desk.resizer)?;
        Ok(Bytes::decoded(out, (cut.height, cut.width, *depth), file.colors))
    })
}

/// A part of an image in another size.
pub(super) fn resized(
    bytes: &[u8],
    shape: (usize, usize, usize),
    cut: Cut,
    filter: Filter,
) -> Result<Vec<u8>> {
    DESK.with_borrow_mut(|desk| scaled(bytes, shape, cut, filter, &mut desk.resizer))
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
    if (w.height, w.width) == (cut.height, cut.width) {
        let mut out = Vec::with_capacity(w.height * w.width * depth);
        for row in bytes.chunks_exact((width * depth).max(1)).skip(w.y).take(w.height) {
            out.extend_from_slice(&row[w.x * depth..][..w.width * depth]);
        }
        return Ok(out);
    }
    let pixel = match depth {
        1 => fir::PixelType::U8,
        2 => fir::PixelType::U8x2,
        3 => fir::PixelType::U8x3,
        4 => fir::PixelType::U8x4,
        _ => return Err(Error::invalid(format!("a picture of {depth} channels cannot be resized"))),
    };
    let wrong = |e: &dyn std::fmt::Display| Error::invalid(format!("the picture cannot be resized: {e}"));
    let side = |n: usize| u32::try_from(n).map_err(|e| wrong(&e));
    let source =
        fir::images::ImageRef::new(side(width)?, side(rows)?, bytes, pixel).map_err(|e| wrong(&e))?;
    // Pixels outside of the window have no part in those at its rim.
    let source =
        fir::images::CroppedImage::new(&source, side(w.x)?, side(w.y)?, side(w.width)?, side(w.height)?)
            .map_err(|e| wrong(&e))?;
    let mut out = fir::images::Image::new(side(cut.width)?, side(cut.height)?, pixel);
    let kernel = match filter.kernel {
        Kernel::Bilinear => fir::FilterType::Bilinear,
        Kernel::Bicubic => fir::FilterType::CatmullRom,
    };
    let how = match filter.antialias {
        true => fir::ResizeAlg::Convolution(kernel),
        false => fir::ResizeAlg::Interpolation(kernel),
    };
    let options = fir::ResizeOptions::new().resize_alg(how).use_alpha(false);
    resizer.resize(&source, &mut out, &options).map_err(|e| wrong(&e))?;
    Ok(out.into_vec())
}
