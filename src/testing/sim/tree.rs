//! Files and directories in memory, each in two states: what processes see, and what would be there after a power
//! failure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Bytes that a disk writes at once.
pub(super) const SECTOR: usize = 512;
/// What a directory entry costs of the disk's capacity.
const ENTRY: u64 = 64;
const ROOT: Id = 0;

/// A file, directory or link, whatever its names are.
pub(super) type Id = usize;

// The numbers of Linux and macOS are the same for these, except the last two.
const ENOENT: i32 = 2;
pub(super) const EIO: i32 = 5;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
pub(super) const EINVAL: i32 = 22;
pub(super) const ENOSPC: i32 = 28;
const ENOTEMPTY: i32 = if cfg!(target_os = "linux") { 39 } else { 66 };

pub(super) fn os(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Bytes),
    Dir(Names),
    Link(PathBuf),
}

/// The bytes of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Bytes {
    pub now: Vec<u8>,
    /// As the disk has them.
    pub safe: Vec<u8>,
    /// Sectors of which the disk may or may not have the newest.
    pub dirty: BTreeSet<usize>,
    pub resized: bool,
    /// The shortest that it was since then.
    pub shortest: usize,
}

impl Bytes {
    fn append(&mut self, bytes: &[u8]) {
        let begin = self.now.len();
        self.now.extend_from_slice(bytes);
        self.touch(begin, self.now.len());
    }

    fn truncate(&mut self, len: usize) {
        let old = self.now.len();
        self.now.resize(len, 0);
        self.touch(len.min(old), len.max(old));
        self.shortest = self.shortest.min(len);
    }

    fn touch(&mut self, begin: usize, end: usize) {
        self.dirty.extend(begin / SECTOR..end.div_ceil(SECTOR));
        self.resized = true;
    }

    pub fn sync(&mut self) {
        let len = if self.resized { self.now.len() } else { self.safe.len() };
        self.safe.resize(len, 0);
        for sector in &self.dirty {
            let end = (sector * SECTOR + SECTOR).min(len).min(self.now.len());
            let begin = (sector * SECTOR).min(end);
            self.safe[begin..end].copy_from_slice(&self.now[begin..end]);
        }
        self.forget();
    }

    /// What a sync that fails does: the pages count as clean, and no later sync writes them.
    pub fn forget(&mut self) {
        self.dirty.clear();
        self.resized = false;
        self.shortest = self.safe.len().min(self.now.len());
    }
}

/// The entries of a directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub now: BTreeMap<OsString, Id>,
    pub safe: BTreeMap<OsString, Id>,
}

/// Entries that change together: all of them are durable, or none.
#[derive(Debug, Clone)]
pub(super) struct Change(pub Vec<(Id, OsString, Option<Id>)>);

impl Change {
    fn shares_a_name(&self, other: &Self) -> bool {
        self.0.iter().any(|(d, n, _)| other.0.iter().any(|(e, m, _)| (d, n) == (e, m)))
    }
}

/// The whole file system.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    /// Changes of directories that are not durable, oldest first.
    pub pending: VecDeque<Change>,
    pub used: u64,
    pub capacity: u64,
}

/// The names on the way from the root to a path.
pub(super) fn parts(path: &Path) -> Vec<&OsStr> {
    let mut all = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => all.push(name),
            Component::ParentDir => drop(all.pop()),
            _ => {}
        }
    }
    all
}

impl Tree {
    pub fn new() -> Self {
        let root = Node::Dir(Names::default());
        Self { nodes: vec![root], pending: VecDeque::new(), used: 0, capacity: u64::MAX }
    }

    fn names(&self, dir: Id) -> io::Result<&Names> {
        match &self.nodes[dir] {
            Node::Dir(names) => Ok(names),
            _ => Err(os(ENOTDIR)),
        }
    }

    fn walk(&self, parts: &[&OsStr]) -> io::Result<Id> {
        parts
            .iter()
            .try_fold(ROOT, |at, name| self.names(at)?.now.get(*name).copied().ok_or_else(|| os(ENOENT)))
    }

    pub fn find(&self, path: &Path) -> io::Result<Id> {
        self.walk(&parts(path))
    }

    /// The directory that holds a path, and the name in it.
    fn place(&self, path: &Path) -> io::Result<(Id, OsString)> {
        let mut parts = parts(path);
        let name = parts.pop().ok_or_else(|| os(EISDIR))?;
        let dir = self.walk(&parts)?;
        self.names(dir)?;
        Ok((dir, name.to_owned()))
    }

    fn at(&self, (dir, name): &(Id, OsString)) -> Option<Id> {
        self.names(*dir).ok()?.now.get(name).copied()
    }

