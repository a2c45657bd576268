//! EFI system partitions, read from a disk.

use std::io;

use disks::disk::Disk;
use efi::{MBR_SIZE, Partition, Table, TableError};
use kernel::root::Root;

use crate::sysfs::Uncached;

/// Why a disk's EFI system partitions are not known.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// It can't be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It has no partition table that says so.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The EFI system partitions of a whole disk, in the order of its table; waits for the disk. A later
/// disk of the same name is not read.
pub fn esps(root: &Root, disk: &Disk) -> Result<Vec<Partition>, EspError> {
    let device = Uncached::open(root, &disk.name, Some(disk.diskseq).filter(|diskseq| *diskseq != 0), 0)?;
    read(|bytes, at| device.read_exact(bytes, at), device.size(), u64::from(disk.block_size.max(512)))
}

fn read(
    read_exact: impl Fn(&mut [u8], u64) -> io::Result<()>,
    size: u64,
    block_size: u64,
) -> Result<Vec<Partition>, EspError> {
    let block = |at: u64| -> io::Result<Vec<u8>> {
        let mut block = vec![0; usize::try_from(block_size).map_err(io::Error::other)?.max(MBR_SIZE)];
        read_exact(&mut block, at)?;
        Ok(block)
    };
    let first = block(0)?;
    // Firmware looks at the table's copy, at the disk's end, where it does not like the table.
    let table = match Table::parse(&first, &block(block_size)?) {
        Err(TableError::Damaged) => Table::parse(&first, &block(size.saturating_sub(block_size))?)?,
        table => table?,
    };
    let mut entries = Vec::new();
    if let Table::Gpt { first, length, .. } = table {
        entries.resize(length, 0);
        let at = first.checked_mul(block_size).ok_or(TableError::Damaged)?;
        read_exact(&mut entries, at)?;
    }
    Ok(table.esps(&entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESP: [u8; 16] = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

    fn found(disk: &[u8], block_size: u64) -> Result<usize, EspError> {
        let read_exact = |bytes: &mut [u8], at: u64| {
            let at = usize::try_from(at).unwrap();
            let end = at.checked_add(bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            bytes.copy_from_slice(disk.get(at..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        read(read_exact, disk.len() as u64, block_size).map(|esps| esps.len())
    }

    #[test]
    fn the_partition_is_found_by_the_table_or_by_its_copy() {
        for block_size in [512, 4096] {
            for (header, entries) in [(1, 2), (63, 47)] {
                let mut disk = vec![0; 64 * block_size];
                (disk[450], disk[510], disk[511]) = (0xee, 0x55, 0xaa);
                let at = header * block_size;
                disk[at..at + 8].copy_from_slice(b"EFI PART");
                (disk[at + 72], disk[at + 80], disk[at + 84]) = (entries, 4, 128);
                let at = usize::from(entries) * block_size;
                disk[at..at + 16].copy_from_slice(&ESP);
                disk[at + 40] = 9;
                assert_eq!(found(&disk, block_size as u64).unwrap(), 1);
            }
        }
    }

    #[test]
    fn a_disk_without_a_table_or_too_small_for_one_is_told() {
        assert!(matches!(found(&[0; 4096], 512), Err(EspError::Table(TableError::None))));
        assert!(matches!(found(&[0; 100], 512), Err(EspError::Read(_))));
    }
}
