//! The kernel's log, in which the daemons' words are, too.

use std::collections::VecDeque;

use netproto::syslog;

/// How many records are kept.
const KEPT: usize = 1000;
/// A process that ended so often in a row is in trouble, and not just killed once.
const OFTEN: usize = 3;

/// How grave a record is (RFC 5424, table 2, in three steps).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Emergency to error.
    Error,
    /// Warning.
    Warning,
    /// Anything less.
    Info,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How grave it is.
    pub level: Level,
    /// The same in the kernel's steps, 0 to 7.
    pub priority: u8,
    /// Since the kernel started, in milliseconds.
    pub millis: u64,
    /// Its text, in one line.
    pub text: String,
}

impl From<syslog::KmsgRecord> for Entry {
    fn from(record: syslog::KmsgRecord) -> Self {
        let priority = u8::try_from(record.priority & 7).unwrap_or(7);
        let level = match priority {
            0..=3 => Level::Error,
            4 => Level::Warning,
            _ => Level::Info,
        };
        let millis = u64::try_from(record.at.as_millis()).unwrap_or(u64::MAX);
        Self { level, priority, millis, text: one_line(&record.text) }
    }
}

/// A terminal must not be steered by it, and has letters for ASCII alone.
fn one_line(text: &str) -> String {
    let text = text.replace("\\x09", " ").replace("\\x1b", "^[");
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// The end of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    records: VecDeque<Entry>,
}

impl Log {
    /// One more record; the oldest goes when there are too many.
    pub fn add(&mut self, record: Entry) {
        if self.records.len() >= KEPT {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// The records from the oldest on, all or those that tell of trouble.
    pub fn records(&self, errors_only: bool) -> impl DoubleEndedIterator<Item = &Entry> {
        self.records.iter().filter(move |record| !errors_only || record.level <= Level::Warning)
    }

    /// Its troubles, for a person who does not read it: programs that end again
    /// and again, and kernel faults, in words a person can send on.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> = Vec::new();
        let mut ended: Vec<(&str, usize)> = Vec::new();
        for record in &self.records {
            if let Some(program) = restarted(&record.text) {
                match ended.iter_mut().find(|(name, _)| *name == program) {
                    Some((_, count)) => *count += 1,
                    None => ended.push((program, 1)),
                }
            }
            if ["Oops", "BUG: ", "Internal error"].iter().any(|word| record.text.starts_with(word)) {
                troubles.push(format!("The kernel has a fault: {}", record.text));
            }
        }
        for (program, count) in ended.into_iter().filter(|(_, count)| *count >= OFTEN) {
            let last = self.records.iter().rev().find(|record| {
                record.level == Level::Error && record.text.starts_with(&format!("{}: ", base_name(program)))
            });
            let said = last.map_or_else(|| "It said nothing".to_owned(), |record| format!("Last: {}", record.text));
            troubles.push(format!("{} has ended {count} times and is started again. {said}", base_name(program)));
        }
        troubles
    }
}

/// The message of `BusyBox`'s init about a program that it starts again
/// (`init/init.c`): `process '/usr/sbin/x' (pid 9) exited. Scheduling for restart.`
fn restarted(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("process '")?;
    let (command, rest) = rest.split_once("' (pid ")?;
    rest.ends_with("Scheduling for restart.").then_some(command)
}

/// `/bin/nice -n 5 /usr/sbin/x` is `x`.
fn base_name(command: &str) -> &str {
    let program = command.split(' ').rfind(|word| word.starts_with('/')).unwrap_or(command);
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Entry {
        syslog::KmsgRecord::parse(line.as_bytes()).unwrap().into()
    }

    #[test]
    fn records_are_read_as_the_kernel_gives_them() {
        assert_eq!(
            parsed("27,412,5140900,-;diskomator-dhcp: eth0: no lease\n SUBSYSTEM=net\n"),
            Entry {
                level: Level::Error,
                priority: 3,
                millis: 5140,
                text: "diskomator-dhcp: eth0: no lease".to_owned()
            }
        );
        let odd = parsed("4,1,0,-,caller=T1;a\\x1b[2J\u{7}b");
        assert_eq!((odd.level, odd.text.as_str()), (Level::Warning, "a^[[2J b"));
        assert_eq!(parsed("6,1,2,-;\u{fffd}").text, "?");
    }

    #[test]
    fn a_program_that_ends_again_and_again_is_told_of_with_what_it_said() {
        let mut log = Log::default();
        let restart = "process '/bin/nice -n 5 /usr/sbin/diskomator-dhcp' (pid 90) exited. Scheduling for restart.";
        for _ in 0..2 {
            log.add(parsed(&format!("6,1,0,-;{restart}")));
        }
        assert_eq!(log.troubles(), Vec::<String>::new());
        log.add(parsed("27,1,0,-;diskomator-dhcp: cannot listen: no such device"));
        log.add(parsed(&format!("6,1,0,-;{restart}")));
        assert_eq!(
            log.troubles(),
            ["diskomator-dhcp has ended 3 times and is started again. \
              Last: diskomator-dhcp: cannot listen: no such device"]
        );
    }

    #[test]
    fn the_log_has_an_end_and_a_filter() {
        let mut log = Log::default();
        for number in 0..KEPT + 5 {
            log.add(Entry {
                level: if number % 2 == 0 { Level::Info } else { Level::Error },
                priority: 6,
                millis: 0,
                text: number.to_string(),
            });
        }
        assert_eq!(log.records(false).count(), KEPT);
        assert_eq!(log.records(true).next().unwrap().text, "5");
    }
}
