//! A new FAT file system with given files, one after the other without gaps.

use std::io;

use super::name::{ENTRY, Name};
use super::volume::Kind;
use super::{Content, FOLDER, FatError, IS_FOLDER, IS_LABEL, Node, Tree};

/// Fewer clusters above or below the border between two kinds than drivers are sure of ("FAT Type Determination").
const DOUBT: u64 = 16;
/// From here on it is a FAT32, which the UEFI Specification (13.3) wants, of clusters as memory has pages.
const LARGE: u64 = 260 << 20;
const LARGE_CLUSTER: u64 = 4096;
/// Below that.
const SMALL_CLUSTER: u64 = 2048;

/// The parameters of a new file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// All of it, in bytes.
    pub(crate) size: u64,
    /// Bytes of a block of the disk.
    pub(crate) block: u16,
    /// Blocks before it on the disk.
    pub(crate) hidden: u64,
    /// The number that tells it from others.
    pub(crate) serial: u32,
}

/// Where its parts are, in blocks.
#[derive(Debug)]
struct Shape {
    kind: Kind,
    per_cluster: u64,
    reserved: u64,
    table: u64,
    root: u64,
    clusters: u64,
}

impl Shape {
    /// For a root folder of `entries`, if it is not in clusters.
    fn new(form: &Form, entries: usize) -> Option<Self> {
        let block = u64::from(form.block);
        let blocks = form.size / block;
        let is_large = form.size >= LARGE;
        // As many entries as others have, or what is needed.
        let root = if is_large { 0 } else { (entries.max(512) * ENTRY) as u64 }.div_ceil(block);
        let mut cluster = if is_large { LARGE_CLUSTER } else { SMALL_CLUSTER.max(block) };
        let mut reserved = if is_large { 32 } else { 1 };
        loop {
            let per_cluster = cluster / block;
            let count = |table: u64| Some(blocks.checked_sub(reserved + 2 * table + root)? / per_cluster);
            let mut table = 1;
            let clusters = loop {
                let clusters = count(table)?;
                let needed = Kind::of(clusters).table(clusters + 2).div_ceil(block);
                if needed <= table {
                    break clusters;
                }
                table = needed;
            };
            let kind = Kind::of(clusters);
            if !is_large && kind == Kind::Fat32 {
                cluster *= 2;
                continue;
            }
            // Clusters begin where those of the disk do, and their number leaves no doubt.
            let before = reserved + 2 * table + root;
            if [4085, 65525].iter().any(|border| clusters.abs_diff(*border) <= DOUBT) {
                reserved += per_cluster;
            } else if before % per_cluster != 0 {
                reserved += per_cluster - before % per_cluster;
            } else {
                return Some(Self { kind, per_cluster, reserved, table, root, clusters });
            }
        }
    }

    /// The boot sector; its first 512 bytes are all that has a meaning.
    fn boot_sector(&self, form: &Form, label: [u8; 11]) -> Vec<u8> {
        let mut sector = vec![0; usize::from(form.block)];
        let is_fat32 = self.kind == Kind::Fat32;
        let blocks = form.size / u64::from(form.block);
        let small = if is_fat32 { None } else { u16::try_from(blocks).ok() };
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, if is_fat32 { b"\xeb\x58\x90MSWIN4.1" } else { b"\xeb\x3c\x90MSWIN4.1" });
        put(11, &form.block.to_le_bytes());
        put(13, &self.per_cluster.to_le_bytes()[..1]);
        put(14, &self.reserved.to_le_bytes()[..2]);
        put(16, &[2]);
        put(17, &(self.root * u64::from(form.block) / ENTRY as u64).to_le_bytes()[..2]);
        put(19, &small.unwrap_or(0).to_le_bytes());
        // A fixed disk, with the geometry that BIOSes make up.
        put(21, &[0xf8]);
        put(24, &[63, 0, 255, 0]);
        put(28, &u32::try_from(form.hidden).unwrap_or(0).to_le_bytes());
        put(32, &if small.is_some() { [0; 4] } else { u32::try_from(blocks).unwrap_or(u32::MAX).to_le_bytes() });
        let names = if is_fat32 {
            put(36, &self.table.to_le_bytes()[..4]);
            // The root folder, the second sector, and the copy of both.
            put(44, &[2, 0, 0, 0, 1, 0, 6, 0]);
            64
        } else {
            put(22, &self.table.to_le_bytes()[..2]);
            36
        };
        put(names, &[0x80, 0, 0x29]);
        put(names + 3, &form.serial.to_le_bytes());
        put(names + 7, &label);
        put(
            names + 18,
            match self.kind {
                Kind::Fat12 => b"FAT12   ",
                Kind::Fat16 => b"FAT16   ",
                Kind::Fat32 => b"FAT32   ",
            },
        );
        put(510, &[0x55, 0xaa]);
        sector
    }
}

