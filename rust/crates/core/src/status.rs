//! What the screen shows, as text.

use std::fmt::Write;
use std::net::IpAddr;

use crate::disk::human_size;
use crate::net::Mac;

/// Everything the screen tells of, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// No disk is exported by itself.
    pub is_by_hand: bool,
    /// The network interfaces, but not the loopback.
    pub links: Vec<Link>,
    /// The disks, exported or not.
    pub disks: Vec<Disk>,
    /// Why there are no disks to show, if they could not be listed.
    pub problem: Option<String>,
    /// How to log in over the network, if that is possible.
    pub ssh: Option<Ssh>,
}

/// How to log in over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The password, which is good once; `None` where keys let in.
    pub password: Option<String>,
    /// The fingerprint of the machine's key.
    pub fingerprint: String,
    /// How many keys let in.
    pub keys: usize,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's name for it.
    pub name: String,
    /// Its hardware address, if it is like Ethernet.
    pub mac: Option<Mac>,
    /// Whether the other end is there.
    pub has_carrier: bool,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Whether it is good on its link only.
    pub is_link_local: bool,
    /// The address; IPv4 sorts before IPv6.
    pub ip: IpAddr,
    /// The length of its network's prefix.
    pub prefix_len: u8,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name for it.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// What the maker calls it.
    pub model: Option<String>,
    /// The maker's number.
    pub serial: Option<String>,
    /// What became of it.
    pub state: DiskState,
}

/// What became of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// Other machines can use it.
    Exported,
    /// Other machines can read it.
    ReadOnly,
    /// Other machines have its controller.
    Passthru,
    /// A drive with nothing in it, which other machines will see once there is.
    NoMedium,
    /// It is about to be exported.
    Waiting,
    /// It is not, and why.
    NotExported(String),
}

/// Longer names are cut; the maker's name and number of NVMe are 40 and 20.
const NAME_MAX: usize = 16;
/// What is shown of a model, in characters.
pub const MODEL_MAX: usize = 30;
const SERIAL_MAX: usize = 20;

/// The status as lines of at most `width` columns.
pub fn render(snapshot: &Snapshot, width: usize) -> String {
    let mut text = String::from("Diskomator\n\n");
    if snapshot.is_by_hand {
        export_lines(&mut text);
    }
    connect_lines(&mut text, &snapshot.links);
    if let Some(ssh) = &snapshot.ssh {
        ssh_lines(&mut text, ssh, &snapshot.links);
    }
    text.push_str("\nNetwork\n");
    link_lines(&mut text, &snapshot.links);
    text.push_str("\nDisks\n");
    match &snapshot.problem {
        Some(problem) => wrapped(&mut text, &printable(problem), width),
        None => disk_lines(&mut text, &snapshot.disks, width),
    }
    text.lines().map(|line| cut(line, width) + "\n").collect()
}

/// How to export disks where that takes a word of somebody. First of all, as
/// nothing below is of use before.
fn export_lines(text: &mut String) {
    text.push_str(
        "No disk is exported by itself: diskomator.export on the command line says so.\n\
         To export all disks, press Alt-F9 and type:\n  \
           diskomator export sync\n\
         To have them exported at each boot, give the word diskomator.export=all.\n\n",
    );
}

/// The line to type for each address: those that are good everywhere first.
fn connect_lines(text: &mut String, links: &[Link]) {
    let addresses = reachable(links);
    if addresses.is_empty() {
        text.push_str("No network address yet.\n");
        return;
    }
    text.push_str("To use the disks, type on another Linux machine, as root:\n");
    for (address, _) in &addresses {
        // A zone behind the address, as in fe80::1%eth0, is lost on the way from the
        // discovery log to the disks.
        let link = if needs_zone(address) { " -f <interface>" } else { "" };
        line(text, &format!("  nvme connect-all -t tcp -a {}{link}", address.ip));
    }
    if addresses.iter().any(|(address, _)| needs_zone(address)) {
        text.push_str("  <interface>: that machine's own, where it is wired to this one\n");
    }
}

/// The addresses that other machines can use, those that are good everywhere first.
fn reachable(links: &[Link]) -> Vec<(Address, &str)> {
    let reachable = links.iter().filter(|link| link.has_carrier);
    let mut addresses: Vec<(Address, &str)> =
        reachable.flat_map(|link| link.addresses.iter().map(|address| (*address, link.name.as_str()))).collect();
    addresses.sort_unstable();
    addresses
}

/// The line to type to log in, and what the other machine asks about then.
fn ssh_lines(text: &mut String, ssh: &Ssh, links: &[Link]) {
    let Some((address, _)) = reachable(links).first().copied() else { return };
    text.push_str("\nTo log in, type on another machine:\n");
    let zone = if needs_zone(&address) { "%<interface>" } else { "" };
    line(text, &format!("  ssh root@{}{zone}", address.ip));
    line(text, &format!("  its key:   {}", printable(&ssh.fingerprint)));
    match &ssh.password {
        Some(password) => line(text, &format!("  password:  {}  (good once)", printable(password))),
        None => line(text, &format!("  let in:    who has a key, of {}", ssh.keys)),
    }
}

