//! What the terminal sees: log lines on stderr, results on stdout, and a bar that makes way for both.
//!
//! A terminal may go away, a disk may be full, and `head` stops reading: nothing here panics or ends a run. What a
//! command was asked for and could not be printed is remembered, and becomes its exit code. All text passes
//! [`escaped_lines`].

use std::io::{self, IsTerminal, Write};
use std::panic::catch_unwind;
use std::sync::{Mutex, OnceLock, PoisonError};

use indicatif::ProgressBar;

use crate::base::escape::escaped_lines;

/// Why a result could not be printed. The terminal is one per process, and so is this.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// The bar of this process.
fn bar() -> &'static Mutex<Option<ProgressBar>> {
    static BAR: OnceLock<Mutex<Option<ProgressBar>>> = OnceLock::new();
    BAR.get_or_init(Mutex::default)
}

/// From now on this bar makes way for text.
pub(super) fn show(new: &ProgressBar) {
    *bar().lock().unwrap_or_else(PoisonError::into_inner) = Some(new.clone());
}

/// Writes without the bar on the screen.
fn around_bar<R>(write: impl FnOnce() -> R) -> R {
    let bar = bar().lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Sends log lines from this level on to stderr: those of a `run` in MMEngine's layout, of other commands as plain
/// warnings. `RUST_LOG` chooses more or less of them.
pub(super) fn init(run: bool, level: log::LevelFilter) {
    let style =
        if io::stderr().is_terminal() { env_logger::WriteStyle::Auto } else { env_logger::WriteStyle::Never };
    let default = || env_logger::Env::default().default_filter_or(level.as_str());
    // It prints its complaint about a wrong filter, and panics if nobody can read that.
    let builder = catch_unwind(|| env_logger::Builder::from_env(default()));
    let mut builder = builder.unwrap_or_else(|_| {
        let mut plain = env_logger::Builder::new();
        plain.filter_level(level);
        plain
    });
    builder
        .format(move |out, record| {
            if !run {
                let level = if record.level() == log::Level::Warn { "warning" } else { "note" };
                return writeln!(out, "{level}: {}", escaped_lines(&record.args().to_string()));
            }
            let now = jiff::ZonedDateTime::now().strftime("%m/%d %H:%M:%S");
            let style = out.default_level_style(record.level());
            let text = record.args().to_string();
            let text = escaped_lines(&text);
            writeln!(out, "{now} - shanty - {style}{}{style:#} - {text}", record.level())
        })
        .write_style(style)
        .target(env_logger::Target::Pipe(Box::new(AroundBar)));
    // A program may have a logger of its own.
    let _ = builder.try_init();
}

/// Takes the bar off the screen while something else is written.
struct AroundBar;

impl Write for AroundBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        around_bar(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What a command was asked for.
pub(super) fn say(text: &str) {
    if let Err(why) = print(text) {
        LOST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

/// What is good to know beside it. It may be lost.
pub(super) fn tell(text: &str) {
    let _ = print(text);
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    around_bar(|| writeln!(out, "{}", escaped_lines(text)).and_then(|()| io::stdout().flush()))
}

/// Whether all results were printed; complains if not. A reader that has had enough (`| head`) is no failure.
pub(super) fn all_said() -> bool {
    match LOST.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("error: the result cannot be printed: {why}"));
            false
        }
        _ => true,
    }
}

/// Why a command failed.
pub(super) fn complain(text: &str) {
    complain_in_colour(&escaped_lines(text));
}

/// The same for text that brings its own colours, and whose parts are fit for a terminal.
pub(super) fn complain_in_colour(text: &str) {
    // Whom it would be told to is not there.
    let _ = around_bar(|| writeln!(io::stderr(), "{text}"));
}

/// Whether messages may be coloured: somebody looks at them.
pub(super) fn in_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
