//! The sentences of the reader.

use serde::de::{Expected, Unexpected};

use crate::base::suggest::nearest;
use crate::config::source::Origin;
use crate::config::{Diag, Key, Kind, Node};
use crate::registry::{find, project};

/// `` `lr` expects a number, not the string "fast" ``.
pub(super) fn wanted(node: &Node, key: Option<&Key>, what: &str) -> Diag {
    let found = describe(node);
    let message = match key {
        Some(key) => format!("`{}` expects {what}, not {found}", key.text),
        None => format!("expected {what}, not {found}"),
    };
    let diag = Diag::error(message).label(format!("expected {what}"));
    // An empty value has no text to point at.
    let diag = match key {
        Some(key) if node.is_null() && node.def.text().is_empty() => diag.on_key(key),
        _ => diag.on(node),
    };
    match rewritten(node, what) {
        Some(text) => diag.fix(text),
        None => diag,
    }
}

/// The value as it was probably meant: without quotes, with quotes, as a boolean, as an integer.
fn rewritten(node: &Node, what: &str) -> Option<String> {
    match (&*node.kind, what) {
        (Kind::Str(text), "a number") => number(text),
        (Kind::Str(text), "an integer") => {
            let value = number(text)?.parse::<f64>().ok()?;
            (value.fract() == 0.0 && value.abs() < 9e15).then(|| format!("{value:.0}"))
        }
        (Kind::Str(text), "true or false") => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" | "true" | "1" => Some("true".to_owned()),
            "no" | "off" | "n" | "false" | "0" => Some("false".to_owned()),
            _ => None,
        },
        (Kind::Int(1), "true or false") => Some("true".to_owned()),
        (Kind::Int(0), "true or false") => Some("false".to_owned()),
        (Kind::Float(v), "an integer") if v.fract() == 0.0 && v.abs() < 9e15 => Some(format!("{v:.0}")),
        (Kind::Int(_) | Kind::Uint(_) | Kind::Float(_) | Kind::Bool(_), "a string") => {
            Some(format!("\"{}\"", node.def.text()))
        }
        (Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Str(_), "a list") => {
            Some(format!("[{}]", node.def.text()))
        }
        _ => None,
    }
}

/// Text that looks like a number, as YAML writes it: `0,01`, `1_000`, `007`, `inf`.
fn number(text: &str) -> Option<String> {
    let text = text.trim().replace('_', "");
    let text = if text.matches(',').count() == 1 { text.replace(',', ".") } else { text };
    let value = text.parse::<f64>().ok()?;
    if value.is_finite() {
        let digits = text.trim_start_matches('0');
        return Some(if digits.starts_with(|c: char| c.is_ascii_digit()) { digits.to_owned() } else { text });
    }
    Some(
        if value.is_nan() {
            ".nan"
        } else if value > 0.0 {
            ".inf"
        } else {
            "-.inf"
        }
        .to_owned(),
    )
}

/// `the string "fast"`, `the number 0.1`, `a mapping`.
fn describe(node: &Node) -> String {
    match &*node.kind {
        Kind::Str(text) => {
            let text: String = text.chars().take(40).collect();
            format!("the string {text:?}")
        }
        Kind::Bool(v) => format!("{v}"),
        Kind::Int(v) => format!("the integer {v}"),
        Kind::Uint(v) => format!("the integer {v}"),
        Kind::Float(v) => format!("the number {v:?}"),
        other => other.name().to_owned(),
    }
}

pub(super) fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Signed(v) => v.to_string(),
        Unexpected::Unsigned(v) => v.to_string(),
        Unexpected::Float(v) => v.to_string(),
        other => other.to_string(),
    }
}

/// Rust's integer types in words.
pub(super) fn range(expected: &dyn Expected) -> String {
    let name = expected.to_string();
    match name.as_str() {
        "u8" => "an integer from 0 to 255".to_owned(),
        "u16" => "an integer from 0 to 65535".to_owned(),
        "u32" => format!("an integer from 0 to {}", u32::MAX),
        "u64" | "usize" | "u128" => "an integer that is not negative".to_owned(),
        "i8" => "an integer from -128 to 127".to_owned(),
        "i16" => "an integer from -32768 to 32767".to_owned(),
        "i32" => format!("an integer from {} to {}", i32::MIN, i32::MAX),
        "i64" | "isize" | "i128" => format!("an integer up to {}", i64::MAX),
        _ => name,
    }
}

/// The name of the type that a mapping is of: what nobody registered is no type, wherever it stands.
fn named(node: &Node) -> Option<&Node> {
    node.get("type").filter(|name| name.as_str().is_some_and(|name| find(name).next().is_some()))
}

/// A key that must be there: the place is the type that wants it, else the key that holds the mapping.
pub(super) fn missing(node: &Node, key: Option<&Key>, field: &str) -> Diag {
    match (named(node), key) {
        (Some(name), _) => {
            let of = name.as_str().unwrap_or("this type");
            Diag::error(format!("`{of}` needs the key `{field}`"))
                .on(name)
                .label(format!("`{field}` is missing"))
        }
        (None, Some(key)) => Diag::error(format!("`{}` needs the key `{field}`", key.text))
            .on_key(key)
            .label(format!("`{field}` is missing")),
        (None, None) => Diag::error(format!("the key `{field}` is missing")).on(node),
    }
}

