//! The kernel's log as syslog messages: what `/dev/kmsg` gives, read (the
//! kernel's `Documentation/ABI/testing/dev-kmsg`) and written as RFC 5424 has
//! it, one in each datagram (RFC 5426).

use std::collections::VecDeque;
use std::time::Duration;

use crate::pace::Moment;

/// RFC 5426 section 3.3.
pub const PORT: u16 = 514;
/// The length that goes through every network in one piece: the least MTU of IPv6 (RFC
/// 8200 section 5), less its header and that of UDP (RFC 5426 section 3.2).
pub const MESSAGE_MAX: usize = 1280 - 40 - 8;

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsgRecord {
    /// Facility times 8, and severity.
    pub priority: u32,
    /// Its number; the first of a boot is 0.
    pub sequence: u64,
    /// When it was written, since the kernel's start.
    pub at: Duration,
    /// Its text, without control characters.
    pub text: String,
}

impl KmsgRecord {
    /// Reads what one `read` of `/dev/kmsg` gave: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT`, and lines about a
    /// device below, which count for nothing. `None` if it is not of that form.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let end = raw.iter().position(|byte| *byte == b';')?;
        let head = std::str::from_utf8(raw.get(..end)?).ok()?;
        let mut fields = head.split(',');
        let priority = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        let at = Duration::from_micros(fields.next()?.parse().ok()?);
        let line = raw.get(end + 1..)?.split(|byte| *byte == b'\n').next()?;
        Some(Self { priority, sequence, at, text: unescape(line) })
    }

    /// The program that wrote it, its process if it says so, and the rest. The
    /// kernel begins no line with its name; programs do.
    fn parts(&self) -> (&str, &str, &str) {
        const KERNEL: u32 = 0;
        const NIL: &str = "-";
        /// RFC 5424 section 6.2.5.
        const NAME_MAX: usize = 48;
        if self.priority >> 3 == KERNEL {
            return ("kernel", NIL, &self.text);
        }
        let Some((tag, text)) = self.text.split_once(": ") else { return (NIL, NIL, &self.text) };
        let tagged = tag.strip_suffix(']').and_then(|tag| tag.split_once('['));
        let (name, process) = match tagged {
            Some((name, process)) => (name, process),
            None => (tag, NIL),
        };
        let is_name = |name: &str| {
            (1..=NAME_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
        };
        let is_process = process == NIL || !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        if is_name(name) && is_process { (name, process, text) } else { (NIL, NIL, &self.text) }
    }
}

