//! Weights that a config names by their address. Nothing is fetched: they are looked for where PyTorch and MMEngine keep
//! what they have fetched.

use std::path::{Path, PathBuf};

use crate::base::{Error, Result};

/// The file that a config means: a path as it is, an address by its last name in PyTorch's cache.
///
/// # Errors
/// [`Error::Missing`] for an address whose file is not there, with the command that puts it there; [`Error::Config`] for a
/// scheme that is no address of a file.
pub fn local(named: &str) -> Result<PathBuf> {
    if named.contains("://") { cached(named, &cache()) } else { Ok(PathBuf::from(named)) }
}

/// PyTorch's cache of weights: below `$TORCH_HOME`, else `$XDG_CACHE_HOME/torch`, else `~/.cache/torch`.
fn cache() -> PathBuf {
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = given("TORCH_HOME").or_else(|| Some(given("XDG_CACHE_HOME")?.join("torch")));
    let home = home.or_else(|| Some(given("HOME")?.join(".cache").join("torch")));
    home.unwrap_or_default().join("hub").join("checkpoints")
}

fn cached(address: &str, cache: &Path) -> Result<PathBuf> {
    let path = ["https://", "http://"].iter().find_map(|scheme| address.strip_prefix(scheme));
    let Some(path) = path else {
        let text = format!(
            "`{address}` is the address of no file: download the weights, and give the path of their file"
        );
        return Err(Error::config(text));
    };
    let plain = path.split(['?', '#']).next().unwrap_or(path);
    let name = plain.rsplit('/').next().filter(|name| plain.contains('/') && !name.is_empty());
    let Some(name) = name.filter(|name| *name != "." && *name != "..") else {
        return Err(Error::config(format!("`{address}` names no file")));
    };
    let file = cache.join(name);
    if file.is_file() {
        return Ok(file);
    }
    let what = format!(
        "`{address}` is not on this machine, and shanty fetches nothing. It is looked for where PyTorch keeps such \
         files: curl -L --create-dirs -o '{}' '{address}'",
        file.display()
    );
    Err(Error::Missing { path: file, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of an address told to download it, and not where to.
    #[test]
    fn an_address_is_a_file_of_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let said = |address: &str| cached(address, dir.path()).unwrap_err().to_string();
        let address = "https://download.pytorch.org/models/resnet18-f37072fd.pth";
        let file = dir.path().join("resnet18-f37072fd.pth");
        let told = said(address);
        assert!(
            told.contains(&format!("curl -L --create-dirs -o '{}' '{address}'", file.display())),
            "{told}"
        );
        std::fs::write(&file, "x").unwrap();
        assert_eq!(cached(address, dir.path()).unwrap(), file);
        assert_eq!(cached(&format!("{address}?raw=1"), dir.path()).unwrap(), file);
        for other in ["torchvision://resnet50", "s3://a/b.pth", "open-mmlab://x"] {
            assert!(said(other).contains("is the address of no file"), "{}", said(other));
        }
        for none in ["https://host", "https://host/", "https://host/a/..", "http://"] {
            assert!(said(none).contains("names no file"), "{}", said(none));
        }
        assert_eq!(local("a/b.pth").unwrap(), PathBuf::from("a/b.pth"));
    }
}
