//! The boot entries of UEFI firmware and the EFI system partitions that they start from: what the machine starts next,
//! and what after that. Sections are those of the UEFI Specification 2.10.
#![forbid(unsafe_code)]

mod bytes;
mod firmware;
mod load_option;
mod partition;
mod path;

pub use firmware::{After, Entry, Firmware, NoPlan, OUR_DESCRIPTION, Plan, is_boot_variable, variable};
pub use load_option::LoadOption;
pub use partition::{MBR_SIZE, Partition, Signature, Table, TableError};
pub use path::{HardDrive, Node, Path};

/// The file that firmware starts from a disk of which it knows nothing else (3.5.1.1), on this kind of processor.
pub const DEFAULT_LOADER: &str = if cfg!(target_arch = "aarch64") {
    r"\EFI\BOOT\BOOTAA64.EFI"
} else if cfg!(target_arch = "riscv64") {
    r"\EFI\BOOT\BOOTRISCV64.EFI"
} else {
    r"\EFI\BOOT\BOOTX64.EFI"
};
