//! The files of a FAT file system, read and written without other programs: those have an opinion on names.

mod build;
mod name;
mod volume;

use std::collections::BTreeSet;
use std::io;

use disks::disk::human_size;
use thiserror::Error;

pub(crate) use build::Form;
use name::Name;
use volume::Volume;

/// Folders in folders, beyond which nobody has files; Windows has paths of 260 characters.
const DEPTH: usize = 128;
/// The longest folder (Microsoft's FAT specification, "Directory Structure").
const FOLDER: usize = 65536 * name::ENTRY;
const IS_LABEL: u8 = 0x08;
const IS_FOLDER: u8 = 0x10;

/// Why files could not be read or put on a file system.
#[derive(Debug, Error)]
pub(crate) enum FatError {
    #[error("the EFI system partition has no FAT file system")]
    None,
    #[error("failed to read its file system at byte {at}")]
    Read { at: u64, source: io::Error },
    #[error("the file system is damaged: {0} is not as long as it says, or shares its place; run fsck.vfat first")]
    Damaged(String),
    #[error("the folders of {0} go deeper than {DEPTH}")]
    Deep(String),
    #[error("{0} is a file on one and a folder on the other; rename it on the stick first")]
    Conflict(String),
    #[error("the folder {0} has more entries than one can have")]
    Folder(String),
    #[error("its files need more than {}", human_size(*.0))]
    Large(u64),
    #[error("the files need more than the {} of the partition", human_size(*.0))]
    Room(u64),
    #[error("failed to lay out a file system")]
    Write(#[source] io::Error),
}

/// Reads bytes at a place of the file system.
pub(crate) type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// The files and folders of a file system, with all that it says of them, and its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    label: [u8; 11],
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    name: Name,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    File(Vec<u8>),
    Folder(Vec<Node>),
}

impl Tree {
    const NO_LABEL: [u8; 11] = *b"NO NAME    ";

    /// Reads a whole file system, whose files have at most `room` bytes.
    pub(crate) fn read(read: &mut ReadAt<'_>, room: u64) -> Result<Self, FatError> {
        let mut sector = [0; 512];
        read(0, &mut sector).map_err(|source| FatError::Read { at: 0, source })?;
        let volume = Volume::parse(&sector)?;
        let table = read_vec(read, volume.table.0, volume.table.1)?;
        let mut reader = Reader { used: volume.none_used(), volume, table, read, room, left: room };
        let root = match reader.volume.root_cluster {
            Some(cluster) => reader.chain(cluster, None, "/")?,
            None => read_vec(reader.read, reader.volume.root.0, reader.volume.root.1)?,
        };
        let label = name::parse(&root).iter().find(|name| name.entry[11] & IS_LABEL != 0).map(|name| {
            let mut label = [0; 11];
            label.copy_from_slice(name.short());
            label
        });
        Ok(Self { label: label.unwrap_or(Self::NO_LABEL), nodes: reader.folder(&root, "", 0)? })
    }

    /// Moves what `other` has and this has not over here. The files moved, by their path; empty folders with a `/`
    /// behind.
    pub(crate) fn merge(&mut self, other: Self) -> Result<Vec<String>, FatError> {
        let mut moved = Vec::new();
        merge(&mut self.nodes, other.nodes, "", &mut moved)?;
        if other.label != Self::NO_LABEL {
            self.label = other.label;
        }
        moved.sort_unstable();
        Ok(moved)
    }

    /// The names of the files in a folder, without those in its folders.
    pub(crate) fn files_in(&self, folder: &str) -> Vec<String> {
        let mut nodes = &self.nodes;
        for name in names_of(folder) {
            match nodes.iter().find(|node| node.name.is_called(name)) {
                Some(Node { content: Content::Folder(inner), .. }) => nodes = inner,
                _ => return Vec::new(),
            }
        }
        let files = nodes.iter().filter(|node| matches!(node.content, Content::File(_)));
        files.map(|node| node.name.shown()).collect()
    }

