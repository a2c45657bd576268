//! `config`: the settings of this boot, as the daemons understand
//! them, for people and for scripts.

use kernel::given;
use kernel::root::Root;
use lexopt::Arg::{Long, Short, Value};
use runtime::table;
use runtime::{Failure, print, print_help, print_json};
use serde::Serialize;
use settings::{Product, Setting, Settings, Source, help};

const USAGE: &str = "\
Usage: {product} config [--json]
       {product} config NAME

Lists the settings of this boot: each with its value and where it was given, and
below them what was given and means nothing. With NAME, the value of one alone.

Settings are given in these places, of which the last one that has a setting
counts:
  image           words of the command line that is built into the image
  boot-partition  files loader/credentials/{product}.NAME.cred on the partition
                  that the machine boots from
  beside-image    files {product}.NAME.cred in the directory EFIFILE.extra.d
                  beside the image, such as EFI/BOOT/BOOTX64.EFI.extra.d
  boot-loader     files /.extra/credentials/{product}.NAME.cred in the initrd
                  that a boot loader hands over, such as iPXE
  fw_cfg          opt/io.systemd.credentials/{product}.NAME, given by QEMU
  smbios          SMBIOS strings of type 11:
                  io.systemd.credential:{product}.NAME=VALUE
  command-line    words {product}.NAME=VALUE of the kernel command line that
                  are not the image's own
Such a file holds the value and nothing else. With Secure Boot on, files count
for nothing, as nobody signed them.

Settings:
";

/// The values of the platform's settings, which the table of settings leaves open.
const VALUES: &str = "\
DEV is the kernel's name of an Ethernet link or its MAC address. An address
without DEV is for the first one with a cable in it, `off` for all. IPv6
addresses do not keep a link from asking for one of IPv4 by DHCP. The kernel's
own form, ip=ADDRESS::GATEWAY:NETMASK::DEV, gives an address, too.

Options:
  --json      list as JSON, see below
  -h, --help  show this text

As JSON: {\"settings\": [{\"name\", \"value\", \"from\"}], \"warnings\": [text]}. A
setting that has more than one value is listed as often. \"from\" is one of the
places above, or null for what nobody has set.

Exit status: 0 done, 2 wrong usage.
";

const WIDTH: usize = 78;

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    value: String,
    from: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Listing {
    settings: Vec<Row>,
    warnings: Vec<String>,
}

/// Runs the applet. The help explains the `values` of the product's own settings,
/// in paragraphs that each end in an empty line.
pub fn run<C: Product>(mut args: lexopt::Parser, values: &str) -> Result<(), Failure> {
    let (mut wanted, mut json) = (None, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return print_help::<C>(&usage::<C>(values)),
            Long("json") => json = true,
            Value(name) if wanted.is_none() => wanted = Some(name.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().into()),
        }
    }
    let (settings, _): (Settings<C>, _) = given::read(&Root::default());
    match wanted {
        None if json => print_json(&listing(&settings)),
        None => print(&text(&listing(&settings))),
        Some(wanted) => {
            let Some(setting) = C::setting(C::without_prefix(&wanted).unwrap_or(&wanted)) else {
                let error = format!("there is no setting {wanted:?}; `{} config` lists them", C::NAME);
                return Err(Failure::Usage(error.into()));
            };
            let lines: Vec<String> = settings.values(setting).iter().map(|(value, _)| format!("{value}\n")).collect();
            print(&lines.concat())
        }
    }
}

fn usage<C: Product>(values: &str) -> String {
    format!("{USAGE}{}\n{values}{VALUES}", help::<C>(WIDTH))
}

fn listing<C: Product>(settings: &Settings<C>) -> Listing {
    let row = |setting: &Setting<C>, (value, source): (String, Option<Source>)| Row {
        name: setting.name,
        value,
        from: source.map(Source::name),
    };
    let rows =
        C::SETTINGS.iter().flat_map(|setting| settings.values(setting).into_iter().map(|value| row(setting, value)));
    Listing { settings: rows.collect(), warnings: settings.warnings.iter().map(ToString::to_string).collect() }
}

fn text(listing: &Listing) -> String {
    let mut rows = vec![["SETTING", "VALUE", "FROM"].map(str::to_owned)];
    let cells = |row: &Row| [row.name.to_owned(), row.value.clone(), row.from.unwrap_or("-").to_owned()];
    rows.extend(listing.settings.iter().map(cells));
    let mut text = table(&rows);
    if !listing.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &listing.warnings {
        text.push_str(&format!("Warning: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use settings::Given;

    use super::*;
    use crate::sample::Sample;

    #[test]
    fn settings_are_printed_as_they_can_be_set() {
        let ip = "sample.ip=off sample.ip=eth0:dhcp sample.ip=eth1:2001:db8::7/64 ip=192.0.2.7";
        let hosts = "sample.syslog=[2001:db8::1]:5514 sample.netconsole=fe80::1%eth0 sample.name=x";
        let all = "sample.debug=on sample.log=trace sample.ssh";
        for line in ["", ip, hosts, all] {
            let settings = Settings::<Sample>::read(&Given { cmdline: line.to_owned(), ..Given::default() });
            let words = listing(&settings)
                .settings
                .into_iter()
                .map(|row| format!("{}.{}={}", Sample::NAME, row.name, row.value));
            let again = words.collect::<Vec<_>>().join(" ");
            assert_eq!(Sample::from_cmdline(&again), (settings.config, vec![]));
        }
    }

    #[test]
    fn each_setting_has_a_line_with_its_source_and_warnings_follow() {
        let cmdline = "sample.name=bench sample.lgo=debug".to_owned();
        let listing = listing(&Settings::<Sample>::read(&Given { cmdline, ..Given::default() }));
        let text = text(&listing);
        assert!(text.contains("\nname        bench  command-line\n"), "{text}");
        assert!(text.contains("\nlog         info   -\n"), "{text}");
        assert!(
            text.ends_with(
                "\n\nWarning: unknown setting \"sample.lgo=debug\" on the kernel command line is \
                                ignored; did you mean \"sample.log\"?\n"
            ),
            "{text}"
        );
        assert_eq!(
            serde_json::to_value(&listing).unwrap()["settings"][3],
            serde_json::json!({ "name": "name", "value": "bench", "from": "command-line" })
        );
    }

    #[test]
    fn the_help_fits_a_terminal() {
        let help = usage::<Sample>("").replace("{product}", "appliances");
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }
}
