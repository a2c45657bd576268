//! The reader of sysfs, against trees taken from real kernels.

// The exemption for tests does not reach what tests call.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use disks::disk::{Answer, Disk};
use disks::selection::Selection;
use kernel::root::{FileError, Root};
use local::probe::Prober;
use local::sysfs;
use netproto::net::Mac;

/// A tree laid out from its description, gone when dropped.
struct Tree(tempfile::TempDir);

impl Tree {
    fn lay_out(name: &str) -> Self {
        let description = fs::read_to_string(format!("tests/sysfs/{name}.tree")).unwrap();
        let tree = Self(tempfile::tempdir().unwrap());
        for line in description.lines().filter(|line| !line.starts_with('#')) {
            if let Some((path, target)) = line.split_once(" -> ") {
                let target = tree.0.path().join(target);
                fs::create_dir_all(&target).unwrap();
                std::os::unix::fs::symlink(target, tree.parent_made(path)).unwrap();
            } else if let Some((path, text)) = line.split_once(" = ") {
                fs::write(tree.parent_made(path), format!("{text}\n")).unwrap();
            } else if let Some((path, hex)) = line.split_once(" : ") {
                let bytes: Vec<u8> =
                    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
                fs::write(tree.parent_made(path), bytes).unwrap();
            } else {
                fs::create_dir_all(tree.0.path().join(line)).unwrap();
            }
        }
        tree
    }

    fn parent_made(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

/// The disks, once all have answered, and the partitions of those in `in_parts`.
fn disks(root: &Root, in_parts: &Selection) -> (Vec<Disk>, Vec<FileError>) {
    let mut prober = Prober::new(root, || {});
    sysfs::ask_disks(root, &mut prober).unwrap();
    prober.wait(Duration::from_secs(10));
    sysfs::disks(root, &prober, in_parts).unwrap()
}

#[test]
fn the_disks_of_a_real_machine_are_read() {
    let tree = Tree::lay_out("qemu");
    let (disks, errors) = disks(&Root::at(tree.0.path()), &Selection::none());
    assert!(errors.is_empty(), "{errors:?}");
    let mut seen = String::new();
    for disk in disks {
        writeln!(
            seen,
            "{} {} {} {} ro={} {:?} {:?} {:?} {:?} {} {}",
            disk.name,
            disk.diskseq,
            disk.size,
            disk.bus,
            disk.read_only,
            disk.model.unwrap_or_default(),
            disk.serial.unwrap_or_default(),
            disk.firmware.unwrap_or_default(),
            disk.wwid.unwrap_or_default(),
            disk.bus_path,
            disk.remote,
        )
        .unwrap();
    }
    assert_eq!(seen, fs::read_to_string("tests/sysfs/qemu.disks").unwrap(), "got:\n{seen}");
}

#[test]
fn a_disk_that_cannot_be_read_does_not_hide_the_others() {
    let tree = Tree::lay_out("qemu");
    let root = Root::at(tree.0.path());
    let size = root.path("sys/block/sda/size");
    fs::remove_file(&size).unwrap();
    fs::create_dir(&size).unwrap();
    let (disks, errors) = disks(&root, &Selection::none());
    assert_eq!(disks.len(), 5);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().contains("sda/size"), "{}", errors[0]);
}

#[test]
fn a_disk_is_mounted_when_a_partition_of_it_is() {
    let tree = Tree::lay_out("qemu");
    let root = Root::at(tree.0.path());
    for (path, text) in [
        ("proc/self/mounts", "proc /proc proc rw 0 0\n/dev/disk/by-label/root / ext4 rw 0 0\n"),
        ("proc/swaps", "Filename Type Size Used Priority\n/dev/vda partition 1 0 -2\n"),
        ("sys/block/sda/sda2/partition", "2\n"),
        ("dev/sda2", ""),
        ("dev/vda", ""),
    ] {
        fs::write(tree.parent_made(path), text).unwrap();
    }
    std::os::unix::fs::symlink("../../sda2", tree.parent_made("dev/disk/by-label/root")).unwrap();
    let (disks, _) = disks(&root, &Selection::none());
    let mounted: Vec<&str> = disks.iter().filter(|disk| disk.mounted).map(|disk| disk.name.as_str()).collect();
    assert_eq!(mounted, ["sda", "vda"]);
}

#[test]
fn a_disk_is_held_when_a_partition_of_it_is() {
    let tree = Tree::lay_out("qemu");
    let root = Root::at(tree.0.path());
    fs::create_dir_all(root.path("sys/block/sda/sda2/holders/dm-0")).unwrap();
    fs::create_dir_all(root.path("sys/block/sda/sda3/holders/dm-0")).unwrap();
    fs::create_dir_all(root.path("sys/block/dm-0/slaves/sda2")).unwrap();
    fs::create_dir_all(root.path("sys/block/dm-0/slaves/sda3")).unwrap();
    let (disks, _) = disks(&root, &Selection::none());
    let held: Vec<_> = disks.iter().filter(|disk| !disk.holders.is_empty()).collect();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].name.as_str(), &held[0].holders[..]), ("sda", &["dm-0".to_owned()][..]));
}

