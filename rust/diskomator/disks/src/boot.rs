//! Which disk this machine was started from.

use uuid::Uuid;

/// The partition that the boot stub was loaded from, as it says itself in the
/// EFI variable `LoaderDevicePartUUID` (systemd's Boot Loader Interface).
/// `variable` is a file of efivarfs: four bytes of attributes, then UTF-16.
pub fn boot_partition(variable: &[u8]) -> Option<Uuid> {
    let units = variable.get(4..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text = String::from_utf16(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>()).ok()?;
    Uuid::try_parse(&text).ok()
}

/// How much of a disk [`has_partition`] wants to see, in bytes, for a block
/// size in bytes: the first block, the table's header and 128 entries.
pub const fn table_size(block_size: usize) -> usize {
    2 * block_size + 128 * ENTRY
}

/// The same of its end, for [`has_partition_in_backup`]: the last block is the
/// header of the table's backup.
pub const fn backup_size(block_size: usize) -> usize {
    block_size + 128 * ENTRY
}

const ENTRY: usize = 128;

/// Whether a disk that begins with `start` has a GUID partition table with
/// `partition` in it (UEFI Specification 2.10, 5.3: the header is the second
/// block; entries are told where and how large; GUIDs are mixed-endian).
///
/// Copies of one disk are not told apart, as nothing says which of them the
/// firmware took: each of them may be the one.
pub fn has_partition(start: &[u8], block_size: usize, partition: Uuid) -> bool {
    let entries = || {
        let header = Header::parse(start.get(block_size..)?)?;
        Some((header, start.get(header.first.checked_mul(block_size)?..)?))
    };
    entries().is_some_and(|(header, entries)| header.has(entries, partition))
}

/// Whether firmware looks for a table's backup if it does not like the table:
/// the first block says that there is one (5.2.3, a partition of type 0xEE).
pub fn may_have_backup(start: &[u8]) -> bool {
    const KINDS: [usize; 4] = [450, 466, 482, 498];
    start.get(510..512) == Some(&[0x55, 0xaa]) && KINDS.iter().any(|at| start.get(*at) == Some(&0xee))
}

/// As [`has_partition`], for the backup at the `end` of a disk.
pub fn has_partition_in_backup(end: &[u8], block_size: usize, partition: Uuid) -> bool {
    let entries = || {
        let at = end.len().checked_sub(block_size)?;
        let header = Header::parse(end.get(at..)?)?;
        let before = header.back.checked_mul(block_size)?;
        Some((header, end.get(at.checked_sub(before)?..at)?))
    };
    entries().is_some_and(|(header, entries)| header.has(entries, partition))
}

/// The fields of a GPT header about its entries: places in blocks, the size of an entry in bytes.
#[derive(Clone, Copy)]
struct Header {
    first: usize,
    /// How far they are before the header, if they are.
    back: usize,
    count: usize,
    size: usize,
}

impl Header {
    fn parse(header: &[u8]) -> Option<Self> {
        if header.get(..8)? != b"EFI PART" {
            return None;
        }
        let half = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?)) };
        let number = |at: usize| usize::try_from(half(at)?).ok();
        // Of a distance the lower half is enough.
        let back = usize::try_from(half(24)?.wrapping_sub(half(72)?)).ok()?;
        let header = Self { first: number(72)?, back, count: number(80)?, size: number(84)? };
        // A smaller one is no entry, and would make no progress.
        Some(header).filter(|header| header.size >= ENTRY)
    }

    fn has(&self, entries: &[u8], partition: Uuid) -> bool {
        let wanted = partition.to_bytes_le();
        entries.chunks_exact(self.size).take(self.count).any(|entry| entry.get(16..32) == Some(&wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESP: &str = "4ae63302-96b7-41b0-afd2-9bb05dd34ed1";

    fn table(block_size: usize, entry_size: u32, partitions: &[&str]) -> Vec<u8> {
        let mut disk = vec![0; table_size(block_size)];
        let header = &mut disk[block_size..];
        header[..8].copy_from_slice(b"EFI PART");
        header[72..80].copy_from_slice(&2u64.to_le_bytes());
        header[80..84].copy_from_slice(&128u32.to_le_bytes());
        header[84..88].copy_from_slice(&entry_size.to_le_bytes());
        for (i, partition) in partitions.iter().enumerate() {
            let at = 2 * block_size + i * entry_size as usize + 16;
            disk[at..at + 16].copy_from_slice(&Uuid::try_parse(partition).unwrap().to_bytes_le());
        }
        disk
    }

    #[test]
    fn the_stub_s_word_is_read() {
        let variable = |text: &str| {
            let units = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
            [6, 0, 0, 0].into_iter().chain(units).collect::<Vec<u8>>()
        };
        assert_eq!(boot_partition(&variable(ESP)), Uuid::try_parse(ESP).ok());
        for bad in ["", "esp", "4ae63302-96b7-41b0-afd2-9bb05dd34ed"] {
            assert_eq!(boot_partition(&variable(bad)), None);
        }
        assert_eq!(boot_partition(&[6, 0]), None);
        assert_eq!(boot_partition(&[6, 0, 0, 0, 0, 0xd8, 1]), None);
    }

    #[test]
    fn a_partition_is_found_in_every_kind_of_table() {
        let esp = Uuid::try_parse(ESP).unwrap();
        let other = "00112233-4455-6677-8899-aabbccddeeff";
        for block_size in [512, 4096] {
            assert!(has_partition(&table(block_size, 128, &[other, ESP]), block_size, esp));
            assert!(has_partition(&table(block_size, 256, &[other, ESP]), block_size, esp));
            assert!(!has_partition(&table(block_size, 128, &[other]), block_size, esp));
            assert!(!has_partition(&table(block_size, 64, &[ESP]), block_size, esp));
            assert!(!has_partition(&table(block_size, 0, &[ESP]), block_size, esp));
        }
    }

    #[test]
    fn a_broken_table_has_no_partition() {
        let esp = Uuid::try_parse(ESP).unwrap();
        let whole = table(512, 128, &[ESP]);
        for length in 0..512 * 2 + 128 {
            assert!(!has_partition(&whole[..length], 512, esp), "{length}");
        }
        for (at, value) in [(512, 0), (512 + 75, 0xff), (512 + 80, 0), (512 + 87, 0xff)] {
            let mut broken = whole.clone();
            broken[at] = value;
            let found = has_partition(&broken, 512, esp);
            assert!(!found || at == 512 + 80 && value != 0, "{at}");
        }
    }

    #[test]
    fn a_disk_that_the_firmware_booted_by_its_backup_is_known() {
        let esp = Uuid::try_parse(ESP).unwrap();
        for block_size in [512, 4096] {
            let start = table(block_size, 128, &[ESP]);
            let (header, entries) = start[block_size..].split_at(block_size);
            let mut end = [entries, header].concat();
            assert_eq!(end.len(), backup_size(block_size));
            let at = entries.len();
            // A disk of 8 TB: more blocks than four bytes can count.
            let last = 0x4_0000_0007_u64;
            end[at + 24..at + 32].copy_from_slice(&last.to_le_bytes());
            let first = last - (entries.len() / block_size) as u64;
            end[at + 72..at + 80].copy_from_slice(&first.to_le_bytes());
            assert!(has_partition_in_backup(&end, block_size, esp), "{block_size}");
            assert!(!has_partition_in_backup(&end, block_size, Uuid::max()));
            for length in 0..end.len() {
                has_partition_in_backup(&end[..length], block_size, esp);
            }
            end[at + 72..at + 80].fill(0);
            assert!(!has_partition_in_backup(&end, block_size, esp));
        }
    }

    #[test]
    fn a_backup_is_looked_for_where_the_first_block_says_so() {
        let mut start = vec![0; 512];
        start[450] = 0xee;
        assert!(!may_have_backup(&start));
        start[510..].copy_from_slice(&[0x55, 0xaa]);
        assert!(may_have_backup(&start));
        start[450] = 7;
        assert!(!may_have_backup(&start) && !may_have_backup(&[]));
    }
}
