//! Each byte by itself: a table of 256 entries a channel.

use super::canvas::Canvas;

/// What becomes of each byte.
pub(in crate::data) type Table = [u8; 256];

/// A table of a function of values, cut off at 0 and 255 and rounded down, as numpy makes bytes.
pub(in crate::data) fn table(value: impl Fn(f32) -> f32) -> Table {
    std::array::from_fn(|byte| value(byte as f32) as u8)
}

impl Canvas<'_, u8> {
    /// Every byte by the table of its channel; channels are numbered as they are shown.
    pub(in crate::data) fn map(&mut self, table: impl Fn(usize, &Self) -> Table) {
        let tables: Vec<(usize, Table)> =
            (0..self.channels).map(|channel| (self.place(channel), table(channel, self))).collect();
        let depth = self.depth.max(1);
        for (at, table) in tables {
            self.pixels.iter_mut().skip(at).step_by(depth).for_each(|byte| *byte = table[usize::from(*byte)]);
        }
    }

    /// How often each byte occurs in a channel.
    pub(in crate::data) fn histogram(&self, channel: usize) -> [u64; 256] {
        let mut counts = [0; 256];
        let own = self.pixels.iter().skip(self.place(channel)).step_by(self.depth.max(1));
        own.for_each(|byte| counts[usize::from(*byte)] += 1);
        counts
    }
}

/// The darkest byte becomes 0, the lightest 255, those between in proportion.
pub(in crate::data) fn stretched(histogram: &[u64; 256]) -> Table {
    let used = |n: &u64| *n > 0;
    match (histogram.iter().position(used), histogram.iter().rposition(used)) {
        (Some(low), Some(high)) if low < high => {
            let scale = 255.0 / (high - low) as f64;
            let offset = -(low as f64) * scale;
            std::array::from_fn(|byte| (byte as f64 * scale + offset) as u8)
        }
        _ => std::array::from_fn(|byte| byte as u8),
    }
}

/// Bytes are spread so that all occur about equally often, as Pillow's `equalize` and MMCV's do it.
pub(in crate::data) fn equalized(histogram: &[u64; 256]) -> Table {
    let last = histogram.iter().rev().find(|n| **n > 0).copied().unwrap_or(0);
    let step = (histogram.iter().sum::<u64>() - last) / 255;
    if step == 0 {
        return std::array::from_fn(|byte| byte as u8);
    }
    let mut below = step / 2;
    std::array::from_fn(|byte| {
        let value = below / step;
        below += histogram[byte];
        value.min(255) as u8
    })
}
