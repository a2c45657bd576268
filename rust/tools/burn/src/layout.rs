//! The future content of the disk: taken from the image, laid out for the disk's blocks and size.

use std::io::{self, Read, Seek, Write};
use std::ops::Range;

use thiserror::Error;

use crate::fat::{FatError, Form, Tree};
use crate::gpt::{self, GptError, Partition, Table};
use crate::identity::Identity;
use crate::medium::Buffer;
use crate::sparse::Sparse;
use crate::wipe;

const MEBI: u64 = 1 << 20;
/// The most that the EFI system partition takes. Firmware reads a file system of this size fast, and with blocks of
/// either size it is a FAT32, which the UEFI Specification (13.3) wants.
const ESP: u64 = 1 << 30;
/// The most that files of a disk that was written before can have, the image's own among them.
const MOST: u64 = ESP + 64 * MEBI;
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
    #[error("its files read back other than they were laid out; that is a fault of this program")]
    Differs,
    #[error(transparent)]
    Fat(#[from] FatError),
}

/// The files that a disk boots from.
#[derive(Debug)]
pub(crate) struct Content {
    esp: Partition,
    tree: Tree,
}

impl Content {
    /// Reads an image.
    pub(crate) fn of_image(image: &mut (impl Read + Seek)) -> Result<Self, LayoutError> {
        Self::read(image, IMAGE_BLOCK)
    }

    /// Reads a disk that was written to before.
    pub(crate) fn of_disk(disk: &mut (impl Read + Seek), block: u32) -> Result<Self, LayoutError> {
        Self::read(disk, block.into())
    }

    fn read(disk: &mut (impl Read + Seek), block: u64) -> Result<Self, LayoutError> {
        let mut buffer = Buffer::new();
        let length = usize::try_from(block).unwrap_or_default();
        let size = disk.seek(io::SeekFrom::End(0)).map_err(LayoutError::Read)?;
        let mut start = vec![0; gpt::START.min(usize::try_from(size).unwrap_or(gpt::START) / length * length)];
        buffer.read_at(disk, length, 0, &mut start).map_err(LayoutError::Read)?;
        let table = Table::parse(&start, length)?;
        let esp = table.partitions.into_iter().find(|part| part.kind == gpt::ESP).ok_or(LayoutError::NoEsp)?;
        let first = esp.first.checked_mul(block).ok_or(GptError::Damaged("list of partitions"))?;
        let mut read = |at: u64, into: &mut [u8]| match first.checked_add(at) {
            Some(at) => buffer.read_at(disk, length, at, into),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        Ok(Self { esp, tree: Tree::read(&mut read, MOST)? })
    }

    /// A boot program, and a file that is larger than what is written at once.
    #[cfg(test)]
    pub(crate) fn example(word: &str) -> Self {
        let large: Vec<u8> = word.bytes().cycle().take(3 << 20).collect();
        let esp = Partition { kind: gpt::ESP, id: [1; 16], first: 2048, last: 4095, attributes: 4, name: [b'e'; 72] };
        Self { esp, tree: Tree::of(&[("EFI/BOOT/BOOTX64.EFI", word.as_bytes()), ("large", &large)]) }
    }

    /// The names of the files in a folder, without those in its folders.
    pub(crate) fn files_in(&self, folder: &str) -> Vec<String> {
        self.tree.files_in(folder)
    }

    /// Takes the files of a folder away that `is_one` chooses by their names.
    pub(crate) fn remove_in(&mut self, folder: &str, is_one: impl Fn(&str) -> bool) {
        self.tree.remove_in(folder, is_one);
    }

    /// Adds a file, which must not be there, and the folders that it is in.
    pub(crate) fn add(&mut self, path: &str, content: &[u8]) -> Result<(), FatError> {
        self.tree.add(path, content)
    }

    /// The content of a file.
    #[cfg(test)]
    pub(crate) fn content(&self, path: &str) -> Option<&[u8]> {
        self.tree.content(path)
    }

    /// Takes over what `old` has and this has not. The files among that.
    pub(crate) fn keep(&mut self, old: Self) -> Result<Vec<String>, LayoutError> {
        Ok(self.tree.merge(old.tree)?)
    }
}

/// The pieces to write to a disk, with the tables that make it bootable.
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

