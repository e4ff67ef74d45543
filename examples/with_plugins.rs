//! A binary that links a plugin crate: `use grad_noise as _;` is all it takes.
//!
//! With arguments it is the whole command line (`with_plugins train my.yaml`). Without, it shows that `GradNoise` can
//! be named.
#![allow(clippy::print_stdout)] // an example speaks

use std::process::ExitCode;

use grad_noise as _;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        return shanty::cli::main();
    }
    let found = shanty::registry::entries("hook").any(|entry| entry.name == "GradNoise");
    println!("GradNoise is {}", if found { "linked" } else { "missing" });
    ExitCode::from(u8::from(!found))
}