    /// Takes the files of a folder away that `is_one` chooses by their names.
    pub(crate) fn remove_in(&mut self, folder: &str, is_one: impl Fn(&str) -> bool) {
        let mut nodes = &mut self.nodes;
        for name in names_of(folder) {
            match nodes.iter_mut().find(|node| node.name.is_called(name)) {
                Some(Node { content: Content::Folder(inner), .. }) => nodes = inner,
                _ => return,
            }
        }
        nodes.retain(|node| !matches!(node.content, Content::File(_)) || !is_one(&node.name.shown()));
    }

    /// Adds a file, in folders that it makes where they are missing. The file must not be there. It and they have the
    /// dates of the first entry in the root.
    pub(crate) fn add(&mut self, path: &str, content: &[u8]) -> Result<(), FatError> {
        const FILE: u8 = 0x20;
        self.add_node(path, FILE, Content::File(content.to_vec()))
    }

    fn add_node(&mut self, path: &str, attributes: u8, content: Content) -> Result<(), FatError> {
        let dates = self.nodes.first().map(|node| node.name.clone());
        let named = |text: &str, attributes, nodes: &[Node]| {
            let name = Name::new(text, attributes, dates.as_ref(), &shorts(nodes));
            name.ok_or_else(|| FatError::Folder(path.to_owned()))
        };
        let mut nodes = &mut self.nodes;
        let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
        for folder in names_of(folders) {
            let index = match nodes.iter().position(|node| node.name.is_called(folder)) {
                Some(index) => index,
                None => {
                    let name = named(folder, IS_FOLDER, nodes)?;
                    nodes.push(Node { name, content: Content::Folder(Vec::new()) });
                    nodes.len() - 1
                }
            };
            let Content::Folder(inner) = &mut nodes[index].content else {
                return Err(FatError::Conflict(path.to_owned()));
            };
            nodes = inner;
        }
        let name = named(file, attributes, nodes)?;
        nodes.push(Node { name, content });
        Ok(())
    }

    /// Files with these paths and contents.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &[u8])]) -> Self {
        let mut tree = Self { label: *b"DISKOMATOR ", nodes: Vec::new() };
        for (path, content) in files {
            tree.add(path, content).unwrap();
        }
        tree
    }

    /// The content of a file.
    #[cfg(test)]
    pub(crate) fn content(&self, path: &str) -> Option<&[u8]> {
        let mut nodes = &self.nodes;
        let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
        for name in names_of(folders) {
            match &nodes.iter().find(|node| node.name.is_called(name))?.content {
                Content::Folder(inner) => nodes = inner,
                Content::File(_) => return None,
            }
        }
        match &nodes.iter().find(|node| node.name.is_called(file))?.content {
            Content::File(content) => Some(content),
            Content::Folder(_) => None,
        }
    }
}

/// The names of the folders on a path.
fn names_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// The short names in a folder.
fn shorts(nodes: &[Node]) -> BTreeSet<[u8; 11]> {
    nodes.iter().filter_map(|node| node.name.short().try_into().ok()).collect()
}

fn joined(path: &str, name: &Name) -> String {
    if path.is_empty() { name.shown() } else { format!("{path}/{}", name.shown()) }
}

fn merge(into: &mut Vec<Node>, from: Vec<Node>, path: &str, moved: &mut Vec<String>) -> Result<(), FatError> {
    for mut node in from {
        let path = joined(path, &node.name);
        if let Some(own) = into.iter_mut().find(|own| own.name.is_same(&node.name)) {
            match (&mut own.content, node.content) {
                (Content::Folder(own), Content::Folder(nodes)) => merge(own, nodes, &path, moved)?,
                (Content::File(_), Content::File(_)) => {}
                _ => return Err(FatError::Conflict(path)),
            }
            continue;
        }
        // Of two long names with one short name, one gets another: nobody calls a file by that.
        let taken = shorts(into);
        if let Some(own) = into.iter_mut().find(|own| own.name.short() == node.name.short()) {
            let renamed = if node.name.long.is_empty() { &mut own.name } else { &mut node.name };
            renamed.rename_short(&taken).ok_or_else(|| FatError::Folder(path.clone()))?;
        }
        list(&node, path, moved);
        into.push(node);
    }
    Ok(())
}

