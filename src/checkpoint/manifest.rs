//! `manifest.json`: what a checkpoint consists of, and whose it is. It is written last.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::base::durable;
use crate::base::error::IoContext;
use crate::base::fs::FileSystem;
use crate::base::{Error, Result};

pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// Bytes of a manifest: it names a handful of files.
const LONGEST: u64 = 1 << 20;

/// The version of the manifest: one that names none is older, and has no seal.
pub(super) const FORMAT: u32 = 1;

/// Where the hash of all the rest stands.
const SEAL: &str = "seal";

/// `manifest.json`, without its seal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(default)]
    pub format: u32,
    /// The run that wrote it.
    #[serde(default)]
    pub run: String,
    /// The work_dir of that run, by the name in its `.shanty-run.json`: a folder elsewhere may hold those of several.
    #[serde(default)]
    pub home: String,
    /// The way to that work_dir from the folder elsewhere that holds the checkpoint; empty in the work_dir itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub work_dir: String,
    /// The name of its directory when it was written: under another one it is somebody's copy.
    #[serde(default)]
    pub name: String,
    /// Checkpoints of one series replace each other: `epoch_{}`, `best_loss`, `emergency`.
    #[serde(default)]
    pub series: String,
    /// Completed iterations: which of two checkpoints is newer.
    pub iter: u64,
    /// Whether a run can be resumed from it.
    pub resumable: bool,
    pub files: BTreeMap<String, FileSeal>,
}

/// Whose a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whose<'a> {
    pub run: &'a str,
    /// What its work_dir is called; `None` in the work_dir itself, where all are its own.
    pub home: Option<&'a str>,
}

/// Length and hash of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSeal {
    pub bytes: u64,
    pub xxh3_128: String,
}

impl FileSeal {
    pub fn new(bytes: u64, hash: u128) -> Self {
        Self { bytes, xxh3_128: format!("{hash:032x}") }
    }
}

impl Manifest {
    /// Reads the manifest of a directory.
    pub fn read(fs: &dyn FileSystem, home: &Path) -> Result<Self> {
        let file = home.join(MANIFEST_FILE);
        if fs.entry(&file).at(&file)?.is_none() {
            let reason =
                format!("it has no `{MANIFEST_FILE}`: its save did not end, or the file was deleted");
            return Err(Error::checkpoint(home, reason));
        }
        let unreadable = |e: &dyn std::fmt::Display| {
            Error::checkpoint(home, format!("`{MANIFEST_FILE}` cannot be read: {e}"))
        };
        let bytes = durable::read_plain(fs, &file, LONGEST).map_err(|e| unreadable(&e))?;
        Self::parse(&bytes).map_err(|why| unreadable(&why))
    }

    /// Believes what is sealed as it stands.
    fn parse(text: &[u8]) -> Result<Self, String> {
        let mut about: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        let seal = about.as_object_mut().and_then(|all| all.remove(SEAL));
        let manifest = Self::deserialize(&about).map_err(|e| e.to_string())?;
        let older = manifest.format == 0 && seal.is_none();
        if older || seal == Some(seal_of(about).into()) {
            return Ok(manifest);
        }
        Err("it is damaged: its seal is not that of what it says".into())
    }

    /// Its text, sealed.
    pub fn text(&self) -> Result<Vec<u8>> {
        sealed(serde_json::to_value(self).map_err(|e| Error::Other(e.into()))?)
    }

    /// The manifest of a directory; none where there is none that can be understood.
    ///
    /// # Errors
    /// When the disk refuses: that says nothing of whose the checkpoint is.
    pub fn look(fs: &dyn FileSystem, home: &Path) -> Result<Option<Self>> {
        let file = home.join(MANIFEST_FILE);
        if fs.entry(&file).at(&file)?.is_none() {
            return Ok(None);
        }
        match durable::read_plain(fs, &file, LONGEST) {
            Ok(bytes) => Ok(Self::parse(&bytes).ok()),
            Err(refused) if refused.is_refusal() => Err(refused),
            Err(_) => Ok(None),
        }
    }

    /// Whether it was written in this run, for this work_dir: a run that was taken up in another one goes on in both.
    pub fn is_of(&self, whose: Whose<'_>) -> bool {
        self.run == whose.run && whose.home.is_none_or(|home| self.is_at_home(home))
    }

    /// Whether it was written for this work_dir. Older ones do not say; a program that commits by itself has none.
    pub fn is_at_home(&self, home: &str) -> bool {
        self.home == home || self.home.is_empty()
    }

    /// Refuses a copy, and what was renamed: shanty saved it under another name, so that it is no longer shanty's to
    /// delete.
    pub fn bears_its_name(&self, home: &Path) -> Result<()> {
        self.is_called(home.file_name().unwrap_or_default(), home)
    }

    /// The same of what has another name for a while.
    pub fn is_called(&self, name: &OsStr, home: &Path) -> Result<()> {
        if name == self.name.as_str() {
            return Ok(());
        }
        let saved_as = match self.name.as_str() {
            "" => "its manifest does not say under which name shanty saved it".to_owned(),
            name => format!("it is a copy, or was renamed: shanty saved it as `{}`", name.escape_debug()),
        };
        Err(Error::checkpoint(home, format!("{saved_as}: move it away")))
    }
}

/// The text of a manifest that says this, with its seal.
pub(crate) fn sealed(mut about: Value) -> Result<Vec<u8>> {
    if let Some(all) = about.as_object_mut() {
        all.remove(SEAL);
        all.insert(SEAL.into(), seal_of(Value::Object(all.clone())).into());
    }
    serde_json::to_vec_pretty(&about).map_err(|e| Error::Other(e.into()))
}

/// The hash of all that it says, whatever the order and the spaces of the text.
fn seal_of(mut about: Value) -> String {
    about.sort_all_objects();
    format!("{:032x}", xxh3_128(about.to_string().as_bytes()))
}
