//! A link with two machines on it, and what is left of them when a test fails.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::appliance::secure_firmware;
use crate::burner;
use crate::initiator::Place;
use crate::paths::{evidence, image_file};
use crate::{Appliance, ApplianceBuilder, Bus, Disk, Error, Failure, Init, Initiator, Result, SecureBoot, Stick};

/// How long a test may take, emulated or not.
const DEADLINE: Duration = Duration::from_secs(600);

/// One test's machines.
pub struct Lab {
    initiator: Initiator,
    second: Option<Initiator>,
    evidence: PathBuf,
    boots: Cell<u32>,
}

impl Lab {
    /// Runs `story` on a fresh link. The machines' logs are kept in `output/e2e/<name>` when it fails.
    pub fn run(
        name: &str,
        story: impl FnOnce(&Self) -> std::result::Result<(), Failure>,
    ) -> std::result::Result<(), Failure> {
        Self::run_for(name, DEADLINE, story)
    }

    /// The same, with another deadline.
    pub fn run_for<T>(
        name: &str,
        deadline: Duration,
        story: impl FnOnce(&Self) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        Self::run_beside(Init::Busybox, name, deadline, story)
    }

    /// The same, with what the other machine runs.
    pub fn run_beside<T>(
        init: Init,
        name: &str,
        deadline: Duration,
        story: impl FnOnce(&Self) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        Self::run_with(name, story, |evidence| Ok((Initiator::start(init, evidence, deadline)?, None)))
    }

    /// The same with two hosts on the link, each with a release of Debian.
    pub fn run_between<T>(
        releases: [&str; 2],
        name: &str,
        deadline: Duration,
        story: impl FnOnce(&Self) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        Self::run_with(name, story, |evidence| {
            let start = |release, place| Initiator::start_host(release, place, evidence, deadline);
            let [first, second] = releases;
            let first = start(first, Place::First)?;
            let second = start(second, Place::Second(&first.room()))?;
            Ok((first, Some(second)))
        })
    }

    fn run_with<T>(
        name: &str,
        story: impl FnOnce(&Self) -> std::result::Result<T, Failure>,
        hosts: impl FnOnce(&Path) -> Result<(Initiator, Option<Initiator>)>,
    ) -> std::result::Result<T, Failure> {
        let evidence = evidence(name);
        if evidence.exists() {
            remove(&evidence)?;
        }
        let (initiator, second) = hosts(&evidence)?;
        let lab = Self { initiator, second, evidence: evidence.clone(), boots: Cell::new(0) };
        let result = story(&lab);
        if result.is_err() {
            lab.save_dmesg();
        }
        drop(lab);
        match result {
            Ok(value) => {
                remove(&evidence)?;
                Ok(value)
            }
            Err(failure) => {
                Err(Failure::new(format!("{failure}\nwhat the machines said is in {}", evidence.display())))
            }
        }
    }

    /// The other machine.
    pub fn initiator(&self) -> &Initiator {
        &self.initiator
    }

    /// The second host; an error where there is one only.
    pub fn second(&self) -> Result<&Initiator> {
        let none = || Error::None { machine: "the link".to_owned(), what: "second host".to_owned() };
        self.second.as_ref().ok_or_else(none)
    }

    /// A blank disk.
    pub fn disk(&self, bus: Bus, serial: &str, mebibytes: u64) -> Result<Disk> {
        Disk::create(&self.evidence.join("disks"), bus, serial, mebibytes << 20)
    }

    /// A key to sign images with, and firmware that boots nothing else.
    pub fn secure_boot(&self) -> Result<SecureBoot> {
        SecureBoot::create(self.evidence.join("disks"), &secure_firmware()?.1)
    }

    /// A file with the image as `make burn` writes it for a disk of `size`, in blocks of `blocks` bytes, for a machine
    /// that admits every host.
    pub fn burn(&self, blocks: u32, size: &str) -> Result<PathBuf> {
        self.burn_with(blocks, size, &burner::OPEN)
    }

    /// The same with words of `make burn`.
    pub fn burn_with(&self, blocks: u32, size: &str, words: &[(&str, &str)]) -> Result<PathBuf> {
        let file = self.disks()?.join(format!("burned-{blocks}-{size}"));
        burner::into_file(&file, blocks, size, words, &self.config()?)?;
        Ok(file)
    }

    /// The copy of the secret that `make burn` kept for the user of this lab.
    pub fn kept_secret(&self) -> Result<PathBuf> {
        Ok(self.config()?.join("diskomator/secret"))
    }

    fn config(&self) -> Result<PathBuf> {
        Ok(self.disks()?.join("config"))
    }

