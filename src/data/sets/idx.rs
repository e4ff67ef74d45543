//! The IDX file format of MNIST: a magic number, the sizes, then the values.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::base::error::IoContext;
use crate::base::{Error, Result, durable};

/// The bytes of an IDX file with `axes` axes, and their lengths. The file may be gzipped, whatever its name.
pub(super) fn read(path: &Path, axes: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut file = durable::read(path)?;
    if file.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::with_capacity(file.len() * 5);
        MultiGzDecoder::new(&file[..]).read_to_end(&mut plain).at(path)?;
        file = plain;
    }
    let wrong = |what: String| Error::invalid(format!("{}: {what}", path.display()));
    // Two zeros, 8 for unsigned bytes, the number of axes, then a big-endian word for each.
    let header = 4 + 4 * axes;
    if file.len() < header || file[..4] != [0, 0, 8, axes as u8] {
        return Err(wrong(format!("not an IDX file of bytes with {axes} axes")));
    }
    let word = |b: &[u8]| b.iter().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
    let lengths: Vec<usize> = file[4..header].chunks_exact(4).map(word).collect();
    let promised = lengths.iter().try_fold(1usize, |n, &l| n.checked_mul(l));
    if promised != Some(file.len() - header) {
        return Err(wrong(format!("holds {} values, its header promises {lengths:?}", file.len() - header)));
    }
    file.drain(..header);
    Ok((lengths, file))
}
