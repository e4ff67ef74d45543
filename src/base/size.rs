//! Sizes that a config multiplies, checked before anything is allocated: Rust ends the process when memory cannot be had.

use std::sync::OnceLock;

use super::{Error, Result};

/// The bytes of `what`: the product of `counts`, each value of `each` bytes.
///
/// # Errors
/// [`Error::Invalid`] when that is more than an address can count or more than this machine has.
///
/// ```
/// use shanty::base::size;
/// assert_eq!(size::bytes("an image", &[3, 224, 224], 4)?, 602_112);
/// assert!(size::bytes("an image", &[usize::MAX, 2], 4).is_err());
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub fn bytes(what: &str, counts: &[usize], each: usize) -> Result<usize> {
    let bytes = counts.iter().fold(each as u128, |product, n| product.saturating_mul(*n as u128));
    let most = memory().unwrap_or(isize::MAX as u64);
    match usize::try_from(bytes) {
        Ok(bytes) if bytes as u64 <= most => Ok(bytes),
        _ => {
            let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
            Err(Error::invalid(format!(
                "{what} does not fit: {} values of {each} bytes are {}, this machine has {}",
                counts.join(" × "),
                shown(bytes),
                shown(u128::from(most))
            )))
        }
    }
}

/// Memory of this machine, or what its control group may have, in bytes; none where the system does not tell.
fn memory() -> Option<u64> {
    static MEMORY: OnceLock<Option<u64>> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let total = read("/proc/meminfo").lines().find_map(|line| {
            let kib: u64 = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        });
        let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let limits = limits.iter().filter_map(|path| read(path).trim().parse().ok());
        total.into_iter().chain(limits).min()
    })
}

fn shown(bytes: u128) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let step = (bytes.max(1).ilog2() / 10).min(6) as usize;
    match step {
        0 => format!("{bytes} bytes"),
        6 if bytes >> 60 > 9999 => "more than 9999 EiB".to_owned(),
        step => format!("{:.1} {}", bytes as f64 / 1024f64.powi(step as i32), units[step]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_beyond_the_machine_are_refused_with_their_factors() {
        assert_eq!(bytes("it", &[3, 5], 4).unwrap(), 60);
        assert_eq!(bytes("it", &[usize::MAX, 0], 4).unwrap(), 0);
        for counts in [&[1usize << 60][..], &[1 << 40, 1 << 40], &[usize::MAX; 8]] {
            let text = bytes("a batch", counts, 4).unwrap_err().to_string();
            assert!(text.starts_with(&format!("a batch does not fit: {}", counts[0])), "{text}");
        }
        let text = bytes("it", &[1 << 60], 4).unwrap_err().to_string();
        assert!(
            text.contains("1152921504606846976 values of 4 bytes are 4.0 EiB, this machine has"),
            "{text}"
        );
    }

    #[test]
    fn sizes_are_shown_in_a_unit_that_can_be_read() {
        let of = [0, 1023, 1024, 1536 << 20, 5 << 40, u128::MAX].map(shown);
        assert_eq!(of, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 GiB", "5.0 TiB", "more than 9999 EiB"]);
    }
}