    /// Writes the image to a disk, as `make burn` does for a machine that admits every host.
    pub fn burn_disk(&self, disk: &Disk) -> Result<()> {
        // One that is there already is not overwritten without a question.
        fs::remove_file(disk.file()).map_err(|source| Error::File {
            verb: "remove",
            path: disk.file().to_owned(),
            source,
        })?;
        burner::into_file(disk.file(), 512, &disk.size().to_string(), &burner::OPEN, &self.config()?)
    }

    /// A disk with a tar archive on it, of the program behind `make burn`, and of the image.
    pub fn burner(&self, serial: &str) -> Result<Disk> {
        let archive = burner::archive(&self.disks()?)?;
        let disk = self.disk(Bus::VirtioBlk, serial, 64)?;
        let copy = || {
            let mut file = fs::OpenOptions::new().write(true).open(disk.file())?;
            io::copy(&mut fs::File::open(&archive)?, &mut file)
        };
        copy().map_err(|source| Error::File { verb: "write", path: disk.file().to_owned(), source })?;
        Ok(disk)
    }

    pub(crate) fn disks(&self) -> Result<PathBuf> {
        let dir = self.evidence.join("disks");
        fs::create_dir_all(&dir).map_err(|source| Error::File { verb: "create", path: dir.clone(), source })?;
        Ok(dir)
    }

    /// A stick with the image, to put files on.
    pub fn stick(&self, name: &str) -> Result<Stick> {
        self.stick_of(&image_file("diskomator.raw")?, name)
    }

    /// The same with another image.
    pub fn stick_of(&self, image: &Path, name: &str) -> Result<Stick> {
        Stick::create(image, &self.evidence.join("disks"), name)
    }

    /// A machine to put together.
    pub fn appliance(&self) -> ApplianceBuilder {
        ApplianceBuilder::new()
    }

    /// Powers a machine on. The other one is up by then, so that the first request for an address is answered.
    pub fn boot(&self, builder: ApplianceBuilder) -> Result<Appliance> {
        self.initiator.wait_ready()?;
        if self.boots.get() > 0 {
            // The address of an earlier machine with the same card is not yet this one's.
            self.initiator.forget_addresses()?;
        }
        self.power_on(builder)
    }

    /// Powers the machine on that was there before; the DHCP server knows it. Its address.
    pub fn boot_again(&self, builder: ApplianceBuilder) -> Result<(Appliance, String)> {
        self.with_address(self.power_on(builder)?)
    }

    fn power_on(&self, builder: ApplianceBuilder) -> Result<Appliance> {
        self.boots.set(self.boots.get() + 1);
        builder.start(&format!("appliance{}", self.boots.get()), &self.evidence, &self.initiator.link())
    }

    /// Powers a machine on and waits for its address.
    pub fn boot_with_address(&self, builder: ApplianceBuilder) -> Result<(Appliance, String)> {
        self.with_address(self.boot(builder)?)
    }

    fn with_address(&self, appliance: Appliance) -> Result<(Appliance, String)> {
        let mac = appliance.macs().into_iter().next().unwrap_or_default();
        let address = self
            .initiator
            .wait_address(&mac, Duration::from_secs(120))
            .or_else(|error| appliance.check().and(Err(error)))?;
        Ok((appliance, address))
    }

    fn save_dmesg(&self) {
        let said = "dmesg; cat /run/dnsmasq.log; nvme list-subsys; \
                    if [ -d /run/systemd/system ]; then journalctl --no-pager --output=short-monotonic; fi";
        for (number, host) in [Some(&self.initiator), self.second.as_ref()].into_iter().flatten().enumerate() {
            if let Ok(output) = host.try_run(said, Duration::from_secs(10)) {
                let file = if number == 0 { "initiator.dmesg" } else { "initiator2.dmesg" };
                let _ = fs::write(self.evidence.join(file), output.stdout);
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Disks are as large as what was written to them, and no evidence.
        let _ = fs::remove_dir_all(self.evidence.join("disks"));
        if std::thread::panicking() {
            self.save_dmesg();
        }
    }
}

/// The BLAKE2 digest of the first `bytes` of a file on this machine, as coreutils write it.
pub fn digest_of_file(path: &Path, bytes: u64) -> Result<String> {
    let command = format!("head -c {bytes} -- \"$0\" | b2sum");
    let output = Command::new("sh")
        .args(["-c", &command])
        .arg(path)
        .output()
        .map_err(|source| Error::Start { program: "b2sum".to_owned(), source })?;
    if !output.status.success() {
        return Err(Error::Program {
            command,
            status: output.status,
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).map_err(|source| Error::File { verb: "remove", path: path.to_owned(), source })
}
