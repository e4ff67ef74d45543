//! What values between layers are stored as: [`Elem`], or in mixed precision bf16.

use crate::base::Elem;
use crate::kernels::bf16::round;
use crate::kernels::isa::multiversion;
use crate::kernels::par;
pub(crate) use half::bf16;
use std::ops::Range;

/// The numbers of a value.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// In full.
    Full(&'a [Elem]),
    /// Rounded to bf16.
    Half(&'a [bf16]),
}

impl<'a> Numbers<'a> {
    /// Those from `at` on; none behind the end.
    pub(crate) fn tail(self, at: usize) -> Self {
        match self {
            Self::Full(numbers) => Self::Full(numbers.get(at..).unwrap_or_default()),
            Self::Half(numbers) => Self::Half(numbers.get(at..).unwrap_or_default()),
        }
    }

    /// Those at these places.
    pub(crate) fn range(self, range: Range<usize>) -> Self {
        match self {
            Self::Full(numbers) => Self::Full(&numbers[range]),
            Self::Half(numbers) => Self::Half(&numbers[range]),
        }
    }

    /// Whether they are rounded.
    pub(crate) fn is_half(self) -> bool {
        matches!(self, Self::Half(_))
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Full(numbers) => numbers.len(),
            Self::Half(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// [`Numbers`] to write to.
#[derive(Debug)]
pub enum NumbersMut<'a> {
    /// In full.
    Full(&'a mut [Elem]),
    /// Rounded to bf16.
    Half(&'a mut [bf16]),
}

impl NumbersMut<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Full(numbers) => numbers.len(),
            Self::Half(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: AsRef<[Elem]> + ?Sized> From<&'a T> for Numbers<'a> {
    fn from(numbers: &'a T) -> Self {
        Self::Full(numbers.as_ref())
    }
}

impl<'a, T: AsMut<[Elem]> + ?Sized> From<&'a mut T> for NumbersMut<'a> {
    fn from(numbers: &'a mut T) -> Self {
        Self::Full(numbers.as_mut())
    }
}

/// A number of a value.
pub(crate) trait Number: Copy + Send + Sync {
    /// Those of a value that is stored so.
    ///
    /// # Panics
    /// If it is stored otherwise.
    fn all(numbers: Numbers<'_>) -> &[Self];

    /// As it takes part in sums.
    fn wide(self) -> Elem;

    /// [`all`](Self::all) to write to.
    fn all_mut(numbers: NumbersMut<'_>) -> &mut [Self];

    /// The nearest one.
    fn of(v: Elem) -> Self;

    /// The nearest ones of `from`, as many.
    fn write(from: &[Elem], to: &mut [Self]);

    /// `from` as they take part in sums, as many.
    fn read(from: &[Self], to: &mut [Elem]);
}

impl Number for Elem {
    fn all(numbers: Numbers<'_>) -> &[Self] {
        match numbers {
            Numbers::Full(numbers) => numbers,
            Numbers::Half(_) => unreachable!("operands of one kernel are stored in one way"),
        }
    }

    fn all_mut(numbers: NumbersMut<'_>) -> &mut [Self] {
        match numbers {
            NumbersMut::Full(numbers) => numbers,
            NumbersMut::Half(_) => unreachable!("operands of one kernel are stored in one way"),
        }
    }

    #[inline(always)]
    fn wide(self) -> Elem {
        self
    }

    #[inline(always)]
    fn of(v: Elem) -> Self {
        v
    }

    fn write(from: &[Elem], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    fn read(from: &[Self], to: &mut [Elem]) {
        to.copy_from_slice(from);
    }
}

impl Number for bf16 {
    fn all(numbers: Numbers<'_>) -> &[Self] {
        match numbers {
            Numbers::Half(numbers) => numbers,
            Numbers::Full(_) => unreachable!("operands of one kernel are stored in one way"),
        }
    }

    fn all_mut(numbers: NumbersMut<'_>) -> &mut [Self] {
        match numbers {
            NumbersMut::Half(numbers) => numbers,
            NumbersMut::Full(_) => unreachable!("operands of one kernel are stored in one way"),
        }
    }

    #[inline(always)]
    #[allow(clippy::unnecessary_cast)] // Elem may be f64
    fn wide(self) -> Elem {
        f32::from_bits(u32::from(self.to_bits()) << 16) as Elem
    }

    #[inline(always)]
    fn of(v: Elem) -> Self {
        round(v)
    }

    fn write(from: &[Elem], to: &mut [Self]) {
        narrow_chunk(from, to);
    }

    fn read(from: &[Self], to: &mut [Elem]) {
        widen_chunk(from, to);
    }
}

multiversion! {
    fn narrow_chunk(from: &[Elem], to: &mut [bf16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = round(*from);
        }
    }
}

multiversion! {
    fn widen_chunk(from: &[bf16], to: &mut [Elem]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.wide();
        }
    }
}

/// Rounds `from` to bf16.
///
/// # Panics
/// If the lengths differ.
pub fn narrow(from: &[Elem], to: &mut [bf16]) {
    par::zip(from, to, narrow_chunk);
}

/// The same numbers in full.
///
/// # Panics
/// If the lengths differ.
pub fn widen(from: &[bf16], to: &mut [Elem]) {
    par::zip(from, to, widen_chunk);
}

multiversion! {
    fn add_chunk(x: &[bf16], y: &mut [bf16]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = round(y.wide() + x.wide());
        }
    }
}

/// `y += x`, of bf16 numbers.
///
/// # Panics
/// If the lengths differ.
pub fn add_halves(x: &[bf16], y: &mut [bf16]) {
    par::zip(x, y, add_chunk);
}
