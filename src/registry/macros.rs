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
/// Either the struct is its own parameters, or a closure makes the thing of them:
/// ```ignore
/// register! { /// Share of right answers.
///             dyn Metric, "Accuracy" => Accuracy }
/// register! { /// A 2-d convolution.
///             dyn Module, "Conv2d" => |p: Conv2dConfig, cx: &mut BuildCx| -> Result<Box<dyn Module>> { … } }
/// ```
#[macro_export]
macro_rules! register {
    ($(#[doc = $doc:expr])+ $kind:ty, $name:literal => |$($closure:tt)+) => {
        $crate::__submit!([$($doc),+] $kind, $name, &$crate::registry::Make::<_, $kind>(|$($closure)+));
    };
    ($(#[doc = $doc:expr])+ $kind:ty, $name:literal => $params:ty $(,)?) => {
        $crate::__submit!([$($doc),+] $kind, $name, &$crate::registry::Make::<$params, $kind>(|params, _| Ok(Box::new(params))));
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

/// A builder of `T` from parameters `P`.
pub struct Make<P, T: ?Sized>(pub fn(P, &mut BuildCx) -> Result<Box<T>>);

impl<P: DeserializeOwned + JsonSchema, T: ?Sized + Any> Maker for Make<P, T> {
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
