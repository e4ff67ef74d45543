//! Curves of Braille letters, two by four points each, for a terminal.

use ::console::{measure_text_width, truncate_str};

use crate::base::number::short;

/// Lines of a plot, at least: a title, two of curve, the ends of its axis.
pub(super) const LOW: usize = 4;

/// A curve with its name above it, the ends of its values beside it and those of its axis below. What stands there on a
/// logarithmic scale says so.
pub(super) struct Plot<'p> {
    pub name: &'p str,
    /// Finite numbers; those of a logarithmic scale are larger than zero.
    pub points: &'p [(f64, f64)],
    pub log: bool,
}

impl Plot<'_> {
    /// Its lines, each as wide as `width`.
    pub fn lines(&self, width: usize, lines: usize) -> Vec<String> {
        let lines = lines.max(LOW);
        let (x, y) = (ends(self.points.iter().map(|p| p.0)), ends(self.points.iter().map(|p| p.1)));
        let marks = [short(y.1), short(y.0)];
        let left = marks.iter().map(|mark| mark.chars().count()).max().unwrap_or(0) + 1;
        let wide = width.saturating_sub(left).max(1);
        let rows = self.drawn(wide, lines - 2, x, y);
        let name = format!("{:left$}{}{}", "", self.name, if self.log { " (log scale)" } else { "" });
        let [from, to] = [short(x.0), short(x.1)];
        let gap = wide.saturating_sub(from.len() + to.len()).max(1);
        let axis = format!("{:left$}{from}{:gap$}{to}", "", "");
        let mark = |at: usize| match at {
            0 => marks[0].as_str(),
            at if at + 1 == rows.len() => marks[1].as_str(),
            _ => "",
        };
        let curve = rows.iter().enumerate().map(|(at, row)| format!("{:>w$} {row}", mark(at), w = left - 1));
        let all = std::iter::once(name).chain(curve).chain([axis]);
        all.map(|line| padded(&line, width)).collect()
    }

    /// The mean of each column of points, joined by lines.
    fn drawn(&self, width: usize, lines: usize, x: (f64, f64), y: (f64, f64)) -> Vec<String> {
        const BITS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        let scale = |v: f64| if self.log { v.ln() } else { v };
        let (y0, y1) = (scale(y.0), scale(y.1));
        let (wide, tall) = (width * 2, lines * 4);
        let mut sums = vec![(0.0, 0u32); wide];
        for (at, value) in self.points {
            if let Some((sum, count)) = sums.get_mut(place(*at, x.0, x.1, wide)) {
                (*sum, *count) = (*sum + scale(*value), *count + 1);
            }
        }
        let mut cells = vec![vec![0u32; width]; lines];
        let mut before: Option<(usize, usize)> = None;
        for (column, (sum, count)) in sums.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
            let row = tall - 1 - place(sum / f64::from(*count), y0, y1, tall);
            let (from, first) = before.unwrap_or((row, column));
            for at in first..=column {
                // A line to the next point, with all rows between two columns.
                let on = |at: usize| {
                    let part =
                        if column > first { (at - first) as f64 / (column - first) as f64 } else { 1.0 };
                    (from as f64 + part * (row as f64 - from as f64)).round() as usize
                };
                let (a, b) = (on(at), on((at + 1).min(column)));
                for y in a.min(b)..=a.max(b) {
                    cells[y / 4][at / 2] |= BITS[at % 2][y % 4];
                }
            }
            before = Some((row, column));
        }
        let letters =
            |row: &Vec<u32>| row.iter().filter_map(|bits| char::from_u32(0x2800 + bits)).collect::<String>();
        cells.iter().map(letters).collect()
    }
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

/// Which of `size` places is the value's; the middle where all are alike.
fn place(value: f64, low: f64, high: f64, size: usize) -> usize {
    let part = if high > low { (value - low) / (high - low) } else { 0.5 };
    ((part * (size - 1) as f64).round() as usize).min(size - 1)
}

/// As wide as this: cut, or with blanks behind it.
pub(super) fn padded(text: &str, width: usize) -> String {
    let cut = truncate_str(text, width, "");
    let blank = width.saturating_sub(measure_text_width(&cut));
    format!("{cut}{:blank$}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(row: &str) -> Vec<bool> {
        row.chars().map(|c| c == '\u{2800}').collect()
    }

    #[test]
    fn a_curve_goes_from_corner_to_corner() {
        let points: Vec<(f64, f64)> = (0..40).map(|i| (f64::from(i), f64::from(i))).collect();
        let drawn = Plot { name: "loss", points: &points, log: false }.lines(13, 7);
        let told = [&drawn[0], &drawn[6]].map(|line| line.trim_end());
        assert_eq!((drawn.len(), told), (7, ["   loss", "   0       39"]));
        assert!(drawn[1].starts_with("39 ") && drawn[5].starts_with(" 0 "), "{drawn:?}");
        let rows: Vec<String> = drawn[1..6].iter().map(|row| row.chars().skip(3).collect()).collect();
        // Two letters a row, one row after the other.
        for (i, row) in rows.iter().rev().enumerate() {
            let inked: Vec<_> = (0..10).filter(|k| !blank(row)[*k]).collect();
            assert!(inked.iter().all(|k| (2 * i).saturating_sub(1) <= *k && *k <= 2 * i + 2), "{drawn:?}");
        }
        assert!(!blank(&rows[4])[0] && !blank(&rows[0])[9], "{drawn:?}");
        // One that is the same always lies in the middle, and is drawn where there is no width at all.
        let flat = Plot { name: "flat", points: &[(1.0, 2.0), (2.0, 2.0)], log: true }.lines(0, 0);
        assert_eq!(flat, [""; LOW]);
    }

    /// What falls to a tenth at each step is a straight line.
    #[test]
    fn a_logarithmic_scale_shows_all_of_a_loss() {
        let points: Vec<(f64, f64)> = (0..20).map(|i| (f64::from(i), 10f64.powi(-i))).collect();
        let drawn = |log| Plot { name: "loss", points: &points, log }.lines(16, 12);
        // In how many rows it is to be seen.
        let rows = |lines: &[String]| {
            let inked = |line: &&String| line.chars().skip(6).any(|c| c > '\u{2800}' && c <= '\u{28ff}');
            lines[1..11].iter().filter(inked).count()
        };
        assert_eq!(rows(&drawn(true)), 10);
        let last = |lines: Vec<String>, row: usize| lines[row].trim_end().chars().last();
        assert!(last(drawn(true), 10).is_some_and(|c| c > '\u{2800}'), "{:?}", drawn(true));
        assert!(drawn(true)[0].contains("loss (log"), "{:?}", drawn(true));
        assert!(!drawn(false)[0].contains("log"), "{:?}", drawn(false));
    }

    /// A letter of Chinese takes two columns.
    #[test]
    fn lines_are_as_wide_as_they_are_seen() {
        assert_eq!(["日本語", "ab", "日本"].map(|text| padded(text, 4)), ["日本", "ab  ", "日本"]);
        assert_eq!(padded("日本", 3), "日 ");
    }
}
