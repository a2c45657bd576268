//! The status as plain lines, for serial lines, scripts and standard output.
//! The shape of these lines is an interface: scripts look for them.

use access::Mode;
use std::fmt::Write;

use disks::disk::human_size;
use nvmet::model::Host;
use tui::screen::Screen;

use netproto::net::speed_text;

use crate::model::{
    Access, BY_HAND, Disk, DiskState, Link, NO_SCREEN, Request, Snapshot, Ssh, connect_line, login_line, printable,
};

/// Longer names are cut; the maker's name and number of NVMe are 40 and 20.
const NAME_MAX: usize = 16;
/// The most that is shown of a model, in characters.
pub const MODEL_MAX: usize = 30;
const SERIAL_MAX: usize = 20;

/// The status as lines of at most `width` columns.
pub fn render(snapshot: &Snapshot, width: usize) -> String {
    let mut text = String::from("Diskomator");
    if let Some(name) = &snapshot.machine.name {
        let _ = write!(text, "  {}", printable(name));
    }
    text.push_str("\n\n");
    if snapshot.is_by_hand {
        export_lines(&mut text);
    }
    connect_lines(&mut text, snapshot);
    access_lines(&mut text, snapshot, width);
    if let Some(ssh) = &snapshot.ssh {
        ssh_lines(&mut text, ssh, snapshot);
    }
    for warning in &snapshot.warnings {
        wrapped(&mut text, &format!("! {}", printable(warning)), width);
    }
    if snapshot.machine.screen == Screen::None {
        wrapped(&mut text, NO_SCREEN, width);
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

/// How to export disks where that takes a command. First of all, as
/// nothing below is of use before.
fn export_lines(text: &mut String) {
    text.push_str(BY_HAND);
    text.push_str(
        "\n\
         To export all disks, press Alt-F9 and type:\n  \
           diskomator export sync\n\
         To have them exported at each boot, give the word diskomator.export=all.\n\n",
    );
}

/// The line to type for each address: those that are good everywhere first.
fn connect_lines(text: &mut String, snapshot: &Snapshot) {
    let addresses = snapshot.addresses();
    if addresses.is_empty() {
        text.push_str("No network address yet.\n");
        return;
    }
    text.push_str("To use the disks, type on another Linux machine, as root:\n");
    for (address, _) in &addresses {
        line(text, &format!("  {}", connect_line(address)));
    }
    if addresses.iter().any(|(address, _)| address.needs_zone()) {
        text.push_str("  <interface>: that machine's own, where it is wired to this one\n");
    }
}

/// The undecided hosts, and the words to type here for each.
fn access_lines(text: &mut String, snapshot: &Snapshot, width: usize) {
    let Access { mode, requests, .. } = &snapshot.access;
    match mode {
        Mode::Open => return,
        Mode::Ask => text.push_str("That machine then asks here for the disks, and waits for an answer.\n"),
        Mode::Paired => wrapped(
            text,
            "Only a host with a key of this machine is admitted. `diskomator key HOSTNQN` prints one: in a shell of this \
             machine, or with --secret on the one that keeps the secret of its stick.",
            width,
        ),
    }
    for request in requests {
        text.push('\n');
        wrapped(text, &request_text(request), width);
        let number = request.number;
        let answers = format!("  Type here, and then Enter: allow {number}, read-only {number}, or deny {number}");
        wrapped(text, &answers, width);
    }
}

/// A request in a sentence.
fn request_text(Request { number, host }: &Request) -> String {
    let address = host.address.as_deref().unwrap_or("a host");
    format!("{number}: {} ({}) asks for the disks", printable(address), printable(&host.nqn))
}

/// An answer to a request that was typed on a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Admits the host.
    Allow,
    /// Admits the host, which may only read.
    ReadOnly,
    /// Denies the request.
    Deny,
}

/// A line that a person types between plain lines, where noise must have no effect: only the start of an answer is
/// kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypedLine(String);

/// The effect of a typed character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// It is part of no answer.
    Nothing,
    /// It is to be shown.
    Echo(char),
    /// The last character is to be removed from the screen.
    Erase,
    /// The line is complete.
    Answer(Answer, u64),
}

