//! From the bytes of a file to tensors in memory, in one pass: each piece is read into its place, if it can be, and
//! hashed while it is in the cache.

use std::io::{self, Read};

use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, Metadata};
use xxhash_rust::xxh3::Xxh3;

use super::encode::PIECE;
use super::manifest::FileSeal;
use crate::base::Elem;
use crate::params::{Role, StateDict, StateTensor};

/// A header tells names and places: this is enough for some 100,000 tensors, and takes a quarter of a gibibyte to read.
const LONGEST_HEADER: u64 = 16_000_000;

/// Bytes on their way in.
pub(super) struct Source<R> {
    from: R,
    /// Room for what was read; nobody took `start..end` yet.
    piece: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that were not read yet.
    left: u64,
    len: u64,
    hash: Option<Xxh3>,
}

impl<R: Read> Source<R> {
    /// `len` bytes.
    pub fn new(from: R, len: u64) -> Self {
        let room = usize::try_from(len).unwrap_or(PIECE).min(PIECE);
        Self { from, piece: vec![0; room], start: 0, end: 0, left: len, len, hash: None }
    }

    /// As [`new`](Self::new), and the hash of what passes.
    pub fn hashed(from: R, len: u64) -> Self {
        Self { hash: Some(Xxh3::new()), ..Self::new(from, len) }
    }

    /// Whole units of `unit` bytes, at least one and at most as many as fit in `most` bytes.
    fn take(&mut self, unit: usize, most: usize) -> io::Result<&[u8]> {
        if self.end - self.start < unit {
            self.refill()?;
        }
        let there = (self.end - self.start).min(most);
        if there < unit {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = &self.piece[self.start..][..there - there % unit];
        self.start += bytes.len();
        Ok(bytes)
    }

    /// Moves what is left of the piece to its beginning and reads until it is full.
    fn refill(&mut self) -> io::Result<()> {
        self.piece.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let more = usize::try_from(self.left).unwrap_or(PIECE).min(self.piece.len() - self.end);
        let fresh = &mut self.piece[self.end..][..more];
        read(&mut self.from, fresh, &mut self.left, &mut self.hash)?;
        self.end += more;
        Ok(())
    }

    /// Fills this room. What is large goes there straight from the file.
    fn fill(&mut self, mut room: &mut [u8]) -> io::Result<()> {
        while !room.is_empty() {
            let filled = if self.start == self.end && room.len() >= PIECE {
                read(&mut self.from, &mut room[..PIECE], &mut self.left, &mut self.hash)?;
                PIECE
            } else {
                let bytes = self.take(1, room.len())?;
                room[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            };
            room = &mut room[filled..];
        }
        Ok(())
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while self.left > 0 || self.start < self.end {
            all.extend_from_slice(self.take(1, PIECE)?);
        }
        Ok(all)
    }

    /// Length and hash of the whole, read to its end.
    pub fn seal(mut self) -> io::Result<FileSeal> {
        while self.left > 0 {
            self.start = self.end;
            self.refill()?;
        }
        Ok(FileSeal::new(self.len, self.hash.map_or(0, |hash| hash.digest128())))
    }

    /// The tensors of a safetensors file by name; what is wrong with it, otherwise.
    pub fn tensors(&mut self) -> Result<StateDict, String> {
        let damaged = |e: &dyn std::fmt::Display| format!("not a whole safetensors file: {e}");
        let metadata = self.header().map_err(|e| damaged(&e))?;
        let mut tensors = Vec::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let about = |why: &dyn std::fmt::Display| format!("tensor `{name}` {why}");
            let bytes = info.data_offsets.1 - info.data_offsets.0;
            let mut values = Values::of(info.dtype, bytes).map_err(|e| about(&e))?;
            let mut left = bytes;
            if let Some(room) = values.room(bytes) {
                left -= room.len();
                self.fill(room).map_err(|e| damaged(&e))?;
            }
            while left > 0 {
                let piece = self.take(values.word, left).map_err(|e| damaged(&e))?;
                values.push(piece);
                left -= piece.len();
            }
            let tensor = values.shaped(&info.shape).map_err(|e| about(&e))?;
            tensors.push((name, tensor));
        }
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(StateDict(tensors))
    }

    fn header(&mut self) -> Result<Metadata, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut long = [0; 8];
        long.copy_from_slice(self.take(8, 8).map_err(|e| text(&e))?);
        let long = u64::from_le_bytes(long);
        if long > LONGEST_HEADER.min(self.len - 8) {
            return Err(format!("a header of {long} bytes in {} bytes", self.len));
        }
        let mut header = Vec::new();
        while (header.len() as u64) < long {
            header.extend_from_slice(self.take(1, long as usize - header.len()).map_err(|e| text(&e))?);
        }
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| text(&e))?;
        let (says, has) = (metadata.data_len() as u64, self.len - 8 - long);
        if says == has {
            Ok(metadata)
        } else {
            Err(format!("{has} bytes of tensors, its header says {says}"))
        }
    }
}

