//! Where settings are given: the kernel command line and the credentials that
//! the boot stub, the firmware and the virtual machine hand over.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use diskomator_core::config::{Credential, Given, SIZE_MAX, Settings, Source, from_smbios};

use crate::root::{FileError, Root};

/// What the image's build wrote into it: the command line that is built in.
const IMAGE_CMDLINE: &str = "usr/lib/diskomator/cmdline";
/// Where the boot stub puts what it found on the boot partition
/// (systemd-stub(7), "Companion Files").
const FILES: [(&str, Source); 2] =
    [(".extra/global_credentials", Source::BootPartition), (".extra/credentials", Source::BesideImage)];
/// systemd's `docs/CREDENTIALS.md`, "System Credentials".
const FW_CFG: &str = "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials";
const DMI: &str = "sys/firmware/dmi/entries";

/// The settings of this boot. Without a command line, which only a machine
/// without `/proc` has not, there is an error beside them.
pub fn read(root: &Root) -> (Settings, Option<FileError>) {
    let (given, error) = given(root);
    (Settings::read(&given), error)
}

/// Everything that this machine was given to read settings from. A source that
/// is not there gives nothing.
pub fn given(root: &Root) -> (Given, Option<FileError>) {
    let (cmdline, error) = match root.read("proc/cmdline") {
        Ok(cmdline) => (cmdline, None),
        Err(error) => (String::new(), Some(error)),
    };
    let mut credentials = Vec::new();
    for (directory, source) in FILES {
        for (name, file) in entries(root, directory) {
            if let Some(name) = name.strip_suffix(".cred") {
                add(&mut credentials, root, name, source, &file);
            }
        }
    }
    for (name, directory) in entries(root, FW_CFG) {
        add(&mut credentials, root, &name, Source::FwCfg, &format!("{directory}/raw"));
    }
    // Directories are called after type and number: 11-0. Their order makes no difference but for the same name twice.
    for (_, directory) in entries(root, DMI).into_iter().filter(|(name, _)| name.starts_with("11-")) {
        credentials.extend(root.read_bytes(format!("{directory}/raw")).iter().flat_map(|raw| from_smbios(raw)));
    }
    let image_cmdline = root.read(IMAGE_CMDLINE).unwrap_or_default();
    (Given { cmdline, image_cmdline, credentials, secure_boot: secure_boot(root) }, error)
}

fn entries(root: &Root, directory: &str) -> Vec<(String, String)> {
    let names = root.list(directory).unwrap_or_default();
    names.into_iter().map(|name| (name.clone(), format!("{directory}/{name}"))).collect()
}

fn add(credentials: &mut Vec<Credential>, root: &Root, name: &str, source: Source, file: &str) {
    // What can't be read, as it just went or is a directory, was not given.
    if let Ok(content) = read_start(&root.path(file)) {
        credentials.push(Credential { name: name.to_owned(), source, content, is_base64: false });
    }
}

fn read_start(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?.take(SIZE_MAX as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Whether the firmware starts only what is signed, as the kernel found it when
/// it began: the byte `secure_boot` of its boot parameters (its
/// `Documentation/arch/x86/zero-page.rst`; `enum efi_secureboot_mode` has its
/// values). Where it could not find out, it is on.
fn secure_boot(root: &Root) -> bool {
    const OFFSET: usize = 0x1ec;
    const UNKNOWN: u8 = 1;
    const ENABLED: u8 = 3;
    let parameters = root.read_bytes("sys/kernel/boot_params/data").unwrap_or_default();
    matches!(parameters.get(OFFSET), Some(&(UNKNOWN | ENABLED)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let root = Root::at(directory.path());
        (directory, root)
    }

    fn boot_params(secure_boot: u8) -> Vec<u8> {
        let mut parameters = vec![0; 4096];
        parameters[0x1ec] = secure_boot;
        parameters
    }

    #[test]
    fn every_source_is_found() {
        let smbios = [&[11, 5, 0, 1, 1][..], b"io.systemd.credential:diskomator.log=debug\0\0"].concat();
        let long = vec![b'x'; SIZE_MAX + 100];
        let (_directory, root) = tree(&[
            ("proc/cmdline", b"console=tty0 diskomator.debug diskomator.name=x\n"),
            ("usr/lib/diskomator/cmdline", b"console=tty0 diskomator.debug\n"),
            (".extra/global_credentials/diskomator.export.cred", b"none\n"),
            (".extra/credentials/diskomator.readonly.cred", b""),
            (".extra/credentials/diskomator.partitions.txt", b"all"),
            (".extra/credentials/long.cred", &long),
            ("sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/diskomator.syslog/raw", b"192.0.2.1"),
            ("sys/firmware/dmi/entries/11-0/raw", &smbios),
            ("sys/firmware/dmi/entries/1-0/raw", &[1, 5, 0, 1, 1]),
            ("sys/kernel/boot_params/data", &boot_params(2)),
        ]);
        let (given, error) = given(&root);
        assert!(error.is_none());
        assert!(!given.secure_boot);
        let (settings, _) = read(&root);
        assert_eq!(settings.warnings, []);
        let sources: Vec<String> = diskomator_core::config::SETTINGS
            .iter()
            .flat_map(|setting| {
                settings.values(setting).into_iter().map(|(value, source)| (setting.name, value, source))
            })
            .filter_map(|(name, value, source)| source.map(|source| format!("{name}={value} {}", source.name())))
            .collect();
        assert_eq!(
            sources,
            [
                "debug=yes image",
                "export=none boot-partition",
                "log=debug smbios",
                "name=x command-line",
                "readonly=all beside-image",
                "syslog=192.0.2.1 fw_cfg",
            ]
        );
        assert!(given.credential("long").unwrap().unwrap_err().to_string().ends_with("it has more than 64 KiB"));
    }

    #[test]
    fn a_machine_that_was_given_nothing_has_the_defaults() {
        let (_directory, root) = tree(&[]);
        let (settings, error) = read(&root);
        assert_eq!(settings, Settings::default());
        assert!(error.is_some(), "there is no command line");
    }

    #[test]
    fn secure_boot_is_what_the_kernel_found() {
        for (byte, expected) in [(0, false), (1, true), (2, false), (3, true)] {
            let (_directory, root) = tree(&[("sys/kernel/boot_params/data", &boot_params(byte))]);
            assert_eq!(secure_boot(&root), expected, "{byte}");
        }
    }
}
