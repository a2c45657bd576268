//! Identifiers that tell nothing: makers left them unchanged, or made them up.
//!
//! A value in these tables is one that several machines, disks or cards have
//! been seen with. It counts as absent.

use uuid::Uuid;

/// SMBIOS system UUIDs, as the kernel prints them.
const UUIDS: [u128; 7] = [
    // AMI's default, on boards of many makers: github.com/rockstor/rockstor-core,
    // issue 1964, and no end of public hardware reports.
    0x0300_0200_0400_0500_0006_0007_0008_0009,
    // Bytes that count up, in the byte order of the table and in that of print.
    0x0302_0100_0504_0706_0809_0a0b_0c0d_0e0f,
    0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f,
    // Bytes that count down: github.com/rockstor/rockstor-core, issue 2143.
    0x0000_0000_0000_0000_0807_0605_0403_0201,
    // HP MicroServer Gen8 without a serial number: the same issue.
    0x3139_3138_3538_5a43_3135_3531_3032_3750,
    // SolidRun LX2160A: github.com/SolidRun/lx2160a_uefi, issue 4.
    0x8a95_d198_7f46_11e5_bf8b_0800_2704_d48e,
    // A filler.
    0xdead_beef_dead_beef_dead_beef_dead_beef,
];

/// MAC addresses that cards have as long as nobody gives them one.
const MACS: [&[u8; 6]; 4] = [
    // Realtek's, of USB cards whose memory was never written, as many public
    // reports have it, and coreboot's for its RTL8168:
    // github.com/librecore-org/librecore, issue 8.
    &[0x00, 0xe0, 0x4c, 0x68, 0x00, 0x01],
    &[0x00, 0xe0, 0x4c, 0x00, 0xc0, 0xb0],
    // Atheros's: github.com/openwrt/openwrt, issue 21917.
    &[0x00, 0x03, 0x7f, 0xba, 0xdb, 0xad],
    // github.com/LibreRouterOrg/board, issue 20.
    &[0x00, 0x02, 0x03, 0x04, 0x05, 0x06],
];

/// The first of QEMU's own, which it gives to the cards of each machine (`net/net.c`).
const QEMU_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// Serial numbers of disks, in lower case.
const SERIALS: [&str; 6] = [
    // JMicron bridges: github.com/openmediavault/openmediavault, issue 665;
    // the second is in public reports of Sabrent's enclosures.
    "0123456789abcdef",
    "db9876543214e",
    // The card of QEMU (`hw/sd/sd.c`).
    "0xdeadbeef",
    "deadbeef",
    // Names of the field instead of a value.
    "serial",
    "none",
];

/// Runs of characters that serial numbers count up by.
const RUNS: [&str; 3] = ["0123456789abcdef", "1234567890abcdef", "abcdefghijklmnopqrstuvwxyz"];

/// World-wide names, in lower case: the start of each.
const WWIDS: [&str; 3] = [
    // An enclosure's: github.com/lxc/incus-os, issue 1145.
    "naa.500000000000000",
    // QEMU counts its namespaces from here, in the order of its command line
    // (`NVME_EUI64_DEFAULT` in `hw/nvme/nvme.h`).
    "eui.52540000000000",
    // QEMU's card: manufacturer, `XY`, `QEMU!`, revision, serial number.
    "aa585951454d552101deadbeef",
];

/// Whether a system UUID tells nothing. All zeros and all ones mean "none"
/// (SMBIOS 7.2.1), and any other byte repeated means no more.
pub fn is_uuid(uuid: &Uuid) -> bool {
    let bytes = uuid.as_bytes();
    bytes.iter().all(|byte| *byte == bytes[0]) || UUIDS.contains(&uuid.as_u128())
}

/// Whether a MAC address tells nothing.
pub fn is_mac(mac: &[u8; 6]) -> bool {
    let is_qemu_s = mac[..5] == QEMU_MAC[..5] && mac[5].wrapping_sub(QEMU_MAC[5]) < 16;
    let is_repeated = mac.iter().all(|byte| *byte == mac[0]);
    is_repeated || is_qemu_s || MACS.contains(&mac)
}

