//! Overrides from the command line: `a.b.0.c=value`, `a+=value`, `~a.b`.
//!
//! The value is YAML, with what MMEngine's `--cfg-options` adds: `(1, 2)` and `a,b` are lists, `None`, `True` and
//! `False` are null, true and false. Text with a comma stands in quotes of its own: `'note="a, b"'`.

use std::ops::Range;
use std::sync::Arc;

use super::source::{Loc, Origin, Source};
use super::{Diag, Diags, Key, Kind, Node, merge, path, yaml};

/// Lays overrides over a tree, from the first to the last.
///
/// # Errors
/// One [`Diag`] for each argument that is no override or leads nowhere; it points into the argument.
pub fn apply(root: &Node, arguments: &[String]) -> Result<Node, Diags> {
    let mut diags = Diags::default();
    let mut node = root.clone();
    let mut all = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match Override::parse(argument) {
            Ok(parsed) => all.extend(parsed),
            Err(more) => diags.extend(more.0),
        }
    }
    // As in a file, where it does not matter in which line of the mapping `_delete_` stands.
    all.sort_by_key(|o| !matches!(o.action, Action::Clear));
    for parsed in all {
        match parsed.apply(&node) {
            Ok(next) => node = next,
            Err(more) => diags.extend(more.0),
        }
    }
    if diags.0.is_empty() { Ok(node) } else { Err(diags) }
}

enum Action {
    Set(Node),
    /// `path._delete_=true`: start afresh.
    Clear,
    Append(Node),
    Remove,
}

struct Override {
    source: Arc<Source>,
    /// Keys and indices, with their places in the argument.
    parts: Vec<(String, Range<usize>)>,
    action: Action,
}

impl Override {
    /// `None` for `_delete_=false`, which says nothing.
    fn parse(argument: &str) -> Result<Option<Self>, Diags> {
        let source = Source::new("command line", argument, Origin::Override);
        let bad = |message: String, range: Range<usize>| {
            Diags::from(Diag::error(message).at(Loc::new(&source, range)))
        };
        if let Some(path) = argument.strip_prefix('~') {
            let parts = parts(path, 1).map_err(|m| bad(m, 0..argument.len()))?;
            return Ok(Some(Self { source, parts, action: Action::Remove }));
        }
        let Some(equals) = unquoted_equals(argument) else {
            let message = "an override is `key.path=value`, `key.path+=value` or `~key.path`".to_owned();
            return Err(bad(message, 0..argument.len()));
        };
        let (path, appends) = match argument[..equals].strip_suffix('+') {
            Some(path) => (path, true),
            None => (&argument[..equals], false),
        };
        let mut parts = parts(path, 0).map_err(|m| bad(m, 0..equals))?;
        let value = value(&source, equals + 1..argument.len(), yaml::MAX_DEPTH)?;
        if parts.last().is_some_and(|(part, _)| part == merge::DELETE) {
            parts.pop();
            return match *value.kind {
                Kind::Bool(flag) if !appends => {
                    Ok(flag.then_some(Self { source, parts, action: Action::Clear }))
                }
                _ => Err(bad("`_delete_` is true or false".to_owned(), 0..argument.len())),
            };
        }
        let action = if appends { Action::Append(value) } else { Action::Set(value) };
        Ok(Some(Self { source, parts, action }))
    }

    fn apply(self, root: &Node) -> Result<Node, Diags> {
        match self.near(root).filter(|_| !matches!(self.action, Action::Remove)) {
            None => self.descend(root, 0),
            // The same text again, with a word for whoever finds that no type knows this key.
            Some(near) => Self { source: self.source.with_near(near), ..self }.descend(root, 0),
        }
    }

    /// If the path is new: the nearest one that is there.
    fn near(&self, root: &Node) -> Option<String> {
        let whole: Vec<String> = self.parts.iter().map(|(part, _)| path::quoted(part)).collect();
        path::find(root, &whole.join(".")).err()?.near
    }