    /// Lays `content` out for a disk of `size` bytes in blocks of `block`, which had partitions at `old`.
    pub(crate) fn new(
        content: &Content,
        identity: &Identity,
        size: u64,
        block: u16,
        old: &[Range<u64>],
    ) -> Result<Self, LayoutError> {
        let mut disk = Sparse::new(size);
        let tail = (size.saturating_sub(MEBI)) / MEBI * MEBI;
        let esp = ESP.min(tail.saturating_sub(HEAD));
        let failed = |source| LayoutError::Memory(size, source);
        let zeros = wipe::marks(size, &(HEAD..HEAD + esp), old).into_iter().chain([0..HEAD, tail..size]);
        for range in zeros {
            let length = usize::try_from(range.end - range.start).unwrap_or_default();
            disk.write_at(range.start, &vec![0; length]).map_err(failed)?;
        }
        let blocks = u64::from(block);
        let form = Form { size: esp, block, hidden: HEAD / blocks, serial: identity.serial };
        content.tree.write(&form, &mut |at, bytes| disk.write_at(HEAD + at, bytes))?;
        let back = Tree::read(&mut |at, into| disk.read_at(HEAD + at, into), esp)?;
        if back != content.tree {
            return Err(LayoutError::Differs);
        }

        let (first, last) = (HEAD / blocks, (HEAD + esp) / blocks - 1);
        let partition = Partition { first, last, id: identity.partition, ..content.esp.clone() };
        let table = Table { disk: identity.disk, partitions: vec![partition] };
        let (start, end) = table.to_bytes(size / blocks, usize::from(block));
        disk.write_at(0, &start).map_err(failed)?;
        disk.write_at(size / blocks * blocks - end.len() as u64, &end).map_err(failed)?;
        Ok(Self { disk, tail, esp })
    }

    /// Writes the file system alone into a file, which then is an image of it.
    pub(crate) fn save(&self, file: &mut (impl Write + Seek)) -> io::Result<()> {
        for (at, bytes) in self.body().filter(|(at, _)| *at < HEAD + self.esp) {
            file.seek(io::SeekFrom::Start(at - HEAD))?;
            file.write_all(bytes)?;
        }
        file.flush()
    }

    /// The pieces between the partition tables, in order.
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
    use std::io::{Cursor, SeekFrom};

    const IDENTITY: Identity = Identity { disk: [2; 16], partition: [3; 16], serial: 4, nonce: [5; 16] };

    /// The disk as it is once all was written to one that was full of other things.
    fn written(layout: &Layout, size: u64) -> Cursor<Vec<u8>> {
        let mut disk = Cursor::new(vec![0x5a; usize::try_from(size).unwrap()]);
        for (at, bytes) in layout.body().chain(layout.tables()) {
            disk.seek(SeekFrom::Start(at)).unwrap();
            disk.write_all(bytes).unwrap();
        }
        disk
    }

    #[test]
    fn what_was_laid_out_is_read_back_whatever_the_blocks_and_what_was_there() {
        // The second is no multiple of a MiB, as sticks are.
        for (block, size) in [(512, 20 << 20), (512, (70 << 20) + 512 * 7), (4096, 40 << 20), (4096, 600 << 20)] {
            let content = Content::example("boots");
            let layout = Layout::new(&content, &IDENTITY, size, block, &[]).unwrap();
            let mut disk = written(&layout, size);
            let back = Content::read(&mut disk, block.into()).unwrap();
            assert_eq!((back.esp.id, back.esp.name), ([3; 16], content.esp.name));
            assert_eq!(back.tree, content.tree, "blocks of {block}, {size} bytes");
            let block = u64::from(block);
            assert_eq!(back.esp.first * block, MEBI);
            assert_eq!((back.esp.last + 1 - back.esp.first) * block, layout.esp);
            assert!(layout.esp + 3 * MEBI > size, "{} of {size} bytes", layout.esp);
            assert!(layout.body().all(|(at, bytes)| at >= HEAD && at + bytes.len() as u64 <= layout.tail));
        }
    }

