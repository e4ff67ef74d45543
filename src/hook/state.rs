//! What a hook keeps in checkpoints.

use serde::{Serialize, de::DeserializeOwned};

use super::HookResult;
use crate::base::Record;

/// State of a hook that survives a resume: any type that serde can write and read, and that begins at its default. A
/// hook lends it by [`Hook::state`](super::Hook::state), and the run does the rest.
///
/// A type without `Serialize` may implement it by hand, for state with tensors in it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of a hook",
    note = "derive `Default`, `Serialize` and `Deserialize` for it; state with tensors implements `HookState` by hand"
)]
pub trait HookState {
    /// What a checkpoint keeps.
    ///
    /// # Errors
    /// Any; the save fails then, and the run ends with it.
    fn save(&self) -> HookResult<Record>;

    /// Takes back what [`save`](Self::save) gave, before `after_load_checkpoint`.
    ///
    /// # Errors
    /// Any; the resume fails then.
    fn load(&mut self, record: Record) -> HookResult;

    /// Begins anew: called before a run that starts at iteration 0.
    fn reset(&mut self);
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Default> HookState for T {
    fn save(&self) -> HookResult<Record> {
        Record::of(self)
    }

    fn load(&mut self, record: Record) -> HookResult {
        *self = record.read()?;
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}
