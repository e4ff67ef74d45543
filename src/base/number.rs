//! How numbers are shown to people: one rule for log lines, tables and the terminal.

/// `decimals` places behind the point, as in MMEngine's log lines: `2.3026`. A number of which they would show less than
/// two digits (`0.0003`, `0.0000`), or that is too long to be read, is written with an exponent: `3.1416e-12`.
///
/// ```
/// use shanty::base::number::fixed;
/// assert_eq!(fixed(95.65217, 4), "95.6522");
/// assert_eq!(fixed(0.0, 4), "0.0000");
/// assert_eq!(fixed(1e-12, 4), "1.0000e-12");
/// ```
pub fn fixed(value: f64, decimals: usize) -> String {
    let least = 10f64.powi(1 - i32::try_from(decimals).unwrap_or(i32::MAX)).min(0.01);
    let size = value.abs();
    if value == 0.0 || !value.is_finite() || (least..1e12).contains(&size) {
        format!("{value:.decimals$}")
    } else {
        scientific(value, decimals)
    }
}

/// With an exponent of at least two digits, as Python writes it: `1.0000e-02`.
pub fn scientific(value: f64, decimals: usize) -> String {
    padded(&format!("{value:.decimals$e}"))
}

/// Six digits at most and no zeros behind them, as Python's `%g`: `0.05`, `1e-05`, `0.333333`.
///
/// ```
/// use shanty::base::number::short;
/// assert_eq!([0.1 * 0.05, 1.0 / 3.0, 1e-5, 1234567.0].map(short), ["0.005", "0.333333", "1e-05", "1.23457e+06"]);
/// ```
pub fn short(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    if rounded == 0.0 || !rounded.is_finite() || (1e-4..1e6).contains(&rounded.abs()) {
        rounded.to_string()
    } else {
        padded(&format!("{rounded:e}"))
    }
}

/// Whether values are spread so far that a linear scale shows little but the largest: all above zero, and the largest a
/// hundred times the smallest. What is not finite does not count.
///
/// ```
/// use shanty::base::number::steep;
/// assert!(steep([2.3, 0.02, f64::NAN].into_iter()) && !steep([2.3, 0.2].into_iter()));
/// assert!(!steep([2.3, 0.0].into_iter()) && !steep(std::iter::empty()));
/// ```
pub fn steep(values: impl Iterator<Item = f64>) -> bool {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    low > 0.0 && high >= 100.0 * low
}

/// With a comma between thousands.
///
/// ```
/// use shanty::base::number::grouped;
/// assert_eq!([7, 1_000, 11_689_512].map(grouped), ["7", "1,000", "11,689,512"]);
/// ```
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, in the plural where there is not one of them: `1 epoch`, `3 batches`.
///
/// ```
/// use shanty::base::number::count;
/// assert_eq!([count(1, "epoch"), count(2, "batch"), count(0, "iteration")], ["1 epoch", "2 batches", "0 iterations"]);
/// ```
pub fn count(n: u64, thing: &str) -> String {
    let ending = match thing {
        _ if n == 1 => "",
        _ if thing.ends_with("tch") => "es",
        _ => "s",
    };
    format!("{n} {thing}{ending}")
}

/// Python's timedelta of whole seconds: `0:10:00`, `1 day, 2:03:04`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    let (days, progress) = (s / 86_400, format!("{}:{:02}:{:02}", s % 86_400 / 3600, s % 3600 / 60, s % 60));
    match days {
        0 => progress,
        1 => format!("1 day, {progress}"),
        n => format!("{n} days, {progress}"),
    }
}

/// Rust writes `1e-2`.
fn padded(text: &str) -> String {
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A probability of 1e-12 was shown as 0.0000, and a loss of 1e30 with thirty-one digits. The values are those of
    /// Python's `f'{x:.4f}'`, `f'{x:.4e}'` and `f'{x:g}'`.
    #[test]
    fn small_and_large_numbers_keep_their_digits() {
        for (value, text) in [
            (1.234567, "1.2346"),
            (-0.5, "-0.5000"),
            (0.001, "0.0010"),
            (0.0009, "9.0000e-04"),
            (-1e-12, "-1.0000e-12"),
            (123456789.0, "123456789.0000"),
            (1e30, "1.0000e+30"),
            (0.0, "0.0000"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(fixed(value, 4), text);
        }
        assert_eq!([fixed(0.04, 1), fixed(7.4, 0), fixed(0.5, 0)], ["0.0", "7", "0"]);
        assert_eq!([scientific(0.01, 4), scientific(0.0, 4)], ["1.0000e-02", "0.0000e+00"]);
        for (value, text) in
            [(0.0001, "0.0001"), (0.00001234567, "1.23457e-05"), (0.9999999, "1"), (-2.5e10, "-2.5e+10")]
        {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn durations_read_as_in_python() {
        assert_eq!(duration(600.9), "0:10:00");
        assert_eq!(duration(93_784.0), "1 day, 2:03:04");
    }
}
