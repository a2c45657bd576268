//! Where things are: the project, the image under test, and what a failed test leaves behind.

use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::{Error, Result};

/// The project's root.
pub fn project() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(3).unwrap_or(crate_dir).to_path_buf()
}

/// A file of the image under test: `output/images`, or the directory that `IMAGE` names.
pub fn image_file(name: &str) -> Result<PathBuf> {
    let dir = env::var_os("IMAGE").map_or_else(|| project().join("output/images"), PathBuf::from);
    existing(dir.join(name), "`make image` builds it")
}

/// The release of Debian that the other machine has where nothing else is said.
pub(crate) const USUAL_RELEASE: &str = "trixie";

/// A file of the other machine, with that release of Debian.
pub(crate) fn initiator_file(release: &str, name: &str) -> Result<PathBuf> {
    let path = initiator_folder(release).join(name);
    existing(path, "`scripts/initiator` builds it, given the release's name")
}

/// The folder of the other machine, with that release of Debian.
pub(crate) fn initiator_folder(release: &str) -> PathBuf {
    let name = if release == USUAL_RELEASE { "initiator".to_owned() } else { format!("initiator-{release}") };
    project().join("output").join(name)
}

/// Where a test leaves what it saw.
pub(crate) fn evidence(test: &str) -> PathBuf {
    project().join("output/e2e").join(test)
}

/// The kernel command line that the image is built with, for a boot that bypasses the image.
pub fn cmdline() -> Result<String> {
    let path = project().join("board/diskomator/cmdline");
    let text = fs::read_to_string(&path).map_err(|source| Error::File { verb: "read", path, source })?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn existing(path: PathBuf, remedy: &'static str) -> Result<PathBuf> {
    if path.exists() { Ok(path) } else { Err(Error::Missing { path, remedy }) }
}