/// Whether a disk's serial number tells nothing: one character repeated, a run
/// that counts up, or one of the table.
pub fn is_serial(serial: &str) -> bool {
    let serial = serial.trim().to_ascii_lowercase();
    let digits = serial.strip_prefix("0x").unwrap_or(&serial);
    let is_repeated = digits.chars().all(|c| digits.starts_with(c));
    let is_run = digits.len() >= 6 && RUNS.iter().any(|run| run.contains(digits) || digits.starts_with(run));
    is_repeated || is_run || SERIALS.contains(&serial.as_str()) || is_number_up(digits)
}

/// `12345678901234567890`: decimal digits that count up, over and over.
fn is_number_up(digits: &str) -> bool {
    let bytes = digits.as_bytes();
    let follows = |pair: &[u8]| pair[0].is_ascii_digit() && pair[1] == b'0' + (pair[0] - b'0' + 1) % 10;
    bytes.len() >= 6 && bytes.windows(2).all(follows)
}

/// Whether a world-wide name tells nothing.
pub fn is_wwid(wwid: &str) -> bool {
    let wwid = wwid.trim().to_ascii_lowercase();
    let number = wwid.split_once('.').map_or(wwid.as_str(), |(_, number)| number);
    let is_repeated = number.chars().all(|c| number.starts_with(c));
    is_repeated || WWIDS.iter().any(|start| wwid.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_makers_leave_unchanged_tell_nothing() {
        for uuid in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "fefefefe-fefe-fefe-fefe-fefefefefefe",
            "03000200-0400-0500-0006-000700080009",
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
            "03020100-0504-0706-0809-0a0b0c0d0e0f",
        ] {
            assert!(is_uuid(&uuid.parse().unwrap()), "{uuid}");
        }
        for serial in [
            "",
            "0",
            "00000000000000000000",
            "0000",
            "FFFFFFFF",
            "0x00000000",
            "0xdeadbeef",
            "0123456789ABCDEF",
            "0123456789",
            "123456789012",
            "12345678901234567890",
            "ABCDEF",
            "abcdefgh",
            "DB9876543214E",
            "None",
        ] {
            assert!(is_serial(serial), "{serial}");
        }
        for wwid in [
            "naa.0000000000000000",
            "0000000000000000",
            "naa.5000000000000000",
            "naa.5000000000000001",
            "naa.ffffffffffffffff",
            "eui.0000000000000000",
            "eui.00000000000000000000000000000000",
            "eui.5254000000000001",
            "aa585951454d552101deadbeef006219",
        ] {
            assert!(is_wwid(wwid), "{wwid}");
        }
        for mac in [[0; 6], [0xff; 6], [0x52, 0x54, 0, 0x12, 0x34, 0x57], [0, 0xe0, 0x4c, 0x68, 0, 1]] {
            assert!(is_mac(&mac), "{mac:02x?}");
        }
    }

    #[test]
    fn values_that_tell_something_are_taken() {
        assert!(!is_uuid(&"9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d".parse().unwrap()));
        for serial in ["S3Z8NB0K123456X", "4C530001", "01", "NVME-7001", "TWIN", "QM00001", "1234", "20120501030900000"]
        {
            assert!(!is_serial(serial), "{serial}");
        }
        for wwid in ["naa.5002538e40a1b2c3", "eui.0025385b71b0a1c2", "naa.600508b1001c57fe14cf3e577b87be3f"] {
            assert!(!is_wwid(wwid), "{wwid}");
        }
        for mac in [[0x52, 0x54, 0, 0xd1, 0x5c, 0], [0, 0x1b, 0x21, 2, 3, 4], [0x52, 0x54, 0, 0x12, 0x34, 0x66]] {
            assert!(!is_mac(&mac), "{mac:02x?}");
        }
    }
}
