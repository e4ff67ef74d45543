//! A folder of pictures that were decoded before, a file each, for any number of runs at a time.
//!
//! Files are written beside their place and renamed, so that nobody meets half of one, and carry a checksum and the key
//! of their picture, so that nobody trusts one that is damaged. They are read and not mapped: a mapping of a file that
//! somebody cuts off ends the process. How many bytes there are stands in a file that is locked while it changes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use xxhash_rust::xxh3::Xxh3;

use super::{Picture, PictureFile};
use crate::base::durable::{sibling, stands_for};
use crate::base::error::IoContext;
use crate::base::memory::human;
use crate::base::{Error, Result};

/// The folder, and how much may be in it.
pub(super) struct PictureCache {
    folder: PathBuf,
    most: u64,
    /// Whether nothing may be written: a check leaves the disk as it is.
    looks: bool,
    /// The file with the number of bytes, once it was needed.
    ledger: Mutex<Option<File>>,
    /// Nothing is stored any more, which was told.
    closed: AtomicBool,
    /// A damaged file was told.
    told: AtomicBool,
}

/// What files of the cache end in, and the ledger.
const ENDING: &str = ".picture";
const LEDGER: &str = ".shanty-picture-cache";

impl PictureCache {
    /// The pictures in a folder, which is made when the first one is stored.
    pub(super) fn new(folder: PathBuf, most: u64, looks: bool) -> Self {
        Self { folder, most, looks, ledger: Mutex::default(), closed: false.into(), told: false.into() }
    }

