//! What runs write, told by where it stands and how it begins: no output of a command goes there.

use std::path::Path;

use super::POINTER;
use super::obstacles::checkpoint_around;
use super::owned::Folder;
use super::owner::OWNER_FILE;
use crate::base::durable::{self, TEMPORARY};
use crate::base::fs::{Disk, FileSystem};

/// The first line of a dumped config: what lacks it was written by someone else.
pub const DUMP: &str =
    "# The resolved config of a run, written by shanty; the next start of the run replaces it.\n";

/// The folder of scalars, tables and the config, in that of a run's logs.
pub const VIS_DATA: &str = "vis_data";

/// Whether a file of this path would be a run's: in a checkpoint, whose files are sealed, in a folder of logs, where
/// hooks write what they like, under a name that runs give, also one that they are yet to give, or in place of a dumped
/// config.
pub fn is_of_a_run(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    // Of a bare name the folder is `.`.
    let home = durable::parent(path);
    let home = Disk.canonical(home).unwrap_or_else(|_| home.to_owned());
    let is_dump =
        || durable::read_begin(&Disk, path, DUMP.len() as u64).is_ok_and(|begin| begin == DUMP.as_bytes());
    name == POINTER
        || name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
        || checkpoint_around(&Disk, &home).is_some()
        || home.ancestors().any(is_log_folder)
        || is_to_come(&home, &name.to_string_lossy())
        || is_dump()
}

/// Whether a checkpoint may be saved there under this name: in a folder of a run, but for its number it is like one that
/// is there, or as names are if nothing else is asked for.
fn is_to_come(home: &Path, name: &str) -> bool {
    let saved = Folder::new(&Disk, home).checkpoints().unwrap_or_default();
    let is_runs = !saved.is_empty() || Disk.entry(&home.join(OWNER_FILE)).is_ok_and(|entry| entry.is_some());
    let numberless = |name: &str| {
        let texts = name.split(|c: char| c.is_ascii_digit()).filter(|text| !text.is_empty());
        (texts.map(str::to_owned).collect::<Vec<_>>(), name.bytes().any(|byte| byte.is_ascii_digit()))
    };
    let usual = ["epoch_1", "iter_1", "emergency_iter_1", "epoch_1-1", "iter_1-1"];
    let is_best = name.starts_with("best_") && ["_epoch_", "_iter_"].iter().any(|at| name.contains(at));
    let names = saved.iter().map(|listed| &*listed.name).chain(usual);
    is_runs && (is_best || names.into_iter().any(|own| numberless(own) == numberless(name)))
}

/// Why a file of a run's own, named by its config, is not written at `path`: it cannot be, or what stands there does not
/// begin as such a file does. `what` it is: a trace, say.
pub fn not_ours(path: &Path, begin: &[u8], what: &str) -> Option<String> {
    not_own(path, |own| own.starts_with(begin), what)
}

/// The same of a file whose first bytes are known by another mark than how they begin.
pub fn not_own(path: &Path, is_own: impl Fn(&[u8]) -> bool, what: &str) -> Option<String> {
    /// No mark lies further behind.
    const BEGIN: u64 = 256;
    let about = std::fs::symlink_metadata(path);
    let is_ours = || durable::read_begin(&Disk, path, BEGIN).is_ok_and(|begin| is_own(&begin));
    if path.as_os_str().is_empty() {
        Some("is empty: name a file".into())
    } else if path.is_dir() {
        Some("is a folder: name a file in it".into())
    } else if about.as_ref().is_ok_and(|about| !about.is_file()) {
        Some("is no plain file, and is not replaced by one: name another".into())
    } else if about.is_ok() && !is_ours() {
        Some(format!("is there already and is no {what} of shanty's: name another file, or move it away"))
    } else if is_of_a_run(path) {
        Some("has the name of a file of a run: name another".into())
    } else {
        durable::unwritable(path).map(|why| format!("cannot be written: {why}"))
    }
}

/// Whether it is `work_dir/20261126_101500`, or the second of one instant: `20261126_101500_2`.
fn is_log_folder(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let parts: Vec<_> = name.split('_').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_stamp = matches!(&parts[..], [day, time] | [day, time, _] if (day.len(), time.len()) == (8, 6));
    is_stamp && parts.iter().all(is_number) && dir.join(VIS_DATA).is_dir()
}
