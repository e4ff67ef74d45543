//! Pictures whose colours are stored at a quarter of the resolution (4:2:0): their planes as they are stored, and red,
//! green and blue from them as libjpeg makes them.
//!
//! The decoder hands out no planes, and what it interpolates itself is rounded twice and mixes the padding behind the
//! right and the lower rim in. But it repeats colours at a ratio for which it knows no interpolation. So it is told
//! that four blocks of brightness lie in a row (4:1) where two lie above two: the data are the same, block by block,
//! and the blocks are put where they belong here. That holds where all blocks come in one scan.

use super::decode::Pixels;

/// Side of a block.
const BLOCK: usize = 8;

/// A frame in units of 16 × 16 pixels, of four blocks of brightness and one of each colour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    across: usize,
    down: usize,
}

impl Units {
    /// The units of a picture, unless the frame in which they lie in rows is too wide for a header.
    pub(super) fn of(rows: usize, width: usize) -> Option<Self> {
        let units = Self { across: width.div_ceil(2 * BLOCK), down: rows.div_ceil(2 * BLOCK) };
        (units.stretched().1 <= usize::from(u16::MAX)).then_some(units)
    }

    /// Rows and columns of the frame in which the blocks of brightness lie in rows.
    pub(super) fn stretched(self) -> (usize, usize) {
        (self.down * BLOCK, self.across * 4 * BLOCK)
    }
}

/// Makes pixels of what the decoder makes of the stretched frame: three bytes a pixel, each colour four times.
pub(super) fn convert(stretched: &[u8], units: Units, height: usize, out: &mut Pixels) {
    let line = units.stretched().1 * 3;
    let columns = out.width.div_ceil(2);
    let rows = height.div_ceil(2).min(units.down * BLOCK);
    let color = |c: usize| -> Vec<u8> {
        let mut plane = vec![0; rows * columns];
        for (row, to) in stretched.chunks_exact(line).zip(plane.chunks_exact_mut(columns)) {
            row.as_chunks::<12>().0.iter().zip(to).for_each(|(four, to)| *to = four[c]);
        }
        plane
    };
    let planes = [color(1), color(2)];
    let mut brightness = vec![0; units.across * 2 * BLOCK];
    let (mut sums, mut colors) = (vec![0; columns], [vec![0; 2 * columns], vec![0; 2 * columns]]);
    for (y, pixels) in out.bytes.chunks_exact_mut((out.width * 4).max(1)).enumerate() {
        // Of the four blocks of a unit, two are in the upper half of it.
        let (block, lower) = (y / BLOCK, y / BLOCK % 2);
        let row = &stretched[(block / 2 * BLOCK + y % BLOCK) * line..][..line];
        let units = row.chunks_exact(4 * BLOCK * 3).zip(brightness.chunks_exact_mut(2 * BLOCK));
        for (unit, to) in units {
            let half = unit[lower * 2 * BLOCK * 3..].as_chunks::<3>().0;
            half.iter().zip(to).for_each(|([y, ..], to)| *to = *y);
        }
        let near = y / 2;
        let far = if y % 2 == 1 { (near + 1).min(rows - 1) } else { near.saturating_sub(1) };
        for (plane, colors) in planes.iter().zip(&mut colors) {
            let [near, far] = [near, far].map(|row| &plane[row * columns..][..columns]);
            // Two columns are too few for libjpeg to interpolate.
            if columns <= 2 {
                colors.iter_mut().enumerate().for_each(|(x, to)| *to = near[x / 2]);
                continue;
            }
            let both = near.iter().zip(far).zip(&mut sums);
            both.for_each(|((near, far), sum)| *sum = 3 * u16::from(*near) + u16::from(*far));
            between(&sums, colors);
        }
        let [cb, cr] = &colors;
        rgba(&brightness, cb, cr, pixels);
    }
}