/// The second sector of a FAT32.
fn free_sector(block: u16, free: u64, next: u64) -> Vec<u8> {
    let mut sector = vec![0; usize::from(block)];
    for (at, bytes) in [(0, b"RRaA"), (484, b"rrAa"), (508, b"\0\0\x55\xaa")] {
        sector[at..at + 4].copy_from_slice(bytes);
    }
    sector[488..492].copy_from_slice(&free.to_le_bytes()[..4]);
    sector[492..496].copy_from_slice(&next.to_le_bytes()[..4]);
    sector
}

/// Writes bytes at a place of the file system.
type WriteAt<'a> = dyn FnMut(u64, &[u8]) -> io::Result<()> + 'a;

impl Tree {
    /// Makes a file system with these files. Bytes that it does not write have no meaning.
    pub(crate) fn write(&self, form: &Form, write: &mut WriteAt<'_>) -> Result<(), FatError> {
        let room = FatError::Room(form.size);
        let has_label = self.label != Self::NO_LABEL;
        let entries = entries(&self.nodes) + usize::from(has_label);
        let Some(shape) = Shape::new(form, entries).filter(|_| entries * ENTRY < FOLDER) else { return Err(room) };
        let block = u64::from(form.block);
        let table = vec![0; usize::try_from(shape.table * block).map_err(|_| room)?];
        let mut builder =
            Builder { form, next: 2, table, data: (shape.reserved + 2 * shape.table) * block, shape, write };
        // The type of the disk, and that all is well.
        builder.mark(0, 0xffff_ff00 | 0xf8);
        builder.mark(1, u32::MAX);

        let mut root = Vec::new();
        if has_label {
            let mut entry = [0; ENTRY];
            entry[..11].copy_from_slice(&self.label);
            entry[11] = IS_LABEL;
            root.extend_from_slice(&entry);
        }
        let root_length = entries * ENTRY;
        if builder.shape.kind == Kind::Fat32 {
            let first = builder.chain(root_length.max(1) as u64)?;
            builder.folder(&self.nodes, root, first, 0, "")?;
        } else {
            let at = builder.data;
            builder.data += builder.shape.root * block;
            root = builder.entries(&self.nodes, root, 0, "")?;
            root.resize(usize::try_from(builder.shape.root * block).unwrap_or(root_length), 0);
            builder.put(at, &root)?;
        }
        builder.finish(self.label)
    }
}

/// How many entries a folder with these has, without its own.
fn entries(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| node.name.entries()).sum()
}

struct Builder<'a, 'b> {
    form: &'a Form,
    shape: Shape,
    table: Vec<u8>,
    /// The first free cluster.
    next: u64,
    /// Where the first cluster is, in bytes.
    data: u64,
    write: &'a mut WriteAt<'b>,
}

