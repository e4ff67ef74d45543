//! Files that the command line names: `--out`, `--svg`. A regular file is replaced as a whole, a link is followed to
//! what it leads to, and devices and pipes are written into.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::error::IoContext;
use crate::base::{Error, Result, durable};
use crate::checkpoint;
use crate::config::{Kind, Node};

/// More links than this lead nowhere.
const LINKS: usize = 40;

/// Writes `bytes` to what a person calls `path`. True if that is a regular file; what is told beside then may go to
/// stdout.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<bool> {
    // Opened again, a file that stdout goes to would be written from its beginning.
    let own: Option<Box<dyn Write>> = match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => Some(Box::new(io::stdout())),
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => Some(Box::new(io::stderr())),
        _ => None,
    };
    if let Some(mut out) = own {
        out.write_all(bytes).and_then(|()| out.flush()).at(path)?;
        return Ok(false);
    }
    let about = fs::metadata(path).ok();
    if about.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(Error::config(format!("{} is a folder: name a file", path.display())));
    }
    // Below `/dev/fd` and `/proc` stand files that are open already.
    let home = fs::canonicalize(durable::parent(path)).unwrap_or_default();
    let open = path.starts_with("/dev/fd") || home.starts_with("/proc");
    if about.as_ref().is_some_and(|about| open || !about.is_file()) {
        let mut file = File::options().append(true).open(path).at(path)?;
        file.write_all(bytes).at(path)?;
        return Ok(false);
    }
    let target = followed(path)?;
    if checkpoint::is_of_a_run(&target) {
        let target = target.display();
        let text =
            format!("{target} belongs to a checkpoint or a run, and is not written over: name another file");
        return Err(Error::config(text));
    }
    if about.is_none()
        && fs::canonicalize(durable::parent(&target)).is_ok_and(|home| home == Path::new("/dev"))
    {
        // A plain file of a device's name would be taken for the device.
        return Err(Error::config(format!(
            "{}: there is no such device, and no file is made in /dev",
            target.display()
        )));
    }
    durable::write(&target, bytes)?;
    if let Some(about) = about {
        // Who may read it stays as it was.
        fs::set_permissions(&target, about.permissions()).at(path)?;
    }
    Ok(true)
}

/// Refuses an output that would take the place of what was read: a file of the config, a file that it names, an input.
///
/// # Errors
/// [`Error::Config`] with the path.
pub(super) fn spare_inputs(out: &Path, config: &Node, inputs: &[PathBuf]) -> Result<()> {
    let Ok(home) = out.canonicalize() else { return Ok(()) };
    let mut named: Vec<PathBuf> = config.files().into_iter().map(PathBuf::from).collect();
    texts(config, &mut |text| named.push(text.into()));
    if fs::metadata(&home).is_ok_and(|about| about.is_file())
        && named.iter().chain(inputs).any(|path| path.canonicalize().is_ok_and(|path| path == home))
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