/// The kernel writes what can't be printed, and the backslash, as `\xNN`. What
/// was text of another language is that again; control characters stay as they are
/// written, but for those that only other languages' text has (U+0080 to U+009F).
fn unescape(line: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        let code = after.strip_prefix(b"x").and_then(|after| after.get(..2)).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match code {
            Some(byte) if !byte.is_ascii_control() => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(if first.is_ascii_control() { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).replace(char::is_control, "\u{fffd}")
}

/// The time of day at the kernel's start, if this machine knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock(Option<Duration>);

impl Clock {
    /// From the time of day `now`, counted from 1970, which is `uptime` after the
    /// kernel's start. One before `earliest` is that of a clock that stopped.
    pub fn new(now: Duration, uptime: Duration, earliest: Duration) -> Self {
        Self(now.checked_sub(uptime).filter(|_| now >= earliest))
    }

    /// RFC 5424 section 6.2.3: in UTC, or the NILVALUE.
    fn timestamp(self, at: Duration) -> String {
        let Some(time) = self.0.map(|start| start + at) else { return "-".to_owned() };
        let (days, second) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", time.subsec_micros())
    }
}

/// Year, month and day of a day that is counted from 1970, in the calendar that
/// repeats itself every 400 years. Years are taken to begin in March, so that
/// the day that some of them have more is their last.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    /// From the first of March of the year 0 to 1970.
    const TO_1970: u64 = 719_468;
    let days = days + TO_1970;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// The record as one datagram, from the machine that is called `host`.
///
/// Its number and the time since the kernel's start come along as `meta` (RFC
/// 5424 section 7.3), so that the receiver knows the order, sees what was lost, and
/// has a time even where the clock is wrong.
pub fn message(record: &KmsgRecord, host: &str, clock: Clock) -> Vec<u8> {
    /// Facility "user-level", for numbers that RFC 5424 section 6.2.1 does not have.
    const USER: u32 = 1 << 3;
    const PRIORITY_MAX: u32 = 191;
    /// RFC 5424 section 7.3.1: then it begins again, with 1.
    const SEQUENCE_MAX: u64 = 2_147_483_647;
    let priority = if record.priority > PRIORITY_MAX { USER | record.priority & 7 } else { record.priority };
    let (name, process, text) = record.parts();
    let sequence = record.sequence % SEQUENCE_MAX + 1;
    let hundredths = record.at.as_millis() / 10;
    let timestamp = clock.timestamp(record.at);
    let mut message = format!(
        "<{priority}>1 {timestamp} {host} {name} {process} - \
         [meta sequenceId=\"{sequence}\" sysUpTime=\"{hundredths}\"] {text}"
    );
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
        message.truncate(end);
    }
    message.into_bytes()
}

/// Which records are sent for good.
///
/// A datagram that nobody is there for is lost without a word, and the word comes
/// later if it comes: that no host answers for the address takes the kernel
/// three seconds to find out (`mcast_solicit` and `retrans_time`). So what was sent
/// within [`DOUBT`] before it is sent again.
#[derive(Debug, Default)]
pub struct Progress {
    /// The first record that is still to be sent.
    next: u64,
    /// Those that were sent just now, and when.
    doubtful: VecDeque<(Moment, u64)>,
}

/// How long a datagram is in doubt.
pub const DOUBT: Duration = Duration::from_secs(4);

impl Progress {
    /// Whether this record is still to be sent.
    pub fn wants(&self, sequence: u64) -> bool {
        sequence >= self.next
    }

    /// It was sent.
    pub fn sent(&mut self, now: Moment, sequence: u64) {
        self.settle(now);
        self.doubtful.push_back((now, sequence));
        self.next = sequence + 1;
    }

    /// Nothing was heard until now of what was sent long enough ago. Whether there was any.
    pub fn settle(&mut self, now: Moment) -> bool {
        let before = self.doubtful.len();
        while self.doubtful.front().is_some_and(|(at, _)| *at + DOUBT <= now) {
            self.doubtful.pop_front();
        }
        self.doubtful.len() < before
    }

    /// The last message did not arrive. Whether the log is to be read again
    /// from its start.
    pub fn failed(&mut self, now: Moment) -> bool {
        self.settle(now);
        let first = self.doubtful.front().map(|(_, sequence)| *sequence);
        self.doubtful.clear();
        self.next = first.unwrap_or(self.next);
        first.is_some()
    }

    /// When there is nothing more in doubt.
    pub fn settled_at(&self) -> Option<Moment> {
        self.doubtful.back().map(|(at, _)| *at + DOUBT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_767_225_600);

    fn record(raw: &str) -> KmsgRecord {
        KmsgRecord::parse(raw.as_bytes()).unwrap()
    }

    fn sent(raw: &str) -> String {
        let clock = Clock::new(START + Duration::from_secs(9), Duration::from_secs(9), START);
        String::from_utf8(message(&record(raw), "diskomator-123456", clock)).unwrap()
    }

    #[test]
    fn a_record_becomes_a_message() {
        assert_eq!(
            sent("6,339,5140900,-;NET: Registered PF_NETLINK\n SUBSYSTEM=net\n DEVICE=+net:lo\n"),
            "<6>1 2026-01-01T00:00:05.140900Z diskomator-123456 kernel - - \
             [meta sequenceId=\"340\" sysUpTime=\"514\"] NET: Registered PF_NETLINK"
        );
        assert_eq!(
            sent("30,0,9,-,caller=T1;diskomator-dhcp: eth0: leased 192.0.2.7/24"),
            "<30>1 2026-01-01T00:00:00.000009Z diskomator-123456 diskomator-dhcp - - \
             [meta sequenceId=\"1\" sysUpTime=\"0\"] eth0: leased 192.0.2.7/24"
        );
        assert!(sent("14,1,1,-;acpid[77]: up").contains(" acpid 77 - ["));
        for text in ["starting pid 45, tty '': x", "no tag", ": x", "[1]: x", "a b: c", "a[x]: c"] {
            let message = sent(&format!("14,1,1,-;{text}"));
            assert!(
                message.contains(" diskomator-123456 - - - [") && message.ends_with(&format!("] {text}")),
                "{message}"
            );
        }
    }

    #[test]
    fn numbers_that_syslog_does_not_have_are_not_sent() {
        assert!(sent("191,0,0,-;x").starts_with("<191>1 "));
        assert!(sent("1022,0,0,-;x").starts_with("<14>1 "));
        assert!(sent("6,2147483646,0,-;x").contains("sequenceId=\"2147483647\""));
        assert!(sent("6,2147483647,0,-;x").contains("sequenceId=\"1\""));
    }

    #[test]
    fn a_clock_that_is_wrong_gives_no_time() {
        let clock = Clock::new(Duration::from_secs(315_532_900), Duration::from_secs(9), START);
        let message = message(&record("6,0,1000000,-;x"), "-", clock);
        assert_eq!(message, b"<6>1 - - kernel - - [meta sequenceId=\"1\" sysUpTime=\"100\"] x");
        assert_eq!(Clock::new(START, START + START, Duration::ZERO), Clock(None));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, date_of) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (364, (1970, 12, 31)),
            (789, (1972, 2, 29)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), date_of, "{days}");
        }
    }

    #[test]
    fn what_the_kernel_escapes_is_text_again_but_for_control_characters() {
        assert_eq!(record("6,0,0,-;a \\xc3\\xa9 \\x5c b\\x0a\\x1b[2J\\xzz\\x4").text, "a é \\ b\\x0a\\x1b[2J\\xzz\\x4");
        // C1 control characters, which steer some terminals.
        assert_eq!(record("6,0,0,-;a\\xc2\\x9b2J").text, "a\u{fffd}2J");
        assert_eq!(record("6,0,0,-;\\xff").text, "\u{fffd}");
        assert_eq!(KmsgRecord::parse(b"6,0,0,-;a\tb\x1b\xff").unwrap().text, "a b \u{fffd}");
    }

    #[test]
    fn what_is_no_record_is_none() {
        for raw in ["", ";", "6;x", "6,1;x", "6,1,x,-;x", "x,1,1,-;x", "6,1,1,-", "-1,1,1,-;x", "6,1,1"] {
            assert_eq!(KmsgRecord::parse(raw.as_bytes()), None, "{raw}");
        }
        assert_eq!(record("6,1,1;").text, "");
    }

    #[test]
    fn a_long_record_is_cut_between_characters() {
        let text = "é".repeat(2000);
        let message = sent(&format!("6,0,0,-;{text}"));
        assert!(message.len() <= MESSAGE_MAX && message.len() >= MESSAGE_MAX - 1);
    }

    #[test]
    fn what_nobody_got_is_sent_again_and_nothing_else() {
        let at = Duration::from_secs;
        let mut progress = Progress::default();
        assert!(progress.wants(0));
        progress.sent(at(0), 0);
        progress.sent(at(1), 1);
        assert!(!progress.wants(1) && progress.wants(2));
        assert_eq!(progress.settled_at(), Some(at(5)));
        // After four seconds the first has arrived, as far as anybody can know.
        assert!(progress.failed(at(4)));
        assert!(!progress.wants(0) && progress.wants(1));
        assert_eq!(progress.settled_at(), None);
        // Nothing was sent since.
        assert!(!progress.failed(at(4)));
        assert!(progress.wants(1));
        // The ring has lost some.
        progress.sent(at(5), 7);
        assert!(!progress.wants(6));
        progress.settle(at(9));
        assert!(!progress.failed(at(9)));
        assert!(!progress.wants(7) && progress.wants(8));
    }
}
