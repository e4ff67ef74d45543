//! The constants by which the families of MPI libraries differ.

use std::ffi::c_int;

use crate::base::Elem;

/// A handle of any family.
pub type Handle = usize;

/// What tells a family: its constants.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub name: &'static str,
    pub world: Handle,
    pub byte: Handle,
    /// The type of [`Elem`].
    pub elem: Handle,
    pub sum: Handle,
    pub errors_return: Handle,
    pub serialized: c_int,
}

/// Whether elements have 64 bits.
pub const DOUBLE: bool = size_of::<Elem>() == size_of::<f64>();

pub const MPICH: Family = Family {
    name: "MPICH",
    world: 0x4400_0000,
    byte: 0x4c00_010d,
    elem: if DOUBLE { 0x4c00_080b } else { 0x4c00_040a },
    sum: 0x5800_0003,
    errors_return: 0x5400_0001,
    serialized: 2,
};
pub const ABI: Family = Family {
    name: "MPI 5",
    world: 0x101,
    byte: 0x247,
    elem: if DOUBLE { 0x214 } else { 0x210 },
    sum: 0x21,
    errors_return: 0x142,
    serialized: 2048,
};
