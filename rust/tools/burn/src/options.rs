//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use access::{Mode, NoMode};
use disks::config::Config;
use lexopt::Arg::{Long, Value};
use lexopt::{Parser, ValueExt as _};
use settings::Product as _;
use thiserror::Error;

/// Why the command line makes no sense.
#[derive(Debug, Error)]
pub(crate) enum Usage {
    #[error(transparent)]
    Arguments(#[from] lexopt::Error),
    #[error("SECTOR={0} is not the size of a block that firmware boots from: 512 or 4096")]
    Sector(String),
    #[error("SIZE={0} is not a size: 512M, 2G, or a number of bytes")]
    Size(String),
    #[error("SIZE is for files, which need SECTOR, too; a device is used as it is")]
    SizeOfDevice,
    #[error("KEEP is for devices; a file is written anew")]
    KeepOfFile,
    #[error("ACCESS={0} is no mode: open, ask or paired")]
    Access(String),
    #[error("ACCESS and SECRET are for {product}, and {0} admits no hosts", product = Config::NAME)]
    OtherProduct(String),
    #[error("{0} is no file, and only files have no blocks of their own: leave SECTOR out")]
    NotAFile(PathBuf),
}

/// The secret that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretOption {
    /// None.
    Nothing,
    /// The one in this file.
    File(PathBuf),
}

/// The options of the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) image: PathBuf,
    /// The product of the image; `None` is Diskomator.
    pub(crate) product: Option<String>,
    pub(crate) access: Option<Mode>,
    pub(crate) secret: Option<SecretOption>,
    /// The folder with the user's copy of the secret.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) device: Option<PathBuf>,
    /// Bytes of a block of the disk that a file is.
    pub(crate) sector: Option<u16>,
    /// Bytes of that file.
    pub(crate) size: Option<u64>,
    pub(crate) yes: bool,
    pub(crate) force: bool,
    pub(crate) keep: bool,
}

impl Options {
    pub(crate) fn parse(mut parser: Parser) -> Result<Self, Usage> {
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("image") => options.image = parser.value()?.into(),
                Long("device") => {
                    options.device = Some(parser.value()?).filter(|path| !path.is_empty()).map(Into::into);
                }
                Long("sector") => options.sector = Some(sector(&parser.value()?.string()?)?),
                Long("size") => options.size = Some(size(&parser.value()?.string()?)?),
                Long("product") => options.product = Some(parser.value()?.string()?),
                Long("access") => {
                    let word = parser.value()?.string()?;
                    options.access = Some(word.parse().map_err(|NoMode| Usage::Access(word))?);
                }
                Long("secret") => options.secret = Some(secret(parser.value()?)),
                Long("folder") => options.folder = Some(parser.value()?.into()),
                Long("yes") => options.yes = true,
                Long("force") => options.force = true,
                Long("keep") => options.keep = true,
                Value(value) if options.device.is_none() => options.device = Some(value.into()),
                other => return Err(other.unexpected().into()),
            }
        }
        let is_about_hosts = options.access.is_some() || options.secret.is_some();
        match &options.product {
            Some(product) if is_about_hosts && !options.admits_hosts() => {
                return Err(Usage::OtherProduct(product.clone()));
            }
            _ => {}
        }
        match (options.sector, options.size) {
            (None, Some(_)) => Err(Usage::SizeOfDevice),
            (Some(_), _) if options.keep => Err(Usage::KeepOfFile),
            _ => Ok(options),
        }
    }

    /// Whether the image asks who may use its disks.
    pub(crate) fn admits_hosts(&self) -> bool {
        self.product.as_deref().is_none_or(|product| product == Config::NAME)
    }

    /// The command that does the same as root.
    pub(crate) fn as_root(&self) -> String {
        let mut words = vec!["sudo make burn".to_owned()];
        let word = |name: &str, path: &Path| format!("{name}={}", quoted(path));
        words.extend(self.device.as_deref().map(|path| word("DEV", path)));
        if let Some(folder) = self.image.parent().filter(|folder| !folder.ends_with("output/images")) {
            words.push(word("IMAGE", folder));
        }
        words
            .extend(self.product.as_ref().filter(|_| !self.admits_hosts()).map(|product| format!("PRODUCT={product}")));
        words.extend(self.access.map(|mode| format!("ACCESS={mode}")));
        match &self.secret {
            Some(SecretOption::Nothing) => words.push(format!("SECRET={NO_SECRET}")),
            Some(SecretOption::File(path)) => words.push(word("SECRET", path)),
            None => {}
        }
        let set = [("YES", self.yes), ("FORCE", self.force), ("KEEP", self.keep)];
        words.extend(set.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| format!("{name}=1")));
        words.join(" ")
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = OsString::from(path).to_string_lossy().into_owned();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

