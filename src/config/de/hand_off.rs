//! How a type that wants the node itself gets it: serde's data model has no such thing.
//!
//! The type asks for a newtype struct of a reserved name; our deserializer lays the node into a thread-local slot for
//! the length of that call and takes the complaints that come back. Nothing outlives the call.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, Visitor};

use crate::config::{Diag, Key, Node};

pub(super) const NAME: &str = "$shanty::Node";

thread_local! {
    static LENT: Cell<Option<(Node, Option<Key>)>> = const { Cell::new(None) };
    static COMPLAINTS: RefCell<Vec<Diag>> = const { RefCell::new(Vec::new()) };
}

/// A type that is read from the node itself. It always gives a value, beside the complaints: with any complaint the
/// reading as a whole gives none, but goes on to find the rest.
pub(crate) trait FromNode: Sized {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>);
}

/// The body of `Deserialize` for a [`FromNode`].
pub(crate) fn receive<'de, T: FromNode, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    d.deserialize_newtype_struct(NAME, Receiver(PhantomData))
}

pub(super) fn borrow<R>(node: &Node, key: Option<&Key>, visit: impl FnOnce() -> R) -> R {
    LENT.set(Some((node.clone(), key.cloned())));
    let result = visit();
    LENT.set(None);
    result
}

pub(super) fn complaints() -> Vec<Diag> {
    COMPLAINTS.take()
}

struct Receiver<T>(PhantomData<T>);

impl<'de, T: FromNode> Visitor<'de> for Receiver<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value of a shanty config")
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        let (node, key) = LENT.take().ok_or_else(|| {
            E::custom("this type can only be read from a shanty config (`config::Node::read`)")
        })?;
        let (value, complaints) = T::from_node(&node, key.as_ref());
        COMPLAINTS.with_borrow_mut(|all| all.extend(complaints));
        Ok(value)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, _: D) -> Result<T, D::Error> {
        self.visit_unit()
    }
}
