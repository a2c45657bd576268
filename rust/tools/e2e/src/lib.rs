//! Boots the shipped image in QEMU and checks it from another machine.
//!
//! A [`Lab`] is a link with two machines on it: the [`Appliance`] under test, booted from the image that people get,
//! and the [`Initiator`], Debian with its own kernel and nvme-cli. Both have a deadline and die with their owner.
//! Their logs stay in `output/e2e/<test>` when a test fails.

mod agent;
mod appliance;
mod burner;
mod disk;
mod error;
mod initiator;
mod lab;
pub mod login;
pub mod measure;
mod nvme;
mod paths;
pub mod program;
mod qemu;
mod qmp;
mod ready;
mod secure_boot;
mod settings;
mod shell;
mod stick;
mod variant;
mod wait;

pub use agent::Output;
pub use appliance::{Appliance, ApplianceBuilder, Boot, Drive, Nic};
pub use disk::{Bus, Disk};
pub use error::{Error, Failure, Result};
pub use initiator::{Background, Init, Initiator, Load, fio};
pub use lab::{Lab, digest_of_file};
pub use nvme::{LogEntry, Namespace};
pub use paths::{cmdline, image_file, project};
pub use qemu::{accelerator, supports_device};
pub use secure_boot::SecureBoot;
pub use settings::{setting, settings};
pub use stick::Stick;
pub use variant::boot_loader_file;
pub use wait::wait_for;