impl TypedLine {
    const WORDS: [(&'static str, Answer); 3] =
        [("allow ", Answer::Allow), ("read-only ", Answer::ReadOnly), ("deny ", Answer::Deny)];
    /// No request has a number with more digits.
    const DIGITS: usize = 20;

    /// Adds a character. One that makes the line no start of an answer begins it anew, and is not shown: a device that
    /// sends back each byte must not have it sent again for ever.
    pub fn push(&mut self, c: char) -> Typed {
        let longer = format!("{}{c}", self.0);
        if Self::is_start(&longer) {
            self.0 = longer;
            return Typed::Echo(c);
        }
        self.0.clear();
        if Self::is_start(c.encode_utf8(&mut [0; 4])) {
            self.0.push(c);
        }
        Typed::Nothing
    }

    /// Removes the last character.
    pub fn erase(&mut self) -> Typed {
        if self.0.pop().is_some() { Typed::Erase } else { Typed::Nothing }
    }

    /// Ends the line.
    pub fn enter(&mut self) -> Typed {
        let line = std::mem::take(&mut self.0);
        let answer = Self::WORDS.iter().find_map(|(word, answer)| {
            let number = line.strip_prefix(word)?.parse().ok()?;
            Some(Typed::Answer(*answer, number))
        });
        answer.unwrap_or(Typed::Nothing)
    }

    /// Whether nothing is typed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_start(text: &str) -> bool {
        Self::WORDS.iter().any(|(word, _)| {
            let is_number = |rest: &str| rest.len() <= Self::DIGITS && rest.bytes().all(|byte| byte.is_ascii_digit());
            word.starts_with(text) || text.strip_prefix(word).is_some_and(is_number)
        })
    }
}

/// The line to type to log in, and what the other machine asks about then.
fn ssh_lines(text: &mut String, ssh: &Ssh, snapshot: &Snapshot) {
    let addresses = snapshot.addresses();
    let Some((address, _)) = addresses.first() else { return };
    text.push_str("\nTo log in, type on another machine:\n");
    line(text, &format!("  {}", login_line(address)));
    line(text, &format!("  its key:   {}", printable(&ssh.fingerprint)));
    match &ssh.password {
        Some(password) => line(text, &format!("  password:  {}  (good once)", printable(password))),
        None => line(text, &format!("  let in:    who has a key, of {}", ssh.keys)),
    }
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
        let mut state: Vec<String> =
            addresses.iter().map(|a| format!("{}/{}  {}", a.ip, a.prefix_len, a.origin)).collect();
        if !link.has_carrier {
            state.insert(0, "no cable".to_owned());
        } else if let (Some(speed), [first, ..]) = (link.speed, state.as_mut_slice()) {
            let _ = write!(first, "  {}", speed_text(speed));
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
        let state = state_text(disk);
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

/// The state of a disk, in a few words.
fn state_text(disk: &Disk) -> String {
    match &disk.state {
        DiskState::Exported => "exported".to_owned(),
        DiskState::ReadOnly => "exported, read-only".to_owned(),
        DiskState::Passthru => "passed through".to_owned(),
        DiskState::NoMedium => "no medium".to_owned(),
        DiskState::Waiting => "waiting".to_owned(),
        DiskState::NotExported(reason) => format!("not exported: {}", printable(reason)),
    }
}

/// The changes, a line for each, in words for a log.
pub fn changes(before: &Snapshot, now: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    let is_new = |request: &&Request| !before.access.requests.contains(request);
    lines.extend(now.access.requests.iter().filter(is_new).map(request_text));
    for link in &now.links {
        let name = printable(&link.name);
        let old = before.links.iter().find(|old| old.name == link.name && old.mac == link.mac);
        let was = (old.map(|old| old.has_carrier), link.has_carrier);
        match was {
            (None, true) => lines.push(format!("{name}: new network card")),
            (None, false) => lines.push(format!("{name}: new network card, no cable")),
            (Some(true), false) => lines.push(format!("{name}: cable is gone")),
            (Some(false), true) => lines.push(format!("{name}: cable is in")),
            _ => {}
        }
        let had = old.map(|old| old.addresses.as_slice()).unwrap_or_default();
        for address in link.addresses.iter().filter(|address| !had.contains(address)) {
            lines.push(format!("{name}: has {}/{} ({})", address.ip, address.prefix_len, address.origin));
        }
        for address in had.iter().filter(|address| !link.addresses.contains(address)) {
            lines.push(format!("{name}: has no more {}/{}", address.ip, address.prefix_len));
        }
    }
    for link in &before.links {
        if !now.links.iter().any(|other| other.name == link.name && other.mac == link.mac) {
            lines.push(format!("{}: network card is gone", printable(&link.name)));
        }
    }
    let same = |a: &Disk, b: &Disk| a.name == b.name && a.serial == b.serial && a.model == b.model;
    for disk in &now.disks {
        let name = printable(&disk.name);
        let old = before.disks.iter().find(|old| same(old, disk));
        match old {
            None => {
                let model = disk.model.as_deref().map_or_else(String::new, |model| format!("{}, ", printable(model)));
                lines.push(format!("{name} ({model}{}): new disk, {}", human_size(disk.size), state_text(disk)));
            }
            Some(old) => {
                if old.state != disk.state {
                    lines.push(format!("{name}: {}", state_text(disk)));
                }
                if old.size != disk.size {
                    lines.push(format!("{name}: is {} now", human_size(disk.size)));
                }
                let hung = |disk: &Disk| disk.traffic.as_ref().is_some_and(|traffic| traffic.is_hung);
                match (hung(old), hung(disk)) {
                    (false, true) => lines.push(format!("{name}: hangs")),
                    (true, false) => lines.push(format!("{name}: hangs no more")),
                    _ => {}
                }
            }
        }
        let had = old.map(|old| old.hosts.as_slice()).unwrap_or_default();
        let who = |host: &Host| printable(host.address.as_deref().unwrap_or(&host.nqn));
        // One that goes or comes has no address for a moment.
        let same = |a: &Host, b: &Host| {
            a.nqn == b.nqn && (a.address == b.address || a.address.is_none() || b.address.is_none())
        };
        for host in disk.hosts.iter().filter(|host| !had.iter().any(|old| same(old, host))) {
            lines.push(format!("{name}: {} is connected", who(host)));
        }
        for host in had.iter().filter(|host| !disk.hosts.iter().any(|now| same(now, host))) {
            lines.push(format!("{name}: {} is no more connected", who(host)));
        }
    }
    for disk in &before.disks {
        if !now.disks.iter().any(|other| same(other, disk)) {
            lines.push(format!("{}: disk is gone", printable(&disk.name)));
        }
    }
    for warning in now.warnings.iter().filter(|warning| !before.warnings.contains(warning)) {
        lines.push(format!("warning: {}", printable(warning)));
    }
    lines
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

fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{Address, Machine};
    use netproto::net::Mac;

    fn address(text: &str, prefix_len: u8) -> Address {
        let ip: IpAddr = text.parse().unwrap();
        let is_link_local = text.starts_with("fe80") || text.starts_with("169.254");
        Address { is_link_local, ip, prefix_len, origin: if is_link_local { "link-local" } else { "dhcp" } }
    }

    fn link(name: &str, last: u8, has_carrier: bool, addresses: &[Address]) -> Link {
        Link {
            name: name.to_owned(),
            mac: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, last])),
            has_carrier,
            speed: None,
            addresses: addresses.to_vec(),
        }
    }

