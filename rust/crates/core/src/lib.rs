//! What diskomator decides, as pure functions and state machines.
//!
//! Nothing here opens a file or a socket, reads a clock, starts a thread or
//! makes up a random number: time, randomness and what the kernel says are
//! arguments. That is what makes each decision testable on any machine.
#![forbid(unsafe_code)]

pub mod addressing;
pub mod arp;
pub mod base64;
pub mod boot;
pub mod claim;
pub mod config;
pub mod destination;
pub mod dhcp;
pub mod dhcp6;
pub mod disk;
pub mod error;
pub mod export;
pub mod identity;
pub mod ipv4ll;
pub mod lenient;
pub mod mdns;
pub mod net;
pub mod nvmet;
pub mod pace;
pub mod policy;
pub mod rng;
pub mod screen;
pub mod selection;
pub mod settings;
pub mod ssh;
pub mod syslog;
pub mod uevent;
pub mod worthless;
