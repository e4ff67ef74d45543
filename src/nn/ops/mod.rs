//! The ops of [`super::Var`]: each is one node whose value and way back are kernels on slices.

mod arith;
