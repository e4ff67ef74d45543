//! Of which of three languages a word is, by a transformer: the whole command line of shanty with the networks of candle in it.
//! `cargo run --release --example words -- train configs/words.yaml`

mod nets;

fn main() -> std::process::ExitCode {
    shanty::cli::main()
}
