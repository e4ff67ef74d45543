//! Which of the values that a validation gives is meant by another name: `acc`, `top1`, `loss`, `MAE`.

use crate::base::suggest::nearest;
use crate::registry::alias;

/// The value that is meant: one whose own name, without prefix and spelling, is this; else one that is spelt nearly so;
/// else the first that has the word in its name. Names of other libraries count as ours.
///
/// ```
/// use shanty::metric::meant;
/// let given = ["accuracy/top1", "single-label/f1-score", "val_loss"];
/// let of = |word| meant(word, given);
/// assert_eq!([of("acc"), of("top1"), of("val_accuracy")], [Some("accuracy/top1"); 3]);
/// assert_eq!([of("F1"), of("loss"), of("mae")], [Some("single-label/f1-score"), Some("val_loss"), None]);
/// ```
pub fn meant<'a>(word: &str, given: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given: Vec<&str> = given.into_iter().filter(|name| !name.ends_with('*') && *name != word).collect();
    let own = |name: &str| plain(name.rsplit('/').next().unwrap_or(name));
    let ours = alias("metric", word).map(plain);
    let whole = plain(word);
    let words: Vec<String> = std::iter::once(without_mode(&whole).to_owned()).chain(ours).collect();
    let exact = || given.iter().copied().find(|name| words.iter().any(|word| own(name) == *word));
    let within = || {
        let has = |name: &&str| words.iter().any(|word| word.len() > 1 && plain(name).contains(&**word));
        given.iter().copied().find(has)
    };
    exact().or_else(|| nearest(word, given.iter().copied())).or_else(within)
}

/// Letters and digits alone.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Other libraries write the mode before each name.
fn without_mode(word: &str) -> &str {
    let modes = ["validation", "valid", "val", "eval", "test"];
    modes.iter().find_map(|mode| word.strip_prefix(mode)).filter(|rest| !rest.is_empty()).unwrap_or(word)
}
