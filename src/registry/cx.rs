//! What builders may ask for.

use std::any::{Any, TypeId};
use std::collections::HashMap;

use crate::config::{Diag, Diags};

/// Facts of the run that is being assembled: its seed, and whatever was provided, by type.
#[derive(Default)]
pub struct BuildCx {
    /// The seed of the run.
    pub seed: u64,
    slots: HashMap<TypeId, Box<dyn Any>>,
    odd: Diags,
}

impl BuildCx {
    /// A context with nothing provided.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Provides a value; it replaces one of the same type.
    pub fn provide<T: Any>(&mut self, value: T) {
        self.slots.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// The value of a type, if one was provided.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.slots.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Takes the value of a type back.
    pub fn take<T: Any>(&mut self) -> Option<T> {
        self.slots.remove(&TypeId::of::<T>())?.downcast().ok().map(|value| *value)
    }

    /// Says what is odd about something that can be built all the same.
    pub fn warn(&mut self, odd: impl IntoIterator<Item = Diag>) {
        self.odd.extend(odd);
    }

    /// What builders found odd since this was asked last.
    pub fn take_warnings(&mut self) -> Diags {
        std::mem::take(&mut self.odd)
    }

    /// The same, to be changed.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.slots.get_mut(&TypeId::of::<T>())?.downcast_mut()
    }
}
