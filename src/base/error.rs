//! The error type of the library, and the exit code each kind of failure has at the command line.

use std::path::{Path, PathBuf};

/// What a hook, a model or a data set may return: any error, so that every `?` works.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by who has to act.
#[derive(thiserror::Error)]
pub enum Error {
    /// The configuration or the command line is wrong. Holds the rendered or structured diagnostics.
    #[error("{0}")]
    Config(BoxError),
    /// A call broke the contract of an API: shapes that do not fit, a target outside the classes, …
    #[error("{0}")]
    Invalid(String),
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path that was read or written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What the run needs is not on this machine: a folder of data, say.
    #[error("{}: {what}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What is missing, and the remedy.
        what: String,
    },
    /// A checkpoint is missing, damaged or does not fit the model.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint's directory or file.
        path: PathBuf,
        /// Why it was refused.
        reason: String,
    },
    /// The processes of a run have come apart: one is gone, late, or does something else.
    #[error("{0}")]
    Comm(String),
    /// A hook or the model failed in the middle of a run.
    #[error("{who} in {point}, epoch {epoch}, iteration {iter}: {source}")]
    Run {
        /// ``hook `name` `` or `the model`.
        who: String,
        /// The lifecycle point.
        point: &'static str,
        /// Completed epochs.
        epoch: u64,
        /// Completed iterations.
        iter: u64,
        /// What it returned, or the text of its panic.
        source: BoxError,
    },
    /// Any other error, passed on.
    #[error(transparent)]
    Other(BoxError),
}

/// As `Display`: a program whose `main` returns an error shows what the command line would show.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// An [`Error::Invalid`] with this text.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// An [`Error::Config`] with this text; for mistakes that have no place in a file.
    pub fn config(text: impl Into<String>) -> Self {
        Self::Config(text.into().into())
    }

    /// An [`Error::Checkpoint`].
    pub fn checkpoint(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// Whether it says that something is not there which another machine may have: a check only warns then.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Checkpoint { path, .. } => !path.exists(),
            _ => false,
        }
    }

    /// Whether the system refused: that says nothing of what is there. Something else in the place of a file, a folder
    /// or a pipe, is no such refusal.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.raw_os_error().is_some())
    }

    /// The exit code of a process that ends with this error: 2 for a wrong config, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            _ => 1,
        }
    }
}

impl From<BoxError> for Error {
    fn from(source: BoxError) -> Self {
        match source.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => Self::Other(other),
        }
    }
}

/// Names the path in an I/O error.
pub trait IoContext<T> {
    /// Turns the `io::Error` into [`Error::Io`] with this path.
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.as_ref().to_owned(), source })
    }
}
