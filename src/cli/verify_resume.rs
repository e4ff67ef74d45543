//! `shanty verify-resume`: cut a run at random steps, resume it, compare every step.

use std::path::Path;

use clap::Args;

use super::train::quietly;
use super::{Bare, ConfigArgs, console};
use crate::base::error::IoContext;
use crate::base::{Error, Result};
use crate::config::Node;
use crate::run::verify::{self, Cut};
use crate::run::{Limits, Runner, RunnerBuilder, check_as};

/// Arguments of `verify-resume`.
#[derive(Debug, Clone, Args)]
pub(super) struct VerifyResume {
    #[command(flatten)]
    config: ConfigArgs,
    /// How many cuts.
    #[arg(long, default_value_t = 3)]
    cuts: u64,
    /// Where to cut: another seed cuts elsewhere.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    bare: Bare,
}

impl VerifyResume {
    /// 0 if all resumed runs were equal, 1 if one was not.
    pub fn run(self) -> Result<u8> {
        if self.config.work_dir.is_some() {
            return Err(Error::config(
                "the runs of `verify-resume` have folders of their own: leave out `--work-dir`",
            ));
        }
        let scratch = tempfile::tempdir().at("the folder for temporary files")?;
        // What `train` refuses is refused here in the same words, before anything is run.
        let checked = self.config_in(&scratch.path().join("checked"), false, &[])?;
        quietly(|| check_as(&checked, Some(&self.config.name()), self.fixed_seed()?))?;
        let make = |dir: &Path, resume: bool, limits: Limits| self.runner(dir, resume, limits);
        let cuts = |total| verify::random_cuts(total, self.cuts, self.seed);
        match verify::verify(&make, cuts, scratch.path(), &mut |cut| console::say(&told(cut))) {
            Err(error) if error.exit_code() != 2 => {
                // The error may name a bundle or a checkpoint in it.
                let kept = scratch.keep();
                console::say(&format!("a run failed; its work_dir is kept below {}", kept.display()));
                Err(error)
            }
            cuts => Ok(u8::from(cuts?.iter().any(|cut| cut.difference.is_some()))),
        }
    }

    fn runner(&self, dir: &Path, resume: bool, limits: Limits) -> Result<Runner> {
        let node = self.config_in(dir, resume, &["load_from=null"])?;
        RunnerBuilder::from_config(&node, Some(&self.config.name()))?.limits(limits).build()
    }

    /// The config of a run in this folder.
    fn config_in(&self, dir: &Path, resume: bool, more: &[&str]) -> Result<Node> {
        let mut config = self.config.with(&self.bare);
        let dir = serde_json::to_string(&dir.to_string_lossy()).map_err(|e| Error::Other(e.into()))?;
        config.set.extend([format!("work_dir={dir}"), format!("resume={resume}")]);
        config.set.extend(more.iter().map(|set| (*set).to_owned()));
        // A seed that is drawn would make two runs of two.
        config.set.push(format!("randomness.seed={}", self.fixed_seed()?));
        config.resolve()
    }

    fn fixed_seed(&self) -> Result<u64> {
        let node = self.config.with(&self.bare).resolve()?;
        let seed = node.get("randomness").and_then(|r| r.get("seed")).and_then(|s| s.read::<u64>().ok());
        Ok(seed.unwrap_or(0))
    }
}

fn told(cut: &Cut) -> String {
    let at = format!("cut after {} of {}", cut.at, cut.total);
    match &cut.difference {
        None => format!("{at}: equal"),
        Some(found) => format!("{at}: differs first after iteration {} in {}", found.iter, found.part),
    }
}
