//! Disks, asked for what only they can tell.
//!
//! A device that hangs blocks each process that opens it, in the kernel, where no signal
//! helps. So each disk is asked by a thread of its own, once for each medium,
//! and the caller looks whether the answers have come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use disks::boot::{backup_size, boot_partition, has_partition, has_partition_in_backup, may_have_backup, table_size};
use disks::disk::{Answer, Attributes};
use disks::kind::{Kind, Media};
use kernel::root::Root;
use nix::libc;
use uuid::Uuid;

/// When a disk that has not answered is said not to answer. A large disk takes
/// longer to spin up, and then answers all the same.
const OVERDUE: Duration = Duration::from_secs(5);

/// How long a CD drive may say that it is not ready yet, and how often it is asked.
const READY: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(500);

/// After how long a CD drive with a disc is asked again, as not every drive tells the kernel, which polls it, that its
/// disc was taken out; and a disk whose partition table could not be read.
const DISC_POLL: Duration = Duration::from_secs(5);

/// A thread opens one file and reads one table.
const STACK: usize = 64 * 1024;

/// The EFI variable in which systemd-stub names the partition it was loaded from (the vendor is
/// that of systemd's Boot Loader Interface).
const BOOT_PARTITION: &str = "sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Which disk, and which medium of it: the kernel's name and `diskseq`.
pub(crate) type Key = (String, u64);

/// The answers of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Why it does not even open for reading; an empty drive does.
    pub(crate) error: Option<String>,
    /// Nothing is in the CD drive.
    pub(crate) is_empty: bool,
    /// The serial number of a disk that is asked for it.
    pub(crate) serial: Option<String>,
    /// This machine was started from a partition of it. Nobody knows while its partition table can't be read.
    pub(crate) is_boot_medium: Option<bool>,
}

/// The question put to one disk, and its answer.
#[derive(Debug)]
struct Question {
    /// When it was put last, if that is not answered yet.
    asked: Option<Instant>,
    /// The latest answer, and when it came.
    answered: Option<(Instant, Reply)>,
}

impl Question {
    /// When the disk will be overdue, if it has never answered.
    fn overdue(&self) -> Option<Instant> {
        if self.answered.is_some() { None } else { self.asked.map(|asked| asked + OVERDUE) }
    }

    /// When to ask again.
    fn due(&self, name: &str) -> Option<Instant> {
        match &self.answered {
            Some((at, reply)) if self.asked.is_none() => {
                let has_disc = has_discs(name) && !reply.is_empty;
                (has_disc || reply.is_boot_medium.is_none()).then(|| *at + DISC_POLL)
            }
            _ => None,
        }
    }
}

/// Asks disks.
pub struct Prober {
    root: Root,
    boot: Option<Uuid>,
    asked: BTreeMap<Key, Question>,
    /// Their attributes in sysfs.
    known: BTreeMap<Key, Attributes>,
    answers: Receiver<(Key, Reply)>,
    answer: Sender<(Key, Reply)>,
    /// Called by the thread that has got an answer.
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Prober {
    /// Asks nothing yet. `wake` is called when an answer has come.
    pub fn new(root: &Root, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (answer, answers) = mpsc::channel();
        let boot = root.read_bytes(BOOT_PARTITION).ok().and_then(|variable| boot_partition(&variable));
        Self {
            root: root.clone(),
            boot,
            asked: BTreeMap::new(),
            known: BTreeMap::new(),
            answers,
            answer,
            wake: Arc::new(wake),
        }
    }

    /// Whether the disk is to be asked, for the first time or again.
    pub(crate) fn is_due(&self, key: &Key) -> bool {
        let now = Instant::now();
        self.asked.get(key).is_none_or(|question| question.due(&key.0).is_some_and(|due| due <= now))
    }

    /// Asks the disk.
    pub(crate) fn ask(&mut self, key: &Key, block_size: u32) {
        let now = Instant::now();
        let answered = self.asked.remove(key).and_then(|question| question.answered);
        let last = answered.as_ref().map(|(_, reply)| reply.clone());
        let question = match self.start(key.clone(), block_size, last) {
            Ok(()) => Question { asked: Some(now), answered },
            Err(error) => {
                let reply = Reply {
                    error: Some(error.to_string()),
                    is_boot_medium: is_boot_medium(self.boot, |_| Err(error)),
                    ..Reply::default()
                };
                Question { asked: None, answered: Some((now, reply)) }
            }
        };
        self.asked.insert(key.clone(), question);
    }

    /// The disk's last answer, or how long that is overdue.
    pub(crate) fn answer(&self, key: &Key) -> (Answer, Reply) {
        match self.asked.get(key) {
            Some(Question { answered: Some((_, reply)), .. }) => (Answer::Given, reply.clone()),
            Some(question) if question.overdue().is_some_and(|at| at <= Instant::now()) => {
                (Answer::Overdue, Reply::default())
            }
            _ => (Answer::Awaited, Reply::default()),
        }
    }

    /// Forgets the disks that `is_there` does not know any more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&Key) -> bool) {
        self.asked.retain(|key, _| is_there(key));
        self.known.retain(|key, _| is_there(key));
    }

