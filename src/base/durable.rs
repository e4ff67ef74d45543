//! Files that are either whole or not there: write beside, fsync, rename, fsync the folder.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::error::{IoContext, Result};

/// Writes `bytes` to `path` so that a crash at any instant leaves the old file or the new one.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = parent(path);
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(parent).at(path)?;
    file.write_all(bytes).at(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // tempfile makes private files; ours are read by other tools.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).at(path)?;
    }
    file.as_file().sync_all().at(path)?;
    file.persist(path).map_err(|e| e.error).at(path)?;
    sync_dir(parent)
}

/// Makes the entries of a folder durable: a rename is safe only after this.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).at(dir)
}

/// The folder that holds `path`: `.` for a bare file name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// The bytes of a file.
///
/// # Errors
/// [`super::Error::Io`] with the path.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).at(path)
}
