//! The time of day as a run sees it: in names of folders and in lines of the log.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::ZonedDateTime;

/// Tells the time of day; a test gives its own, so that two runs write the same bytes.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    /// A clock that asks this function.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The local time in this form: `%Y%m%d_%H%M%S`.
    pub fn format(&self, form: &str) -> String {
        let now = ZonedDateTime::try_from((self.0)()).unwrap_or_default();
        now.strftime(form).to_string()
    }
}

impl Default for WallClock {
    /// The machine's.
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}
