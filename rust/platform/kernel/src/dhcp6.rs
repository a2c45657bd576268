//! The socket of a DHCPv6 client, which is plain UDP: an address to talk with is
//! there before any lease. And the question to routers that comes before it.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netproto::dhcp6::wire::{CLIENT_PORT, SERVER_PORT, SERVERS};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sockopt};

use crate::packet::SocketError;

/// All routers on a link (RFC 4861 section 2.3).
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// A Router Solicitation (RFC 4861 section 4.1), without the sender's hardware
/// address, which a router then asks for. The kernel adds the checksum.
const ROUTER_SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
/// RFC 4861 section 6.1.1: MUST, or else it came through a router.
const HOPS: i32 = 255;

/// Asks the routers on the link `index`, which is called `link`, for what they
/// announce, from its link-local `address`. The kernel takes the answers.
pub fn solicit_routers(index: u32, link: &str, address: Ipv6Addr) -> Result<(), SocketError> {
    let failed = |what| SocketError::new(what, link);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)
        .map_err(failed("open a socket for ICMPv6"))?;
    socket::setsockopt(&fd, sockopt::Ipv6MulticastHops, &HOPS).map_err(failed("set the hop limit"))?;
    let own = SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, index));
    socket::bind(fd.as_raw_fd(), &own).map_err(failed("bind a socket for ICMPv6"))?;
    let routers = SockaddrIn6::from(SocketAddrV6::new(ROUTERS, 0, 0, index));
    socket::sendto(fd.as_raw_fd(), &ROUTER_SOLICITATION, &routers, MsgFlags::MSG_DONTWAIT)
        .map_err(failed("ask the routers"))?;
    Ok(())
}

/// Sends to all servers on one link, and receives their answers.
#[derive(Debug)]
pub struct Dhcp6Socket {
    socket: UdpSocket,
    servers: SocketAddr,
}

impl Dhcp6Socket {
    /// A socket at port 546 of `address`, a link-local one of the link `index`,
    /// which is called `link`. No router passes anything on to such an address.
    pub fn open(index: u32, link: &str, address: Ipv6Addr) -> Result<Self, SocketError> {
        let failed = |what| SocketError::new(what, link);
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(AddressFamily::Inet6, SockType::Datagram, flags, None)
            .map_err(failed("open a socket for DHCPv6"))?;
        socket::setsockopt(&fd, sockopt::BindToDevice, &link.into()).map_err(failed("bind a socket to the link"))?;
        let own = SockaddrIn6::from(SocketAddrV6::new(address, CLIENT_PORT, 0, index));
        socket::bind(fd.as_raw_fd(), &own).map_err(failed("bind the port of DHCPv6"))?;
        let servers = SocketAddr::V6(SocketAddrV6::new(SERVERS, SERVER_PORT, 0, index));
        Ok(Self { socket: UdpSocket::from(fd), servers })
    }

    /// Sends a message to all servers.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, self.servers).map(drop)
    }

    /// Receives a message: its length, and from whom it is. `WouldBlock` when
    /// there is none; what is longer than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer)
    }
}

impl AsFd for Dhcp6Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
