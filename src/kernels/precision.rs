//! What operands are rounded to before they are multiplied.

use std::cell::Cell;

/// What the operands of matrix products and convolutions are rounded to before they are multiplied. Sums have the
/// precision of [`Elem`](crate::base::Elem) always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nothing: they stay as they are.
    #[default]
    Full,
    /// bfloat16: 8 bits, to nearest, ties to even; NaN stays NaN, what is too small for a normal number becomes 0.
    Bf16,
    /// IEEE half precision: 11 bits, to nearest, ties to even. What exceeds 65,504 becomes infinite.
    F16,
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::Full) };
}

/// Runs `f` with products of this thread in `precision`; what was before is there again afterwards, also after a
/// panic. Threads that `f` starts itself begin with [`Precision::Full`]; those of a kernel follow their caller.
///
/// ```
/// use shanty::kernels::{Precision, precision, with_precision};
///
/// assert_eq!(with_precision(Precision::Bf16, precision), Precision::Bf16);
/// assert_eq!(precision(), Precision::Full);
/// ```
pub fn with_precision<T>(precision: Precision, f: impl FnOnce() -> T) -> T {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _restore = Restore(PRECISION.replace(precision));
    f()
}

/// The precision of this thread's products. A kernel reads it once, where it is called, and hands it to its tasks: the
/// threads of the pool have their own.
pub fn precision() -> Precision {
    PRECISION.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_is_restored_after_a_panic() {
        with_precision(Precision::F16, || {
            let failed =
                std::panic::catch_unwind(|| with_precision(Precision::Bf16, || panic!("on purpose")));
            assert!(failed.is_err());
            assert_eq!(precision(), Precision::F16);
        });
        assert_eq!(precision(), Precision::Full);
    }
}
