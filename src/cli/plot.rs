//! Curves, in characters and in SVG.

use crate::base::number::short;

/// Columns and rows of a curve in characters.
const SIZE: (usize, usize) = (64, 10);

/// The value in the middle of each column.
fn sampled(values: &[f64], columns: usize) -> Vec<f64> {
    let columns = columns.min(values.len());
    (0..columns).map(|c| values[(2 * c + 1) * values.len() / (2 * columns)]).collect()
}

/// A curve over its whole length, from 0 to its largest value.
pub(super) fn ascii(values: &[f64]) -> String {
    let (columns, rows) = SIZE;
    let top = values.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    if values.is_empty() || top <= 0.0 {
        return "  (0 everywhere)\n".into();
    }
    let heights: Vec<usize> =
        sampled(values, columns).iter().map(|v| (v / top * (rows - 1) as f64).round() as usize).collect();
    let mut text = String::new();
    for row in (0..rows).rev() {
        let label = match row {
            0 => "0".to_owned(),
            _ if row == rows - 1 => short(top),
            _ => String::new(),
        };
        let line: String = heights.iter().map(|h| if *h == row { '*' } else { ' ' }).collect();
        text += &format!("{label:>10} |{}\n", line.trim_end());
    }
    let width = heights.len().max(12);
    text + &format!("{:>10} +{}\n{:>12}{:>width$}\n", "", "-".repeat(width), 1, values.len())
}

/// One polyline a group, with a legend, and words at both axes.
pub(super) fn svg(upward: &str, along: &str, groups: &[(String, Vec<f64>)]) -> String {
    const COLOURS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];
    let (width, height, margin) = (800.0, 320.0, 60.0);
    let all = || groups.iter().flat_map(|(_, lr)| lr.iter().copied()).filter(|v| v.is_finite());
    let top = all().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <path d=\"M{margin} 20V{bottom}H{right}\" stroke=\"#888\" fill=\"none\"/>\n\
         <text x=\"{margin}\" y=\"14\">{upward}, up to {}</text>\n\
         <text x=\"{right}\" y=\"{below}\" text-anchor=\"end\">{along}</text>\n",
        width + 2.0 * margin,
        height + 60.0,
        short(top),
        bottom = height + 20.0,
        right = width + margin,
        below = height + 40.0,
    );
    for (index, (name, lr)) in groups.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let columns = 800.min(lr.len());
        let points: Vec<_> = sampled(lr, columns)
            .iter()
            .enumerate()
            .map(|(i, v)| {
                let x = margin + width * (i as f64 + 0.5) / columns.max(1) as f64;
                format!("{x:.1},{:.1}", 20.0 + height * (1.0 - v / top))
            })
            .collect();
        let points = points.join(" ");
        svg += &format!(
            "<polyline points=\"{points}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"/>\n"
        );
        let (x, y) = (margin + 12.0, height + 40.0 - 14.0 * index as f64 - 30.0);
        let name = name.replace('&', "&amp;").replace('<', "&lt;");
        svg += &format!("<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{name}</text>\n");
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_line_falls() {
        let values: Vec<f64> = (0..10).map(|i| 0.9 - f64::from(i) / 10.0).collect();
        let text = ascii(&values);
        let rows: Vec<_> = text.lines().map(|l| l.find('*')).collect();
        assert_eq!(rows[..10], (12..22).map(Some).collect::<Vec<_>>()[..]);
        assert!(text.starts_with("       0.9 |*"), "{text}");
    }

    #[test]
    fn an_svg_has_a_line_for_each_group() {
        let svg = svg(
            "learning rate",
            "iteration 2",
            &[("head".into(), vec![0.1, 0.2]), ("a<b".into(), vec![0.0, 0.1])],
        );
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a&lt;b") && svg.contains("260.0,180.0 660.0,20.0"), "{svg}");
    }
}
