//! Numbers of a step that a device is still at work on.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Error, Result, caught_from};

type Read = Box<dyn FnOnce() -> Result<Vec<f64>> + Send>;

/// Numbers that come down from a device when somebody looks at them, once and together: a run that logs every tenth
/// iteration waits for the device in every tenth. Clones are the same numbers.
///
/// ```
/// use shanty::model::{Late, Outputs};
/// let mut outputs = Outputs::late(Late::new(["loss".into()], || Ok(vec![0.5])));
/// assert!(outputs.vars.is_empty());
/// assert_eq!(outputs.loss(), Some(0.5)); // waits
/// outputs.settle()?;
/// assert_eq!(outputs.vars[0], ("loss".into(), 0.5));
/// # Ok::<_, shanty::base::Error>(())
/// ```
#[derive(Clone)]
pub struct Late(Arc<Shared>);

struct Shared {
    names: Vec<Cow<'static, str>>,
    state: Mutex<State>,
}

enum State {
    Owed(Read),
    Had(Vec<f64>),
    Lost(String),
}

impl Late {
    /// Numbers of these names, and how to get them: as many, in the same order. It is called on the thread that trains.
    pub fn new(
        names: impl IntoIterator<Item = Cow<'static, str>>,
        read: impl FnOnce() -> Result<Vec<f64>> + Send + 'static,
    ) -> Self {
        let state = Mutex::new(State::Owed(Box::new(read)));
        Self(Arc::new(Shared { names: names.into_iter().collect(), state }))
    }

    /// What they are called.
    pub fn names(&self) -> &[Cow<'static, str>] {
        &self.0.names
    }

    /// The numbers with their names; waits for the device the first time.
    ///
    /// # Errors
    /// What the device says, each time.
    pub fn numbers(&self) -> Result<Vec<(Cow<'static, str>, f64)>> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Owed(_) = &*state {
            let owed = std::mem::replace(&mut *state, State::Had(Vec::new()));
            let State::Owed(read) = owed else { return Ok(Vec::new()) };
            *state = match caught_from("the device", read) {
                Ok(all) if all.len() == self.0.names.len() => State::Had(all),
                Ok(all) => State::Lost(format!("{} numbers came of {}", all.len(), self.0.names.len())),
                Err(why) => State::Lost(why.to_string()),
            };
        }
        match &*state {
            State::Had(all) => Ok(self.0.names.iter().cloned().zip(all.iter().copied()).collect()),
            State::Lost(why) => Err(Error::invalid(format!("the numbers of a step cannot be read: {why}"))),
            State::Owed(_) => Ok(Vec::new()),
        }
    }
}

impl PartialEq for Late {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Late({})", self.0.names.join(", "))
    }
}
