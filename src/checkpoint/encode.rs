//! From tensors in memory to the bytes of a file, a piece at a time: what passes is hashed, and nothing is held twice.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

use ndarray::ArrayD;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use xxhash_rust::xxh3::Xxh3;

use super::manifest::FileSeal;
use crate::base::{Elem, Error, Result};
use crate::params::{Role, StateDict};

/// Bytes that pass at once: few enough to stay in a core's second-level cache while they are copied, hashed and
/// written.
pub(super) const PIECE: usize = 256 << 10;
const WORD: usize = size_of::<Elem>();

/// Hashes bytes and hands them on.
struct HashingWriter<'a> {
    out: &'a mut dyn Write,
    hash: Xxh3,
    bytes: u64,
}

impl HashingWriter<'_> {
    fn write_hashed(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
        self.out.write_all(piece)
    }
}

/// Gathers what is small into pieces; what is large passes as it lies.
struct BufferedHashingWriter<'a> {
    inner: HashingWriter<'a>,
    piece: Vec<u8>,
    filled: usize,
}

impl<'a> BufferedHashingWriter<'a> {
    /// For `len` bytes.
    fn new(out: &'a mut dyn Write, len: u64) -> Self {
        let room = usize::try_from(len).unwrap_or(PIECE).clamp(WORD, PIECE);
        Self { inner: HashingWriter { out, hash: Xxh3::new(), bytes: 0 }, piece: vec![0; room], filled: 0 }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.write_hashed(&self.piece[..self.filled])?;
        self.filled = 0;
        Ok(())
    }

    /// The room for at least one unit of `unit` bytes and at most `most` bytes, in whole units.
    fn room(&mut self, unit: usize, most: usize) -> io::Result<&mut [u8]> {
        if self.piece.len() - self.filled < unit {
            self.flush()?;
        }
        let len = (self.piece.len() - self.filled).min(most);
        let start = self.filled;
        self.filled += len - len % unit;
        Ok(&mut self.piece[start..self.filled])
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room(1, bytes.len())?;
            let (now, later) = bytes.split_at(room.len());
            room.copy_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Values that lie side by side.
    fn values(&mut self, mut values: &[Elem]) -> io::Result<()> {
        // In memory as in the file: nothing is copied, and a piece is still in the cache when it is written.
        if cfg!(target_endian = "little") && size_of_val(values) >= PIECE {
            self.flush()?;
            return bytemuck::cast_slice(values)
                .chunks(PIECE)
                .try_for_each(|piece| self.inner.write_hashed(piece));
        }
        while !values.is_empty() {
            let words = self.room(WORD, size_of_val(values))?.as_chunks_mut::<WORD>().0;
            let (now, later) = values.split_at(words.len());
            words.iter_mut().zip(now).for_each(|(word, value)| *word = value.to_le_bytes());
            values = later;
        }
        Ok(())
    }

    fn seal(mut self) -> io::Result<FileSeal> {
        self.flush()?;
        Ok(FileSeal::new(self.inner.bytes, self.inner.hash.digest128()))
    }
}

/// What stands in a file.
pub(super) enum Content<'a> {
    Tensors(Layout<'a>),
    Text(Vec<u8>),
}

impl Content<'_> {
    pub fn len(&self) -> u64 {
        match self {
            Self::Tensors(layout) => layout.len,
            Self::Text(text) => text.len() as u64,
        }
    }

    /// Hands all bytes to `out`; their length and hash.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<FileSeal> {
        let mut sealing = BufferedHashingWriter::new(out, self.len());
        match self {
            Self::Tensors(layout) => layout.write_to(&mut sealing)?,
            Self::Text(text) => sealing.bytes(text)?,
        }
        sealing.seal()
    }
}

/// A safetensors file that is going to be written: its header, and the tensors in the order of their bytes.
pub(super) struct Layout<'a> {
    header: Vec<u8>,
    tensors: Vec<Data<'a>>,
    len: u64,
}

enum Data<'a> {
    Values(&'a ArrayD<Elem>),
    Count(i64),
}

