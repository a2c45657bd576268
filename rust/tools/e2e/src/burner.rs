//! `make burn` on this machine, and what runs it on another.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths::project;
use crate::program::run;
use crate::{Result, image_file};

/// Words of `make burn` for a stick whose machine asks nobody, and that has no secret.
pub(crate) const OPEN: [(&str, &str); 2] = [("ACCESS", "open"), ("SECRET", "none")];

/// Writes the image into a file, as `make burn` with more `words` does, for a disk of `size` with blocks of `blocks`
/// bytes. The user's own files are in the folder `config`.
pub(crate) fn into_file(file: &Path, blocks: u32, size: &str, words: &[(&str, &str)], config: &Path) -> Result<()> {
    let mut burn = Command::new(project().join("scripts/burn"));
    for word in ["YES", "KEEP", "FORCE", "ACCESS", "SECRET"] {
        burn.env_remove(word);
    }
    burn.env("IMAGE", images()?).env("DEV", file).env("SECTOR", blocks.to_string()).env("SIZE", size);
    burn.env("XDG_CONFIG_HOME", config).envs(words.iter().copied());
    run(&mut burn)
}

/// An archive with what writes the image, `burn`, and with the image, `diskomator.raw`; for any Linux.
pub(crate) fn archive(dir: &Path) -> Result<PathBuf> {
    let flags = ["-p", "burn", "--bin", "burn", "--", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"];
    let mut build = Command::new(project().join("scripts/cargo"));
    build.args(["rustc", "--locked", "--manifest-path"]).arg(project().join("rust/Cargo.toml")).args(flags);
    run(&mut build)?;
    let built = env::var_os("CARGO_TARGET_DIR").map_or_else(|| project().join("output/rust"), PathBuf::from);
    let archive = dir.join("burn.tar");
    let mut pack = Command::new("tar");
    pack.arg("-cf").arg(&archive).arg("-C").arg(built.join("debug")).arg("burn").arg("-C").arg(images()?);
    run(pack.arg("diskomator.raw"))?;
    Ok(archive)
}

/// The folder of the image under test.
fn images() -> Result<PathBuf> {
    Ok(image_file("diskomator.raw")?.parent().map(Path::to_owned).unwrap_or_default())
}
