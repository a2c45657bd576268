//! Credentials: named values that the machine is given beside the kernel
//! command line (systemd's `docs/CREDENTIALS.md`, "System Credentials").

use std::borrow::Cow;
use std::fmt;

use super::Problem;
use crate::base64;

/// The most that is read of a credential, in bytes. A kernel command line has 2048.
pub const SIZE_MAX: usize = 64 << 10;

/// Where a setting was given, the weakest first: what is nearer to who starts
/// this machine just now counts more than what was prepared before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Words of the kernel command line that are built into the image.
    Image,
    /// Files of `loader/credentials` on the boot partition, for each image there.
    BootPartition,
    /// Files beside the image on the boot partition, for it alone.
    BesideImage,
    /// Files `/.extra/credentials/NAME.cred` of the initrd that a boot loader hands over, as iPXE's script has them.
    BootLoader,
    /// QEMU's `fw_cfg` device.
    FwCfg,
    /// SMBIOS strings of type 11.
    Smbios,
    /// Words that the kernel command line has beyond the image's own: by
    /// addons, by who runs the virtual machine, or typed in a boot menu.
    CommandLine,
}

impl Source {
    /// The sources of credentials, the weakest first.
    pub const CREDENTIALS: [Self; 5] =
        [Self::BootPartition, Self::BesideImage, Self::BootLoader, Self::FwCfg, Self::Smbios];

    /// Its name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::BootPartition => "boot-partition",
            Self::BesideImage => "beside-image",
            Self::BootLoader => "boot-loader",
            Self::FwCfg => "fw_cfg",
            Self::Smbios => "smbios",
            Self::CommandLine => "command-line",
        }
    }

    /// Whether nobody has vouched for it while Secure Boot is on. The stub then
    /// takes only signed addons, and no other words than the image's; files
    /// it takes as they are, and only measures them (ours takes none of a boot
    /// loader's then, `package/systemd-stub`). The hypervisor of a virtual
    /// machine is trusted, as the stub trusts the words that come from there.
    const fn is_unsigned(self) -> bool {
        matches!(self, Self::BootPartition | Self::BesideImage | Self::BootLoader)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "in the image's own command line",
            Self::BootPartition => "in loader/credentials on the boot partition",
            Self::BesideImage => "beside the image on the boot partition",
            Self::BootLoader => "in the boot loader's initrd",
            Self::FwCfg => "in the virtual machine's fw_cfg",
            Self::Smbios => "in SMBIOS",
            Self::CommandLine => "on the kernel command line",
        })
    }
}

/// A credential as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name, such as `diskomator.export`.
    pub name: String,
    /// Where it was.
    pub source: Source,
    /// Its content.
    pub content: Content,
}

/// The content of a credential. If it has more than [`SIZE_MAX`] bytes, the first `SIZE_MAX + 1` are enough.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The value itself.
    Plain(Vec<u8>),
    /// Base64 of the value.
    Base64(Vec<u8>),
    /// It is there, and can't be read: the kernel's answer.
    Unreadable(String),
}

/// Some credentials are secret.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(content) => write!(f, "Plain({} bytes)", content.len()),
            Self::Base64(content) => write!(f, "Base64({} bytes)", content.len()),
            Self::Unreadable(answer) => f.debug_tuple("Unreadable").field(answer).finish(),
        }
    }
}

impl Credential {
    /// The text in it, without white space at its ends.
    pub(super) fn text(&self, secure_boot: bool) -> Result<String, Problem> {
        self.lines(secure_boot).map(|text| text.trim_start().to_owned())
    }

    /// The text in it without white space at its end, so that its lines have their numbers still.
    pub(super) fn lines(&self, secure_boot: bool) -> Result<String, Problem> {
        if secure_boot && self.source.is_unsigned() {
            return Err(Problem::Unsigned);
        }
        match &self.content {
            Content::Plain(content) | Content::Base64(content) if content.len() > SIZE_MAX => Err(Problem::TooLong),
            Content::Plain(content) => text(content),
            Content::Base64(content) => {
                base64::decode(content).ok_or(Problem::NoBase64).and_then(|content| text(&content))
            }
            Content::Unreadable(answer) => Err(Problem::Unreadable(answer.clone())),
        }
    }
}

fn text(content: &[u8]) -> Result<String, Problem> {
    let text = decoded(content).ok_or(Problem::NoText)?;
    // Editors on Windows begin files with a mark and end lines with two characters.
    let text = text.trim_start_matches('\u{feff}').trim_end();
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(Problem::NoText);
    }
    if is_encrypted(text) { Err(Problem::Encrypted) } else { Ok(text.to_owned()) }
}

/// UTF-8, or UTF-16 with a mark before it, which PowerShell's `>` and old editors on Windows write.
fn decoded(content: &[u8]) -> Option<Cow<'_, str>> {
    let unit: fn([u8; 2]) -> u16 = match content {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return std::str::from_utf8(content).ok().map(Cow::Borrowed),
    };
    let pairs = content.chunks_exact(2);
    let is_whole = pairs.remainder().is_empty();
    let units: Vec<u16> = pairs.filter_map(|pair| pair.try_into().ok()).map(unit).collect();
    String::from_utf16(&units).ok().filter(|_| is_whole).map(Cow::Owned)
}

/// Whether it is what `systemd-creds encrypt` writes: Base64 of a key's id and
/// then the sizes of key, block, initialization vector and tag of AES-256-GCM
/// (`struct encrypted_credential_header` of systemd's `creds-util.c`).
fn is_encrypted(text: &str) -> bool {
    const SIZES: [u8; 16] = [32, 0, 0, 0, 1, 0, 0, 0, 12, 0, 0, 0, 16, 0, 0, 0];
    base64::decode(text.as_bytes()).is_some_and(|bytes| bytes.get(16..32) == Some(&SIZES))
}

