//! Handwritten digits by a residual network: the whole command line of shanty with the networks of candle in it.
//! `cargo run --release --example digits -- train configs/digits.yaml`

mod nets;

fn main() -> std::process::ExitCode {
    shanty::cli::main()
}
