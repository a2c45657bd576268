//! Sockets for multicast DNS, each of one link and family.
//!
//! They are bound to the group's address, so that nothing comes in but what
//! a machine on the link multicast: no router passes it on, and packets
//! for this machine alone are left to other programs at the same port.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netproto::mdns::responder::Family;
use netproto::mdns::wire::PORT;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, sockopt};

/// RFC 6762 section 3.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// RFC 6762 section 11: SHOULD.
const HOPS: i32 = 255;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} for multicast DNS on {link}")]
pub struct MulticastError {
    what: &'static str,
    link: String,
    source: io::Error,
}

/// Sends and receives on one link (RFC 6762 section 11).
#[derive(Debug)]
pub struct MulticastSocket {
    socket: UdpSocket,
    group: SocketAddr,
}

impl MulticastSocket {
    /// A socket on the link `index`, which is called `link`.
    pub fn open(index: u32, link: &str, family: Family) -> Result<Self, MulticastError> {
        let failed = |what| move |source: io::Error| MulticastError { what, link: link.to_owned(), source };
        let refused = |what| move |errno: nix::Error| failed(what)(errno.into());
        let (domain, group) = match family {
            Family::V4 => (AddressFamily::Inet, SocketAddr::V4(SocketAddrV4::new(GROUP_V4, PORT))),
            Family::V6 => (AddressFamily::Inet6, SocketAddr::V6(SocketAddrV6::new(GROUP_V6, PORT, 0, index))),
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(domain, SockType::Datagram, flags, None).map_err(refused("open a socket"))?;
        socket::setsockopt(&fd, sockopt::BindToDevice, &link.into()).map_err(refused("bind a socket to the link"))?;
        // RFC 6762 section 15: with others at the port each gets what is sent to everybody.
        socket::setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(refused("share the port"))?;
        match group {
            SocketAddr::V4(group) => {
                socket::bind(fd.as_raw_fd(), &SockaddrIn::from(group)).map_err(refused("bind the port"))?;
                socket::setsockopt(&fd, sockopt::IpMulticastTtl, &255).map_err(refused("set the TTL"))?;
                socket::setsockopt(&fd, sockopt::Ipv4Ttl, &HOPS).map_err(refused("set the TTL"))?;
                join_v4(&fd, index).map_err(refused("join the group"))?;
            }
            SocketAddr::V6(group) => {
                socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true).map_err(refused("leave IPv4 out"))?;
                socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(group)).map_err(refused("bind the port"))?;
                socket::setsockopt(&fd, sockopt::Ipv6MulticastHops, &HOPS).map_err(refused("set the hop limit"))?;
                socket::setsockopt(&fd, sockopt::Ipv6Ttl, &HOPS).map_err(refused("set the hop limit"))?;
            }
        }
        // Programs on this machine hear it, too: the kernel's default.
        let socket = UdpSocket::from(fd);
        if family == Family::V6 {
            socket.join_multicast_v6(&GROUP_V6, index).map_err(failed("join the group"))?;
        }
        Ok(Self { socket, group })
    }

    /// Sends to one host, or to everybody on the link.
    pub fn send(&self, message: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        self.socket.send_to(message, to.unwrap_or(self.group)).map(drop)
    }

    /// Receives what was sent to everybody: its length, and from whom it is.
    /// `WouldBlock` when there is nothing; what is longer than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer)
    }
}

impl AsFd for MulticastSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Joins on a link that need not have an address, which is how nix and the
/// standard library would name it.
fn join_v4(fd: &OwnedFd, index: u32) -> Result<(), nix::Error> {
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: GROUP_V4.to_bits().to_be() },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: i32::try_from(index).map_err(|_| nix::Error::EINVAL)?,
    };
    let len = libc::socklen_t::try_from(size_of::<libc::ip_mreqn>()).map_err(|_| nix::Error::EINVAL)?;
    let value = (&raw const request).cast();
    // SAFETY: the kernel reads `len` bytes of `request`, which is what ip(7)
    // names for this option.
    let answer = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, value, len) };
    nix::Error::result(answer).map(drop)
}
