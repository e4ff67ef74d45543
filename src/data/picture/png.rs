//! PNG files by the `png` crate.

use std::io::Cursor;

use png::{ColorType, Decoder, Transformations};

use super::Window;
use super::decode::Pixels;
use super::inks::lightness;
use super::orientation::Turn;

/// What the chunks tell before anything is inflated (ISO/IEC 15948).
#[derive(Debug)]
pub(super) struct Head {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) turn: Turn,
}

/// No stream of deflate grows more than this (RFC 1951: 258 bytes of two bits).
const MOST_INFLATED: u64 = 1032;

impl Head {
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let mut chunks = chunks(file);
        let Some((b"IHDR", &[w3, w2, w1, w0, h3, h2, h1, h0, depth, color, ..])) = chunks.next() else {
            return Err("it ends in its header".to_owned());
        };
        let (width, height) = (u32::from_be_bytes([w3, w2, w1, w0]), u32::from_be_bytes([h3, h2, h1, h0]));
        let samples = match color {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        };
        let (mut turn, mut packed) = (Turn::default(), 0);
        for (kind, body) in chunks {
            match kind {
                b"IDAT" => packed += body.len() as u64,
                b"eXIf" => turn = Turn::from_tiff(body),
                _ => {}
            }
        }
        let bits = u64::from(width) * u64::from(height);
        let bits = bits.saturating_mul(samples * u64::from(depth));
        if bits / 8 > MOST_INFLATED * (packed + 1) {
            return Err(format!(
                "it is cut off: {packed} bytes of data cannot hold the {width} × {height} pixels that its header promises"
            ));
        }
        Ok(Self { height: height as usize, width: width as usize, turn })
    }
}

/// Name and contents of the chunks that are there whole; of the last also what is there of it.
fn chunks(file: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = file.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let len = u32::from_be_bytes(*len) as usize;
        let body = after.get(..len).unwrap_or(after);
        // A checksum of four bytes comes behind.
        rest = len.checked_add(4).and_then(|end| after.get(end..)).unwrap_or_default();
        Some((kind, body))
    })
}

/// A window of the picture, which lies within it. 16 bits become the upper 8, palettes and fewer bits become colours,
/// transparency is left out.
///
/// Rows come one by one, so that beside the window only two of them are there; where they are interlaced, all of it is.
pub(super) fn decode(file: &[u8], gray: bool, window: Window, out: &mut Pixels) -> Result<(), String> {
    let mut decoder = Decoder::new(Cursor::new(file));
    decoder.set_transformations(Transformations::normalize_to_color8());
    // Neither says anything about pixels here, and both may be bombs.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let size = reader.output_buffer_size().ok_or_else(|| "it is too large".to_owned())?;
    let (color, _) = reader.output_color_type();
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let row_bytes = width * color.samples();
    if size != height * row_bytes || window.y + window.height > height || window.x + window.width > width {
        return Err("its headers contradict each other".to_owned());
    }

    out.reshape(window.height, window.width, if gray { 1 } else { 4 });
    let is_gray = matches!(color, ColorType::Grayscale | ColorType::GrayscaleAlpha);
    let mut put = |y: usize, row: &[u8]| {
        let Some(y) = y.checked_sub(window.y).filter(|y| *y < window.height) else { return };
        let pixels = row.chunks_exact(color.samples()).skip(window.x).take(window.width);
        put_row(pixels, is_gray, &mut out.bytes[y * window.width * out.depth..], out.depth);
    };
    if reader.info().interlaced {
        let mut bytes = vec![0; size];
        reader.next_frame(&mut bytes).map_err(|e| e.to_string())?;
        bytes.chunks_exact(row_bytes).enumerate().for_each(|(y, row)| put(y, row));
        return Ok(());
    }
    for y in 0..height {
        let row = reader.next_row().map_err(|e| e.to_string())?;
        let row = row.ok_or_else(|| format!("its data end after {y} rows of {height}"))?;
        if row.data().len() != row_bytes {
            return Err("its headers contradict each other".to_owned());
        }
        put(y, row.data());
    }
    Ok(())
}

/// Writes a row of pixels in the form of [`Pixels`].
fn put_row<'p>(pixels: impl Iterator<Item = &'p [u8]>, is_gray: bool, to: &mut [u8], depth: usize) {
    let rgb = |pixel: &[u8]| match *pixel {
        [r, g, b, ..] if !is_gray => [r, g, b],
        _ => [pixel[0]; 3],
    };
    match depth {
        1 if is_gray => pixels.zip(to).for_each(|(from, to)| *to = from[0]),
        1 => pixels.zip(to).for_each(|(from, to)| *to = lightness(rgb(from))),
        _ => pixels.zip(to.as_chunks_mut::<4>().0).for_each(|(from, to)| {
            let [r, g, b] = rgb(from);
            *to = [r, g, b, 255];
        }),
    }
}
