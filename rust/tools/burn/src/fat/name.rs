//! Names in FAT folders: an entry with a short name, and before it those with a long one (Microsoft's FAT
//! specification, "Directory Structure").

use std::collections::BTreeSet;

/// Bytes of an entry.
pub(super) const ENTRY: usize = 32;
/// Units of a long name in one entry.
const UNITS: usize = 13;
/// Where those are in it.
const PLACES: [(usize, usize); 3] = [(1, 5), (14, 6), (28, 2)];
/// The last entry of a long name, which comes first.
const LAST: u8 = 0x40;
/// The attributes that make an entry part of a long name.
const LONG: u8 = 0x0f;

/// An entry as it was read, with the name that people see. Everything but where the content is stays as it was:
/// attributes, dates, the case of short names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// UTF-16, and whatever is none; nothing if there is only a short name.
    pub(super) long: Vec<u16>,
    pub(super) entry: [u8; ENTRY],
}

impl Name {
    /// A new name with the dates of another one, and a short name that is not among `taken`. Nothing if all are taken.
    pub(super) fn new(text: &str, attributes: u8, dates: Option<&Self>, taken: &BTreeSet<[u8; 11]>) -> Option<Self> {
        let mut entry = [0; ENTRY];
        if let Some(dates) = dates {
            // Of its making (with hundredths), of its last use, and of its last change.
            for range in [13..20, 22..26] {
                entry[range.clone()].copy_from_slice(&dates.entry[range]);
            }
        }
        entry[11] = attributes;
        let mut name = Self { long: text.encode_utf16().collect(), entry };
        name.rename_short(taken)?;
        Some(name)
    }

    /// Whether it is this one, in upper or lower case.
    pub(super) fn is_called(&self, text: &str) -> bool {
        self.folded() == folded(text.encode_utf16())
    }

    /// The eleven bytes of the short name.
    pub(super) fn short(&self) -> &[u8] {
        &self.entry[..11]
    }

    /// For people: without what would be a command to a terminal.
    pub(super) fn shown(&self) -> String {
        let text = if self.long.is_empty() {
            let part = |bytes: &[u8], is_small: bool| {
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                if is_small { text.trim_end().to_ascii_lowercase() } else { text.trim_end().to_owned() }
            };
            // Windows NT keeps the case of both parts here.
            let case = self.entry[12];
            let base = part(&self.entry[..8], case & 0x08 != 0);
            match part(&self.entry[8..11], case & 0x10 != 0) {
                extension if extension.is_empty() => base,
                extension => format!("{base}.{extension}"),
            }
        } else {
            String::from_utf16_lossy(&self.long)
        };
        text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
    }

    /// The name in lower case. Two names of one folder differ in it: FAT does not tell upper from lower case.
    fn folded(&self) -> Vec<u16> {
        if self.long.is_empty() { folded(self.shown().encode_utf16()) } else { folded(self.long.iter().copied()) }
    }