fn list(node: &Node, path: String, files: &mut Vec<String>) {
    match &node.content {
        Content::File(_) => files.push(path),
        Content::Folder(nodes) if nodes.is_empty() => files.push(path + "/"),
        Content::Folder(nodes) => nodes.iter().for_each(|node| list(node, joined(&path, &node.name), files)),
    }
}

/// The state of reading a file system.
struct Reader<'a, 'b> {
    volume: Volume,
    table: Vec<u8>,
    used: Vec<bool>,
    read: &'a mut ReadAt<'b>,
    room: u64,
    left: u64,
}

impl Reader<'_, '_> {
    fn folder(&mut self, bytes: &[u8], path: &str, depth: usize) -> Result<Vec<Node>, FatError> {
        let mut nodes = Vec::new();
        for mut name in name::parse(bytes) {
            let is_own = [&b".          "[..], b"..         "].contains(&name.short());
            if is_own || name.entry[11] & IS_LABEL != 0 {
                continue;
            }
            let path = joined(path, &name);
            let entry = &name.entry;
            let high = if self.volume.root_cluster.is_some() { [entry[20], entry[21]] } else { [0; 2] };
            let first = u32::from_le_bytes([entry[26], entry[27], high[0], high[1]]);
            let size = u32::from_le_bytes([entry[28], entry[29], entry[30], entry[31]]);
            let is_folder = entry[11] & IS_FOLDER != 0;
            name.forget_place();
            let content = if is_folder {
                if depth == DEPTH {
                    return Err(FatError::Deep(path));
                }
                let bytes = self.chain(first, None, &path)?;
                Content::Folder(self.folder(&bytes, &path, depth + 1)?)
            } else if size == 0 {
                Content::File(Vec::new())
            } else {
                Content::File(self.chain(first, Some(size.into()), &path)?)
            };
            nodes.push(Node { name, content });
        }
        Ok(nodes)
    }

    /// The content of a chain of clusters: `size` bytes, or all.
    fn chain(&mut self, first: u32, size: Option<u64>, path: &str) -> Result<Vec<u8>, FatError> {
        let damaged = || FatError::Damaged(path.to_owned());
        let clusters = self.volume.chain(&self.table, first, &mut self.used).ok_or_else(damaged)?;
        let all = clusters.len() as u64 * self.volume.cluster;
        let size = size.unwrap_or(all);
        if size > all || (size == all && size == 0) {
            return Err(damaged());
        }
        self.left = self.left.checked_sub(size).ok_or(FatError::Large(self.room))?;
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| FatError::Large(self.room))?];
        let mut rest = &mut bytes[..];
        // Clusters that follow each other are read at once.
        for run in clusters.chunk_by(|one, other| one + 1 == *other) {
            let length = (run.len() as u64 * self.volume.cluster).min(rest.len() as u64);
            let (own, others) = rest.split_at_mut(usize::try_from(length).unwrap_or_default());
            let at = self.volume.at(run[0]);
            (self.read)(at, own).map_err(|source| FatError::Read { at, source })?;
            rest = others;
        }
        Ok(bytes)
    }
}

