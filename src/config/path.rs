//! Paths into a tree: `a.b.0.c`; a key with a point in it stands in double quotes.

use std::ops::Range;

use super::source::Loc;
use super::{Diag, Kind, Node};
use crate::base::suggest::nearest;

/// Splits a path at its points. Each part comes with its byte range in the path.
pub(super) fn parts(path: &str) -> Result<Vec<(String, Range<usize>)>, String> {
    let mut parts = Vec::new();
    let mut start = 0;
    loop {
        let rest = &path[start..];
        let (text, len) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted).ok_or("the quote is not closed")?,
            None if rest.is_empty() || rest.starts_with('.') => {
                return Err("a part of the path is empty".to_owned());
            }
            None => {
                let len = rest.find('.').unwrap_or(rest.len());
                (rest[..len].to_owned(), len)
            }
        };
        parts.push((text, start..start + len));
        match path[start + len..].chars().next() {
            None => return Ok(parts),
            Some('.') => start += len + 1,
            Some(_) => return Err("a point must follow the closing quote".to_owned()),
        }
    }
}

/// The text up to the closing quote, and how long it was with both quotes.
fn unquoted(text: &str) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((out, i + 2)),
            '\\' => out.push(chars.next()?.1),
            _ => out.push(c),
        }
    }
    None
}

/// A key as it is written in a path.
pub(crate) fn quoted(key: &str) -> String {
    let plain = !key.is_empty() && !key.contains(['.', '"', '\\', '=', '+', '~']) && key.trim() == key;
    if plain { key.to_owned() } else { format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")) }
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
        Kind::Map(_) => node.get(part).ok_or_else(|| match node.entries() {
            [] => "the mapping is empty".to_owned(),
            entries if entries.len() <= 12 => {
                let keys: Vec<_> = entries.iter().map(|(key, _)| format!("`{}`", key.text)).collect();
                format!("there are {}", keys.join(", "))
            }
            entries => format!("it is none of its {} keys", entries.len()),
        }),
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

impl Miss {
    /// The complaint, at the place where the path is written; `write` says how a corrected path is written there.
    pub(super) fn diag(&self, at: Loc, who: &str, write: impl FnOnce(&str) -> String) -> Diag {
        let under =
            if self.found.is_empty() { String::new() } else { format!(" under `{}`", self.found.join(".")) };
        let diag = Diag::error(format!("{who} no `{}`{under}: {}", self.part, self.why)).at(at);
        match &self.near {
            Some(near) => diag.fix(write(near)),
            None => diag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_undone_by_splitting() {
        for key in ["a", "", ".", "a.b", "\"", "\\", "a\"b\\.c", "ü", "x=1", "~a", " a"] {
            let path = format!("k.{}.0", quoted(key));
            let parts: Vec<String> = parts(&path).unwrap().into_iter().map(|(part, _)| part).collect();
            assert_eq!(parts, ["k", key, "0"], "{path}");
        }
        for bad in ["", "a.", ".a", "a..b", "\"a", "\"a\"b"] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }
}
