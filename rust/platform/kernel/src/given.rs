//! Where settings are given: the kernel command line and the credentials that
//! the boot stub, the firmware and the virtual machine hand over.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use settings::{Content, Credential, Given, Problem, Product, SIZE_MAX, Settings, Source, from_smbios};

use crate::error::chain;
use crate::root::{FileError, Root};

/// The command line that is built into the image, as the build wrote it down.
const IMAGE_CMDLINE: &str = "usr/lib/image/cmdline";
/// Where the boot stub puts what it found on the boot partition
/// (systemd-stub(7), "Companion Files"), and, ours alone, in the boot loader's
/// initrd (`package/systemd-stub`).
const FILES: [(&str, Source); 3] = [
    (".extra/global_credentials", Source::BootPartition),
    (".extra/credentials", Source::BesideImage),
    (".extra/boot_loader_credentials", Source::BootLoader),
];
/// Our boot stub says so where it took nothing of that initrd.
const IGNORED_INITRD: &str = ".extra/boot-loader-initrd-ignored";
/// systemd's `docs/CREDENTIALS.md`, "System Credentials".
const FW_CFG: &str = "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials";
const DMI: &str = "sys/firmware/dmi/entries";
/// The ends of the name of a file with a credential, in any case: FAT keeps none of names in capital letters. Windows'
/// editor puts the second one behind the first, and its Explorer does not show it (`package/systemd-stub`).
const SUFFIXES: [&str; 2] = [".cred", ".cred.txt"];
/// The kernel's `COMMAND_LINE_SIZE` on x86, without the end of the string. It
/// cuts off what is longer; our boot stub does so first, and fills up to it.
const CMDLINE_MAX: usize = 2047;

/// The settings of this boot. Without a command line, which only a machine
/// without `/proc` has not, there is an error beside them.
pub fn read<C: Product>(root: &Root) -> (Settings<C>, Option<FileError>) {
    let (given, error) = given(root);
    (Settings::read(&given), error)
}

/// Everything that this machine was given to read settings from. A source that
/// is not there gives nothing; one that can't be read is lost.
pub fn given(root: &Root) -> (Given, Option<FileError>) {
    let mut given = Given { secure_boot: secure_boot(root), ..Given::default() };
    let mut error = None;
    match root.read_bytes("proc/cmdline") {
        Ok(line) => {
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            if line.len() >= CMDLINE_MAX {
                given.lost.push((Source::CommandLine, Problem::Cut(CMDLINE_MAX)));
            }
            given.cmdline = String::from_utf8_lossy(line).into_owned();
        }
        Err(failed) => {
            given.lost.push((Source::CommandLine, Problem::Lost(chain(&failed))));
            error = Some(failed);
        }
    }
    given.image_cmdline = known(root.read(IMAGE_CMDLINE), Source::Image, &mut given.lost);
    for (directory, source) in FILES {
        for (name, file) in entries(root, directory, source, &mut given.lost) {
            if let Some(name) = credential_of(&name) {
                add(&mut given.credentials, root, name, source, &file);
            }
        }
    }
    given.ignored_initrd = root.path(IGNORED_INITRD).exists();
    for (name, directory) in entries(root, FW_CFG, Source::FwCfg, &mut given.lost) {
        add(&mut given.credentials, root, &name, Source::FwCfg, &format!("{directory}/raw"));
    }
    // Directories are called after type and number: 11-0. Their order makes no difference but for the same name twice.
    for (name, directory) in entries(root, DMI, Source::Smbios, &mut given.lost) {
        if name.starts_with("11-") {
            let raw = known(root.read_bytes(format!("{directory}/raw")), Source::Smbios, &mut given.lost);
            given.credentials.extend(from_smbios(&raw));
        }
    }
    (given, error)
}

/// The content of a source, or the default if it is absent or may not be read: only root may read some sources, and
/// only root exports disks.
fn known<T: Default>(found: Result<T, FileError>, source: Source, lost: &mut Vec<(Source, Problem)>) -> T {
    found.unwrap_or_else(|error| {
        if !matches!(error.io().kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) {
            lost.push((source, Problem::Lost(chain(&error))));
        }
        T::default()
    })
}

fn entries(root: &Root, directory: &str, source: Source, lost: &mut Vec<(Source, Problem)>) -> Vec<(String, String)> {
    let names = known(root.list(directory), source, lost);
    names.into_iter().map(|name| (name.clone(), format!("{directory}/{name}"))).collect()
}

