//! What every other module stands on. No tensors' arithmetic, no YAML, no hooks.

pub mod caught;
pub mod codec;
pub mod durable;
pub mod error;
pub mod escape;
pub mod fs;
mod fs_push;
pub mod memory;
pub mod number;
pub mod record;
pub mod rng;
mod shapes_only;
pub mod stale;
pub mod suggest;
pub mod tensor;
pub mod text;
mod wall;

pub use caught::{caught, caught_from};
pub use error::{BoxError, Error, Result};
pub use record::Record;
pub use rng::{Rng, beta, keyed, permutation};
pub use shapes_only::{is_shapes_only, left_out, shapes_only};
pub use tensor::{Elem, Tensor};
pub use wall::WallClock;
