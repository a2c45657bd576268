//! What will be on the disk: taken from the image, laid out for the disk's blocks and size.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use diskomator_sys::block;
use thiserror::Error;

use crate::fat::{FatError, Label, Tree};
use crate::gpt::{self, GptError, Partition, Table};
use crate::sparse::Sparse;

const MEBI: u64 = 1 << 20;
/// The most that the EFI system partition takes. Firmware reads a file system of this size fast, and with blocks of
/// either size it is a FAT32, which the UEFI Specification (13.3) wants.
const ESP: u64 = 1 << 30;
/// The size of the blocks that the image is made for.
const IMAGE_BLOCK: u64 = 512;

/// Why there is nothing to lay out, or no room for it.
#[derive(Debug, Error)]
pub(crate) enum LayoutError {
    #[error("failed to read it")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Table(#[from] GptError),
    #[error("there is no EFI system partition")]
    NoEsp,
    #[error("failed to lay out {0} bytes in memory")]
    Memory(u64, #[source] io::Error),
    #[error(transparent)]
    Fat(#[from] FatError),
}

/// What a disk boots from.
#[derive(Debug)]
pub(crate) struct Content {
    disk: [u8; 16],
    esp: Partition,
    label: Label,
    tree: Tree,
}

impl Content {
    /// Reads an image.
    pub(crate) fn of_image(image: &Path) -> Result<Self, LayoutError> {
        Self::read(image, IMAGE_BLOCK)
    }

    /// Reads a disk that was written to before.
    pub(crate) fn of_disk(disk: &Path, block: u32) -> Result<Self, LayoutError> {
        Self::read(disk, block.into())
    }

    fn read(path: &Path, block: u64) -> Result<Self, LayoutError> {
        let mut disk = File::open(path).map_err(LayoutError::Read)?;
        let mut start = Vec::new();
        (&mut disk).take(gpt::START as u64).read_to_end(&mut start).map_err(LayoutError::Read)?;
        let table = Table::parse(&start, usize::try_from(block).unwrap_or_default())?;
        let esp = table.partitions.into_iter().find(|part| part.kind == gpt::ESP).ok_or(LayoutError::NoEsp)?;
        let first = esp.first.checked_mul(block).ok_or(GptError::Damaged("list of partitions"))?;
        let mut boot_sector = [0; Label::SECTOR];
        disk.seek(SeekFrom::Start(first)).map_err(LayoutError::Read)?;
        disk.read_exact(&mut boot_sector).map_err(LayoutError::Read)?;
        let label = Label::parse(&boot_sector)?;
        Ok(Self { disk: table.disk, esp, label, tree: Tree::read(path, first)? })
    }

    /// A boot program, and a file that is larger than what is written at once.
    #[cfg(test)]
    pub(crate) fn example(word: &str) -> Self {
        let large: Vec<u8> = word.bytes().cycle().take(3 << 20).collect();
        let esp = Partition { kind: gpt::ESP, id: [1; 16], first: 2048, last: 4095, attributes: 4, name: [b'e'; 72] };
        let mut sector = [0; Label::SECTOR];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        (sector[16], sector[22]) = (2, 9);
        sector[39..54].copy_from_slice(b"\x70\x0a\x5c\xd1DISKOMATOR ");
        Self {
            disk: [2; 16],
            esp,
            label: Label::parse(&sector).unwrap(),
            tree: Tree::of(&[("EFI/BOOT/BOOTX64.EFI", word.as_bytes()), ("large", &large)]),
        }
    }

    /// Takes over what `old` has and this has not. The files among that.
    pub(crate) fn keep(&mut self, old: &Self) -> Result<Vec<String>, LayoutError> {
        Ok(self.tree.merge(&old.tree)?)
    }
}

/// What is to be written to a disk, and what makes it bootable.
#[derive(Debug)]
pub(crate) struct Layout {
    disk: Sparse,
    /// Where the blocks begin that hold the backup of the partition table.
    tail: u64,
    /// Bytes of the EFI system partition.
    pub(crate) esp: u64,
}

/// The first MiB, which holds the partition table, and where other systems have their marks.
pub(crate) const HEAD: u64 = MEBI;

impl Layout {
    /// The least that a disk must have for `content`, in bytes: the image's own partition is not made larger.
    pub(crate) fn least(image: u64) -> u64 {
        (image + 2 * MEBI).next_multiple_of(MEBI)
    }

    /// Lays `content` out for a disk of `size` bytes in blocks of `block`.
    pub(crate) fn new(content: &Content, size: u64, block: u16) -> Result<Self, LayoutError> {
        let mut disk = Sparse::new(size);
        let tail = (size.saturating_sub(MEBI)) / MEBI * MEBI;
        let esp = ESP.min(tail.saturating_sub(HEAD));
        let failed = |source| LayoutError::Memory(size, source);
        // Marks of the file systems, volume groups and RAIDs that were there before.
        for (from, to) in [(0, HEAD), (HEAD, (HEAD + MEBI).min(size)), (tail, size)] {
            let length = usize::try_from(to.saturating_sub(from)).unwrap_or_default();
            disk.write_at(from, &vec![0; length]).map_err(failed)?;
        }
        let mut fat = block::memory_file(esp).map_err(failed)?;
        content.tree.write(&fat, block, &content.label)?;
        for range in block::data(&fat).map_err(failed)? {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
            fat.seek(SeekFrom::Start(range.start)).and_then(|_| fat.read_exact(&mut bytes)).map_err(failed)?;
            disk.write_at(HEAD + range.start, &bytes).map_err(failed)?;
        }

        let block = u64::from(block);
        let partition = Partition { first: HEAD / block, last: (HEAD + esp) / block - 1, ..content.esp.clone() };
        let table = Table { disk: content.disk, partitions: vec![partition] };
        let (start, end) = table.to_bytes(size / block, usize::try_from(block).unwrap_or_default());
        disk.write_at(0, &start).map_err(failed)?;
        disk.write_at(size / block * block - end.len() as u64, &end).map_err(failed)?;
        Ok(Self { disk, tail, esp })
    }

    /// What is between the partition tables, in order.
    pub(crate) fn body(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.disk.pieces().filter(|(at, _)| (HEAD..self.tail).contains(at))
    }

    /// The backup of the partition table, then the table: what makes the disk bootable comes last.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let tail = self.disk.pieces().filter(|(at, _)| *at >= self.tail);
        tail.chain(self.disk.pieces().filter(|(at, _)| *at < HEAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// The disk as it is once all was written to one that was full of other things.
    fn written(layout: &Layout, size: u64) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::copy(&mut io::repeat(0x5a).take(size), &mut file).unwrap();
        for (at, bytes) in layout.body().chain(layout.tables()) {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file
    }

    #[test]
    fn what_was_laid_out_is_read_back_whatever_the_blocks_and_what_was_there() {
        // The second is no multiple of a MiB, as sticks are.
        for (block, size) in [(512, 20 << 20), (512, (70 << 20) + 512 * 7), (4096, 40 << 20), (4096, 600 << 20)] {
            let content = Content::example("boots");
            let layout = Layout::new(&content, size, block).unwrap();
            let file = written(&layout, size);
            let back = Content::read(file.path(), block.into()).unwrap();
            assert_eq!((back.disk, back.esp.id, back.esp.name), (content.disk, content.esp.id, content.esp.name));
            assert_eq!(back.label, content.label);
            let block = u64::from(block);
            assert_eq!(back.esp.first * block, MEBI);
            assert_eq!((back.esp.last + 1 - back.esp.first) * block, layout.esp);
            assert!(layout.esp + 3 * MEBI > size, "{} of {size} bytes", layout.esp);
            assert!(back.tree.merge(&content.tree).unwrap().is_empty(), "blocks of {block}, {size} bytes");
            assert!(layout.body().all(|(at, bytes)| at + bytes.len() as u64 <= HEAD + layout.esp));
        }
    }

    #[test]
    fn a_large_stick_is_written_to_only_where_it_must_be() {
        let layout = Layout::new(&Content::example("boots"), 1 << 40, 512).unwrap();
        assert_eq!(layout.esp, 1 << 30);
        let bytes: usize = layout.body().chain(layout.tables()).map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 16 << 20, "{bytes} bytes");
        let last = layout.tables().map(|(at, bytes)| at + bytes.len() as u64).max();
        assert_eq!(last, Some(1 << 40), "the backup of the table is at the end of the disk");
    }
}
