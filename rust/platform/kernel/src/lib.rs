//! Interfaces of the kernel: every system call, and nearly every `unsafe` block.

pub mod block;
pub mod cards;
pub mod clock;
pub mod datagram;
pub mod dhcp6;
pub mod efi;
pub mod error;
mod font;
pub mod given;
pub mod kmsg;
pub mod logger;
pub mod machine;
pub mod multicast;
pub mod netconsole;
pub mod netlink;
pub mod packet;
pub mod process;
pub mod random;
pub mod root;
pub mod signals;
mod source;
pub mod terminal;
pub mod uevent;
pub mod watch;
