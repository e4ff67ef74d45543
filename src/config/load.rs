//! Files: reading them, their `_base_` files, and what is taken off the top.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::bounds::{MAX_BYTES, within_bounds};
use super::source::{Loc, Origin, Source};
use super::{Diag, Diags, Key, Kind, Node, interpolate, merge, mmcv, overrides, python};
use crate::base::{durable, suggest::nearest, text};

/// Longer chains of base files than this are refused.
const MAX_CHAIN: usize = 32;
/// Keys that MMEngine keeps for itself.
const RESERVED: [&str; 4] = ["filename", "text", "pretty_text", "env_variables"];

/// A config as it came out of its files and overrides.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The merged tree.
    pub node: Node,
    /// Every file that was read, bases first.
    pub files: Vec<PathBuf>,
    /// What is not wrong, but worth a word.
    pub warnings: Diags,
}

/// Loads a config file with its `_base_` files, and lays `overrides` (`a.b.0=value`) over it. Warnings go to the log.
///
/// # Errors
/// One [`Diag`] for each mistake.
pub fn load(path: &Path, overrides: &[String]) -> Result<Node, Diags> {
    let loaded = load_all(&[path], overrides)?;
    for warning in &loaded.warnings.0 {
        log::warn!("{}", warning.render(false));
    }
    Ok(loaded.node)
}

/// Loads several files, each laid over the ones before it, and then the overrides.
///
/// # Errors
/// One [`Diag`] for each mistake.
pub fn load_all(paths: &[&Path], overrides: &[String]) -> Result<Loaded, Diags> {
    let mut loader = Loader::default();
    let mut node = Node::empty("config");
    for (i, path) in paths.iter().enumerate() {
        let file = loader.file(path, None)?;
        node = if i == 0 { file } else { merge::merge(&node, file)? };
    }
    let node = within_bounds(overrides::apply(&node, overrides)?)?;
    let (node, old) = mmcv::modern(node)?;
    loader.warnings.extend(old);
    Ok(Loaded { node, files: loader.files, warnings: loader.warnings })
}

/// Parses one document from a string; `name` stands for the file in messages. It may not have base files.
///
/// # Errors
/// One [`Diag`] for each mistake.
pub fn parse(name: &str, text: &str) -> Result<Node, Diags> {
    let (node, masked) = interpolate::parse(&Source::new(name, text, Origin::Text))?;
    if let Some((key, _)) = node.entry(BASE) {
        return Err(Diag::error("only a file can have base files").on_key(key).into());
    }
    let node = within_bounds(merge::stripped(masked.fill(&node, None)?))?;
    mmcv::modern(node).map(|(node, _)| node)
}

const BASE: &str = "_base_";
const OVERRIDE: &str = "_override_";
const DEPRECATION: &str = "_deprecation_";

#[derive(Default)]
struct Loader {
    /// Finished files, so that a diamond reads its parent once.
    done: BTreeMap<PathBuf, Node>,
    /// Files that wait for their bases, outermost first.
    waiting: Vec<(PathBuf, String)>,
    files: Vec<PathBuf>,
    warnings: Diags,
}

impl Loader {
    /// A file with its bases merged; `asked` is the place that names it.
    fn file(&mut self, path: &Path, asked: Option<&Loc>) -> Result<Node, Diags> {
        let id = path.canonicalize().map_err(|e| unreadable(path, &e, asked))?;
        if let Some(node) = self.done.get(&id) {
            return Ok(node.clone());
        }
        self.refuse_cycle(&id, path, asked)?;
        python::refuse_file(path, asked)?;
        let source = Source::new(path.display().to_string(), read(path, asked)?, Origin::File);
        self.waiting.push((id.clone(), source.name.clone()));
        let node = within_bounds(self.resolve(&source)?)?;
        self.waiting.pop();
        self.files.push(path.to_owned());
        self.done.insert(id, node.clone());
        Ok(node)
    }

    fn refuse_cycle(&self, id: &Path, path: &Path, asked: Option<&Loc>) -> Result<(), Diags> {
        let diag = match self.waiting.iter().position(|(open, _)| open == id) {
            Some(first) => {
                let chain = self.waiting[first..].iter().map(|(_, name)| name.clone());
                let chain: Vec<_> = chain.chain([path.display().to_string()]).collect();
                Diag::error(format!("base files go in a circle: {}", chain.join(" -> ")))
            }
            None if self.waiting.len() >= MAX_CHAIN => {
                Diag::error(format!("a chain of more than {MAX_CHAIN} base files"))
            }
            None => return Ok(()),
        };
        Err(match asked {
            Some(at) => diag.at(at.clone()),
            None => diag,
        }
        .into())
    }

