//! "Did you mean": the nearest known name.

/// The candidate nearest to `word`, if it is near enough to be a slip of the finger.
///
/// ```
/// use shanty::base::suggest::nearest;
/// assert_eq!(nearest("intreval", ["interval", "by_epoch"]), Some("interval"));
/// assert_eq!(nearest("zebra", ["interval", "by_epoch"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= (word.chars().count().max(c.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}
