//! A process on the simulated machine: the file system as a run sees it.

use std::ffi::OsString;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use super::Machine;
use super::faults::{Act, Refused};
use super::machine::{Verdict, World};
use super::tree::{EINVAL, ENOSPC, Id, Node, os, parts};
use crate::base::fs::{Append, Entry, FileKind, FileSystem, Fill, Lock};

/// One process. When it has died, everything that it tries fails.
#[derive(Clone)]
pub struct Life {
    machine: Machine,
    id: u64,
}

impl Life {
    pub(super) fn new(machine: Machine, id: u64) -> Self {
        Self { machine, id }
    }

    /// Whether a crash ended it.
    pub fn is_dead(&self) -> bool {
        self.machine.world().is_dead(self.id)
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.machine.world().operations(self.id)
    }

    fn act<T>(
        &self,
        act: Act,
        path: &Path,
        run: impl FnOnce(&mut World, Verdict) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut world = self.machine.world();
        let verdict = world.judge(self.id, act, path)?;
        let done = run(&mut world, verdict);
        if world.is_onlooker(self.id) {
            return done;
        }
        let failed = match (&verdict, &done) {
            (Verdict::Go, Err(e)) => format!(": {e}"),
            (Verdict::Go, Ok(_)) => String::new(),
            _ => format!(": {verdict:?}"),
        };
        let errno = match (&verdict, &done) {
            (Verdict::Refused(_, errno), _) => Some(*errno),
            (Verdict::Go, Err(e)) => e.raw_os_error().filter(|errno| *errno == ENOSPC),
            _ => None,
        };
        world.refused.extend(errno.map(|errno| Refused { act, path: path.to_owned(), errno }));
        let number = world.operations(self.id);
        world.note(format_args!("{:>4} {number:>5} {act:?} {}{failed}", self.id, path.display()));
        world.outcome(self.id, verdict, done)
    }
}

/// An answer is given whole or not at all.
fn reading<T>(verdict: Verdict, done: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match verdict {
        Verdict::Go => done(),
        _ => Err(os(EINVAL)),
    }
}

impl FileSystem for Life {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.act(Act::Entry, path, |world, verdict| {
            reading(verdict, || match world.tree.find(path) {
                Ok(id) => Ok(Some(match &world.tree.nodes[id] {
                    Node::File(bytes) => Entry { kind: FileKind::File, len: bytes.now.len() as u64 },
                    Node::Dir(_) => Entry { kind: FileKind::Dir, len: 0 },
                    Node::Link(_) => Entry { kind: FileKind::Link, len: 0 },
                })),
                Err(_) => Ok(None),
            })
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.act(Act::List, dir, |world, verdict| reading(verdict, || world.tree.entries(dir)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.act(Act::Open, path, |world, verdict| {
            reading(verdict, || {
                let id = world.tree.find(path)?;
                match &world.tree.nodes[id] {
                    Node::File(bytes) => Ok(Box::new(Cursor::new(bytes.now.clone())) as Box<dyn Read + Send>),
                    _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")),
                }
            })
        })
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.act(Act::Canonical, path, |world, verdict| {
            reading(verdict, || {
                world.tree.find(path)?;
                Ok(Path::new("/").join(parts(path).into_iter().collect::<PathBuf>()))
            })
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.act(Act::CreateDir, path, |world, verdict| {
            let missing = world.tree.missing_dirs(path)?;
            missing[..verdict.steps(missing.len())].iter().try_for_each(|dir| world.tree.make_dir(dir))
        })
    }

    fn write_with(&self, path: &Path, len: u64, fill: Fill<'_>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        fill(&mut bytes)?;
        self.act(Act::Write, path, |world, verdict| {
            // Step 0 makes the file, the others write a byte each.
            let Some(count) = verdict.steps(bytes.len() + 1).checked_sub(1) else { return Ok(()) };
            let id = world.tree.open(path)?;
            world.tree.truncate(id, 0)?;
            world.tree.append(id, &bytes[..count])
        })
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        let file =
            self.act(
                Act::OpenLog,
                path,
                |world, verdict| {
                    if verdict.whole() { world.tree.open(path) } else { Ok(0) }
                },
            )?;
        Ok(Box::new(Log { life: self.clone(), path: path.to_owned(), file }))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.act(Act::Sync, path, |world, verdict| {
            let id = world.tree.find(path)?;
            match (verdict, &mut world.tree.nodes[id]) {
                // The system tells of an error once, and forgets what it could not write.
                (Verdict::Refused(..), Node::File(bytes)) => bytes.forget(),
                _ if verdict.whole() => world.tree.sync(id),
                _ => {}
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Act::Rename, from, |world, verdict| {
            world.note(format_args!("           -> {}", to.display()));
            if verdict.whole() { world.tree.rename(from, to) } else { Ok(()) }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.act(Act::Remove, path, |world, verdict| {
            let all = match world.tree.removal(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                all => all?,
            };
            all[..verdict.steps(all.len())].iter().try_for_each(|path| world.tree.unlink(path))
        })
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Box<dyn Lock>, String>> {
        let taken = self.act(Act::Lock, path, |world, verdict| {
            if !verdict.whole() {
                return Ok(Err(String::new()));
            }
            let id = world.tree.open(path)?;
            if world.locks.contains_key(&id) {
                world.tally.locked_out += 1;
                let text = String::from_utf8_lossy(&world.tree.file(id)?.now).trim().to_owned();
                return Ok(Err(text));
            }
            world.tree.truncate(id, 0)?;
            world.tree.append(id, format!("{holder}\n").as_bytes())?;
            world.locks.insert(id, self.id);
            Ok(Ok(id))
        })?;
        Ok(taken.map(|file| Box::new(Held { life: self.clone(), file }) as Box<dyn Lock>))
    }
}

/// A log on the simulated disk. It stays open when its file is renamed or removed.
struct Log {
    life: Life,
    path: PathBuf,
    file: Id,
}

impl Append for Log {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.life.act(Act::Append, &self.path, |world, verdict| {
            world.tree.append(self.file, &bytes[..verdict.steps(bytes.len())])
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.life.act(Act::Truncate, &self.path, |world, verdict| {
            let len = usize::try_from(len).map_err(|_| os(EINVAL))?;
            if verdict.whole() { world.tree.truncate(self.file, len) } else { Ok(()) }
        })
    }
}

/// A lock of a process that lives.
struct Held {
    life: Life,
    file: Id,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut world = self.life.machine.world();
        if world.locks.get(&self.file) == Some(&self.life.id) {
            world.locks.remove(&self.file);
        }
    }
}
