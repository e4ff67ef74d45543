//! The only file that names the YAML crate: text to [`Node`] and back.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_yaml::budget::BudgetBreach;
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Error, Location, Options, Spanned};

use super::source::{Loc, Source};
use super::{Diag, Diags, Key, Kind, Node};

/// Deeper nesting than this is refused; the tree is walked by recursion.
pub(super) const MAX_DEPTH: usize = 64;
/// A config of more keys and values than this is refused, however they came about.
pub(super) const MAX_NODES: usize = 1_000_000;
/// What aliases add may be no more than this: a few lines of them can stand for any number of values.
const MAX_REPEATED: usize = 200_000;

/// Parses one document. An empty one is null.
///
/// # Errors
/// The first place where it is no YAML, or every duplicate key.
pub(super) fn parse(source: &Arc<Source>) -> Result<Node, Diags> {
    parse_masked(source, &source.text)
}

/// The same with another text in place of the source's, in which all places are the same: see `interpolate`.
pub(super) fn parse_masked(source: &Arc<Source>, text: &str) -> Result<Node, Diags> {
    if text.contains('\0') {
        let at = text.find('\0').unwrap_or_default();
        return Err(Diag::error("a NUL byte: this is no text file").at(Loc::new(source, at..at + 1)).into());
    }
    let raw: Option<Raw> =
        serde_yaml::from_str_with_options(text, options()).map_err(|e| complaint(source, text, &e))?;
    let mut tree = Tree { source, diags: Diags::default() };
    let node = match raw {
        Some(raw) => tree.node(raw),
        None => Node::new(Kind::Null, Loc::whole(source)),
    };
    if tree.diags.0.is_empty() { Ok(node) } else { Err(tree.diags) }
}

/// Writes a value as YAML; strings that look like something else are quoted.
pub(super) fn write(value: &impl Serialize) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|e| e.to_string())
}

/// YAML 1.2 core schema, no silent change of a value, everything bounded.
fn options() -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 3 * MAX_NODES,
            max_documents: 1,
            // One anchor used a hundred times is no bomb: what aliases expand to is counted.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 2 * MAX_REPEATED,
        },
        // Found in our tree instead, with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

type Raw = Spanned<RawKind>;

