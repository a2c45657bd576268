//! The numbers that tell one written disk from all others.

use std::fmt;

/// Random numbers for one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// As they are in a partition table.
    pub(crate) disk: [u8; 16],
    pub(crate) partition: [u8; 16],
    /// Of the file system.
    pub(crate) serial: u32,
    /// A mark in the blocks that are written on trial.
    pub(crate) nonce: [u8; 16],
}

impl Identity {
    /// Bytes that it is made of.
    pub(crate) const RANDOM: usize = 52;

    pub(crate) fn of(random: &[u8; Self::RANDOM]) -> Self {
        let sixteen = |at: usize| -> [u8; 16] { std::array::from_fn(|index| random[at + index]) };
        let serial = u32::from_le_bytes(std::array::from_fn(|index| random[32 + index]));
        Self { disk: guid(sixteen(0)), partition: guid(sixteen(16)), serial, nonce: sixteen(36) }
    }
}

/// Version 4 of RFC 9562, with the first three fields in the order of a partition table (UEFI Specification 2.10,
/// appendix A).
fn guid(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[7] = bytes[7] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in [3, 2, 1, 0, 99, 5, 4, 99, 7, 6, 99, 8, 9, 99, 10, 11, 12, 13, 14, 15] {
            match self.partition.get(at) {
                Some(byte) => write!(f, "{byte:02x}")?,
                None => f.write_str("-")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_shown_as_everybody_shows_it() {
        let random = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let identity = Identity::of(&random);
        assert_eq!(identity.to_string(), "13121110-1514-4716-9819-1a1b1c1d1e1f");
        assert_eq!((identity.serial, identity.nonce[0]), (0x2322_2120, 36));
        assert_ne!(identity.disk, identity.partition);
    }
}
