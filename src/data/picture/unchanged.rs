//! Pictures as they are stored, as OpenCV's IMREAD_UNCHANGED has them: values of 16 bits, transparency, and one channel
//! where they are grey.

use std::io::Cursor;

use ndarray::Array3;
use png::{Decoder, Transformations};

use crate::base::{Error, Result};

use super::decode::{Head, bytes_of, decoded, undecodable, within};
use super::{Bytes, Colors, Picture, PictureFile};

/// Values in the order row, pixel, channel: grey, or red, green and blue, with or without transparency behind them.
pub(super) struct Stored {
    pub(super) values: Values,
    pub(super) channels: usize,
}

/// Values of 8 or of 16 bits.
pub(super) enum Values {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

impl Stored {
    /// From bytes of which two make a value, the first of which counts more.
    pub(super) fn big_endian(bytes: &[u8], channels: usize) -> Self {
        let words = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word));
        Self { values: Values::Words(words.collect()), channels }
    }

    /// Without what is transparent, for formats of which nobody takes it.
    pub(super) fn opaque(self) -> Self {
        fn first<T: Copy>(values: &[T], depth: usize, channels: usize) -> Vec<T> {
            values.chunks_exact(depth).flat_map(|pixel| &pixel[..channels]).copied().collect()
        }
        let (depth, channels) = match self.channels {
            2 => (2, 1),
            4 => (4, 3),
            _ => return self,
        };
        let values = match &self.values {
            Values::Bytes(bytes) => Values::Bytes(first(bytes, depth, channels)),
            Values::Words(words) => Values::Words(first(words, depth, channels)),
        };
        Self { values, channels }
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Bytes(bytes) => bytes.len(),
            Values::Words(words) => words.len(),
        }
    }
}

/// The picture as its file stores it; three channels in the order that the file is to have.
pub(super) fn unchanged(file: &PictureFile) -> Result<Picture> {
    let wrong = |reason: String| undecodable(file, &reason);
    let bytes = bytes_of(file)?;
    let head = Head::read(&bytes).map_err(wrong)?;
    let (height, width, _) = head.shape();
    within(file, height, width)?;
    let stored = match &head {
        Head::Jpeg(head) => {
            let colors = if head.is_gray() { Colors::Gray } else { file.colors };
            let plain = PictureFile { colors, turn: false, unchanged: false, ..file.clone() };
            return decoded(&plain);
        }
        Head::Png(_) => of_png(&bytes),
        Head::Other(head) => head.stored(&bytes),
    };
    let stored = stored.map_err(wrong)?;
    if stored.channels == 0 || stored.len() != height * width * stored.channels {
        return Err(wrong("its headers contradict each other".to_owned()));
    }
    shown(&stored, (height, width), file.colors == Colors::Bgr)
}

/// As transforms have it: grey of one channel, else three, or four where something is transparent.
fn shown(stored: &Stored, (height, width): (usize, usize), turned: bool) -> Result<Picture> {
    // Where the channels of the picture lie among those that are stored.
    let (blue, red) = if turned { (2, 0) } else { (0, 2) };
    let places: &[usize] = match stored.channels {
        1 => &[0],
        2 => &[0, 0, 0, 1],
        3 => &[blue, 1, red],
        _ => &[blue, 1, red, 3],
    };
    let (depth, channels) = (stored.channels, places.len());
    let invalid = |e: ndarray::ShapeError| Error::invalid(e.to_string());
    match &stored.values {
        Values::Bytes(bytes) => {
            let pixels = bytes.chunks_exact(depth);
            let ordered = pixels.flat_map(|pixel| places.iter().map(move |at| pixel[*at])).collect();
            let array = Array3::from_shape_vec((height, width, channels), ordered).map_err(invalid)?;
            Ok(Picture::Bytes(Bytes::new(array)))
        }
        // A plane a channel, as batches have it.
        Values::Words(words) => {
            let plane = |at: &usize| words.iter().skip(*at).step_by(depth).map(|word| f32::from(*word));
            let planes = places.iter().flat_map(plane).collect();
            let array = Array3::from_shape_vec((channels, height, width), planes).map_err(invalid)?;
            Ok(Picture::Values(array.permuted_axes([1, 2, 0])))
        }
    }
}

/// Palettes and fewer than 8 bits become colours.
fn of_png(file: &[u8]) -> Result<Stored, String> {
    let mut decoder = Decoder::new(Cursor::new(file));
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let size = reader.output_buffer_size().ok_or_else(|| "it is too large".to_owned())?;
    let mut bytes = vec![0; size];
    let info = reader.next_frame(&mut bytes).map_err(|e| e.to_string())?;
    let channels = info.color_type.samples();
    let stored = match info.bit_depth {
        png::BitDepth::Sixteen => Stored::big_endian(&bytes, channels),
        _ => Stored { values: Values::Bytes(bytes), channels },
    };
    // A grey that stands for nothing makes no channel of its own, as a colour does.
    let gray = reader.info().color_type == png::ColorType::Grayscale;
    Ok(if gray { stored.opaque() } else { stored })
}