    fn disk(name: &str, size: u64, model: &str, serial: &str, state: DiskState) -> Disk {
        Disk {
            name: name.into(),
            diskseq: 0,
            size,
            model: Some(model.into()),
            serial: Some(serial.into()),
            firmware: None,
            bus: "ata".into(),
            nqn: None,
            has_light: false,
            state,
            hosts: Vec::new(),
            controllers: Vec::new(),
            traffic: None,
        }
    }

    /// A machine that admits everyone, of which nothing else is known.
    fn open() -> Snapshot {
        Snapshot { access: Access { mode: Mode::Open, ..Access::default() }, ..Snapshot::default() }
    }

    #[test]
    fn a_request_is_a_line_and_the_words_that_answer_it() {
        let mut snapshot = Snapshot::default();
        let before = snapshot.clone();
        let host = Host { nqn: "nqn.h\x1b[2J".to_owned(), address: Some("192.0.2.9".to_owned()) };
        snapshot.access = Access { mode: Mode::Ask, requests: vec![Request { number: 3, host }], admitted: Vec::new() };
        let text = render(&snapshot, 80);
        assert!(text.contains("3: 192.0.2.9 (nqn.h?[2J) asks for the disks\n"), "{text}");
        assert!(text.contains("allow 3, read-only 3, or deny 3"), "{text}");
        assert_eq!(changes(&before, &snapshot), ["3: 192.0.2.9 (nqn.h?[2J) asks for the disks"]);
        assert_eq!(changes(&snapshot, &snapshot), [""; 0]);
        snapshot.access = Access { mode: Mode::Paired, ..Access::default() };
        assert!(render(&snapshot, 80).contains("Only a host with a key of this machine is admitted."));
    }

