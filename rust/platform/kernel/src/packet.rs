//! Sockets for DHCP: one that sends and receives without an address, one that
//! sends from a leased address, and one for ARP.

use std::io::{self, IoSliceMut};
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use netproto::dhcp::frame::{CLIENT_PORT, Checksum, SERVER_PORT};
use nix::sys::socket::{
    self, AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrLike, sockopt,
};

/// IPv4 in `linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
/// ARP in the same.
const ETH_P_ARP: u16 = 0x0806;
/// `struct tpacket_auxdata` in `linux/if_packet.h`.
const AUXDATA_LEN: usize = 20;
/// The same; the sender left the checksum to hardware.
const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
/// A socket option of `SOL_PACKET` in `linux/if_packet.h`.
const PACKET_AUXDATA: i32 = 8;
const UDP: u8 = 17;
const FRAGMENT_OFFSET: u32 = 0x1fff;
/// `SKF_AD_OFF + SKF_AD_PKTTYPE` of `linux/filter.h`: where a filter finds
/// whom the packet is for.
const PACKET_TYPE: u32 = 0u32.wrapping_sub(0x1000) + 4;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} on {link}")]
pub struct SocketError {
    what: &'static str,
    link: String,
    source: io::Error,
}

impl SocketError {
    pub(crate) fn new(what: &'static str, link: &str) -> impl FnOnce(nix::Error) -> Self {
        move |errno| Self { what, link: link.to_owned(), source: errno.into() }
    }
}

/// A packet socket on one link (packet(7)) that sees only UDP to port 68.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: i32,
}

impl PacketSocket {
    /// A socket on the link `index`, whose name is for messages only.
    pub fn open(index: u32, link: &str) -> Result<Self, SocketError> {
        let (fd, index) = open_packet(index, link, ETH_P_IP, &mut to_client_port())?;
        let on: libc::c_int = 1;
        set_option(&fd, libc::SOL_PACKET, PACKET_AUXDATA, &on)
            .map_err(SocketError::new("ask for checksum states", link))?;
        Ok(Self { fd, index })
    }

    /// Sends an IPv4 packet to every station on the link.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        self.broadcast_as(ETH_P_IP, packet)
    }

    /// Sends what follows an Ethernet header with this type to every station
    /// on the link.
    pub fn broadcast_as(&self, ethertype: u16, payload: &[u8]) -> io::Result<()> {
        let everybody = link_address(self.index, ethertype)?;
        socket::sendto(self.fd.as_raw_fd(), payload, &everybody, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// Receives an IPv4 packet: its length and what its UDP checksum is worth.
    /// `WouldBlock` when there is none; a packet longer than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Checksum)> {
        let mut control = nix::cmsg_space!([u8; AUXDATA_LEN]);
        let mut parts = [IoSliceMut::new(buffer)];
        let received =
            socket::recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let offloaded = received.cmsgs()?.any(|message| match message {
            ControlMessageOwned::Unknown(unknown) => {
                let header = unknown.cmsg_header;
                let status = unknown.data_bytes.first_chunk().copied().map_or(0, u32::from_ne_bytes);
                (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, PACKET_AUXDATA)
                    && status & TP_STATUS_CSUMNOTREADY != 0
            }
            _ => false,
        });
        Ok((received.bytes, if offloaded { Checksum::Offloaded } else { Checksum::Present }))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A packet socket on one link that sees ARP for IPv4, requests and replies,
/// and only those about addresses that it was told of.
#[derive(Debug)]
pub struct ArpSocket {
    fd: OwnedFd,
    index: i32,
}

impl ArpSocket {
    /// A socket on the link `index`, whose name is for messages only. It hears
    /// of no address yet.
    pub fn open(index: u32, link: &str) -> Result<Self, SocketError> {
        let (fd, index) = open_packet(index, link, ETH_P_ARP, &mut [drop_all()])?;
        Ok(Self { fd, index })
    }

    /// Hears from now on, of all ARP, only what says who has one of
    /// `addresses`, or asks for one by a probe: a network with a thousand
    /// stations wakes nobody up.
    pub fn listen_for(&self, addresses: &[Ipv4Addr]) -> io::Result<()> {
        Ok(attach_filter(&self.fd, &mut about(addresses))?)
    }

    /// Sends an ARP packet to every station on the link.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let everybody = link_address(self.index, ETH_P_ARP)?;
        socket::sendto(self.fd.as_raw_fd(), packet, &everybody, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// Receives an ARP packet, of which the length is returned. `WouldBlock`
    /// when there is none; a packet longer than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(socket::recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
    }
}

impl AsFd for ArpSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A packet socket on a link, for one protocol and behind a filter.
fn open_packet(
    index: u32,
    link: &str,
    ethertype: u16,
    filter: &mut [libc::sock_filter],
) -> Result<(OwnedFd, i32), SocketError> {
    let failed = |what| SocketError::new(what, link);
    let index = i32::try_from(index).map_err(|_| failed("use the link's index")(nix::Error::EINVAL))?;
    // Without a protocol nothing arrives before the filter is in place.
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Packet, SockType::Datagram, flags, None)
        .map_err(failed("open a packet socket"))?;
    attach_filter(&fd, filter).map_err(failed("attach a packet filter"))?;
    let link = link_address(index, ethertype).map_err(failed("make an address"))?;
    socket::bind(fd.as_raw_fd(), &link).map_err(failed("bind a packet socket"))?;
    Ok((fd, index))
}

/// A UDP socket at a leased address. It only sends: answers reach the packet
/// socket too, and one way in is enough. Its being there keeps the kernel from
/// answering them with "port unreachable".
#[derive(Debug)]
pub struct LeasedSocket(OwnedFd);

impl LeasedSocket {
    /// A socket at port 68 of `address`, which the link must have already.
    pub fn open(link: &str, address: Ipv4Addr) -> Result<Self, SocketError> {
        let failed = |what| SocketError::new(what, link);
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(AddressFamily::Inet, SockType::Datagram, flags, None)
            .map_err(failed("open a UDP socket"))?;
        attach_filter(&fd, &mut [drop_all()]).map_err(failed("attach a packet filter"))?;
        socket::setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(failed("share the client's port"))?;
        socket::setsockopt(&fd, sockopt::BindToDevice, &link.into()).map_err(failed("bind a socket to the link"))?;
        socket::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, CLIENT_PORT)))
            .map_err(failed("bind the client's port"))?;
        Ok(Self(fd))
    }

    /// Sends a DHCP message to a server.
    pub fn send(&self, server: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        let to = SockaddrIn::from(SocketAddrV4::new(server, SERVER_PORT));
        socket::sendto(self.0.as_raw_fd(), message, &to, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

/// Everybody on the link, or the link itself to bind to.
fn link_address(index: i32, ethertype: u16) -> Result<LinkAddr, nix::Error> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(|_| nix::Error::EINVAL)?,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    };
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(|_| nix::Error::EINVAL)?;
    // SAFETY: the pointer is to a whole sockaddr_ll of that length and family,
    // which from_raw copies.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(len)) }.ok_or(nix::Error::EINVAL)
}

