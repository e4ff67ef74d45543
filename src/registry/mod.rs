//! Types that a config can name.
//!
//! A *kind* is a trait (`dyn Hook`); an *entry* is a type of that kind under a name (`EMAHook`). Both are declared
//! where they are defined, by [`registry!`](crate::registry!) and [`register!`](crate::register!), in this crate or in
//! any other that the binary names (`use my_plugin as _;`). There is no global state: the table is fixed when the
//! program is linked.
//!
//! ```standalone_crate
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//! use shanty::registry::{BuildCx, Spec};
//!
//! trait Shape { fn area(&self) -> f64; }
//! shanty::registry!(dyn Shape, "shape");
//!
//! #[derive(Debug, Clone, Deserialize, JsonSchema)]
//! struct Square {
//!     /// Length of a side, in metres.
//!     #[schemars(range(min = 0.0))]
//!     side: f64,
//! }
//! impl Shape for Square { fn area(&self) -> f64 { self.side * self.side } }
//! shanty::register! { /// Four equal sides.
//!                     dyn Shape, "Square" => Square }
//!
//! let config = shanty::config::parse("c.yaml", "{type: Square, side: 3}").unwrap();
//! let spec: Spec<dyn Shape> = config.read().unwrap();      // name and parameters are checked here …
//! let shape = spec.build(&mut BuildCx::new(0)).unwrap();   // … and nothing is built before this
//! assert_eq!(shape.area(), 9.0);
//! ```

mod collect;
mod cx;
mod describe;
mod elsewhere;
mod explain;
mod macros;
mod parts;
mod schema;
mod spec;
mod table;

use std::any::{Any, TypeId};
use std::fmt::Debug;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::base::Result;
use crate::config::{Diags, Key, Node};

pub use collect::{Collected, blamed};
pub use cx::BuildCx;
pub use describe::{Parameter, describe, example, parameters};
pub(crate) use elsewhere::{advice, alias, project};
pub use explain::explain;
#[doc(hidden)]
pub use macros::{FromYaml, Make};
pub(crate) use parts::build_apart;
pub(crate) use schema::number_rules;
pub use schema::schema;
pub use spec::Spec;
pub(crate) use table::unscoped;
pub use table::{check, crates, entries, find, kinds};

/// Keys of MMEngine that mean nothing to us in a spec.
const IGNORED: &str = "_scope_";

/// A kind of thing that a config can name: implemented for `dyn Trait` by [`registry!`](crate::registry!).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no kind of thing that a config can name",
    note = "declare it where the trait is defined: `registry!({Self}, \"its name in messages\")`"
)]
pub trait Registrable: Any {
    /// Its name in messages and in `shanty list`: `hook`, `dataset`, …
    const KIND: &'static str;
    /// Keys that every spec of this kind may carry besides `type` and the parameters of its type.
    type Extra: DeserializeOwned + JsonSchema + Default + Clone + Debug;
    /// The type of a mapping that names none; `None`: it has to name one.
    const DEFAULT: Option<&'static str> = None;
    /// The type that a list without a name stands for, and the key that the list is the value of.
    const LIST: Option<(&'static str, &'static str)> = None;

    /// The last touch to what a builder made, from the extra keys of its spec.
    ///
    /// # Errors
    /// When the extra keys ask for what cannot be.
    fn finish(made: Box<Self>, _extra: &Self::Extra, _cx: &mut BuildCx) -> Result<Box<Self>> {
        Ok(made)
    }
}

/// The extra keys of a kind that has none.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct NoExtra {}

/// Where something was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The module, from the crate's name on.
    pub module: &'static str,
    /// The file, as the compiler was given it.
    pub file: &'static str,
    /// The line.
    pub line: u32,
}

impl Origin {
    /// The crate.
    pub fn krate(&self) -> &'static str {
        self.module.split("::").next().unwrap_or(self.module)
    }
}

/// `shanty (src/hook/builtin/ema.rs:12)`.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}:{})", self.krate(), self.file, self.line)
    }
}

/// A registered kind.
pub struct KindEntry {
    /// `TypeId` of the `dyn Trait`.
    pub id: TypeId,
    /// [`Registrable::KIND`].
    pub name: &'static str,
    /// Where.
    pub origin: Origin,
    /// The schema of [`Registrable::Extra`].
    pub extra: fn(&mut SchemaGenerator) -> Schema,
    /// Makes what a spec describes, to hear what its builder says; `None` for a spec that is wrong by itself.
    pub build: fn(&Node, &mut BuildCx) -> Option<Result<()>>,
}

/// A registered type.
pub struct Entry {
    /// `TypeId` of the `dyn Trait` it is.
    pub kind: TypeId,
    /// Its name in configs.
    pub name: &'static str,
    /// The doc comment, line by line, as written (a leading blank).
    pub doc: &'static [&'static str],
    /// Where.
    pub origin: Origin,
    /// How parameters are read and the thing is made.
    pub maker: &'static dyn Maker,
}

inventory::collect!(KindEntry);
inventory::collect!(Entry);

/// The two stages of an entry.
pub trait Maker: Sync {
    /// Reads the parameters and drops them. `reserved` keys of the mapping are not parameters.
    ///
    /// # Errors
    /// All that is wrong with them.
    fn check(&self, node: &Node, key: Option<&Key>, reserved: &[&str]) -> Result<(), Diags>;
    /// Makes the thing: a `Box<dyn Trait>` in a `Box<dyn Any>`.
    ///
    /// # Errors
    /// As `check`, and whatever the builder says.
    fn build(&self, node: &Node, reserved: &[&str], cx: &mut BuildCx) -> Result<Box<dyn Any>>;
    /// The schema of the parameters.
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;
}

impl Entry {
    /// The doc comment without its leading blanks; the first line is the summary.
    pub fn doc(&self) -> impl Iterator<Item = &'static str> {
        self.doc.iter().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
    }
}

impl Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.name, self.origin)
    }
}