fn read_vec(read: &mut ReadAt<'_>, at: u64, length: u64) -> Result<Vec<u8>, FatError> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| FatError::None)?];
    read(at, &mut bytes).map_err(|source| FatError::Read { at, source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
    use std::path::Path;
    use std::process::Command;

    use tempfile::TempDir;

    fn of_bytes(bytes: &[u8]) -> Result<Tree, FatError> {
        let mut disk = Cursor::new(bytes);
        let mut read = |at: u64, into: &mut [u8]| disk.seek(SeekFrom::Start(at)).and_then(|_| disk.read_exact(into));
        Tree::read(&mut read, 64 << 20)
    }

    fn written(tree: &Tree, size: u64, block: u16) -> Result<Vec<u8>, FatError> {
        let mut disk = vec![0; usize::try_from(size).unwrap()];
        let form = Form { size, block, hidden: 2048, serial: 0x1234_5678 };
        tree.write(&form, &mut |at, bytes| {
            disk[usize::try_from(at).unwrap()..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        })?;
        Ok(disk)
    }

    /// Another implementation of FAT.
    fn run(program: &str, arguments: &[&str]) -> String {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let mut command = Command::new(program);
        command.args(arguments).env("PATH", path).env("MTOOLSRC", "/dev/null").env("MTOOLS_SKIP_CHECK", "1");
        // Where the one has names, the other finds them.
        let output = command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    const NAMES: [&str; 9] = [
        "Gäste.txt",
        "日本.txt",
        "中国.txt",
        "UPPER.TXT",
        "lower.txt",
        "a long name with.many.dots.jpeg",
        "an empty folder/",
        "Ordner/tief/tiefer/Ö.txt",
        "Ordner/+ and , and = and (x).txt",
    ];

    /// A file system as people have it, made by mkfs.vfat and mtools.
    fn made(folder: &Path, options: &[&str]) -> Vec<u8> {
        let image = folder.join("made.vfat");
        let image = image.to_str().unwrap();
        File::create(image).unwrap().set_len(40 << 20).unwrap();
        run("mkfs.vfat", &[options, &["-n", "MY STICK", image]].concat());
        let files = folder.join("files");
        for name in NAMES {
            let path = files.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.ends_with('/') { fs::create_dir(path).unwrap() } else { fs::write(path, name.repeat(999)).unwrap() }
        }
        fs::write(files.join("nothing"), "").unwrap();
        for number in 0..600 {
            fs::write(files.join(format!("{number} of many files.txt")), "x").unwrap();
        }
        let mut all: Vec<_> = fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        // The root of a small file system has only so many entries.
        let (inner, outer) = all.split_at(all.len() - 12);
        run("mmd", &["-i", image, "::/many"]);
        for (from, to) in [(inner, "::/many"), (outer, "::/")] {
            let from: Vec<&str> = from.iter().map(|path| path.to_str().unwrap()).collect();
            run("mcopy", &[&["-s", "-m", "-Q", "-i", image][..], &from, &[to]].concat());
        }
        run("mattrib", &["+r", "+h", "+s", "-a", "-i", image, "::/UPPER.TXT"]);
        fs::read(image).unwrap()
    }

    #[test]
    fn files_are_kept_with_names_dates_and_attributes_as_other_systems_see_them() {
        let folder = TempDir::new().unwrap();
        for (index, options) in
            [&["-F12", "-s64"][..], &["-F16"], &["-F32", "-s1"], &["-S4096", "-F12", "-s4"]].iter().enumerate()
        {
            let place = folder.path().join(index.to_string());
            fs::create_dir(&place).unwrap();
            let bytes = made(&place, options);
            let old = of_bytes(&bytes).unwrap();
            let mut tree = Tree::of(&[("EFI/BOOT/BOOTX64.EFI", b"new")]);
            let kept = tree.merge(old.clone()).unwrap();
            assert_eq!(tree.label, *b"MY STICK   ");
            assert_eq!(kept.len(), NAMES.len() + 601, "{kept:?}");
            for name in ["many/an empty folder/", "中国.txt", "many/599 of many files.txt", "lower.txt"] {
                assert!(
                    kept.iter().any(|kept| kept.trim_start_matches("many/") == name.trim_start_matches("many/")),
                    "{name}"
                );
            }
            let forms = [(40 << 20, 512), (14 << 20, 4096), (261 << 20, 4096)];
            // The large one is slow, and alike for all.
            for (size, block) in forms.into_iter().take(if index == 0 { 3 } else { 2 }) {
                let written = written(&tree, size, block).unwrap();
                assert_eq!(of_bytes(&written).unwrap(), tree);
                let image = place.join("written.vfat");
                fs::write(&image, &written).unwrap();
                let image = image.to_str().unwrap();
                run("fsck.vfat", &["-n", image]);
                let listed = |image: &str| -> Vec<String> {
                    // Sizes, dates, and both kinds of names.
                    let list = run("mdir", &["-/", "-a", "-i", image, "::/"]);
                    let is_own = |line: &str| ["EFI", "BOOT"].iter().any(|own| line.contains(own));
                    let is_entry = |line: &&str| line.len() > 30 && !line.starts_with(['.', ' ']) && !is_own(line);
                    let mut list: Vec<String> = list.lines().filter(is_entry).map(str::to_owned).collect();
                    list.sort_unstable();
                    list
                };
                let made = listed(place.join("made.vfat").to_str().unwrap());
                assert!(made.len() > 600, "{made:?}");
                assert_eq!(listed(image), made);
                assert!(run("mattrib", &["-i", image, "::/UPPER.TXT"]).contains("SHR"));
                for name in NAMES.iter().filter(|name| !name.ends_with('/')) {
                    let all = run("mdir", &["-/", "-b", "-a", "-i", image, "::/"]);
                    let path = all.lines().find(|path| path.ends_with(&format!("/{name}"))).unwrap();
                    let content = run("mtype", &["-i", image, path]);
                    assert!(content == name.repeat(999), "{name}");
                }
            }
        }
    }

    fn folder(nodes: &[&str]) -> Tree {
        let mut tree = Tree::of(&[]);
        tree.add_node("x", IS_FOLDER, Content::Folder(Vec::new())).unwrap();
        for node in nodes {
            tree.add_node(node, 0x27, Content::File(node.as_bytes().to_vec())).unwrap();
        }
        tree
    }

    #[test]
    fn what_is_there_stays_and_the_rest_is_taken_over() {
        let mut new = Tree::of(&[("EFI/BOOT/BOOTX64.EFI", b"new")]);
        let old = Tree::of(&[
            ("efi/Boot/bootx64.efi", b"old"),
            ("efi/Boot/BOOTX64.EFI.extra.d/a.addon.efi", b"addon"),
            ("efi/Linux/other.efi", b"other"),
            ("a note.txt", b"note"),
        ]);
        let moved = new.merge(old).unwrap();
        assert_eq!(moved, ["a note.txt", "efi/Boot/BOOTX64.EFI.extra.d/a.addon.efi", "efi/Linux/other.efi"]);
        let Content::Folder(efi) = &new.nodes[0].content else { panic!() };
        let Content::Folder(boot) = &efi[0].content else { panic!() };
        assert_eq!(boot[0].content, Content::File(b"new".to_vec()));
        assert_eq!(new.nodes.len(), 2);
    }

    #[test]
    fn a_file_is_added_and_taken_away_whatever_the_case_of_its_folders() {
        let mut tree = Tree::of(&[("EFI/BOOT/BOOTX64.EFI", b"new"), ("Loader/other.conf", b"x")]);
        tree.add("loader/credentials/diskomator.access.cred", b"ask").unwrap();
        let back = of_bytes(&written(&tree, 20 << 20, 512).unwrap()).unwrap();
        assert_eq!(back, tree);
        assert_eq!(tree.nodes.len(), 2);
        assert_eq!(back.files_in("LOADER/Credentials"), ["diskomator.access.cred"]);
        assert_eq!(back.content("loader/credentials/DISKOMATOR.access.cred"), Some(&b"ask"[..]));
        assert!(back.files_in("loader/nothing").is_empty() && back.files_in("loader/other.conf").is_empty());
        tree.remove_in("loader/CREDENTIALS", |name| name == "diskomator.access.cred");
        assert!(tree.files_in("loader/credentials").is_empty());
        assert!(matches!(tree.add("loader/other.conf/x", b""), Err(FatError::Conflict(_))));
    }

    #[test]
    fn names_that_are_alike_in_short_are_all_kept() {
        let mut new = Tree::of(&[("diskomator one.efi", b"1")]);
        let old = Tree::of(&[
            ("diskomator two.efi", b"2"),
            ("日本.txt", b"3"),
            ("中国.txt", b"4"),
            ("Diskomator ONE.efi", b"5"),
        ]);
        assert_eq!(new.merge(old).unwrap(), ["diskomator two.efi", "中国.txt", "日本.txt"]);
        // One that has only a short name keeps it.
        let mut short = Tree::of(&[("x", b"6")]);
        short.nodes[0].name.long.clear();
        short.nodes[0].name.entry[..11].copy_from_slice(b"DISKOM~1EFI");
        assert_eq!(new.merge(short).unwrap(), ["DISKOM~1.EFI"]);
        assert_eq!(shorts(&new.nodes).len(), 5);
        assert_eq!(new.nodes.iter().filter(|node| node.name.shown() == "DISKOM~1.EFI").count(), 1);
        let back = of_bytes(&written(&new, 20 << 20, 512).unwrap()).unwrap();
        assert_eq!(back, new);
    }

    #[test]
    fn a_small_stick_takes_more_files_in_its_root_than_others_have() {
        let names: Vec<String> = (0..3000).map(|number| format!("🎠 {number}. ")).collect();
        let tree = folder(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for block in [512, 4096] {
            let bytes = written(&tree, 20 << 20, block).unwrap();
            assert_eq!(of_bytes(&bytes).unwrap(), tree, "with attributes, and ends that no other system would write");
        }
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_told_of_and_not_lost() {
        let mut new = Tree::of(&[("EFI/BOOT/BOOTX64.EFI", b"new")]);
        let error = new.merge(Tree::of(&[("efi/boot", b"a file")])).unwrap_err();
        assert!(matches!(&error, FatError::Conflict(path) if path == "efi/boot"), "{error}");
    }

    #[test]
    fn files_that_do_not_fit_are_told_of() {
        let large = vec![1; 15 << 20];
        let tree = Tree::of(&[("large", &large)]);
        assert!(written(&tree, 16 << 20, 512).is_ok());
        assert!(matches!(written(&tree, 15 << 20, 512), Err(FatError::Room(_))));
        let bytes = written(&tree, 16 << 20, 512).unwrap();
        let mut disk = Cursor::new(&bytes);
        let mut read = |at: u64, into: &mut [u8]| disk.seek(SeekFrom::Start(at)).and_then(|_| disk.read_exact(into));
        assert!(matches!(Tree::read(&mut read, 14 << 20), Err(FatError::Large(_))));
    }

    #[test]
    fn a_damaged_file_system_is_told_of_and_nothing_of_it_is_lost_silently() {
        let large: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
        let tree = Tree::of(&[("a/b/c.txt", b"c"), ("large", &large), ("other", &large)]);
        for size in [16 << 20, 300 << 20] {
            let mut bytes = written(&tree, size, 512).unwrap();
            let volume = Volume::parse(&bytes[..512].try_into().unwrap()).unwrap();
            let table = usize::try_from(volume.table.0).unwrap();
            let end = u32::MAX;
            // A chain that ends early, that leads into another one, to itself, to a bad cluster, and beyond the end.
            for next in [end, 5, 20, 0, 1, volume.kind.bad(), 0x0fff_fff0] {
                let before = bytes[table..table + 4096].to_vec();
                let kind = volume.kind;
                let cluster = u32::try_from(large.len() / usize::try_from(volume.cluster).unwrap()).unwrap();
                let place = usize::try_from(cluster).unwrap();
                kind.set(&mut bytes[table..], place, next & 0x0fff_ffff);
                let error = of_bytes(&bytes).unwrap_err();
                assert!(matches!(&error, FatError::Damaged(path) if path == "large"), "{next:#x}: {error}");
                bytes[table..table + 4096].copy_from_slice(&before);
            }
        }
    }

    #[test]
    fn no_file_system_whatever_its_bytes_ends_the_program() {
        let tree = Tree::of(&[("a/b/c.txt", b"c"), ("a/d", b""), ("large", &[1; 9999])]);
        let whole = written(&tree, 14 << 20, 4096).unwrap();
        let volume = Volume::parse(&whole[..512].try_into().unwrap()).unwrap();
        let parts = [
            0..512,
            volume.table.0..volume.table.0 + 64,
            volume.root.0..volume.root.0 + 512,
            volume.at(2)..volume.at(3),
        ];
        let mut state = 1_u64;
        let mut bytes = whole.clone();
        let mut damaged = 0;
        for _ in 0..3000 {
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let changed: Vec<usize> = (0..=random(3))
                .map(|_| {
                    let part = &parts[usize::try_from(random(4)).unwrap()];
                    usize::try_from(part.start + random(part.end - part.start)).unwrap()
                })
                .collect();
            for at in &changed {
                bytes[*at] = u8::try_from(random(256)).unwrap();
            }
            damaged += usize::from(of_bytes(&bytes).is_err());
            for at in changed {
                bytes[at] = whole[at];
            }
        }
        assert!(damaged > 100, "{damaged}");
        assert_eq!(of_bytes(&whole).unwrap(), tree);
    }
}
