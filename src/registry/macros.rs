//! `registry!` and `register!`.

use std::any::Any;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::{BuildCx, Maker};
use crate::base::Result;
use crate::config::{Diags, Key, Node, read_checked};

/// Declares a kind: `registry!(dyn Hook, "hook")`, or with the struct of the keys that every spec of the kind may carry:
/// `registry!(dyn Hook, "hook", HookConfig)`. What else [`Registrable`](crate::registry::Registrable) leaves open may
/// follow in braces.
#[macro_export]
macro_rules! registry {
    ($kind:ty, $name:literal $(,)?) => {
        $crate::registry!($kind, $name, $crate::registry::NoExtra);
    };
    ($kind:ty, $name:literal, $extra:ty $(, { $($item:item)* })? $(,)?) => {
        impl $crate::registry::Registrable for $kind {
            const KIND: &'static str = $name;
            type Extra = $extra;
            $($($item)*)?
        }
        $crate::__private::inventory::submit! {
            $crate::registry::KindEntry {
                id: ::core::any::TypeId::of::<$kind>(),
                name: $name,
                origin: $crate::__origin!(),
                extra: |generator| generator.subschema_for::<$extra>(),
                build: |node, cx| {
                    let spec = $crate::registry::Spec::<$kind>::from_node(node).ok()?;
                    Some(spec.build(cx).map(|_| ()))
                },
            }
        }
    };
}

/// Gives a type a name in configs. It must have a doc comment.
///
/// Either the type is its own config (`Deserialize` and `JsonSchema`), or a function makes it of its config and of what
/// the run provides; the function may check what it makes, and one type may have several names:
/// ```
/// use shanty::plugin::prelude::*;
/// # use shanty::data::{Sample, Transform};
/// /// Leaves everything as it is.
/// #[derive(Debug, Clone, Deserialize, JsonSchema)]
/// struct Same {}
/// # impl Transform for Same {
/// #     fn apply(&self, _: &mut Sample, _: &mut Rng) -> Result<()> { Ok(()) }
/// # }
///
/// register! { /// Leaves a sample as it is.
///             dyn Transform, "Same" => Same }
/// register! { /// Leaves a sample as it is, and looks at its config before.
///             dyn Transform, "StillSame" => fn Same::from_config }
///
/// impl Same {
///     fn from_config(config: Self, _: &mut BuildCx) -> Result<Self> {
///         Ok(config)
///     }
/// }
/// # fn main() {}
/// ```
///
/// A type without a doc comment is not taken:
/// ```compile_fail
/// # use shanty::plugin::prelude::*;
/// # #[derive(Debug, Clone, Deserialize, JsonSchema)]
/// # struct Idle {}
/// # impl Hook for Idle {}
/// register! { dyn Hook, "Idle" => Idle }
/// ```
#[macro_export]
macro_rules! register {
    ($(#[doc = $doc:expr])+ $kind:ty, $name:literal => fn $make:path $(,)?) => {
        $crate::__submit!([$($doc),+] $kind, $name, &$crate::registry::Make::<_, $kind>(
            |config, cx| ::core::result::Result::Ok(::std::boxed::Box::new($make(config, cx)?))
        ));
    };
    ($(#[doc = $doc:expr])+ $kind:ty, $name:literal => $own:ty $(,)?) => {
        $crate::__submit!([$($doc),+] $kind, $name, &$crate::registry::Make::<$own, $kind>(
            |config, _| ::core::result::Result::Ok(::std::boxed::Box::new(config))
        ));
    };
    ($kind:ty, $name:literal => $($rest:tt)+) => {
        ::core::compile_error!(concat!(
            "`register!` of \"", $name, "\" has no doc comment: write one in front of the kind, `register! { /// What it does.`; ",
            "`shanty list` and `describe` show it"
        ));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __submit {
    ([$($doc:expr),+] $kind:ty, $name:literal, $maker:expr) => {
        $crate::__private::inventory::submit! {
            $crate::registry::Entry {
                kind: ::core::any::TypeId::of::<$kind>(),
                name: $name,
                doc: &[$($doc),+],
                origin: $crate::__origin!(),
                maker: $maker,
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __origin {
    () => {
        $crate::registry::Origin { module: module_path!(), file: file!(), line: line!() }
    };
}

/// What a config gives: anything that can be read from YAML and described by a schema.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a config",
    note = "derive `Deserialize` and `JsonSchema` for it, or register a function that makes it of its config: \
            `=> fn {Self}::from_config`, with `fn from_config(config: …, cx: &mut BuildCx) -> Result<Self>`"
)]
pub trait FromYaml: DeserializeOwned + JsonSchema {}

#[diagnostic::do_not_recommend]
impl<P: DeserializeOwned + JsonSchema> FromYaml for P {}

/// A builder of `T` from parameters `P`.
pub struct Make<P, T: ?Sized>(pub fn(P, &mut BuildCx) -> Result<Box<T>>);

impl<P: FromYaml, T: ?Sized + Any> Maker for Make<P, T> {
    fn check(&self, node: &Node, key: Option<&Key>, reserved: &[&str]) -> Result<(), Diags> {
        read_checked::<P>(node, key, reserved).map(drop)
    }

    fn build(&self, node: &Node, reserved: &[&str], cx: &mut BuildCx) -> Result<Box<dyn Any>> {
        let params = read_checked(node, None, reserved)?;
        Ok(Box::new((self.0)(params, cx)?))
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<P>()
    }
}
