//! Panics of code that others wrote, as errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{BoxError, Error, Result};

/// Runs `call`, turning a panic into an error with its message.
///
/// # Errors
/// What `call` returns, and its panic.
pub fn caught<T>(call: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    message_of(call).unwrap_or_else(|text| Err(format!("panicked: {text}").into()))
}

/// As [`caught`], for errors of this library; a panic says who did it: `the sampler panicked: …`.
///
/// # Errors
/// What `call` returns, and its panic.
pub fn caught_from<T>(who: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    message_of(call).unwrap_or_else(|text| Err(Error::invalid(format!("{who} panicked: {text}"))))
}

fn message_of<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
    })
}
