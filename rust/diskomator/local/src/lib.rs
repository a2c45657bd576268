//! This machine's disks and its NVMe target, as the kernel has them.

pub mod configfs;
pub mod esp;
pub mod probe;
pub mod sysfs;
