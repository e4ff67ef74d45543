//! What the terminal sees: log lines on stderr, results on stdout, and bars that make way for both.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;

/// The bars of this process. The terminal is one per process too.
pub(super) fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Sends log lines to stderr in the reference's layout; `RUST_LOG` chooses more or less of them.
pub(super) fn init() {
    let style =
        if io::stderr().is_terminal() { env_logger::WriteStyle::Auto } else { env_logger::WriteStyle::Never };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format(|out, record| {
            let now = jiff::ZonedDateTime::now().strftime("%m/%d %H:%M:%S");
            let style = out.default_level_style(record.level());
            writeln!(out, "{now} - shanty - {style}{}{style:#} - {}", record.level(), record.args())
        })
        .write_style(style)
        .target(env_logger::Target::Pipe(Box::new(AroundBars)))
        .init();
}

/// Takes the bars off the screen while something else is written.
struct AroundBars;

impl Write for AroundBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bars().suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The result of a command.
pub(super) fn say(text: &str) {
    bars().suspend(|| {
        // A reader that closed the pipe (`| head`) is no error.
        let _ = writeln!(io::stdout(), "{text}");
    });
}

/// Why a command failed.
pub(super) fn complain(text: &str) {
    bars().suspend(|| eprintln!("{text}"));
}

/// Whether messages may be coloured: somebody looks at them.
pub(super) fn in_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
