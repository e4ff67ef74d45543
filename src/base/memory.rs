//! How much memory this machine has, and the account of what a model asks for while it is built.
//!
//! A layer makes its tensors in its constructor, so a size that no machine has must be found before the allocation. An
//! account is in force on the thread that builds; a program that makes its layers by hand has none.

use std::cell::RefCell;
use std::sync::OnceLock;

use super::{Error, Result};

thread_local! {
    static ACCOUNT: RefCell<Option<Account>> = const { RefCell::new(None) };
}

#[derive(Debug, Default)]
struct Account {
    asked: u64,
    /// How many times a tensor will be there: trained ones have a gradient and what the optimizer keeps.
    copies: u64,
    /// Tensors are made of zeros, which the system hands out without touching a page.
    hollow: bool,
    refused: Option<String>,
}

/// What becomes of a tensor that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Make it.
    Full,
    /// Make it of zeros: nobody will train with it as it is.
    Zeros,
    /// It does not fit: make an empty one, [`settled`] tells the builder.
    Refused,
}

/// Asks for a tensor of this shape with elements of `size` bytes.
pub fn ask(shape: &[usize], size: usize) -> Grant {
    ACCOUNT.with_borrow_mut(|account| {
        let Some(account) = account else { return Grant::Full };
        // What follows is not built for anybody.
        if account.refused.is_some() {
            return Grant::Refused;
        }
        let fit = |total: &u64| total.checked_mul(account.copies).is_some_and(|all| all <= machine());
        let own = bytes(shape, size);
        match own.and_then(|own| own.checked_add(account.asked)).filter(fit) {
            Some(total) => account.asked = total,
            None => {
                let text = match own.filter(|own| *own <= machine()) {
                    Some(own) => account.overdrawn(shape, own),
                    None => too_much(&format!("a tensor of shape {shape:?}"), shape, size),
                };
                account.refused.get_or_insert(text);
                return Grant::Refused;
            }
        }
        if account.hollow { Grant::Zeros } else { Grant::Full }
    })
}

impl Account {
    /// Each tensor fits, but not all of them.
    fn overdrawn(&self, shape: &[usize], own: u64) -> String {
        let weights = (self.asked as f64) + (own as f64);
        let all = weights * self.copies as f64;
        let training = match self.copies {
            1 => String::new(),
            copies => format!(
                ", {} to train them (weights, gradients, momentum: {copies} times as much)",
                human(all)
            ),
        };
        format!(
            "the weights take {} up to a tensor of shape {shape:?}{training}, and this machine has {}",
            human(weights),
            human(machine() as f64)
        )
    }
}

/// Whether all that was asked for since the last call fits.
///
/// # Errors
/// The first tensor that did not.
pub fn settled() -> Result<()> {
    let refused = ACCOUNT.with_borrow_mut(|account| account.as_mut().and_then(|a| a.refused.take()));
    refused.map_or(Ok(()), |text| Err(Error::config(text)))
}

/// Asks for a tensor of [`Elem`](super::Elem) before a library makes it. The library would not ask, and the process would
/// end where the memory cannot be had.
///
/// # Errors
/// When this machine does not have it, alone or beside what has been asked for.
///
/// ```
/// use shanty::base::memory;
/// assert!(memory::ask_by_name("fc.weight", &[10, 84]).is_ok());
/// let refused = memory::ask_by_name("fc.weight", &[1 << 40, 1 << 20]).unwrap_err();
/// assert!(refused.to_string().contains("`fc.weight`"));
/// ```
pub fn ask_by_name(name: &str, shape: &[usize]) -> Result<()> {
    let size = size_of::<super::Elem>();
    let settled = if ask(shape, size) == Grant::Refused { settled() } else { Ok(()) };
    fits(&format!("`{name}`"), shape, size)?;
    settled.map_err(|e| Error::config(format!("`{name}`: {e}")))
}

/// Builds with an account in force, for tensors that will be there `copies` times; gives the bytes that were asked for
/// too.
pub fn accounted<T>(hollow: bool, copies: u64, build: impl FnOnce() -> T) -> (T, u64) {
    struct Restore(Option<Account>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACCOUNT.set(self.0.take());
        }
    }
    let _restore = Restore(ACCOUNT.replace(Some(Account { hollow, copies, ..Account::default() })));
    let made = build();
    (made, ACCOUNT.with_borrow(|account| account.as_ref().map_or(0, |a| a.asked)))
}

/// The bytes of `what`: the product of `counts`, each value of `each` bytes.
///
/// # Errors
/// [`Error::Invalid`] when that is more than an address can count or more than this machine has: Rust ends the process
/// when memory cannot be had.
///
/// ```
/// use shanty::base::memory;
/// assert_eq!(memory::fits("an image", &[3, 224, 224], 4)?, 602_112);
/// assert!(memory::fits("an image", &[usize::MAX, 2], 4).is_err());
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub fn fits(what: &str, counts: &[usize], each: usize) -> Result<usize> {
    let own =
        bytes(counts, each).filter(|bytes| *bytes <= machine()).and_then(|bytes| usize::try_from(bytes).ok());
    own.ok_or_else(|| Error::invalid(too_much(what, counts, each)))
}

