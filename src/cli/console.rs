//! What the terminal sees: log lines on stderr, results on stdout, and a bar that makes way for both.
//!
//! A terminal may go away, a disk may be full, and `head` stops reading: nothing here panics or ends a run. What a
//! command was asked for and could not be printed is remembered, and becomes its exit code. All text passes
//! [`escaped_lines`].

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use indicatif::ProgressBar;

use crate::base::escape::{brief, escaped, escaped_lines};
use crate::base::suggest::nearest;
use crate::hook::OWN;

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

/// Whether somebody looks at stderr. A launcher of many processes may give each of them a terminal of its own, and writes
/// what they say wherever it was told to.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal() && !super::group::is_likely()
}

/// Tells nothing of a run but what only this process can: another one tells the rest.
pub(super) fn hush() {
    UNDECIDED.store(false, Ordering::Relaxed);
    if std::env::var_os(env_logger::DEFAULT_FILTER_ENV).is_none() {
        HUSHED.store(true, Ordering::Relaxed);
        log::set_max_level(log::LevelFilter::Error);
    }
}

static HUSHED: AtomicBool = AtomicBool::new(false);

/// Whether a config may say how much is told: neither the command line nor `RUST_LOG` did.
static UNDECIDED: AtomicBool = AtomicBool::new(false);

/// Sends log lines from this level on to stderr: those of a `run` in MMEngine's layout, of other commands as plain
/// warnings. `RUST_LOG` chooses more or less of them; what of it means nothing is complained of. Any crate may log where
/// it is not said which do.
pub(super) fn init(run: bool, level: log::LevelFilter, is_asked: bool, crates: Option<&BTreeSet<&str>>) {
    // Left to itself it would look at the pipe behind which the bar is, and colour nothing.
    let style = if in_colour() { env_logger::WriteStyle::Always } else { env_logger::WriteStyle::Never };
    let given = if is_asked { None } else { std::env::var_os(FILTER) };
    let (filter, wrong) = read_filter(&given.unwrap_or_default().to_string_lossy(), crates);
    let filtered = !filter.is_empty();
    let mut builder = env_logger::Builder::new();
    match filtered {
        true => builder.parse_filters(&filter),
        false => builder.filter_level(log::LevelFilter::Debug),
    };
    UNDECIDED.store(run && !is_asked && !filtered, Ordering::Relaxed);
    builder
        .format(move |out, record| {
            if HUSHED.load(Ordering::Relaxed) && record.target() != OWN {
                return Ok(());
            }
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
    // A program may have a logger of its own, which reads the filter itself.
    if builder.try_init().is_ok() {
        wrong.iter().for_each(|why| complain(&format!("warning: {FILTER}: {why}")));
    }
    if !filtered {
        log::set_max_level(level);
    }
}

const FILTER: &str = "RUST_LOG";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Of `info,shanty=debug/words` what says something: levels, crates that are linked with or without a level, and the
/// words that a line must have. And why the rest says nothing.
fn read_filter(text: &str, crates: Option<&BTreeSet<&str>>) -> (String, Vec<String>) {
    let (items, words) = text.split_once('/').map_or((text, None), |(items, words)| (items, Some(words)));
    let (mut read, mut wrong) = (Vec::new(), Vec::new());
    for item in items.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (target, level) = match item.split_once('=') {
            Some((target, level)) => (target.trim(), level.trim()),
            None if LEVELS.iter().any(|level| level.eq_ignore_ascii_case(item)) => ("", item),
            None => (item, ""),
        };
        match misread(target, level, item.contains('='), crates) {
            None => read.push(item),
            Some(why) => wrong.push(why),
        }
    }
    let words = words.filter(|words| !words.is_empty()).map_or(String::new(), |words| format!("/{words}"));
    (read.join(",") + &words, wrong)
}

/// Why an item of a filter says nothing.
fn misread(target: &str, level: &str, has_level: bool, crates: Option<&BTreeSet<&str>>) -> Option<String> {
    let meant = |near: Option<&str>| near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
    if !level.is_empty() && !LEVELS.iter().any(|own| own.eq_ignore_ascii_case(level)) {
        let near = meant(nearest(level, LEVELS));
        return Some(format!("`{}` is no level{near}: there are {}", escaped(level), LEVELS.join(", ")));
    }
    if target.is_empty() {
        return (level.is_empty() && has_level).then(|| "`=` stands between a crate and a level".to_owned());
    }
    let own = target.split("::").next().unwrap_or(target);
    let crates = crates.filter(|crates| !crates.contains(own))?;
    let names = crates.iter().copied();
    let levels = LEVELS.into_iter().filter(|_| !has_level);
    let near = meant(nearest(own, names.chain(levels)));
    let known = crates.iter().copied().collect::<Vec<_>>().join(", ");
    Some(format!(
        "nothing here logs as `{}`{near}: there are the levels and the crates {known}",
        escaped(target)
    ))
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

/// Whether messages may be coloured: somebody looks at them, on a terminal that knows colours.
pub(super) fn in_colour() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|own| !own.is_empty());
    let unknown = std::env::var_os("TERM").is_some_and(|own| own == "dumb");
    is_watched() && !unwanted && !unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `RUST_LOG=warnn` and `shnty=debug` were filters of crates that nobody has: all lines were gone, and nothing said
    /// why.
    #[test]
    fn a_filter_says_what_of_it_means_nothing() {
        let crates = BTreeSet::from(["shanty", "my_hook"]);
        for (text, read, wrong) in [
            ("", "", &[][..]),
            ("info,shanty=debug", "info,shanty=debug", &[]),
            (" WARN , shanty::run=off,my_hook", "WARN,shanty::run=off,my_hook", &[]),
            ("shanty=", "shanty=", &[]),
            ("debug/Epoch", "debug/Epoch", &[]),
            ("warnn", "", &["`warnn` (did you mean `warn`?)"]),
            ("shnty=debug,info", "info", &["`shnty` (did you mean `shanty`?)"]),
            ("shanty=dbug", "", &["`dbug` is no level (did you mean `debug`?)"]),
            ("warning", "", &["`warning`"]),
            ("=,info=info", "", &["`=` stands between", "nothing here logs as `info`"]),
            ("hyper=info,a\u{1b}[2J", "", &["`hyper`", "`a\\u001b[2J`"]),
        ] {
            let (found, why) = read_filter(text, Some(&crates));
            assert_eq!(found, read, "{text}");
            assert_eq!(why.len(), wrong.len(), "{text}: {why:?}");
            why.iter().zip(wrong).for_each(|(why, words)| assert!(why.contains(words), "{text}: {why}"));
        }
        // A program of somebody's own has crates that nobody lists.
        assert_eq!(read_filter("my_program=debug", None), ("my_program=debug".to_owned(), Vec::new()));
        assert_eq!(read_filter("my_program=dbug", None).1.len(), 1);
    }

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