    #[test]
    fn nothing_is_there_yet() {
        assert_eq!(
            render(&open(), 80),
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
    fn where_nothing_can_be_drawn_the_lines_say_where_to_look() {
        let machine = Machine { screen: Screen::None, ..Machine::default() };
        assert_eq!(
            render(&Snapshot { machine, ..open() }, 80),
            "\
Diskomator

No network address yet.
  no screen: there is no frame buffer and no text mode to draw on; look at the
  serial line, or type on another machine: avahi-browse -rt _nvme-disc._tcp

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
                    model: None,
                    serial: None,
                    ..disk("mmcblk0", 0, "", "", DiskState::NotExported("in use by dm-0".into()))
                },
            ],
            ..open()
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
  eth0         52:54:00:12:34:56  192.0.2.7/24  dhcp
                                  2001:db8::5054:ff:fe12:3456/64  dhcp
                                  fe80::5054:ff:fe12:3456/64  link-local
  enp0s20f0u1  52:54:00:12:34:57  no address yet
  eth2         52:54:00:12:34:58  no cable
                                  198.51.100.9/24  dhcp

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
            ..open()
        };
        assert_eq!(
            render(&snapshot, 80),
            "\
Diskomator

No disk is exported by itself: the setting diskomator.export says so.
To export all disks, press Alt-F9 and type:
  diskomator export sync
To have them exported at each boot, give the word diskomator.export=all.

To use the disks, type on another Linux machine, as root:
  nvme connect-all -t tcp -a 192.0.2.7

Network
  eth0  52:54:00:12:34:56  192.0.2.7/24  dhcp

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
        let mut snapshot = Snapshot { links, ssh: Some(ssh.clone()), ..open() };
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
            ..open()
        };
        for width in [40, 80, 132] {
            let text = render(&snapshot, width);
            assert!(text.lines().all(|line| line.chars().count() <= width));
            assert!(text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()));
        }
    }

    #[test]
    fn disks_that_cannot_be_listed_are_not_the_same_as_none() {
        let snapshot = Snapshot { problem: Some("cannot use the target: no such device".into()), ..open() };
        assert!(render(&snapshot, 28).ends_with("Disks\n  cannot use the target: no\n  such device\n"));
    }

    #[test]
    fn what_changed_is_said_in_a_line_for_each_thing() {
        let host = Host { nqn: "nqn.h".to_owned(), address: Some("192.0.2.20".to_owned()) };
        let before = Snapshot {
            links: vec![link("eth0", 1, true, &[address("192.0.2.7", 24)]), link("eth1", 2, false, &[])],
            disks: vec![
                Disk { hosts: vec![host.clone()], ..disk("sda", 1 << 30, "A", "1", DiskState::Waiting) },
                disk("sdb", 1 << 30, "B", "2", DiskState::Exported),
            ],
            ..open()
        };
        assert_eq!(changes(&before, &before), Vec::<String>::new());
        let now = Snapshot {
            links: vec![link("eth0", 1, false, &[address("192.0.2.8", 24)]), link("eth2", 3, true, &[])],
            disks: vec![
                disk("sda", 2 << 30, "A", "1", DiskState::Exported),
                Disk { hosts: vec![host], ..disk("sdc", 1 << 30, "C", "3", DiskState::ReadOnly) },
            ],
            warnings: vec!["RAM is low".to_owned()],
            ..open()
        };
        assert_eq!(
            changes(&before, &now),
            [
                "eth0: cable is gone",
                "eth0: has 192.0.2.8/24 (dhcp)",
                "eth0: has no more 192.0.2.7/24",
                "eth2: new network card",
                "eth1: network card is gone",
                "sda: exported",
                "sda: is 2 GiB now",
                "sda: 192.0.2.20 is no more connected",
                "sdc (C, 1 GiB): new disk, exported, read-only",
                "sdc: 192.0.2.20 is connected",
                "sdb: disk is gone",
                "warning: RAM is low",
            ]
        );
    }
}
