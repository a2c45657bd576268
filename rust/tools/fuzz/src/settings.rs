//! The kernel command line, and credentials.

use disks::config::{Config, Settings};
use disks::disk::{Attributes, Disk};
use disks::selection::Selection;
use netproto::addressing::Setting;
use netproto::net::Mac;
use settings::{Content, Credential, Given, Product, Source, from_smbios};

/// A command line: every word of it means something or is complained of at most
/// once, and what it means can be written down and read again.
pub fn settings(data: &[u8]) {
    credentials(data);
    let line = String::from_utf8_lossy(data);
    let (config, warnings) = Config::from_cmdline(&line);
    assert!(warnings.len() <= line.split_whitespace().count());
    for warning in &warnings {
        assert!(!warning.to_string().is_empty());
    }
    assert_eq!(Config::from_cmdline(&line).0, config);

    let links = [("eth0", Mac([0x52, 0x54, 0, 0, 0, 1])), ("enp1s0", Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]))];
    for setting in config.system.ip.settings() {
        assert_eq!(setting.to_string().parse::<Setting>().as_ref(), Ok(setting), "{setting}");
    }
    for (name, mac) in links {
        for is_chosen in [false, true] {
            let own: Vec<_> = config.system.ip.addresses(name, mac, is_chosen).collect();
            let has_ipv4 = own.iter().any(|address| address.ip.is_ipv4());
            assert!(!has_ipv4 || !config.system.ip.asks(name, mac, is_chosen));
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

/// The bytes as the content of each credential that is a setting, and as an
/// SMBIOS structure: what comes of it can be given as words, too.
fn credentials(data: &[u8]) {
    let mut credentials = from_smbios(data);
    for setting in Config::SETTINGS {
        let name = format!("{}.{}", Config::NAME, setting.name);
        let is_base64 = data.first().is_some_and(|first| first & 1 == 1);
        let content = if is_base64 { Content::Base64(data.to_vec()) } else { Content::Plain(data.to_vec()) };
        credentials.push(Credential { name, source: Source::BesideImage, content });
    }
    for secure_boot in [false, true] {
        let given = Given { credentials: credentials.clone(), secure_boot, ..Given::default() };
        let mut settings = Settings::read(&given);
        assert!(settings.warnings.iter().all(|warning| !warning.to_string().is_empty()));
        // Nobody sees the value of a secret, so it can't be given again.
        let shown = Config::SETTINGS.iter().filter(|setting| !Config::SECRETS.contains(&setting.name));
        let values = shown.flat_map(|setting| {
            let values = settings.values(setting);
            assert!(!values.is_empty());
            values.into_iter().map(|(value, _)| format!("\"{}.{}={value}\"", Config::NAME, setting.name))
        });
        let line: Vec<String> = values.collect();
        settings.config.secret = Config::default().secret;
        // A quote would end the word, and the command line knows no other way to write one.
        if !line.iter().any(|word| word.matches('"').count() > 2) {
            assert_eq!(Config::from_cmdline(&line.join(" ")), (settings.config, vec![]));
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
