//! Text out of files, made fit for a terminal: a name with an escape sequence in it must not move the cursor.

use std::borrow::Cow;
use std::fmt::Write;

/// A name on one line: each control character as `\u001b`.
///
/// ```
/// use shanty::base::escape::escaped;
/// assert_eq!(escaped("a\u{1b}[2Jb\n"), "a\\u001b[2Jb\\u000a");
/// assert_eq!(escaped("Köln"), "Köln");
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    without(text, |c| c.is_control() || is_separator(c) || is_turning(c))
}

/// Text of several lines: line ends and tabs stay. What is left is valid JSON if it was before.
///
/// ```
/// use shanty::base::escape::escaped_lines;
/// assert_eq!(escaped_lines("a\n\u{202e}b\u{7}"), "a\n\\u202eb\\u0007");
/// ```
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    without(text, |c| (c.is_control() || is_separator(c) || is_turning(c)) && c != '\n' && c != '\t')
}

/// Ends of lines, control characters, marks of direction, joiners and spaces without width: nobody sees them, and two
/// names that look alike would be two things.
pub fn is_unseen(c: char) -> bool {
    let joins = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || is_separator(c) || is_turning(c) || joins
}

/// Text with colours, of which everything but the second block of control characters was taken care of.
pub fn escaped_coloured(text: &str) -> Cow<'_, str> {
    without(text, |c| matches!(c, '\u{80}'..='\u{9f}'))
}

/// Text that may quote what somebody wrote, of any length: of a long word, and of much between two quotes, the beginning
/// and the end.
///
/// ```
/// use shanty::base::escape::brief;
/// let text = format!("unknown optimizer `{}`", "A".repeat(100_000));
/// assert!(brief(&text).starts_with("unknown optimizer `AAA") && brief(&text).contains(" more letters) …AAA"));
/// assert!(brief(&text).len() < 300);
/// assert_eq!(brief("a short one"), "a short one");
/// ```
pub fn brief(text: &str) -> Cow<'_, str> {
    match shortened(text, char::is_whitespace, 300) {
        Cow::Borrowed(text) => shortened(text, |c| matches!(c, '`' | '"' | '\n'), 1000),
        Cow::Owned(text) => shortened(&text, |c| matches!(c, '`' | '"' | '\n'), 1000).into_owned().into(),
    }
}

/// Of each piece with more letters than this, only some.
fn shortened(text: &str, ends: impl Fn(char) -> bool, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let piece = |piece: &str| {
        let letters = piece.chars().count();
        let (begin, end) = (most / 2, most / 4);
        if letters <= most {
            return piece.to_owned();
        }
        let at = |nth: usize| piece.char_indices().nth(nth).map_or(piece.len(), |(at, _)| at);
        let (first, last) = (&piece[..at(begin)], &piece[at(letters - end)..]);
        format!("{first}… ({} more letters) …{last}", letters - begin - end)
    };
    text.split_inclusive(ends).map(piece).collect::<String>().into()
}

/// Ends of lines and paragraphs, at which Python and browsers break a line, and terminals do not.
fn is_separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// Marks that turn the direction of what follows: a name may not look like another one.
fn is_turning(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            // Writing into a string cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out.into()
}
