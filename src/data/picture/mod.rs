//! Pictures on their way from a file to values. Whatever can be done to bytes is done to bytes: they are a quarter of
//! the memory, and a window that is known before a file is decoded saves the decoding of the rest.

mod bilinear;
mod blur;
mod bytes;
mod cached;
mod canvas;
#[cfg(feature = "images")]
mod decode;
mod enhance;
mod filter;
#[cfg(feature = "images")]
mod inks;
#[cfg(feature = "images")]
mod jpeg;
#[cfg(feature = "images")]
mod orientation;
#[cfg(feature = "images")]
mod other;
#[cfg(feature = "images")]
mod png;
mod resample;
mod taps;
mod tone;
#[cfg(feature = "images")]
mod unchanged;
#[cfg(feature = "images")]
mod upsample;
mod warp;

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ndarray::{Array3, s};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, stale};

use super::field::INPUTS;
use super::{Sample, Value};

pub use bytes::Bytes;
pub(super) use canvas::{Canvas, Draw, Pixel};
pub use filter::{Backend, Filter, Interpolation};
pub(super) use tone::{Table, equalized, stretched, table};
pub(super) use warp::{Affine, Warp};

/// A picture in a sample: a file and bytes until a transform needs values as `f32`.
#[derive(Debug, Clone, PartialEq)]
pub enum Picture {
    /// A file that nobody has decoded yet.
    File(PictureFile),
    /// Its bytes.
    Bytes(Bytes),
    /// Values: height, width, channels.
    Values(Array3<f32>),
}

/// A picture file, and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureFile {
    /// JPEG, PNG, WebP, BMP, GIF, PNM or TIFF; its first bytes tell, not its name.
    pub path: PathBuf,
    /// Which channels it gives.
    pub colors: Colors,
    /// Whether to turn the picture as the EXIF data of its camera say.
    pub turn: bool,
    /// Whether it is taken as it is stored: values of 16 bits and transparency are kept, grey has one channel.
    pub unchanged: bool,
    /// Refused is what promises to have more pixels, before memory is taken for it.
    pub max_pixels: usize,
    /// Where in the file it stands; it is all of the file if this is `None`.
    pub member: Option<Arc<Member>>,
}

/// A file within a tar file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is called there.
    pub name: String,
    /// Its first byte.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
}

/// As messages name it.
impl fmt::Display for PictureFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(f, "{} in {}", member.name, self.path.display()),
            None => self.path.display().fmt(f),
        }
    }
}

impl PictureFile {
    /// What Pillow warns of (`MAX_IMAGE_PIXELS`): a picture of 24 bits that takes more than a quarter of a gibibyte.
    pub const MAX_PIXELS: usize = (1 << 30) / 4 / 3;

    /// As MMCV reads by default: three channels in the order BGR, turned as the camera says.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let max_pixels = Self::MAX_PIXELS;
        Self { path, colors: Colors::Bgr, turn: true, unchanged: false, max_pixels, member: None }
    }

    /// Height and width of the picture as it is shown: of a JPEG the beginning of its file tells.
    ///
    /// # Errors
    /// When the file cannot be read, or tells nothing.
    pub fn size(&self) -> Result<[usize; 2]> {
        size(self)
    }
}

/// Channels of a decoded picture. Transparency is left out; grey becomes three equal channels where colours are asked
/// for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Colors {
    /// Blue, green, red, as OpenCV has it.
    #[default]
    Bgr,
    /// Red, green, blue.
    Rgb,
    /// One channel: how light it is.
    #[serde(skip)]
    Gray,
}

/// A part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub y: usize,
    /// First column.
    pub x: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// What to make of an image: this part of it, resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) window: Window,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Cut {
    /// Whether the part is not resized.
    #[cfg(feature = "images")]
    pub(super) fn keeps_size(&self) -> bool {
        (self.window.height, self.window.width) == (self.height, self.width)
    }
}

impl Picture {
    /// Its values, height, width, channels, which are made now if they are not made yet.
    ///
    /// # Errors
    /// When the file cannot be decoded; the error names it.
    pub fn values(&mut self) -> Result<&mut Array3<f32>> {
        let table: [f32; 256] = std::array::from_fn(|byte| byte as f32);
        self.fill_values(|_| table)
    }

    /// The same with another value for each byte, by channel.
    pub(super) fn fill_values(&mut self, table: impl Fn(usize) -> [f32; 256]) -> Result<&mut Array3<f32>> {
        if let Some(bytes) = self.bytes()? {
            let (h, w, c) = bytes.dim();
            let mut values = SPARE.take();
            stale::hand_out(&mut values);
            values.clear();
            values.reserve_exact(h * w * c);
            bytes.planes(table, &mut values)?;
            // A plane a channel, as batches have it: collating copies it as it lies.
            let planes =
                Array3::from_shape_vec((c, h, w), values).map_err(|e| Error::invalid(e.to_string()))?;
            *self = Self::Values(planes.permuted_axes([1, 2, 0]));
        }
        match self {
            Self::Values(values) => Ok(values),
            _ => Err(Error::invalid("a picture has neither bytes nor values")),
        }
    }

