//! Files that the command line names: `--out`, `--svg`. A regular file is replaced as a whole, a link is followed to
//! what it leads to, and devices and pipes are written into.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::base::error::IoContext;
use crate::base::fs::Disk;
use crate::base::{Error, Result, durable};
use crate::checkpoint;
use crate::config::{Kind, Node};

/// More links than this lead nowhere.
const LINKS: usize = 40;

/// How long the reader of a pipe is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a person calls by a path, ready to be written: whether it can be is known before there is something to write.
pub(super) struct Output {
    path: PathBuf,
    to: To,
}

enum To {
    /// It is written into: an own stream, a device, a pipe.
    Open(Box<dyn Write>),
    /// A plain file is replaced as a whole; who may read it stays as it was.
    File(PathBuf, Option<fs::Permissions>),
}

impl Output {
    /// Looks at the place.
    ///
    /// # Errors
    /// Says why it cannot be written.
    pub fn at(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), to: To::of(path)? })
    }

    /// The same for what a command makes whole: a file that is there is replaced only if it begins as such ones do, or if
    /// `overwrite` says so. `what` it is: a sheet of samples, say.
    ///
    /// # Errors
    /// Says why it cannot be written, or is not written over.
    pub fn of_own(path: &Path, is_own: impl Fn(&[u8]) -> bool, what: &str, overwrite: bool) -> Result<Self> {
        /// No mark lies further behind.
        const BEGIN: u64 = 256;
        let out = Self::at(path)?;
        if let To::File(target, Some(_)) = &out.to
            && !overwrite
            && !durable::read_begin(&Disk, target, BEGIN).is_ok_and(|begin| is_own(&begin))
        {
            let path = path.display();
            return Err(Error::config(format!(
                "{path} is there already and is no {what} of shanty's: name another file, or give `--overwrite`"
            )));
        }
        Ok(out)
    }

    /// Writes `bytes`. True if that is a plain file; what is told beside then may go to stdout.
    ///
    /// # Errors
    /// With the path.
    pub fn write(self, bytes: &[u8]) -> Result<bool> {
        let Self { path, to } = self;
        match to {
            To::Open(mut out) => {
                out.write_all(bytes).and_then(|()| out.flush()).at(path)?;
                Ok(false)
            }
            To::File(target, permissions) => {
                durable::write(&target, bytes)?;
                permissions.map_or(Ok(()), |mode| fs::set_permissions(&target, mode)).at(path)?;
                Ok(true)
            }
        }
    }
}

impl To {
    fn of(path: &Path) -> Result<Self> {
        // Opened again, a file that stdout goes to would be written from its beginning.
        match path.to_str() {
            Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => {
                return Ok(Self::Open(Box::new(io::stdout())));
            }
            Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => {
                return Ok(Self::Open(Box::new(io::stderr())));
            }
            _ => {}
        }
        let about = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                // Of links that lead in a circle, that is said.
                followed(path)?;
                return Err(error).at(path);
            }
            Ok(about) => Some(about),
        };
        if about.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(Error::config(format!("{} is a folder: name a file", path.display())));
        }
        // Below `/dev/fd` and `/proc` stand files that are open already.
        let home = fs::canonicalize(durable::parent(path)).unwrap_or_default();
        let open = path.starts_with("/dev/fd") || home.starts_with("/proc");
        if about.as_ref().is_some_and(|about| open || !about.is_file()) {
            return Ok(Self::Open(Box::new(opened(path)?)));
        }
        let target = followed(path)?;
        writable(&target, about.is_none())?;
        Ok(Self::File(target, about.map(|about| about.permissions())))
    }
}

/// Refuses the place of a plain file that is not a person's to write, or where none can be written.
fn writable(target: &Path, is_new: bool) -> Result<()> {
    let (home, shown) = (durable::parent(target), target.display());
    if checkpoint::is_of_a_run(target) {
        let text =
            format!("{shown} belongs to a checkpoint or a run, which alone writes there: name another file");
        return Err(Error::config(text));
    }
    if is_new && fs::canonicalize(home).is_ok_and(|home| home == Path::new("/dev")) {
        // A plain file of a device's name would be taken for the device.
        return Err(Error::config(format!("{shown}: there is no such device, and no file is made in /dev")));
    }
    if !home.is_dir() {
        return Err(Error::config(format!("{shown}: there is no folder {}: make it first", home.display())));
    }
    durable::unwritable(target).map_or(Ok(()), |why| Err(io::Error::other(why)).at(target))
}

/// Opens what is no plain file. A pipe that nobody reads would be waited for without end.
fn opened(path: &Path) -> Result<File> {
    let (tell, told) = mpsc::channel();
    let open = {
        let path = path.to_owned();
        move || drop(tell.send(File::options().append(true).open(path)))
    };
    thread::Builder::new().spawn(open).at(path)?;
    let late = || Err(io::Error::other("nobody reads this pipe: start its reader first"));
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| late()).at(path)
}

/// All files that a config is made of, and every path in it that may be one of a file.
fn read_for(config: &Node) -> Vec<PathBuf> {
    let mut named: Vec<PathBuf> = config.files().into_iter().map(PathBuf::from).collect();
    texts(config, &mut |text| named.push(text.into()));
    named
}

/// The folders of the data of a config: whatever stands in them may be read.
fn folders_of_data(config: &Node) -> Vec<PathBuf> {
    let mut named = Vec::new();
    for loader in ["train_dataloader", "val_dataloader", "test_dataloader"] {
        config
            .get(loader)
            .iter()
            .for_each(|loader| texts(loader, &mut |text| named.push(PathBuf::from(text))));
    }
    let here = std::env::current_dir().unwrap_or_default();
    let folders = named.iter().filter(|path| path.is_dir()).filter_map(|path| path.canonicalize().ok());
    folders.filter(|folder| !here.starts_with(folder)).collect()
}

/// Refuses an output that would take the place of a file that a config reads, or which lies among its data.
///
/// # Errors
/// [`Error::Config`] with the path.
pub(super) fn spare_inputs(out: &Path, config: &Node) -> Result<()> {
    spare(out, &read_for(config))?;
    let home = out.canonicalize().unwrap_or_default();
    match folders_of_data(config).into_iter().find(|folder| home.is_file() && home.starts_with(folder)) {
        Some(folder) => Err(Error::config(format!(
            "{} lies among the data in {}, and is not written over: name another file",
            out.display(),
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// Refuses an output that would take the place of a file that was read.
///
/// # Errors
/// [`Error::Config`] with the path.
pub(super) fn spare(out: &Path, read: &[PathBuf]) -> Result<()> {
    let Ok(home) = out.canonicalize() else { return Ok(()) };
    if fs::metadata(&home).is_ok_and(|about| about.is_file())
        && read.iter().any(|path| path.canonicalize().is_ok_and(|path| path == home))
    {
        let out = out.display();
        return Err(Error::config(format!("{out} was read, and is not written over: name another file")));
    }
    Ok(())
}

/// Every text in a config: any of them may be the path of a file.
fn texts(node: &Node, see: &mut dyn FnMut(&str)) {
    match &*node.kind {
        Kind::Str(text) => see(text),
        Kind::Seq(items) => items.iter().for_each(|item| texts(item, see)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| texts(value, see)),
        _ => {}
    }
}

/// Where links lead, also one to a file that is not there yet.
fn followed(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = durable::parent(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::config(format!("{}: links that lead in a circle", path.display())))
}
