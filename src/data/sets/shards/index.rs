//! Which samples a tar file has, and where in it they lie.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use super::Shot;
use crate::base::error::IoContext;
use crate::base::{Error, Result, text};
use crate::data::Member;
use crate::data::sets::folder::EXTENSIONS;

/// One tar file, and where its samples go.
pub(super) struct Shard<'a> {
    pub(super) path: &'a Path,
    pub(super) number: usize,
    pub(super) with_label: bool,
    pub(super) samples: &'a mut Vec<Shot>,
    /// The classes that stand beside no picture, by their names.
    pub(super) lone: &'a mut Vec<String>,
}

/// A sample of which some files are known.
#[derive(Default)]
struct Parts {
    key: String,
    picture: Option<Member>,
    label: Option<i64>,
}

/// Headers and members begin at multiples of it.
const BLOCK: u64 = 512;

/// More than the digits of any class.
const MOST_DIGITS: u64 = 32;

impl Shard<'_> {
    /// Goes through the headers of its members.
    ///
    /// # Errors
    /// With the name of the file, and of the member where it is one.
    pub(super) fn index(&mut self) -> Result<()> {
        text::regular(self.path)?;
        let mut file = File::open(self.path).at(self.path)?;
        let size = file.metadata().at(self.path)?.len();
        self.is_packed(&file)?;
        file.rewind().at(self.path)?;
        let mut archive = tar::Archive::new(file);
        let mut parts = Parts::default();
        // Where the next member begins.
        let mut next = 0;
        for entry in archive.entries_with_seek().at(self.path)? {
            let entry = entry.map_err(|error| self.broken(&error, next, size))?;
            let (offset, len) = (entry.raw_file_position(), entry.size());
            let kind = entry.header().entry_type();
            // One with holes is shorter in the file than it says.
            let stored = if kind.is_gnu_sparse() { 0 } else { len };
            let end = offset.saturating_add(stored);
            if end > size {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let (at, over) = (size, end - size);
                return Err(self.wrong(&format!(
                    "it is cut off in {name}, at byte {at}: {over} bytes of it are missing. Copy the file anew"
                )));
            }
            next = end.div_ceil(BLOCK).saturating_mul(BLOCK);
            if !kind.is_file() {
                continue;
            }
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .map_err(|_| self.wrong("a name is not UTF-8"))?;
            let Some((key, ending)) = key_of(&name) else { continue };
            if key != parts.key {
                self.done(std::mem::replace(&mut parts, Parts { key: key.to_owned(), ..Parts::default() }))?;
            }
            if EXTENSIONS.iter().any(|known| known[1..] == ending) {
                let first = parts.picture.replace(Member { name, offset, len });
                if let (Some(first), Some(second)) = (first, &parts.picture) {
                    return Err(self.twice(&first.name, &second.name, "pictures"));
                }
            } else if ending == "cls" {
                let mut digits = String::new();
                entry.take(MOST_DIGITS).read_to_string(&mut digits).at(self.path)?;
                let label = digits.trim().parse::<u32>().map_err(|_| {
                    self.wrong(&format!("{name} holds {digits:?}: it is to be the number of a class"))
                })?;
                if parts.label.replace(label.into()).is_some() {
                    return Err(self.twice(&parts.key, &name, "classes"));
                }
            }
        }
        // One that is cut off between two members has lost the others without a trace, but for the mark at its end.
        if size < next.saturating_add(BLOCK) {
            return Err(self.wrong(&format!(
                "it ends at byte {size} without the mark that a tar archive ends with: members may be missing. \
                 Copy the file anew; if it is whole, add the mark by `head -c 1024 /dev/zero >> FILE`"
            )));
        }
        self.done(parts)
    }

    /// # Errors
    /// When the file is packed, as the first bytes of it tell.
    fn is_packed(&self, file: &File) -> Result<()> {
        let mut head = Vec::new();
        file.take(6).read_to_end(&mut head).at(self.path)?;
        let kinds: [(&[u8], &str, &str); 5] = [
            (b"\x1f\x8b", "is gzipped", "gunzip"),
            (b"BZh", "is packed by bzip2", "bunzip2"),
            (b"\xfd7zXZ", "is packed by xz", "unxz"),
            (b"\x28\xb5\x2f\xfd", "is packed by zstd", "unzstd"),
            (b"PK\x03\x04", "is a zip file", "unzip"),
        ];
        match kinds.into_iter().find(|(mark, _, _)| head.starts_with(mark)) {
            Some((_, what, by)) => Err(self.wrong(&format!(
                "this {what}, and samples are read from their places: unpack it first, `{by}`"
            ))),
            None => Ok(()),
        }
    }

    /// What is wrong where the member at `next` ought to begin. What the reader says of it quotes bytes of the file.
    fn broken(&self, error: &std::io::Error, next: u64, size: u64) -> Error {
        match error.kind() {
            ErrorKind::Other
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::UnexpectedEof => self.wrong(&match (next, size.saturating_sub(next) < BLOCK) {
                (0, _) => "this is no tar archive: it does not begin with the header of one".to_owned(),
                (_, true) => format!("it is cut off at byte {size}, in a header. Copy the file anew"),
                (_, false) => format!(
                    "there is no whole header of a member at byte {next}: it is damaged. Copy the file anew"
                ),
            }),
            kind => self.wrong(&format!("it cannot be read at byte {next}: {kind}")),
        }
    }

    /// Takes up a sample of which all files are known.
    fn done(&mut self, parts: Parts) -> Result<()> {
        let Some(picture) = parts.picture else {
            if parts.label.is_some() {
                self.lone.push(format!("{}.cls of {}", parts.key, self.path.display()));
            }
            return Ok(());
        };
        let label = match (self.with_label, parts.label) {
            (false, _) => -1,
            (true, Some(label)) => label,
            (true, None) => {
                return Err(self.wrong(&format!(
                    "there is no {}.cls beside {}, and files of a sample lie one behind the other: without classes it takes \
                     `with_label: false`",
                    parts.key, picture.name
                )));
            }
        };
        self.samples.push(Shot { shard: self.number, picture: Arc::new(picture), label });
        Ok(())
    }

    /// Files that lie one behind the other are of one sample where their names are one up to the first point.
    fn twice(&self, first: &str, second: &str, what: &str) -> Error {
        self.wrong(&format!(
            "{first} and {second} are two {what} of one sample, as their names are one up to the first point: give each \
             sample a name of its own"
        ))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::invalid(format!("{}: {what}", self.path.display()))
    }
}

/// What files of a sample have in common, and the ending in lower case: they are parted at the first point of the name.
pub(super) fn key_of(name: &str) -> Option<(&str, String)> {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let point = file + name.get(file..)?.find('.').filter(|at| *at > 0)?;
    Some((name.get(..point)?, name.get(point + 1..)?.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parted_at_the_first_point_of_the_file() {
        let of = |name| key_of(name).map(|(key, ending)| format!("{key} {ending}"));
        assert_eq!(of("a.b/0001.seg.PNG").unwrap(), "a.b/0001 seg.png");
        assert_eq!(of("0001.jpg").unwrap(), "0001 jpg");
        assert_eq!([of("README"), of(".hidden.jpg"), of("a/.x"), of("")], [None, None, None, None]);
    }
}
