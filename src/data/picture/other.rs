//! WebP, BMP, the first picture of a GIF, and PNM by the `image` crate, TIFF by `tiff`.

use std::io::Cursor;

use image::codecs::pnm::{PnmDecoder, SampleEncoding};
use image::codecs::{bmp::BmpDecoder, gif::GifDecoder, webp::WebPDecoder};
use image::{ImageDecoder, Limits};
use tiff::decoder::DecodingResult;

use super::decode::Pixels;
use super::inks::lightness;
use super::orientation::Turn;
use super::unchanged::{Stored, Values};

/// What the header tells.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) turn: Turn,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    WebP,
    Bmp,
    Gif,
    Pnm,
    Tiff,
}

impl Kind {
    /// By the first bytes.
    fn of(file: &[u8]) -> Option<Self> {
        match file {
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'B', b'M', ..] => Some(Self::Bmp),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Some(Self::Pnm),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            _ => None,
        }
    }

    /// Pixels that a byte of the file can be at most; any number where one colour may stand for all.
    fn most_pixels_a_byte(self) -> Option<usize> {
        match self {
            // A run of 255 takes two bytes.
            Self::Bmp => Some(128),
            // Codes of 12 bits stand for 4,096 pixels at most.
            Self::Gif => Some(4096),
            Self::Pnm => Some(8),
            // One bit a pixel, packed as nothing of deflate or LZW packs better.
            Self::Tiff => Some(8 * 4096),
            Self::WebP => None,
        }
    }
}

impl Head {
    /// What the header says; nothing where the file is of none of these formats.
    pub(super) fn read(file: &[u8]) -> Option<Result<Self, String>> {
        Kind::of(file).map(|kind| Self::of(kind, file))
    }

    fn of(kind: Kind, file: &[u8]) -> Result<Self, String> {
        let ((width, height), turn) = match kind {
            Kind::Tiff => {
                let mut decoder = opened(file, usize::MAX)?;
                let size = decoder.dimensions().map_err(|e| e.to_string())?;
                let orientation = decoder.find_tag_unsigned(tiff::tags::Tag::Orientation);
                (size, Turn::of(orientation.ok().flatten().unwrap_or(1)))
            }
            _ => {
                let mut decoder = decoder(kind, file)?;
                let exif = decoder.exif_metadata().ok().flatten();
                (decoder.dimensions(), exif.map_or_else(Turn::default, |exif| Turn::from_tiff(&exif)))
            }
        };
        let (height, width) = (height as usize, width as usize);
        let most = kind.most_pixels_a_byte().map_or(usize::MAX, |most| most.saturating_mul(file.len()));
        match height.checked_mul(width).is_some_and(|pixels| pixels <= most) {
            true => Ok(Self { height, width, turn, kind }),
            false => Err(format!(
                "it is cut off: a file of {} bytes cannot hold the {width} × {height} pixels that its header promises",
                file.len()
            )),
        }
    }

    /// All of the picture as it is stored; palettes become colours.
    pub(super) fn stored(&self, file: &[u8]) -> Result<Stored, String> {
        match self.kind {
            Kind::Tiff => self.tiff(file),
            Kind::Pnm => deep_pnm(file).transpose().unwrap_or_else(|| self.values(file)),
            Kind::Bmp | Kind::Gif => self.values(file).map(Stored::opaque),
            Kind::WebP => self.values(file),
        }
    }

    /// All of the picture. 16 bits become the upper 8, palettes become colours, transparency is left out.
    pub(super) fn decode(&self, file: &[u8], gray: bool, out: &mut Pixels) -> Result<(), String> {
        let Stored { values, channels: samples } =
            if self.kind == Kind::Tiff { self.tiff(file)? } else { self.values(file)? };
        let values = match values {
            Values::Bytes(bytes) => bytes,
            Values::Words(words) => words.into_iter().map(upper).collect(),
        };
        out.reshape(self.height, self.width, if gray { 1 } else { 4 });
        if values.len() != self.height * self.width * samples || samples == 0 {
            return Err("its headers contradict each other".to_owned());
        }
        let rgb = |pixel: &[u8]| match *pixel {
            [r, g, b, ..] => [r, g, b],
            _ => [pixel[0]; 3],
        };
        let pixels = values.chunks_exact(samples);
        match gray {
            true if samples < 3 => pixels.zip(&mut out.bytes).for_each(|(from, to)| *to = from[0]),
            true => pixels.zip(&mut out.bytes).for_each(|(from, to)| *to = lightness(rgb(from))),
            false => pixels.zip(out.bytes.as_chunks_mut::<4>().0).for_each(|(from, to)| {
                let [r, g, b] = rgb(from);
                *to = [r, g, b, 255];
            }),
        }
        Ok(())
    }