/// IPv6 cannot tell from a link-local address which link it is on.
fn needs_zone(address: &Address) -> bool {
    address.is_link_local && address.ip.is_ipv6()
}

fn link_lines(text: &mut String, links: &[Link]) {
    if links.is_empty() {
        text.push_str("  no network interface\n");
    }
    let width = links.iter().map(|link| link.name.len().min(NAME_MAX)).max().unwrap_or(0);
    for link in links {
        let name = cut(&printable(&link.name), NAME_MAX);
        let mac = link.mac.map_or_else(String::new, |mac| mac.to_string());
        let mut addresses = link.addresses.clone();
        addresses.sort_unstable();
        let mut state: Vec<String> = addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix_len)).collect();
        if !link.has_carrier {
            state.insert(0, "no cable".to_owned());
        } else if state.is_empty() {
            state.push("no address yet".to_owned());
        }
        // Each address below the other, as two of IPv6 are longer than a line.
        let mut lead = format!("  {name:width$}  {mac:17}");
        for item in state {
            line(text, &format!("{lead}  {item}"));
            lead = " ".repeat(lead.len());
        }
    }
}

fn disk_lines(text: &mut String, disks: &[Disk], width: usize) {
    if disks.is_empty() {
        text.push_str("  none yet; one that is plugged in now will appear\n");
    }
    let row = |disk: &Disk| {
        let text = |text: &Option<String>, max| cut(&printable(text.as_deref().unwrap_or("-")), max);
        [
            cut(&printable(&disk.name), NAME_MAX),
            human_size(disk.size),
            text(&disk.model, MODEL_MAX),
            text(&disk.serial, SERIAL_MAX),
        ]
    };
    let rows: Vec<[String; 4]> = disks.iter().map(row).collect();
    let mut columns = [0; 4];
    for row in &rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            *column = cell.len().max(*column);
        }
    }
    let [name_width, size_width, model_width, serial_width] = columns;
    for (disk, [name, size, model, serial]) in disks.iter().zip(&rows) {
        let mut first =
            format!("  {name:name_width$}  {size:>size_width$}  {model:model_width$}  {serial:serial_width$}");
        let state = match &disk.state {
            DiskState::Exported => "exported".to_owned(),
            DiskState::ReadOnly => "exported, read-only".to_owned(),
            DiskState::Passthru => "passed through".to_owned(),
            DiskState::NoMedium => "no medium".to_owned(),
            DiskState::Waiting => "waiting".to_owned(),
            DiskState::NotExported(reason) => format!("not exported: {}", printable(reason)),
        };
        if first.len() + 2 + state.len() <= width {
            let _ = write!(first, "  {state}");
            line(text, &first);
        } else {
            line(text, &first);
            line(text, &format!("  {:name_width$}  {state}", ""));
        }
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// A text of any length, two columns in.
fn wrapped(text: &mut String, words: &str, width: usize) {
    let mut row = String::from(" ");
    for word in words.split(' ') {
        if row.len() + 1 + word.len() > width && row.len() > 1 {
            line(text, &row);
            row = String::from(" ");
        }
        row.push(' ');
        row.push_str(word);
    }
    line(text, &row);
}

/// Bytes from a disk or a network must not be able to steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, prefix_len: u8) -> Address {
        let ip: IpAddr = text.parse().unwrap();
        Address { is_link_local: text.starts_with("fe80") || text.starts_with("169.254"), ip, prefix_len }
    }

    fn link(name: &str, last: u8, has_carrier: bool, addresses: &[Address]) -> Link {
        Link {
            name: name.to_owned(),
            mac: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, last])),
            has_carrier,
            addresses: addresses.to_vec(),
        }
    }

    fn disk(name: &str, size: u64, model: &str, serial: &str, state: DiskState) -> Disk {
        Disk { name: name.into(), size, model: Some(model.into()), serial: Some(serial.into()), state }
    }

    #[test]
    fn nothing_is_there_yet() {
        assert_eq!(
            render(&Snapshot::default(), 80),
            "\
Diskomator

No network address yet.

Network
  no network interface

Disks
  none yet; one that is plugged in now will appear
"
        );
    }

    #[test]
    fn links_and_disks_of_all_kinds() {
        let snapshot = Snapshot {
            links: vec![
                link(
                    "eth0",
                    0x56,
                    true,
                    &[
                        address("fe80::5054:ff:fe12:3456", 64),
                        address("2001:db8::5054:ff:fe12:3456", 64),
                        address("192.0.2.7", 24),
                    ],
                ),
                link("enp0s20f0u1", 0x57, true, &[]),
                link("eth2", 0x58, false, &[address("198.51.100.9", 24)]),
            ],
            disks: vec![
                disk("nvme0n1", 64 << 30, "QEMU NVMe Ctrl", "disk-one", DiskState::Exported),
                disk("sda", 500_107_862_016, "Samsung SSD 970 EVO Plus 500GB", "S4EVNX0R123456L", DiskState::Waiting),
                disk("sdb", 4 << 40, "A\x1b[2Jb", "x", DiskState::NotExported("read-only".into())),
                Disk {
                    name: "mmcblk0".into(),
                    size: 0,
                    model: None,
                    serial: None,
                    state: DiskState::NotExported("in use by dm-0".into()),
                },
            ],
            ..Snapshot::default()
        };
        assert_eq!(
            render(&snapshot, 80),
            "\
Diskomator

To use the disks, type on another Linux machine, as root:
  nvme connect-all -t tcp -a 192.0.2.7
  nvme connect-all -t tcp -a 2001:db8::5054:ff:fe12:3456
  nvme connect-all -t tcp -a fe80::5054:ff:fe12:3456 -f <interface>
  <interface>: that machine's own, where it is wired to this one

Network
  eth0         52:54:00:12:34:56  192.0.2.7/24
                                  2001:db8::5054:ff:fe12:3456/64
                                  fe80::5054:ff:fe12:3456/64
  enp0s20f0u1  52:54:00:12:34:57  no address yet
  eth2         52:54:00:12:34:58  no cable
                                  198.51.100.9/24

Disks
  nvme0n1   64 GiB  QEMU NVMe Ctrl                  disk-one         exported
  sda      466 GiB  Samsung SSD 970 EVO Plus 500GB  S4EVNX0R123456L  waiting
  sdb        4 TiB  A?[2Jb                          x
           not exported: read-only
  mmcblk0      0 B  -                               -
           not exported: in use by dm-0
"
        );
    }

    #[test]
    fn where_nothing_is_exported_by_itself_the_screen_says_so_and_what_to_type() {
        let by_hand = DiskState::NotExported("diskomator.export=none".into());
        let snapshot = Snapshot {
            is_by_hand: true,
            links: vec![link("eth0", 0x56, true, &[address("192.0.2.7", 24)])],
            disks: vec![
                disk("nvme0n1", 64 << 30, "QEMU NVMe Ctrl", "disk-one", by_hand.clone()),
                disk("sda", 500_107_862_016, "Samsung SSD 970 EVO Plus 500GB", "S4EVNX0R123456L", by_hand),
            ],
            problem: None,
            ssh: None,
        };
        assert_eq!(
            render(&snapshot, 80),
            "\
Diskomator

No disk is exported by itself: diskomator.export on the command line says so.
To export all disks, press Alt-F9 and type:
  diskomator export sync
To have them exported at each boot, give the word diskomator.export=all.

To use the disks, type on another Linux machine, as root:
  nvme connect-all -t tcp -a 192.0.2.7

Network
  eth0  52:54:00:12:34:56  192.0.2.7/24

Disks
  nvme0n1   64 GiB  QEMU NVMe Ctrl                  disk-one
           not exported: diskomator.export=none
  sda      466 GiB  Samsung SSD 970 EVO Plus 500GB  S4EVNX0R123456L
           not exported: diskomator.export=none
"
        );
    }

    #[test]
    fn who_can_log_in_is_told_how() {
        let fingerprint = "SHA256:6MnFtRkzpzKDxm8JpdCcXKuxdfNXUZWLzP9Jb2yiXEo".to_owned();
        let ssh = Ssh { password: Some("abcde-fghij-kmnpq".to_owned()), fingerprint, keys: 0 };
        let links = vec![link("eth0", 0x56, true, &[address("192.0.2.7", 24)])];
        let mut snapshot = Snapshot { links, ssh: Some(ssh.clone()), ..Snapshot::default() };
        let text = render(&snapshot, 80);
        assert!(
            text.contains(
                "
To log in, type on another machine:
  ssh root@192.0.2.7
  its key:   SHA256:6MnFtRkzpzKDxm8JpdCcXKuxdfNXUZWLzP9Jb2yiXEo
  password:  abcde-fghij-kmnpq  (good once)

Network
"
            ),
            "{text}"
        );
        snapshot.ssh = Some(Ssh { password: None, keys: 2, ..ssh });
        assert!(render(&snapshot, 80).contains("\n  let in:    who has a key, of 2\n"));
        snapshot.links.clear();
        assert!(!render(&snapshot, 80).contains("ssh"), "nobody can reach it");
    }

    #[test]
    fn no_line_is_longer_than_the_screen_and_none_carries_control_characters() {
        let snapshot = Snapshot {
            links: vec![link(&"e".repeat(40), 1, true, &[address("2001:db8:1111:2222:3333:4444:5555:6666", 128)])],
            disks: vec![disk(
                &"s".repeat(40),
                u64::MAX,
                &"\u{7}ä".repeat(60),
                &"\n".repeat(60),
                DiskState::NotExported("\r\n".repeat(60)),
            )],
            ..Snapshot::default()
        };
        for width in [40, 80, 132] {
            let text = render(&snapshot, width);
            assert!(text.lines().all(|line| line.chars().count() <= width));
            assert!(text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()));
        }
    }

    #[test]
    fn disks_that_cannot_be_listed_are_not_the_same_as_none() {
        let snapshot =
            Snapshot { problem: Some("cannot use the target: no such device".into()), ..Snapshot::default() };
        assert!(render(&snapshot, 28).ends_with("Disks\n  cannot use the target: no\n  such device\n"));
    }
}
