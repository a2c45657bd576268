//! Which disks a setting is about: a list of patterns, `nvme*,!removable`.

use std::fmt;
use std::str::FromStr;

use crate::disk::Disk;
use crate::kind::{Bus, KINDS};

/// A list of patterns, parted by commas. Each names disks; one with `!` before
/// it takes those out again. The last pattern that a disk matches decides. A
/// list that starts with `!` means all other disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    text: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    takes_out: bool,
    pattern: Pattern,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    All,
    Removable,
    ReadOnly,
    Boot,
    Bus(Bus),
    Size(Comparison, u64),
    Name(Glob),
    Model(Glob),
    Serial(Glob),
    Id(Glob),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Why a text is no selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Nothing between two commas, or nothing at all.
    #[error("a pattern is empty")]
    Empty,
    /// A word that is no keyword, and does not look like the name of a disk.
    #[error("{word:?} is neither a keyword nor the name of a disk")]
    NoDisk {
        /// The word.
        word: String,
        /// The keyword that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A size that can't be read.
    #[error("{0:?} is no size: write it as size>=500G")]
    Size(String),
    /// `frob:value`.
    #[error("there is no {0:?} to match by: it is model:, serial: or id:")]
    Field(String),
}

/// Patterns that are words of their own, as the keywords of buses are. No disk has one of these as its name.
const KEYWORDS: [(&str, Pattern); 4] = [
    ("all", Pattern::All),
    ("removable", Pattern::Removable),
    ("read-only", Pattern::ReadOnly),
    ("boot", Pattern::Boot),
];

fn keywords() -> impl Iterator<Item = (&'static str, Pattern)> {
    KEYWORDS.into_iter().chain(Bus::ALL.map(|bus| (bus.keyword(), Pattern::Bus(bus))))
}

impl Selection {
    /// Every disk.
    pub fn all() -> Self {
        Self { text: "all".to_owned(), rules: vec![Rule { takes_out: false, pattern: Pattern::All }] }
    }

    /// No disk.
    pub fn none() -> Self {
        Self { text: "none".to_owned(), rules: Vec::new() }
    }

    /// Whether it can't mean any disk.
    pub fn is_none(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether it means `disk`.
    pub fn takes(&self, disk: &Disk) -> bool {
        match self.last_match(disk) {
            Some(rule) => !rule.takes_out,
            None => self.rules.first().is_some_and(|rule| rule.takes_out),
        }
    }

    /// Whether it means `disk` by something that sets it apart: its name, what
    /// it is, or how it is attached; for disks that nobody gets unasked.
    pub fn asks_for(&self, disk: &Disk) -> bool {
        self.last_match(disk).is_some_and(|rule| {
            !rule.takes_out
                && match rule.pattern {
                    Pattern::Bus(_) | Pattern::Name(_) | Pattern::Model(_) | Pattern::Serial(_) | Pattern::Id(_) => {
                        true
                    }
                    Pattern::All | Pattern::Removable | Pattern::ReadOnly | Pattern::Boot | Pattern::Size(..) => false,
                }
        })
    }

    fn last_match(&self, disk: &Disk) -> Option<&Rule> {
        self.rules.iter().rev().find(|rule| rule.pattern.matches(disk))
    }
}

impl fmt::Display for Selection {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        if text == "none" {
            return Ok(Self::none());
        }
        let rules = text.split(',').map(Rule::from_str).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), rules })
    }
}

impl FromStr for Rule {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        let text = text.trim();
        let (takes_out, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Ok(Self { takes_out, pattern: pattern.parse()? })
    }
}

