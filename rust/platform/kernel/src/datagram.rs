//! Datagrams to one address, whose loss is noticed if anybody says so.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use netproto::destination::Destination;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt};

/// A socket that sends to one address.
#[derive(Debug)]
pub struct DatagramSocket(UdpSocket);

impl DatagramSocket {
    /// Fails as long as there is no route to the address, or not the link that it is on.
    pub fn connect(to: &Destination, usual_port: u16) -> io::Result<Self> {
        let port = to.port.unwrap_or(usual_port);
        let (any, to): (IpAddr, SocketAddr) = match to.ip {
            IpAddr::V4(ip) => (Ipv4Addr::UNSPECIFIED.into(), (ip, port).into()),
            IpAddr::V6(ip) => {
                let link = to.link.as_deref().map(if_nametoindex).transpose()?.unwrap_or_default();
                (Ipv6Addr::UNSPECIFIED.into(), SocketAddrV6::new(ip, port, 0, link).into())
            }
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        // It may be everybody on the link.
        socket.set_broadcast(true)?;
        // Also tells of a host that does not answer, which ip(7) and udp(7) otherwise keep back.
        if to.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
        socket.connect(to)?;
        Ok(Self(socket))
    }

    /// Sends one datagram. An error can be about an earlier one.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.0.send(datagram).map(drop)
    }

    /// The error, if any, that came back for datagrams sent before.
    pub fn check(&self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }
}
