//! Level 3: networks.

pub mod kernels;
