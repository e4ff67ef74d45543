//! The text log of one run: its own file, and the `log` crate for whoever listens there.

use std::fmt::{self, Arguments, Display};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use log::Level;

use crate::base::WallClock;
use crate::base::error::{IoContext, Result};
use crate::base::escape::escaped_lines;
use crate::base::fs::{Append, FileSystem};

/// Writes lines of MMEngine's layout: `2026/11/25 03:00:00 - shanty - INFO - message`.
pub struct RunLog {
    file: Option<LogFile>,
    wall: WallClock,
    level: Level,
    /// Nobody is to see it.
    silent: bool,
    /// The warnings and errors, each once, and how often it came.
    warned: Mutex<Vec<(String, u64)>>,
    /// Warnings that the event log is yet to hear.
    untold: Mutex<Vec<String>>,
}

struct LogFile {
    path: PathBuf,
    end: Mutex<Box<dyn Append>>,
    /// Whether a line of it was lost, which is told once.
    has_gap: AtomicBool,
}

/// The target of a line that only this process can tell: a command shows it also where another process speaks for all.
pub(crate) const OWN: &str = "shanty::own";

/// Different warnings that are kept.
const KEPT: usize = 100;

impl Default for RunLog {
    fn default() -> Self {
        Self {
            file: None,
            wall: WallClock::default(),
            level: Level::Info,
            silent: false,
            warned: Mutex::default(),
            untold: Mutex::default(),
        }
    }
}

impl RunLog {
    /// A log that appends to this file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn to_file(fs: &dyn FileSystem, path: &Path, level: Level, wall: WallClock) -> Result<Self> {
        let end = Mutex::new(fs.append(path).at(path)?);
        let file = LogFile { path: path.to_owned(), end, has_gap: AtomicBool::new(false) };
        Ok(Self { file: Some(file), wall, level, ..Self::default() })
    }

    /// A log that writes nothing and keeps its warnings.
    pub(crate) fn capturing() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// The warnings and errors so far, each once, with how often it came.
    pub fn warnings(&self) -> Vec<(String, u64)> {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The warnings since this was asked last.
    pub(crate) fn take_untold(&self) -> Vec<String> {
        std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A line of news.
    pub fn info(&self, text: impl Display) {
        self.line(Level::Info, format_args!("{text}"));
    }

    /// Something the user should know but the run survives. The same words are told once.
    pub fn warn(&self, text: impl Display) {
        let text = text.to_string();
        if self.is_news(&text) {
            self.line(Level::Warn, format_args!("{text}"));
        }
    }

    fn is_news(&self, text: &str) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, times)) = warned.iter_mut().find(|(told, _)| told == text) {
            *times += 1;
            return false;
        }
        if warned.len() < KEPT {
            warned.push((text.to_owned(), 1));
        }
        true
    }

    /// Something that failed.
    pub fn error(&self, text: impl Display) {
        let text = text.to_string();
        self.is_news(&text);
        self.line(Level::Error, format_args!("{text}"));
    }

    /// What only the file should tell: the whole config, who initialised what.
    pub fn detail(&self, text: impl Display) {
        if self.silent {
            return;
        }
        log::debug!(target: "shanty", "{text}");
        self.write(Level::Info, format_args!("{text}"));
    }

    fn line(&self, level: Level, text: Arguments<'_>) {
        if self.silent {
            return;
        }
        log::log!(target: "shanty", level, "{text}");
        self.write(level, text);
        if level == Level::Warn {
            self.untold.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_string());
        }
    }

    fn write(&self, level: Level, text: Arguments<'_>) {
        if level > self.level {
            return;
        }
        if let Some(file) = &self.file {
            let name = if level == Level::Warn { "WARNING" } else { level.as_str() };
            let now = self.wall.format("%Y/%m/%d %H:%M:%S");
            let text = text.to_string();
            let text = escaped_lines(&text);
            let line = format!("{now} - shanty - {name} - {text}\n");
            let written = file.end.lock().unwrap_or_else(PoisonError::into_inner).append(line.as_bytes());
            // A full disk must not end the training because of its log.
            if let Err(why) = written
                && !file.has_gap.swap(true, Relaxed)
            {
                let path = file.path.display();
                log::error!(target: OWN, "lines of the log {path} are lost ({why}); the run goes on without them");
            }
        }
    }
}

impl fmt::Debug for RunLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunLog(from {})", self.level)
    }
}
