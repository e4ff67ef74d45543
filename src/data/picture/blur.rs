//! Pillow's `GaussianBlur`: three means over a window each way, whose width need not be whole.

use super::canvas::Canvas;

/// A window of 2 `radius` + 1 pixels and a part of one more at either end.
#[derive(Clone, Copy)]
struct Mean {
    radius: usize,
    /// What a pixel of the window counts for, and one at its ends, of 2^24.
    whole: u32,
    part: u32,
}

impl Mean {
    /// The window, three times which is like a Gaussian of this standard deviation.
    fn like(sigma: f64) -> Self {
        let variance = sigma * sigma / 3.0;
        let low = (((12.0 * variance + 1.0).sqrt() - 1.0) / 2.0).floor();
        let over = (2.0 * low + 1.0) * (low * (low + 1.0) - 3.0 * variance);
        let radius = (low + over / (6.0 * (variance - (low + 1.0) * (low + 1.0)))) as f32;
        let whole = ((1u32 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
        let count = (radius as u32).saturating_mul(2).saturating_add(1);
        let part = (1u32 << 24).saturating_sub(count.saturating_mul(whole)) / 2;
        Self { radius: radius as usize, whole, part }
    }

    /// The means of a row. What lies beyond the rim is like the pixel at the rim.
    fn row(self, from: &[u8], to: &mut [u8]) {
        let (last, radius) = (from.len() - 1, self.radius);
        let at = |x: usize, off: isize| {
            let x = (x as isize).saturating_add(off).clamp(0, last as isize);
            u32::from(from[x as usize])
        };
        let reach = radius as isize;
        // The sum of the window around the pixel before the first.
        let mut sum: u32 = (-reach - 1..reach).map(|off| at(0, off)).sum();
        for (x, to) in to.iter_mut().enumerate() {
            sum = sum + at(x, reach) - at(x, -reach - 1);
            let ends = at(x, -reach - 1) + at(x, reach + 1);
            let mean = u64::from(sum) * u64::from(self.whole) + u64::from(ends) * u64::from(self.part);
            *to = ((mean + (1 << 23)) >> 24) as u8;
        }
    }
}

impl Canvas<'_, u8> {
    /// Blurs by a Gaussian of this standard deviation, which Pillow calls the radius.
    pub(in crate::data) fn blur(&mut self, sigma: f64) {
        if self.pixels.is_empty() || sigma <= 0.0 {
            return;
        }
        // A wider window than the picture makes no difference that could be seen, and takes long.
        let mean = Mean::like(sigma.min(4.0 * self.width.max(self.height) as f64));
        let (height, width, depth) = (self.height, self.width, self.depth);
        for c in 0..depth {
            let plane: Vec<u8> = self.pixels.iter().skip(c).step_by(depth).copied().collect();
            let plane = turned(&blurred(plane, width, mean), width);
            let plane = turned(&blurred(plane, height, mean), height);
            self.pixels.iter_mut().skip(c).step_by(depth).zip(plane).for_each(|(to, from)| *to = from);
        }
    }
}

/// Three means of every row.
fn blurred(mut plane: Vec<u8>, width: usize, mean: Mean) -> Vec<u8> {
    let mut next = vec![0; plane.len()];
    for _ in 0..3 {
        plane.chunks_exact(width).zip(next.chunks_exact_mut(width)).for_each(|(from, to)| mean.row(from, to));
        std::mem::swap(&mut plane, &mut next);
    }
    plane
}

/// Columns for rows.
fn turned(plane: &[u8], width: usize) -> Vec<u8> {
    (0..width).flat_map(|x| plane.iter().skip(x).step_by(width).copied()).collect()
}
