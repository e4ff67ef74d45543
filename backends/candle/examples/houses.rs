//! House prices from a table: the whole command line of shanty with the networks of candle in it.
//! `cargo run --release --example houses -- train configs/houses.yaml`

mod nets;

fn main() -> std::process::ExitCode {
    shanty::cli::main()
}