    /// Whether both can't be in one folder.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.folded() == other.folded()
            || (self.long.is_empty() && other.long.is_empty() && self.short() == other.short())
    }

    /// Gives it a short name that is not among `taken`, as Windows makes them: `DISKOM~1.EFI`. The long name stays.
    /// Nothing if all are taken.
    pub(super) fn rename_short(&mut self, taken: &BTreeSet<[u8; 11]>) -> Option<()> {
        let letters = |units: &[u16]| -> Vec<u8> {
            let letter = |unit: &u16| match u8::try_from(*unit) {
                Ok(byte) if byte.is_ascii_alphanumeric() || byte == b'-' => Some(byte.to_ascii_uppercase()),
                Ok(b' ' | b'.') => None,
                _ => Some(b'_'),
            };
            units.iter().filter_map(letter).collect()
        };
        let dot = self.long.iter().rposition(|unit| *unit == u16::from(b'.')).unwrap_or(self.long.len());
        let (base, extension) = self.long.split_at(dot);
        let (base, extension) = (letters(base), letters(extension));
        let free = (1..1_000_000_u32).find_map(|number| {
            let tail = format!("~{number}").into_bytes();
            let mut short = [b' '; 11];
            let kept = base.len().min(8 - tail.len());
            short[..kept].copy_from_slice(&base[..kept]);
            short[kept..kept + tail.len()].copy_from_slice(&tail);
            let length = extension.len().min(3);
            short[8..8 + length].copy_from_slice(&extension[..length]);
            (!taken.contains(&short)).then_some(short)
        });
        self.entry[..11].copy_from_slice(&free?);
        // It was for the old one.
        self.entry[12] = 0;
        Some(())
    }

    /// Forgets where its content was.
    pub(super) fn forget_place(&mut self) {
        self.entry[20..22].fill(0);
        self.entry[26..32].fill(0);
    }

    /// How many entries it takes.
    pub(super) fn entries(&self) -> usize {
        1 + self.long.len().div_ceil(UNITS)
    }

    /// The entries of the long name, and that of the short one with where its content is.
    pub(super) fn to_bytes(&self, cluster: u32, size: u32) -> Vec<u8> {
        let parts: Vec<&[u16]> = self.long.chunks(UNITS).collect();
        let sum = checksum(self.short());
        let mut bytes = Vec::with_capacity(self.entries() * ENTRY);
        for (number, part) in (1..=0x3f_u8).zip(&parts).rev() {
            let mut entry = [0xff; ENTRY];
            let is_last = usize::from(number) == parts.len();
            (entry[0], entry[11], entry[12], entry[13]) = (number | if is_last { LAST } else { 0 }, LONG, 0, sum);
            entry[26..28].fill(0);
            // An end, where there is room for one.
            let mut units = part.iter().copied().chain((part.len() < UNITS).then_some(0));
            for place in PLACES.iter().flat_map(|(at, count)| (0..*count).map(move |index| at + 2 * index)) {
                let Some(unit) = units.next() else { break };
                entry[place..place + 2].copy_from_slice(&unit.to_le_bytes());
            }
            bytes.extend_from_slice(&entry);
        }
        let mut entry = self.entry;
        let [low, lower, high, higher] = cluster.to_le_bytes();
        entry[20..22].copy_from_slice(&[high, higher]);
        entry[26..28].copy_from_slice(&[low, lower]);
        entry[28..32].copy_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&entry);
        bytes
    }
}

/// A name in lower case.
fn folded(units: impl Iterator<Item = u16>) -> Vec<u16> {
    let small = |unit: Result<char, std::char::DecodeUtf16Error>| match unit {
        Ok(character) => char::to_lowercase(character).collect::<String>().encode_utf16().collect(),
        Err(error) => vec![error.unpaired_surrogate()],
    };
    char::decode_utf16(units).flat_map(small).collect()
}

/// The entries of a folder, each with its name; a volume's label is one of them.
pub(super) fn parse(folder: &[u8]) -> Vec<Name> {
    const FREE: u8 = 0xe5;
    let mut names = Vec::new();
    // The long name so far, back to front, with the number that is next and the sum of the short name.
    let mut long: Option<(u8, u8, Vec<&[u8]>)> = None;
    for entry in folder.chunks_exact(ENTRY).take_while(|entry| entry[0] != 0) {
        if entry[0] == FREE {
            long = None;
        } else if entry[11] & 0x3f == LONG {
            let number = entry[0] & 0x3f;
            long = match long.take() {
                _ if entry[0] & LAST != 0 => Some((number, entry[13], vec![entry])),
                Some((last, sum, mut parts)) if number.checked_add(1) == Some(last) && sum == entry[13] => {
                    parts.push(entry);
                    Some((number, sum, parts))
                }
                // Of a name that a system without long names took away. Others don't see it, either.
                _ => None,
            };
        } else {
            let mut own = [0; ENTRY];
            own.copy_from_slice(entry);
            let whole = long.take().filter(|(next, sum, _)| *next == 1 && *sum == checksum(&own[..11]));
            let units =
                whole.map(|(_, _, parts)| parts.iter().rev().flat_map(|part| units(part)).collect::<Vec<u16>>());
            let long = units.map(|units| units.into_iter().take_while(|unit| *unit != 0).collect()).unwrap_or_default();
            names.push(Name { long, entry: own });
        }
    }
    names
}

