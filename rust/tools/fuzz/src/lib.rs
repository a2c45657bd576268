//! For each parser and state machine a function that takes any bytes, does with
//! them what they say, and panics where something is no longer true: a fuzz
//! target, for the fuzzers in `rust/fuzz` and for tests without one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "to find faults"
)]

mod access;
mod arp;
mod dhcp;
mod dhcp6;
mod efi;
mod input;
mod keys;
mod mdns;
mod netlink;
mod screen;
mod settings;
mod ssh;
mod uevent;

pub use self::access::access;
pub use self::efi::efi;
pub use self::keys::keys;
pub use self::screen::screen;
pub use self::settings::settings;
pub use arp::arp;
pub use dhcp::dhcp;
pub use dhcp6::dhcp6;
pub use mdns::mdns;
pub use netlink::netlink;
pub use ssh::ssh;
pub use uevent::uevent;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// Every target with its name, which its fuzzer and the folder of its corpus
/// have, too.
pub const TARGETS: [(&str, Target); 12] = [
    ("access", access),
    ("arp", arp),
    ("dhcp", dhcp),
    ("dhcp6", dhcp6),
    ("efi", efi),
    ("keys", keys),
    ("mdns", mdns),
    ("netlink", netlink),
    ("screen", screen),
    ("settings", settings),
    ("ssh", ssh),
    ("uevent", uevent),
];
