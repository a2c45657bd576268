//! GUID partition tables (UEFI Specification 2.10, chapter 5), for any size of logical blocks.

use thiserror::Error;

/// The type of an EFI system partition, as it is on disk (table 5.7).
pub(crate) const ESP: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER: usize = 92;
const ENTRY: usize = 128;
/// The least that is reserved for entries is 16 KiB.
const ENTRIES: usize = 128;
/// A reader needs this many bytes of the start of a disk, whatever its blocks.
pub(crate) const START: usize = 1 << 20;

/// Why a disk has no partition table that can be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum GptError {
    #[error("there is no GUID partition table")]
    None,
    #[error("the {0} of the GUID partition table is damaged")]
    Damaged(&'static str),
}

/// One partition. Blocks are counted from the start of the disk, and `last` is the partition's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) kind: [u8; 16],
    pub(crate) id: [u8; 16],
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) attributes: u64,
    pub(crate) name: [u8; 72],
}

/// A disk's name and partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) disk: [u8; 16],
    pub(crate) partitions: Vec<Partition>,
}

impl Table {
    /// Reads the primary table from the start of a disk, [`START`] bytes or the whole of a smaller one.
    pub(crate) fn parse(start: &[u8], block: usize) -> Result<Self, GptError> {
        let damaged = GptError::Damaged("header");
        let header = start.get(block..).and_then(|rest| rest.get(..HEADER)).ok_or(GptError::None)?;
        if !header.starts_with(SIGNATURE) {
            return Err(GptError::None);
        }
        let size = u32_at(header, 12) as usize;
        let whole = start.get(block..).and_then(|rest| rest.get(..size)).filter(|_| (HEADER..=block).contains(&size));
        let mut summed = whole.ok_or(damaged)?.to_vec();
        summed[16..20].fill(0);
        if crc32(&summed) != u32_at(header, 16) || u64_at(header, 24) != 1 {
            return Err(GptError::Damaged("header"));
        }
        let (number, each) = (u32_at(header, 80) as usize, u32_at(header, 84) as usize);
        let at = usize::try_from(u64_at(header, 72)).ok().and_then(|at| at.checked_mul(block));
        let entries = at
            .and_then(|at| start.get(at..)?.get(..number.checked_mul(each)?))
            .filter(|_| each >= ENTRY && each % ENTRY == 0)
            .ok_or(GptError::Damaged("list of partitions"))?;
        if crc32(entries) != u32_at(header, 88) {
            return Err(GptError::Damaged("list of partitions"));
        }
        let used = entries.chunks_exact(each).filter(|entry| entry[..16] != [0; 16]);
        Ok(Self { disk: array(header, 56), partitions: used.map(partition).collect() })
    }

    /// The blocks at the start of a disk that has `blocks`, and those at its end: a protective MBR and the primary
    /// table; the backup table. Of at most 128 partitions.
    pub(crate) fn to_bytes(&self, blocks: u64, block: usize) -> (Vec<u8>, Vec<u8>) {
        let mut entries = vec![0; ENTRIES * ENTRY];
        for (entry, partition) in entries.chunks_exact_mut(ENTRY).zip(&self.partitions) {
            entry[..16].copy_from_slice(&partition.kind);
            entry[16..32].copy_from_slice(&partition.id);
            entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
            entry[40..48].copy_from_slice(&partition.last.to_le_bytes());
            entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
            entry[56..].copy_from_slice(&partition.name);
        }
        let last = blocks.saturating_sub(1);
        let of_entries = (entries.len() / block) as u64;
        let header = |own: u64, other: u64, list: u64| {
            let mut header = vec![0; block];
            let fields =
                [(24, own), (32, other), (40, 2 + of_entries), (48, last.saturating_sub(of_entries + 1)), (72, list)];
            header[..8].copy_from_slice(SIGNATURE);
            for (at, value) in fields {
                header[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            header[56..72].copy_from_slice(&self.disk);
            header[8..12].copy_from_slice(&REVISION.to_le_bytes());
            for (at, value) in [(12, HEADER), (80, ENTRIES), (84, ENTRY)] {
                header[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
            }
            header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
            let sum = crc32(&header[..HEADER]);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            header
        };
        let start = [protective_mbr(last, block), header(1, last, 2), entries.clone()].concat();
        let end = [entries.clone(), header(last, 1, last.saturating_sub(of_entries))].concat();
        (start, end)
    }
}

/// One partition of type 0xEE over the whole disk (5.2.3), so that nobody who does not know the other table takes
/// the disk for empty.
fn protective_mbr(last: u64, block: usize) -> Vec<u8> {
    let mut mbr = vec![0; block];
    let size = u32::try_from(last).unwrap_or(u32::MAX);
    mbr[446..458].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    mbr[458..462].copy_from_slice(&size.to_le_bytes());
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

fn partition(entry: &[u8]) -> Partition {
    Partition {
        kind: array(entry, 0),
        id: array(entry, 16),
        first: u64_at(entry, 32),
        last: u64_at(entry, 40),
        attributes: u64_at(entry, 48),
        name: array(entry, 56),
    }
}

/// Bytes at a place that the caller knows to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// CRC-32 of ISO 3309, as the tables use it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let esp = Partition { kind: ESP, id: [7; 16], first: 256, last: 511, attributes: 4, name: [b'e'; 72] };
        Table { disk: [9; 16], partitions: vec![esp] }
    }

    #[test]
    fn the_sum_is_that_of_the_catalogues() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        for block in [512, 4096] {
            let (start, end) = table().to_bytes(1000, block);
            assert_eq!(start.len(), 2 * block + 16384);
            assert_eq!(end.len(), block + 16384);
            assert_eq!(Table::parse(&start, block), Ok(table()));
            // The backup names itself and the primary.
            let backup = &end[16384..];
            assert_eq!((u64_at(backup, 24), u64_at(backup, 32)), (999, 1));
            assert_eq!(u64_at(backup, 72), 1000 - 1 - (16384 / block) as u64);
            assert_eq!(u64_at(backup, 48) + 1, u64_at(backup, 72), "all blocks between the tables can be used");
        }
        let (start, _) = table().to_bytes(1000, 4096);
        assert_eq!(Table::parse(&start, 512), Err(GptError::None));
    }

    #[test]
    fn a_damaged_table_is_none() {
        let (start, _) = table().to_bytes(1000, 512);
        for at in 512..512 + HEADER {
            let mut bytes = start.clone();
            bytes[at] ^= 1;
            assert!(Table::parse(&bytes, 512).is_err(), "byte {at}");
        }
        for length in 0..start.len() {
            assert!(Table::parse(&start[..length], 512).is_err(), "{length} bytes");
        }
        let mut bytes = start;
        bytes[1024 + 33] ^= 1;
        assert_eq!(Table::parse(&bytes, 512), Err(GptError::Damaged("list of partitions")));
    }

    #[test]
    fn a_disk_of_more_than_the_old_table_can_say_is_covered_as_far_as_it_can() {
        let mbr = protective_mbr(u64::from(u32::MAX) + 7, 512);
        assert_eq!(mbr[458..462], [0xff; 4]);
        assert_eq!(protective_mbr(999, 512)[458..462], 999_u32.to_le_bytes());
    }
}
