//! The product `rescue`: a stick that boots into a network.

use std::time::Duration;

use e2e::login::{wait_password, with_password};
use e2e::{Boot, Bus, Failure, Lab, image_file, wait_for};

#[test]
#[ignore = "boots virtual machines; run by make test PRODUCT=rescue"]
fn the_rescue_stick_shows_its_login_and_exports_nothing() -> Result<(), Failure> {
    Lab::run_for("the_rescue_stick_shows_its_login_and_exports_nothing", Duration::from_secs(600), |lab| {
        let disk = lab.disk(Bus::VirtioBlk, "broken", 64)?;
        let stick = lab.appliance().as_shipped().boot(Boot::UsbStick).image(&image_file("rescue.raw")?).disk(&disk);
        let (machine, address) = lab.boot_with_address(stick)?;
        let other = lab.initiator();
        let password = wait_password(&machine, 0)?;
        // On the serial line as a person reads it.
        wait_for("the SSH command", Duration::from_secs(60), || {
            let log = machine.serial_log();
            Ok(if log.contains(&format!("ssh root@{address}")) { Ok(()) } else { Err(log) })
        })?;
        let said = with_password(other, &address, &password, "'uname -r; cat /etc/os-release; rescue net'")?;
        assert_eq!(said.status, 0, "{said:?}");
        for word in ["-rescue", "Rescue", &address] {
            assert!(said.stdout.contains(word), "no {word:?} in {said:?}");
        }
        // Its tools reach the disk, and nobody else does.
        let next = wait_password(&machine, 1)?;
        assert_ne!(next, password, "a password is good once");
        let repair = "'mkfs.ext2 -q /dev/vda && mkdir -p /tmp/disk && mount /dev/vda /tmp/disk && \
                      echo mended >/tmp/disk/note && cat /tmp/disk/note; ls /sys/kernel/config/nvmet'";
        let said = with_password(other, &address, &next, repair)?;
        assert!(said.stdout.contains("mended"), "{said:?}");
        assert!(said.stderr.contains("/sys/kernel/config/nvmet: No such file"), "it has an NVMe target: {said:?}");
        let refused = other.try_run(&format!("nvme discover -t tcp -a {address} -s 8009"), Duration::from_secs(60))?;
        assert!(refused.status != 0, "{refused:?}");
        let refused = other.try_run(&format!("bash -c ': </dev/tcp/{address}/4420'"), Duration::from_secs(60))?;
        assert!(refused.status != 0, "{refused:?}");
        machine.cut_power();
        Ok(())
    })
}