/// Reads all of `room`, which must not be more than what is `left`.
fn read(from: &mut impl Read, room: &mut [u8], left: &mut u64, hash: &mut Option<Xxh3>) -> io::Result<()> {
    *left = left.checked_sub(room.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
    from.read_exact(room)?;
    if let Some(hash) = hash {
        hash.update(room);
    }
    Ok(())
}

/// Words of a file that become numbers.
pub(super) struct Values {
    dtype: Dtype,
    /// Bytes of a word.
    pub word: usize,
    values: Vec<Elem>,
    /// The first number that the memory cannot hold: a finite one that would be infinite, a whole one that would
    /// change.
    beyond: Option<String>,
}

impl Values {
    /// For so many bytes of this type.
    ///
    /// # Errors
    /// Says which types can be read.
    pub fn of(dtype: Dtype, bytes: usize) -> Result<Self, String> {
        let word = match dtype {
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 | Dtype::I64 => 8,
            other => return Err(format!("has type {other:?}; F32, F64, F16, BF16 and I64 can be read")),
        };
        Ok(Self { dtype, word, values: Vec::with_capacity(bytes / word), beyond: None })
    }

    /// The place of so many bytes where a file and the memory have the same words: to be filled instead of a
    /// [`push`](Self::push).
    pub fn room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let own = if size_of::<Elem>() == 4 { Dtype::F32 } else { Dtype::F64 };
        if self.dtype != own || cfg!(target_endian = "big") {
            return None;
        }
        // Zeros that the system gives cost nothing before they are written over.
        self.values = vec![0.0; bytes / self.word];
        Some(bytemuck::cast_slice_mut(&mut self.values))
    }

    /// Adds whole words.
    pub fn push(&mut self, bytes: &[u8]) {
        let all = &mut self.values;
        match self.dtype {
            Dtype::F16 => words(all, bytes, |b| f16_to_f32(u16::from_le_bytes(b)) as Elem),
            Dtype::BF16 => {
                words(all, bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16) as Elem)
            }
            Dtype::F32 => words(all, bytes, |b| f32::from_le_bytes(b) as Elem),
            Dtype::F64 => words(all, bytes, |b| {
                let (exact, value) = (f64::from_le_bytes(b), f64::from_le_bytes(b) as Elem);
                if exact.is_finite() && !value.is_finite() {
                    self.beyond.get_or_insert_with(|| format!("{exact:e}"));
                }
                value
            }),
            _ => words(all, bytes, |b| {
                let (exact, value) = (i64::from_le_bytes(b), i64::from_le_bytes(b) as Elem);
                if value as i128 != i128::from(exact) {
                    self.beyond.get_or_insert_with(|| exact.to_string());
                }
                value
            }),
        }
    }

    /// The tensor. An `I64` scalar is a counter, an `I64` tensor a buffer; all others are weights.
    pub fn shaped(self, shape: &[usize]) -> Result<StateTensor, String> {
        let role = match self.dtype {
            Dtype::I64 if shape.is_empty() => Role::Counter,
            Dtype::I64 => Role::Buffer,
            _ => Role::Weight,
        };
        // A count is only ever shown: the nearest number will do.
        if let Some(number) = self.beyond.filter(|_| role != Role::Counter) {
            return Err(format!("holds {number}, which {} bits cannot hold", 8 * size_of::<Elem>()));
        }
        let value = ArrayD::from_shape_vec(IxDyn(shape), self.values);
        Ok(StateTensor { role, value: value.map_err(|e| format!("has a bad shape: {e}"))? })
    }
}