    /// Its values as a network takes them: channels, height, width. No pixel moves: collating copies them in the new
    /// order.
    ///
    /// # Errors
    /// When the file cannot be decoded; the error names it.
    pub fn packed(mut self) -> Result<Array3<f32>> {
        Ok(std::mem::take(self.values()?).permuted_axes([2, 0, 1]))
    }

    /// Its bytes, decoded by now; none where it has become values, as a picture of 16 bits is from the beginning.
    ///
    /// # Errors
    /// When the file cannot be decoded; the error names it.
    pub fn bytes(&mut self) -> Result<Option<&mut Bytes>> {
        if let Self::File(file) = self {
            *self = decoded(file)?;
        }
        match self {
            Self::Bytes(bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        }
    }

    /// Cuts out a window, which lies within it; it is decoded by now.
    pub(super) fn cut(&mut self, cut: Window) -> Result<()> {
        match self {
            Self::Bytes(bytes) => *bytes = bytes.part(cut),
            _ => {
                let values = self.values()?;
                let part = s![cut.y..cut.y + cut.height, cut.x..cut.x + cut.width, ..];
                *values = values.slice(part).to_owned();
            }
        }
        Ok(())
    }

    /// Height, width and channels, decoded by now.
    pub(super) fn dim(&mut self) -> Result<(usize, usize, usize)> {
        match self.bytes()?.map(|bytes| bytes.dim()) {
            Some(dim) => Ok(dim),
            None => Ok(self.values()?.dim()),
        }
    }

    /// Cuts and resizes; `choose` gets height and width, before a file is decoded.
    pub(super) fn rescale(
        &mut self,
        filter: Filter,
        choose: impl FnOnce(usize, usize) -> Result<Cut>,
    ) -> Result<()> {
        let choose = |h, w| {
            let cut = choose(h, w)?;
            affordable(cut.height, cut.width)?;
            Ok(cut)
        };
        if matches!(self, Self::File(file) if file.unchanged) {
            self.bytes()?;
        }
        match self {
            Self::Values(values) => {
                let (h, w, _) = values.dim();
                *values = resample::resampled(values.view(), choose(h, w)?, filter)?;
            }
            Self::File(file) => *self = Self::Bytes(decoded_cut(file, filter, choose)?),
            Self::Bytes(bytes) => {
                let (h, w, _) = bytes.dim();
                let cut = choose(h, w)?;
                let resized = bytes.resized(cut.window, (cut.height, cut.width), |bytes, shape, window| {
                    resized(bytes, shape, Cut { window, ..cut }, filter)
                });
                *self = Self::Bytes(resized?);
            }
        }
        Ok(())
    }
}

impl Sample {
    /// Ends a sample that has been copied into a batch: the next picture of this thread gets its memory.
    pub(super) fn spend(mut self) {
        if let Some(Value::Float(values)) = self.fields.take(INPUTS) {
            SPARE.set(values.into_raw_vec_and_offset().0);
        }
    }
}

/// Whether an image of this size may be made; else a slip in a config would take all memory.
///
/// # Errors
/// When it has more than [`PictureFile::MAX_PIXELS`].
pub(super) fn affordable(height: usize, width: usize) -> Result<()> {
    match height.checked_mul(width) {
        Some(pixels) if pixels <= PictureFile::MAX_PIXELS => Ok(()),
        _ => Err(Error::invalid(format!(
            "an image of {width} × {height} pixels is too large: {} are the most",
            PictureFile::MAX_PIXELS
        ))),
    }
}

#[cfg(feature = "images")]
use decode::{decoded, decoded_cut, resized, size};

#[cfg(not(feature = "images"))]
fn decoded(file: &PictureFile) -> Result<Picture> {
    Err(Error::invalid(format!("{file}: {WITHOUT}")))
}

#[cfg(not(feature = "images"))]
fn size(file: &PictureFile) -> Result<[usize; 2]> {
    Err(Error::invalid(format!("{file}: {WITHOUT}")))
}

#[cfg(not(feature = "images"))]
fn decoded_cut(file: &PictureFile, _: Filter, _: impl FnOnce(usize, usize) -> Result<Cut>) -> Result<Bytes> {
    Err(Error::invalid(format!("{file}: {WITHOUT}")))
}

#[cfg(not(feature = "images"))]
use resample::by_values as resized;

thread_local! {
    /// Memory of the last sample that this thread has spent: pictures of one size need no new one.
    static SPARE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// What a program without the decoders says.
pub(super) const WITHOUT: &str = "this program was built without the feature `images`, which reads picture files: build it \
                                  without `--no-default-features`, or with `--features images`";
