//! Initial weights: what the entries of `init_cfg` do to a module.

use std::any::Any;

/// One entry of `init_cfg`.
pub trait Initializer: Any + Send {}