/// [`fits`] for a list with an entry for each sample: orders, classes, places. There are several of them at a time, and
/// the data beside them, so one may have an eighth of the memory.
///
/// # Errors
/// As [`fits`].
pub fn lists(what: &str, samples: usize, each: usize) -> Result<()> {
    let most = machine() / 8;
    if (samples as u128) * (each as u128) <= u128::from(most) {
        return Ok(());
    }
    let (own, most) = (human(samples as f64 * each as f64), human(most as f64));
    Err(Error::invalid(format!(
        "{what} takes {own} ({samples} entries of {each} bytes): at most {most}, an eighth of this machine's memory"
    )))
}

fn bytes(shape: &[usize], size: usize) -> Option<u64> {
    let product = shape.iter().fold(size as u128, |product, n| product.saturating_mul(*n as u128));
    u64::try_from(if shape.contains(&0) { 0 } else { product }).ok()
}

fn too_much(what: &str, shape: &[usize], size: usize) -> String {
    let product = shape.iter().fold(size as f64, |product, n| product * *n as f64);
    let factors: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let (factors, all) = (factors.join(" × "), human(machine() as f64));
    format!("{what} takes {} ({factors} values of {size} bytes), and this machine has {all}", human(product))
}

/// `3.6 GiB`.
pub fn human(bytes: f64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = if bytes < 1024.0 { 0 } else { (bytes.log2() / 10.0) as usize }.min(units.len() - 1);
    let value = bytes / 1024f64.powi(power as i32);
    if power == 0 { format!("{value} bytes") } else { format!("{value:.1} {}", units[power]) }
}

/// Bytes that a process of this machine can have: its memory, or less where a limit is set. What the system does not
/// tell is taken for unlimited.
pub fn machine() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let total = read("/proc/meminfo").and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.saturating_mul(1024))
        });
        let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
        let address = read("/proc/self/limits").and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("Max address space"))?;
            line.split_whitespace().next()?.parse().ok()
        });
        [total, group, address].into_iter().flatten().fold(isize::MAX as u64, u64::min)
    })
}

/// The most bytes of memory that the process has had so far, where the system tells it (Linux).
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_made() {
        assert_eq!(ask(&[usize::MAX, usize::MAX], 4), Grant::Full, "without an account nobody counts");
        let ((), asked) = accounted(false, 1, || {
            assert_eq!(ask(&[2, 3], 4), Grant::Full);
            assert!(settled().is_ok());
            assert_eq!(ask(&[usize::MAX, 2], 4), Grant::Refused, "the product is beyond u64");
            let text = settled().unwrap_err().to_string();
            assert!(
                text.contains(
                    "takes 128.0 EiB (18446744073709551615 × 2 values of 4 bytes), and this machine has"
                ),
                "{text}"
            );
            assert!(settled().is_ok(), "told once");
        });
        assert_eq!(asked, 24);
    }

    #[test]
    fn the_sum_counts_and_an_account_ends_with_its_build() {
        let half = (machine() / 3 * 2) as usize;
        accounted(true, 1, || {
            assert_eq!(ask(&[half], 1), Grant::Zeros);
            assert_eq!(ask(&[half], 1), Grant::Refused);
            assert!(settled().unwrap_err().to_string().starts_with("the weights take "));
        });
        let third = (machine() / 3) as usize;
        accounted(true, 3, || {
            assert_eq!(ask(&[third - 1], 1), Grant::Zeros);
            assert_eq!(ask(&[2], 1), Grant::Refused);
            let text = settled().unwrap_err().to_string();
            assert!(text.contains("to train them (weights, gradients, momentum: 3 times as much)"), "{text}");
        });
        assert_eq!(ask(&[half], 1), Grant::Full);
    }

    #[test]
    fn products_are_exact_or_refused() {
        assert_eq!(fits("it", &[3, 5], 4).unwrap(), 60);
        assert_eq!(fits("it", &[usize::MAX, 0], 4).unwrap(), 0);
        for counts in [&[1usize << 60][..], &[1 << 40, 1 << 40], &[usize::MAX; 8]] {
            let text = fits("a batch", counts, 4).unwrap_err().to_string();
            assert!(text.starts_with("a batch takes "), "{text}");
        }
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(
            (human(24.0), human(1536.0), human(3.0 * 1024f64.powi(3))),
            ("24 bytes".to_owned(), "1.5 KiB".to_owned(), "3.0 GiB".to_owned())
        );
    }
}
