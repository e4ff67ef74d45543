//! `{{…}}`: names of the file, environment variables and values of the base files.
//!
//! MMEngine replaces text before it parses. We parse first, so that places stay true: each `{{…}}` is masked by a token
//! of the same length, which is plain text to YAML, and the tree is filled in afterwards.
//!
//! | written | becomes |
//! |---|---|
//! | `{{fileDirname}}`, `{{fileBasename}}`, `{{fileBasenameNoExtension}}`, `{{fileExtname}}` | text about the file it stands in |
//! | `{{$NAME}}`, `{{$NAME:default}}`, `{{'$NAME:default'}}` | the variable or the default, read as YAML unless quoted |
//! | `{{_base_.a.b.0}}` | the value of the merged base files: any value if it stands alone, text inside of other text |

use std::path::Path;
use std::sync::Arc;

use super::bounds::MAX_BYTES;
use super::source::{Loc, Origin, Source};
use super::{Diag, Diags, Key, Kind, Node, path, yaml};
use crate::base::suggest::nearest;

const NAMES: [&str; 4] = ["fileDirname", "fileBasename", "fileBasenameNoExtension", "fileExtname"];
/// Characters without meaning, of two bytes: one that the text does not use marks a token.
const MARKS: [char; 4] = ['\u{378}', '\u{379}', '\u{380}', '\u{381}'];

/// A text whose references are masked.
pub(super) struct Masked {
    mark: char,
    tokens: Vec<Token>,
}

struct Token {
    at: Loc,
    what: Reference,
}

enum Reference {
    File(&'static str),
    Variable { name: String, default: Option<String> },
    Base(String),
}

/// Parses a text with references in it.
///
/// # Errors
/// As `yaml::parse`, and for a reference that is misspelt.
pub(super) fn parse(source: &Arc<Source>) -> Result<(Node, Masked), Diags> {
    let (masked, text) = match MARKS.into_iter().find(|mark| !source.text.contains(*mark)) {
        Some(mark) if source.text.contains("{{") => Masked::new(source, mark)?,
        _ => (Masked { mark: MARKS[0], tokens: Vec::new() }, source.text.clone()),
    };
    let text = without_tuples(text);
    let node = yaml::parse_masked(source, &text).map_err(|mut diags| {
        for diag in &mut diags.0 {
            let line = diag
                .at
                .as_ref()
                .map_or("", |at| source.text.lines().nth(at.line_column().0 - 1).unwrap_or(""));
            if line.contains("{{") {
                diag.notes
                    .push("`{{` opens a mapping in YAML: quote the text if it is meant as text".to_owned());
            }
        }
        diags
    })?;
    Ok((node, masked))
}

/// PyYAML marks what was a tuple; here a list is a list. Blanks take the place of the mark.
fn without_tuples(text: String) -> String {
    const TUPLE: &str = "!!python/tuple";
    if !text.contains(TUPLE) {
        return text;
    }
    let blanks = " ".repeat(TUPLE.len());
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let marks_a_list = line.trim_end().strip_suffix(TUPLE).is_some_and(|l| l.ends_with([' ', '\t']))
            || line.contains(&format!("{TUPLE} ["));
        if marks_a_list { out.push_str(&line.replace(TUPLE, &blanks)) } else { out.push_str(line) }
    }
    out
}

impl Masked {
    fn new(source: &Arc<Source>, mark: char) -> Result<(Self, String), Diags> {
        let mut text = source.text.clone();
        let mut masked = Self { mark, tokens: Vec::new() };
        let mut from = 0;
        // From each `}}` back to the nearest `{{` of its line, so that a text of braces is gone through once.
        while let Some(end) = text[from..].find("}}").map(|i| from + i + 2) {
            let before = &text[from..end - 2];
            let line = before.rfind('\n').map_or(0, |i| i + 1);
            let open = before[line..].rfind("{{").map(|i| from + line + i);
            from = end;
            let Some(open) = open else { continue };
            let at = Loc::new(source, open..end);
            let Some(what) = Reference::parse(text[open + 2..end - 2].trim(), &at)? else { continue };
            let digits = masked.tokens.len().to_string();
            let room = end - open - 2 * mark.len_utf8();
            if digits.len() > room {
                return Err(Diag::error("more references than one file may have").at(at).into());
            }
            // A width of `format!` ends at 65,535, and a reference may be longer.
            let zeros = "0".repeat(room - digits.len());
            text.replace_range(open..end, &format!("{mark}{zeros}{digits}{mark}"));
            masked.tokens.push(Token { at, what });
        }
        Ok((masked, text))
    }