/// A key that nobody asked for, in the mapping `node` that stands under `holder`.
pub(super) fn unknown_key(
    node: &Node,
    holder: Option<&Key>,
    (key, value): (&Key, &Node),
    known: &[&str],
) -> Diag {
    let of = match (named(node).and_then(Node::as_str), holder) {
        (Some(name), _) => format!(" of `{name}`"),
        (None, Some(holder)) => format!(" in `{}`", holder.text),
        (None, None) => String::new(),
    };
    let diag = Diag::error(format!("unknown key `{}`{of}", key.text)).on_key(key);
    let parted =
        |sign| key.text.split_once(sign).map(|(name, rest): (&str, &str)| (name.trim(), rest.trim()));
    for (sign, note) in [(':', "a blank must follow the colon"), ('=', "a config writes `key: value`")] {
        if let Some((name, rest)) = parted(sign).filter(|(name, _)| value.is_null() && known.contains(name)) {
            return diag.fix(format!("{name}: {rest}")).note(note);
        }
    }
    let has = |names: &[&'static str]| names.iter().copied().find(|name| known.contains(name));
    let meant = match &*key.text {
        // Losses call the weights of their classes by different names, and what is spelt alike is another thing.
        "class_weight" | "class_weights" => has(&["class_weight", "pos_weight", "weight"]),
        "pos_weight" => None,
        "weight" | "weights" => has(&["weight", "class_weight"]).or_else(|| guess(&key.text, known)),
        other => guess(other, known),
    };
    let reason = super::harmless::reason(&key.text);
    match meant.filter(|_| reason.is_none()) {
        // Twice in one mapping it would be the next mistake; what a file has, another one or the command line may give anew.
        Some(name) if node.get(name).is_some_and(|other| other.def.same_source(&key.def)) => {
            return diag.note(format!("`{name}` stands there already: keep one of the two"));
        }
        Some(name) => return diag.fix(name),
        None => {}
    }
    if known.contains(&"wrappers") && value.get("optimizer").is_some() {
        return diag.note(format!(
            "several optimizers stand under `wrappers`: {{type: OptimWrapperDict, wrappers: {{{}: {{modules: …, optimizer: …}}}}}}",
            key.text
        ));
    }
    let diag = match node.get("type") {
        Some(name) if inherits(name, key) => diag
            .place(name.def.clone(), "the type is set here")
            .note("mappings of a base are merged; `_delete_: true` beside `type` starts afresh"),
        _ => diag,
    };
    if let Some(above) = empty_above(node, key) {
        let note = format!("`{}` above it is empty: indent what belongs to it", above.text);
        return diag.note(note).suggest(format!("{}.{}", above.text, key.text));
    }
    if let Some(reason) = reason {
        return diag.note(reason);
    }
    if known.is_empty() {
        return diag.label("it takes no keys");
    }
    diag.note(format!("known keys: {}", list(known)))
}

/// The key written just before this one, if nothing follows it.
pub(crate) fn empty_above<'n>(node: &'n Node, key: &Key) -> Option<&'n Key> {
    let entries = node.entries();
    // Keys of one file stand in its order: the first one of the same file, looking back, is the one above.
    let index = entries.iter().position(|(k, _)| k.def == key.def)?;
    let mut before = entries[..index].iter().rev().filter(|(k, _)| k.def.same_source(&key.def));
    let (above, value) = before.next().filter(|(k, _)| k.def.range().start < key.def.range().start)?;
    (value.is_null() && value.def.text().is_empty()).then_some(above)
}

/// The name that was meant: a slip of the finger, or the only one that is short for the other.
pub(super) fn guess<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    nearest(word, names.iter().copied()).or_else(|| {
        let short = |a: &str, b: &str| a.len() > 2 && b.starts_with(a);
        let mut alike = names.iter().copied().filter(|name| short(word, name) || short(name, word));
        alike.next().filter(|_| alike.next().is_none())
    })
}

/// Whether a key is left from a base file, under a type that was set elsewhere.
fn inherits(name: &Node, key: &Key) -> bool {
    key.def.source().origin == Origin::File && !name.def.same_source(&key.def)
}

/// A word that is none of an enum's; `inner` is its key if it stands as `word: …`.
pub(super) fn unknown_word(
    node: &Node,
    key: Option<&Key>,
    inner: Option<&Key>,
    word: &str,
    words: &[&str],
) -> Diag {
    let of = key.map(|key| format!(" for `{}`", key.text)).unwrap_or_default();
    let diag = Diag::error(format!("unknown value `{word}`{of}: expected {}", one_of(words)));
    let diag = match inner {
        Some(inner) => diag.on_key(inner),
        None => diag.on(node),
    };
    match (guess(word, words), project(word)) {
        (_, Some(project)) => diag.note(format!("`{word}` is a type of {project} that shanty does not have")),
        (Some(name), None) => diag.fix(name),
        (None, None) => diag,
    }
}

pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [word] => format!("`{word}`"),
        words => format!("one of {}", list(words)),
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}
