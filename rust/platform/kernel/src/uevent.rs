//! The kernel's uevents, from a netlink socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netproto::uevent::Uevent;
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt, sockopt,
};

/// The multicast group that the kernel itself sends to; udev's is 2.
const KERNEL_GROUP: u32 = 1;

/// A uevent is at most this long (`UEVENT_BUFFER_SIZE` in
/// `include/linux/kobject.h`, and its header).
const DATAGRAM_MAX: usize = 4096;

/// Room for the events of some hundred disks that appear at once.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A socket on which the kernel announces devices.
#[derive(Debug)]
pub struct UeventSocket(OwnedFd);

/// A message from the socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// One uevent of the kernel's.
    Uevent(Uevent),
    /// A datagram that is to be ignored, and why.
    Ignored(String),
    /// Events were lost, since they came faster than they were read: what the
    /// devices are now must be read from sysfs.
    Overrun,
    /// Nothing more for now.
    Empty,
}

impl UeventSocket {
    /// Subscribes to the kernel's uevents.
    pub fn open() -> io::Result<Self> {
        let fd = socket::socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        // Without CAP_NET_ADMIN the system's limit has to do.
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self(fd))
    }

    /// Reads one datagram, if there is one.
    pub fn receive(&self) -> io::Result<Received> {
        let mut buffer = [0; DATAGRAM_MAX];
        let (length, sender) = loop {
            match socket::recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                Ok(received) => break received,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Received::Empty),
                Err(Errno::ENOBUFS) => return Ok(Received::Overrun),
                Err(errno) => return Err(errno.into()),
            }
        };
        // Any process may send to a netlink group with the right capability;
        // only the kernel's port number is 0.
        match sender.map(|sender| sender.pid()) {
            Some(0) => {}
            _ => return Ok(Received::Ignored("not sent by the kernel".to_owned())),
        }
        Ok(match Uevent::parse(&buffer[..length]) {
            Ok(uevent) => Received::Uevent(uevent),
            Err(error) => Received::Ignored(error.to_string()),
        })
    }

    /// Waits for nothing and throws away what is there.
    pub fn drain(&self) -> io::Result<()> {
        let mut buffer = [0; DATAGRAM_MAX];
        loop {
            match socket::recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

crate::source::by_descriptor!(UeventSocket);