    /// The key of what `made` makes of a picture file as it is now; none of a file that cannot be looked at.
    pub(super) fn key(file: &PictureFile, made: &str) -> Option<u128> {
        let about = fs::metadata(&file.path).ok()?;
        let path = std::path::absolute(&file.path).ok()?;
        let mut key = Xxh3::new();
        let mut part = |bytes: &[u8]| {
            key.update(&(bytes.len() as u64).to_le_bytes());
            key.update(bytes);
        };
        part(path.as_os_str().as_encoded_bytes());
        part(&about.len().to_le_bytes());
        let modified = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        part(&modified.as_nanos().to_le_bytes());
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            // Whoever sets the time of a change back changes this one.
            part(&about.ctime().to_le_bytes());
            part(&about.ctime_nsec().to_le_bytes());
        }
        if let Some(member) = &file.member {
            part(&member.offset.to_le_bytes());
            part(&member.len.to_le_bytes());
        }
        part(format!("{:?} {} {} {}", file.colors, file.turn, file.unchanged, file.max_pixels).as_bytes());
        part(made.as_bytes());
        part(env!("CARGO_PKG_VERSION").as_bytes());
        Some(key.digest128())
    }

    fn place(&self, key: u128) -> PathBuf {
        let name = format!("{key:032x}");
        self.folder.join(&name[..2]).join(name + ENDING)
    }

    /// The picture of a key, if it is there and whole.
    pub(super) fn get(&self, key: u128) -> Option<Picture> {
        let place = self.place(key);
        // Neither a link nor a pipe is the cache's own.
        let about = fs::symlink_metadata(&place).ok().filter(fs::Metadata::is_file)?;
        let read = || {
            let mut bytes = Vec::new();
            File::open(&place)?.take(self.most.min(about.len())).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        let found = read().ok().and_then(|bytes| Picture::of_kept(&bytes, key));
        if found.is_none() && !self.told.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: a damaged file of the picture cache is not used: its picture is decoded anew",
                place.display()
            );
        }
        found
    }

    /// Keeps a picture that is decoded, if there is room for it. What goes wrong ends the keeping, and not the run.
    pub(super) fn put(&self, key: u128, picture: &mut Picture) {
        if self.looks || self.closed.load(Ordering::Relaxed) {
            return;
        }
        let Some(file) = picture.kept(key) else { return };
        let folder = self.folder.display();
        match self.store(key, &file) {
            Ok(true) => {}
            Ok(false) if self.close() => log::info!(
                "the picture cache in {folder} has reached {}: what is not in it is decoded anew each time",
                human(self.most as f64)
            ),
            Err(error) if self.close() => {
                log::warn!("the picture cache in {folder} keeps nothing more: {error}");
            }
            _ => {}
        }
    }

    /// Whether this closed it.
    fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::Relaxed)
    }

    /// Writes a file, if there is room for it.
    fn store(&self, key: u128, bytes: &[u8]) -> Result<bool> {
        let place = self.place(key);
        let Some(temporary) = self.reserve(&place, bytes.len() as u64)? else { return Ok(true) };
        let Some(mut file) = temporary else { return Ok(false) };
        let beside = sibling(&place, "tmp");
        let written = file.write_all(bytes).and_then(|()| fs::rename(&beside, &place)).at(&place);
        if written.is_err() {
            let _ = fs::remove_file(&beside);
            self.booked(|used| Ok((used.saturating_sub(bytes.len() as u64), ())))?;
        }
        written.map(|()| true)
    }

    /// The file beside `place` in which it is to be written, as long as it will be, so that whoever counts counts it.
    /// `Some(None)` where there is no room for it; `None` where it is not to be written: somebody else is about it, or
    /// what is there is not the cache's own.
    fn reserve(&self, place: &Path, len: u64) -> Result<Option<Option<File>>> {
        self.booked(|used| {
            let there = match fs::symlink_metadata(place) {
                Ok(about) if about.is_file() => about.len(),
                Ok(_) => return Ok((used, None)),
                Err(_) => 0,
            };
            let after = used.saturating_sub(there).saturating_add(len);
            if after > self.most {
                return Ok((used, Some(None)));
            }
            let beside = sibling(place, "tmp");
            if let Some(folder) = place.parent() {
                // A link leads to what is somebody else's.
                if fs::symlink_metadata(folder).is_ok_and(|about| !about.is_dir()) {
                    return Ok((used, None));
                }
                fs::create_dir_all(folder).at(folder)?;
            }
            let file = match OpenOptions::new().write(true).create_new(true).open(&beside) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok((used, None)),
                opened => opened.at(&beside)?,
            };
            // Held until it is written: one that nobody holds was left by a run that died.
            file.lock().and_then(|()| file.set_len(len)).at(&beside)?;
            Ok((after, Some(Some(file))))
        })
    }

    /// Changes the number of bytes in the folder while nobody else does.
    fn booked<T>(&self, change: impl FnOnce(u64) -> Result<(u64, T)>) -> Result<T> {
        let path = self.folder.join(LEDGER);
        let mut held = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = held.is_none();
        if fresh {
            *held = Some(self.opened(&path)?);
        }
        let Some(mut ledger) = held.as_ref() else { return Err(Error::invalid("the ledger is not open")) };
        ledger.lock().at(&path)?;
        let done = (|| -> Result<T> {
            let mut text = String::new();
            ledger.rewind().at(&path)?;
            let known = ledger.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            // Whoever comes anew counts anew: runs die, and people delete files.
            let used = match known.filter(|_| !fresh) {
                Some(used) => used,
                None => self.counted(),
            };
            let (after, given) = change(used)?;
            if fresh || after != used {
                ledger.rewind().and_then(|()| ledger.set_len(0)).at(&path)?;
                ledger.write_all(after.to_string().as_bytes()).at(&path)?;
            }
            Ok(given)
        })();
        ledger.unlock().at(&path)?;
        done
    }

    fn opened(&self, path: &Path) -> Result<File> {
        fs::create_dir_all(&self.folder).at(&self.folder)?;
        if fs::symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
            return Err(Error::invalid(format!("{}: it is no plain file: move it away", path.display())));
        }
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).at(path)
    }

    /// The bytes of all files of the cache. What runs that died have left half written goes.
    fn counted(&self) -> u64 {
        let mut all = 0u64;
        for folder in entries(&self.folder).filter(|(name, kind)| kind.is_dir() && is_hex(name, 2)) {
            for (name, _) in entries(&self.folder.join(&folder.0)).filter(|(_, kind)| kind.is_file()) {
                let path = self.folder.join(&folder.0).join(&name);
                let half = stands_for(&name).is_some_and(|(what, name)| what == "tmp" && is_own(name));
                if half && is_left(&path) && fs::remove_file(&path).is_ok() {
                    continue;
                }
                if half || is_own(&name) {
                    all = all.saturating_add(fs::symlink_metadata(&path).map_or(0, |about| about.len()));
                }
            }
        }
        all
    }
}

/// Names and kinds of what is in a folder; of names that are no text none is the cache's.
fn entries(folder: &Path) -> impl Iterator<Item = (String, fs::FileType)> + use<> {
    let all = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    all.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.file_type().ok()?)))
}

fn is_own(name: &str) -> bool {
    name.strip_suffix(ENDING).is_some_and(|name| is_hex(name, 32))
}

fn is_hex(name: &str, len: usize) -> bool {
    name.len() == len && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether nobody writes this file any more.
fn is_left(path: &Path) -> bool {
    let tried = File::open(path).map(|file| file.try_lock());
    tried.is_ok_and(|locked| !matches!(locked, Err(TryLockError::WouldBlock)))
}