impl<'a> Layout<'a> {
    /// The file of these tensors: those with the widest words first, then by name.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a name comes twice, or a counter is not one whole number.
    pub fn of(tensors: impl Iterator<Item = (Cow<'a, str>, Role, &'a ArrayD<Elem>)>) -> Result<Self> {
        let one = |(name, role, value): (Cow<'a, str>, Role, &'a ArrayD<Elem>)| {
            let (dtype, data) = Data::of(&name, role, value)?;
            Ok((name, dtype, value.shape(), data))
        };
        let mut all = tensors.map(one).collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut infos = Vec::with_capacity(all.len());
        let mut names = std::collections::HashSet::new();
        let (mut data, mut at) = (Vec::with_capacity(all.len()), 0);
        for (name, dtype, shape, tensor) in all {
            let end = at + tensor.len();
            let info = TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (at, end) };
            if !names.insert(name.clone()) {
                return Err(Error::invalid(format!("two tensors are called `{name}`: rename one")));
            }
            infos.push((name.into_owned(), info));
            data.push(tensor);
            at = end;
        }
        let header = header(infos)?;
        Ok(Self { len: (header.len() + at) as u64, header, tensors: data })
    }

    /// The file of a model.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn of_state(state: &'a StateDict) -> Result<Self> {
        Self::of(state.0.iter().map(|(name, t)| (Cow::from(name), t.role, &t.value)))
    }

    fn write_to(&self, out: &mut BufferedHashingWriter<'_>) -> io::Result<()> {
        out.bytes(&self.header)?;
        for tensor in &self.tensors {
            match tensor {
                Data::Count(count) => out.bytes(&count.to_le_bytes())?,
                Data::Values(values) => match values.as_slice() {
                    Some(values) => out.values(values)?,
                    None => values.iter().try_for_each(|value| out.values(&[*value]))?,
                },
            }
        }
        Ok(())
    }
}

impl<'a> Data<'a> {
    fn of(name: &str, role: Role, value: &'a ArrayD<Elem>) -> Result<(Dtype, Self)> {
        if role != Role::Counter {
            let dtype = if WORD == 4 { Dtype::F32 } else { Dtype::F64 };
            return Ok((dtype, Self::Values(value)));
        }
        match value.first() {
            Some(count) if value.ndim() == 0 && count.fract() == 0.0 => {
                Ok((Dtype::I64, Self::Count(*count as i64)))
            }
            _ => Err(Error::invalid(format!("counter `{name}` must be one whole number, not {value:?}"))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len() * WORD,
            Self::Count(_) => 8,
        }
    }
}

/// The length of the JSON text as 8 bytes, then the text, filled up with spaces to a multiple of 8.
fn header(tensors: Vec<(String, TensorInfo)>) -> Result<Vec<u8>> {
    // The key by which Hugging Face's loaders know the names to be PyTorch's.
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(about), tensors).map_err(|e| Error::Other(e.into()))?;
    let mut text = serde_json::to_vec(&metadata).map_err(|e| Error::Other(e.into()))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok(bytes)
}

/// All bytes of a file in memory.
pub(super) fn to_bytes(state: &StateDict) -> Result<Vec<u8>> {
    let content = Content::Tensors(Layout::of_state(state)?);
    let mut bytes = Vec::with_capacity(content.len() as usize);
    content.write_to(&mut bytes).map_err(|e| Error::Other(e.into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn, arr0};
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::params::StateTensor;

    /// The writer of the format's own crate, `safetensors`, gives the same bytes: tensors larger than a piece, ones
    /// that end in the middle of one, transposed ones, counters.
    #[test]
    fn the_bytes_are_those_of_the_reference_writer() {
        let ramp = |shape: &[usize]| {
            let len: usize = shape.iter().product();
            ArrayD::from_shape_vec(IxDyn(shape), (0..len).map(|i| i as Elem * 0.5 - 3.0).collect()).unwrap()
        };
        let values = [
            ("b.large", ramp(&[3, PIECE / WORD])),
            ("a.odd", ramp(&[77])),
            ("c.turned", ramp(&[5, 9]).reversed_axes()),
            ("d.empty", ramp(&[0, 4])),
        ];
        let mut state: Vec<_> = values
            .iter()
            .map(|(n, v)| ((*n).to_owned(), StateTensor { role: Role::Weight, value: v.clone() }))
            .collect();
        let counter = StateTensor { role: Role::Counter, value: arr0(12.0).into_dyn() };
        state.insert(1, ("z.count".into(), counter));
        let raw = |v: &ArrayD<Elem>| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let bytes: Vec<_> = values.iter().map(|(n, v)| (*n, v.shape().to_vec(), raw(v))).collect();
        let dtype = if WORD == 4 { Dtype::F32 } else { Dtype::F64 };
        let mut views: Vec<_> = bytes
            .iter()
            .map(|(n, shape, raw)| (*n, TensorView::new(dtype, shape.clone(), raw).unwrap()))
            .collect();
        let count = 12i64.to_le_bytes();
        views.push(("z.count", TensorView::new(Dtype::I64, vec![], &count).unwrap()));
        let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let reference = safetensors::serialize(views, Some(about)).unwrap();
        let state = StateDict(state);
        assert!(to_bytes(&state).unwrap() == reference);
        let content = Content::Tensors(Layout::of_state(&state).unwrap());
        assert_eq!(content.len(), reference.len() as u64);
        let seal = content.write_to(&mut io::sink()).unwrap();
        assert_eq!(seal, FileSeal::new(content.len(), xxhash_rust::xxh3::xxh3_128(&reference)));
    }
}
