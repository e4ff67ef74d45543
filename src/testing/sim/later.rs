//! A saving thread whose slowness is a function of a seed.

use std::io;

use rand::RngExt;

use crate::base::{Rng, keyed};
use crate::run::{Background, Task};

/// Carries a save out when the run has looked for its end some number of times, in one piece between two operations of
/// the training. Sometimes no thread is to be had.
pub struct Later {
    rng: Rng,
    task: Option<Task>,
    looks: u32,
    refuses: bool,
}

impl Later {
    /// A thread as slow as this seed says, which may be `refuse`d.
    pub fn new(seed: u64, refuses: bool) -> Self {
        Self { rng: keyed(seed, "saving thread", 0, 0), task: None, looks: 0, refuses }
    }
}

impl Background for Later {
    fn start(&mut self, task: Task) -> io::Result<()> {
        if self.refuses && self.rng.random_range(0..3) == 0 {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        self.looks = self.rng.random_range(0..5);
        self.task = Some(task);
        Ok(())
    }

    fn is_done(&mut self) -> bool {
        if self.looks == 0 {
            self.wait();
        }
        self.looks = self.looks.saturating_sub(1);
        self.task.is_none()
    }

    fn wait(&mut self) {
        if let Some(task) = self.task.take() {
            task();
        }
    }
}
