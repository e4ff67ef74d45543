//! Paths into a tree: `a.b.0.c`; a key with a point in it stands in double quotes.

use super::source::Loc;
use super::{Diag, Kind, Node};
use crate::base::suggest::nearest;

/// Splits a path at its points. Each part comes with its byte range in the path.
pub(super) fn parts(path: &str) -> Result<Vec<(String, std::ops::Range<usize>)>, String> {
    let mut parts = Vec::new();
    let mut start = 0;
    loop {
        let rest = &path[start..];
        let (text, len) = match rest.strip_prefix('"') {
            Some(quoted) => match quoted.find('"') {
                Some(end) => (&quoted[..end], end + 2),
                None => return Err("the quote is not closed".to_owned()),
            },
            None => {
                let len = rest.find('.').unwrap_or(rest.len());
                (&rest[..len], len)
            }
        };
        if text.is_empty() {
            return Err("a part of the path is empty".to_owned());
        }
        parts.push((text.to_owned(), start..start + len));
        match path[start + len..].chars().next() {
            None => return Ok(parts),
            Some('.') => start += len + 1,
            Some(_) => return Err("a point must follow the closing quote".to_owned()),
        }
    }
}

/// A path that leads nowhere.
pub(super) struct Miss {
    /// Parts that exist.
    found: Vec<String>,
    /// The first part that does not.
    part: String,
    /// Why not.
    why: String,
    /// The whole path with the nearest existing part in its place.
    pub(super) near: Option<String>,
}

/// The value at a path.
pub(super) fn find<'n>(root: &'n Node, path: &str) -> Result<&'n Node, Miss> {
    let parts =
        parts(path).map_err(|why| Miss { found: Vec::new(), part: path.to_owned(), why, near: None })?;
    let mut node = root;
    for (i, (part, _)) in parts.iter().enumerate() {
        node = step(node, part).map_err(|why| {
            let texts: Vec<String> = parts.iter().map(|(text, _)| quoted(text)).collect();
            let keys = node.entries().iter().map(|(key, _)| key.text.as_str());
            let near = nearest(part, keys).map(|near| {
                let near = quoted(near);
                let fixed = texts[..i].iter().chain([&near]).chain(&texts[i + 1..]);
                fixed.cloned().collect::<Vec<_>>().join(".")
            });
            Miss { found: texts[..i].to_vec(), part: part.clone(), why, near }
        })?;
    }
    Ok(node)
}

/// One step down: a key of a mapping or an index of a list.
pub(super) fn step<'n>(node: &'n Node, part: &str) -> Result<&'n Node, String> {
    match &*node.kind {
        Kind::Map(_) => node.get(part).ok_or_else(|| format!("there is no key `{part}`")),
        Kind::Seq(items) => index(part, items.len()).map(|i| &items[i]),
        _ => Err(format!("`{part}` would be inside of {}", node.summary())),
    }
}

/// An index of a list of `len` items.
pub(super) fn index(part: &str, len: usize) -> Result<usize, String> {
    match part.parse::<usize>() {
        Ok(i) if i < len => Ok(i),
        Ok(i) => Err(format!("there is no item {i} in a list of {len} (counted from 0)")),
        Err(_) => Err(format!("this is a list of {len}: `{part}` is no index")),
    }
}

/// A key as it is written in a path.
pub(super) fn quoted(key: &str) -> String {
    if key.contains('.') { format!("\"{key}\"") } else { key.to_owned() }
}

impl Miss {
    /// The complaint, at the place where the path is written.
    pub(super) fn diag(&self, at: Loc, who: &str) -> MissDiag<'_> {
        let under =
            if self.found.is_empty() { String::new() } else { format!(" under `{}`", self.found.join(".")) };
        let message = format!("{who} no `{}`{under}: {}", self.part, self.why);
        MissDiag { miss: self, diag: Diag::error(message).at(at) }
    }
}

/// A complaint that still wants to know how the corrected path is written.
pub(super) struct MissDiag<'m> {
    miss: &'m Miss,
    diag: Diag,
}

impl MissDiag<'_> {
    pub(super) fn fix_with(self, write: impl FnOnce(&str) -> String) -> Diag {
        match &self.miss.near {
            Some(near) => self.diag.fix(write(near)),
            None => self.diag,
        }
    }
}
