//! Checkpoints as directories that are whole or not there.
//!
//! `work_dir/epoch_3/` holds `model.safetensors` (plain weight names: Python reads it), `optimizer.safetensors`,
//! `hooks.safetensors` if a hook keeps tensors, `state.json` (counters, hooks, message_hub, config) and, written last,
//! `manifest.json` with the length and the xxh3-128 of each. `work_dir/last_checkpoint` names the newest.

mod address;
mod commit;
mod content;
mod decode;
pub mod digest;
mod encode;
mod find;
mod folders;
mod home;
mod kind;
mod load;
mod locate;
mod lock;
mod manifest;
mod obstacles;
mod origins;
mod owned;
mod owner;
pub mod raw;
mod retention;
pub mod tensors;
#[cfg(feature = "torch")]
mod torch;
mod written;

pub use address::local;
pub use commit::{Commit, POINTER, recover};
pub use content::{Checkpoint, Meta};
pub use find::{Found, newest};
pub use folders::{Folders, check_name};
pub use home::Home;
pub use load::{load, read};
pub use locate::{locate, locate_run};
pub use lock::{LOCK_FILE, lock_dir};
pub(crate) use manifest::sealed;
pub use obstacles::{Names, may_meet, obstacles, occupied};
pub use origins::Origin;
pub use owner::{EXIT_FILE, Met, OWNER_FILE, Owner};
pub use retention::{EMERGENCY, Prune, left_behind};
pub use tensors::{MODEL_FILE, parse_tensors, read_tensors, write_tensors};
pub use written::{DUMP, VIS_DATA, is_of_a_run, not_ours, not_own};
