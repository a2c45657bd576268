//! Secure Boot: a throw-away key, what it signs, and firmware that trusts nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths::project;
use crate::program::run;
use crate::{Error, Result, Stick};

/// The owner of the certificate; any GUID will do.
const OWNER: &str = "d15c0a70-0002-4d15-8c0a-701000000002";

/// An owner of machines: a key, its certificate, and firmware with that certificate alone.
#[derive(Debug)]
pub struct SecureBoot {
    dir: PathBuf,
}

impl SecureBoot {
    /// Makes them in `dir`, from the firmware's `empty` variables.
    pub(crate) fn create(dir: PathBuf, empty: &Path) -> Result<Self> {
        fs::create_dir_all(&dir).map_err(|source| Error::File { verb: "create", path: dir.clone(), source })?;
        let owner = Self { dir };
        let (key, certificate) = (owner.key(), owner.certificate());
        let request = ["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2", "-subj", "/CN=throw-away"];
        run(Command::new("openssl").args(request).arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
        let mut enroll = Command::new(project().join("scripts/virt-fw-vars"));
        enroll.arg("--input").arg(empty).arg("--output").arg(owner.variables());
        for list in ["--set-pk", "--add-kek", "--add-db"] {
            enroll.args([list, OWNER]).arg(&certificate);
        }
        run(enroll.arg("--secure-boot"))?;
        Ok(owner)
    }

    /// Signs an EFI program as the build does, into a file called `name`.
    pub fn sign(&self, efi: &Path, name: &str) -> Result<PathBuf> {
        let signed = self.dir.join(name);
        run(Command::new(hook("secureboot.sh"))
            .env("BR2_PACKAGE_DISKOMATOR_SECUREBOOT_KEY", self.key())
            .env("BR2_PACKAGE_DISKOMATOR_SECUREBOOT_CERT", self.certificate())
            .arg("sign")
            .args([efi, &signed]))?;
        Ok(signed)
    }

    /// Makes a copy of an EFI program, called `name`.
    pub fn copy(&self, efi: &Path, name: &str) -> Result<PathBuf> {
        let copy = self.dir.join(name);
        fs::copy(efi, &copy).map_err(|source| Error::File { verb: "copy", path: efi.to_owned(), source })?;
        Ok(copy)
    }

    /// The same, with one bit of the middle of a section inverted.
    pub fn alter(&self, efi: &Path, section: &str, name: &str) -> Result<PathBuf> {
        let mut bytes = fs::read(efi).map_err(|source| Error::File { verb: "read", path: efi.to_owned(), source })?;
        let middle = middle_of(&bytes, section).and_then(|at| bytes.get_mut(at));
        let Some(byte) = middle else {
            return Err(Error::None { machine: efi.display().to_string(), what: format!("section {section}") });
        };
        *byte ^= 1;
        let altered = self.dir.join(name);
        fs::write(&altered, bytes).map_err(|source| Error::File { verb: "write", path: altered.clone(), source })?;
        Ok(altered)
    }

    /// Puts an EFI program on a disk, as the build does, and gives the disk's file.
    pub fn disk(&self, efi: &Path) -> Result<PathBuf> {
        let raw = efi.with_extension("raw");
        Stick::that_boots(efi, &raw)?;
        Ok(raw)
    }

    /// The variables of the firmware.
    pub(crate) fn variables(&self) -> PathBuf {
        self.dir.join("variables.fd")
    }

    fn key(&self) -> PathBuf {
        self.dir.join("owner.key")
    }

    fn certificate(&self) -> PathBuf {
        self.dir.join("owner.crt")
    }
}

/// A script that both builds call.
pub(crate) fn hook(name: &str) -> PathBuf {
    project().join("board/common").join(name)
}

/// Where in a PE file the middle of a section's data is (PE format, "COFF File Header" and "Section Table").
fn middle_of(bytes: &[u8], section: &str) -> Option<usize> {
    let u16_at = |at: usize| bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes).map(usize::from);
    let u32_at = |at: usize| usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok();
    let header = u32_at(0x3c)?;
    let table = header + 24 + u16_at(header + 20)?;
    let entry = (0..u16_at(header + 6)?).map(|number| table + 40 * number).find(|at| {
        let name = bytes.get(*at..at + 8).unwrap_or_default();
        name.split(|byte| *byte == 0).next() == Some(section.as_bytes())
    })?;
    // VirtualSize is without the padding, which no signature would have to cover.
    Some(u32_at(entry + 20)? + u32_at(entry + 8)? / 2)
}

#[cfg(test)]
mod tests {
    use super::middle_of;

    #[test]
    fn the_middle_of_a_section_is_found_by_its_name() {
        let mut file = vec![0; 0x200];
        file[0x3c] = 0x40;
        file[0x46] = 2;
        file[0x54] = 0x10;
        let table = 0x40 + 24 + 0x10;
        file[table..table + 5].copy_from_slice(b".text");
        let entry = table + 40;
        file[entry..entry + 8].copy_from_slice(b".cmdline");
        file[entry + 8] = 0x10;
        file[entry + 21] = 0x1;
        assert_eq!(middle_of(&file, ".cmdline"), Some(0x108));
        assert_eq!(middle_of(&file, ".cmd"), None);
        assert_eq!(middle_of(&file[..entry + 4], ".cmdline"), None);
        assert_eq!(middle_of(&[], ".cmdline"), None);
    }
}