    pub fn entries(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.names(self.find(path)?)?.now.keys().cloned().collect())
    }

    pub fn file(&mut self, id: Id) -> io::Result<&mut Bytes> {
        match &mut self.nodes[id] {
            Node::File(bytes) => Ok(bytes),
            Node::Dir(_) => Err(os(EISDIR)),
            Node::Link(_) => Err(os(EINVAL)),
        }
    }

    /// Bytes that still fit, of this many.
    fn room(&self, wanted: usize) -> usize {
        wanted.min(usize::try_from(self.capacity.saturating_sub(self.used)).unwrap_or(usize::MAX))
    }

    fn change(&mut self, change: Change) {
        for (dir, name, to) in &change.0 {
            if let Node::Dir(names) = &mut self.nodes[*dir] {
                match to {
                    Some(id) => names.now.insert(name.clone(), *id),
                    None => names.now.remove(name),
                };
            }
        }
        self.pending.push_back(change);
    }

    fn add(&mut self, (dir, name): (Id, OsString), node: Node) -> io::Result<Id> {
        if self.used + ENTRY > self.capacity {
            return Err(os(ENOSPC));
        }
        self.used += ENTRY;
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.change(Change(vec![(dir, name, Some(id))]));
        Ok(id)
    }

    /// The directories that are missing on the way to a path, outermost first.
    pub fn missing_dirs(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let parts = parts(path);
        let mut missing = Vec::new();
        for n in 1..=parts.len() {
            match self.walk(&parts[..n]) {
                Ok(id) if n == parts.len() => drop(self.names(id).map_err(|_| os(EEXIST))?),
                Ok(id) => drop(self.names(id)?),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    missing.push(Path::new("/").join(parts[..n].iter().collect::<PathBuf>()));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(missing)
    }

    pub fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        self.add(place, Node::Dir(Names::default())).map(drop)
    }

    pub fn make_link(&mut self, path: &Path, to: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        self.add(place, Node::Link(to.to_owned())).map(drop)
    }

    /// Opens a file for writing; it is made if it is not there.
    pub fn open(&mut self, path: &Path) -> io::Result<Id> {
        let place = self.place(path)?;
        match self.at(&place) {
            Some(id) => self.file(id).map(|_| id),
            None => self.add(place, Node::File(Bytes::default())),
        }
    }

    pub fn append(&mut self, id: Id, bytes: &[u8]) -> io::Result<()> {
        let room = self.room(bytes.len());
        self.file(id)?.append(&bytes[..room]);
        self.used += room as u64;
        if room < bytes.len() { Err(os(ENOSPC)) } else { Ok(()) }
    }

    pub fn truncate(&mut self, id: Id, len: usize) -> io::Result<()> {
        let file = self.file(id)?;
        let old = file.now.len();
        file.truncate(len);
        self.used = (self.used + len as u64).saturating_sub(old as u64);
        Ok(())
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_place, to_place) = (self.place(from)?, self.place(to)?);
        let id = self.at(&from_place).ok_or_else(|| os(ENOENT))?;
        if parts(to).starts_with(&parts(from)) && parts(to).len() > parts(from).len() {
            return Err(os(EINVAL));
        }
        if let Some(target) = self.at(&to_place) {
            if target == id {
                return Ok(());
            }
            if parts(from).starts_with(&parts(to)) {
                return Err(os(ENOTEMPTY));
            }
            match (&self.nodes[id], &self.nodes[target]) {
                (Node::Dir(_), Node::Dir(names)) if !names.now.is_empty() => return Err(os(ENOTEMPTY)),
                (Node::Dir(_), Node::Dir(_)) => {}
                (Node::Dir(_), _) => return Err(os(ENOTDIR)),
                (_, Node::Dir(_)) => return Err(os(EISDIR)),
                _ => {}
            }
            self.release(target);
        }
        let (to_dir, to_name) = to_place;
        self.change(Change(vec![(from_place.0, from_place.1, None), (to_dir, to_name, Some(id))]));
        Ok(())
    }

    /// What has to be unlinked, in order, to remove a path.
    pub fn removal(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        if let Node::Dir(names) = &self.nodes[self.find(path)?] {
            for name in names.now.keys() {
                all.extend(self.removal(&path.join(name))?);
            }
        }
        all.push(path.to_owned());
        Ok(all)
    }

    pub fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        if let Some(id) = self.at(&(dir, name.clone())) {
            self.release(id);
            self.change(Change(vec![(dir, name, None)]));
        }
        Ok(())
    }

    fn release(&mut self, id: Id) {
        let bytes = if let Node::File(bytes) = &self.nodes[id] { bytes.now.len() as u64 } else { 0 };
        self.used = self.used.saturating_sub(bytes + ENTRY);
    }

    /// Makes a file's bytes or a directory's entries durable, with what those entries depend on.
    pub fn sync(&mut self, id: Id) {
        if let Node::File(bytes) = &mut self.nodes[id] {
            return bytes.sync();
        }
        let mut wanted: Vec<bool> =
            self.pending.iter().map(|c| c.0.iter().any(|(dir, _, _)| *dir == id)).collect();
        for late in (0..wanted.len()).rev().filter(|i| wanted[*i]).collect::<Vec<_>>() {
            self.mark_with_earlier(late, &mut wanted);
        }
        self.make_durable(&wanted);
    }

    /// Marks a change and the earlier ones without which it cannot be.
    pub fn mark_with_earlier(&self, late: usize, wanted: &mut [bool]) {
        wanted[late] = true;
        for early in (0..late).rev() {
            if !wanted[early] && self.pending[early].shares_a_name(&self.pending[late]) {
                self.mark_with_earlier(early, wanted);
            }
        }
    }

    /// Moves the marked changes to the disk.
    pub fn make_durable(&mut self, marked: &[bool]) {
        let mut marked = marked.iter();
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if marked.next() != Some(&true) {
                self.pending.push_back(change);
                continue;
            }
            for (dir, name, to) in change.0 {
                if let Node::Dir(names) = &mut self.nodes[dir] {
                    match to {
                        Some(id) => names.safe.insert(name, id),
                        None => names.safe.remove(&name),
                    };
                }
            }
        }
    }

    /// The nodes that have a name, with a path to each; directories before what is in them.
    pub fn reachable(&self) -> Vec<(PathBuf, Id)> {
        let mut all = vec![(PathBuf::from("/"), ROOT)];
        let mut next = 0;
        while let Some((path, id)) = all.get(next).cloned() {
            if let Node::Dir(names) = &self.nodes[id] {
                all.extend(names.now.iter().map(|(name, id)| (path.join(name), *id)));
            }
            next += 1;
        }
        all
    }
}
