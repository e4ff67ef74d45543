//! Data sets that are ready to use.

mod digits;
mod idx;
mod mnist;
mod pixels;
mod synthetic;

pub use digits::{Digits, DigitsSplit, SplitBy};
pub use mnist::{Mnist, MnistSplit};
pub use pixels::Pixels;
pub use synthetic::Synthetic;
