//! Network cards that people have.

use std::time::Duration;

use e2e::{Bus, Failure, Lab, Nic, supports_device};

const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn every_network_card_gets_an_address_and_answers_at_it() -> Result<(), Failure> {
    let mut models = vec!["virtio-net-pci", "e1000e", "rtl8139", "vmxnet3", "usb-net"];
    // QEMU has it since 8.0.
    if supports_device("igb")? {
        models.push("igb");
    }
    let nics: Vec<_> = models.iter().map(|model| Nic(model)).collect();
    Lab::run("every_network_card_gets_an_address_and_answers_at_it", |lab| {
        let disk = lab.disk(Bus::Nvme, "NIC-8001", 64)?;
        let machine = lab.boot(lab.appliance().nics(&nics).disk(&disk))?;
        let other = lab.initiator();
        for (model, mac) in models.iter().zip(machine.macs()) {
            let address = other.wait_address(&mac, SOON * 2).map_err(|error| {
                let failure = Failure::from(error);
                Failure::new(format!("{model}: {failure}"))
            })?;
            other.wait_discovered(&address, &format!("the disk at the {model}"), SOON, |log| log.len() == 2)?;
            println!("{model}: {address}");
        }
        Ok(())
    })
}