const NO_SECRET: &str = "none";

fn secret(value: OsString) -> SecretOption {
    if value == NO_SECRET { SecretOption::Nothing } else { SecretOption::File(value.into()) }
}

fn sector(text: &str) -> Result<u16, Usage> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err(Usage::Sector(text.to_owned())),
    }
}

/// Bytes, or with a unit in powers of 1024.
fn size(text: &str) -> Result<u64, Usage> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => 0,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| Usage::Size(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, Usage> {
        Options::parse(Parser::from_args(words.iter().map(OsString::from)))
    }

    #[test]
    fn what_was_asked_for_can_be_asked_for_as_root() {
        let asked = parse(&["--image=/o/output/images/diskomator.raw", "--device=/dev/sdb", "--keep"]).unwrap();
        assert_eq!(asked.as_root(), "sudo make burn DEV=/dev/sdb KEEP=1");
        let asked = parse(&["--image=/my images/diskomator.raw", "--yes", "--force", "/dev/disk/by-id/usb-A_B-0:0"]);
        let command = "sudo make burn DEV=/dev/disk/by-id/usb-A_B-0:0 IMAGE='/my images' YES=1 FORCE=1";
        assert_eq!(asked.unwrap().as_root(), command);
    }

    #[test]
    fn modes_and_secrets_are_asked_for_as_root_with_the_name_of_their_file_alone() {
        let asked =
            parse(&["--image=/o/output/images/x.raw", "--access=paired", "--secret=/my own/secret", "/dev/sdb"]);
        let asked = asked.unwrap();
        assert_eq!(asked.access, Some(Mode::Paired));
        assert_eq!(asked.as_root(), "sudo make burn DEV=/dev/sdb ACCESS=paired SECRET='/my own/secret'");
        let asked = parse(&["--image=/o/output/images/x.raw", "--secret=none", "--product=diskomator", "/dev/sdb"]);
        let asked = asked.unwrap();
        assert_eq!(asked.secret, Some(SecretOption::Nothing));
        assert_eq!(asked.as_root(), "sudo make burn DEV=/dev/sdb SECRET=none");
        let asked = parse(&["--image=/o/output/images/x.raw", "--product=rescue", "/dev/sdb"]).unwrap();
        assert!(!asked.admits_hosts());
        assert_eq!(asked.as_root(), "sudo make burn DEV=/dev/sdb PRODUCT=rescue");
    }

    #[test]
    fn sizes_are_in_powers_of_1024() {
        for (text, bytes) in [("512M", 512 << 20), ("2G", 2 << 30), ("1TiB", 1 << 40), ("1000", 1000)] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "0", "G", "1.5G", "-1G", "2K2", "99999999999T", "2GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (words, said) in [
            (&["--size=2G", "/dev/sdb"][..], "SIZE is for files"),
            (&["--sector=520", "f"], "SECTOR=520"),
            (&["--sector=512", "--keep", "f"], "KEEP is for devices"),
            (&["--access=opne", "f"], "ACCESS=opne"),
            (&["--product=rescue", "--access=open", "f"], "rescue admits no hosts"),
            (&["--product=rescue", "--secret=none", "f"], "rescue admits no hosts"),
            (&["--no"], "--no"),
            (&["/dev/sda", "/dev/sdb"], "/dev/sdb"),
        ] {
            let error = parse(words).unwrap_err().to_string();
            assert!(error.contains(said), "{words:?}: {error}");
        }
    }
}
