//! The table of all entries that are linked into this program, and the search for a name.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::{Entry, KindEntry, Registrable, advice, alias, project};
use crate::base::suggest::nearest;
use crate::base::{Error, Result};
use crate::config::{Diag, Diags, Node};

/// Scopes of MMEngine and its libraries that mean no crate of ours.
const SCOPES: [&str; 9] =
    ["mmengine", "mmpretrain", "mmcls", "mmdet", "mmseg", "mmcv", "torch", "core", env!("CARGO_PKG_NAME")];

struct Table {
    kinds: Vec<&'static KindEntry>,
    entries: BTreeMap<(&'static str, &'static str), &'static Entry>,
    /// One line for each name that is registered twice.
    clashes: Vec<String>,
}

/// The table is fixed when the program is linked; here it is only put in order.
fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut kinds: Vec<_> = inventory::iter::<KindEntry>.into_iter().collect();
        kinds.sort_by_key(|kind| (kind.name, kind.origin));
        let mut all: Vec<_> = inventory::iter::<Entry>.into_iter().collect();
        all.sort_by_key(|entry| (entry.name, entry.origin));
        let name_of = |id: TypeId| kinds.iter().find(|kind| kind.id == id).map_or("?", |kind| kind.name);
        let mut clashes: Vec<String> = kinds
            .windows(2)
            .filter(|pair| pair[0].name == pair[1].name)
            .map(|pair| clash("kind", pair[0].name, pair[0].origin, pair[1].origin))
            .collect();
        let mut entries = BTreeMap::new();
        for entry in all {
            let kind = name_of(entry.kind);
            match entries.entry((kind, entry.name)) {
                std::collections::btree_map::Entry::Vacant(slot) => drop(slot.insert(entry)),
                std::collections::btree_map::Entry::Occupied(slot) => {
                    let first: &&Entry = slot.get();
                    clashes.push(clash(kind, entry.name, first.origin, entry.origin));
                }
            }
        }
        Table { kinds, entries, clashes }
    })
}

fn clash(kind: &str, name: &str, first: super::Origin, second: super::Origin) -> String {
    format!("the {kind} `{name}` is registered twice: by {first} and by {second}")
}

/// Every kind, sorted by name.
pub fn kinds() -> impl Iterator<Item = &'static KindEntry> {
    table().kinds.iter().copied()
}

/// Every entry of a kind (`hook`, `dataset`, …), sorted by name.
pub fn entries(kind: &str) -> impl Iterator<Item = &'static Entry> {
    let kind = kind.to_owned();
    table().entries.iter().filter(move |((k, _), _)| *k == kind).map(|(_, entry)| *entry)
}

/// The entry of a name, or of `crate.name`, with the name of its kind; every kind is searched.
pub fn find(name: &str) -> impl Iterator<Item = (&'static str, &'static Entry)> {
    let (scope, name) = split(name);
    let (scope, name) = (scope.map(str::to_owned), name.to_owned());
    let entries =
        table().entries.iter().filter(move |((_, n), entry)| *n == name && fits(scope.as_deref(), entry));
    entries.map(|((kind, _), entry)| (*kind, *entry))
}

/// The crates whose types are linked, sorted.
pub fn crates() -> BTreeSet<&'static str> {
    table().entries.values().map(|entry| entry.origin.krate()).collect()
}

/// Whether every name is registered once.
///
/// # Errors
/// [`Error::Config`] that names both places of each name that is not.
pub fn check() -> Result<()> {
    match table().clashes.as_slice() {
        [] => Ok(()),
        clashes => Err(Error::config(clashes.join("\n"))),
    }
}

/// The scope and the name: of `torch.nn.ReLU`, the way that Python would go, and `ReLU`.
fn split(name: &str) -> (Option<&str>, &str) {
    match name.rsplit_once('.') {
        Some((scope, name)) => (Some(scope), name),
        None => (None, name),
    }
}

/// The name behind a scope that means nothing here: `ValLoop` of `mmengine.runner.ValLoop`.
pub(crate) fn unscoped(name: &str) -> &str {
    match split(name) {
        (Some(scope), bare) if is_neutral(scope) => bare,
        _ => name,
    }
}

/// Whether a scope is that of a project whose names are ours.
fn is_neutral(scope: &str) -> bool {
    SCOPES.contains(&scope.split('.').next().unwrap_or_default())
}

fn fits(scope: Option<&str>, entry: &Entry) -> bool {
    scope.is_none_or(|scope| is_neutral(scope) || scope.replace('-', "_") == entry.origin.krate())
}

/// The entry that `name` (the value of `type`) stands for.
pub(super) fn lookup<T: ?Sized + Registrable>(name: &Node, text: &str) -> Result<&'static Entry, Diags> {
    if let Err(clash) = check() {
        return Err(Diag::error(clash.to_string()).into());
    }
    let (scope, bare) = split(text);
    let diag = match table().entries.get(&(T::KIND, bare)) {
        Some(entry) if fits(scope, entry) => return Ok(entry),
        Some(entry) => {
            Diag::error(format!("the crate `{}` has no {} `{bare}`", scope.unwrap_or(""), T::KIND))
                .on(name)
                .label(format!("this {} is registered by {}", T::KIND, entry.origin.krate()))
                .fix(bare)
        }
        None => unknown::<T>(name, text),
    };
    Err(diag.into())
}

fn unknown<T: ?Sized + Registrable>(node: &Node, text: &str) -> Diag {
    let name = split(text).1;
    let diag = Diag::error(format!("unknown {} `{name}`", T::KIND)).on(node);
    let known: Vec<&str> = entries(T::KIND).map(|entry| entry.name).collect();
    if let Some(where_it_is) = advice(T::KIND, name) {
        return diag.note(where_it_is);
    }
    if let Some(ours) = alias(T::KIND, name) {
        return diag.fix(ours).note(list::<T>(&known));
    }
    if let Some((kind, _)) = find(name).next() {
        return diag.label(format!("this is {}", a(kind))).note(list::<T>(&known));
    }
    if let Some(project) = project(name) {
        let message = format!("`{name}` is a type of {project} that shanty does not have");
        let own = format!("a crate of your own can register {} of this name: see docs/config.md", a(T::KIND));
        return Diag { message, ..diag }.note(list::<T>(&known)).note(own);
    }
    let linked = crates().into_iter().collect::<Vec<_>>().join(", ");
    let diag = diag.note(list::<T>(&known)).note(format!(
        "a crate that nothing names is not linked; linked are: {linked}. For a type of another crate, write \
         `use that_crate as _;` in the binary"
    ));
    match nearest(name, known.iter().copied()) {
        Some(near) => diag.fix(near),
        None if name.contains(char::is_whitespace) => {
            diag.note("the value goes on in the next line: is there a colon missing?")
        }
        None => diag,
    }
}

/// `known types of hook: A, B`.
pub(super) fn list<T: ?Sized + Registrable>(known: &[&str]) -> String {
    match known {
        [] => format!("no {} is registered", T::KIND),
        known => format!("known types of {}: {}", T::KIND, known.join(", ")),
    }
}

/// `a hook`, `an optimizer`.
pub(super) fn a(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}
