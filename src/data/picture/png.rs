//! PNG files by the `png` crate.

use std::io::Cursor;

use png::{ColorType, Decoder, Transformations};

use super::decode::Pixels;

pub(super) struct Head {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Head {
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let reader = Decoder::new(Cursor::new(file)).read_info().map_err(|e| e.to_string())?;
        let (width, height) = reader.info().size();
        Ok(Self { height: height as usize, width: width as usize })
    }
}

/// The whole picture. 16 bits become 8, palettes become colours.
pub(super) fn decode(file: &[u8], gray: bool, out: &mut Pixels) -> Result<(), String> {
    let mut decoder = Decoder::new(Cursor::new(file));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let size = reader.output_buffer_size().ok_or_else(|| "it is too large".to_owned())?;
    let mut bytes = vec![0; size];
    let frame = reader.next_frame(&mut bytes).map_err(|e| e.to_string())?;
    let bytes = &bytes[..frame.buffer_size()];

    let depth = if gray { 1 } else { 4 };
    out.reshape(frame.height as usize, frame.width as usize, depth);
    let stored = frame.color_type.samples();
    let pairs = out.bytes.chunks_exact_mut(depth).zip(bytes.chunks_exact(stored));
    match (frame.color_type, gray) {
        (ColorType::Grayscale | ColorType::GrayscaleAlpha, true) => {
            pairs.for_each(|(to, from)| to[0] = from[0])
        }
        (ColorType::Grayscale | ColorType::GrayscaleAlpha, false) => {
            pairs.for_each(|(to, from)| to[..3].fill(from[0]));
        }
        (_, true) => pairs.for_each(|(to, from)| to[0] = lightness(from[0], from[1], from[2])),
        (_, false) => pairs.for_each(|(to, from)| to[..3].copy_from_slice(&from[..3])),
    }
    Ok(())
}

/// ITU-R BT.601, as JPEG's luma and OpenCV's grey: 0.299 R + 0.587 G + 0.114 B.
fn lightness(r: u8, g: u8, b: u8) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}