fn words<const N: usize>(all: &mut Vec<Elem>, bytes: &[u8], mut word: impl FnMut([u8; N]) -> Elem) {
    all.extend(bytes.as_chunks::<N>().0.iter().map(|chunk| word(*chunk)));
}

/// IEEE half precision: 1 sign, 5 exponent (bias 15), 10 mantissa bits.
pub(super) fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let (exponent, mantissa) = (u32::from(half >> 10) & 31, u32::from(half) & 0x3ff);
    let magnitude = match exponent {
        0 => (mantissa as f32 * 2f32.powi(-24)).to_bits(),
        31 => 0x7f80_0000 | mantissa << 13,
        e => (e + 127 - 15) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit patterns from IEEE 754: one, the smallest subnormal, the largest number, infinity, -2.
    #[test]
    fn half_precision_is_widened_exactly() {
        let cases = [
            (0x3c00, 1.0),
            (0x0001, 2f32.powi(-24)),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
            (0xc000, -2.0),
        ];
        for (bits, value) in cases {
            assert_eq!(f16_to_f32(bits), value);
        }
        assert!(f16_to_f32(0x7e00).is_nan());
        assert_eq!(f16_to_f32(0x8000).to_bits(), (-0f32).to_bits());
        let read = |dtype, bytes: &[u8]| {
            let mut values = Values::of(dtype, bytes.len()).unwrap();
            values.push(bytes);
            values.shaped(&[1]).unwrap().value[0]
        };
        assert_eq!(read(Dtype::BF16, &[0x80, 0xbf]), -1.0);
        assert_eq!(read(Dtype::F16, &[0x00, 0x3c]), 1.0);
        assert_eq!(read(Dtype::F64, &2.5f64.to_le_bytes()), 2.5);
        assert_eq!(read(Dtype::I64, &(-3i64).to_le_bytes()), -3.0);
    }

    /// F32 comes first in a file, after a header that is no multiple of a piece; F16 after it crosses edges too.
    #[test]
    fn tensors_larger_than_a_piece_are_read_whole_and_hashed() {
        use safetensors::tensor::TensorView;
        let halves: Vec<u8> = [0x00, 0x3c].repeat(PIECE / 2 + 3);
        let ramp: Vec<u8> = (0..PIECE as u32 / 2).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let views = [
            ("half", TensorView::new(Dtype::F16, vec![halves.len() / 2], &halves).unwrap()),
            ("ramp", TensorView::new(Dtype::F32, vec![ramp.len() / 4], &ramp).unwrap()),
        ];
        let file = safetensors::serialize(views, None).unwrap();
        let mut source = Source::hashed(&file[..], file.len() as u64);
        let StateDict(tensors) = source.tensors().unwrap();
        assert!(tensors[0].1.value.iter().all(|v| *v == 1.0));
        assert!(tensors[1].1.value.iter().enumerate().all(|(i, v)| *v == i as Elem));
        let seal = FileSeal::new(file.len() as u64, xxhash_rust::xxh3::xxh3_128(&file));
        assert_eq!(source.seal().unwrap(), seal);
    }
}
