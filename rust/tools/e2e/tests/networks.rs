//! Networks of every kind that the machine is plugged into.

use std::thread::sleep;
use std::time::Duration;

use e2e::{Appliance, Boot, Bus, Failure, Lab, Nic, wait_for};
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
        // The addresses that were found can be connected to.
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

/// Every address that the machine can be reached at, and where it came from.
fn usable_addresses(machine: &Appliance) -> e2e::Result<Vec<(String, String)>> {
    let text = machine.shell("diskomator net --json")?;
    let list: Value = serde_json::from_str(&text).unwrap_or_default();
    let of_link = |link: &Value| link["addresses"].as_array().cloned().unwrap_or_default();
    let all = list["links"].as_array().into_iter().flatten().flat_map(of_link);
    let usable = all.filter(|address| address["usable"] == true);
    let field = |address: &Value, name: &str| Some(address[name].as_str()?.to_owned());
    Ok(usable.filter_map(|address| Some((field(&address, "address")?, field(&address, "from")?))).collect())
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_network_without_ipv4_is_enough() -> Result<(), Failure> {
    Lab::run("a_network_without_ipv4_is_enough", |lab| {
        let disk = lab.disk(Bus::Nvme, "SIX-4004", 64)?;
        let other = lab.initiator();
        // A router that wants addresses asked for, and lets them be made, too.
        other.run(
            "kill $(cat /run/dnsmasq.pid); while kill -0 $(cat /run/dnsmasq.pid) 2>/dev/null; do sleep 0.05; done; \
             ip -4 address flush dev eth0; \
             dnsmasq --conf-file=/dev/null --port=0 --user=root --interface=eth0 --enable-ra --dhcp-authoritative \
             --pid-file=/run/dnsmasq.pid --dhcp-leasefile=/run/dnsmasq.leases --log-dhcp --log-facility=/run/dnsmasq.log \
             --dhcp-range=fd77:d15c::1000,fd77:d15c::1fff,slaac,64,1h",
        )?;
        let cards = [Nic("e1000e"), Nic("virtio-net-pci")];
        let machine = lab.boot(lab.appliance().boot(Boot::Kernel).nics(&cards).disk(&disk).debug())?;
        // Of each card: one of the server, one of the router's prefix and one of its own.
        let addresses = wait_for("three addresses for each card", SOON, || {
            let all: Vec<_> = usable_addresses(&machine)?.into_iter().filter(|(ip, _)| ip.contains(':')).collect();
            let count = |kind: &str| all.iter().filter(|(_, from)| from == kind).count();
            let is_all = ["dhcp", "router", "link-local"].into_iter().all(|kind| count(kind) == cards.len());
            Ok(if is_all && all.len() == 3 * cards.len() { Ok(all) } else { Err(format!("{all:?}")) })
        })?;
        // The prefix and the card's number make the same address on each boot.
        for mac in machine.macs() {
            let last = &mac.replace(':', "")[10..];
            let of_card = |start: &str| addresses.iter().any(|(ip, _)| *ip == format!("{start}:5054:ff:fed1:5c{last}"));
            assert!(of_card("fd77:d15c:") && of_card("fe80:"), "{mac}: {addresses:?}");
        }
        for (address, from) in &addresses {
            // Only the link says where a link-local address is. `%eth0` behind it is enough to discover the disk, but
            // not to connect to it: the discovery log has no room for that.
            let link = if from == "link-local" { " -f eth0" } else { "" };
            let log = other.wait_discovered(&format!("{address}{link}"), "the disk", SOON, |log| log.len() == 1)?;
            assert_eq!(log[0].traddr, *address, "the disk is where the host came in");
            other.connect_all(&format!("{address}{link}"))?;
            let device = other.wait_disk(disk.serial(), SOON)?.device;
            other.run(&format!("dd if={device} of=/dev/null bs=1M count=8 iflag=direct status=none"))?;
            other.disconnect_all()?;
        }
        machine.press_power_button()?;
        machine.wait_off(SOON)?;
        // Each lease went back to its server.
        let given_back = other.run("grep -c DHCPRELEASE /run/dnsmasq.log || true")?;
        assert_eq!(given_back.trim(), cards.len().to_string());
        Ok(())
    })
}
