//! A checkpoint that somebody changed, with the hashes of what it holds now.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use crate::base::error::IoContext;
use crate::base::{Error, Result};
use crate::checkpoint;

/// Puts the lengths and hashes of the files in a checkpoint's directory into its manifest, after `change`, and seals it:
/// as whoever crafts a checkpoint would.
///
/// # Errors
/// When a file cannot be read or written.
pub fn reseal(home: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let file = home.join("manifest.json");
    let text = fs::read(&file).at(&file)?;
    let mut about: Value = serde_json::from_slice(&text).map_err(|e| Error::Other(e.into()))?;
    for (name, seal) in about.get_mut("files").and_then(Value::as_object_mut).into_iter().flatten() {
        let bytes = fs::read(home.join(name)).at(home)?;
        *seal = json!({"bytes": bytes.len(), "xxh3_128": format!("{:032x}", xxh3_128(&bytes))});
    }
    change(&mut about);
    fs::write(&file, checkpoint::sealed(about)?).at(&file)
}