/// Passes whole datagrams and first fragments of UDP to port 68, whatever the
/// length of the IPv4 header, at which the packet begins. A packet for another
/// station does not pass; that is also what the kernel calls packets with the
/// tag of a virtual network (IEEE 802.1Q) that this machine is not on.
fn to_client_port() -> [libc::sock_filter; 11] {
    use libc::{
        BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET, BPF_W,
    };
    [
        statement(BPF_LD | BPF_W | BPF_ABS, PACKET_TYPE),
        branch(BPF_JMP | BPF_JEQ | BPF_K, u32::from(libc::PACKET_OTHERHOST), 8, 0),
        statement(BPF_LD | BPF_B | BPF_ABS, 9),
        branch(BPF_JMP | BPF_JEQ | BPF_K, u32::from(UDP), 0, 6),
        statement(BPF_LD | BPF_H | BPF_ABS, 6),
        branch(BPF_JMP | BPF_JSET | BPF_K, FRAGMENT_OFFSET, 4, 0),
        statement(BPF_LDX | BPF_B | BPF_MSH, 0),
        statement(BPF_LD | BPF_H | BPF_IND, 2),
        branch(BPF_JMP | BPF_JEQ | BPF_K, u32::from(CLIENT_PORT), 0, 1),
        statement(BPF_RET | BPF_K, u32::MAX),
        drop_all(),
    ]
}

/// Passes ARP for IPv4 over Ethernet whose sender has one of `addresses`, or
/// that has no sender and one of them as its target: a probe. Switches that keep
/// track of their stations send each of them such a probe, too, but to it alone;
/// who wants the address asks everybody.
fn about(addresses: &[Ipv4Addr]) -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    /// Where a packet has these fields (RFC 826).
    const PROTOCOL: u32 = 2;
    const SENDER: u32 = 14;
    const TARGET: u32 = 24;
    let pass = statement(BPF_RET | BPF_K, u32::MAX);
    let mut program = vec![
        statement(BPF_LD | BPF_W | BPF_ABS, PACKET_TYPE),
        branch(BPF_JMP | BPF_JEQ | BPF_K, u32::from(libc::PACKET_OTHERHOST), 2, 0),
        statement(BPF_LD | BPF_H | BPF_ABS, PROTOCOL),
        branch(BPF_JMP | BPF_JEQ | BPF_K, u32::from(ETH_P_IP), 1, 0),
        drop_all(),
        statement(BPF_LD | BPF_W | BPF_ABS, SENDER),
    ];
    let is_one = |program: &mut Vec<_>| {
        for address in addresses {
            program.push(branch(BPF_JMP | BPF_JEQ | BPF_K, address.to_bits(), 0, 1));
            program.push(pass);
        }
    };
    is_one(&mut program);
    program.push(branch(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0));
    program.push(drop_all());
    program.push(statement(BPF_LD | BPF_W | BPF_ABS, PACKET_TYPE));
    program.push(branch(BPF_JMP | BPF_JEQ | BPF_K, u32::from(libc::PACKET_BROADCAST), 1, 0));
    program.push(drop_all());
    program.push(statement(BPF_LD | BPF_W | BPF_ABS, TARGET));
    is_one(&mut program);
    program.push(drop_all());
    program
}

/// Passes nothing.
fn drop_all() -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, 0)
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    branch(code, k, 0, 0)
}

/// `jt` and `jf` count the statements to skip.
fn branch(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    // Every code is a byte.
    libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}

fn attach_filter(fd: &OwnedFd, program: &mut [libc::sock_filter]) -> Result<(), nix::Error> {
    let len = u16::try_from(program.len()).map_err(|_| nix::Error::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// setsockopt(2) for what nix does not know. `T` must be what the kernel
/// reads for this option.
fn set_option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> Result<(), nix::Error> {
    let len = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| nix::Error::EINVAL)?;
    // SAFETY: the kernel reads `len` bytes of `value`, which are there, and the
    // filter that a sock_fprog points to, which its caller still borrows.
    let answer = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), len) };
    nix::Error::result(answer).map(drop)
}
