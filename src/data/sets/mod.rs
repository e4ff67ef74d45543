//! Data sets that are ready to use.

mod arrays;
mod cifar;
mod class_balanced;
mod concat;
mod csv;
mod digits;
mod folder;
mod idx;
mod k_fold;
mod keys;
mod mnist;
mod pixels;
mod repeat;
mod shards;
mod smote;
mod split;
mod subset;
mod synthetic;
mod tasks;
mod text;

pub use arrays::{ArrayData, ArrayDataset};
pub use cifar::{Cifar, CifarSplit};
pub use concat::ConcatDataset;
pub use csv::{Csv, CsvConfig, Delimiter, Encoding, Missing, Part, Split, Unknown};
pub use digits::{Digits, DigitsSplit, SplitBy};
pub use folder::ImageFolder;
pub use mnist::{Mnist, MnistSplit};
pub use pixels::Pixels;
pub use repeat::RepeatDataset;
pub use shards::WebDataset;
pub use smote::Smote;
pub use subset::Subset;
pub use synthetic::Synthetic;
pub use tasks::{SyntheticTask, Task};
pub use text::{Level, TextConfig, TextLines};