    fn descend(&self, node: &Node, depth: usize) -> Result<Node, Diags> {
        let Some((part, _)) = self.parts.get(depth) else { return self.act(node) };
        match &*node.kind {
            Kind::Map(entries) => {
                let mut entries = entries.clone();
                let position = entries.iter().position(|(key, _)| key.text == *part);
                match position {
                    Some(i) if self.removes_at(depth) => drop(entries.remove(i)),
                    Some(i) => entries[i].1 = self.descend(&entries[i].1, depth + 1)?,
                    None => entries.push((self.key(depth), self.create(node, depth)?)),
                }
                Ok(node.with_kind(Kind::Map(entries)))
            }
            Kind::Seq(items) => {
                let mut items = items.clone();
                let i = path::index(part, items.len()).map_err(|m| self.refuse(m, depth))?;
                if self.removes_at(depth) {
                    items.remove(i);
                } else {
                    items[i] = self.descend(&items[i], depth + 1)?;
                }
                Ok(node.with_kind(Kind::Seq(items)))
            }
            Kind::Null if !matches!(self.action, Action::Remove) => {
                let value = self.create(node, depth)?;
                let map = Node::new(Kind::Map(vec![(self.key(depth), value)]), self.at(depth));
                Ok(map.replacing(node))
            }
            _ => {
                let message = format!("`{part}` cannot be set inside of {}", node.summary());
                let diag = Diag::error(message).at(self.at(depth));
                Err(diag.place(node.def.clone(), "its value").into())
            }
        }
    }

    fn removes_at(&self, depth: usize) -> bool {
        matches!(self.action, Action::Remove) && depth + 1 == self.parts.len()
    }

    /// What a path that is not there yet becomes: mappings down to the value. Types that know no such key will refuse
    /// it.
    fn create(&self, parent: &Node, depth: usize) -> Result<Node, Diags> {
        let value = match &self.action {
            Action::Set(value) => value.clone(),
            Action::Clear => Node::new(Kind::Map(Vec::new()), Loc::whole(&self.source)),
            Action::Append(value) if value.items().is_empty() => {
                Node::new(Kind::Seq(vec![value.clone()]), value.at.clone())
            }
            Action::Append(value) => value.clone(),
            Action::Remove => {
                let near =
                    path::find(parent, &path::quoted(&self.parts[depth].0)).err().and_then(|miss| miss.near);
                let diag = Diag::error(format!("there is no `{}` to remove", self.parts[depth].0))
                    .at(self.at(depth));
                return Err(match near {
                    Some(near) => diag.fix(near),
                    None => diag,
                }
                .into());
            }
        };
        let deeper = (depth + 1..self.parts.len()).rev();
        Ok(deeper.fold(value, |value, i| Node::new(Kind::Map(vec![(self.key(i), value)]), self.at(i))))
    }

    fn act(&self, old: &Node) -> Result<Node, Diags> {
        match &self.action {
            Action::Set(value) => Ok(value.clone().replacing(old)),
            Action::Clear => Ok(Node::new(Kind::Map(Vec::new()), Loc::whole(&self.source)).replacing(old)),
            Action::Append(value) => {
                let mut items = match &*old.kind {
                    Kind::Seq(items) => items.clone(),
                    Kind::Null => Vec::new(),
                    Kind::Map(_) if !old.entries().iter().any(|(key, _)| key.text == "type") => {
                        let message = format!("`+=` appends to a list, and this is {}", old.summary());
                        return Err(self.refuse(message, self.parts.len() - 1));
                    }
                    _ => vec![old.clone()],
                };
                match &*value.kind {
                    Kind::Seq(more) => items.extend(more.iter().cloned()),
                    _ => items.push(value.clone()),
                }
                Ok(Node::new(Kind::Seq(items), value.at.clone()).replacing(old))
            }
            Action::Remove => Ok(old.clone()),
        }
    }

