//! The IDX file format of MNIST: a magic number, the sizes, then the values.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::base::error::IoContext;
use crate::base::{Error, Result};

/// What a gzipped file may grow to: pictures shrink to a fifth or so, a bomb to a thousandth.
const MOST_GROWTH: u64 = 32;
/// What any may grow to: blank pictures shrink as bombs do, but there are not many.
const SMALL: u64 = 64 << 20;

/// The bytes of an IDX file with `axes` axes, and their lengths. The file may be gzipped, whatever its name.
///
/// # Errors
/// [`Error::Invalid`] when the header promises other than there is; memory is taken for what can be there.
pub(super) fn read(path: &Path, axes: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let wrong = |what: String| Error::invalid(format!("{}: {what}", path.display()));
    let mut file = File::open(path).at(path)?;
    let about = file.metadata().at(path)?;
    if !about.is_file() {
        return Err(wrong("not a file".to_owned()));
    }
    let mut first = Vec::with_capacity(2);
    (&mut file).take(2).read_to_end(&mut first).at(path)?;
    let gzipped = first == [0x1f, 0x8b];
    let most = if gzipped { about.len().saturating_mul(MOST_GROWTH).max(SMALL) } else { about.len() };
    let file = io::Cursor::new(first).chain(io::BufReader::new(file));
    let mut plain: Box<dyn Read> = if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };

    // Two zeros, 8 for unsigned bytes, the number of axes, then a big-endian word for each.
    let mut header = Vec::new();
    (&mut plain).take(4 + 4 * axes as u64).read_to_end(&mut header).at(path)?;
    let lengths = match header.split_first_chunk() {
        Some((&[0, 0, 8, n], words)) if usize::from(n) == axes && words.len() == 4 * axes => {
            words.as_chunks().0.iter().map(|&word| u32::from_be_bytes(word) as usize).collect::<Vec<_>>()
        }
        _ => return Err(wrong(format!("not an IDX file of bytes with {axes} axes"))),
    };
    let promised = lengths.iter().try_fold(1usize, |n, &l| n.checked_mul(l));
    let Some(promised) = promised.filter(|&n| n as u64 <= most) else {
        return Err(wrong(format!(
            "its header promises {lengths:?} values, a file of {} bytes may give {most}{}",
            about.len(),
            if gzipped { "; if it is meant, unpack it with gunzip" } else { "" }
        )));
    };
    let mut values = Vec::with_capacity(promised);
    (&mut plain).take(promised as u64 + 1).read_to_end(&mut values).at(path)?;
    match values.len() {
        n if n == promised => Ok((lengths, values)),
        n if n > promised => Err(wrong(format!("holds more values than its header promises: {lengths:?}"))),
        n => Err(wrong(format!("holds {n} values, its header promises {lengths:?}"))),
    }
}
