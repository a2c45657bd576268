//! The firmware's entries and their order, and the decision what to start next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::bytes::half;
use crate::load_option::LoadOption;
use crate::partition::Partition;
use crate::path::{HardDrive, Node, Path};

/// The name of the entry that is made where a disk has none, by which it is known as ours. The loader would get
/// optional data as its arguments, so that the mark must not be there.
pub const OUR_DESCRIPTION: &str = "Diskomator: boot this disk once";

/// The firmware's variables about starting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firmware {
    /// The number of the entry by which this machine was started.
    pub current: Option<u16>,
    /// The number of the entry to start next, once.
    pub next: Option<u16>,
    /// The numbers of the entries in the order in which they are tried.
    pub order: Vec<u16>,
    /// The entries by their numbers.
    pub entries: BTreeMap<u16, LoadOption>,
    /// All numbers that have a variable, whatever is in it.
    taken: BTreeSet<u16>,
}

/// An entry as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u16,
    /// Its name in the menu, without characters that steer a terminal.
    pub description: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, description } = self;
        if description.is_empty() {
            write!(f, "Boot{number:04X}")
        } else {
            write!(f, "Boot{number:04X} ({description})")
        }
    }
}

/// What the firmware starts when nothing is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// The entry by which this machine was started.
    Ours(Entry),
    /// Another one.
    Other(Entry),
    /// What it finds.
    Unknown,
}

impl fmt::Display for After {
    /// A sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(entry) => write!(f, "After that it starts from {entry} again, as it did this time."),
            Self::Other(entry) => write!(
                f,
                "After that it starts from {entry}, which is not what this machine was started by: the way back here is the firmware's boot menu."
            ),
            Self::Unknown => {
                f.write_str("What comes after that is up to the firmware: the way back here may be its boot menu.")
            }
        }
    }
}

/// The steps to a start from a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The entry to start next.
    pub entry: Entry,
    /// The content of its variable, if it is to be made.
    pub new: Option<Vec<u8>>,
    /// The file that it starts, if it names one.
    pub file: Option<String>,
    /// The partition that it is on.
    pub partition: Partition,
    /// Whether this machine was started by it.
    pub is_current: bool,
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// It has no EFI system partition.
    #[error("it has no EFI system partition")]
    NoPartition,
    /// Nothing tells its partition from others.
    #[error("its MBR has no disk number, by which the firmware would find its EFI system partition")]
    NoSignature,
    /// No number is free.
    #[error("the firmware has no room for another boot entry")]
    NoNumber,
}

/// Whether a variable of the specification's own GUID is about starting: `BootOrder`, `Boot0001` and the like.
pub fn is_boot_variable(name: &str) -> bool {
    ["BootOrder", "BootCurrent", "BootNext"].contains(&name) || number(name).is_some()
}

