//! This machine's disks and its NVMe target, as the kernel has them.

pub mod configfs;
pub mod probe;
pub mod sysfs;