enum RawKind {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(String),
    Seq(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }
    fn visit_none<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<RawKind, D::Error> {
        d.deserialize_any(self)
    }
    fn visit_bool<E>(self, v: bool) -> Result<RawKind, E> {
        Ok(RawKind::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<RawKind, E> {
        Ok(RawKind::Int(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<RawKind, E> {
        Ok(i64::try_from(v).map_or(RawKind::Uint(v), RawKind::Int))
    }
    fn visit_f64<E>(self, v: f64) -> Result<RawKind, E> {
        Ok(RawKind::Float(v))
    }
    fn visit_str<E>(self, v: &str) -> Result<RawKind, E> {
        Ok(RawKind::Str(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<RawKind, E> {
        Ok(RawKind::Str(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(RawKind::Seq(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawKind, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawKind::Map(entries))
    }
    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<RawKind, E> {
        Err(E::custom("binary data has no place in a config"))
    }
}

/// Turns what the crate read into our tree, and finds what it let pass.
struct Tree<'a> {
    source: &'a Arc<Source>,
    diags: Diags,
}

impl Tree<'_> {
    fn node(&mut self, raw: Raw) -> Node {
        let (at, def) = (self.loc(&raw.referenced), self.loc(&raw.defined));
        let kind = match raw.value {
            RawKind::Null => Kind::Null,
            RawKind::Bool(v) => Kind::Bool(v),
            RawKind::Int(v) => Kind::Int(v),
            RawKind::Uint(v) => Kind::Uint(v),
            RawKind::Float(v) => {
                self.overflow(v, &def);
                Kind::Float(v)
            }
            RawKind::Str(v) => Kind::Str(v),
            RawKind::Seq(items) => Kind::Seq(items.into_iter().map(|item| self.node(item)).collect()),
            RawKind::Map(entries) => Kind::Map(self.entries(entries)),
        };
        Node { kind: Arc::new(kind), at, def, before: None }
    }

    fn entries(&mut self, raw: Vec<(Spanned<String>, Raw)>) -> Vec<(Key, Node)> {
        let mut seen: HashMap<String, (Loc, Option<usize>)> = HashMap::with_capacity(raw.len());
        let mut entries = Vec::with_capacity(raw.len());
        let mut again: Vec<Diag> = Vec::new();
        for (key, value) in raw {
            let key = Key { at: self.loc(&key.referenced), def: self.loc(&key.defined), text: key.value };
            match seen.get_mut(&key.text) {
                None => drop(seen.insert(key.text.clone(), (key.def.clone(), None))),
                Some((first, told @ None)) => {
                    *told = Some(again.len());
                    again.push(twice(&key, first.clone()));
                }
                // However often it stands there, it is one mistake.
                Some((_, Some(told))) => {
                    if let Some(diag) = again.get_mut(*told).filter(|diag| diag.places.len() < SHOWN) {
                        diag.places.push((key.def.clone(), "and here".to_owned()));
                    }
                }
            }
            entries.push((key, self.node(value)));
        }
        self.diags.extend(again);
        entries
    }

    /// The crate turns an integer beyond 64 bits into a float, and a float beyond the range into infinity.
    fn overflow(&mut self, value: f64, def: &Loc) {
        let text = def.text();
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let is_integer = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let message = if is_integer {
            format!("the integer {text} does not fit into 64 bits")
        } else if value.is_infinite() && digits.starts_with(|c: char| c.is_ascii_digit()) {
            format!("the number {text} is too large")
        } else {
            return;
        };
        self.diags.extend([Diag::error(message).at(def.clone())]);
    }

    fn loc(&self, raw: &Location) -> Loc {
        let span = raw.span();
        match (span.byte_offset(), span.byte_len()) {
            (Some(start), Some(len)) => {
                let (start, end) = (start as usize, (start + len) as usize);
                let text = self.source.text.get(start..end).unwrap_or_default();
                // The span of a block scalar runs into the next line's indentation.
                Loc::new(self.source, start..start + text.trim_end().len())
            }
            _ => point(self.source, &self.source.text, raw),
        }
    }
}

/// So many places of a key that is repeated are shown.
const SHOWN: usize = 4;

fn twice(key: &Key, first: Loc) -> Diag {
    Diag::error(format!("the key `{}` stands twice in this mapping", key.text))
        .at(key.def.clone())
        .label("again here")
        .place(first, "first here")
}

/// A place of which only line and column are known (in `text`, which may be masked).
fn point(source: &Arc<Source>, text: &str, raw: &Location) -> Loc {
    let offset = if text.len() == source.text.len() && text != source.text {
        Source::new("", text, source.origin).offset(raw.line() as usize, raw.column() as usize)
    } else {
        source.offset(raw.line() as usize, raw.column() as usize)
    };
    Loc::new(source, offset..offset)
}

/// The crate's error in our words.
fn complaint(source: &Arc<Source>, text: &str, error: &Error) -> Diags {
    let mut error = error.without_snippet();
    while let Error::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    let at = error.location().filter(|l| l.line() > 0).map_or_else(
        || Loc::new(source, 0..0),
        |l| match l.span().byte_offset() {
            Some(start) => {
                let start = start as usize;
                Loc::new(source, start..start + l.span().byte_len().unwrap_or_default() as usize)
            }
            None => point(source, text, &l),
        },
    );
    match error {
        Error::MergeValueNotMapOrSeqOfMaps { .. } => {
            sentence(error).at(merge_key(&at).unwrap_or(at.clone())).place(at, "this is none")
        }
        _ => sentence(error).at(at),
    }
    .into()
}

/// The `<<` that merges the anchored value at `value`: the crate names only the value.
fn merge_key(value: &Loc) -> Option<Loc> {
    let text = value.source().text.as_str();
    let name = text[..value.range().start].trim_end().rsplit(['&', ' ', '\n']).next()?;
    let alias = format!("*{name}");
    let line = text
        .lines()
        .find(|line| line.contains("<<") && line.split(['\t', ' ', ',', ']', '}']).any(|w| w == alias))?;
    // A line of `lines` is a part of the text: its offset is the distance of the two.
    let start = line.as_ptr() as usize - text.as_ptr() as usize + line.find("<<")?;
    Some(Loc::new(value.source(), start..start + 2))
}

fn sentence(error: &Error) -> Diag {
    match error {
        Error::UnknownAnchor { .. } => Diag::error("this alias has no anchor before it")
            .note("`*name` repeats what `&name` marked further up in the same file"),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            Diag::error("this alias stands inside of what it repeats")
        }
        Error::MergeValueNotMapOrSeqOfMaps { .. } => {
            Diag::error("`<<` merges a mapping, or a list of mappings")
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            Diag::error(format!("the aliases of this file expand to more than {MAX_REPEATED} values"))
        }
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            Diag::error("a second document (`---`): a config is one document")
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            Diag::error(format!("nested deeper than {MAX_DEPTH} levels"))
        }
        Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            Diag::error(format!("more than {MAX_NODES} keys and values: this is no config"))
        }
        Error::Budget { breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. }, .. } => {
            Diag::error("more anchors or aliases than a config may have")
        }
        Error::Budget { breach, .. } => Diag::error(format!("larger than a config may be: {breach:?}")),
        Error::Eof { .. } => Diag::error("the file ends in the middle of a value"),
        other => scanner(&message(other)),
    }
}

/// What the scanner stumbled over, for people who do not know YAML's grammar.
fn scanner(text: &str) -> Diag {
    let ours = [
        ("tabs disallowed", "a tab in the indentation: YAML indents with blanks"),
        ("simple key expected", "this line is no `key: value`: a colon or the blank after it is missing"),
        (
            "mapping values are not",
            "a second `: ` in one value: quote the value, or mend the indentation of this line",
        ),
        ("while parsing a block mapping", "the indentation of this line fits no mapping above it"),
        ("while parsing a block collection", "the indentation of this line fits no list above it"),
        ("block sequence entries", "a list item cannot start here: put it on a line of its own"),
        ("recursion limit", "nested too deeply"),
    ];
    let known = ours.into_iter().find(|(theirs, _)| text.contains(theirs));
    Diag::error(known.map_or(text, |(_, ours)| ours))
}

/// The crate's own text without the place at its end, which we show better.
fn message(error: &Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let end = [" at line ", " (line "].iter().filter_map(|mark| text.rfind(mark)).min().unwrap_or(text.len());
    text[..end].trim_end_matches(',').to_owned()
}
