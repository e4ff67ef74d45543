//! A machine in memory, driven by a seed: its disk forgets what was not synced, its clock stands still until someone
//! looks, and its processes die at any operation.
//!
//! ```
//! use shanty::base::fs::FileSystem;
//! use shanty::testing::sim::{Crash, Faults, Machine};
//! use std::path::Path;
//!
//! let machine = Machine::new(7);
//! let life = machine.boot(Faults::default());
//! life.write(Path::new("/a"), b"text").unwrap();
//! life.sync(Path::new("/a")).unwrap();
//! life.sync(Path::new("/")).unwrap();
//! machine.crash(Crash::Power);
//! assert!(life.is_dead());
//! assert_eq!(machine.contents(Path::new("/a")).len(), 1);
//! ```

mod crash;
mod faults;
mod later;
mod life;
mod machine;
mod sabotage;
#[cfg(test)]
mod tests;
mod tree;

pub use crash::Crash;
pub use faults::{Act, Faults, Refusal, Refused, Tally};
pub use later::Later;
pub use life::Life;
pub use machine::{Alarm, Machine};
pub use sabotage::{Broken, Sabotage};