    fn at(&self, depth: usize) -> Loc {
        Loc::new(&self.source, self.parts[depth].1.clone())
    }

    fn key(&self, depth: usize) -> Key {
        Key { text: self.parts[depth].0.clone(), at: self.at(depth), def: self.at(depth) }
    }

    fn refuse(&self, message: String, depth: usize) -> Diags {
        Diag::error(message).at(self.at(depth)).into()
    }
}

fn parts(text: &str, offset: usize) -> Result<Vec<(String, Range<usize>)>, String> {
    let parts = path::parts(text)?;
    if parts.len() > yaml::MAX_DEPTH {
        return Err(format!("a path of more than {} keys", yaml::MAX_DEPTH));
    }
    Ok(parts.into_iter().map(|(part, range)| (part, range.start + offset..range.end + offset)).collect())
}

/// The first `=` that is in no quoted key.
fn unquoted_equals(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(i, c)| {
        let plain = !escaped;
        escaped = quoted && plain && c == '\\';
        quoted ^= plain && c == '"';
        (c == '=' && !quoted).then_some(i)
    })
}

/// The value of an override: YAML, tuples and bare lists, at most so many in each other.
fn value(source: &Arc<Source>, range: Range<usize>, levels: usize) -> Result<Node, Diags> {
    let Some(levels) = levels.checked_sub(1) else {
        let message = format!("nested deeper than {} levels", yaml::MAX_DEPTH);
        return Err(Diag::error(message).at(Loc::new(source, range)).into());
    };
    let text = &source.text[range.clone()];
    let trimmed = text.trim();
    let start = range.start + (text.len() - text.trim_start().len());
    let whole = start..start + trimmed.len();
    let at = || Loc::new(source, whole.clone());
    if let Some(kind) = python_word(trimmed) {
        return Ok(Node::new(kind, at()));
    }
    if let Some(inner) = trimmed.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        return items(source, start + 1..start + 1 + inner.len(), levels)
            .map(|items| Node::new(Kind::Seq(items), at()));
    }
    if !trimmed.starts_with(['[', '{', '"', '\'']) && splits(trimmed).len() > 1 {
        return items(source, whole.clone(), levels).map(|items| Node::new(Kind::Seq(items), at()));
    }
    if let Some(inner) = trimmed.strip_prefix('[').and_then(|t| t.strip_suffix(']'))
        && inner.contains('(')
    {
        return items(source, start + 1..start + 1 + inner.len(), levels)
            .map(|items| Node::new(Kind::Seq(items), at()));
    }
    // Blanks instead of the part before it: the places are those of the argument.
    let padded = format!("{}{trimmed}", " ".repeat(start));
    let value = yaml::parse_masked(source, &padded)?;
    let plain = !trimmed.starts_with(['"', '\'', '|', '>', '&', '!']);
    Ok(match &*value.kind {
        // There are no comments in an argument: `run #1` is all of it.
        Kind::Str(_) if plain => Node::new(Kind::Str(trimmed.to_owned()), at()),
        Kind::Null => Node::new(Kind::Null, at()),
        _ => merge::stripped(value),
    })
}

fn items(source: &Arc<Source>, range: Range<usize>, levels: usize) -> Result<Vec<Node>, Diags> {
    let text = &source.text[range.clone()];
    splits(text)
        .into_iter()
        .filter(|part| !text[part.clone()].trim().is_empty())
        .map(|part| value(source, range.start + part.start..range.start + part.end, levels))
        .collect()
}

/// The ranges between the commas that are in no bracket and no quote.
fn splits(text: &str) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(start..i);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(start..text.len());
    parts
}

fn python_word(text: &str) -> Option<Kind> {
    match text {
        "None" => Some(Kind::Null),
        "True" => Some(Kind::Bool(true)),
        "False" => Some(Kind::Bool(false)),
        _ => None,
    }
}
