//! Whatever network the machine is plugged into.

use std::thread::sleep;
use std::time::Duration;

use e2e::{Boot, Bus, Failure, Lab, Nic, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn without_a_dhcp_server_link_local_addresses_will_do() -> Result<(), Failure> {
    Lab::run("without_a_dhcp_server_link_local_addresses_will_do", |lab| {
        let disk = lab.disk(Bus::Nvme, "LOCAL-4001", 64)?;
        let other = lab.initiator();
        // As a cable from machine to machine is, and no router that announces anything.
        other.run("kill $(cat /run/dnsmasq.pid); ip address add 169.254.7.7/16 dev eth0 scope link")?;
        let machine = lab.boot(lab.appliance().boot(Boot::Kernel).disk(&disk).debug())?;
        let mut local = Vec::new();
        wait_for("a link-local address of each family", SOON, || {
            let text = machine.shell("diskomator net --json")?;
            let list: Value = serde_json::from_str(&text).unwrap_or_default();
            let addresses = list["links"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|link| link["addresses"].as_array().cloned().unwrap_or_default());
            local = addresses
                .filter(|address| address["from"] == "link-local" && address["usable"] == true)
                .filter_map(|address| Some(address["address"].as_str()?.to_owned()))
                .collect();
            local.sort();
            let has = |start: &str| local.iter().any(|address| address.starts_with(start));
            Ok(if local.len() == 2 && has("169.254.") && has("fe80:") { Ok(()) } else { Err(text) })
        })?;
        for address in &local {
            // Only the link says where a link-local address of IPv6 is.
            let link = if address.contains(':') { "%eth0 -f eth0" } else { "" };
            other.run(&format!("nvme discover -t tcp -a {address}{link}"))?;
            other.run(&format!("nvme connect-all -t tcp -a {address}{link}"))?;
            let device = other.wait_disk(disk.serial(), SOON)?.device;
            other.run(&format!("dd if={device} of=/dev/null bs=1M count=8 iflag=direct status=none"))?;
            other.disconnect_all()?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_card_that_loses_its_cable_or_comes_late_disturbs_no_other() -> Result<(), Failure> {
    Lab::run("a_card_that_loses_its_cable_or_comes_late_disturbs_no_other", |lab| {
        let disk = lab.disk(Bus::Nvme, "CARDS-4002", 96)?;
        let cards = [Nic("e1000e"), Nic("virtio-net-pci")];
        let (machine, first) =
            lab.boot_with_address(lab.appliance().boot(Boot::Kernel).nics(&cards).disk(&disk).debug())?;
        let other = lab.initiator();
        let macs = machine.macs();
        let second = other.wait_address(&macs[1], SOON)?;
        assert_ne!(first, second);
        // Both are in one network; what is asked through one is answered through it.
        other.wait_discovered(&first, "the disk", SOON, |log| log.len() == 1)?;
        other.wait_discovered(&second, "the disk", SOON, |log| log.len() == 1)?;
        other.run(&format!("nvme connect-all -t tcp -a {second}"))?;
        let load = other.start_load(&other.wait_disk(disk.serial(), SOON)?.device)?;
        for _ in 0..3 {
            machine.connect_cable(0, false)?;
            sleep(Duration::from_secs(2));
            machine.connect_cable(0, true)?;
            sleep(Duration::from_secs(2));
        }
        // A USB adapter that is plugged in now.
        let late = other.wait_address(&machine.add_usb_nic()?, SOON)?;
        other.wait_discovered(&late, "the disk", SOON, |log| log.len() == 1)?;
        other.wait_discovered(&first, "the disk, through the card whose cable is back", SOON, |log| log.len() == 1)?;
        load.finish()?;
        assert_eq!(other.io_errors()?, "");
        other.disconnect_all()?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn it_is_found_by_its_service_until_it_is_switched_off() -> Result<(), Failure> {
    Lab::run("it_is_found_by_its_service_until_it_is_switched_off", |lab| {
        let disk = lab.disk(Bus::Nvme, "FOUND-4003", 64)?;
        let other = lab.initiator();
        other.run("/usr/lib/initiator/avahi")?;
        let (machine, address) = lab.boot_with_address(lab.appliance().boot(Boot::Kernel).disk(&disk))?;
        // Family, address and port of each entry, as avahi-browse resolved it.
        let found = || -> e2e::Result<Vec<[String; 3]>> {
            let text = other.run("avahi-browse --resolve --terminate --parsable _nvme-disc._tcp")?;
            let entries = text.lines().filter(|line| line.starts_with('='));
            let fields = |line: &str| -> Vec<String> { line.split(';').map(str::to_owned).collect() };
            Ok(entries.map(fields).map(|field| [2, 7, 8].map(|i| field.get(i).cloned().unwrap_or_default())).collect())
        };
        let entries = wait_for("one entry for each family", SOON, || {
            let mut entries = found()?;
            entries.sort();
            let families: Vec<&str> = entries.iter().map(|[family, ..]| family.as_str()).collect();
            Ok(if families == ["IPv4", "IPv6"] { Ok(entries) } else { Err(format!("{entries:?}")) })
        })?;
        assert_eq!(entries[0], ["IPv4".to_owned(), address, "8009".to_owned()]);
        // What was found is what one connects to.
        for [_, address, port] in &entries {
            let link = if address.starts_with("fe80:") { "%eth0 -f eth0" } else { "" };
            other.run(&format!("nvme connect-all -t tcp -a {address}{link} -s {port}"))?;
            other.wait_disk(disk.serial(), SOON)?;
            other.disconnect_all()?;
        }
        machine.press_power_button()?;
        machine.wait_off(SOON)?;
        wait_for("nothing to be found any more", Duration::from_secs(10), || {
            let left = found()?;
            Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
        })?;
        Ok(())
    })
}
