//! "Did you mean": the nearest known name.

/// Candidates that are compared at most: a thousand unknown keys beside forty thousand known ones took fourteen seconds.
const MOST: usize = 2000;

/// The candidate nearest to `word`, if it is near enough to be a slip of the finger. The first 2000 of a like length are
/// compared.
///
/// ```
/// use shanty::base::suggest::nearest;
/// assert_eq!(nearest("intreval", ["interval", "by_epoch"]), Some("interval"));
/// assert_eq!(nearest("zebra", ["interval", "by_epoch"]), None);
/// assert_eq!(nearest("b", ["a"]), None);
/// assert_eq!(nearest("mem", ["mem", "men"]), Some("men"));
/// let last_of = |n, other| (1..n).map(move |_| other).chain(["b24"]);
/// assert_eq!(nearest("b23", last_of(2000, "x99")), Some("b24"));
/// assert_eq!(nearest("b23", last_of(2001, "x99")), None);
/// assert_eq!(nearest("b23", last_of(9000, "wavelength")), Some("b24"));
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let length = word.chars().count();
    let allowed = |c: &str| (length.max(c.chars().count()) / 3).max(1);
    candidates
        .into_iter()
        // Whoever wrote the very name meant something else by it.
        .filter(|c| *c != word)
        // The distance is at least the difference in length: a word of a megabyte is compared with nothing.
        .filter(|c| length.abs_diff(c.chars().count()) <= allowed(c))
        .take(MOST)
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        // Of two single letters each is near to the other, and means nothing.
        .filter(|(distance, c)| *distance <= allowed(c) && *distance < length.max(c.chars().count()).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}
