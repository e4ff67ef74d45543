//! The command line of shanty with this hook in it.
use my_hook as _;

fn main() -> std::process::ExitCode {
    shanty::cli::main()
}
