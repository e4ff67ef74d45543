//! A picture as bytes of a file of the cache, and back: what is not whole, or of another picture, is no picture.

use ndarray::Array3;
use xxhash_rust::xxh3::Xxh3;

use super::{Bytes, Picture};

const MAGIC: &[u8; 16] = b"shanty picture 1";
/// Magic, key, six numbers, and a checksum of all the rest.
const HEAD: usize = 16 + 16 + 6 * 4 + 8;

const BYTES: u32 = 0;
const VALUES: u32 = 1;

impl Picture {
    /// The file of the cache for this picture, which is decoded; none where its sides are beyond what is kept.
    pub(in crate::data) fn kept(&mut self, key: u128) -> Option<Vec<u8>> {
        let number = |n: usize| u32::try_from(n).ok();
        let (head, payload) = match self {
            Self::File(_) => return None,
            Self::Bytes(bytes) => {
                // It may be mirrored; rows are kept as they are shown, and of each pixel what counts.
                let turned = bytes.turned;
                let canvas = bytes.canvas();
                let (depth, channels) = (canvas.depth, canvas.channels);
                let pixels = canvas.pixels.chunks_exact(depth.max(1));
                let payload: Vec<u8> = pixels.flat_map(|pixel| &pixel[..channels]).copied().collect();
                (
                    [
                        BYTES,
                        number(canvas.height)?,
                        number(canvas.width)?,
                        number(depth)?,
                        number(channels)?,
                        turned.into(),
                    ],
                    payload,
                )
            }
            Self::Values(values) => {
                let (height, width, channels) = values.dim();
                let planes = values.view().permuted_axes([2, 0, 1]);
                let payload = planes.iter().flat_map(|value| value.to_le_bytes()).collect();
                ([VALUES, number(height)?, number(width)?, number(channels)?, number(channels)?, 0], payload)
            }
        };
        let mut file = Vec::with_capacity(HEAD + payload.len());
        file.extend(MAGIC);
        file.extend(key.to_le_bytes());
        head.iter().for_each(|number| file.extend(number.to_le_bytes()));
        let sum = checksum(&file, &payload);
        file.extend(sum.to_le_bytes());
        file.extend(payload);
        Some(file)
    }

    /// The picture in a file of the cache, if it is whole and the one of this key.
    pub(in crate::data) fn of_kept(file: &[u8], key: u128) -> Option<Self> {
        let (head, payload) = file.split_at_checked(HEAD)?;
        let (head, sum) = head.split_last_chunk::<8>()?;
        if !head.starts_with(MAGIC)
            || head.get(16..32)? != key.to_le_bytes()
            || checksum(head, payload) != u64::from_le_bytes(*sum)
        {
            return None;
        }
        let (numbers, _) = head.get(32..)?.as_chunks::<4>();
        let numbers: Vec<usize> = numbers.iter().map(|bytes| u32::from_le_bytes(*bytes) as usize).collect();
        let &[kind, height, width, depth, channels, turned] = &numbers[..] else { return None };
        let values = height.checked_mul(width)?.checked_mul(channels)?;
        if kind == VALUES as usize {
            let (words, rest) = payload.as_chunks::<4>();
            if words.len() != values || !rest.is_empty() {
                return None;
            }
            let planes = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            let planes = Array3::from_shape_vec((channels, height, width), planes).ok()?;
            return Some(Self::Values(planes.permuted_axes([1, 2, 0])));
        }
        if payload.len() != values || channels == 0 || depth < channels || depth > channels + 1 {
            return None;
        }
        let stored = match depth == channels {
            true => payload.to_vec(),
            // The byte that means nothing.
            false => {
                payload.chunks_exact(channels).flat_map(|pixel| pixel.iter().copied().chain([255])).collect()
            }
        };
        let (turned, flip_x, flip_y) = (turned == 1, false, false);
        Some(Self::Bytes(Bytes { stored, height, width, depth, channels, turned, flip_x, flip_y }))
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(head);
    sum.update(payload);
    sum.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mirrored, turned, with a byte that means nothing, and of values: each comes back, and no bit can flip unseen.
    #[test]
    fn what_is_kept_comes_back_or_is_no_picture() {
        let array = Array3::from_shape_fn((3, 4, 3), |(y, x, c)| (60 * y + 9 * x + c) as u8);
        let mut mirrored = Bytes::new(array.clone());
        mirrored.mirror(true, true);
        mirrored.turn_channels();
        let rows = array.map(|v| *v).into_raw_vec_and_offset().0;
        let stored = rows.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        let (turned, flip_x, flip_y) = (true, false, false);
        let deep = Bytes { stored, height: 3, width: 4, depth: 4, channels: 3, turned, flip_x, flip_y };
        let values = Array3::from_shape_fn((2, 3, 2), |(y, x, c)| (9001 * y + 37 * x + c) as f32 - 0.25);
        for picture in [Picture::Bytes(mirrored), Picture::Bytes(deep), Picture::Values(values)] {
            let file = picture.clone().kept(7).unwrap();
            let mut back = Picture::of_kept(&file, 7).unwrap();
            assert_eq!(back.values().unwrap(), picture.clone().values().unwrap());
            assert_eq!(Picture::of_kept(&file, 8), None);
            for at in 0..file.len() {
                assert_eq!(Picture::of_kept(&file[..at], 7), None);
                let mut other = file.clone();
                other[at] ^= 1 << (at % 8);
                assert_eq!(Picture::of_kept(&other, 7), None, "byte {at}");
            }
            assert_eq!(Picture::of_kept(&[&file[..], &[0]].concat(), 7), None);
        }
    }
}
