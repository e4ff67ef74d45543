//! What a file is, by its first bytes: the ending of its name is what somebody called it.

use std::io::Read;
use std::path::Path;

use crate::base::error::IoContext;
use crate::base::fs::{Disk, FileKind, FileSystem};
use crate::base::{Error, Result};

/// Files that weights are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    /// What `torch.save` writes, now and in former times.
    PyTorch,
}

/// Files that people name by mistake: how they begin, what they are, what to do.
const OTHERS: [(&[u8], &str, &str); 10] = [
    (b"\x1f\x8b", "gzip-compressed", "unpack it first: `gunzip`"),
    (b"\xfd7zXZ", "xz-compressed", "unpack it first: `xz -d`"),
    (b"BZh", "bzip2-compressed", "unpack it first: `bunzip2`"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "unpack it first: `zstd -d`"),
    (b"\x93NUMPY", "one array of NumPy", CONVERT),
    (b"\x89HDF", "an HDF5 file", CONVERT),
    (b"GGUF", "a GGUF file", CONVERT),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file that it stands for: `git lfs pull`"),
    (b"<!DOCTYPE", "a web page", "the download went wrong: get the file itself"),
    (b"<html", "a web page", "the download went wrong: get the file itself"),
];

const CONVERT: &str = "write its tensors as .safetensors: `safetensors.numpy.save_file`";

/// What to read a file as.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Checkpoint`] that says what it is instead.
pub(super) fn of(path: &Path) -> Result<Kind> {
    on(&Disk, path)
}

/// The same of a file that is anywhere.
pub(super) fn on(fs: &dyn FileSystem, path: &Path) -> Result<Kind> {
    let real = fs.canonical(path).at(path)?;
    if fs.entry(&real).at(path)?.is_none_or(|entry| entry.kind != FileKind::File) {
        return Err(Error::checkpoint(path, "it is neither a file nor a directory"));
    }
    let mut first = Vec::new();
    fs.open(path).at(path)?.take(512).read_to_end(&mut first).at(path)?;
    told(&first).map_err(|why| Error::checkpoint(path, why))
}

fn told(first: &[u8]) -> Result<Kind, String> {
    let is = |what: &str, then: &str| Err(format!("it is {what}, no file of weights: {then}"));
    if first.is_empty() {
        return is("empty", "its download or its save did not end");
    }
    // Eight bytes of length, then JSON. First of all: a length of 640 begins as a pickle does.
    if first.get(4..9) == Some(&b"\0\0\0\0{"[..]) {
        return Ok(Kind::Safetensors);
    }
    if first.starts_with(b"PK\x03\x04") {
        // The name of the first file in the archive stands at byte 30.
        let name = first.get(30..).unwrap_or_default();
        let name = &name[..first.get(26).map_or(0, |length| usize::from(*length)).min(name.len())];
        return if name.ends_with(b".npy") {
            is("an .npz archive of NumPy", CONVERT)
        } else {
            Ok(Kind::PyTorch)
        };
    }
    let pickle = matches!(first, [0x80, 2..=5, ..]);
    if pickle || first.get(257..262) == Some(b"ustar") {
        return Ok(Kind::PyTorch);
    }
    if let Some((_, what, then)) = OTHERS.iter().find(|(begin, ..)| first.starts_with(begin)) {
        return is(what, then);
    }
    if first.trim_ascii_start().starts_with(b"{") || first.trim_ascii_start().starts_with(b"[") {
        return is(
            "JSON",
            "name the checkpoint directory, or a .safetensors file (of an index: its parts, joined)",
        );
    }
    // What is cut short, or has a length beyond all files, is said by the reader itself.
    if first.len() < 9 || first[8] == b'{' {
        return Ok(Kind::Safetensors);
    }
    let begin: Vec<_> = first.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    is(
        &format!("of an unknown type (it begins with {})", begin.join(" ")),
        "shanty reads its own checkpoints, .safetensors files and PyTorch's .pth",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let zip =
            |name: &[u8]| [b"PK\x03\x04".as_slice(), &[0; 22], &[name.len() as u8, 0, 0, 0], name].concat();
        let tar = [vec![b'x'; 257], b"ustar".to_vec()].concat();
        for (first, kind) in [
            (zip(b"archive/data.pkl"), Kind::PyTorch),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9".to_vec(), Kind::PyTorch),
            (tar, Kind::PyTorch),
            (b"\x40\0\0\0\0\0\0\0{\"w\":".to_vec(), Kind::Safetensors),
            (b"\x80\x02\0\0\0\0\0\0{\"w\":".to_vec(), Kind::Safetensors),
            (b"\x40\0\0".to_vec(), Kind::Safetensors),
        ] {
            assert_eq!(told(&first), Ok(kind));
        }
        for (first, says) in [
            (b"".to_vec(), "empty"),
            (zip(b"arr_0.npy"), ".npz"),
            (b"\x93NUMPY\x01\0".to_vec(), "one array of NumPy"),
            (b"\x1f\x8b\x08\0".to_vec(), "gunzip"),
            (b"{\"metadata\": {}}".to_vec(), "JSON"),
            (b"version https://git-lfs.github.com/spec/v1".to_vec(), "git lfs pull"),
            (b"<!DOCTYPE html>".to_vec(), "web page"),
            (b"ELF and other bytes".to_vec(), "begins with 45 4c 46"),
        ] {
            let why = told(&first).unwrap_err();
            assert!(why.contains(says), "{says}: {why}");
        }
    }
}
