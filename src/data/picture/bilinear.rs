//! Straight lines between pixel centres, for values: as OpenCV and PyTorch (`align_corners=False`) compute it, without
//! rounding.

/// The two values that a new one lies between, and the weight of the second.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

/// Taps along an axis whose pixels have `channels` values each.
fn taps(from: usize, to: usize, channels: usize) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    let mut all = Vec::with_capacity(to * channels);
    for i in 0..to {
        let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
        let low = (at as usize).min(from - 1);
        let (weight, high) = (at - low as f32, (low + 1).min(from - 1));
        all.extend((0..channels).map(|c| Tap { low: low * channels + c, high: high * channels + c, weight }));
    }
    all
}

/// First along rows, then along columns: two blends a value instead of three, and the second runs over whole rows.
pub(super) fn bilinear(
    values: &[f32],
    shape: (usize, usize, usize),
    (height, width): (usize, usize),
) -> Vec<f32> {
    let (h, w, channels) = shape;
    let (columns, rows) = (taps(w, width, channels), taps(h, height, 1));
    let row_len = width * channels;

    let mut wide = Vec::with_capacity(h * row_len);
    for row in values.chunks_exact((w * channels).max(1)) {
        wide.extend(columns.iter().map(|tap| row[tap.low] + tap.weight * (row[tap.high] - row[tap.low])));
    }
    let mut out = Vec::with_capacity(height * row_len);
    for tap in &rows {
        let (a, b) = (&wide[tap.low * row_len..][..row_len], &wide[tap.high * row_len..][..row_len]);
        out.extend(a.iter().zip(b).map(|(a, b)| a + tap.weight * (b - a)));
    }
    out
}
