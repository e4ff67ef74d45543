//! Which tar files a config names.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::base::error::IoContext;
use crate::base::number::count;
use crate::base::{Error, Result};

/// A tar file itself, or those of a folder in the order of their names.
pub(super) fn in_place(path: &Path) -> Result<Vec<PathBuf>> {
    let missing = |what: &str| Error::Missing { path: path.to_owned(), what: what.to_owned() };
    if !path.exists() {
        let starred = path.as_os_str().as_encoded_bytes().contains(&b'*');
        return Err(missing(match starred {
            true => {
                "no such tar file: `*` is not filled in, so name their folder, or a range of numbers such as {000..099}"
            }
            false => "no such tar file, or folder of tar files",
        }));
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).at(path)?.map(|entry| Ok(entry.at(path)?.path()));
    let mut shards: Vec<PathBuf> = entries.collect::<Result<_>>()?;
    shards.retain(|path| path.extension().is_some_and(|ending| ending == "tar"));
    shards.sort();
    if shards.is_empty() { Err(missing("no file in it ends in .tar")) } else { Ok(shards) }
}

/// Tar files of one range.
const MOST: u32 = 1_000_000;

/// `train-08.tar` to `train-11.tar` of `train-{08..11}.tar`.
pub(super) fn expanded(text: &str) -> Result<Vec<String>> {
    let range = text.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (range, after))) = range else { return Ok(vec![text.to_owned()]) };
    let ends =
        range.split_once("..").and_then(|(a, b)| Some((a, a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)));
    let wrong = |why: &str| Err(Error::config(format!("`{{{range}}}` {why}")));
    match ends {
        Some((_, from, to)) if from > to => wrong("begins behind its end: the smaller number comes first"),
        Some((_, from, to)) if to - from >= MOST => wrong(&format!("are more than {MOST} tar files")),
        Some((digits, from, to)) => {
            Ok((from..=to).map(|n| format!("{before}{n:0width$}{after}", width = digits.len())).collect())
        }
        None => wrong("is no range of numbers such as {000..099}"),
    }
}

/// What is odd about tar files that are named again, however they are written.
pub(super) fn named_twice(shards: &[PathBuf]) -> Option<String> {
    let mut seen = HashSet::new();
    let again =
        shards.iter().filter(|path| !seen.insert(path.canonicalize().unwrap_or_else(|_| path.to_path_buf())));
    let again: Vec<&PathBuf> = again.collect();
    let first = again.first()?;
    Some(format!(
        "`urls` names {} again, and {} in all: their samples come several times in each pass",
        first.display(),
        count(again.len() as u64, "tar file")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_shards_are_counted_out() {
        assert_eq!(expanded("a-{08..11}.tar").unwrap(), ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]);
        assert_eq!(expanded("a.tar").unwrap(), ["a.tar"]);
        for (wrong, why) in [
            ("{2..1}", "the smaller number comes first"),
            ("{a..b}", "is no range of numbers"),
            ("{1,2}", "is no range of numbers"),
            ("{0..4294967295}", "are more than 1000000 tar files"),
        ] {
            let text = expanded(wrong).unwrap_err().to_string();
            assert!(text.contains(why), "{wrong}: {text}");
        }
    }

    #[test]
    fn who_writes_a_star_is_told_what_to_write() {
        let text = in_place(Path::new("no/where/*.tar")).unwrap_err().to_string();
        assert!(text.contains("name their folder, or a range of numbers"), "{text}");
    }
}
