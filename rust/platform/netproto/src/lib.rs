//! Network protocols: parsers and state machines.
//!
//! Nothing here opens a file or a socket, reads a clock, starts a thread or
//! makes up a random number: time, randomness and the kernel's answers are
//! arguments. So each decision can be tested on any machine.
#![forbid(unsafe_code)]

pub mod addressing;
pub mod arp;
pub mod claim;
pub mod destination;
pub mod dhcp;
pub mod dhcp6;
pub mod ipv4ll;
pub mod lenient;
pub mod mdns;
pub mod net;
pub mod pace;
pub mod rng;
pub mod syslog;
pub mod uevent;
