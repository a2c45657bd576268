//! IPv4 and UDP around a DHCP message (RFC 791, RFC 768), for a host that has
//! no address yet and so cannot let the kernel do it.

use std::net::Ipv4Addr;

/// Where clients listen.
pub const CLIENT_PORT: u16 = 68;
/// Where servers and relays listen.
pub const SERVER_PORT: u16 = 67;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const VERSION_4_AND_5_WORDS: u8 = 0x45;
/// Routers are passed by relays, not by packets; 64 is what the kernel uses.
const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;

/// The state of a received packet's UDP checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It is there to be checked.
    Present,
    /// The sender is on this machine or is its host, and left it to hardware
    /// that the packet never met (`TP_STATUS_CSUMNOTREADY` in packet(7)).
    Offloaded,
}

/// A datagram to a DHCP client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The sender.
    pub source: Ipv4Addr,
    /// Whom to.
    pub destination: Ipv4Addr,
    /// The DHCP message.
    pub payload: &'a [u8],
}

/// Why a packet holds no datagram for a DHCP client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It ends before its headers say.
    #[error("the packet is truncated at {0} bytes")]
    Truncated(usize),
    /// It is not IPv4, or its header's length makes no sense.
    #[error("the packet does not begin with an IPv4 header")]
    NotIpv4,
    /// The IPv4 header's checksum is wrong.
    #[error("the IPv4 header's checksum is wrong")]
    HeaderChecksum,
    /// One fragment of several.
    #[error("the packet is a fragment")]
    Fragment,
    /// Not UDP to port 68.
    #[error("the packet is not UDP to a DHCP client")]
    NotForClient,
    /// UDP's length makes no sense.
    #[error("UDP's length of {0} bytes does not fit the packet")]
    UdpLength(usize),
    /// UDP's checksum is wrong.
    #[error("the UDP checksum is wrong")]
    UdpChecksum,
}

/// An IPv4 packet with a datagram from a DHCP client to a server.
pub fn build(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    build_between((source, CLIENT_PORT), (destination, SERVER_PORT), payload)
}

/// An IPv4 packet with a datagram between any two ports; tests play the server.
pub fn build_between(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (from.0, to.0);
    // A DHCP message is some hundred bytes; one that did not fit 16 bits
    // would be cut here rather than lie about its length.
    let udp_len = u16::try_from(UDP_HEADER + payload.len()).unwrap_or(u16::MAX - 20);
    let payload = &payload[..usize::from(udp_len) - UDP_HEADER];
    let total = udp_len + 20;

    let mut out = Vec::with_capacity(usize::from(total));
    out.extend_from_slice(&[VERSION_4_AND_5_WORDS, 0]);
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&DONT_FRAGMENT.to_be_bytes());
    out.extend_from_slice(&[TTL, UDP, 0, 0]);
    out.extend_from_slice(&source.octets());
    out.extend_from_slice(&destination.octets());
    let checksum = Sum::default().add(&out).finish();
    out[10..12].copy_from_slice(&checksum.to_be_bytes());

    out.extend_from_slice(&from.1.to_be_bytes());
    out.extend_from_slice(&to.1.to_be_bytes());
    out.extend_from_slice(&udp_len.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(payload);
    // Zero would mean that there is none (RFC 768).
    let checksum = match udp_sum(source, destination, &out[IP_HEADER..]).finish() {
        0 => u16::MAX,
        sum => sum,
    };
    out[26..28].copy_from_slice(&checksum.to_be_bytes());
    out
}

/// Reads an IPv4 packet and returns the datagram to port 68 in it. Bytes after
/// the packet are Ethernet's padding.
pub fn parse(packet: &[u8], checksum: Checksum) -> Result<Datagram<'_>, FrameError> {
    let truncated = FrameError::Truncated(packet.len());
    let fixed: &[u8; IP_HEADER] = packet.first_chunk().ok_or(truncated)?;
    let header_len = usize::from(fixed[0] & 0xf) * 4;
    if fixed[0] >> 4 != 4 || header_len < IP_HEADER {
        return Err(FrameError::NotIpv4);
    }
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let packet = packet.get(..total).ok_or(truncated)?;
    let (header, udp) = packet.split_at_checked(header_len).ok_or(truncated)?;
    if Sum::default().add(header).finish() != 0 {
        return Err(FrameError::HeaderChecksum);
    }
    if u16::from_be_bytes([fixed[6], fixed[7]]) & MORE_FRAGMENTS_AND_OFFSET != 0 {
        return Err(FrameError::Fragment);
    }
    let udp_header: &[u8; UDP_HEADER] = udp.first_chunk().ok_or(truncated)?;
    if fixed[9] != UDP || u16::from_be_bytes([udp_header[2], udp_header[3]]) != CLIENT_PORT {
        return Err(FrameError::NotForClient);
    }
    let udp_len = usize::from(u16::from_be_bytes([udp_header[4], udp_header[5]]));
    let udp = udp.get(..udp_len).ok_or(FrameError::UdpLength(udp_len))?;
    let payload = udp.get(UDP_HEADER..).ok_or(FrameError::UdpLength(udp_len))?;
    let source = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    let destination = Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]);
    let given = [udp_header[6], udp_header[7]];
    if checksum == Checksum::Present && given != [0, 0] && udp_sum(source, destination, udp).finish() != 0 {
        return Err(FrameError::UdpChecksum);
    }
    Ok(Datagram { source, destination, payload })
}