/// The name of an entry's variable.
pub fn variable(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// The number of an entry's variable, which is in capital letters (3.1.3).
fn number(name: &str) -> Option<u16> {
    let number = u16::from_str_radix(name.strip_prefix("Boot")?, 16).ok()?;
    (variable(number) == name).then_some(number)
}

impl Firmware {
    /// Reads variables: names, and contents without their attributes. One that can't be read is passed over.
    pub fn new<'a>(variables: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut firmware = Self::default();
        for (name, content) in variables {
            match name {
                "BootCurrent" => firmware.current = half(content, 0),
                "BootNext" => firmware.next = half(content, 0),
                "BootOrder" => {
                    firmware.order =
                        content.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
                }
                _ => {
                    if let Some(number) = number(name) {
                        firmware.taken.insert(number);
                        firmware.entries.extend(LoadOption::parse(content).map(|option| (number, option)));
                    }
                }
            }
        }
        firmware
    }

    fn entry(&self, number: u16) -> Entry {
        let description = self.entries.get(&number).map_or("", |option| &option.description);
        Entry { number, description: printable(description) }
    }

    /// The entries that an earlier plan has made. One that somebody took into the order is somebody's.
    pub fn ours(&self) -> Vec<u16> {
        let is_ours = |(number, option): &(&u16, &LoadOption)| {
            option.description == OUR_DESCRIPTION && !self.order.contains(number)
        };
        self.entries.iter().filter(is_ours).map(|(number, _)| *number).collect()
    }

    /// What follows after a start from [`Plan::entry`]: the first active entry of the order.
    pub fn after(&self) -> After {
        let is_tried = |number: &&u16| {
            self.entries.get(number).is_some_and(|option| option.is_active() && option.is_for_booting())
        };
        match self.order.iter().find(is_tried) {
            Some(number) if self.current == Some(*number) => After::Ours(self.entry(*number)),
            Some(number) => After::Other(self.entry(*number)),
            None => After::Unknown,
        }
    }

    /// The steps to a start from one of these EFI system partitions, all of one disk: by an entry that there is, or a
    /// new one for the file `loader`. An entry by which this machine was not started is better, then one that is
    /// earlier in the order.
    pub fn plan(&self, esps: &[Partition], loader: &str) -> Result<Plan, NoPlan> {
        if esps.is_empty() {
            return Err(NoPlan::NoPartition);
        }
        let ours = self.ours();
        let partition = |option: &LoadOption| esps.iter().find(|esp| option.path.is_on(esp));
        let fitting = self
            .entries
            .iter()
            .filter(|(number, option)| option.is_active() && option.is_for_booting() && !ours.contains(number));
        let place = |number: u16| self.order.iter().position(|other| *other == number).unwrap_or(usize::MAX);
        let best = fitting
            .filter_map(|(number, option)| Some((*number, option, partition(option)?)))
            .min_by_key(|(number, ..)| (self.current == Some(*number), place(*number), *number));
        if let Some((number, option, partition)) = best {
            return Ok(Plan {
                entry: self.entry(number),
                new: None,
                file: option.path.file(),
                partition: partition.clone(),
                is_current: self.current == Some(number),
            });
        }
        // A signature that others have, too, would lead to any of them.
        let is_known = |esp: &&Partition| esp.is_same(esp);
        let partition = esps.iter().find(is_known).ok_or(NoPlan::NoSignature)?;
        let is_free =
            |number: &u16| ours.contains(number) || !(self.taken.contains(number) || self.order.contains(number));
        let number = ours.first().copied().or_else(|| (0..=u16::MAX).find(is_free)).ok_or(NoPlan::NoNumber)?;
        let path = Path(vec![Node::HardDrive(HardDrive::new(partition.clone())), Node::File(loader.to_owned())]);
        let new = LoadOption::new(OUR_DESCRIPTION, path).to_bytes().ok_or(NoPlan::NoNumber)?;
        Ok(Plan {
            entry: Entry { number, description: OUR_DESCRIPTION.to_owned() },
            new: Some(new),
            file: Some(loader.to_owned()),
            partition: partition.clone(),
            is_current: false,
        })
    }
}