    fn resolve(&mut self, source: &Arc<Source>) -> Result<Node, Diags> {
        let (node, masked) = interpolate::parse(source).map_err(|diags| python::refused(source, diags))?;
        let node = match &*node.kind {
            Kind::Map(_) => node,
            Kind::Null => node.with_kind(Kind::Map(Vec::new())),
            _ if python::looks_like(&source.text) => return Err(python::refused(source, Diags::default())),
            other => {
                let message = format!("a config is a mapping, and this file is {}", other.name());
                return Err(Diag::error(message).on(&node).into());
            }
        };
        let base = self.bases(source, &node, &masked)?;
        let own = masked.fill(&without(&node, &[BASE, OVERRIDE]), base.as_ref())?;
        // A dumped config keeps a slip of its sources: where there is no base, there was nothing to delete.
        let own = if base.is_none() { self.without_slips(own) } else { own };
        let own = self.checked(own)?;
        match base {
            Some(base) => merge::merge(&base, own),
            None => Ok(merge::stripped(own)),
        }
    }

    /// The merged base files of one file.
    fn bases(
        &mut self,
        source: &Source,
        node: &Node,
        masked: &interpolate::Masked,
    ) -> Result<Option<Node>, Diags> {
        let Some((key, list)) = node.entry(BASE) else { return Ok(None) };
        let list = masked.fill(list, None)?;
        let names = match &*list.kind {
            Kind::Seq(items) => items.as_slice(),
            _ => std::slice::from_ref(&list),
        };
        let overriding = node.get(OVERRIDE).is_some_and(|flag| matches!(*flag.kind, Kind::Bool(true)));
        let mut merged: Option<Node> = None;
        for name in names {
            let Some(text) = name.as_str() else {
                let message = format!("`_base_` is a path or a list of paths, not {}", name.kind.name());
                return Err(Diag::error(message).on(name).into());
            };
            let path = tidy(&durable::parent(Path::new(&source.name)).join(text));
            let base = self.file(&path, Some(name.place()))?;
            merged = Some(match merged {
                None => base,
                Some(left) => beside(&left, base, overriding)?,
            });
        }
        Ok(Some(merged.unwrap_or_else(|| Node::new(Kind::Map(Vec::new()), key.at.clone()))))
    }

    /// A file without bases, without its `_delete: true`, with a word about each.
    fn without_slips(&mut self, node: Node) -> Node {
        let mut slips = Vec::new();
        if !has_slip(&node) {
            return node;
        }
        let node = unslipped(&node, &mut slips);
        for key in slips {
            let text = "`_delete` means nothing, and `_delete_` would do nothing in a config without a base";
            self.warnings.extend([Diag::warning(text).on_key(&key)]);
        }
        node
    }

    /// The keys of a file that mean something to the loader itself.
    fn checked(&mut self, node: Node) -> Result<Node, Diags> {
        let mut misspelt = Diags::default();
        misspelt_keys(&node, &[BASE, OVERRIDE, DEPRECATION, merge::DELETE], &mut misspelt);
        if !misspelt.0.is_empty() {
            return Err(misspelt);
        }
        if let Some((key, _)) = node.entries().iter().find(|(key, _)| RESERVED.contains(&key.text.as_str())) {
            return Err(Diag::error(format!("the key `{}` is reserved", key.text)).on_key(key).into());
        }
        if let Some((key, about)) = node.entry(DEPRECATION) {
            let said = |what: &str| about.get(what).and_then(Node::as_str).map(str::to_owned);
            let mut warning = Diag::warning("this config is deprecated").on_key(key);
            warning =
                said("expected").map_or(warning.clone(), |new| warning.note(format!("use {new} instead")));
            warning = said("reference").map_or(warning.clone(), |r| warning.note(format!("see {r}")));
            self.warnings.extend([warning]);
        }
        let kept =
            node.entries().iter().filter(|(key, _)| key.text != DEPRECATION && !key.text.starts_with("__"));
        let kept: Vec<(Key, Node)> = kept.cloned().collect();
        Ok(node.with_kind(Kind::Map(kept)))
    }
}

fn is_slip(key: &Key, value: &Node) -> bool {
    key.text == "_delete" && matches!(*value.kind, Kind::Bool(true))
}

fn has_slip(node: &Node) -> bool {
    node.entries().iter().any(|(key, value)| is_slip(key, value) || has_slip(value))
        || node.items().iter().any(has_slip)
}

/// The tree without the entries `_delete: true`, which are added to `slips`.
fn unslipped(node: &Node, slips: &mut Vec<Key>) -> Node {
    match &*node.kind {
        Kind::Map(entries) => {
            slips.extend(
                entries.iter().filter(|(key, value)| is_slip(key, value)).map(|(key, _)| key.clone()),
            );
            let kept = entries.iter().filter(|(key, value)| !is_slip(key, value));
            let kept = kept.map(|(key, value)| (key.clone(), unslipped(value, slips))).collect();
            node.with_kind(Kind::Map(kept))
        }
        Kind::Seq(items) => {
            node.with_kind(Kind::Seq(items.iter().map(|item| unslipped(item, slips)).collect()))
        }
        _ => node.clone(),
    }
}

