//! Lists of pictures and of class names, as text files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::base::number::count;
use crate::base::{Error, Result, text};

/// The pictures that `list` names, one a line: a path within `folder` and, behind a space, the number of its class.
pub(super) fn pictures(folder: &Path, list: &Path, with_label: bool) -> Result<Vec<(PathBuf, i64)>> {
    let text = text::read(list)?;
    let mut files = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line = line.trim();
        let (path, label) = match line.rsplit_once([' ', '\t']) {
            _ if !with_label => (line, -1),
            Some((path, label)) if label.parse::<u32>().is_ok() => {
                (path.trim_end(), label.parse().unwrap_or_default())
            }
            _ => {
                let what = format!("a line is a path, a space and the number of the class, got {line:?}");
                return Err(at(list, number, &what));
            }
        };
        // Elsewhere than on Windows a backslash is a letter like any other: the file may be called so.
        if cfg!(unix) && path.contains('\\') && !folder.join(path).exists() {
            let what = format!("{path:?} is written as on Windows: folders are parted by `/`");
            return Err(at(list, number, &what));
        }
        files.push((PathBuf::from(path), label));
    }
    if files.is_empty() {
        return Err(Error::invalid(format!("{}: it names no picture", list.display())));
    }
    Ok(files)
}

/// How many pictures of a list are looked at.
const MOST: usize = 1 << 22;

/// What is odd about pictures that a list names again.
pub(super) fn named_twice(list: &Path, files: &[(PathBuf, i64)]) -> Option<String> {
    let (mut seen, mut again, mut others) = (HashMap::new(), Vec::new(), 0u64);
    for (path, label) in files.iter().take(MOST) {
        match seen.get(path.as_path()) {
            Some(known) => {
                others += u64::from(known != label);
                again.push(path);
            }
            None => drop(seen.insert(path.as_path(), *label)),
        }
    }
    let first = again.first()?.display();
    let classes = if others > 0 { format!(", {others} of them with another class") } else { String::new() };
    Some(format!(
        "{} names {first} again, and {} in all{classes}: they come several times in each pass",
        list.display(),
        count(again.len() as u64, "picture")
    ))
}

/// The names of classes in a file, one a line.
pub(in crate::data::sets) fn names(file: &Path) -> Result<Vec<String>> {
    let text = text::read(file)?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    match names.is_empty() {
        true => Err(Error::invalid(format!("{}: it names no class", file.display()))),
        false => Ok(names),
    }
}

fn at(file: &Path, number: usize, what: &str) -> Error {
    Error::invalid(format!("{}:{}: {what}", file.display(), number + 1))
}