/// A name without characters that steer a terminal, and not longer than a line.
fn printable(text: &str) -> String {
    const LONGEST: usize = 60;
    text.trim().chars().take(LONGEST).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Signature;

    const LOADER: &str = r"\EFI\BOOT\BOOTX64.EFI";

    fn esp(id: u8) -> Partition {
        Partition { number: 1, start: 2048, blocks: 4096, signature: Signature::Guid([id; 16]) }
    }

    fn option(description: &str, nodes: Vec<Node>) -> LoadOption {
        LoadOption::new(description, Path(nodes))
    }

    fn on(id: u8, file: &str) -> Vec<Node> {
        vec![Node::HardDrive(HardDrive::new(esp(id))), Node::File(file.to_owned())]
    }

    fn firmware(current: Option<u16>, order: &[u16], entries: Vec<(u16, LoadOption)>) -> Firmware {
        let mut variables = vec![("BootOrder".to_owned(), order.iter().flat_map(|n| n.to_le_bytes()).collect())];
        variables.extend(current.map(|current| ("BootCurrent".to_owned(), current.to_le_bytes().to_vec())));
        variables.extend(entries.into_iter().map(|(number, option)| (variable(number), option.to_bytes().unwrap())));
        Firmware::new(variables.iter().map(|(name, content)| (name.as_str(), Vec::as_slice(content))))
    }

    /// A stick that started us, an installed system, and the firmware's own shell and setup.
    fn usual() -> Firmware {
        let setup = LoadOption { attributes: 0x109, ..option("Setup", Vec::new()) };
        let pci = Node::Other { kind: 1, subkind: 1, data: vec![0, 3] };
        let stick = option("USB \u{1b}[2J", vec![pci]);
        let entries = vec![
            (0, setup),
            (1, stick),
            (2, option("debian", on(9, r"\EFI\debian\shimx64.efi"))),
            (3, option("debian old", on(9, r"\EFI\old\grubx64.efi"))),
        ];
        firmware(Some(1), &[0, 1, 3, 2], entries)
    }

    #[test]
    fn an_entry_that_is_there_is_taken_and_the_first_in_the_order_is_best() {
        let plan = usual().plan(&[esp(8), esp(9)], LOADER).unwrap();
        assert_eq!(plan.entry, Entry { number: 3, description: "debian old".to_owned() });
        assert_eq!((plan.new, plan.file.as_deref()), (None, Some(r"\EFI\old\grubx64.efi")));
        assert_eq!(plan.partition, esp(9));
        // One that the user has switched off is not.
        let mut firmware = usual();
        firmware.entries.get_mut(&3).unwrap().attributes = 0;
        assert_eq!(firmware.plan(&[esp(9)], LOADER).unwrap().entry.number, 2);
        firmware.current = Some(2);
        assert!(firmware.plan(&[esp(9)], LOADER).unwrap().is_current);
        firmware.entries.get_mut(&3).unwrap().attributes = 1;
        assert!(!firmware.plan(&[esp(9)], LOADER).unwrap().is_current);
    }

    #[test]
    fn a_disk_without_an_entry_gets_one_with_a_free_number_and_it_is_ours() {
        let mut firmware = usual();
        firmware.order.push(4);
        let plan = firmware.plan(&[esp(5)], LOADER).unwrap();
        assert_eq!((plan.entry.number, plan.file.as_deref()), (5, Some(LOADER)));
        let option = LoadOption::parse(&plan.new.unwrap()).unwrap();
        assert!(option.is_active() && option.path.is_on(&esp(5)) && option.optional.is_empty());
        firmware.entries.insert(5, option.clone());
        assert_eq!(firmware.ours(), [5]);
        // Whatever it led to, it is used again and never taken for another's.
        assert_eq!(firmware.plan(&[esp(5)], LOADER).unwrap().entry.number, 5);
        assert_eq!(firmware.plan(&[esp(6)], LOADER).unwrap().entry.number, 5);
        firmware.order.push(5);
        assert_eq!(firmware.ours(), Vec::<u16>::new());
    }

    #[test]
    fn what_follows_is_ours_only_if_it_started_us_and_is_first() {
        assert_eq!(usual().after(), After::Ours(Entry { number: 1, description: "USB ?[2J".to_owned() }));
        let debian = Entry { number: 3, description: "debian old".to_owned() };
        let mut other = usual();
        other.order = vec![9, 0, 3, 1];
        assert_eq!(other.after(), After::Other(debian));
        for order in [vec![], vec![0, 77]] {
            assert_eq!(Firmware { order, ..usual() }.after(), After::Unknown);
        }
        assert!(matches!(Firmware { current: None, ..usual() }.after(), After::Other(_)));
        assert!(usual().after().to_string().contains("Boot0001 (USB ?[2J) again"));
    }

    #[test]
    fn a_disk_that_firmware_could_not_find_is_refused() {
        assert_eq!(usual().plan(&[], LOADER), Err(NoPlan::NoPartition));
        let nameless = Partition { signature: Signature::None, ..esp(1) };
        assert_eq!(usual().plan(&[nameless], LOADER), Err(NoPlan::NoSignature));
        let mut full = usual();
        full.taken = (0..=u16::MAX).collect();
        assert_eq!(full.plan(&[esp(5)], LOADER), Err(NoPlan::NoNumber));
    }

    #[test]
    fn an_entry_of_real_firmware_is_read_and_written_as_it_was() {
        // Of a machine with Debian: HD(1,GPT,...,0x800,0x100000)/\EFI\debian\shimx64.efi
        let hex = "01000000620064006500620069006100\
            6e0000000401 2a00 01000000 0008000000000000 0000100000000000 1122334455667788\
            99aabbccddeeff00 0202 04043400\
            5c004500460049005c00640065006200690061006e005c007300680069006d007800\
            360034002e0065006600690000007fff0400"
            .replace(' ', "");
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        let option = LoadOption::parse(&bytes).unwrap();
        assert_eq!(
            (option.description.as_str(), option.path.file().as_deref()),
            ("debian", Some(r"\EFI\debian\shimx64.efi"))
        );
        let Some(Node::HardDrive(drive)) = option.path.0.first() else { panic!("{option:?}") };
        assert_eq!((drive.partition.number, drive.partition.start, drive.partition.blocks), (1, 2048, 1 << 20));
        assert_eq!(option.to_bytes().unwrap(), bytes);
        for length in 0..bytes.len() {
            assert_eq!(LoadOption::parse(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn only_boot_variables_are_read() {
        for (name, is_one) in [
            ("Boot0001", true),
            ("Boot00AF", true),
            ("Boot00af", false),
            ("Boot1", false),
            ("BootNext", true),
            ("BootOptionSupport", false),
            ("Boot+001", false),
        ] {
            assert_eq!(is_boot_variable(name), is_one, "{name}");
        }
    }
}