/// The credentials in one raw SMBIOS structure, if it is of type 11, "OEM
/// Strings": `io.systemd.credential:NAME=VALUE`, or `io.systemd.credential.binary:`
/// with Base64. Others' strings, and what is no structure, count for nothing.
pub fn from_smbios(raw: &[u8]) -> Vec<Credential> {
    const OEM_STRINGS: u8 = 11;
    let [OEM_STRINGS, length, ..] = raw else { return Vec::new() };
    // SMBIOS 3.7 section 6.1.3: strings follow the formatted part, and an empty one ends them.
    let strings = raw.get(usize::from(*length)..).unwrap_or_default().split(|byte| *byte == 0);
    strings.take_while(|string| !string.is_empty()).filter_map(from_string).collect()
}

fn from_string(string: &[u8]) -> Option<Credential> {
    let (rest, kind): (_, fn(Vec<u8>) -> Content) = match string.strip_prefix(b"io.systemd.credential:") {
        Some(rest) => (rest, Content::Plain),
        None => (string.strip_prefix(b"io.systemd.credential.binary:")?, Content::Base64),
    };
    let end = rest.iter().position(|byte| *byte == b'=')?;
    let name = String::from_utf8_lossy(rest.get(..end)?).into_owned();
    let content = kind(rest.get(end + 1..)?.to_vec());
    Some(Credential { name, source: Source::Smbios, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(content: &[u8]) -> Credential {
        let name = "diskomator.export".to_owned();
        Credential { name, source: Source::BesideImage, content: Content::Plain(content.to_vec()) }
    }

    fn smbios(strings: &[&[u8]]) -> Vec<u8> {
        let mut raw = vec![11, 5, 0, 1, u8::try_from(strings.len()).unwrap()];
        for string in strings {
            raw.extend([string, &[0][..]].concat());
        }
        raw.push(0);
        raw
    }

    #[test]
    fn what_editors_leave_around_a_value_is_dropped() {
        for content in ["none", "none\n", "none\r\n", "\u{feff}none\r\n", " none \n\n"] {
            assert_eq!(plain(content.as_bytes()).text(false).as_deref(), Ok("none"), "{content:?}");
        }
        for units in [u16::to_le_bytes, u16::to_be_bytes] {
            let content: Vec<u8> = "\u{feff}none\r\n".encode_utf16().flat_map(units).collect();
            assert_eq!(plain(&content).text(false).as_deref(), Ok("none"), "{content:?}");
        }
        assert_eq!(plain(b"").text(false).as_deref(), Ok(""));
        assert_eq!(plain(b"a\nb\n").text(false).as_deref(), Ok("a\nb"));
    }

    #[test]
    fn what_is_no_text_says_what_it_is() {
        assert_eq!(plain(b"no\0ne").text(false), Err(Problem::NoText));
        assert_eq!(plain(b"\x1b[2J").text(false), Err(Problem::NoText));
        assert_eq!(plain(&[0xc3, 0x28]).text(false), Err(Problem::NoText));
        for broken in [&[0xff, 0xfe, b'n', 0, b'o'][..], &[0xff, 0xfe, 0, 0xd8], &[0xfe, 0xff, b'n', 0, 0, 7]] {
            assert_eq!(plain(broken).text(false), Err(Problem::NoText), "{broken:?}");
        }
        assert_eq!(plain(&vec![b'a'; SIZE_MAX + 1]).text(false), Err(Problem::TooLong));
        assert!(plain(&vec![b'a'; SIZE_MAX]).text(false).is_ok());
        // `systemd-creds encrypt --with-key=host`, its first line.
        let encrypted = b"Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAAAACL6OwhUvRkFu8DyMPNAAAA\n";
        assert_eq!(plain(encrypted).text(false), Err(Problem::Encrypted));
    }

    #[test]
    fn with_secure_boot_on_a_file_that_nobody_signed_counts_for_nothing() {
        assert_eq!(plain(b"none").text(true), Err(Problem::Unsigned));
        for (source, counts) in [
            (Source::BootPartition, false),
            (Source::BesideImage, false),
            (Source::BootLoader, false),
            (Source::FwCfg, true),
            (Source::Smbios, true),
        ] {
            assert_eq!(Credential { source, ..plain(b"none") }.text(true).is_ok(), counts, "{source:?}");
        }
    }

    #[test]
    fn smbios_strings_give_credentials() {
        let raw = smbios(&[
            b"io.systemd.credential:diskomator.export=a=b",
            b"io.systemd.stub.kernel-cmdline-extra=diskomator.debug",
            b"io.systemd.credential.binary:diskomator.log=ZGVidWcK",
            b"io.systemd.credential.binary:diskomator.log=!",
            b"io.systemd.credential:nothing",
        ]);
        let found = from_smbios(&raw);
        let texts: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.text(true))).collect();
        assert_eq!(
            texts,
            [
                ("diskomator.export", Ok("a=b".to_owned())),
                ("diskomator.log", Ok("debug".to_owned())),
                ("diskomator.log", Err(Problem::NoBase64)),
            ]
        );
    }

    #[test]
    fn a_broken_smbios_structure_gives_what_is_in_it() {
        let raw = smbios(&[b"io.systemd.credential:a=b", b"io.systemd.credential:c=d"]);
        for length in 0..raw.len() {
            assert!(from_smbios(&raw[..length]).len() <= 2);
        }
        assert_eq!(from_smbios(&[11, 200, 0, 1, 1]), []);
        assert_eq!(from_smbios(&[1, 5, 0, 1, 1]), []);
        assert_eq!(from_smbios(&[]), []);
    }
}