    /// Puts the values in. `base` is what the base files gave, if there are any.
    ///
    /// # Errors
    /// One complaint for each reference that has no value.
    pub(super) fn fill(&self, node: &Node, base: Option<&Node>) -> Result<Node, Diags> {
        if self.tokens.is_empty() {
            return Ok(node.clone());
        }
        let mut fill = Fill { masked: self, base, room: MAX_BYTES, diags: Diags::default() };
        let node = fill.node(node);
        if fill.diags.0.is_empty() { Ok(node) } else { Err(fill.diags) }
    }

    /// `text` as pieces of text and tokens.
    fn pieces<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Result<&'t str, &'t Token>> {
        text.split(self.mark).enumerate().filter(|(_, piece)| !piece.is_empty()).map(|(i, piece)| match piece
            .parse::<usize>()
            .ok()
            .filter(|_| i % 2 == 1)
            .and_then(|id| self.tokens.get(id))
        {
            Some(token) => Err(token),
            None => Ok(piece),
        })
    }
}

impl Reference {
    /// What stands between the braces; `None` if it is none of our references.
    fn parse(inner: &str, at: &Loc) -> Result<Option<Self>, Diags> {
        let unquoted =
            inner.strip_prefix(['\'', '"']).and_then(|i| i.strip_suffix(['\'', '"'])).unwrap_or(inner);
        if let Some(variable) = unquoted.strip_prefix('$') {
            let (name, default) = match variable.split_once(':') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (variable, None),
            };
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            return Ok(is_name.then(|| Self::Variable { name: name.to_owned(), default }));
        }
        if let Some(keys) = inner.strip_prefix("_base_.") {
            return Ok(Some(Self::Base(keys.to_owned())));
        }
        if let Some(name) = NAMES.into_iter().find(|name| *name == inner) {
            return Ok(Some(Self::File(name)));
        }
        let head = inner.split('.').next().unwrap_or_default();
        match nearest(head, NAMES.into_iter().chain(["_base_"])) {
            Some(name) => {
                let fixed = format!("{{{{{}}}}}", inner.replacen(head, name, 1));
                Err(Diag::error(format!("unknown reference `{{{{{inner}}}}}`"))
                    .at(at.clone())
                    .fix(fixed)
                    .into())
            }
            None => Ok(None),
        }
    }
}

struct Fill<'a> {
    masked: &'a Masked,
    base: Option<&'a Node>,
    /// Bytes that references may still put inside of text: each can double what the last one made.
    room: usize,
    diags: Diags,
}

impl Fill<'_> {
    fn node(&mut self, node: &Node) -> Node {
        let kind = match &*node.kind {
            Kind::Str(text) if text.contains(self.masked.mark) => return self.text(node, text),
            Kind::Seq(items) => Kind::Seq(items.iter().map(|item| self.node(item)).collect()),
            Kind::Map(entries) => {
                Kind::Map(entries.iter().map(|(key, value)| (self.key(key), self.node(value))).collect())
            }
            _ => return node.clone(),
        };
        node.with_kind(kind)
    }

    fn key(&mut self, key: &Key) -> Key {
        if !key.text.contains(self.masked.mark) {
            return key.clone();
        }
        let pieces: Vec<_> = self.masked.pieces(&key.text).collect();
        let text = pieces.into_iter().map(|piece| match piece {
            Ok(text) => text.to_owned(),
            Err(token) => self.value(token).and_then(|node| self.inside(&node, token)).unwrap_or_default(),
        });
        Key { text: text.collect(), ..key.clone() }
    }

    fn text(&mut self, node: &Node, text: &str) -> Node {
        let plain = !node.def.text().starts_with(['"', '\'', '|', '>']);
        let pieces: Vec<_> = self.masked.pieces(text).collect();
        if let [Err(token)] = pieces[..] {
            let Some(value) = self.value(token) else { return node.clone() };
            let value = match token.what {
                Reference::Base(_) => value,
                _ if plain => retyped(&value),
                _ => value,
            };
            return Node { at: node.at.clone(), ..value };
        }
        let mut textual = plain;
        let mut filled = String::new();
        for piece in pieces {
            match piece {
                Ok(text) => filled.push_str(text),
                Err(token) => {
                    textual &= !matches!(token.what, Reference::Base(_));
                    let Some(value) = self.value(token) else { continue };
                    if !value.entries().is_empty() || !value.items().is_empty() {
                        let message = format!("{} cannot stand inside of text", value.kind.name());
                        self.diags.extend([Diag::error(message)
                            .at(token.at.clone())
                            .place(value.def, "its value")]);
                        continue;
                    }
                    filled.push_str(&self.inside(&value, token).unwrap_or_default());
                }
            }
        }
        let filled = node.with_kind(Kind::Str(filled));
        if textual { retyped(&filled) } else { filled }
    }

    /// A scalar as it is written inside of text, while there is room.
    fn inside(&mut self, value: &Node, token: &Token) -> Option<String> {
        let length = value.as_str().map_or(0, str::len);
        let Some(room) = self.room.checked_sub(length) else {
            let message =
                format!("the references of this file put in more than {} MiB of text", MAX_BYTES >> 20);
            self.diags.extend([Diag::error(message).at(token.at.clone())]);
            self.room = 0;
            return None;
        };
        self.room = room;
        Some(scalar(value))
    }

    fn value(&mut self, token: &Token) -> Option<Node> {
        // Of each that leads nowhere the nearest is looked for among all that there are.
        if self.diags.is_full() {
            return None;
        }
        let value = match &token.what {
            Reference::File(name) => file_name(name, token),
            Reference::Variable { name, default } => variable(name, default.as_deref(), token),
            Reference::Base(keys) => match self.base {
                Some(base) => path::find(base, keys).cloned().map_err(|miss| {
                    miss.diag(token.at.clone(), "the base files have", |p| format!("{{{{_base_.{p}}}}}"))
                        .into()
                }),
                None => Err(Diag::error("this file has no `_base_` to refer to").at(token.at.clone()).into()),
            },
        };
        value.map_err(|diags| self.diags.extend(diags.0)).ok()
    }
}

