//! Settings, read from words such as those of the kernel command line.

use std::fmt;
use std::str::FromStr;

use crate::addressing::{self, Addressing, AddressingError};
use crate::selection::{Selection, SelectionError};

/// What every setting's name starts with.
const PREFIX: &str = "diskomator.";

/// The name of every setting, without the prefix.
const SETTINGS: [&str; 7] = ["debug", "export", "ip", "log", "partitions", "passthru", "readonly"];

/// The settings of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `diskomator.log=LEVEL`: what the daemons write to the kernel's log.
    pub log: LogLevel,
    /// `diskomator.debug`: a root shell on the serial console.
    pub debug: bool,
    /// `diskomator.export=DISKS`: which disks are exported by themselves. What
    /// is exported by hand stays exported.
    pub export: Selection,
    /// `diskomator.readonly=DISKS`: which disks hosts may only read.
    pub readonly: Selection,
    /// `diskomator.partitions=DISKS`: of which disks each partition is
    /// exported, and not the disk itself.
    pub partitions: Selection,
    /// `diskomator.passthru=DISKS`: which NVMe disks hosts get with their
    /// controller, rather than as a namespace of ours.
    pub passthru: Selection,
    /// `diskomator.ip=[DEV:]ADDR/PREFIX[,GATEWAY]`, as often as needed, and the
    /// kernel's `ip=`: which links have which addresses, or none by themselves.
    pub ip: Addressing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: LogLevel::Info,
            debug: false,
            export: Selection::all(),
            readonly: Selection::none(),
            partitions: Selection::none(),
            passthru: Selection::none(),
            ip: Addressing::default(),
        }
    }
}

/// How much is logged, from little to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what is odd.
    Warn,
    /// Also each change of state, once.
    Info,
    /// Also why: packets dropped, events ignored.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level with the word that selects it.
    pub const ALL: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl FromStr for LogLevel {
    type Err = Warning;

    fn from_str(word: &str) -> Result<Self, Warning> {
        one_of(&Self::ALL, "log", word, "error, warn, info, debug or trace")
    }
}

/// Why a word had not the effect that was meant. None of these stops the system from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// No setting has this name.
    UnknownWord {
        /// The whole word, as it was given.
        word: String,
        /// The setting that was probably meant, with its prefix.
        nearest: Option<String>,
    },
    /// The setting exists, its value does not.
    BadValue {
        /// The setting, without its prefix.
        name: &'static str,
        /// The value that was given; empty if there was none.
        value: String,
        /// What would have been right.
        expected: &'static str,
        /// The value that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The setting exists, and its value names no disks.
    BadSelection {
        /// The setting, without its prefix.
        name: &'static str,
        /// The value that was given; empty if there was none.
        value: String,
        /// What counts instead.
        effect: &'static str,
        /// What is wrong with it.
        source: SelectionError,
    },
    /// It is about an address, and makes no sense.
    BadAddress {
        /// The whole word, as it was given.
        word: String,
        /// What is wrong with it.
        source: AddressingError,
    },
}

