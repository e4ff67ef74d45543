//! A picture blended with one that lacks something: light, contrast, colour, sharpness; and its hue turned. Each is
//! defined twice, by MMCV on OpenCV and by Pillow, which round otherwise.

use super::Backend;
use super::canvas::Canvas;
use super::tone::table;

impl Canvas<'_, u8> {
    /// Blue, green and red of a stored pixel, in the order in which they are shown.
    fn bgr(&self) -> Option<[usize; 3]> {
        (self.channels == 3).then(|| [self.place(0), self.place(1), self.place(2)])
    }

    /// The lightness of each pixel, of its channels taken for blue, green, red.
    fn lightness(&self, backend: Backend) -> Vec<u8> {
        let pixels = self.pixels.chunks_exact(self.depth.max(1));
        let Some([b, g, r]) = self.bgr() else {
            return pixels.map(|pixel| pixel.first().copied().unwrap_or(0)).collect();
        };
        // OpenCV's and Pillow's fixed-point numbers for 0.114, 0.587 and 0.299.
        let (weights, bits) = match backend {
            Backend::Cv2 => ([3735, 19235, 9798u32], 15),
            Backend::Pillow => ([7471, 38470, 19595], 16),
        };
        let light = |pixel: &[u8]| {
            let part = |at: usize, weight: u32| u32::from(pixel[at]) * weight;
            (part(b, weights[0]) + part(g, weights[1]) + part(r, weights[2]) + (1 << (bits - 1))) >> bits
        };
        pixels.map(|pixel| light(pixel) as u8).collect()
    }

    /// `factor` times the picture and the rest of black.
    pub(in crate::data) fn brighten(&mut self, factor: f64, backend: Backend) {
        self.map(|_, _| table(|v| blend(0.0, v, factor, backend)));
    }

    /// `factor` times the picture and the rest of its mean lightness.
    pub(in crate::data) fn contrast(&mut self, factor: f64, backend: Backend) {
        let light = self.lightness(backend);
        if light.is_empty() {
            return;
        }
        let mean = light.iter().map(|v| u64::from(*v)).sum::<u64>() as f64 / light.len() as f64;
        let mean = match backend {
            Backend::Cv2 => mean.round_ties_even(),
            Backend::Pillow => (mean + 0.5).floor(),
        };
        self.map(|_, _| table(|v| blend(mean as f32, v, factor, backend)));
    }

    /// `factor` times the picture and the rest of its lightness; a picture of one channel stays.
    pub(in crate::data) fn saturate(&mut self, factor: f64, backend: Backend) {
        let Some(places) = self.bgr() else { return };
        let light = self.lightness(backend);
        for (pixel, light) in self.pixels.chunks_exact_mut(self.depth).zip(light) {
            for at in places {
                let value = blend(f32::from(light), f32::from(pixel[at]), factor, backend);
                pixel[at] = match backend {
                    // Here OpenCV blends bytes, and rounds halves to even; elsewhere MMCV blends floats, and cuts off.
                    Backend::Cv2 => value.round_ties_even() as u8,
                    Backend::Pillow => value as u8,
                };
            }
        }
    }

    /// `factor` times the picture and the rest of a smooth one, each pixel of which is the mean of 3 × 3, the middle
    /// counting five times. Beyond the rim the picture is mirrored.
    pub(in crate::data) fn sharpen(&mut self, factor: f64) {
        let (height, width, depth) = (self.height, self.width, self.depth);
        let near = |at: usize, len: usize| match (at, len) {
            (_, 1) => [0, 0, 0],
            (0, _) => [1, 0, 1],
            (at, len) if at + 1 == len => [at - 1, at, at - 1],
            (at, _) => [at - 1, at, at + 1],
        };
        let mut out = Vec::with_capacity(self.pixels.len());
        for y in 0..height {
            let rows = near(y, height).map(|y| &self.pixels[y * width * depth..][..width * depth]);
            for x in 0..width {
                let columns = near(x, width);
                for c in 0..depth {
                    let sum: u32 =
                        rows.iter().flat_map(|row| columns.map(|x| u32::from(row[x * depth + c]))).sum();
                    let own = u32::from(rows[1][x * depth + c]);
                    let smooth = (2 * (sum + 4 * own) + 13) / 26;
                    out.push(blend(smooth as f32, own as f32, factor, Backend::Cv2) as u8);
                }
            }
        }
        *self.pixels = out;
    }

    /// Turns the colours by this part of the circle; a picture of one channel stays.
    pub(in crate::data) fn turn_hue(&mut self, part: f64) {
        let Some([b, g, r]) = self.bgr() else { return };
        // As C turns a negative number into a byte.
        let by = (part * 255.0) as i64 as u8;
        for pixel in self.pixels.chunks_exact_mut(self.depth) {
            let [hue, saturation, value] = to_hsv([pixel[r], pixel[g], pixel[b]]);
            [pixel[r], pixel[g], pixel[b]] = from_hsv([hue.wrapping_add(by), saturation, value]);
        }
    }
}

/// `factor` times `own` and the rest of `other`, not cut off yet. OpenCV rounds once, behind the sum.
fn blend(other: f32, own: f32, factor: f64, backend: Backend) -> f32 {
    match backend {
        Backend::Cv2 => {
            (f64::from(own) * f64::from(factor as f32) + f64::from(other * (1.0 - factor) as f32)) as f32
        }
        Backend::Pillow => other + factor as f32 * (own - other),
    }
}

/// Pillow's conversion of red, green, blue to hue, saturation, value.
fn to_hsv(rgb: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = rgb;
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let below = |v: u8| f32::from(most - v) / range;
    let sector = match most {
        _ if most == r => below(b) - below(g),
        _ if most == g => (2.0 + f64::from(below(r)) - f64::from(below(b))) as f32,
        _ => (4.0 + f64::from(below(g)) - f64::from(below(r))) as f32,
    };
    let hue = ((f64::from(sector) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(range / f32::from(most)) * 255.0) as u8, most]
}

/// The way back.
fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let place = f64::from(hue) * 6.0 / 255.0;
    let sector = place.floor();
    let (part, depth) = ((place - sector) as f32, f64::from(saturation) / 255.0);
    let (part, depth) = (f64::from(part), f64::from(depth as f32));
    let shade = |less: f64| (f64::from(value) * (1.0 - depth * less)).round() as u8;
    let (p, q, t) = (shade(1.0), shade(part), shade(1.0 - part));
    match sector as u8 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}
