//! The packets of a link, heard by a third party.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use netproto::arp::Packet;
use netproto::dhcp::wire::{Kind, Message, Op};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};

use crate::lab::wait_for;

/// A DHCP message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) to: Ipv4Addr,
    pub(crate) message: Message,
}

impl Seen {
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.message.kind == kind
    }

    /// A client that uses `address` asks for more time.
    pub(crate) fn extends(&self, address: Ipv4Addr) -> bool {
        self.is(Kind::Request) && self.message.ciaddr == address
    }
}

/// All that passed this network's links, both ways.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    messages: Arc<Mutex<Vec<Seen>>>,
    probes: Arc<Mutex<Vec<(Instant, Ipv4Addr)>>>,
}

impl Wire {
    /// Listens from now on.
    pub(crate) fn tap() -> Self {
        let tap =
            socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
        let wire = Self::default();
        let heard = wire.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(len) = socket::recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                heard.hear(Instant::now(), &buffer[..len]);
            }
        });
        wire
    }

    fn hear(&self, at: Instant, frame: &[u8]) {
        let Some((header, payload)) = frame.split_at_checked(14) else { return };
        match header[12..] {
            [8, 6] => {
                // A probe says nothing of its sender (RFC 5227 section 2.1.1).
                if let Some(packet) = Packet::parse(payload).ok().filter(|packet| packet.sender.is_unspecified()) {
                    self.probes.lock().unwrap().push((at, packet.target));
                }
            }
            [8, 0] => self.messages.lock().unwrap().extend(message(at, payload)),
            _ => {}
        }
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.messages.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, is: impl Fn(&Seen) -> bool) -> usize {
        self.all().iter().filter(|seen| is(seen)).count()
    }

    pub(crate) fn first(&self, is: impl Fn(&Seen) -> bool) -> Option<Seen> {
        self.all().into_iter().find(|seen| is(seen))
    }

    /// Waits until one passes, or has passed.
    pub(crate) fn wait_for(&self, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
        wait_for(what, || self.first(&is))
    }

    /// Waits for the answer of the server `from` to a question that has passed.
    pub(crate) fn wait_for_answer(&self, what: &str, kind: Kind, from: Ipv4Addr, is: impl Fn(&Seen) -> bool) -> Seen {
        wait_for(what, || {
            let all = self.all();
            let answers = |asked: &Seen| {
                all.iter().find(|seen| {
                    seen.is(kind)
                        && seen.message.op == Op::Reply
                        && seen.message.xid == asked.message.xid
                        && seen.message.options.server == Some(from)
                })
            };
            all.iter().filter(|seen| is(seen)).find_map(answers).cloned()
        })
    }

    /// The number of probes for `address`.
    pub(crate) fn probes(&self, address: Ipv4Addr) -> usize {
        self.probes.lock().unwrap().iter().filter(|(_, target)| *target == address).count()
    }
}

/// The DHCP message in an IPv4 packet to any host.
fn message(at: Instant, packet: &[u8]) -> Option<Seen> {
    const UDP: u8 = 17;
    let header_len = usize::from(packet.first()? & 15) * 4;
    let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let datagram = packet.get(header_len..)?;
    let to_dhcp = matches!(datagram.get(2..4)?, [0, 67 | 68]);
    if packet[9] != UDP || !to_dhcp {
        return None;
    }
    Some(Seen { at, to: to.into(), message: Message::parse(datagram.get(8..)?).ok()? })
}
