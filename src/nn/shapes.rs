//! Shapes that ops and layers ask for.

use crate::base::{Error, Result};

/// The four sizes of a batch of images.
pub(super) fn images(shape: &[usize], what: &str) -> Result<[usize; 4]> {
    <[usize; 4]>::try_from(shape).map_err(|_| {
        Error::invalid(format!("{what} wants images of shape [N, C, H, W], got an input of shape {shape:?}"))
    })
}

/// Checks the shape of a parameter against what the op can use.
pub(super) fn expect_shape(what: &str, found: &[usize], wanted: &[usize]) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} has shape {found:?} where {wanted:?} is needed")))
}
