//! What the terminal sees: log lines on stderr, results on stdout, and a bar that makes way for both.
//!
//! A terminal may go away, a disk may be full, and `head` stops reading: nothing here panics or ends a run. What a
//! command was asked for and could not be printed is remembered, and becomes its exit code. All text passes
//! [`escaped_lines`].

use std::io::{self, IsTerminal, Write};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use indicatif::ProgressBar;

use crate::base::escape::{brief, escaped_lines};

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

/// Whether a config may say how much is told: neither the command line nor `RUST_LOG` did.
static UNDECIDED: AtomicBool = AtomicBool::new(false);

/// Sends log lines from this level on to stderr: those of a `run` in MMEngine's layout, of other commands as plain
/// warnings. `RUST_LOG` chooses more or less of them.
pub(super) fn init(run: bool, level: log::LevelFilter, is_asked: bool) {
    let style =
        if io::stderr().is_terminal() { env_logger::WriteStyle::Auto } else { env_logger::WriteStyle::Never };
    let filtered = std::env::var_os(env_logger::DEFAULT_FILTER_ENV).is_some() && !is_asked;
    // It prints its complaint about a wrong filter, and panics if nobody can read that.
    let given = filtered.then(|| catch_unwind(|| env_logger::Builder::from_env(env_logger::Env::default())));
    let mut builder = given.and_then(Result::ok).unwrap_or_else(|| {
        let mut plain = env_logger::Builder::new();
        plain.filter_level(log::LevelFilter::Debug);
        plain
    });
    UNDECIDED.store(run && !is_asked && !filtered, Ordering::Relaxed);
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
    if !filtered {
        log::set_max_level(level);
    }
}

/// Tells as much of a run as its config says (`log_level`), unless somebody chose otherwise.
pub(super) fn follow(level: &str) {
    let level = match level {
        "WARNING" => Ok(log::LevelFilter::Warn),
        level => level.parse(),
    };
    if let Ok(level) = level
        && UNDECIDED.load(Ordering::Relaxed)
    {
        log::set_max_level(level);
    }
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

/// The same in lines that fit the terminal; longer ones where nobody looks, for `grep` and `less`.
pub(super) fn say_to_fit(text: &str) {
    let terminal = io::stdout().is_terminal().then(::console::Term::stdout);
    match terminal.and_then(|terminal| terminal.size_checked()) {
        Some((_, columns)) => say(&wrapped(text, usize::from(columns))),
        None => say(text),
    }
}

/// Lines of at most `width` letters. What goes on stands below the second column of its line, if it has one, else below
/// its beginning. Examples, which are copied, and words that are longer stay whole.
fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let second = line[indent..].find("  ").map(|at| indent + at).and_then(|gap| {
            let begin = gap + line[gap..].len() - line[gap..].trim_start().len();
            (begin < line.len() && begin <= width / 2).then_some(begin)
        });
        let below = second.unwrap_or(indent + 2);
        if !out.is_empty() {
            out.push('\n');
        }
        if line.chars().count() <= width || line.trim_start().starts_with('{') || below + 20 > width {
            out.push_str(line);
            continue;
        }
        let (head, rest) = line.split_at(second.unwrap_or(indent));
        out.push_str(head);
        let mut column = head.chars().count();
        for (at, word) in rest.split(' ').enumerate() {
            let long = word.chars().count();
            if at > 0 && column + 1 + long > width {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', below));
                column = below;
            } else if at > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += long;
        }
    }
    out
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
    complain_in_colour(&escaped_lines(&brief(text)));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `list` and `describe` were twice as wide as most terminals.
    #[test]
    fn lines_fit_the_terminal() {
        let text = "hook:\n  EMAHook    Averages the weights of all iterations, and evaluates with them.\n\n  \
                    by_epoch: true or false, as the loop counts; optional\n  {type: EMAHook, momentum: 0.0002, begin: 0}\n";
        let expected = "hook:\n  EMAHook    Averages the weights of all\n             iterations, and evaluates\n             with them.\n\n  \
                        by_epoch: true or false, as the loop\n    counts; optional\n  {type: EMAHook, momentum: 0.0002, begin: 0}";
        assert_eq!(wrapped(text, 40), expected);
        assert_eq!(wrapped(text, 200), text.trim_end());
        for width in 0..120 {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&wrapped(text, width)), words(text), "{width}");
        }
        assert_eq!(wrapped("  ä   ö ü", 3), "  ä   ö ü");
    }
}
