//! A stick with the image, on whose boot partition files are put as people do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths::project;
use crate::program::run;
use crate::secure_boot::hook;
use crate::{Error, Result};

/// The disk of one test.
#[derive(Debug)]
pub struct Stick {
    raw: PathBuf,
}

impl Stick {
    /// Copies the disk `image` into `dir`, as `name`.
    pub(crate) fn create(image: &Path, dir: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|source| Error::File { verb: "create", path: dir.to_owned(), source })?;
        let raw = dir.join(name);
        fs::copy(image, &raw).map_err(|source| Error::File { verb: "copy", path: image.to_owned(), source })?;
        Ok(Self { raw })
    }

    /// The stick that is in a file already.
    pub fn at(raw: PathBuf) -> Self {
        Self { raw }
    }

    /// Writes a disk that boots an EFI program into `raw`, as the build does.
    pub(crate) fn that_boots(efi: &Path, raw: &Path) -> Result<()> {
        // The first of 2026; FAT knows no date before 1980.
        run(Command::new(hook("disk.sh")).env("SOURCE_DATE_EPOCH", "1767225600").args([efi, raw]))
    }

    /// The disk's file.
    pub fn raw(&self) -> &Path {
        &self.raw
    }

    /// Puts a file on the boot partition; `path` has no slash at its start.
    pub fn add(&self, path: &str, content: &[u8]) -> Result<()> {
        let directories = path.match_indices('/').map(|(end, _)| path.get(..end).unwrap_or_default());
        for directory in directories.map(|directory| format!("::{directory}")) {
            if run(self.mtools("mdir").arg(&directory)).is_err() {
                run(self.mtools("mmd").arg(&directory))?;
            }
        }
        let file = self.raw.with_extension("file");
        fs::write(&file, content).map_err(|source| Error::File { verb: "write", path: file.clone(), source })?;
        run(self.mtools("mcopy").arg("-o").arg(&file).arg(format!("::{path}")))
    }

    /// Puts an addon with words of the kernel command line beside the image, as docs/settings.md says it.
    pub fn add_addon(&self, words: &str) -> Result<()> {
        let host = project().join("output/debian/host");
        let addon = self.raw.with_extension("addon.efi");
        let stub = host.join("boot-tools/usr/lib/systemd/boot/efi/addonx64.efi.stub");
        run(Command::new(host.join("bin/ukify"))
            .arg("build")
            .arg(format!("--stub={}", stub.display()))
            .arg(format!("--cmdline={words}"))
            .arg(format!("--output={}", addon.display())))?;
        let content = fs::read(&addon).map_err(|source| Error::File { verb: "read", path: addon.clone(), source })?;
        self.add("EFI/BOOT/BOOTX64.EFI.extra.d/words.addon.efi", &content)
    }

    /// One of mtools, on the partition: the only one, which begins at 1 MiB (`genimage.cfg`).
    fn mtools(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        command.arg("-i").arg(format!("{}@@1M", self.raw.display()));
        command
    }
}
