//! The kernel command line.

use diskomator_core::addressing::Setting;
use diskomator_core::config::Config;
use diskomator_core::disk::{Attributes, Disk};
use diskomator_core::net::Mac;
use diskomator_core::selection::Selection;

/// A command line: every word of it means something or is complained of at most
/// once, and what it means can be written down and read again.
pub fn settings(data: &[u8]) {
    let line = String::from_utf8_lossy(data);
    let (config, warnings) = Config::from_cmdline(&line);
    assert!(warnings.len() <= line.split_whitespace().count());
    for warning in &warnings {
        assert!(!warning.to_string().is_empty());
    }
    assert_eq!(Config::from_cmdline(&line).0, config);

    let links = [("eth0", Mac([0x52, 0x54, 0, 0, 0, 1])), ("enp1s0", Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]))];
    for setting in config.ip.settings() {
        assert_eq!(setting.to_string().parse::<Setting>().as_ref(), Ok(setting), "{setting}");
    }
    for (name, mac) in links {
        for is_chosen in [false, true] {
            let own: Vec<_> = config.ip.addresses(name, mac, is_chosen).collect();
            let has_ipv4 = own.iter().any(|address| address.ip.is_ipv4());
            assert!(!has_ipv4 || !config.ip.asks(name, mac, is_chosen));
            assert!(own.iter().all(|address| address.prefix4().is_some() == address.ip.is_ipv4()));
        }
    }

    let disks = disks();
    for selection in [&config.export, &config.readonly, &config.partitions, &config.passthru] {
        assert_eq!(selection.to_string().parse::<Selection>().as_ref(), Ok(selection), "{selection}");
        for disk in &disks {
            let (takes, asks) = (selection.takes(disk), selection.asks_for(disk));
            assert!(takes || !asks);
            assert!(!takes || !selection.is_none());
        }
    }
}

fn disks() -> [Disk; 2] {
    let disk = |name: &str, model: &str, serial: &str, read_only| {
        Disk::new(Attributes {
            name: name.into(),
            devpath: format!("devices/pci0000:00/0000:00:04.0/block/{name}"),
            sectors: 1 << 20,
            block_size: 512,
            read_only,
            model: Some(model.into()),
            serial: Some(serial.into()),
            ..Attributes::default()
        })
    };
    [disk("sda", "A DISK", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false), disk("nvme0n1", "Ünïcode", "", true)]
}
