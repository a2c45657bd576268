//! The variables of UEFI firmware, in efivarfs.

use std::fs;
use std::io::{self, Write as _};

use nix::mount::{MsFlags, mount};

use crate::root::{FileError, Root};

const FIRMWARE: &str = "sys/firmware/efi";
const VARIABLES: &str = "sys/firmware/efi/efivars";
/// The GUID of the variables that the UEFI Specification itself has.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// They stay when the machine is off; the firmware's own programs see them, and the kernel, too.
const ATTRIBUTES: [u8; 4] = 7u32.to_le_bytes();
/// As `fstab` of the image has them.
const USUAL: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Why there are no variables.
#[derive(Debug, thiserror::Error)]
pub enum NoVariables {
    /// UEFI had no part in the start.
    #[error("this machine was started without UEFI, by a BIOS or a virtual machine's own loader")]
    NoFirmware,
    /// The kernel does not show them.
    #[error("its UEFI firmware shows no variables while a system runs")]
    NotShown(#[source] io::Error),
    /// The kernel, or the firmware, lets nobody write to them.
    #[error("its UEFI firmware keeps no variables that a running system writes")]
    ReadOnly(#[source] io::Error),
    /// One could not be read.
    #[error("its UEFI variables cannot be read")]
    Unreadable(#[source] FileError),
}

/// The variables of the specification's own GUID.
#[derive(Debug)]
pub struct Variables {
    root: Root,
}

impl Variables {
    /// Finds them; mounts efivarfs if nobody has.
    pub fn open(root: &Root) -> Result<Self, NoVariables> {
        if !root.exists(FIRMWARE) {
            return Err(NoVariables::NoFirmware);
        }
        let mounts = root.read("proc/mounts").unwrap_or_default();
        if !mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/firmware/efi/efivars")) {
            let path = root.path(VARIABLES);
            let outcome = mount(Some("efivarfs"), &path, Some("efivarfs"), USUAL | MsFlags::MS_RDONLY, None::<&str>);
            outcome.map_err(|errno| NoVariables::NotShown(errno.into()))?;
        }
        Ok(Self { root: root.clone() })
    }

    /// Those whose names are wanted, with their contents. One that goes meanwhile is left out.
    pub fn read_all(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Vec<u8>)>, NoVariables> {
        let mut found = Vec::new();
        for file in self.root.list(VARIABLES).map_err(NoVariables::Unreadable)? {
            let name = file.strip_suffix(GLOBAL).and_then(|name| name.strip_suffix('-'));
            if let Some(name) = name.filter(|name| is_wanted(name)) {
                match self.read(name) {
                    Ok(content) => found.push((name.to_owned(), content)),
                    Err(error) if error.io().kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(NoVariables::Unreadable(error)),
                }
            }
        }
        Ok(found)
    }

    /// One variable's content; a file of efivarfs has its attributes before that.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, FileError> {
        // The size of a variable is not bounded by a page.
        let path = self.root.path(file(name));
        let content = fs::read(&path).map_err(|source| FileError::Read { path, source })?;
        Ok(content.get(ATTRIBUTES.len()..).unwrap_or_default().to_vec())
    }

    /// Lets this program change them, until the result is dropped.
    pub fn writable(&self) -> Result<Writable<'_>, NoVariables> {
        self.remount(MsFlags::empty()).map_err(NoVariables::ReadOnly)?;
        Ok(Writable(self))
    }

    fn remount(&self, flags: MsFlags) -> io::Result<()> {
        let path = self.root.path(VARIABLES);
        Ok(mount(None::<&str>, &path, None::<&str>, USUAL | MsFlags::MS_REMOUNT | flags, None::<&str>)?)
    }
}

/// Variables that can be changed. Nobody else should by mistake, so they are read-only again after this.
#[derive(Debug)]
pub struct Writable<'a>(&'a Variables);

impl Writable<'_> {
    /// Gives a variable this content, with one system call, as efivarfs wants it. The kernel makes no variable about
    /// starting immutable (`variable_validate` in its `fs/efivarfs/vars.c`).
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), FileError> {
        let path = self.0.root.path(file(name));
        let bytes = [&ATTRIBUTES, content].concat();
        let attempt = || {
            let mut file = fs::File::options().write(true).create(true).truncate(false).open(&path)?;
            match file.write(&bytes)? {
                length if length == bytes.len() => Ok(()),
                _ => Err(io::ErrorKind::WriteZero.into()),
            }
        };
        attempt().map_err(|source| FileError::Keep { path: path.clone(), source })
    }

    /// Removes a variable.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        self.0.root.unlink(file(name))
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        // At worst they stay as they were just now.
        let _ = self.0.remount(MsFlags::MS_RDONLY);
    }
}

fn file(name: &str) -> String {
    format!("{VARIABLES}/{name}-{GLOBAL}")
}
