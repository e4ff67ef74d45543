//! A mutable slice that several threads write to at once, each to elements of its own.
#![allow(unsafe_code)]

use crate::base::Elem;
use std::marker::PhantomData;

/// Stands for a `&mut [T]` whose elements the tasks of a kernel share out among themselves.
///
/// `chunks_mut` can only cut a slice into pieces that lie one behind the other. The results of a block of rows and
/// columns, or of one channel of every image, do not: a task takes them out of this one by one.
#[derive(Clone, Copy)]
pub(crate) struct DisjointMut<'a, T = Elem> {
    pub ptr: *mut T,
    pub len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, which may go to another thread; `part` and `slice` demand that no two
// overlap in what they touch.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}
// SAFETY: sharing it hands out no more than sending copies of it does.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}

impl<'a, T> From<&'a mut [T]> for DisjointMut<'a, T> {
    fn from(s: &'a mut [T]) -> Self {
        Self { ptr: s.as_mut_ptr(), len: s.len(), owner: PhantomData }
    }
}

impl<'a, T> DisjointMut<'a, T> {
    /// What lies from `at` on.
    ///
    /// # Safety
    /// While the result is in use, nothing else may touch the elements that are read or written through it.
    pub unsafe fn part(self, at: usize) -> Self {
        assert!(at <= self.len, "a part begins behind the end");
        // SAFETY: `at` is within the slice that `self` stands for.
        DisjointMut { ptr: unsafe { self.ptr.add(at) }, len: self.len - at, owner: PhantomData }
    }

    /// `len` elements from `at` on.
    ///
    /// # Safety
    /// While the slice lives, nothing else may touch its elements.
    pub unsafe fn slice(self, at: usize, len: usize) -> &'a mut [T] {
        assert!(at <= self.len && len <= self.len - at, "a slice ends behind the end");
        // SAFETY: it is within the slice that `self` stands for, and the caller keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(at), len) }
    }
}
