//! EFI system partitions in the partition tables of disks (5.2 and 5.3).

use crate::bytes::{double, word};

/// How much of a disk's start is an MBR, in bytes.
pub const MBR_SIZE: usize = 512;

/// The type of an EFI system partition, C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as a table has it.
const ESP: [u8; 16] = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
const ESP_IN_MBR: u8 = 0xef;
const PROTECTIVE: u8 = 0xee;
/// A larger table is none that any tool makes.
const LARGEST: usize = 1 << 20;
const LEAST_ENTRY: usize = 128;

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1 on.
    pub number: u32,
    /// Its first block.
    pub start: u64,
    /// How many blocks it has.
    pub blocks: u64,
    /// What tells it, or its disk, from all others.
    pub signature: Signature,
}

/// What tells a partition from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// The partition's own GUID, as a GPT has it.
    Guid([u8; 16]),
    /// The number of the disk, as an MBR has it.
    Mbr([u8; 4]),
    /// Nothing.
    None,
}

impl Partition {
    /// Whether both are one partition. A partition in an MBR has nothing but its disk's number, its own and its place.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.signature, other.signature) {
            (Signature::Guid(one), Signature::Guid(other)) => one == other,
            (Signature::Mbr(one), Signature::Mbr(two)) => {
                one == two && one != [0; 4] && (self.number, self.start) == (other.number, other.start)
            }
            _ => false,
        }
    }
}

/// Why a disk's partition table says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There is none.
    #[error("it has no partition table")]
    None,
    /// It is damaged, or none that can be.
    #[error("its partition table is damaged")]
    Damaged,
}

/// Where a disk has its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// In the MBR; these are its EFI system partitions.
    Mbr(Vec<Partition>),
    /// In a GPT, whose entries are at this place.
    Gpt {
        /// Their first block.
        first: u64,
        /// All their bytes.
        length: usize,
        /// The bytes of each.
        size: usize,
    },
}

impl Table {
    /// Reads a disk's first block, and the block with the header of its GPT: the second one, or the last.
    pub fn parse(first: &[u8], header: &[u8]) -> Result<Self, TableError> {
        if header.starts_with(b"EFI PART") {
            return Self::gpt(header).ok_or(TableError::Damaged);
        }
        if first.get(510..512) != Some(&[0x55, 0xaa]) {
            return Err(TableError::None);
        }
        let entries = first.get(446..510).unwrap_or_default().chunks_exact(16).zip(1..);
        let number: Option<[u8; 4]> = first.get(440..444).and_then(|number| number.try_into().ok());
        let signature = match number {
            Some([0, 0, 0, 0]) | None => Signature::None,
            Some(number) => Signature::Mbr(number),
        };
        let mut found = Vec::new();
        for (entry, number) in entries {
            match (entry.get(4), word(entry, 8), word(entry, 12)) {
                (Some(&PROTECTIVE), ..) => return Err(TableError::Damaged),
                (Some(&ESP_IN_MBR), Some(start), Some(blocks)) => {
                    found.push(Partition { number, start: start.into(), blocks: blocks.into(), signature });
                }
                _ => {}
            }
        }
        Ok(Self::Mbr(found))
    }

    fn gpt(header: &[u8]) -> Option<Self> {
        let (count, size) = (usize::try_from(word(header, 80)?).ok()?, usize::try_from(word(header, 84)?).ok()?);
        let length = count.checked_mul(size).filter(|length| *length <= LARGEST && size >= LEAST_ENTRY)?;
        Some(Self::Gpt { first: double(header, 72)?, length, size })
    }

    /// The EFI system partitions of a GPT, from the bytes of its `entries`; those of an MBR are known without.
    pub fn esps(&self, entries: &[u8]) -> Vec<Partition> {
        let size = match self {
            Self::Mbr(found) => return found.clone(),
            Self::Gpt { size, .. } => (*size).max(LEAST_ENTRY),
        };
        let esp = |(entry, number): (&[u8], u32)| {
            let (start, last) = (double(entry, 32)?, double(entry, 40)?);
            let blocks = last.checked_sub(start)?.checked_add(1)?;
            let guid = entry.get(16..32)?.try_into().ok()?;
            (entry.get(..16) == Some(&ESP)).then_some(Partition {
                number,
                start,
                blocks,
                signature: Signature::Guid(guid),
            })
        };
        entries.chunks_exact(size).zip(1..).filter_map(esp).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(count: u32, size: u32) -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"EFI PART");
        header[72] = 2;
        header[80..84].copy_from_slice(&count.to_le_bytes());
        header[84..88].copy_from_slice(&size.to_le_bytes());
        header
    }

    fn mbr(kind: u8) -> Vec<u8> {
        let mut mbr = vec![0; 512];
        mbr[440..444].copy_from_slice(&[1, 2, 3, 4]);
        (mbr[462 + 4], mbr[462 + 9], mbr[462 + 12]) = (kind, 8, 100);
        (mbr[510], mbr[511]) = (0x55, 0xaa);
        mbr
    }

    #[test]
    fn the_efi_system_partition_of_a_gpt_is_found() {
        for size in [128, 256] {
            let table = Table::parse(&mbr(PROTECTIVE), &header(4, size)).unwrap();
            let size = usize::try_from(size).unwrap();
            assert_eq!(table, Table::Gpt { first: 2, length: 4 * size, size });
            let mut entries = vec![0; 4 * size];
            entries[size..size + 16].copy_from_slice(&ESP);
            entries[size + 16..size + 32].copy_from_slice(&[7; 16]);
            (entries[size + 33], entries[size + 40], entries[size + 41]) = (8, 0xff, 0x0f);
            let esp = Partition { number: 2, start: 2048, blocks: 2048, signature: Signature::Guid([7; 16]) };
            assert_eq!(table.esps(&entries), [esp]);
            assert_eq!(table.esps(&entries[..size]), []);
        }
    }

    #[test]
    fn the_efi_system_partition_of_an_mbr_is_found() {
        let esp = Partition { number: 2, start: 2048, blocks: 100, signature: Signature::Mbr([1, 2, 3, 4]) };
        let table = Table::parse(&mbr(ESP_IN_MBR), &[]).unwrap();
        assert_eq!(table.esps(&[]), std::slice::from_ref(&esp));
        assert!(esp.is_same(&esp) && !esp.is_same(&Partition { number: 1, ..esp.clone() }));
        assert_eq!(Table::parse(&mbr(0x83), &[0; 512]).unwrap().esps(&[]), []);
    }

    #[test]
    fn a_disk_without_a_table_or_with_a_damaged_one_says_so() {
        assert_eq!(Table::parse(&[0; 512], &[0; 512]), Err(TableError::None));
        assert_eq!(Table::parse(&[], &[]), Err(TableError::None));
        assert_eq!(Table::parse(&mbr(PROTECTIVE), &[0; 512]), Err(TableError::Damaged));
        for (count, size) in [(4, 0), (4, 64), (u32::MAX, u32::MAX), (100_000, 128)] {
            assert_eq!(Table::parse(&mbr(PROTECTIVE), &header(count, size)), Err(TableError::Damaged));
        }
        assert_eq!(Table::parse(&mbr(PROTECTIVE), b"EFI PART"), Err(TableError::Damaged));
    }
}