/// Twice as many columns from sums of 3 near and 1 far row: 3 near and 1 far column, the halves rounded in turn up and
/// down (`h2v2_fancy_upsample` in jdsample.c of libjpeg).
fn between(sums: &[u16], out: &mut [u8]) {
    let (pairs, _) = out.as_chunks_mut::<2>();
    for (&[before, sum, after], pair) in sums.array_windows().zip(&mut pairs[1..]) {
        *pair = [(3 * sum + before + 8) >> 4, (3 * sum + after + 7) >> 4].map(|v| v as u8);
    }
    let n = sums.len();
    let (first, last) = (sums[0], sums[n - 1]);
    pairs[0] = [(4 * first + 8) >> 4, (3 * first + sums[1] + 7) >> 4].map(|v| v as u8);
    pairs[n - 1] = [(3 * last + sums[n - 2] + 8) >> 4, (4 * last + 7) >> 4].map(|v| v as u8);
}

/// ITU-R BT.601 in 16 fractional bits, as libjpeg has it. Whole parts are taken out of the factors, so that they fit
/// into 16 bits, and each colour is a loop of its own: compilers make vectors of that.
fn rgba(brightness: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    const LANES: usize = 32;
    let from = brightness.chunks(LANES).zip(cb.chunks(LANES).zip(cr.chunks(LANES)));
    for ((y, (cb, cr)), to) in from.zip(out.as_chunks_mut::<4>().0.chunks_mut(LANES)) {
        let color = |v: u8| i16::from(v) - 128;
        // (v · factor + 2^15) / 2^16, rounded down
        let part = |v: i16, factor: i16| ((((i32::from(2 * v) * i32::from(factor)) >> 16) as i16) + 1) >> 1;
        let byte = |y: &u8, more: i16| (i16::from(*y) + more).clamp(0, 255) as u8;
        let [mut red, mut green, mut blue] = [[0; LANES]; 3];
        for ((to, y), cr) in red[..to.len()].iter_mut().zip(y).zip(cr) {
            // 1.402 = 1 + 26345 / 2^16
            *to = byte(y, color(*cr) + part(color(*cr), 26345));
        }
        for ((to, y), (cb, cr)) in green[..to.len()].iter_mut().zip(y).zip(cb.iter().zip(cr)) {
            // 0.714 = 1 - 18734 / 2^16, 0.344 = 22554 / 2^16
            let parts = i32::from(color(*cb)) * -22554 + i32::from(color(*cr)) * 18734;
            *to = byte(y, ((parts + (1 << 15)) >> 16) as i16 - color(*cr));
        }
        for ((to, y), cb) in blue[..to.len()].iter_mut().zip(y).zip(cb) {
            // 1.772 = 2 - 14942 / 2^16
            *to = byte(y, 2 * color(*cb) + part(color(*cb), -14942));
        }
        for ((to, red), (green, blue)) in to.iter_mut().zip(&red).zip(green.iter().zip(&blue)) {
            let rgba = u32::from(*red) | u32::from(*green) << 8 | u32::from(*blue) << 16 | 255 << 24;
            *to = rgba.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::picture::inks;

    #[test]
    fn colours_are_those_of_the_other_way_round() {
        let values = || (0..=255).step_by(5).chain([1, 127, 128, 129, 254]).map(|v| v as u8);
        for (y, cb) in values().flat_map(|y| values().map(move |cb| (y, cb))) {
            let cr: Vec<u8> = values().collect();
            let mut out = vec![0; 4 * cr.len()];
            rgba(&vec![y; cr.len()], &vec![cb; cr.len()], &cr, &mut out);
            for (cr, pixel) in cr.iter().zip(out.as_chunks::<4>().0) {
                let [r, g, b] = inks::from_ycc(y, cb, *cr);
                assert_eq!(*pixel, [r, g, b, 255], "{y} {cb} {cr}");
            }
        }
    }

    /// jdsample.c: the rims keep their column, and what lies between has 9, 3, 3 and 1 sixteenths.
    #[test]
    fn columns_between_columns() {
        let mut out = [0; 6];
        // Rows of 10, 20, 40 above rows of 30, 20, 0.
        between(&[3 * 10 + 30, 3 * 20 + 20, 3 * 40], &mut out);
        // 4 * 60 + 8, 3 * 60 + 80 + 7, 3 * 80 + 60 + 8, 3 * 80 + 120 + 7, 3 * 120 + 80 + 8, 4 * 120 + 7, over 16
        assert_eq!(out, [15, 16, 19, 22, 28, 30]);
    }
}
