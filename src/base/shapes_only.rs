//! Steps of which only the shapes count: whether the layers of a network fit each other, and what they cost, is known
//! without a single product.

use std::cell::Cell;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// What `f` gives; if `on`, all arithmetic is left out that is large enough to be shared out among threads: its results
/// are finite and mean nothing, and their memory is not touched. Shapes, errors, and what is computed of small tensors
/// are those of any step.
///
/// It is in force on this thread. A thread that waits for others may do the work of another run meanwhile, so `f` is to
/// wait for none, and the kernels do not.
pub fn shapes_only<R>(on: bool, f: impl FnOnce() -> R) -> R {
    /// Puts the old value back, also when `f` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ON.set(self.0);
        }
    }
    let _restore = Restore(ON.replace(on || ON.get()));
    f()
}

/// Elements up to which an op is computed all the same.
const SMALL: usize = 1 << 16;

/// Whether an op of so many elements is left out.
#[inline]
pub fn left_out(elements: usize) -> bool {
    elements > SMALL && is_shapes_only()
}

/// Whether only shapes count on this thread.
#[inline]
pub fn is_shapes_only() -> bool {
    ON.get()
}