impl std::error::Error for Warning {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWord { word, nearest } => {
                write!(f, "unknown setting {word:?} on the kernel command line is ignored")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest:?}?"),
                    None => Ok(()),
                }
            }
            Self::BadValue { name, value, expected, nearest } => {
                write!(f, "{PREFIX}{name}={value:?} on the kernel command line is ignored: it must be {expected}")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean \"{PREFIX}{name}={nearest}\"?"),
                    None => Ok(()),
                }
            }
            Self::BadAddress { word, source } => {
                write!(f, "{word:?} on the kernel command line is ignored: {source}")
            }
            Self::BadSelection { name, value, effect, source } => {
                write!(f, "{PREFIX}{name}={value:?} on the kernel command line {effect}: {source}")?;
                match source {
                    SelectionError::NoDisk { nearest: Some(nearest), .. } => write!(f, "; did you mean {nearest:?}?"),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Config {
    /// Reads the words of a kernel command line, in its own syntax: words are
    /// parted by white space, double quotes keep it, the last of two equal
    /// settings counts, and `--` ends what is for the kernel
    /// (`next_arg` in the kernel's `lib/cmdline.c`).
    ///
    /// Words of other programs are none of our business. Those that carry our
    /// prefix, or nearly carry it, and mean nothing are returned as warnings.
    pub fn from_cmdline(line: &str) -> (Self, Vec<Warning>) {
        let mut config = Self::default();
        let mut warnings = Vec::new();
        for word in words(line) {
            if let Err(warning) = config.set(&word) {
                warnings.push(warning);
            }
        }
        (config, warnings)
    }

    fn set(&mut self, word: &str) -> Result<(), Warning> {
        let bad_address = |source| Warning::BadAddress { word: word.to_owned(), source };
        if let Some(value) = word.strip_prefix("ip=") {
            if let Some(setting) = addressing::from_kernel(value).map_err(bad_address)? {
                self.ip.add(setting);
            }
            return Ok(());
        }
        let Some(setting) = word.strip_prefix(PREFIX) else {
            return if nearly_prefixed(word) { Err(unknown(word)) } else { Ok(()) };
        };
        let (name, value) = match setting.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (setting, None),
        };
        match name {
            "debug" => self.debug = boolean("debug", value)?,
            // Who writes one of these words wants to keep disks back, or safe: so does a value
            // that means nothing.
            "export" => set_selection(&mut self.export, "export", value, Selection::none(), "exports nothing")?,
            "readonly" => {
                let value = switch(value);
                set_selection(&mut self.readonly, "readonly", value, Selection::all(), "makes all disks read-only")?;
            }
            "partitions" => {
                let value = switch(value);
                set_selection(&mut self.partitions, "partitions", value, Selection::none(), "means no disk")?;
            }
            "passthru" => {
                let value = switch(value);
                set_selection(&mut self.passthru, "passthru", value, Selection::none(), "means no disk")?;
            }
            "ip" => self.ip.add(value.unwrap_or_default().parse().map_err(bad_address)?),
            "log" => self.log = value.unwrap_or_default().parse()?,
            _ => return Err(unknown(word)),
        }
        Ok(())
    }
}

/// The disks that a switch means: with no value, or yes, all.
fn switch(value: Option<&str>) -> Option<&str> {
    match boolean("", value) {
        Ok(true) => Some("all"),
        Ok(false) => Some("none"),
        Err(_) => value,
    }
}

fn set_selection(
    setting: &mut Selection,
    name: &'static str,
    value: Option<&str>,
    instead: Selection,
    effect: &'static str,
) -> Result<(), Warning> {
    let value = value.unwrap_or_default();
    match value.parse() {
        Ok(selection) => {
            *setting = selection;
            Ok(())
        }
        Err(source) => {
            *setting = instead;
            Err(Warning::BadSelection { name, value: value.to_owned(), effect, source })
        }
    }
}

/// A switch: present is on, and the words that systemd's `parse_boolean` takes.
fn boolean(name: &'static str, value: Option<&str>) -> Result<bool, Warning> {
    match value {
        None | Some("1" | "yes" | "true" | "on") => Ok(true),
        Some("0" | "no" | "false" | "off") => Ok(false),
        Some(other) => Err(Warning::BadValue { name, value: other.to_owned(), expected: "yes or no", nearest: None }),
    }
}

/// The value that `word` selects for the setting `name`.
fn one_of<T: Copy>(
    values: &[(&'static str, T)],
    name: &'static str,
    word: &str,
    expected: &'static str,
) -> Result<T, Warning> {
    values.iter().find(|(known, _)| *known == word).map(|(_, value)| *value).ok_or_else(|| Warning::BadValue {
        name,
        value: word.to_owned(),
        expected,
        nearest: nearest(values.iter().map(|(known, _)| *known), word),
    })
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    if let Some(end) = words.iter().position(|word| word == "--") {
        words.truncate(end);
    }
    words
}

fn unknown(word: &str) -> Warning {
    let name = word.split('=').next().unwrap_or(word);
    let setting = name.split_once(['.', '-', '_']).map_or(name, |(_, setting)| setting);
    let nearest = nearest(SETTINGS.into_iter(), setting).map(|known| format!("{PREFIX}{known}"));
    Warning::UnknownWord { word: word.to_owned(), nearest }
}

/// The one of `known` that was probably meant by `word`.
fn nearest(known: impl Iterator<Item = &'static str>, word: &str) -> Option<&'static str> {
    known
        .map(|known| (strsim::osa_distance(known, word), known))
        .min()
        // One slip in a short word, two in a longer one.
        .filter(|(slips, known)| *slips <= known.len().div_ceil(4).max(1))
        .map(|(_, known)| known)
}

/// `diskomater.debug` is meant for us; `dm_mod.create` is not.
fn nearly_prefixed(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or(word);
    let ours = PREFIX.trim_end_matches('.');
    name.split_once(['.', '-', '_']).is_some_and(|(first, _)| strsim::osa_distance(first, ours) <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(line: &str) -> Vec<String> {
        Config::from_cmdline(line).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_line_gives_the_defaults() {
        assert_eq!(Config::from_cmdline(""), (Config::default(), vec![]));
    }

    #[test]
    fn the_last_of_two_equal_settings_counts() {
        // So that a word from outside the image overrides the one that is built into it.
        let first = "diskomator.log=error diskomator.export=none diskomator.debug";
        let last = "diskomator.log=trace diskomator.export=all diskomator.debug=no";
        let (config, warnings) = Config::from_cmdline(&format!("{first} x {last}"));
        assert_eq!(config, Config { log: LogLevel::Trace, ..Config::default() });
        assert_eq!(warnings, vec![]);
        let (config, warnings) = Config::from_cmdline(&format!("{last} x {first}"));
        assert_eq!(
            config,
            Config { log: LogLevel::Error, debug: true, export: Selection::none(), ..Config::default() }
        );
        assert_eq!(warnings, vec![]);
    }

    #[test]
    fn a_value_that_means_nothing_exports_no_disk_and_overrides_no_other_setting() {
        for line in ["diskomator.export=al", "diskomator.export", "diskomator.export=all diskomator.export=non"] {
            let (config, warnings) = Config::from_cmdline(line);
            assert_eq!((config.export, warnings.len()), (Selection::none(), 1), "{line}");
        }
        let (config, warnings) = Config::from_cmdline("diskomator.log=error diskomator.log=eror");
        assert_eq!((config.log, warnings.len()), (LogLevel::Error, 1));
    }

    #[test]
    fn a_switch_takes_the_usual_words() {
        for (line, on) in
            [("diskomator.debug", true), ("diskomator.debug=yes", true), ("diskomator.debug diskomator.debug=0", false)]
        {
            assert_eq!(Config::from_cmdline(line).0.debug, on, "{line}");
        }
    }

    #[test]
    fn a_typo_is_named_with_the_nearest_right_word() {
        assert_eq!(
            warnings("quiet diskomator.lgo=debug console=ttyS0 root=/dev/sda1 dm_mod.create=x"),
            ["unknown setting \"diskomator.lgo=debug\" on the kernel command line is ignored; \
              did you mean \"diskomator.log\"?"]
        );
        assert_eq!(
            warnings("diskomater.debug"),
            ["unknown setting \"diskomater.debug\" on the kernel command line is ignored; \
              did you mean \"diskomator.debug\"?"]
        );
        assert_eq!(
            warnings("diskomator.exprot=none"),
            ["unknown setting \"diskomator.exprot=none\" on the kernel command line is ignored; \
              did you mean \"diskomator.export\"?"]
        );
        assert_eq!(warnings("diskomator-log=debug diskomator.debgu").len(), 2,);
        assert_eq!(
            warnings("diskomator.foo"),
            ["unknown setting \"diskomator.foo\" on the kernel command line is ignored"]
        );
        assert_eq!(
            warnings("diskomator.frobnicate"),
            ["unknown setting \"diskomator.frobnicate\" on the kernel command line is ignored"]
        );
    }

    #[test]
    fn a_bad_value_says_what_would_be_right() {
        assert_eq!(
            warnings("diskomator.log=loud"),
            ["diskomator.log=\"loud\" on the kernel command line is ignored: \
              it must be error, warn, info, debug or trace"]
        );
        assert_eq!(warnings("diskomator.log").len(), 1);
        assert_eq!(
            warnings("diskomator.export=non"),
            ["diskomator.export=\"non\" on the kernel command line exports nothing: \
              \"non\" is neither a keyword nor the name of a disk; did you mean \"none\"?"]
        );
        assert_eq!(
            warnings("diskomator.export"),
            ["diskomator.export=\"\" on the kernel command line exports nothing: a pattern is empty"]
        );
        assert_eq!(
            warnings("diskomator.readonly=yse"),
            ["diskomator.readonly=\"yse\" on the kernel command line makes all disks read-only: \
              \"yse\" is neither a keyword nor the name of a disk"]
        );
    }

    #[test]
    fn disks_are_chosen_by_patterns() {
        let (config, warnings) = Config::from_cmdline(
            "diskomator.export=nvme*,!size<1G \"diskomator.readonly=model:A B\" diskomator.partitions",
        );
        assert_eq!(warnings, vec![]);
        assert_eq!(config.export.to_string(), "nvme*,!size<1G");
        assert_eq!(config.readonly.to_string(), "model:A B");
        assert_eq!(config.partitions, Selection::all());
        for (line, readonly) in [
            ("diskomator.readonly", Selection::all()),
            ("diskomator.readonly=yes", Selection::all()),
            ("diskomator.readonly diskomator.readonly=0", Selection::none()),
            ("diskomator.readonly=", Selection::all()),
        ] {
            assert_eq!(Config::from_cmdline(line).0.readonly, readonly, "{line}");
        }
    }

    #[test]
    fn addresses_add_up_and_typos_in_them_are_named() {
        let line = "diskomator.ip=eth0:192.0.2.7/24,192.0.2.1 ip=dhcp diskomator.ip=eth1:off \
                    ip=198.51.100.7:::255.255.255.0::eth2:none";
        let (config, none) = Config::from_cmdline(line);
        let settings: Vec<String> = config.ip.settings().map(ToString::to_string).collect();
        assert_eq!(settings, ["eth0:192.0.2.7/24,192.0.2.1", "eth1:off", "eth2:198.51.100.7/24"]);
        assert_eq!(none, vec![]);
        assert_eq!(
            warnings("diskomator.ip=eth0:192.0.2.7 diskomator.ip ip=192.0.2.7:::255.0.255.0 diskomator.pi=off"),
            [
                "\"diskomator.ip=eth0:192.0.2.7\" on the kernel command line is ignored: \
                 192.0.2.7 needs the length of its network's prefix, as in 192.0.2.7/24",
                "\"diskomator.ip\" on the kernel command line is ignored: \
                 \"\" is neither ADDRESS/PREFIX nor off or dhcp",
                "\"ip=192.0.2.7:::255.0.255.0\" on the kernel command line is ignored: \
                 \"255.0.255.0\" is no prefix length, nor a network mask",
                "unknown setting \"diskomator.pi=off\" on the kernel command line is ignored; \
                 did you mean \"diskomator.ip\"?",
            ]
        );
    }

    #[test]
    fn quotes_keep_white_space_and_two_dashes_end_the_line() {
        assert_eq!(words("a \"b c\"  d=\"e f\""), ["a", "b c", "d=e f"]);
        assert_eq!(words("a -- diskomator.debug"), ["a"]);
    }
}