impl Builder<'_, '_> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), FatError> {
        (self.write)(at, bytes).map_err(FatError::Write)
    }

    fn mark(&mut self, cluster: u64, next: u32) {
        // Of an entry of 32 bits, the highest four are not used.
        self.shape.kind.set(&mut self.table, usize::try_from(cluster).unwrap_or_default(), next & 0x0fff_ffff);
    }

    fn cluster(&self) -> u64 {
        self.shape.per_cluster * u64::from(self.form.block)
    }

    fn at(&self, cluster: u32) -> u64 {
        self.data + (u64::from(cluster) - 2) * self.cluster()
    }

    /// Clusters for `length` bytes, which are not none: the first one.
    fn chain(&mut self, length: u64) -> Result<u32, FatError> {
        let room = || FatError::Room(self.form.size);
        let first = self.next;
        let end = first + length.div_ceil(self.cluster());
        if end > self.shape.clusters + 2 {
            return Err(room());
        }
        let (start, last) = (u32::try_from(first).map_err(|_| room())?, u32::try_from(end - 1).map_err(|_| room())?);
        for cluster in start..last {
            self.mark(cluster.into(), cluster + 1);
        }
        self.mark(last.into(), u32::MAX);
        self.next = end;
        Ok(start)
    }

    /// Writes a folder to its clusters, which begin with `first`.
    fn folder(&mut self, nodes: &[Node], own: Vec<u8>, first: u32, depth: u32, path: &str) -> Result<(), FatError> {
        let is_root = depth == 0;
        let mut bytes = self.entries(nodes, own, if is_root { 0 } else { first }, path)?;
        let whole = (bytes.len().max(1) as u64).next_multiple_of(self.cluster());
        bytes.resize(usize::try_from(whole).map_err(|_| FatError::Folder(path.to_owned()))?, 0);
        self.put(self.at(first), &bytes)
    }

    /// The entries of a folder after `own`, with their contents written. `cluster` is what their `..` leads to.
    fn entries(&mut self, nodes: &[Node], own: Vec<u8>, cluster: u32, path: &str) -> Result<Vec<u8>, FatError> {
        let mut bytes = own;
        for node in nodes {
            let path = super::joined(path, &node.name);
            let (first, size) = match &node.content {
                Content::File(content) if content.is_empty() => (0, 0),
                Content::File(content) => {
                    let size = u32::try_from(content.len()).map_err(|_| FatError::Room(self.form.size))?;
                    let first = self.chain(size.into())?;
                    self.put(self.at(first), content)?;
                    (first, size)
                }
                Content::Folder(inner) => {
                    let length = (entries(inner) + 2) * ENTRY;
                    if length > FOLDER {
                        return Err(FatError::Folder(path));
                    }
                    let first = self.chain(length as u64)?;
                    let own = [dots(&node.name, ".", first), dots(&node.name, "..", cluster)].concat();
                    self.folder(inner, own, first, 1, &path)?;
                    (first, 0)
                }
            };
            bytes.extend_from_slice(&node.name.to_bytes(first, size));
        }
        Ok(bytes)
    }

    /// Writes what leads to all that.
    fn finish(mut self, label: [u8; 11]) -> Result<(), FatError> {
        let block = u64::from(self.form.block);
        let boot = self.shape.boot_sector(self.form, label);
        let free = self.shape.clusters + 2 - self.next;
        let mut reserved = vec![0; usize::try_from(self.shape.reserved * block).unwrap_or_default()];
        reserved[..boot.len()].copy_from_slice(&boot);
        if self.shape.kind == Kind::Fat32 {
            let second = free_sector(self.form.block, free, self.next);
            for at in [0, 6 * boot.len()] {
                reserved[at..at + boot.len()].copy_from_slice(&boot);
                reserved[at + boot.len()..at + 2 * boot.len()].copy_from_slice(&second);
            }
        }
        self.put(0, &reserved)?;
        let table = std::mem::take(&mut self.table);
        for number in 0..2 {
            self.put((self.shape.reserved + number * self.shape.table) * block, &table)?;
        }
        Ok(())
    }
}

/// The entry of a folder for itself or for the one that it is in, with its dates.
fn dots(folder: &Name, name: &str, cluster: u32) -> Vec<u8> {
    let mut own = Name { long: Vec::new(), entry: folder.entry };
    own.entry[..11].fill(b' ');
    own.entry[..name.len()].copy_from_slice(name.as_bytes());
    (own.entry[11], own.entry[12]) = (IS_FOLDER, 0);
    own.to_bytes(cluster, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_any_size_is_one_kind_without_doubt() {
        for block in [512_u16, 4096] {
            for size in (14 << 20..=(1 << 30)).step_by(511 * 4096) {
                let form = Form { size, block, hidden: 0, serial: 0 };
                let shape = Shape::new(&form, 0).unwrap();
                let blocks = u64::from(block);
                let data = shape.reserved + 2 * shape.table + shape.root;
                assert_eq!(shape.clusters, (size / blocks - data) / shape.per_cluster);
                assert_eq!(shape.kind == Kind::Fat32, size >= LARGE, "{size}");
                assert!([4085, 65525].iter().all(|border| shape.clusters.abs_diff(*border) > DOUBT), "{size}");
                assert!(shape.table * blocks >= shape.kind.table(shape.clusters + 2));
                assert!(shape.reserved < 65536 && shape.table < 65536 && data % shape.per_cluster == 0);
            }
        }
    }
}
