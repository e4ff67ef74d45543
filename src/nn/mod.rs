//! Networks.

pub mod init;
