//! A config as a tree of values that know where they stand.
//!
//! YAML or JSON text becomes a [`Node`]; `_base_` files, overrides and references are resolved on the tree; a Rust type
//! is read from it by a deserializer that points every complaint at a file, line and column.

mod bounds;
mod de;
mod diag;
mod interpolate;
mod load;
mod merge;
mod mmcv;
mod node;
mod overrides;
mod path;
mod provenance;
mod python;
pub mod source;
mod types;
mod yaml;

pub use de::check_ranges;
pub(crate) use de::hand_off::{FromNode, receive};
pub(crate) use de::{broken_rule, empty_above, fields_of, read, read_checked};
pub use diag::{Diag, Diags, Level};
pub use load::{Loaded, load, load_all, parse};
pub use node::{Key, Kind, Node};
pub use overrides::apply as overridden;
pub(crate) use path::quoted;
pub(crate) use provenance::split;
pub use provenance::{Step, provenance};
pub use source::{Loc, Source};
pub(crate) use types::yes;
pub use types::{Dict, OneOrMany, null_is_default};

/// The Rust of docs/config.md is a test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/config.md")]
pub struct Page;