    /// The attributes that were read of a disk.
    pub(crate) fn known(&self, key: &Key) -> Option<&Attributes> {
        self.known.get(key)
    }

    /// Keeps what sysfs says of a disk.
    pub(crate) fn learn(&mut self, key: &Key, attributes: Attributes) {
        self.known.entry(key.clone()).or_insert(attributes);
    }

    /// When to look at all disks again though nothing has happened: one will be
    /// overdue then, or is to be asked again.
    pub fn next_look(&self) -> Option<Instant> {
        let now = Instant::now();
        let overdue = self.asked.values().filter_map(Question::overdue).filter(|at| *at > now);
        overdue.chain(self.asked.iter().filter_map(|(key, question)| question.due(&key.0))).min()
    }

    /// Waits for the disks that were asked, for at most `limit`.
    pub fn wait(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.asked.values().any(|question| question.answered.is_none()) {
            match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((key, reply)) => self.note(&key, reply),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(crate) fn take_answers(&mut self) {
        while let Ok((key, reply)) = self.answers.try_recv() {
            self.note(&key, reply);
        }
    }

    fn note(&mut self, key: &Key, reply: Reply) {
        if let Some(question) = self.asked.get_mut(key) {
            *question = Question { asked: None, answered: Some((Instant::now(), reply)) };
        }
    }

    /// Nobody is woken by the answer that there was before, `last`.
    fn start(&self, key: Key, block_size: u32, last: Option<Reply>) -> io::Result<()> {
        let (root, boot, answer, wake) = (self.root.clone(), self.boot, self.answer.clone(), Arc::clone(&self.wake));
        let ask = move || {
            let reply = interrogate(&root, &key.0, block_size, boot);
            let is_news = last.as_ref() != Some(&reply);
            // Nobody listens when the program is ending.
            if answer.send((key, reply)).is_ok() && is_news {
                wake();
            }
        };
        thread::Builder::new().name("probe".to_owned()).stack_size(STACK).spawn(ask).map(drop)
    }
}

fn has_discs(name: &str) -> bool {
    Kind::of(name).media == Media::Discs
}

/// Opens the disk, which also makes the kernel look at a medium that was
/// changed, and reads what is wanted of it.
fn interrogate(root: &Root, name: &str, block_size: u32, boot: Option<Uuid>) -> Reply {
    let serial = if Kind::of(name).is_serial_asked { root.read(format!("sys/block/{name}/serial")).ok() } else { None };
    let device = root.path(format!("dev/{name}"));
    // Without waiting for a medium, and without closing a tray.
    let mut disk = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(device) {
        Ok(disk) => disk,
        Err(error) => {
            let text = error.to_string();
            let is_boot_medium = is_boot_medium(boot, |_| Err(error));
            return Reply { error: Some(text), serial, is_boot_medium, ..Reply::default() };
        }
    };
    let block_size = usize::try_from(block_size).unwrap_or(512);
    let is_empty = has_discs(name) && !holds_disc(&disk);
    Reply {
        error: None,
        is_empty,
        serial: serial.filter(|serial| !serial.is_empty()),
        is_boot_medium: is_boot_medium(boot.filter(|_| !is_empty), |boot| {
            has_boot_partition(&mut disk, block_size, boot)
        }),
    }
}

/// Whether the machine was started from a disk: from none if the firmware names none.
fn is_boot_medium(boot: Option<Uuid>, look: impl FnOnce(Uuid) -> io::Result<bool>) -> Option<bool> {
    boot.map_or(Some(false), |boot| look(boot).ok())
}

/// Whether the firmware may have found this partition on the disk. One that ends before there could be a table has
/// none, such as a card reader without a card.
fn has_boot_partition(disk: &mut (impl Read + Seek), block_size: usize, boot: Uuid) -> io::Result<bool> {
    let read = |outcome: io::Result<()>| match outcome {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        outcome => outcome.map(|()| true),
    };
    let mut start = vec![0; table_size(block_size)];
    if !read(disk.read_exact(&mut start))? {
        return Ok(false);
    }
    if has_partition(&start, block_size, boot) {
        return Ok(true);
    }
    if !may_have_backup(&start) {
        return Ok(false);
    }
    let mut end = vec![0; backup_size(block_size)];
    let back = i64::try_from(end.len()).unwrap_or(i64::MAX);
    disk.seek(SeekFrom::End(-back))?;
    Ok(read(disk.read_exact(&mut end))? && has_partition_in_backup(&end, block_size, boot))
}

nix::ioctl_write_int_bad!(
    /// `CDROM_DRIVE_STATUS` (`include/uapi/linux/cdrom.h`): `CDS_DISC_OK` and the like.
    cdrom_drive_status,
    0x5326
);

/// Whether a disc is in the drive, waiting for the drive to find out. The
/// kernel makes up a size for an empty one.
fn holds_disc(drive: &File) -> bool {
    const CDSL_CURRENT: i32 = i32::MAX;
    const CDS_DRIVE_NOT_READY: i32 = 3;
    const CDS_DISC_OK: i32 = 4;
    let until = Instant::now() + READY;
    loop {
        // SAFETY: the argument is a plain number, and the descriptor is open.
        match unsafe { cdrom_drive_status(drive.as_raw_fd(), CDSL_CURRENT) } {
            Ok(CDS_DISC_OK) => return true,
            Ok(CDS_DRIVE_NOT_READY) if Instant::now() < until => thread::sleep(READY_POLL),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A disk that has a partition in the backup of its table alone.
    fn disk(block_size: usize, blocks: usize, partition: Uuid) -> Vec<u8> {
        let mut disk = vec![0; blocks * block_size];
        (disk[450], disk[510], disk[511]) = (0xee, 0x55, 0xaa);
        let end = disk.len() - backup_size(block_size);
        disk[end + 16..end + 32].copy_from_slice(&partition.to_bytes_le());
        let header = (blocks - 1) * block_size;
        disk[header..header + 8].copy_from_slice(b"EFI PART");
        for (at, value) in [(24, blocks - 1), (72, end / block_size), (80, 128), (84, 128)] {
            disk[header + at..header + at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
        }
        disk
    }

    #[test]
    fn a_disk_whose_table_is_damaged_is_known_for_the_one_that_was_booted() {
        let (boot, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        for block_size in [512, 4096] {
            let mut bytes = disk(block_size, 200, boot);
            let has =
                |bytes: &[u8], partition| has_boot_partition(&mut Cursor::new(bytes), block_size, partition).unwrap();
            assert!(has(&bytes, boot) && !has(&bytes, other), "{block_size}");
            bytes[450] = 0x0c;
            assert!(!has(&bytes, boot), "a disk with an old table");
            assert!(!has(&bytes[..block_size], boot));
        }
    }

    /// A disk that can be read up to this byte.
    struct Damaged(Cursor<Vec<u8>>, u64);

    impl Read for Damaged {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.position() >= self.1 { Err(io::Error::other("EIO")) } else { self.0.read(buffer) }
        }
    }

    impl Seek for Damaged {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn of_a_disk_that_cannot_be_read_nobody_knows_whether_it_was_booted() {
        let boot = Uuid::from_u128(7);
        for readable in [0, 64 * 512] {
            let mut disk = Damaged(Cursor::new(disk(512, 200, boot)), readable);
            assert_eq!(is_boot_medium(Some(boot), |boot| has_boot_partition(&mut disk, 512, boot)), None, "{readable}");
            // A machine that was started over the network was started from no disk.
            assert_eq!(is_boot_medium(None, |boot| has_boot_partition(&mut disk, 512, boot)), Some(false));
        }
    }
}
