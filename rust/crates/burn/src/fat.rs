//! The files of a FAT file system, by the programs that `make image` makes it with: mkfs.vfat and mtools.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;
use thiserror::Error;

/// Why files could not be read or put on a file system.
#[derive(Debug, Error)]
pub(crate) enum FatError {
    #[error("the EFI system partition has no FAT file system")]
    None,
    #[error("failed to run {program}, which {package} has")]
    Start { program: &'static str, package: &'static str, source: io::Error },
    #[error("{program} ended with {status}: {said}")]
    Program { program: &'static str, status: ExitStatus, said: String },
    #[error("failed to {verb} {path}")]
    File { verb: &'static str, path: PathBuf, source: io::Error },
}

/// What a file system is called: by people, and by `/dev/disk/by-uuid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    name: String,
    serial: u32,
}

impl Label {
    /// Bytes that are needed of the start of the file system.
    pub(crate) const SECTOR: usize = 512;

    /// Reads it from a boot sector (Microsoft's FAT specification, "Boot Sector and BPB").
    pub(crate) fn parse(sector: &[u8; Self::SECTOR]) -> Result<Self, FatError> {
        if sector[510..] != [0x55, 0xaa] || ![1, 2].contains(&sector[16]) {
            return Err(FatError::None);
        }
        // FAT32 has no 16-bit size of a table, and more fields before these.
        let at = if sector[22..24] == [0, 0] { 67 } else { 39 };
        let serial = u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]);
        let name = String::from_utf8_lossy(&sector[at + 4..at + 15]).trim_end().to_owned();
        Ok(Self { name, serial })
    }
}

/// Files in a folder that is gone when this is.
#[derive(Debug)]
pub(crate) struct Tree(TempDir);

impl Tree {
    /// Copies the files of the file system at byte `first` of a disk.
    pub(crate) fn read(disk: &Path, first: u64) -> Result<Self, FatError> {
        let folder = TempDir::new().map_err(file("make a folder in", &std::env::temp_dir()))?;
        let mut drive = disk.as_os_str().to_owned();
        drive.push(format!("@@{first}"));
        mcopy(&drive, &["::/".into()], folder.path().as_os_str())?;
        Ok(Self(folder))
    }

    /// Files with these paths and contents.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &[u8])]) -> Self {
        let folder = TempDir::new().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Self(folder)
    }

    /// Moves what `other` has and this has not over here, as FAT takes names: whatever their case. The files moved,
    /// by their path.
    pub(crate) fn merge(&self, other: &Self) -> Result<Vec<String>, FatError> {
        let mut moved = Vec::new();
        merge(other.0.path(), self.0.path(), "", &mut moved)?;
        Ok(moved)
    }

    /// Makes a file system of the whole of `disk` with these files on it, in blocks of `block` bytes.
    pub(crate) fn write(&self, disk: &File, block: u16, label: &Label) -> Result<(), FatError> {
        // Both programs want a path.
        let path = format!("/proc/{}/fd/{}", std::process::id(), disk.as_raw_fd());
        let mut format = Command::new("mkfs.vfat");
        format.args(["-S", &block.to_string(), "-i", &format!("{:08x}", label.serial)]);
        if !label.name.is_empty() {
            format.args(["-n", &label.name]);
        }
        run("mkfs.vfat", "dosfstools", format.arg(&path))?;
        let entries: Vec<OsString> = entries(self.0.path())?.into_iter().map(|(_, path)| path.into()).collect();
        mcopy(&path.into(), &entries, "::/".as_ref())
    }
}

/// The names in a folder with their paths, sorted.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, FatError> {
    let list = || {
        let entries = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())));
        entries.collect::<io::Result<Vec<_>>>()
    };
    let mut entries = list().map_err(file("list", folder))?;
    entries.sort_unstable();
    Ok(entries)
}

fn merge(from: &Path, into: &Path, path: &str, moved: &mut Vec<String>) -> Result<(), FatError> {
    let there = entries(into)?;
    for (name, old) in entries(from)? {
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let same = there.iter().find(|(own, _)| own.eq_ignore_ascii_case(&name)).map(|(_, path)| path.clone());
        match same {
            Some(own) if own.is_dir() && old.is_dir() => merge(&old, &own, &path, moved)?,
            Some(_) => {}
            None if old.is_dir() => {
                let new = into.join(&name);
                fs::create_dir(&new).map_err(file("make the folder", &new))?;
                merge(&old, &new, &path, moved)?;
            }
            None => {
                fs::rename(&old, into.join(&name)).map_err(file("move", &old))?;
                moved.push(path);
            }
        }
    }
    Ok(())
}

/// Copies files and folders, with their dates, into or out of the file system that is `drive`.
fn mcopy(drive: &OsString, from: &[OsString], to: &std::ffi::OsStr) -> Result<(), FatError> {
    if from.is_empty() {
        return Ok(());
    }
    let mut copy = Command::new("mcopy");
    // Not what a user's own configuration says of drives, and no doubts about sectors per track.
    copy.env("MTOOLSRC", "/dev/null").env("MTOOLS_SKIP_CHECK", "1");
    run("mcopy", "mtools", copy.args(["-s", "-m", "-Q", "-i"]).arg(drive).args(from).arg(to))
}

fn run(program: &'static str, package: &'static str, command: &mut Command) -> Result<(), FatError> {
    // What makes file systems is not on everybody's path.
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let output = command.env("PATH", path).output().map_err(|source| FatError::Start { program, package, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(FatError::Program { program, status: output.status, said })
}

fn file(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FatError {
    move |source| FatError::File { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_the_rest_is_taken_over() {
        let new = Tree::of(&[("EFI/BOOT/BOOTX64.EFI", b"new")]);
        let old = Tree::of(&[
            ("efi/Boot/bootx64.efi", b"old"),
            ("efi/Boot/BOOTX64.EFI.extra.d/a.addon.efi", b"addon"),
            ("efi/Linux/other.efi", b"other"),
            ("a note.txt", b"note"),
        ]);
        let moved = new.merge(&old).unwrap();
        assert_eq!(moved, ["a note.txt", "efi/Boot/BOOTX64.EFI.extra.d/a.addon.efi", "efi/Linux/other.efi"]);
        let read = |path: &str| fs::read_to_string(new.0.path().join(path)).unwrap();
        assert_eq!(read("EFI/BOOT/BOOTX64.EFI"), "new");
        assert_eq!(read("EFI/BOOT/BOOTX64.EFI.extra.d/a.addon.efi"), "addon");
        assert_eq!(read("EFI/Linux/other.efi"), "other");
        assert_eq!(entries(new.0.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_label_is_where_its_kind_of_fat_has_it() {
        for (at, table) in [(39, 9), (67, 0)] {
            let mut sector = [0; Label::SECTOR];
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            (sector[16], sector[22]) = (2, table);
            sector[at..at + 4].copy_from_slice(&[0x70, 0x0a, 0x5c, 0xd1]);
            sector[at + 4..at + 15].copy_from_slice(b"DISKOMATOR ");
            let label = Label::parse(&sector).unwrap();
            assert_eq!(label, Label { name: "DISKOMATOR".to_owned(), serial: 0xd15c_0a70 });
            sector[511] = 0;
            assert!(Label::parse(&sector).is_err());
        }
    }
}