impl FromStr for Pattern {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        if text.is_empty() {
            return Err(SelectionError::Empty);
        }
        if let Some((_, pattern)) = keywords().find(|(word, _)| *word == text) {
            return Ok(pattern);
        }
        if let Some(rest) = text.strip_prefix("size") {
            return size(rest).ok_or_else(|| SelectionError::Size(text.to_owned()));
        }
        if let Some((field, glob)) = text.split_once(':') {
            let glob = Glob::new(glob);
            return match field {
                "model" => Ok(Self::Model(glob)),
                "serial" => Ok(Self::Serial(glob)),
                "id" => Ok(Self::Id(glob)),
                _ => Err(SelectionError::Field(format!("{field}:"))),
            };
        }
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        if let Some(id) = name.strip_prefix("disk/by-id/") {
            return Ok(Self::Id(Glob::new(id)));
        }
        let is_name = |name: &str| {
            name.contains(['*', '?'])
                || KINDS.iter().filter(|kind| kind.is_named()).any(|kind| {
                    name.strip_prefix(kind.prefix).is_some_and(|rest| {
                        // `sda`, `nvme0n1`, but not `sdcard`.
                        rest.len() <= 2 || rest.starts_with(|c: char| c.is_ascii_digit())
                    })
                })
        };
        if !is_name(name) {
            let nearest = keywords().map(|(word, _)| (strsim::osa_distance(word, text), word)).min();
            let nearest = nearest.filter(|(slips, _)| *slips <= 1).map(|(_, word)| word);
            let nearest = nearest.or((strsim::osa_distance("none", text) <= 1).then_some("none"));
            return Err(SelectionError::NoDisk { word: text.to_owned(), nearest });
        }
        Ok(Self::Name(Glob::new(name)))
    }
}

impl Pattern {
    fn matches(&self, disk: &Disk) -> bool {
        let field = |glob: &Glob, text: Option<&String>| text.is_some_and(|text| glob.matches(text));
        match self {
            Self::All => true,
            Self::Removable => disk.removable,
            Self::ReadOnly => disk.is_read_only(),
            Self::Boot => disk.is_boot_medium,
            Self::Bus(bus) => disk.bus == *bus,
            Self::Size(comparison, bytes) => match comparison {
                Comparison::Less => disk.size < *bytes,
                Comparison::AtMost => disk.size <= *bytes,
                Comparison::More => disk.size > *bytes,
                Comparison::AtLeast => disk.size >= *bytes,
            },
            Self::Name(glob) => {
                glob.matches(&disk.name) || disk.partition.as_ref().is_some_and(|(_, disk)| glob.matches(disk))
            }
            Self::Model(glob) => field(glob, disk.model.as_ref()),
            Self::Serial(glob) => field(glob, disk.serial.as_ref()),
            Self::Id(glob) => disk.ids().iter().any(|id| glob.matches(id)),
        }
    }
}

/// The pattern after `size`: a comparison and a number, with a unit of 1024s.
fn size(text: &str) -> Option<Pattern> {
    let comparisons =
        [("<=", Comparison::AtMost), (">=", Comparison::AtLeast), ("<", Comparison::Less), (">", Comparison::More)];
    let (comparison, number) =
        comparisons.iter().find_map(|(sign, comparison)| Some((*comparison, text.strip_prefix(sign)?)))?;
    let digits = number.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = number[digits.len()..].to_ascii_uppercase();
    let power = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << (10 * power))?;
    Some(Pattern::Size(comparison, bytes))
}

/// A pattern in which `*` stands for any text and `?` for one character. Upper
/// and lower case are the same, and so are a space and `_`, as a space can't
/// be written everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Vec<char>);

fn folded(text: &str) -> Vec<char> {
    text.chars().map(|c| if c == ' ' { '_' } else { c.to_ascii_lowercase() }).collect()
}

impl Glob {
    fn new(text: &str) -> Self {
        Self(folded(text))
    }

    /// Goes back to the last `*` only, which is enough: what an earlier one
    /// stood for need not change.
    fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (&self.0, folded(text));
        let (mut p, mut t) = (0, 0);
        let mut star = None;
        while t < text.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        p = at + 1;
                        t = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Attributes;

    fn disk(name: &str, model: &str, serial: &str, gib: u64) -> Disk {
        let path = if name.starts_with("nvme") { "pci0000:00/0000:00:05.0" } else { "pci0000:00/0000:00:06.0/usb2" };
        Disk::new(Attributes {
            name: name.to_owned(),
            devpath: format!("devices/{path}/block/{name}"),
            sectors: gib << 21,
            removable: name.starts_with("sd"),
            model: Some(model.to_owned()),
            serial: Some(serial.to_owned()),
            ..Attributes::default()
        })
    }

