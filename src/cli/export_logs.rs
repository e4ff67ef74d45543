//! `shanty export-logs`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::console;
use crate::base::error::IoContext;
use crate::base::fs::{Disk, FileKind, FileSystem};
use crate::base::number::count;
use crate::base::{Error, Result, durable};
use crate::checkpoint::{self, VIS_DATA};
use crate::registry::{BuildCx, Spec};
use crate::vis::{EVENTS, SCALARS, TABLES, VisBackend, VisCx, VisEvent, read_events, read_whole};

/// Arguments of `export-logs`.
#[derive(Debug, Clone, Args)]
pub(super) struct ExportLogs {
    /// A work_dir, of which the newest log of a training is taken, or a folder of logs.
    work_dir: PathBuf,
    /// What the log becomes.
    #[arg(long, value_enum)]
    to: Form,
    /// The folder of the files; `csv`, `tensorboard`, … in the work_dir if not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write into a folder that has files: all those of earlier exports to this form are removed first.
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// `train.csv`, `val.csv`, `test.csv`.
    Csv,
    /// A file of TensorBoard.
    Tensorboard,
    /// `scalars.json` and `tables.json`.
    Scalars,
    /// `train.parquet`, `val.parquet`, `test.parquet`: of a build with the feature `parquet`.
    Parquet,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tensorboard => "tensorboard",
            Self::Scalars => "scalars",
            Self::Parquet => "parquet",
        }
    }

    /// Whether an export may have left a file of this name.
    fn owns(self, name: &str) -> bool {
        match self {
            Self::Csv => ["train.csv", "val.csv", "test.csv", "scalars.csv"].contains(&name),
            Self::Tensorboard => name.starts_with("events.out.tfevents."),
            Self::Scalars => [SCALARS, TABLES].contains(&name),
            Self::Parquet => {
                ["train", "val", "test", "scalars"].iter().any(|kind| name == format!("{kind}.parquet"))
            }
        }
    }

    /// What writes it.
    fn writer(self) -> Result<Writer> {
        let spec = match self {
            Self::Csv => "{type: CsvVisBackend}",
            Self::Tensorboard => "{type: TensorboardVisBackend}",
            Self::Scalars => "{type: LocalVisBackend}",
            Self::Parquet => return parquet(),
        };
        let mut backend = Spec::<dyn VisBackend>::parse(spec)?.build(&mut BuildCx::new(0))?;
        Ok(Box::new(move |events, cx| {
            let mut left_out = Vec::new();
            for event in events {
                match backend.add(event, cx) {
                    // A picture is a file of its own, which may be gone: the rest is there all the same.
                    Err(why) if event.kind() == "image" => left_out.push(why),
                    done => done?,
                }
            }
            Ok(left_out)
        }))
    }
}

/// Makes the files of a log, and says why a picture is not in them.
type Writer = Box<dyn FnOnce(&[VisEvent], &VisCx<'_>) -> Result<Vec<Error>>>;

#[cfg(feature = "parquet")]
fn parquet() -> Result<Writer> {
    Ok(Box::new(|events, cx| super::parquet::write(events, cx.dir).map(|()| Vec::new())))
}

#[cfg(not(feature = "parquet"))]
fn parquet() -> Result<Writer> {
    Err(Error::config(
        "this build writes no Parquet: `cargo install --path . --features parquet` makes one that does",
    ))
}

impl ExportLogs {
    /// Tells every event of the log to a backend.
    pub fn run(self) -> Result<()> {
        let (log, work) = self.log()?;
        let (events, unread) = read_whole(&Disk, &log)?;
        if events.is_empty() {
            let lines = count(unread, "line");
            return Err(Error::invalid(format!("{}: no event can be read in its {lines}", log.display())));
        }
        let out = self.out.clone().unwrap_or_else(|| work.join(self.to.name()));
        let write = self.to.writer()?;
        self.check_out(&out)?;
        durable::make_dir(&Disk, &out)?;
        self.clear(&out)?;
        let cx = VisCx { fs: &Disk, dir: &out, work: &work };
        let left_out = write(&events, &cx)?;
        console::tell(&format!(
            "{} of {} in {}",
            count(events.len() as u64, "event"),
            log.display(),
            out.display()
        ));
        if unread > 0 {
            let lines = count(unread, "line");
            console::complain(&format!("{}: {lines} could not be read", log.display()));
        }
        if let Some(first) = left_out.first() {
            let pictures = count(left_out.len() as u64, "picture");
            console::complain(&format!("{pictures} left out, first {first}"));
        }
        Ok(())
    }

    /// Removes what an earlier export left: a file that this one does not write would stand there as its own, and one
    /// that is a link would be written where it leads. A folder of such a name is left, and then refused.
    fn clear(&self, out: &Path) -> Result<()> {
        for name in Disk.list(out).at(out)? {
            let file = out.join(&name);
            let kind = Disk.entry(&file).at(&file)?.map(|entry| entry.kind);
            let is_file = matches!(kind, Some(FileKind::File | FileKind::Link));
            if is_file && self.to.owns(&name.to_string_lossy()) {
                Disk.remove(&file).at(&file)?;
            }
        }
        Ok(())
    }

    /// The event log, and the work_dir that it belongs to.
    fn log(&self) -> Result<(PathBuf, PathBuf)> {
        let given = &self.work_dir;
        let at = |dir: &Path| Some(dir.join(VIS_DATA).join(EVENTS)).filter(|file| file.is_file());
        if let Some(log) = at(given) {
            return Ok((log, durable::parent(given).to_owned()));
        }
        let names = Disk.list(given).at(given)?;
        let logs: Vec<PathBuf> = names.iter().rev().filter_map(|name| at(&given.join(name))).collect();
        // A test of the weights, or a run that failed at once, has a log too, and nothing of a training in it.
        let has_training = |log: &&PathBuf| {
            read_events(&Disk, log).is_ok_and(|events| events.iter().any(|event| event.kind() == "train"))
        };
        let log = logs.iter().find(has_training).or(logs.first()).cloned();
        let none = || {
            let given = given.display();
            Error::invalid(format!(
                "{given}: no `{VIS_DATA}/{EVENTS}` in a folder of logs: name the work_dir of a run"
            ))
        };
        Ok((log.ok_or_else(none)?, given.clone()))
    }

    fn check_out(&self, out: &Path) -> Result<()> {
        let refused = |why: &str| Err(Error::invalid(format!("{}: {why}", out.display())));
        if checkpoint::is_of_a_run(&out.join("train.csv")) {
            return refused("is a folder of a run's own files: name another with `--out`");
        }
        if let Some(why) = durable::unusable(out) {
            return refused(&why);
        }
        let is_used = Disk.list(out).is_ok_and(|names| !names.is_empty());
        if is_used && !self.overwrite {
            return refused("has files: name another folder with `--out`, or give `--overwrite`");
        }
        Ok(())
    }
}
