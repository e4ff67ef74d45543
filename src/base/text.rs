//! Text files that people write, on whatever system: with or without a byte order mark, with any line ends.

use std::fs::{self, FileType};
use std::path::Path;

use super::error::IoContext;
use super::memory::human;
use super::{Error, Result};

/// A list of some millions of files; whatever is longer is no list.
const MOST_BYTES: u64 = 1 << 30;

/// The text of a file, with `\n` for every line end and without a byte order mark.
///
/// # Errors
/// With the path, when it is no regular file or no UTF-8; UTF-16, as some editors on Windows write, is named as such.
pub fn read(path: &Path) -> Result<String> {
    regular(path)?;
    let size = fs::metadata(path).at(path)?.len();
    if size > MOST_BYTES {
        let (path, size) = (path.display(), human(size as f64));
        return Err(Error::invalid(format!(
            "{path}: {size}, and a text has at most {}",
            human(MOST_BYTES as f64)
        )));
    }
    let bytes = fs::read(path).at(path)?;
    let text = decode(&bytes).map_err(|why| Error::invalid(format!("{}: {why}", path.display())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.to_owned() })
}

/// The bytes of a text file as text.
///
/// # Errors
/// What they are instead, with the remedy.
pub fn decode(bytes: &[u8]) -> Result<&str, String> {
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    // Without a mark, every other byte of Latin letters is zero.
    if utf16 || bytes.iter().take(4).filter(|byte| **byte == 0).count() > 1 {
        return Err("this is UTF-16 or UTF-32: save it as UTF-8".to_owned());
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8: save the file as UTF-8")
    })
}

/// Makes sure that reading `path` ends: whoever opens a pipe waits for a writer.
///
/// # Errors
/// With the path, when it is not there or something else than a file.
pub fn regular(path: &Path) -> Result<()> {
    let kind = fs::metadata(path).at(path)?.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(Error::invalid(format!("{}: {}, not a regular file", path.display(), kind_of(kind))))
}

/// Makes sure that `path` is a folder, or that nothing is there yet.
///
/// # Errors
/// With what there is instead.
pub fn no_file(path: &Path) -> Result<()> {
    // Without a slash at its end, which says that it is a folder.
    match fs::metadata(path.components().collect::<std::path::PathBuf>()) {
        Ok(about) if !about.is_dir() => {
            Err(Error::invalid(format!("{}: {}, not a folder", path.display(), kind_of(about.file_type()))))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(Error::invalid(format!("{}: one of its folders is a file", path.display())))
        }
        _ => Ok(()),
    }
}

/// `a folder`, `a pipe (FIFO)`, …
pub fn kind_of(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe (FIFO)";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_file() => "a file",
        _ => "something special",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.txt");
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn marks_and_line_ends_of_all_systems_are_taken() {
        for bytes in ["a\nb\n", "a\r\nb\r\n", "\u{feff}a\r\nb\n", "a\rb\r"] {
            assert_eq!(of(bytes.as_bytes()).unwrap(), "a\nb\n", "{bytes:?}");
        }
        assert_eq!(of(b"").unwrap(), "");
    }

    #[test]
    fn what_is_no_utf_8_is_named() {
        let utf16: Vec<u8> = "a 1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [&[0xff, 0xfe][..], &utf16].concat();
        let big: Vec<u8> = "\u{feff}a 1\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [utf16, marked, big] {
            assert!(of(&bytes).unwrap_err().to_string().ends_with("UTF-16 or UTF-32: save it as UTF-8"));
        }
        let text = of(b"a 0\ncaf\xe9 1\n").unwrap_err().to_string();
        assert!(text.ends_with("list.txt: line 2 is not UTF-8: save the file as UTF-8"), "{text}");
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().ends_with("a folder, not a regular file"));
        #[cfg(unix)]
        {
            let path = dir.path().join("s");
            let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
            assert!(read(&path).unwrap_err().to_string().ends_with("a socket, not a regular file"));
        }
    }
}
