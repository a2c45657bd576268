//! ARP for IPv4 over Ethernet (RFC 826), as it is used to see whether an
//! address is free (RFC 5227).

use std::net::Ipv4Addr;

use crate::net::Mac;

/// The length of a packet, without the Ethernet header and its padding.
pub const LEN: usize = 28;
/// The fields that say: Ethernet, IPv4, and the lengths of their addresses.
const LEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// The operation of a packet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Who has the target's address?
    Request = 1,
    /// I have the sender's.
    Reply = 2,
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The operation. For conflicts it makes no difference (RFC 5227 section
    /// 2.1.1: "any ARP packet, Request or Reply").
    pub op: Op,
    /// The sender.
    pub sender_mac: Mac,
    /// The sender's address; 0.0.0.0 in a probe.
    pub sender: Ipv4Addr,
    /// Whose address is known; zeros in a request.
    pub target_mac: Mac,
    /// The address in question.
    pub target: Ipv4Addr,
}

/// Why some bytes are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArpError {
    /// The packet ends too early.
    #[error("the ARP packet is truncated at {0} bytes")]
    Truncated(usize),
    /// It is about other addresses.
    #[error("the ARP packet is not about IPv4 on Ethernet")]
    OtherAddresses,
    /// No such operation.
    #[error("{0} is no ARP operation")]
    BadOp(u16),
    /// No station can be the sender.
    #[error("{0} cannot have sent an ARP packet")]
    BadSender(Mac),
}

impl Packet {
    /// Asks whether anybody has `address`, without a word that could enter
    /// anybody's cache (RFC 5227 section 1.1, "ARP Probe").
    pub fn probe(mac: Mac, address: Ipv4Addr) -> Self {
        Self { sender: Ipv4Addr::UNSPECIFIED, ..Self::announcement(mac, address) }
    }

    /// Tells everybody that `address` is ours (RFC 5227 section 1.1, "ARP
    /// Announcement").
    pub fn announcement(mac: Mac, address: Ipv4Addr) -> Self {
        Self { op: Op::Request, sender_mac: mac, sender: address, target_mac: Mac([0; 6]), target: address }
    }

    /// Reads what follows an Ethernet header; padding may follow.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArpError> {
        let packet: &[u8; LEN] = bytes.first_chunk().ok_or(ArpError::Truncated(bytes.len()))?;
        if packet[..6] != LEAD {
            return Err(ArpError::OtherAddresses);
        }
        let op = match u16::from_be_bytes(field(packet, 6)) {
            1 => Op::Request,
            2 => Op::Reply,
            other => return Err(ArpError::BadOp(other)),
        };
        let sender_mac = Mac(field(packet, 8));
        if !sender_mac.is_station() {
            return Err(ArpError::BadSender(sender_mac));
        }
        Ok(Self {
            op,
            sender_mac,
            sender: field::<4>(packet, 14).into(),
            target_mac: Mac(field(packet, 18)),
            target: field::<4>(packet, 24).into(),
        })
    }

    /// The packet as what follows an Ethernet header.
    pub fn build(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..6].copy_from_slice(&LEAD);
        out[6..8].copy_from_slice(&(self.op as u16).to_be_bytes());
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..].copy_from_slice(&self.target.octets());
        out
    }
}

/// `N` bytes of a packet.
fn field<const N: usize>(packet: &[u8; LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&packet[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    #[test]
    fn a_probe_as_bytes() {
        let bytes = Packet::probe(MAC, ADDRESS).build();
        #[rustfmt::skip]
        assert_eq!(bytes, [
            0, 1, 8, 0, 6, 4, 0, 1,
            0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 192, 0, 2, 7,
        ]);
        assert_eq!(Packet::parse(&bytes), Ok(Packet::probe(MAC, ADDRESS)));
    }

    #[test]
    fn what_is_built_can_be_read_with_or_without_padding() {
        let reply = Packet { op: Op::Reply, target_mac: Mac([2; 6]), ..Packet::announcement(MAC, ADDRESS) };
        for packet in [reply, Packet::announcement(MAC, ADDRESS)] {
            assert_eq!(Packet::parse(&packet.build()), Ok(packet));
            // Ethernet has no shorter frames than 60 bytes.
            assert_eq!(Packet::parse(&[&packet.build()[..], &[0xff; 18]].concat()), Ok(packet));
        }
    }

    #[test]
    fn whatever_is_not_such_a_packet_is_refused() {
        let good = Packet::announcement(MAC, ADDRESS).build();
        for len in 0..LEN {
            assert_eq!(Packet::parse(&good[..len]), Err(ArpError::Truncated(len)));
        }
        let with = |at: usize, byte| {
            let mut bytes = good;
            bytes[at] = byte;
            Packet::parse(&bytes)
        };
        for at in 0..6 {
            assert_eq!(with(at, 0x77), Err(ArpError::OtherAddresses), "byte {at}");
        }
        assert_eq!(with(7, 0), Err(ArpError::BadOp(0)));
        assert_eq!(with(7, 3), Err(ArpError::BadOp(3)), "RARP");
        assert!(matches!(with(8, 0xff), Err(ArpError::BadSender(_))));
    }

    #[test]
    fn noise_is_no_reason_to_panic() {
        let mut rng = Rng::new(1);
        for _ in 0..20_000 {
            let len = usize::try_from(rng.below(64)).unwrap();
            let mut bytes: Vec<u8> = (0..len).map(|_| rng.next_u32().to_le_bytes()[0]).collect();
            if rng.below(2) == 0 {
                bytes.iter_mut().zip(LEAD).for_each(|(byte, lead)| *byte = lead);
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                assert_eq!(packet.build(), bytes[..LEN]);
            }
        }
    }
}
