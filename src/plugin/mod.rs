//! For crates that bring parts of their own: hooks, models, optimizers.

pub mod prelude;
