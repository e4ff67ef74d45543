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
    without(text, |c| c.is_control() || is_turning(c))
}

/// Text of several lines: line ends and tabs stay. What is left is valid JSON if it was before.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    without(text, |c| c.is_control() && c != '\n' && c != '\t')
}

/// Text with colours, of which everything but the second block of control characters was taken care of.
pub fn escaped_coloured(text: &str) -> Cow<'_, str> {
    without(text, |c| matches!(c, '\u{80}'..='\u{9f}'))
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
