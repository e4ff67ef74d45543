//! Whether the processes that train together are about to do the same: with one program, by one config, on one data.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::resume::differing;
use super::{RunnerBuilder, Session};
use crate::base::{Error, Result};
use crate::comm::Comm;
use crate::config::{Diag, Diags, Node};
use crate::data::Fingerprint;

/// What all ranks must have in common.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    program: String,
    config: String,
    seed: Option<u64>,
}

/// How long ranks wait for each other, if `env_cfg` says it.
pub(super) fn patience(env_cfg: Option<&Node>) -> Result<Option<Duration>> {
    let timeout = env_cfg.and_then(|env| env.get("dist_cfg")).and_then(|dist| dist.get("timeout"));
    let Some(node) = timeout.filter(|node| !node.is_null()) else { return Ok(None) };
    match Duration::try_from_secs_f64(node.read::<f64>()?) {
        Ok(limit) if !limit.is_zero() => Ok(Some(limit)),
        _ => Err(Diags::from(Diag::error("`timeout` is a number of seconds above 0").on(node)).into()),
    }
}

/// Gives all ranks what the first one has.
pub(super) fn of_first(comm: &dyn Comm, own: String) -> Result<String> {
    let mut bytes = own.into_bytes();
    comm.broadcast(0, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What each rank says of itself, in their order.
fn of_all<T: Serialize + for<'a> Deserialize<'a>>(comm: &dyn Comm, own: &T) -> Result<Vec<T>> {
    let unread = |e: serde_json::Error| Error::Comm(format!("the ranks do not understand each other: {e}"));
    let said = comm.gather(&serde_json::to_vec(own).map_err(unread)?)?;
    said.iter().map(|bytes| serde_json::from_slice(bytes).map_err(unread)).collect()
}

/// The version, and what tells this build from another one.
fn program() -> String {
    let digest = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(std::env::current_exe()?)?;
        let (mut digest, mut bytes) = (Xxh3::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut bytes)? {
                0 => return Ok(format!(", build {:016x}", digest.digest())),
                n => digest.update(&bytes[..n]),
            }
        }
    };
    format!("shanty {}{}", env!("CARGO_PKG_VERSION"), digest().unwrap_or_default())
}

/// What sets two configs apart.
fn unlike_configs(first: &str, other: &str) -> String {
    let mut all = differing(first, other);
    let more = all.len().saturating_sub(3);
    all.truncate(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    if all.is_empty() { "they are written in other ways".to_owned() } else { all.join("; ") + &more }
}

impl RunnerBuilder {
    /// Whether this is the start that the config asks for, of a run that trains.
    pub(super) fn check_launcher(&self) -> Result<()> {
        match self.launcher.filter(|_| self.train_loop.is_some() && !self.dry_run) {
            Some(launcher) => launcher.check(self.comm.place()),
            None => Ok(()),
        }
    }

    /// Whether all ranks are of one mind.
    pub(super) fn meet(&self) -> Result<()> {
        if self.comm.place().world == 1 {
            return Ok(());
        }
        self.patience.into_iter().for_each(|limit| self.comm.set_patience(limit));
        let config = self.config.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
        let all = of_all(&*self.comm, &Facts { program: program(), config, seed: self.seed })?;
        let Some((first, others)) = all.split_first() else { return Ok(()) };
        for (rank, other) in (1..).zip(others) {
            let wrong = if other.program != first.program {
                format!("runs another program than rank 0: {}, there {}", other.program, first.program)
            } else if other.config != first.config {
                format!("has another config than rank 0: {}", unlike_configs(&first.config, &other.config))
            } else if other.seed != first.seed {
                "has another seed than rank 0: give `randomness.seed`, in a program `.seed(…)`".to_owned()
            } else {
                continue;
            };
            return Err(Error::config(format!("rank {rank} {wrong}; start all ranks by one command")));
        }
        Ok(())
    }
}

impl Session {
    /// Whether all ranks see the same data.
    pub(super) fn meet(&self) -> Result<()> {
        let comm = &*self.state.comm;
        if comm.place().world == 1 {
            return Ok(());
        }
        let all: Vec<BTreeMap<String, Fingerprint>> = of_all(comm, &self.fingerprints())?;
        let Some((first, others)) = all.split_first() else { return Ok(()) };
        for (rank, other) in (1..).zip(others) {
            for (name, own) in first {
                let changes = other.get(name).map_or_else(Vec::new, |other| own.changes(other));
                if !changes.is_empty() {
                    let changes = changes.join("; ");
                    return Err(Error::config(format!(
                        "rank {rank} sees other {name} than rank 0 (\"then\" is rank 0, \"now\" rank {rank}): {changes}; \
                         give all ranks the same files"
                    )));
                }
            }
        }
        Ok(())
    }
}
