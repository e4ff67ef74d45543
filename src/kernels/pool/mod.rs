//! Pooling over windows, and over whole planes.
//!
//! A window is not walked output by output: each of its taps goes along a whole row of outputs, so that the loop
//! becomes vectors for any size of window. Planes are the tasks.
//!
//! `pool2d`: shapes and public functions; `plane`: the loops over one plane; `adaptive`: a given number of parts.

mod adaptive;
mod plane;
mod pool2d;

pub use adaptive::{
    AdaptivePoolGeom, adaptive_avg_pool2d, adaptive_avg_pool2d_backward, adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
};
pub use pool2d::{
    PoolGeom, avg_pool2d, avg_pool2d_backward, global_avg_pool, global_avg_pool_backward, max_pool2d,
    max_pool2d_backward,
};