    fn taken(selection: &str) -> String {
        let disks = [
            disk("nvme0n1", "Samsung SSD 980", "S64ANS0", 500),
            disk("nvme1n1", "WDC SN730", "2035", 1024),
            disk("sda", "SanDisk Ultra", "4C53", 32),
        ];
        let selection: Selection = selection.parse().unwrap();
        disks.iter().filter(|disk| selection.takes(disk)).map(|disk| disk.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn patterns_name_disks_by_what_people_know_of_them() {
        for (selection, disks) in [
            ("all", "nvme0n1 nvme1n1 sda"),
            ("none", ""),
            ("sda", "sda"),
            ("/dev/sda,nvme1n1", "nvme1n1 sda"),
            ("nvme*", "nvme0n1 nvme1n1"),
            ("nvme?n1", "nvme0n1 nvme1n1"),
            ("nvme", "nvme0n1 nvme1n1"),
            ("usb", "sda"),
            ("removable", "sda"),
            ("model:samsung*", "nvme0n1"),
            ("model:Samsung_SSD_980", "nvme0n1"),
            ("serial:2035", "nvme1n1"),
            ("id:nvme-Samsung_SSD_980_S64ANS0", "nvme0n1"),
            ("/dev/disk/by-id/usb-SanDisk_Ultra_4C53*", "sda"),
            ("size>=500G", "nvme0n1 nvme1n1"),
            ("size<500GiB", "sda"),
            ("size>1T", ""),
            ("size<=32g", "sda"),
        ] {
            assert_eq!(taken(selection), disks, "{selection}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        for (selection, disks) in [
            ("!usb", "nvme0n1 nvme1n1"),
            ("all,!usb", "nvme0n1 nvme1n1"),
            ("all,!nvme*,nvme1n1", "nvme1n1 sda"),
            ("nvme,!size>600G", "nvme0n1"),
            ("sda,!sda", ""),
            ("!sda,!nvme", ""),
            ("!all", ""),
        ] {
            assert_eq!(taken(selection), disks, "{selection}");
        }
    }

    #[test]
    fn only_a_pattern_about_the_disk_itself_asks_for_it() {
        let disk = disk("sda", "SanDisk", "1", 1);
        for (selection, asked) in
            [("all", false), ("size>1", false), ("sda", true), ("usb", true), ("sda,all", false), ("!nvme", false)]
        {
            assert_eq!(selection.parse::<Selection>().unwrap().asks_for(&disk), asked, "{selection}");
        }
    }

    #[test]
    fn what_can_t_be_meant_is_an_error_that_says_why() {
        for (selection, error) in [
            ("", "a pattern is empty"),
            ("sda,,sdb", "a pattern is empty"),
            ("!", "a pattern is empty"),
            ("al", "\"al\" is neither a keyword nor the name of a disk"),
            ("sda,non", "\"non\" is neither a keyword nor the name of a disk"),
            ("yes", "\"yes\" is neither a keyword nor the name of a disk"),
            ("size>", "\"size>\" is no size: write it as size>=500G"),
            ("size=5G", "\"size=5G\" is no size: write it as size>=500G"),
            ("size>5X", "\"size>5X\" is no size: write it as size>=500G"),
            ("size>99999999999P", "\"size>99999999999P\" is no size: write it as size>=500G"),
            ("wwn:0x5", "there is no \"wwn:\" to match by: it is model:, serial: or id:"),
        ] {
            assert_eq!(selection.parse::<Selection>().map_err(|error| error.to_string()), Err(error.into()));
        }
        let nearest = |word: &str| match word.parse::<Selection>() {
            Err(SelectionError::NoDisk { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [nearest("al"), nearest("non"), nearest("ubs"), nearest("yes")],
            [Some("all"), Some("none"), Some("usb"), None]
        );
    }

    #[test]
    fn a_glob_with_many_stars_takes_no_time() {
        let glob = Glob::new("*a*a*a*a*a*a*a*a*a*a*a*b");
        assert!(!glob.matches(&"a".repeat(2000)));
        assert!(Glob::new("a*b*c").matches("aXbXbXc"));
        assert!(!Glob::new("a*b*c").matches("aXbXbX"));
        assert!(Glob::new("*").matches(""));
    }
}
