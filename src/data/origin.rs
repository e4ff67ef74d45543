//! Where a sample comes from, so that what is predicted for it can be put beside it.

use std::fmt;
use std::path::PathBuf;

/// Where a sample comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From no file: its position is all that it is known by.
    Position,
    /// It is this file.
    File(PathBuf),
    /// It is in a file.
    Row {
        /// The file, where it is one.
        file: Option<PathBuf>,
        /// What it is called in it.
        id: SampleId,
    },
}

impl Origin {
    /// What people call the sample, which stands at this position: `sample 3`, `cats/7.png`, `17 of houses.csv`.
    pub fn told(&self, position: usize) -> String {
        match self {
            Self::Position => format!("sample {position}"),
            Self::File(file) => file.display().to_string(),
            Self::Row { file: Some(file), id } => format!("{id} of {}", file.display()),
            Self::Row { file: None, id } => id.to_string(),
        }
    }
}

/// What a sample is called in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleId {
    /// The number of its row, from 0.
    Row(u64),
    /// What a column of names says of this row.
    Name {
        /// The name.
        name: String,
        /// The number of its row, from 0.
        row: u64,
    },
}

impl SampleId {
    /// The number of its row, from 0.
    pub fn row(&self) -> u64 {
        match self {
            Self::Row(row) | Self::Name { row, .. } => *row,
        }
    }
}

impl fmt::Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(row) => row.fmt(f),
            Self::Name { name, .. } => name.fmt(f),
        }
    }
}
