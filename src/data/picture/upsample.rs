//! One component of a JPEG while it is decoded: a window of its rows, and rows as wide as the picture from them, as
//! libjpeg makes them (jdsample.c).

/// Side of a block.
const BLOCK: usize = 8;

/// The rows of a component that are decoded and may be asked for.
pub(super) struct Plane {
    width: usize,
    height: usize,
    /// Rows of a unit, which is decoded at once.
    unit: usize,
    /// How many columns and rows of the picture there are to one of the component.
    columns: usize,
    rows: usize,
    held: Vec<u8>,
    /// The number of the first row held, and of the first that is not decoded yet.
    first: usize,
    end: usize,
    /// What the last row became.
    wide: Vec<u8>,
    sums: Vec<u16>,
}

impl Plane {
    /// A component with this horizontal and vertical factor in a picture whose largest factors are `most`.
    ///
    /// # Errors
    /// When it does not fit a whole number of times.
    pub(super) fn new(
        (height, width): (usize, usize),
        (h, v): (usize, usize),
        most: (usize, usize),
    ) -> Result<Self, String> {
        if !most.0.is_multiple_of(h) || !most.1.is_multiple_of(v) {
            return Err(format!("its sampling factors {h} × {v} do not divide {} × {}", most.0, most.1));
        }
        let (columns, rows) = (most.0 / h, most.1 / v);
        let (width, height) = (width.div_ceil(columns), height.div_ceil(rows));
        let (unit, sums) = (v * BLOCK, Vec::new());
        let (held, wide) = (vec![0; (unit + v + 1) * width], vec![0; width * columns]);
        Ok(Self { width, height, unit, columns, rows, held, first: 0, end: 0, wide, sums })
    }

    pub(super) fn shape(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Where the next unit is decoded to. Of the rows that there are, those stay that later ones of the picture need.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let keep = (self.end - self.first).min(self.unit / BLOCK + 1);
        let from = (self.end - keep - self.first) * self.width;
        self.held.copy_within(from..from + keep * self.width, 0);
        self.first = self.end - keep;
        &mut self.held[keep * self.width..]
    }

    /// Notes that so many rows were decoded.
    pub(super) fn decoded(&mut self, rows: usize) {
        self.end = self.height.min(self.end + rows);
    }

    /// The rows of the picture above this one can be asked for; the last ones depend on rows that are yet to come.
    pub(super) fn until(&self) -> usize {
        if self.end == self.height { usize::MAX } else { self.end.saturating_sub(1) * self.rows }
    }

    /// Row `y` of the picture, at least as wide as it.
    pub(super) fn row(&mut self, y: usize) -> &[u8] {
        let held = |y: usize| {
            let at = y.min(self.height - 1).saturating_sub(self.first);
            &self.held[at * self.width..][..self.width]
        };
        let near = y / self.rows;
        let row = held(near);
        let far = || held(if y % 2 == 1 { near + 1 } else { near.saturating_sub(1) });
        match (self.columns, self.rows) {
            (1, 1) => return row,
            (1, 2) => {
                let up = 1 + (y % 2) as u16;
                let both = row.iter().zip(far()).map(|(near, far)| 3 * u16::from(*near) + u16::from(*far));
                self.wide.iter_mut().zip(both).for_each(|(to, sum)| *to = ((sum + up) >> 2) as u8);
            }
            // Two columns are too few for libjpeg to interpolate.
            (2, 1) if self.width > 2 => {
                self.sums.clear();
                self.sums.extend(row.iter().map(|v| u16::from(*v)));
                between::<2>(&self.sums, &mut self.wide);
            }
            (2, 2) if self.width > 2 => {
                let both = row.iter().zip(far()).map(|(near, far)| 3 * u16::from(*near) + u16::from(*far));
                self.sums.clear();
                self.sums.extend(both);
                between::<4>(&self.sums, &mut self.wide);
            }
            (columns, _) => {
                let to = self.wide.chunks_exact_mut(columns);
                row.iter().zip(to).for_each(|(from, to)| to.fill(*from));
            }
        }
        &self.wide
    }
}

/// Twice as many columns, each of 3 near and 1 far one. Values with `BITS` fractional bits in the end are rounded in
/// turn down and up.
fn between<const BITS: u32>(values: &[u16], out: &mut [u8]) {
    // libjpeg's pairs: halves go down and up of single rows (1, 2), up and down of sums of two (8, 7).
    let (even, odd) = if BITS == 2 { (1, 2) } else { (8, 7) };
    let (pairs, _) = out.as_chunks_mut::<2>();
    for (&[before, value, after], pair) in values.array_windows().zip(&mut pairs[1..]) {
        *pair = [(3 * value + before + even) >> BITS, (3 * value + after + odd) >> BITS].map(|v| v as u8);
    }
    let n = values.len();
    let (first, last) = (values[0], values[n - 1]);
    pairs[0] = [(4 * first + even) >> BITS, (3 * first + values[1] + odd) >> BITS].map(|v| v as u8);
    pairs[n - 1] = [(3 * last + values[n - 2] + even) >> BITS, (4 * last + odd) >> BITS].map(|v| v as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// jdsample.c: the rims keep their column, and what lies between has 9, 3, 3 and 1 sixteenths.
    #[test]
    fn columns_between_columns() {
        let mut out = [0; 6];
        // Rows of 10, 20, 40 above rows of 30, 20, 0.
        between::<4>(&[3 * 10 + 30, 3 * 20 + 20, 3 * 40], &mut out);
        // 4 * 60 + 8, 3 * 60 + 80 + 7, 3 * 80 + 60 + 8, 3 * 80 + 120 + 7, 3 * 120 + 80 + 8, 4 * 120 + 7, over 16
        assert_eq!(out, [15, 16, 19, 22, 28, 30]);
        // 10, 30 + 20 + 2, 60 + 10 + 1, 60 + 40 + 2, 120 + 20 + 1, over 4, and 40
        between::<2>(&[10, 20, 40], &mut out);
        assert_eq!(out, [10, 13, 17, 25, 35, 40]);
    }

    /// What a window forgets is not asked for again: rows come out as they would of a plane that is held whole.
    #[test]
    fn rows_come_out_of_a_window_as_out_of_the_whole() {
        for (factors, most, height) in
            [((1, 1), (2, 2), 77), ((1, 1), (1, 2), 50), ((2, 1), (2, 4), 70), ((1, 2), (1, 4), 99)]
        {
            let mut plane = Plane::new((height, 12), factors, most).unwrap();
            let (rows, width) = plane.shape();
            let all: Vec<u8> = (0..rows * width).map(|i| (i * 37 % 251) as u8).collect();
            let mut whole = Plane::new((height, 12), factors, most).unwrap();
            (whole.held, whole.end) = (all.clone(), rows);
            let mut y = 0;
            for unit in all.chunks(plane.unit * width) {
                plane.room()[..unit.len()].copy_from_slice(unit);
                plane.decoded(unit.len() / width);
                let until = plane.until().min(height);
                (y..until)
                    .for_each(|y| assert_eq!(plane.row(y), whole.row(y), "{factors:?} of {most:?}, row {y}"));
                y = until;
            }
            assert_eq!(y, height);
        }
    }
}
