//! A screen of its own on a terminal, and the terminal as it was before when it goes.

use std::io::Write;

use ::console::Term;

/// The second screen of a terminal, without a cursor. What stood on the first comes back when it is dropped, and so do
/// the modes of the input: who waits for a key in another thread has left it raw.
pub(super) struct OwnScreen<'t> {
    term: &'t Term,
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl<'t> OwnScreen<'t> {
    pub fn enter(term: &'t Term) -> Self {
        let screen = Self {
            term,
            #[cfg(unix)]
            before: rustix::termios::tcgetattr(std::io::stdin()).ok(),
        };
        screen.write("\x1b[?1049h\x1b[?25l");
        screen
    }

    /// A terminal that is gone needs nothing any more.
    fn write(&self, text: &str) {
        let mut term = self.term;
        let _ = write!(term, "{text}").and_then(|()| term.flush());
    }
}

impl Drop for OwnScreen<'_> {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(before) = &self.before {
            let _ =
                rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
        self.write("\x1b[?25h\x1b[?1049l");
    }
}
