//! Whole screens, as they were agreed on.

use access::Mode;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use netproto::net::Mac;
use nvmet::model::Host;
use tui::canvas::{Canvas, Size};
use tui::screen::Screen;

use crate::bindings::Page;
use crate::log::{Entry, Level};
use crate::model::{Access, Address, Admitted, Disk, DiskState, Link, Machine, Request, Snapshot, Ssh};
use crate::traffic::Traffic;
use crate::ui::Ui;

/// A machine with so many disks and links, of every kind.
pub(crate) fn sample(disks: usize, links: usize) -> Snapshot {
    let address = |ip: &str, prefix_len, origin| Address {
        is_link_local: origin == "link-local",
        ip: ip.parse().unwrap(),
        prefix_len,
        origin,
    };
    let link = |name: &str, last, speed: Option<u32>, addresses: &[Address]| Link {
        name: name.to_owned(),
        mac: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, last])),
        has_carrier: speed.is_some(),
        speed,
        addresses: addresses.to_vec(),
    };
    let all_links = [
        link(
            "eth0",
            0x56,
            Some(1000),
            &[
                address("192.168.178.123", 24, "dhcp"),
                address("2001:db8:1111:2222:5054:ff:fe12:3456", 64, "router"),
                address("fe80::5054:ff:fe12:3456", 64, "link-local"),
            ],
        ),
        link("enp3s0f1", 0x57, Some(10_000), &[address("169.254.17.4", 16, "link-local")]),
        link("eth2", 0x58, None, &[]),
    ];
    let states = [
        DiskState::Exported,
        DiskState::Exported,
        DiskState::ReadOnly,
        DiskState::NotExported("in use by md127".to_owned()),
        DiskState::NoMedium,
        DiskState::Waiting,
        DiskState::Passthru,
    ];
    let models = ["Samsung SSD 990 PRO 2TB", "WDC WD40EFRX-68N32N0", "SanDisk Ultra [boot]", "QEMU HARDDISK"];
    let kinds = ["nvme", "ata", "usb", "scsi"];
    let all_disks = (0..disks).map(|number| Disk {
        name: if number % 4 == 0 {
            format!("nvme{}n1", number / 4)
        } else {
            let letter = |place: usize| char::from(b'a' + u8::try_from(place % 26).unwrap());
            let prefix = if number / 26 > 0 { letter(number / 26 - 1).to_string() } else { String::new() };
            format!("sd{prefix}{}", letter(number))
        },
        diskseq: u64::try_from(number).unwrap() + 1,
        size: 2_000_398_934_016 >> (number % 5),
        model: Some(models[number % 4].to_owned()),
        serial: Some(format!("S6Z1NJ0W{number:06}")),
        firmware: Some("4B2QJXD7".to_owned()),
        bus: kinds[number % 4].to_owned(),
        nqn: Some(format!("nqn.2026-11.io.github.diskomator:4c4c4544-0042-4d10:eui.00253842{number:08}")),
        has_light: false,
        state: states[number % 7].clone(),
        hosts: (0..usize::from(number == 0))
            .map(|_| Host {
                nqn: "nqn.2014-08.org.nvmexpress:uuid:1b4e28ba".to_owned(),
                address: Some("192.168.178.20".to_owned()),
            })
            .collect(),
        controllers: Vec::new(),
        traffic: (number == 0).then(|| Traffic {
            read: 536_870_912,
            written: 3 << 20,
            requests: 12_345,
            history: (0..60).map(|second| second % 13 * 40_000_000).collect(),
            is_hung: false,
        }),
    });
    Snapshot {
        machine: Machine {
            name: Some("diskomator-123456.local".to_owned()),
            version: "0.1.0",
            model: Some("Dell Inc. OptiPlex 7010".to_owned()),
            processor: Some("Intel(R) Core(TM) i5-3470 CPU @ 3.20GHz".to_owned()),
            processors: 4,
            memory: 8 << 30,
            memory_free: 7 << 30,
            screen: Screen::FrameBuffer,
        },
        uptime: Duration::from_secs(754),
        links: all_links.into_iter().take(links).collect(),
        disks: all_disks.collect(),
        warnings: vec!["Everyone on this network can read and overwrite these disks.".to_owned()],
        access: Access { mode: Mode::Open, ..Access::default() },
        ..Snapshot::default()
    }
}

const SIZES: [(usize, usize); 5] = [(40, 15), (80, 25), (100, 30), (160, 50), (240, 67)];

/// Compares a drawn screen with its file in `tests/golden`; `GOLDEN=write` writes the file anew, to be looked at.
fn check_golden(name: &str, canvas: &Canvas) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/screen/{name}.txt"));
    let drawn = format!("{}--- looks\n{}", canvas.text(), canvas.looks());
    if std::env::var_os("GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &drawn).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(drawn == golden, "{name} is drawn otherwise than {} has it:\n{drawn}", path.display());
}

#[test]
fn the_overview_is_drawn_as_it_was_agreed() {
    for (width, height) in SIZES {
        for disks in [0, 1, 4, 40] {
            for links in [0, 1, 3] {
                let canvas = Ui::default().render(&sample(disks, links), Size { width, height });
                check_golden(&format!("overview-{width}x{height}-{disks}-disks-{links}-links"), &canvas);
            }
        }
    }
}