#[test]
fn partitions_stand_for_the_disk_where_they_are_asked_for() {
    let tree = Tree::lay_out("qemu");
    let root = Root::at(tree.0.path());
    for (part, number, sectors, start) in [("sda10", "10\n", "80\n", "2064\n"), ("sda2", "2\n", "16\n", "2048\n")] {
        let directory = format!("sys/block/sda/{part}");
        fs::write(tree.parent_made(format!("{directory}/partition")), number).unwrap();
        fs::write(root.path(format!("{directory}/size")), sectors).unwrap();
        fs::write(root.path(format!("{directory}/start")), start).unwrap();
        fs::write(root.path(format!("{directory}/ro")), "0\n").unwrap();
    }
    let (disks, errors) = disks(&root, &"sda,vda".parse().unwrap());
    assert!(errors.is_empty(), "{errors:?}");
    let whole = disks.iter().find(|disk| disk.name == "sda").unwrap();
    let parts: Vec<&Disk> = disks.iter().filter(|disk| disk.partition.is_some()).collect();
    assert_eq!(
        parts.iter().map(|part| (part.name.as_str(), part.size, part.start)).collect::<Vec<_>>(),
        [("sda2", 16 * 512, 2048), ("sda10", 80 * 512, 2064)]
    );
    assert!(whole.in_parts);
    assert_eq!(parts[0].serial, whole.serial.as_ref().map(|serial| format!("{serial}-part2")));
    assert_eq!(parts[0].bus_path, format!("{}-part2", whole.bus_path));
    assert_eq!(parts[0].diskseq, whole.diskseq);
    // One without a partition table is exported as it is.
    assert!(!disks.iter().find(|disk| disk.name == "vda").unwrap().in_parts);
}