    fn values(&self, file: &[u8]) -> Result<Stored, String> {
        let mut decoder = decoder(self.kind, file)?;
        let mut limits = Limits::no_limits();
        // As much again as the picture takes as four words of 16 bits.
        limits.max_alloc =
            (self.height as u64 * self.width as u64).checked_mul(16).map(|most| most + (1 << 20));
        decoder.set_limits(limits).map_err(|e| e.to_string())?;
        let color = decoder.color_type();
        let samples = usize::from(color.channel_count());
        let wide = usize::from(color.bytes_per_pixel()) / samples.max(1);
        let mut bytes = vec![0; self.height * self.width * samples * wide];
        if bytes.len() as u64 != decoder.total_bytes() || wide > 2 {
            return Err(format!("its values are {color:?}, which cannot be read"));
        }
        decoder.read_image_boxed(&mut bytes).map_err(|e| e.to_string())?;
        let word = |word: &[u8; 2]| u16::from_ne_bytes(*word);
        let values = match wide {
            2 => Values::Words(bytes.as_chunks::<2>().0.iter().map(word).collect()),
            _ => Values::Bytes(bytes),
        };
        Ok(Stored { values, channels: samples })
    }

    fn tiff(&self, file: &[u8]) -> Result<Stored, String> {
        use tiff::ColorType::{Gray, GrayA, RGB, RGBA};
        let mut decoder = opened(file, self.height * self.width)?;
        let color = decoder.colortype().map_err(|e| e.to_string())?;
        let samples = match color {
            Gray(8 | 16) => 1,
            GrayA(8 | 16) => 2,
            RGB(8 | 16) => 3,
            RGBA(8 | 16) => 4,
            other => {
                return Err(format!("its values are {other:?}: grey and RGB of 8 and 16 bits can be read"));
            }
        };
        let apart = decoder.find_tag_unsigned::<u16>(tiff::tags::Tag::PlanarConfiguration);
        if samples > 1 && apart.ok().flatten() == Some(2) {
            return Err("its colours are stored one behind the other, which cannot be read".to_owned());
        }
        match decoder.read_image().map_err(|e| e.to_string())? {
            DecodingResult::U8(bytes) => Ok(Stored { values: Values::Bytes(bytes), channels: samples }),
            DecodingResult::U16(words) => Ok(Stored { values: Values::Words(words), channels: samples }),
            _ => Err("its values are no whole numbers of 8 or 16 bits".to_owned()),
        }
    }
}

/// The values of a PNM of 16 bits as they are stored: where they end below 65,535, the decoder stretches them. Nothing of
/// one of 8 bits.
fn deep_pnm(file: &[u8]) -> Result<Option<Stored>, String> {
    let decoder = PnmDecoder::new(Cursor::new(file)).map_err(|e| e.to_string())?;
    let (channels, encoding) =
        (usize::from(decoder.color_type().channel_count()), decoder.subtype().sample_encoding());
    let (rest, header) = decoder.into_inner();
    if header.maximal_sample() < 256 {
        return Ok(None);
    }
    let values = (header.height() as usize)
        .checked_mul(header.width() as usize)
        .and_then(|pixels| pixels.checked_mul(channels))
        .ok_or_else(|| "it is too large".to_owned())?;
    let from = usize::try_from(rest.position()).unwrap_or(usize::MAX);
    let rest = file.get(from..).unwrap_or_default();
    let ends = || "its data end before its last row".to_owned();
    if encoding == SampleEncoding::Binary {
        let bytes = values.checked_mul(2).and_then(|n| rest.get(..n)).ok_or_else(ends)?;
        return Ok(Some(Stored::big_endian(bytes, channels)));
    }
    let text = std::str::from_utf8(rest).map_err(|_| "its values are no digits".to_owned())?;
    let word = |digits: &str| digits.parse().map_err(|_| format!("a value is {digits:?}"));
    let words = text.split_ascii_whitespace().take(values).map(word).collect::<Result<Vec<u16>, _>>()?;
    if words.len() < values {
        return Err(ends());
    }
    Ok(Some(Stored { values: Values::Words(words), channels }))
}

/// The upper 8 of 16 bits.
fn upper(word: u16) -> u8 {
    (word >> 8) as u8
}

fn decoder(kind: Kind, file: &[u8]) -> Result<Box<dyn ImageDecoder + '_>, String> {
    let reader = Cursor::new(file);
    let opened: image::ImageResult<Box<dyn ImageDecoder + '_>> = match kind {
        Kind::WebP => WebPDecoder::new(reader).map(|decoder| Box::new(decoder) as _),
        Kind::Bmp => BmpDecoder::new(reader).map(|decoder| Box::new(decoder) as _),
        Kind::Gif => GifDecoder::new(reader).map(|decoder| Box::new(decoder) as _),
        // TIFF files have a decoder of their own, which was asked.
        Kind::Pnm | Kind::Tiff => PnmDecoder::new(reader).map(|decoder| Box::new(decoder) as _),
    };
    opened.map_err(|e| e.to_string())
}

/// A TIFF file whose picture has so many pixels.
fn opened(file: &[u8], pixels: usize) -> Result<tiff::decoder::Decoder<Cursor<&[u8]>>, String> {
    let mut limits = tiff::decoder::Limits::default();
    limits.decoding_buffer_size = pixels.saturating_mul(8).saturating_add(1 << 16);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    limits.ifd_value_size = 1 << 24;
    let decoder = tiff::decoder::Decoder::new(Cursor::new(file)).map_err(|e| e.to_string())?;
    Ok(decoder.with_limits(limits))
}
