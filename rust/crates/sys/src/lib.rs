//! What diskomator asks of the kernel: every system call and every `unsafe`.

pub mod block;
pub mod clock;
pub mod datagram;
pub mod dhcp6;
mod font;
pub mod kmsg;
pub mod logger;
pub mod machine;
pub mod multicast;
pub mod netconsole;
pub mod netlink;
pub mod nvmet;
pub mod packet;
pub mod probe;
pub mod process;
pub mod random;
pub mod root;
pub mod settings;
pub mod signals;
mod source;
pub mod sysfs;
pub mod terminal;
pub mod uevent;
pub mod watch;
