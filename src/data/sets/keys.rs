//! The keys that all data sets of MMEngine and MMPretrain take, and what they do here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::{Subset, folder::names_in};
use crate::base::{Error, Result};
use crate::config::{Diag, FromNode, Key, Kind, Node, read, receive};
use crate::data::{Dataset, Unread};
use crate::registry::BuildCx;

/// A config with these keys, and those that all data sets of MMPretrain take.
macro_rules! with_common_keys {
    ($(#[$about:meta])* struct $name:ident { $($(#[$own:meta])* $key:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
        struct $name {
            $($(#[$own])* $key: $kind,)*
            /// Names of the classes by number, or the path of a file with one on each line.
            #[serde(default)]
            classes: Option<crate::data::sets::keys::Names>,
            /// What MMEngine keeps of a data set: `classes`, a list or the path of a file, are the names of its
            /// classes; whatever else stands here is left alone.
            #[serde(default)]
            metainfo: Option<crate::data::sets::keys::Metainfo>,
            /// Which samples to take, in this order: positions, or a number, of the first ones, or if it is below 0 of
            /// the last ones.
            #[serde(default)]
            indices: Option<crate::data::sets::keys::Indices>,
            /// Accepted while it is empty: nothing is filtered out.
            #[serde(default)]
            #[allow(dead_code)]
            filter_cfg: Option<crate::data::sets::keys::Nothing>,
            /// Accepted for MMEngine's configs: workers are threads and share what is known of the samples.
            #[serde(default)]
            #[allow(dead_code)]
            serialize_data: Option<bool>,
            /// Accepted for MMEngine's configs: a set is read when a run needs it.
            #[serde(default)]
            #[allow(dead_code)]
            lazy_init: Option<bool>,
            /// Accepted for MMEngine's configs: no other sample takes the place of one that cannot be read, see
            /// `max_bad_samples` of the loader.
            #[serde(default)]
            #[allow(dead_code)]
            max_refetch: Option<u64>,
            /// What is done to each picture.
            #[serde(default)]
            pipeline: Vec<crate::registry::Spec<dyn crate::data::Transform>>,
        }

        impl $name {
            /// The names of the classes, where the config gives some.
            fn names(&self) -> crate::base::Result<Option<Vec<String>>> {
                crate::data::sets::keys::Names::given(self.classes.as_ref(), self.metainfo.as_ref())
            }
        }
    };
}
pub(super) use with_common_keys;

/// A mapping without keys.
#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
pub(super) struct Nothing {}

/// Which samples of a set.
#[derive(Debug, Clone)]
pub(super) enum Indices {
    /// So many from the beginning, or from the end if it is below 0.
    Count(i64),
    /// Those at these positions; what is below 0 counts from the end.
    At(Vec<i64>),
}

impl Indices {
    /// The positions that are meant of `len`.
    ///
    /// # Errors
    /// More than there are; a position that there is not.
    pub(super) fn of(&self, len: usize) -> Result<Vec<usize>> {
        let count = |n: u64| usize::try_from(n).ok().filter(|n| *n <= len);
        let many = |n: &dyn std::fmt::Display| {
            Error::config(format!("{n} samples are asked for, and there are {len}"))
        };
        match self {
            Self::Count(n @ 0..) => Ok((0..count(n.unsigned_abs()).ok_or_else(|| many(n))?).collect()),
            Self::Count(n) => {
                let last = count(n.unsigned_abs()).ok_or_else(|| many(&n.unsigned_abs()))?;
                Ok((len - last..len).collect())
            }
            Self::At(all) => {
                let place = |at: &i64| match at {
                    0.. => usize::try_from(*at).ok().filter(|at| *at < len),
                    _ => count(at.unsigned_abs()).map(|back| len - back),
                };
                let wrong =
                    |at: &i64| Error::config(format!("there is no sample {at}: the data set has {len}"));
                all.iter().map(|at| place(at).ok_or_else(|| wrong(at))).collect()
            }
        }
    }

    /// The samples of `set` that are meant; all, where none are named.
    pub(super) fn cut(
        of: Option<&Self>,
        set: impl Dataset + 'static,
        cx: &BuildCx,
    ) -> Result<Box<dyn Dataset>> {
        let Some(indices) = of else { return Ok(Box::new(set)) };
        if Unread::is_enough(cx) {
            return Ok(Box::new(Subset::new(Box::new(set), Vec::new())?));
        }
        let chosen = indices.of(set.len()).map_err(|e| Error::config(format!("`indices`: {e}")))?;
        Ok(Box::new(Subset::new(Box::new(set), chosen)?))
    }
}

impl FromNode for Indices {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let read = match &*node.kind {
            Kind::Seq(_) => read(node, key, &[]).map(Self::At),
            _ => read(node, key, &[]).map(Self::Count),
        };
        read.map_or_else(|diags| (Self::Count(0), diags.0), |indices| (indices, Vec::new()))
    }
}

/// A folder; MMPretrain also writes `{img_path: folder}`.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefix(PathBuf);

impl Prefix {
    /// The folder that is meant, within `root` unless it is absolute; `root` itself where none is given.
    pub(super) fn within(of: Option<&Self>, root: &Path) -> PathBuf {
        match of.filter(|prefix| !prefix.is_empty()) {
            Some(Self(folder)) => root.join(folder),
            None => root.to_owned(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.as_os_str().is_empty()
    }
}

impl FromNode for Prefix {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let img_path = node.entries().iter().find(|(key, _)| key.text == "img_path");
        let unknown = node.entries().iter().find(|(key, _)| key.text != "img_path");
        if let Some((key, place)) = unknown {
            let diag =
                Diag::error(format!("unknown key `{}`: a mapping here has `img_path` alone", key.text));
            return (Self(PathBuf::new()), vec![diag.on(place)]);
        }
        match read(img_path.map_or(node, |(_, folder)| folder), key, &[]) {
            Ok(folder) => (Self(folder), Vec::new()),
            Err(diags) => (Self(PathBuf::new()), diags.0),
        }
    }
}

/// Names of classes, or the file that lists them.
#[derive(Debug, Clone)]
pub(super) enum Names {
    Given(Vec<String>),
    File(PathBuf),
}

impl Names {
    fn read(&self) -> Result<Vec<String>> {
        match self {
            Self::Given(names) => Ok(names.clone()),
            Self::File(file) => names_in(file),
        }
    }

    /// What `classes` and `metainfo` name.
    ///
    /// # Errors
    /// The file's; a name that comes twice; two lists that are not the same.
    pub(super) fn given(classes: Option<&Self>, metainfo: Option<&Metainfo>) -> Result<Option<Vec<String>>> {
        let classes = classes.map(Self::read).transpose()?;
        let meta = metainfo.and_then(|meta| meta.classes.as_ref()).map(Self::read).transpose()?;
        let names = match (classes, meta) {
            (Some(a), Some(b)) if a != b => {
                return Err(Error::config(
                    "`classes` and `metainfo.classes` name different classes: leave one out",
                ));
            }
            (a, b) => a.or(b),
        };
        let mut seen = HashSet::new();
        match names.iter().flatten().find(|name| !seen.insert(*name)) {
            Some(twice) => Err(Error::invalid(format!("`classes` names {twice:?} twice"))),
            None => Ok(names),
        }
    }
}

impl FromNode for Names {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        match &*node.kind {
            Kind::Str(file) => (Self::File(file.into()), Vec::new()),
            _ => match read(node, key, &[]) {
                Ok(names) => (Self::Given(names), Vec::new()),
                Err(diags) => (Self::Given(Vec::new()), diags.0),
            },
        }
    }
}

/// What MMEngine keeps of a data set, of which the names of the classes count here.
#[derive(Debug, Clone)]
pub(super) struct Metainfo {
    classes: Option<Names>,
}

impl FromNode for Metainfo {
    fn from_node(node: &Node, _: Option<&Key>) -> (Self, Vec<Diag>) {
        if !matches!(&*node.kind, Kind::Map(_)) {
            let diag = Diag::error("`metainfo` is a mapping, such as {classes: [cat, dog]}").on(node);
            return (Self { classes: None }, vec![diag]);
        }
        let classes = node.entries().iter().find(|(key, _)| key.text == "classes");
        match classes.map(|(key, node)| Names::from_node(node, Some(key))) {
            Some((names, diags)) => (Self { classes: Some(names) }, diags),
            None => (Self { classes: None }, Vec::new()),
        }
    }
}

/// Reads these as their nodes are written, and describes them so.
macro_rules! read_from_nodes {
    ($($name:ident, $title:literal => $schema:tt;)+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                receive(d)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}
read_from_nodes! {
    Indices, "Indices" => {
        "anyOf": [{ "type": "integer" }, { "type": "array", "items": { "type": "integer" } }], "x-unbounded": true
    };
    Prefix, "Prefix" => {
        "anyOf": [{ "type": "string" }, {
            "type": "object", "properties": { "img_path": { "type": "string" } }, "required": ["img_path"],
            "additionalProperties": false
        }]
    };
    Names, "ClassNames" => {
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
    };
    Metainfo, "Metainfo" => {
        "type": "object",
        "properties": { "classes": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] } }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a list is cut in Python, but for numbers that are too large.
    #[test]
    fn indices_count_from_both_ends() {
        let of = |indices: Indices| indices.of(5).map_err(|e| e.to_string());
        assert_eq!(of(Indices::Count(2)).unwrap(), [0, 1]);
        assert_eq!(of(Indices::Count(-2)).unwrap(), [3, 4]);
        assert_eq!(of(Indices::Count(0)).unwrap(), [0usize; 0]);
        assert_eq!(of(Indices::At(vec![4, 0, -1, -5, 0])).unwrap(), [4, 0, 4, 0, 0]);
        assert_eq!(of(Indices::Count(6)).unwrap_err(), "6 samples are asked for, and there are 5");
        assert_eq!(of(Indices::Count(i64::MIN)).unwrap_err().split(' ').next(), Some("9223372036854775808"));
        for beyond in [5, -6, i64::MAX, i64::MIN] {
            let text = of(Indices::At(vec![1, beyond])).unwrap_err();
            assert_eq!(text, format!("there is no sample {beyond}: the data set has 5"));
        }
    }
}
