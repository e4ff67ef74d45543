//! Data sets that are ready to use.

mod arrays;
mod concat;
mod csv;
mod digits;
mod folder;
mod idx;
mod list;
mod mnist;
mod pixels;
mod repeat;
mod split;
mod subset;
mod synthetic;
mod tasks;
mod text;
mod walk;

pub use arrays::{ArrayData, ArrayDataset};
pub use concat::ConcatDataset;
pub use csv::{Csv, CsvConfig, Delimiter, Encoding, Missing, Part, Split, Unknown};
pub use digits::{Digits, DigitsSplit, SplitBy};
pub use folder::ImageFolder;
pub use mnist::{Mnist, MnistSplit};
pub use pixels::Pixels;
pub use repeat::RepeatDataset;
pub use subset::Subset;
pub use synthetic::Synthetic;
pub use tasks::{SyntheticTask, Task};
pub use text::{Level, TextConfig, TextLines};
