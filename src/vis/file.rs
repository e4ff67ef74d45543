//! A file that grows by whole pieces.

use std::path::{Path, PathBuf};

use crate::base::durable;
use crate::base::error::{IoContext, Result};
use crate::base::fs::{Append, FileSystem};

/// A file that grows by whole pieces: what the disk took of one that it refused goes at once, or before the next.
pub struct GrowingFile {
    file: Box<dyn Append>,
    path: PathBuf,
    /// Bytes of whole pieces.
    written: u64,
    /// There may be more.
    torn: bool,
}

impl GrowingFile {
    /// A file that begins empty, whatever was there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin(fs: &dyn FileSystem, path: &Path) -> Result<Self> {
        let file = fs.append(path).at(path)?;
        let is_empty = fs.entry(path).at(path)?.is_none_or(|entry| entry.len == 0);
        Ok(Self { file, path: path.to_owned(), written: 0, torn: !is_empty })
    }

    /// A file that begins with these bytes, in place of one that was there: that one stays if the disk refuses.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn replace(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<Self> {
        durable::replace(fs, path, bytes)?;
        let file = fs.append(path).at(path)?;
        Ok(Self { file, path: path.to_owned(), written: bytes.len() as u64, torn: false })
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, piece: &[u8]) -> Result<()> {
        if std::mem::replace(&mut self.torn, true) {
            self.file.truncate(self.written).at(&self.path)?;
        }
        if let Err(why) = self.file.append(piece) {
            // Cut at once, if the disk lets it: there may be no next piece, and whoever reads meanwhile sees no half.
            self.torn = self.file.truncate(self.written).is_err();
            return Err(why).at(&self.path);
        }
        self.written += piece.len() as u64;
        self.torn = false;
        Ok(())
    }

    /// Cuts it down to its first bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn truncate(&mut self, bytes: u64) -> Result<()> {
        let bytes = bytes.min(self.written);
        self.file.truncate(bytes).at(&self.path)?;
        (self.written, self.torn) = (bytes, false);
        Ok(())
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