fn units(entry: &[u8]) -> Vec<u16> {
    let places = PLACES.iter().flat_map(|(at, count)| (0..*count).map(move |index| at + 2 * index));
    places.map(|at| u16::from_le_bytes([entry[at], entry[at + 1]])).collect()
}

/// The checksum of a short name, which ties the entries of a long name to it (`LDIR_Chksum` of the FAT specification).
fn checksum(short: &[u8]) -> u8 {
    short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str, attributes: u8, taken: &BTreeSet<[u8; 11]>) -> Name {
        Name::new(text, attributes, None, taken).unwrap()
    }

    fn read_back(name: &Name) -> Name {
        let bytes = name.to_bytes(0x0012_3456, 7);
        assert_eq!(bytes.len(), name.entries() * ENTRY);
        let mut names = parse(&bytes);
        assert_eq!(names.len(), 1);
        let mut back = names.remove(0);
        assert_eq!((back.entry[20], back.entry[26], back.entry[28]), (0x12, 0x56, 7));
        (back.entry[20], back.entry[26], back.entry[27], back.entry[28]) = (0, 0, 0, 0);
        back
    }

    #[test]
    fn every_name_is_written_as_it_was_read() {
        let longest = "ü".repeat(255);
        for text in ["Gäste.txt", "日本.txt", "a", "exactly 13 ch", "ends with a dot.", "🎠 horse.txt", " x ", &longest]
        {
            let name = named(text, 0x21, &BTreeSet::new());
            assert_eq!(read_back(&name), name, "{text}");
            assert_eq!(name.shown(), text);
        }
        let half_a_pair = Name { long: vec![0xd83c, u16::from(b'x')], ..named("x", 0, &BTreeSet::new()) };
        assert_eq!(read_back(&half_a_pair), half_a_pair, "what Windows takes, and UTF-8 has no word for");
        let mut short = Name { long: Vec::new(), entry: [0; ENTRY] };
        short.entry[..13].copy_from_slice(b"\x9aBER    TXT\x20\x18");
        assert_eq!(read_back(&short), short, "in the letters of a code page that nobody knows");
    }

    #[test]
    fn a_name_is_the_same_whatever_its_case() {
        let taken = BTreeSet::new();
        let name = |text| named(text, 0, &taken);
        assert!(name("Ärger.TXT").is_same(&name("ärger.txt")));
        assert!(!name("日本.txt").is_same(&name("中国.txt")), "in spite of one short name");
        let mut short = Name { long: Vec::new(), entry: [0; ENTRY] };
        short.entry[..11].copy_from_slice(b"BOOTX64 EFI");
        assert!(name("bootx64.efi").is_same(&short));
    }

    #[test]
    fn short_names_are_found_until_there_is_none_left() {
        let mut taken = BTreeSet::new();
        for index in 0..1200 {
            let name = named("a long name.text", 0, &taken);
            assert!(taken.insert(name.short().try_into().unwrap()), "{index}");
        }
        assert!(taken.contains(b"ALONGN~1TEX") && taken.contains(b"ALONG~10TEX") && taken.contains(b"ALO~1000TEX"));
    }

    #[test]
    fn a_long_name_without_its_short_one_is_not_seen() {
        let bytes = named("a long name.text", 0, &BTreeSet::new()).to_bytes(0, 0);
        let mut other = bytes.clone();
        let last = other.len() - ENTRY;
        other[last] = b'Z';
        assert_eq!(parse(&other)[0].shown(), "ZLONGN~1.TEX");
        assert!(parse(&bytes[..last]).is_empty());
        assert_eq!(parse(&bytes[ENTRY..])[0].shown(), "ALONGN~1.TEX");
    }
}