/// Keys like `_bases_` or `_delete`: nobody else would know what was meant.
fn misspelt_keys(node: &Node, known: &[&str], diags: &mut Diags) {
    for (key, value) in node.entries() {
        let near = nearest(&key.text, known.iter().copied()).filter(|name| *name != key.text);
        if let Some(name) = near.filter(|_| key.text.starts_with('_') && !key.text.starts_with("__")) {
            diags.extend([Diag::error(format!("unknown key `{}`", key.text)).on_key(key).fix(name)]);
        }
        misspelt_keys(value, &[merge::DELETE], diags);
    }
    node.items().iter().for_each(|item| misspelt_keys(item, &[merge::DELETE], diags));
}

/// Two base files of one file: what both set is a mistake, unless the one has it from the other's ancestor.
fn beside(left: &Node, right: Node, overriding: bool) -> Result<Node, Diags> {
    let mut merged = left.entries().to_vec();
    let places = merge::places(&merged);
    let mut diags = Diags::default();
    for (key, value) in right.entries() {
        let Some(slot) = places.get(key.text.as_str()).map(|i| &mut merged[*i]) else {
            merged.push((key.clone(), value.clone()));
            continue;
        };
        if merge::descends(&slot.1, value) {
            continue;
        }
        if merge::descends(value, &slot.1) {
            *slot = (key.clone(), value.clone());
        } else if overriding {
            slot.1 = merge::merge(&slot.1, value.clone())?;
        } else {
            diags.extend([Diag::error(format!("two base files set the key `{}`", key.text))
                .on_key(key)
                .label("set here")
                .place(slot.0.def.clone(), "and here")
                .note("keep one of them, or write `_override_: true` beside `_base_`: the later file wins")]);
        }
    }
    if diags.0.is_empty() { Ok(right.with_kind(Kind::Map(merged))) } else { Err(diags) }
}

/// The path without `.` and `a/..`, if it still leads to the same file (a link may lead elsewhere).
fn tidy(path: &Path) -> PathBuf {
    let mut short = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(short.components().next_back(), Some(Component::Normal(_))) => {
                short.pop();
            }
            part => short.push(part),
        }
    }
    let same = matches!((path.canonicalize(), short.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same || !path.exists() { short } else { path.to_owned() }
}

fn without(node: &Node, keys: &[&str]) -> Node {
    let kept = node.entries().iter().filter(|(key, _)| !keys.contains(&key.text.as_str())).cloned();
    node.with_kind(Kind::Map(kept.collect()))
}

fn read(path: &Path, asked: Option<&Loc>) -> Result<String, Diags> {
    // Whoever opens a pipe waits for a writer; what this process was started with is open already.
    let open = path == Path::new("/dev/stdin") || path.starts_with("/dev/fd");
    if let Ok(about) = std::fs::metadata(path)
        && !(open || about.is_file() || about.is_dir())
    {
        let kind = text::kind_of(about.file_type());
        let diag = Diag::error(format!("cannot read {}: {kind}, not a regular file", path.display()));
        return Err(asked.map_or(diag.clone(), |at| diag.at(at.clone())).into());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| unreadable(path, &e, asked))?;
    if bytes.len() > MAX_BYTES {
        return Err(Diag::error(format!(
            "{}: larger than {} MiB: this is no config",
            path.display(),
            MAX_BYTES >> 20
        ))
        .into());
    }
    String::from_utf8(bytes).map_err(|e| {
        let utf16 = [[0xff, 0xfe], [0xfe, 0xff]].iter().any(|mark| e.as_bytes().starts_with(mark));
        if utf16 {
            return Diag::error(format!("{}: this is UTF-16: save it as UTF-8", path.display())).into();
        }
        let good = String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]).into_owned();
        let source = Source::new(path.display().to_string(), good, Origin::File);
        let end = source.text.len();
        Diag::error("this byte is not UTF-8").at(Loc::new(&source, end..end)).into()
    })
}

fn unreadable(path: &Path, error: &std::io::Error, asked: Option<&Loc>) -> Diags {
    let diag = Diag::error(format!("cannot read {}: {error}", path.display()));
    let Some(at) = asked else {
        return match neighbour(path) {
            Some(name) => diag.suggest(path.with_file_name(name).display().to_string()).into(),
            None => diag.into(),
        };
    };
    let diag = diag.at(at.clone());
    let from = durable::parent(Path::new(&at.source().name));
    let diag = match Path::new(at.text()).is_relative() {
        true => diag.note(format!(
            "the path of a base is counted from the folder of the file that names it, which is {}",
            from.display()
        )),
        false => diag,
    };
    match (neighbour(path), path.file_name().and_then(|n| n.to_str())) {
        (Some(name), Some(wrong)) => diag.fix(at.text().replace(wrong, &name)).into(),
        _ => diag.into(),
    }
}

/// The file in the same folder whose name is nearest.
fn neighbour(path: &Path) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(durable::parent(path))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str)).map(str::to_owned)
}
