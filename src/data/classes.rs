//! Classes are compared by name: the number of a class is its place in the list of one data set, and another set may
//! lack some.

use std::collections::HashMap;

use crate::base::{Error, Result};

/// For each class of `own`, its number among `names`.
///
/// # Errors
/// Both lists, and what is missing, when a class of `own` is not among `names`.
pub(crate) fn relabelled(own: &[String], names: &[String]) -> std::result::Result<Vec<i64>, String> {
    let numbers: HashMap<&str, i64> = names.iter().map(String::as_str).zip(0..).collect();
    let found = own.iter().map(|name| numbers.get(name.as_str()).copied().ok_or(name));
    found.collect::<std::result::Result<_, _>>().map_err(|unknown| {
        let (own, names) = (shown(own), shown(names));
        format!("the class {unknown:?} of {own} is not among {names}")
    })
}

/// Whether the classes that a data set names are those that the training data taught.
///
/// # Errors
/// Both lists, when they are not the same in the same order.
pub(super) fn agree(named: Option<&[String]>, taught: &[String]) -> Result<()> {
    match named.filter(|named| *named != taught) {
        Some(named) => Err(Error::config(format!(
            "`classes` names {}, but the training data, or the checkpoint, {}: all data of a run number their classes alike",
            shown(named),
            shown(taught)
        ))),
        None => Ok(()),
    }
}

/// `[cat, dog, elk]`, long lists shortened.
pub(crate) fn shown(names: &[String]) -> String {
    const MOST: usize = 20;
    match names.len() {
        n if n > MOST => format!("[{}, … ({n} classes)]", names[..MOST].join(", ")),
        _ => format!("[{}]", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_class_keeps_its_number_wherever_it_stands() {
        assert_eq!(relabelled(&names("cat elk"), &names("cat dog elk")), Ok(vec![0, 2]));
        assert_eq!(relabelled(&names("elk cat"), &names("cat dog elk")), Ok(vec![2, 0]));
        let text = relabelled(&names("cat fox"), &names("cat dog")).unwrap_err();
        assert_eq!(text, "the class \"fox\" of [cat, fox] is not among [cat, dog]");
    }
}
