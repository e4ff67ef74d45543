//! From the bytes of an .npy file to an array. The header is checked against the length of the file before memory is
//! taken.

use std::io::Read;

use ndarray::{Array, ArrayD, IxDyn, ShapeBuilder};

use super::ArrayData;
use super::header::{Header, Kind};
use crate::base::memory;

/// The array in a file of so many bytes.
pub(super) fn read(from: &mut dyn Read, length: u64) -> Result<ArrayData, String> {
    let header = Header::read(from)?;
    let bytes = header.count as u64 * header.size as u64;
    if header.len.checked_add(bytes) != Some(length) {
        let there = length.saturating_sub(header.len);
        return Err(format!(
            "an array of shape {:?} takes {bytes} bytes, and {there} are behind the header",
            header.shape
        ));
    }
    let wide = if header.kind == Kind::Float { size_of::<f32>() } else { size_of::<i64>() };
    let wide = if is_bytes(&header) { 1 } else { wide };
    memory::fits("the array", &[header.count], wide).map_err(|e| e.to_string())?;
    Ok(match header.kind {
        Kind::Float => array(from, &header, float)?.into(),
        _ if is_bytes(&header) => array(from, &header, byte)?.into(),
        _ => array(from, &header, int)?.into(),
    })
}

fn is_bytes(header: &Header) -> bool {
    header.size == 1 && header.kind != Kind::Signed
}

/// Reads a piece at a time; `value` gets the bytes of a number with the least significant one first, in a block of
/// eight.
fn array<T: Clone>(
    from: &mut dyn Read,
    header: &Header,
    value: impl Fn(&Header, [u8; 8]) -> Result<T, String>,
) -> Result<ArrayD<T>, String> {
    let mut values = Vec::with_capacity(header.count);
    let mut piece = vec![0u8; header.size * 8192];
    while values.len() < header.count {
        let n = (header.count - values.len()).min(8192) * header.size;
        from.read_exact(&mut piece[..n]).map_err(|e| format!("its values cannot be read: {e}"))?;
        for bytes in piece[..n].chunks_exact(header.size) {
            let mut block = [0u8; 8];
            block[..header.size].copy_from_slice(bytes);
            if header.big_endian {
                block[..header.size].reverse();
            }
            values.push(value(header, block).map_err(|why| format!("value {}: {why}", values.len()))?);
        }
    }
    let shape = IxDyn(&header.shape);
    let array = match header.fortran {
        // Samples are read row by row: the order is changed once.
        true => Array::from_shape_vec(shape.f(), values).map(|array| array.as_standard_layout().into_owned()),
        false => Array::from_shape_vec(shape, values),
    };
    array.map_err(|e| e.to_string())
}

fn float(header: &Header, block: [u8; 8]) -> Result<f32, String> {
    if header.size == 4 {
        return Ok(f32::from_bits(u32::from_le_bytes([block[0], block[1], block[2], block[3]])));
    }
    let wide = f64::from_le_bytes(block);
    match wide as f32 {
        narrow if narrow.is_infinite() && wide.is_finite() => {
            Err(format!("{wide:e} is too large for a float of 32 bits"))
        }
        narrow => Ok(narrow),
    }
}

fn byte(header: &Header, block: [u8; 8]) -> Result<u8, String> {
    match (header.kind, block[0]) {
        (Kind::Bool, other) if other > 1 => Err(format!("a bool is 0 or 1, not {other}")),
        (_, value) => Ok(value),
    }
}

fn int(header: &Header, block: [u8; 8]) -> Result<i64, String> {
    let unsigned = u64::from_le_bytes(block);
    if header.kind == Kind::Signed {
        // The sign stands in the highest bit that is there.
        let unused = 64 - 8 * header.size as u32;
        return Ok((unsigned << unused) as i64 >> unused);
    }
    i64::try_from(unsigned)
        .map_err(|_| format!("{unsigned} is too large for an integer of 64 bits with a sign"))
}