    #[test]
    fn a_large_stick_is_written_to_only_where_it_must_be() {
        let layout = Layout::new(&Content::example("boots"), &IDENTITY, 1 << 40, 512, &[]).unwrap();
        assert_eq!(layout.esp, 1 << 30);
        let bytes: usize = layout.body().chain(layout.tables()).map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 24 << 20, "{bytes} bytes");
        let last = layout.tables().map(|(at, bytes)| at + bytes.len() as u64).max();
        assert_eq!(last, Some(1 << 40), "the backup of the table is at the end of the disk");
    }

    /// The pieces of a superblock, each with its offset, on a disk or a partition of a size in bytes.
    type Superblock = fn(u64) -> Vec<(u64, Vec<u8>)>;

    fn md(at: u64) -> Vec<(u64, Vec<u8>)> {
        let mut block = vec![0; 256];
        block[..8].copy_from_slice(b"\xfc\x4e\x2b\xa9\x01\0\0\0");
        block[16..32].fill(0x22);
        // Its own place is in it.
        block[144..152].copy_from_slice(&(at / 512).to_le_bytes());
        vec![(at, block)]
    }

    fn md_0_90(size: u64) -> Vec<(u64, Vec<u8>)> {
        let words = [0xa92b_4efc, 0, 90, 0, 0, 0x1111, 0, 1, 1024, 2, 2, 0, 0, 0x22, 0x33, 0x44];
        vec![(size / 65536 * 65536 - 65536, words.map(u32::to_le_bytes).concat())]
    }

    fn zfs(size: u64) -> Vec<(u64, Vec<u8>)> {
        let labels = [
            0,
            256 << 10,
            size / (256 << 10) * (256 << 10) - (512 << 10),
            size / (256 << 10) * (256 << 10) - (256 << 10),
        ];
        let uberblock = [0x00ba_b10c_u64, 5000].map(u64::to_le_bytes).concat();
        let of_label = |label: u64| (128 << 10..256 << 10).step_by(1024).map(move |at| label + at);
        labels.into_iter().flat_map(of_label).map(|at| (at, uberblock.clone())).collect()
    }

    fn apple(_: u64) -> Vec<(u64, Vec<u8>)> {
        let entry = |start: u32, name: &[u8]| {
            let mut entry = vec![0; 136];
            entry[..2].copy_from_slice(b"PM");
            for (at, word) in [(4, 2), (8, start), (12, 63)] {
                entry[at..at + 4].copy_from_slice(&word.to_be_bytes());
            }
            entry[48..48 + name.len()].copy_from_slice(name);
            entry
        };
        let driver = b"ER\x02\0".to_vec();
        vec![(0, driver), (512, entry(1, b"Apple_partition_map")), (1024, entry(64, b"Apple_HFS"))]
    }

    fn second_luks(at: u64) -> Vec<(u64, Vec<u8>)> {
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"SKUL\xba\xbe\0\x02");
        header[168..204].copy_from_slice(b"0b3bbb12-5f6c-4d2c-9d54-1b2d3c4e5f60");
        header[256..264].copy_from_slice(&at.to_be_bytes());
        vec![(at, header)]
    }

    /// Superblocks that libblkid of util-linux 2.38 takes for whole ones (`libblkid/src/superblocks`, `partitions`).
    const SUPERBLOCKS: [(&str, Superblock); 17] = [
        ("linux_raid_member", md_0_90),
        ("linux_raid_member", |size| md((size / 512 - 16) / 8 * 4096)),
        ("linux_raid_member", |_| md(0)),
        ("linux_raid_member", |_| md(4096)),
        ("LVM2_member", |_| vec![(512, b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001".to_vec())]),
        ("crypto_LUKS", |_| vec![(0, b"LUKS\xba\xbe\0\x01aes".to_vec())]),
        ("crypto_LUKS", |_| second_luks(0x4000)),
        ("crypto_LUKS", |_| second_luks(0x40_0000)),
        ("zfs_member", zfs),
        ("btrfs", |_| vec![(0x1_0040, b"_BHRfS_M".to_vec())]),
        ("iso9660", |_| vec![(0x8000, b"\x01CD001\x01".to_vec())]),
        ("mac", apple),
        ("swap", |_| vec![(1024, b"\x01\0\0\0\x64".to_vec()), (4086, b"SWAPSPACE2".to_vec())]),
        ("VMFS_volume_member", |_| vec![(0x10_0000, b"\x0d\xd0\x01\xc0".to_vec())]),
        ("ddf_raid_member", |size| vec![(size - 512, b"\xde\x11\xde\x11\0\0\0\0LSI".to_vec())]),
        ("isw_raid_member", |size| vec![(size - 1024, b"Intel Raid ISM Cfg Sig. 1.0.00".to_vec())]),
        ("promise_fasttrack_raid_member", |size| vec![(size - 3087 * 512, b"Promise Technology, Inc.".to_vec())]),
    ];

    /// Marks whose superblocks are longer, by their place from the start or (negative) from the end.
    const MARKS: [(i64, &[u8]); 13] = [
        (512, b"EFI PART"),
        (4096, b"EFI PART"),
        (-512, b"EFI PART"),
        (-4096, b"EFI PART"),
        (1080, b"\x53\xef"),
        (0, b"XFSB"),
        (3, b"NTFS    "),
        (1024, b"H+\0\x04"),
        (0x8001, b"BEA01"),
        (65526, b"SWAPSPACE2"),
        (4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
        (-4096 + 60, b"\x83\x74\x02\x67"),
        (0x400_0040, b"_BHRfS_M"),
    ];

    /// The signatures that util-linux (`wipefs`, then `blkid`) finds in a file with these `pieces`.
    fn found(size: u64, pieces: &[(u64, &[u8])]) -> [String; 2] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        for (at, bytes) in pieces {
            file.seek(SeekFrom::Start(*at)).unwrap();
            file.write_all(bytes).unwrap();
        }
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let run = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(program);
            let output = command.args(arguments).arg(file.path()).env("PATH", &path).output().unwrap();
            // 2 is nothing, and 8 several things at once, for blkid.
            assert!(matches!(output.status.code(), Some(0 | 2 | 8)), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        [
            run("wipefs", &["--no-act", "--noheadings", "--output", "OFFSET,TYPE"]),
            run("blkid", &["--probe", "--output", "export"]),
        ]
        .map(|text| text.lines().filter(|line| !line.starts_with("DEVNAME=")).collect::<Vec<_>>().join("\n"))
    }

    fn layout_of(size: u64, block: u16, old: &[Range<u64>]) -> Layout {
        Layout::new(&Content::example("boots"), &IDENTITY, size, block, old).unwrap()
    }

    #[test]
    fn blkid_and_wipefs_find_only_what_was_written_whatever_was_there() {
        // The last is no multiple of a MiB.
        for (block, size) in [(512, 90 << 20), (512, 1200 << 20), (4096, (70 << 20) + 4096 * 3)] {
            let layout = layout_of(size, block, &[]);
            let on_disk: Vec<_> = layout.body().chain(layout.tables()).collect();
            let is_in_esp = |at: u64| (HEAD..HEAD + layout.esp).contains(&at);
            let of_body = layout.body().filter(|(at, _)| is_in_esp(*at));
            let in_esp: Vec<_> = of_body.map(|(at, bytes)| (at - HEAD, bytes)).collect();
            for (size, written, is_part) in [(size, on_disk, false), (layout.esp, in_esp, true)] {
                let new = found(size, &written);
                let lines: Vec<&str> = new[0].lines().map(|line| line.split_whitespace().last().unwrap()).collect();
                if is_part {
                    assert_eq!(lines, ["vfat"; 3]);
                    assert!(new[1].contains("TYPE=vfat") && new[1].contains("LABEL=DISKOMATOR"), "{new:?}");
                } else if block == 512 {
                    // Blocks of a file have 512 bytes, for both programs.
                    assert_eq!(lines, ["gpt", "gpt", "PMBR"]);
                }
                for (number, (kind, superblock)) in SUPERBLOCKS.into_iter().enumerate() {
                    let there = superblock(size);
                    let mut pieces: Vec<(u64, &[u8])> = there.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
                    let before = found(size, &pieces);
                    assert!(before[0].contains(kind), "{kind} ({number}) is one: {before:?}");
                    pieces.extend(written.iter().copied());
                    assert_eq!(found(size, &pieces), new, "{kind} ({number}), blocks of {block}, {size} bytes");
                }
            }
        }
    }

    #[test]
    fn no_mark_is_left_of_the_disk_or_of_any_partition_of_it() {
        let size = 3 << 30;
        let old = [2 * MEBI..80 * MEBI, (2 << 30)..(2 << 30) + 100 * MEBI + 512, (2 << 30) + 101 * MEBI..size - 512];
        for block in [512, 4096] {
            let layout = layout_of(size, block, &old);
            let own = HEAD..HEAD + layout.esp;
            let mut places = Vec::new();
            for part in old.iter().chain([&own, &(0..size), &(own.end..size)]) {
                let length = part.end - part.start;
                let of_table = MARKS.iter().map(|(at, bytes)| {
                    (
                        length.wrapping_add_signed(if *at < 0 { *at } else { at - i64::try_from(length).unwrap() }),
                        bytes.to_vec(),
                    )
                });
                let others = SUPERBLOCKS.iter().flat_map(|(_, superblock)| superblock(length));
                // The second superblock of btrfs has no place there.
                let is_free = part.start == own.end;
                places.extend(
                    of_table
                        .chain(others)
                        .filter(|(at, _)| !is_free || *at < 4 * MEBI)
                        .map(|(at, bytes)| (part.start + at, bytes)),
                );
            }
            let mut all: Vec<(u64, &[u8])> = layout.body().chain(layout.tables()).collect();
            all.sort_unstable();
            for (at, mark) in places {
                let first = all.partition_point(|(start, _)| *start <= at) - 1;
                let (start, bytes) = all[first];
                let offset = usize::try_from(at - start).unwrap();
                let now = bytes.get(offset..(offset + mark.len()).min(bytes.len())).unwrap_or_default();
                let is_own = mark == b"EFI PART" && (at == u64::from(block) || at == size - u64::from(block));
                assert!(!now.is_empty() && (now != mark || is_own), "{mark:?} at {at}, blocks of {block}");
            }
        }
    }
}