fn file_name(name: &str, token: &Token) -> Result<Node, Diags> {
    let source = token.at.source();
    if source.origin != Origin::File {
        let message = format!("`{{{{{name}}}}}` needs a file, and this text is none");
        return Err(Diag::error(message).at(token.at.clone()).into());
    }
    let file = std::path::absolute(Path::new(&source.name)).unwrap_or_else(|_| source.name.clone().into());
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let text = match name {
        "fileDirname" => part(file.parent().map(Path::as_os_str)).replace('\\', "/"),
        "fileBasename" => part(file.file_name()),
        "fileBasenameNoExtension" => part(file.file_stem()),
        _ => file.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default(),
    };
    Ok(Node::new(Kind::Str(text), token.at.clone()))
}

fn variable(name: &str, default: Option<&str>, token: &Token) -> Result<Node, Diags> {
    let value = match std::env::var(name) {
        Ok(value) => {
            let source =
                Source::new(format!("environment variable {name}"), value.clone(), Origin::Environment);
            Node { def: Loc::whole(&source), ..Node::new(Kind::Str(value), token.at.clone()) }
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            let message = format!("the environment variable {name} is not UTF-8");
            return Err(Diag::error(message).at(token.at.clone()).into());
        }
        Err(std::env::VarError::NotPresent) if default.is_none() => {
            let note = format!("set it, or give a default: `{{{{${name}:default}}}}`");
            return Err(Diag::error(format!("the environment variable {name} is not set"))
                .at(token.at.clone())
                .note(note)
                .into());
        }
        Err(std::env::VarError::NotPresent) => Node::new(Kind::Str(String::new()), token.at.clone()),
    };
    // As `${NAME:-default}` of a shell: what is set to nothing has the default too.
    Ok(match default.filter(|_| value.as_str() == Some("")) {
        Some(default) => Node::new(Kind::Str(default.to_owned()), token.at.clone()),
        None => value,
    })
}

/// Text that was put in without quotes is what YAML makes of it: `8` a number, `[1, 2]` a list.
fn retyped(node: &Node) -> Node {
    let text = node.as_str().unwrap_or_default();
    match yaml::parse(&Source::new("", text, Origin::Text)) {
        Ok(value) if !matches!(*value.kind, Kind::Str(_) | Kind::Map(_)) => relocated(&value, node),
        _ => node.clone(),
    }
}

/// The value with all of its places set to those of `node`.
fn relocated(value: &Node, node: &Node) -> Node {
    let kind = match &*value.kind {
        Kind::Seq(items) => Kind::Seq(items.iter().map(|item| relocated(item, node)).collect()),
        Kind::Map(entries) => Kind::Map(
            entries
                .iter()
                .map(|(key, value)| {
                    let key = Key { text: key.text.clone(), at: node.at.clone(), def: node.def.clone() };
                    (key, relocated(value, node))
                })
                .collect(),
        ),
        other => other.clone(),
    };
    node.with_kind(kind)
}

/// A scalar as it is written inside of text.
fn scalar(node: &Node) -> String {
    match &*node.kind {
        Kind::Str(text) => text.clone(),
        _ => node.to_yaml().trim_end().to_owned(),
    }
}