/// The sum over UDP's pseudo header and the datagram (RFC 768).
fn udp_sum(source: Ipv4Addr, destination: Ipv4Addr, udp: &[u8]) -> Sum {
    let len = u32::try_from(udp.len()).unwrap_or(u32::MAX);
    Sum::default().add(&source.octets()).add(&destination.octets()).add(&[0, UDP]).add(&len.to_be_bytes()).add(udp)
}

/// The Internet checksum (RFC 1071). All but the last piece must be of even
/// length.
#[derive(Default, Clone, Copy)]
struct Sum(u64);

impl Sum {
    fn add(self, bytes: &[u8]) -> Self {
        let sum =
            bytes.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
        Self(self.0 + sum.sum::<u64>())
    }

    fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), SERVER_PORT);
    const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 7), CLIENT_PORT);

    fn good() -> Vec<u8> {
        build_between(SERVER, CLIENT, b"hello")
    }

    /// `packet` with its header's checksum put right.
    fn fixed(mut packet: Vec<u8>) -> Vec<u8> {
        let end = usize::from(packet[0] & 0xf) * 4;
        packet[10..12].fill(0);
        let sum = Sum::default().add(&packet[..end]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn changed(at: usize, byte: u8) -> Vec<u8> {
        let mut packet = good();
        packet[at] = byte;
        fixed(packet)
    }

    #[test]
    fn what_is_built_is_read_again_and_padding_is_ignored() {
        let mut packet = good();
        packet.extend_from_slice(&[0; 13]);
        let datagram = parse(&packet, Checksum::Present).unwrap();
        assert_eq!(datagram, Datagram { source: SERVER.0, destination: CLIENT.0, payload: b"hello" });
    }

    #[test]
    fn a_request_is_byte_for_byte_what_the_rfcs_say() {
        let packet = build(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &[1, 2, 3]);
        assert_eq!(
            packet,
            [
                0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0x3a, 0xcf, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67, 0, 11,
                0xfb, 0x4f, 1, 2, 3
            ]
        );
    }

    #[test]
    fn a_header_with_options_is_read() {
        let mut packet = good();
        packet.splice(20..20, [1, 1, 1, 0]);
        packet[0] = 0x46;
        let len = u16::try_from(packet.len()).unwrap();
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        assert_eq!(parse(&fixed(packet), Checksum::Present).unwrap().payload, b"hello");
    }

    #[test]
    fn wrong_checksums_are_noticed() {
        let mut packet = good();
        packet[8] ^= 1;
        assert_eq!(parse(&packet, Checksum::Present), Err(FrameError::HeaderChecksum));
        let mut packet = good();
        packet[30] ^= 1;
        assert_eq!(parse(&packet, Checksum::Present), Err(FrameError::UdpChecksum));
    }

    #[test]
    fn a_checksum_that_hardware_would_have_made_or_none_at_all_is_no_reason_to_drop() {
        let mut packet = good();
        packet[26] ^= 1;
        assert!(parse(&packet, Checksum::Offloaded).is_ok());
        packet[26..28].fill(0);
        assert!(parse(&packet, Checksum::Present).is_ok());
    }

    #[test]
    fn what_is_not_for_a_client_is_dropped() {
        for (packet, error) in [
            (changed(9, 6), FrameError::NotForClient),
            (changed(23, 67), FrameError::NotForClient),
            (changed(6, 0x20), FrameError::Fragment),
            (changed(7, 1), FrameError::Fragment),
            (changed(25, 7), FrameError::UdpLength(7)),
            (changed(25, 200), FrameError::UdpLength(200)),
            (changed(0, 0x65), FrameError::NotIpv4),
            (changed(0, 0x44), FrameError::NotIpv4),
            (changed(3, 200), FrameError::Truncated(33)),
            (changed(3, 27), FrameError::Truncated(33)),
            (changed(3, 10), FrameError::Truncated(33)),
        ] {
            assert_eq!(parse(&packet, Checksum::Present), Err(error));
        }
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        let packet = good();
        for len in 0..packet.len() {
            assert!(parse(&packet[..len], Checksum::Offloaded).is_err(), "{len}");
        }
        let mut rng = Rng::new(1);
        for _ in 0..100_000 {
            let mut packet = good();
            for _ in 0..=rng.below(4) {
                let at = usize::try_from(rng.below(33)).unwrap();
                packet[at] = rng.next_u32().to_le_bytes()[0];
            }
            let _ = parse(&fixed_or_same(packet), Checksum::Offloaded);
        }
    }

    fn fixed_or_same(packet: Vec<u8>) -> Vec<u8> {
        if usize::from(packet[0] & 0xf) * 4 <= packet.len() && packet[0] & 0xf >= 5 { fixed(packet) } else { packet }
    }
}
