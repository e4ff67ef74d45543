//! The stock binary. A binary with plugins is the same three lines and `use my_plugin as _;` for each.
use std::process::ExitCode;

fn main() -> ExitCode {
    shanty::cli::main()
}
