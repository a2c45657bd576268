//! Keys that are typed, and the log of the kernel, which is shown and sent on.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use access::Mode;
use netproto::syslog::{self, Clock, MESSAGE_MAX};
use nvmet::model::Host;
use screen::bindings::{Act, BINDINGS, Command, HostAct};
use screen::log::{Entry, Log};
use screen::model::{Address, Admitted, Disk, DiskState, Link, Request, Snapshot};
use screen::plain;
use screen::ui::{Outcome, Ui};
use tui::canvas::Canvas;
use tui::canvas::Size;
use tui::keys::{Key, Parser};

use crate::input::Input;

/// Keys are typed while disks come and go and the log grows: a key is the same
/// however its bytes arrive, nothing steers the terminal but what steers it on
/// purpose, and nothing is done that was not asked about.
pub fn screen(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut whole, mut single) = (Parser::default(), Parser::default());
    let mut ui = Ui::default();
    let mut snapshot = Snapshot { log: Log::default(), ..Snapshot::default() };
    let mut size = Size { width: 80, height: 25 };
    let mut shown: Option<Canvas> = None;
    while let Some(what) = input.next() {
        match what % 6 {
            0 | 1 => {
                let bytes = input.bytes();
                let mut keys = whole.feed(bytes);
                let one_by_one: Vec<Key> = bytes.iter().flat_map(|byte| single.feed(&[*byte])).collect();
                assert_eq!(keys, one_by_one);
                assert!(keys.len() <= bytes.len() + 1, "{keys:?}");
                if what % 6 == 1 {
                    let key = whole.pause();
                    assert_eq!(key, single.pause());
                    assert!(!whole.is_open());
                    keys.extend(key);
                }
                assert_eq!(whole.is_open(), single.is_open());
                for key in keys {
                    press(&mut ui, key, &snapshot, size);
                }
            }
            2 => size = Size { width: input.byte().into(), height: input.byte().into() },
            3 => log(&mut snapshot.log, input.bytes()),
            4 => {
                let before = Snapshot { log: Log::default(), ..snapshot.clone() };
                change(&mut snapshot, &mut input);
                for line in plain::changes(&before, &snapshot) {
                    assert!(is_harmless(&line), "{line:?}");
                }
            }
            _ => {
                let canvas = ui.render(&snapshot, size);
                let text = canvas.changes(shown.as_ref());
                assert!(is_harmless(&without_sequences(&text)), "{text:?}");
                assert!(is_harmless(&canvas.text().replace('\n', "")));
                shown = Some(canvas);
                let lines = plain::render(&snapshot, 80);
                assert!(is_harmless(&lines.replace('\n', "")), "{lines:?}");
            }
        }
    }
}

/// A key asks before it does anything.
fn press(ui: &mut Ui, key: Key, snapshot: &Snapshot, size: Size) {
    let outcome = ui.key(key, snapshot, size);
    if matches!(outcome, Outcome::Run(_) | Outcome::Shell) {
        assert_eq!(key, Key::Char('y'), "{outcome:?} without a yes");
    }
    if let Outcome::Run(command) = outcome {
        let act = match &command {
            Command::Disk { act, .. } => Act::Disk(*act),
            Command::Boot { .. } => Act::Boot,
            Command::Allow { is_read_only: false, .. } => Act::Host(HostAct::Admit),
            Command::Allow { is_read_only: true, .. } => Act::Host(HostAct::AdmitReadOnly),
            Command::Deny { .. } | Command::Disconnect { .. } => Act::Host(HostAct::Deny),
            Command::Open | Command::Ask => Act::Everyone,
            Command::Reboot => Act::Reboot,
            Command::PowerOff => Act::PowerOff,
        };
        assert!(BINDINGS.iter().any(|binding| binding.asks && binding.act == act), "{command:?}");
    }
}

fn log(log: &mut Log, raw: &[u8]) {
    let Some(record) = syslog::KmsgRecord::parse(raw) else { return };
    assert!(is_harmless(&record.text), "{record:?}");
    let clock = Clock::new(Duration::from_secs(1_800_000_000), Duration::from_secs(60), Duration::ZERO);
    let message = syslog::message(&record, "diskomator-123456", clock);
    assert!(message.len() <= MESSAGE_MAX && message.starts_with(b"<"));
    let message = String::from_utf8(message).unwrap();
    assert!(is_harmless(&message), "{message:?}");
    log.add(Entry::from(record));
    assert!(log.troubles().iter().all(|trouble| is_harmless(trouble)));
}

/// Another disk, link or host, with names that nobody has looked at.
fn change(snapshot: &mut Snapshot, input: &mut Input<'_>) {
    let text = |input: &mut Input<'_>| String::from_utf8_lossy(input.bytes()).into_owned();
    match input.byte() % 9 {
        6 => {
            let host = Host { nqn: text(input), address: Some(text(input)) };
            snapshot.access.requests.push(Request { number: u64::from(input.byte()), host });
        }
        7 => snapshot.access.admitted.push(Admitted { nqn: text(input), is_read_only: input.flag() }),
        8 => snapshot.access.mode = if input.flag() { Mode::Ask } else { Mode::Paired },
        0 => {
            let state = match input.byte() % 5 {
                0 => DiskState::Exported,
                1 => DiskState::ReadOnly,
                2 => DiskState::NoMedium,
                3 => DiskState::Waiting,
                _ => DiskState::NotExported(text(input)),
            };
            snapshot.disks.push(Disk {
                name: text(input),
                diskseq: u64::from(input.byte()),
                size: u64::from(input.number()) << (input.byte() % 32),
                model: Some(text(input)),
                serial: Some(text(input)),
                firmware: None,
                bus: text(input),
                nqn: None,
                has_light: input.flag(),
                state,
                hosts: Vec::new(),
                controllers: Vec::new(),
                traffic: None,
            });
        }
        1 => {
            let host = Host { nqn: text(input), address: Some(text(input)) };
            if let Some(disk) = snapshot.disks.last_mut() {
                disk.hosts.push(host);
            }
        }
        2 => {
            let address =
                IpAddr::V6(Ipv6Addr::from_bits(u128::from(input.number()) << 96 | u128::from(input.number())));
            snapshot.links.push(Link {
                name: text(input),
                mac: None,
                has_carrier: true,
                speed: Some(input.number()),
                addresses: vec![
                    Address { is_link_local: input.flag(), ip: address, prefix_len: 64, origin: "dhcp" },
                    Address { is_link_local: false, ip: input.address().into(), prefix_len: 24, origin: "dhcp" },
                ],
            });
        }
        3 => drop((snapshot.disks.pop(), snapshot.links.pop())),
        4 => snapshot.warnings = vec![text(input)],
        _ => {
            snapshot.machine.model = Some(text(input));
            snapshot.machine.name = Some(text(input));
            snapshot.problem = Some(text(input));
        }
    }
}

/// Whether a terminal shows it and does nothing else.
fn is_harmless(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// The text without what places and colours it: CUP, SGR, ED, and the choice of UTF-8.
fn without_sequences(text: &str) -> String {
    let mut pieces = text.split('\x1b');
    let mut rest = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(['H', 'm', 'J', 'l', 'G']).expect("a sequence that ends");
        let (sequence, after) = piece.split_at(end + 1);
        assert!(sequence.starts_with(['[', '%']), "{sequence:?}");
        rest.push_str(after);
    }
    rest
}