#[test]
fn the_pages_are_drawn_as_it_was_agreed() {
    let mut snapshot = sample(40, 3);
    snapshot.ssh =
        Some(Ssh { password: Some("brave-otter-17".to_owned()), fingerprint: "SHA256:abc".to_owned(), keys: 0 });
    for number in 0..90_u64 {
        let level = [Level::Info, Level::Warning, Level::Error][usize::try_from(number % 3).unwrap()];
        snapshot.log.add(Entry {
            level,
            priority: 6,
            millis: number * 1234,
            text: format!("diskomator-dhcp: line {number}"),
        });
    }
    for page in [Page::Disks, Page::Network, Page::Hosts, Page::Log, Page::Machine, Page::Code, Page::Help] {
        let mut ui = Ui::default();
        ui.go(page);
        check_golden(&format!("page-{page:?}").to_lowercase(), &ui.render(&snapshot, Size { width: 80, height: 25 }));
    }
}

#[test]
fn a_host_that_asks_is_drawn_as_it_was_agreed() {
    for (name, numbers) in [("none", 0), ("one", 1), ("many", 5)] {
        let mut snapshot = sample(4, 1);
        snapshot.warnings.clear();
        let request = |number: u64| Request {
            number,
            host: Host {
                nqn: format!("nqn.2014-08.org.nvmexpress:uuid:9a4e28ba-7c5d-4b1e-8f0a-00000000000{number}"),
                address: Some(format!("192.168.178.{}", 20 + number)),
            },
        };
        let requests = (1..=numbers).map(request).collect();
        let admitted = vec![Admitted { nqn: "nqn.2014-08.org.nvmexpress:uuid:away".to_owned(), is_read_only: true }];
        snapshot.access = Access { mode: Mode::Ask, requests, admitted };
        for (width, height) in [(40, 15), (80, 25), (160, 50)] {
            let canvas = Ui::default().render(&snapshot, Size { width, height });
            check_golden(&format!("ask-{width}x{height}-{name}"), &canvas);
        }
        snapshot.access.mode = Mode::Paired;
        if numbers == 0 {
            check_golden("paired-80x25", &Ui::default().render(&snapshot, Size { width: 80, height: 25 }));
        }
        snapshot.access.mode = Mode::Ask;
        let mut ui = Ui::default();
        ui.go(Page::Hosts);
        check_golden(&format!("ask-page-hosts-{name}"), &ui.render(&snapshot, Size { width: 80, height: 25 }));
    }
}

#[test]
fn nothing_breaks_at_any_size_and_no_byte_of_others_steers_the_terminal() {
    let mut snapshot = sample(40, 3);
    snapshot.disks[0].model = Some("A\x1b[2J\u{9b}31mB\u{202e}".repeat(9));
    snapshot.disks[1].state = DiskState::NotExported("\r\n\x07".repeat(60));
    snapshot.disks[2].serial = Some("ä".repeat(80));
    snapshot.links[0].name = "e\x1b".repeat(40);
    snapshot.machine.model = Some("\x1b]0;x\x07".to_owned());
    snapshot.machine.name = Some("\x1b[5m".repeat(30));
    snapshot.warnings = vec!["w\x1b[1m".repeat(300), String::new()];
    for (width, height) in [(0, 0), (1, 1), (20, 6), (33, 9), (59, 19), (79, 24), (132, 43), (700, 300)] {
        for page in
            [Page::Overview, Page::Disks, Page::Network, Page::Hosts, Page::Log, Page::Machine, Page::Code, Page::Help]
        {
            for (problem, by_hand) in [(None, false), (Some("no target".to_owned()), true)] {
                let mut ui = Ui::default();
                ui.go(page);
                (snapshot.problem, snapshot.is_by_hand) = (problem, by_hand);
                let canvas = ui.render(&snapshot, Size { width, height });
                let text = canvas.text();
                assert!(!text.chars().any(|c| c != '\n' && c.is_control()), "{text}");
                assert!(!text.contains('\u{202e}') && !text.contains('\u{9b}'));
            }
        }
    }
}

#[test]
fn every_disk_is_seen_on_the_overview_or_it_says_how_to_see_it() {
    for (width, height) in SIZES {
        for count in [1, 4, 9, 40] {
            let snapshot = sample(count, 3);
            let text = Ui::default().render(&snapshot, Size { width, height }).text();
            let seen = snapshot
                .disks
                .iter()
                .filter(|disk| text.lines().any(|row| row.starts_with(&format!(" {} ", disk.name))))
                .count();
            let mut said = String::new();
            if seen < count {
                write!(said, "... {} more, press d", count - seen).unwrap();
            }
            assert!(text.contains(&said), "{seen} of {count} at {width}x{height}:\n{text}");
        }
    }
}

#[test]
fn the_four_disks_of_a_usual_machine_are_all_seen_at_80x25() {
    let text = Ui::default().render(&sample(4, 1), Size { width: 80, height: 25 }).text();
    assert!(!text.contains("press d"), "{text}");
    assert!(text.contains("nvme connect-all -t tcp -a 192.168.178.123"), "{text}");
}
