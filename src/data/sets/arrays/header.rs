//! What stands before the values of an .npy file: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
//!
//! It is Python's notation, but NumPy writes nothing else than these three keys for plain arrays; what else may stand
//! there (records, objects) could not become a field.

use std::io::Read;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Signed,
    Unsigned,
    Bool,
}

/// What an .npy file says of its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes a value.
    pub(super) size: usize,
    pub(super) big_endian: bool,
    /// Whether the first axis is the fastest.
    pub(super) fortran: bool,
    pub(super) shape: Vec<usize>,
    /// Number of values.
    pub(super) count: usize,
    /// Bytes of the header itself.
    pub(super) len: u64,
}

/// NumPy refuses longer ones too (`max_header_size`).
const MOST: usize = 10_000;
/// NumPy's arrays have at most as many axes.
const MOST_AXES: usize = 64;

impl Header {
    /// Reads it; no memory beyond it is taken, whatever it promises.
    pub(super) fn read(from: &mut dyn Read) -> Result<Self, String> {
        let ends = |_| "the file ends within its header".to_owned();
        let mut start = [0u8; 8];
        from.read_exact(&mut start).map_err(|_| "it is no .npy file: it is too short".to_owned())?;
        if start[..6] != *b"\x93NUMPY" {
            return Err("it is no .npy file: it does not begin with \\x93NUMPY".to_owned());
        }
        let (len, before) = match start[6] {
            1 => {
                let mut bytes = [0u8; 2];
                from.read_exact(&mut bytes).map_err(ends)?;
                (usize::from(u16::from_le_bytes(bytes)), 10)
            }
            2 | 3 => {
                let mut bytes = [0u8; 4];
                from.read_exact(&mut bytes).map_err(ends)?;
                (u32::from_le_bytes(bytes) as usize, 12)
            }
            version => return Err(format!("version {version} of the .npy format is not known")),
        };
        if len > MOST {
            return Err(format!("its header would be {len} bytes long: {MOST} are the most"));
        }
        let mut text = vec![0u8; len];
        from.read_exact(&mut text).map_err(ends)?;
        let text = std::str::from_utf8(&text).map_err(|_| "its header is no text".to_owned())?;
        Self::parse(text, before + len as u64)
    }

    fn parse(text: &str, len: u64) -> Result<Self, String> {
        let odd = || format!("its header {:?} is none of a plain array", text.trim_end());
        let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(odd)?;
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        let mut rest = inner.trim_start();
        while !rest.is_empty() {
            let (key, behind) = quoted(rest).ok_or_else(odd)?;
            let value = behind.trim_start().strip_prefix(':').ok_or_else(odd)?.trim_start();
            rest = match key {
                "descr" => {
                    let records = "its values are records or objects: save plain numbers".to_owned();
                    let (name, behind) = quoted(value).ok_or(records)?;
                    descr = Some(name);
                    behind
                }
                "fortran_order" => {
                    let read = |word, is| value.strip_prefix(word).map(|behind| (is, behind));
                    let (is, behind) = read("True", true).or_else(|| read("False", false)).ok_or_else(odd)?;
                    fortran = Some(is);
                    behind
                }
                "shape" => {
                    let (lengths, behind) =
                        value.strip_prefix('(').and_then(|list| list.split_once(')')).ok_or_else(odd)?;
                    shape = Some(lengths);
                    behind
                }
                _ => return Err(odd()),
            };
            let behind = rest.trim_start();
            rest = match behind.strip_prefix(',') {
                Some(behind) => behind.trim_start(),
                None if behind.is_empty() => behind,
                None => return Err(odd()),
            };
        }
        let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else { return Err(odd()) };
        let shape = lengths(shape).ok_or_else(odd)?;
        let (kind, size, big_endian) = element(descr)?;
        let too_many = || format!("an array of shape {shape:?} has more values than can be counted");
        let count = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
        let count = count.filter(|n| n.checked_mul(size).is_some()).ok_or_else(too_many)?;
        Ok(Self { kind, size, big_endian, fortran, shape, count, len })
    }
}

/// A text in quotation marks at the front, and what is behind it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mark = text.chars().next().filter(|mark| matches!(mark, '\'' | '"'))?;
    text.get(1..)?.split_once(mark)
}

fn lengths(text: &str) -> Option<Vec<usize>> {
    let text = text.trim();
    let text = text.strip_suffix(',').unwrap_or(text);
    if text.is_empty() {
        return Some(Vec::new());
    }
    // Python 2 wrote long integers with an L.
    let each = text.split(',').map(|n| n.trim().trim_end_matches('L').parse().ok());
    each.collect::<Option<Vec<usize>>>().filter(|shape| shape.len() <= MOST_AXES)
}

/// Kind, bytes, and whether the most significant byte is the first.
fn element(descr: &str) -> Result<(Kind, usize, bool), String> {
    let unknown = || {
        format!(
            "its values are of type {descr:?}: floats of 4 or 8 bytes, integers of 1 to 8 and bool are read, save it with \
             `.astype('f4')` or `.astype('i8')`"
        )
    };
    let order = descr.chars().next().filter(char::is_ascii).ok_or_else(unknown)?;
    let code = if matches!(order, '<' | '>' | '|' | '=') { &descr[1..] } else { descr };
    let big_endian = match order {
        '>' => true,
        '=' => cfg!(target_endian = "big"),
        _ => false,
    };
    let (kind, size) = match code {
        "f4" => (Kind::Float, 4),
        "f8" => (Kind::Float, 8),
        "i1" => (Kind::Signed, 1),
        "i2" => (Kind::Signed, 2),
        "i4" => (Kind::Signed, 4),
        "i8" => (Kind::Signed, 8),
        "u1" => (Kind::Unsigned, 1),
        "u2" => (Kind::Unsigned, 2),
        "u4" => (Kind::Unsigned, 4),
        "u8" => (Kind::Unsigned, 8),
        "b1" | "?" => (Kind::Bool, 1),
        _ => return Err(unknown()),
    };
    Ok((kind, size, big_endian))
}