/// The name of the credential that a file with this name has.
fn credential_of(file: &str) -> Option<&str> {
    SUFFIXES.iter().find_map(|suffix| {
        let (name, end) = file.split_at_checked(file.len().checked_sub(suffix.len())?)?;
        end.eq_ignore_ascii_case(suffix).then_some(name)
    })
}

fn add(credentials: &mut Vec<Credential>, root: &Root, name: &str, source: Source, file: &str) {
    let content = match read_start(&root.path(file)) {
        Ok(content) => Content::Plain(content),
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => Content::Unreadable(error.to_string()),
    };
    credentials.push(Credential { name: name.to_owned(), source, content });
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

    use settings::system::{self, System};
    use settings::{Guards, Instead, Setting, boolean};

    use super::*;

    /// A product that guards a gate.
    #[derive(Debug, Clone, PartialEq)]
    struct Config {
        system: System,
        open: bool,
    }

    impl Default for Config {
        fn default() -> Self {
            Self { system: System::default(), open: true }
        }
    }

    impl AsRef<System> for Config {
        fn as_ref(&self) -> &System {
            &self.system
        }
    }

    impl AsMut<System> for Config {
        fn as_mut(&mut self) -> &mut System {
            &mut self.system
        }
    }

    impl Product for Config {
        const NAME: &'static str = "gate";
        const SETTINGS: &'static [Setting<Self>] = &[
            system::debug(),
            system::log(),
            system::name(),
            system::netconsole(),
            Setting {
                name: "open",
                syntax: "",
                text: "whether the gate is open",
                is_list: false,
                set: |config, value| boolean(value).map(|value| config.open = value),
                values: |config| vec![if config.open { "yes" } else { "no" }.to_owned()],
                instead: Some(Instead {
                    effect: "shuts the gate",
                    apply: |config| config.open = false,
                    guards: Guards::Purpose,
                }),
            },
            system::ssh(),
            system::syslog(),
        ];
        const SAFE: &'static str = "the gate is shut";
    }

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
        let smbios = [&[11, 5, 0, 1, 1][..], b"io.systemd.credential:gate.log=debug\0\0"].concat();
        let long = vec![b'x'; SIZE_MAX + 100];
        let (_directory, root) = tree(&[
            ("proc/cmdline", b"console=tty0 gate.debug gate.name=x\n"),
            ("usr/lib/image/cmdline", b"console=tty0 gate.debug\n"),
            (".extra/global_credentials/gate.open.cred", b"no\n"),
            (".extra/credentials/gate.netconsole.cred", b"none"),
            (".extra/credentials/gate.debug.txt", b"all"),
            (".extra/credentials/long.cred", &long),
            (".extra/boot_loader_credentials/gate.ssh.CRED", b"no"),
            ("sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/gate.syslog/raw", b"192.0.2.1"),
            ("sys/firmware/dmi/entries/11-0/raw", &smbios),
            ("sys/firmware/dmi/entries/1-0/raw", &[1, 5, 0, 1, 1]),
            ("sys/kernel/boot_params/data", &boot_params(2)),
        ]);
        let (given, error) = given(&root);
        assert!(error.is_none());
        assert!(!given.secure_boot);
        let (settings, _) = read::<Config>(&root);
        assert_eq!(settings.warnings, []);
        let sources: Vec<String> = Config::SETTINGS
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
                "log=debug smbios",
                "name=x command-line",
                "netconsole=none beside-image",
                "open=no boot-partition",
                "ssh=no boot-loader",
                "syslog=192.0.2.1 fw_cfg",
            ]
        );
        assert!(given.credential("long").unwrap().unwrap_err().to_string().ends_with("it has more than 64 KiB"));
    }

    #[test]
    fn a_file_has_a_credential_whatever_windows_makes_of_its_name() {
        for file in ["gate.open.cred", "gate.open.CRED", "gate.open.cred.txt", "gate.open.Cred.TXT"] {
            assert_eq!(credential_of(file), Some("gate.open"), "{file}");
        }
        for file in ["gate.open.txt", "gate.open", "cred", "", "ä.cre", "gate.open.cred.txt.txt"] {
            assert_eq!(credential_of(file), None, "{file}");
        }
    }

    #[test]
    fn a_credential_of_a_program_comes_from_each_place() {
        let smbios = [&[11, 5, 0, 1, 1][..], b"io.systemd.credential:gate.secret=c2VjcmV0\0\0"].concat();
        for (place, content) in [
            (".extra/global_credentials/gate.secret.cred.txt", &b"\xef\xbb\xbfc2VjcmV0\r\n"[..]),
            (".extra/credentials/gate.secret.cred", b"c2VjcmV0"),
            (".extra/boot_loader_credentials/gate.secret.cred", b"c2VjcmV0\n"),
            ("sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/gate.secret/raw", b"c2VjcmV0\n"),
            ("sys/firmware/dmi/entries/11-0/raw", &smbios),
        ] {
            let (_directory, root) = tree(&[("proc/cmdline", b"\n"), (place, content)]);
            assert_eq!(given(&root).0.credential("gate.secret"), Some(Ok("c2VjcmV0".to_owned())), "{place}");
        }
    }

    #[test]
    fn an_answer_that_an_editor_of_windows_wrote_is_read() {
        let utf16: Vec<u8> = "\u{feff}no\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for content in [&b"no"[..], b"no\r\n", b"\xef\xbb\xbfno\r\n", b"no \r\n", &utf16] {
            let file = (".extra/global_credentials/gate.open.cred.txt", content);
            let (_directory, root) = tree(&[("proc/cmdline", b"\n"), file]);
            let (settings, _) = read::<Config>(&root);
            assert_eq!(settings.warnings, [], "{content:?}");
            assert!(!settings.config.open, "{content:?}");
        }
    }

    #[test]
    fn a_machine_that_was_given_nothing_has_the_defaults() {
        let (_directory, root) = tree(&[("proc/cmdline", b"\n")]);
        let (settings, error) = read::<Config>(&root);
        assert_eq!(settings, Settings::default());
        assert!(error.is_none());
    }

    /// That the gate is shut, which `count` warnings say.
    fn assert_safe(root: &Root, count: usize) {
        let (settings, _) = read::<Config>(root);
        assert!(!settings.config.open, "{settings:?}");
        assert_eq!(settings.warnings.len(), count, "{settings:?}");
    }

    #[test]
    fn a_machine_without_a_command_line_is_safe() {
        let (_directory, root) = tree(&[]);
        assert!(read::<Config>(&root).1.is_some(), "there is no command line");
        assert_safe(&root, 1);
    }

    #[test]
    fn a_source_that_is_there_and_cannot_be_read_is_safe() {
        let cmdline = ("proc/cmdline", &b"quiet\n"[..]);
        for (path, _) in FILES {
            // A file where a directory should be.
            let (_directory, root) = tree(&[cmdline, (path, b"")]);
            assert_safe(&root, 1);
        }
        // A directory where a file should be.
        for path in [&format!("{IMAGE_CMDLINE}/x"), &format!("{DMI}/11-0/raw/x")] {
            let (_directory, root) = tree(&[cmdline, (path, b"")]);
            assert_safe(&root, 1);
        }
        let credentials = [format!("{FW_CFG}/gate.open/raw/x"), ".extra/credentials/gate.open.cred/x".to_owned()];
        let (_directory, root) = tree(&[cmdline, (&credentials[0], b""), (&credentials[1], b"")]);
        assert_safe(&root, 2);
    }

    #[test]
    fn a_command_line_that_the_kernel_has_cut_is_safe() {
        let words = "gate.open=yes";
        let line = |length: usize| format!("{words:<length$}\n");
        let (_directory, root) = tree(&[("proc/cmdline", line(CMDLINE_MAX - 1).as_bytes())]);
        assert_eq!(read::<Config>(&root).0.warnings, []);
        let (_directory, root) = tree(&[("proc/cmdline", line(CMDLINE_MAX).as_bytes())]);
        assert_safe(&root, 1);
    }

    #[test]
    fn a_byte_that_is_no_text_costs_no_other_word() {
        let (_directory, root) = tree(&[("proc/cmdline", b"caf\xe9.efi gate.open=no\n")]);
        let (settings, _) = read::<Config>(&root);
        assert!(!settings.config.open);
        assert_eq!(settings.warnings, []);
    }

    #[test]
    fn an_initrd_that_the_boot_stub_ignored_is_named() {
        let (_directory, root) = tree(&[("proc/cmdline", b"\n"), (IGNORED_INITRD, b"")]);
        assert_eq!(read::<Config>(&root).0.warnings.len(), 1);
    }

    #[test]
    fn secure_boot_is_what_the_kernel_found() {
        for (byte, expected) in [(0, false), (1, true), (2, false), (3, true)] {
            let (_directory, root) = tree(&[("sys/kernel/boot_params/data", &boot_params(byte))]);
            assert_eq!(secure_boot(&root), expected, "{byte}");
        }
    }
}
