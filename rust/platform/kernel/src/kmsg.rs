//! The kernel's log, read record by record from `/dev/kmsg` (the kernel's
//! `Documentation/ABI/testing/dev-kmsg`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::root::Root;

/// More than the kernel gives for one record (`PRINTK_MESSAGE_MAX` in its
/// `kernel/printk/internal.h`).
const RECORD_MAX: usize = 8192;

/// The log, from the oldest record that the kernel still has.
#[derive(Debug)]
pub struct Kmsg(File);

/// The log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {path}")]
pub struct KmsgError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl KmsgError {
    fn new(verb: &'static str, source: io::Error) -> Self {
        Self { verb, path: PathBuf::from("/dev/kmsg"), source }
    }
}

impl Kmsg {
    /// Opens it.
    pub fn open(root: &Root) -> Result<Self, KmsgError> {
        let path = root.path("dev/kmsg");
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        file.map(Self).map_err(|source| KmsgError { verb: "open", path, source })
    }

    /// The next record as the kernel writes it; `None` when there is no other yet.
    /// Records that the kernel has dropped meanwhile are left out.
    pub fn read(&mut self) -> Result<Option<Vec<u8>>, KmsgError> {
        let mut record = vec![0; RECORD_MAX];
        loop {
            match self.0.read(&mut record) {
                // The device has no end; a plain file in its place has.
                Ok(0) => return Ok(None),
                Ok(length) => {
                    record.truncate(length);
                    return Ok(Some(record));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The next read goes on with the oldest that is left.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(source) => return Err(KmsgError::new("read", source)),
            }
        }
    }

    /// Goes back to the oldest record.
    pub fn rewind(&mut self) -> Result<(), KmsgError> {
        self.0.seek(SeekFrom::Start(0)).map(drop).map_err(|source| KmsgError::new("rewind", source))
    }
}

crate::source::by_descriptor!(Kmsg);