/// A disk that hangs, as far as a test can make one: a FIFO that nobody writes
/// to blocks who opens it, but for `O_NONBLOCK`, so the serial number is one.
#[test]
fn a_disk_that_does_not_answer_holds_up_no_other() {
    let tree = Tree::lay_out("qemu");
    let root = Root::at(tree.0.path());
    fs::write(tree.parent_made("dev/vda"), "").unwrap();
    let serial = root.path("sys/block/vda/serial");
    if serial.exists() {
        fs::remove_file(&serial).unwrap();
    }
    nix::unistd::mkfifo(&serial, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut prober = Prober::new(&root, || {});
    let none = Selection::none();
    let answers = |disks: &[Disk]| {
        disks.iter().filter(|disk| disk.answer != Answer::Given).map(|disk| disk.name.clone()).collect::<Vec<_>>()
    };
    // A look alone asks no disk.
    sysfs::disks(&root, &prober, &none).unwrap();
    assert!(prober.next_look().is_none());
    sysfs::ask_disks(&root, &mut prober).unwrap();
    let (mut disks, _) = sysfs::disks(&root, &prober, &none).unwrap();
    // The others have answered before long, on a busy machine, too.
    for _ in 0..50 {
        if answers(&disks) == ["vda"] {
            break;
        }
        prober.wait(Duration::from_millis(200));
        disks = sysfs::disks(&root, &prober, &none).unwrap().0;
    }
    assert_eq!(answers(&disks), ["vda"]);
    assert!(prober.next_look().is_some());
    fs::write(&serial, "LATE\n").unwrap();
    prober.wait(Duration::from_secs(10));
    let (disks, _) = sysfs::disks(&root, &prober, &none).unwrap();
    assert_eq!(answers(&disks), Vec::<String>::new());
    assert_eq!(disks.iter().find(|disk| disk.name == "vda").unwrap().serial.as_deref(), Some("LATE"));
}

#[test]
fn the_card_that_names_the_machine_is_built_in_and_the_lowest_of_those() {
    let tree = Tree(tempfile::tempdir().unwrap());
    // A name, the type of its address (0: the hardware's own), the address's last byte, the bus.
    fs::write(tree.parent_made("sys/devices/pci0/dock/removable"), "removable\n").unwrap();
    for (name, assigned, last, bus) in [
        ("eth0", "0", 5, "pci0"),
        ("eth1", "0", 4, "pci0"),
        ("usb0", "0", 2, "pci0/usb1"),
        ("eth2", "3", 1, "pci0"),
        // In a dock, at a socket for Thunderbolt.
        ("eth3", "0", 3, "pci0/dock/function"),
    ] {
        let device = tree.0.path().join(format!("sys/devices/{bus}/net/{name}"));
        fs::create_dir_all(device.join("device")).unwrap();
        let address = format!("52:54:00:00:00:{last:02x}");
        for (file, text) in [("type", "1"), ("addr_assign_type", assigned), ("address", &address)] {
            fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
        std::os::unix::fs::symlink(device, tree.parent_made(format!("sys/class/net/{name}"))).unwrap();
    }
    let root = Root::at(tree.0.path());
    let mac = |last| Mac([0x52, 0x54, 0, 0, 0, last]);
    let named =
        |links: &[(&str, u8)]| kernel::cards::naming_mac(&root, links.iter().map(|(name, last)| (*name, mac(*last))));
    let all = [("eth0", 5), ("eth1", 4), ("usb0", 2), ("eth2", 1)];
    assert_eq!(named(&all), Some(mac(4)));
    assert_eq!(named(&all[2..]), Some(mac(2)), "plugged in is better than made up");
    assert_eq!(named(&all[3..]), Some(mac(1)));
    // It was given another address, or it is not the link of that name.
    assert_eq!(named(&[("eth0", 1), ("eth1", 4)]), Some(mac(4)));
    assert_eq!(named(&[]), None);
    // The disks' names are made of the same, and of the firmware's UUID.
    let machine = || sysfs::machine(&root).to_string();
    assert_eq!(machine(), "mac-525400000004");
    let uuid = "5f6e1a2c-74b0-4c1e-9d53-0a1b2c3d4e5f";
    fs::write(tree.parent_made("sys/class/dmi/id/product_uuid"), uuid).unwrap();
    assert_eq!(machine(), format!("{uuid}-525400000004"));
    for link in ["eth0", "eth1"] {
        fs::remove_file(root.path(format!("sys/class/net/{link}"))).unwrap();
    }
    assert_eq!(machine(), format!("{uuid}-525400000002"), "plugged in is better than none");
    for link in ["usb0", "eth3"] {
        fs::remove_file(root.path(format!("sys/class/net/{link}"))).unwrap();
    }
    assert_eq!(machine(), uuid);
    assert!(sysfs::has_network_card(&root));
    fs::remove_file(root.path("sys/class/net/eth2")).unwrap();
    fs::create_dir_all(root.path("sys/class/net/lo")).unwrap();
    assert!(!sysfs::has_network_card(&root));
    fs::remove_file(root.path("sys/class/dmi/id/product_uuid")).unwrap();
    fs::write(tree.parent_made("proc/sys/kernel/random/boot_id"), "3f0d6c1e\n").unwrap();
    assert_eq!(machine(), "boot-3f0d6c1e");
}

#[test]
fn thunderbolt_devices_that_wait_are_let_in() {
    let tree = Tree::lay_out("qemu");
    let root = Root::at(tree.0.path());
    for (device, authorized) in [("0-1", "0\n"), ("0-3", "1\n"), ("1-1", "0\n")] {
        fs::write(tree.parent_made(format!("sys/bus/thunderbolt/devices/{device}/authorized")), authorized).unwrap();
    }
    fs::create_dir(root.path("sys/bus/thunderbolt/devices/domain0")).unwrap();
    let (authorized, errors) = sysfs::authorize_thunderbolt(&root);
    assert_eq!(authorized, ["0-1", "1-1"]);
    assert!(errors.is_empty());
    assert_eq!(root.read("sys/bus/thunderbolt/devices/0-1/authorized").unwrap(), "1");
    assert!(sysfs::authorize_thunderbolt(&root).0.is_empty());
}

#[test]
fn links_by_diskseq_come_and_go_with_the_disks() {
    let tree = Tree::lay_out("qemu");
    let root = Root::at(tree.0.path());
    fs::create_dir_all(root.path("dev")).unwrap();
    let (disks, _) = disks(&root, &Selection::none());
    assert!(sysfs::link_by_diskseq(&root, disks.iter()).is_empty());
    assert_eq!(fs::read_link(root.path("dev/disk/by-diskseq/1")).unwrap(), Path::new("../../vda"));
    assert!(sysfs::link_by_diskseq(&root, disks[..1].iter()).is_empty());
    assert_eq!(root.list("dev/disk/by-diskseq").unwrap(), ["3"]);
    fs::create_dir_all(root.path("run/udev/control")).unwrap();
    assert!(sysfs::link_by_diskseq(&root, [].iter()).is_empty());
    assert_eq!(root.list("dev/disk/by-diskseq").unwrap(), ["3"], "where udev runs, the links are its own");
}
