//! Data sets that are ready to use.

mod digits;
mod folder;
mod idx;
mod list;
mod mnist;
mod pixels;
mod synthetic;
mod walk;

pub use digits::{Digits, DigitsSplit, SplitBy};
pub use folder::ImageFolder;
pub use mnist::{Mnist, MnistSplit};
pub use pixels::Pixels;
pub use synthetic::Synthetic;
