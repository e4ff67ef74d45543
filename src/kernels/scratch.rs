//! Working memory that outlives the calls: each thread keeps its buffers, so a kernel allocates nothing once it is
//! warm.

use crate::base::{Elem, is_shapes_only, stale};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// One cache line, so that buffers start on one and a vector load never straddles two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([Elem; LINE]);
const LINE: usize = 64 / size_of::<Elem>();

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer from this thread's free list; it goes back when dropped. Its contents are stale.
pub(super) struct Scratch {
    lines: Vec<Line>,
    len: usize,
}

impl Scratch {
    /// A buffer of `len` elements.
    pub fn take(len: usize) -> Self {
        let need = len.div_ceil(LINE);
        let mut lines = FREE.with_borrow_mut(|free| {
            // Take the smallest that is large enough, else the largest, which then grows.
            let fits = free.iter().enumerate().filter(|(_, v)| v.len() >= need).min_by_key(|(_, v)| v.len());
            let at = fits.or_else(|| free.iter().enumerate().max_by_key(|(_, v)| v.len())).map(|(i, _)| i);
            at.map(|i| free.swap_remove(i)).unwrap_or_default()
        });
        if lines.len() < need {
            lines.resize(need, Line([0.0; LINE]));
        }
        let mut scratch = Self { lines, len };
        if is_shapes_only() {
            // What would fill it may be left out, and its numbers be summed all the same.
            scratch.fill(0.0);
        } else {
            stale::hand_out(&mut scratch);
        }
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is ending has no free list any more.
        let _ = FREE.try_with(|free| free.borrow_mut().push(lines));
    }
}

#[allow(unsafe_code)]
impl Deref for Scratch {
    type Target = [Elem];
    fn deref(&self) -> &[Elem] {
        // SAFETY: `Line` is `repr(C)` around an array that fills it, so `lines` are LINE * lines.len() >= len elements.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

#[allow(unsafe_code)]
impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [Elem] {
        // SAFETY: `lines` are at least `len` elements, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl AsRef<[Elem]> for Scratch {
    fn as_ref(&self) -> &[Elem] {
        self
    }
}

impl AsMut<[Elem]> for Scratch {
    fn as_mut(&mut self) -> &mut [Elem] {
        self
    }
}
