//! Waiting for something to become true.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long to sleep between two looks. Each look costs more than this in an emulated machine.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls `look` until it gives something, for at most `limit`.
///
/// `look` answers `Ok(Ok(value))` when it is there, `Ok(Err(state))` with what it saw instead, or an error that will
/// not go away by waiting. A command that fails is a state too: what it looks at may come and go meanwhile.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = match look() {
            Err(failed @ Error::Command { .. }) => Err(failed.to_string()),
            other => other?,
        };
        match seen {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => {
                return Err(Error::Deadline { what: what.to_owned(), after: limit, last });
            }
            Err(_) => sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Error {
        let [machine, command, said] = ["appliance1", "ls /sys/*/gone", "No such file or directory"].map(str::to_owned);
        Error::Command { machine, command, status: 1, said }
    }

    #[test]
    fn a_command_that_fails_while_things_change_is_tried_again() {
        let mut looks = 0;
        let there = wait_for("a file", Duration::from_secs(60), || {
            looks += 1;
            if looks < 3 { Err(failed()) } else { Ok(Ok(looks)) }
        });
        assert!(matches!(there, Ok(3)), "{there:?}");
    }

    #[test]
    fn a_command_that_goes_on_failing_is_named_in_the_end() {
        let text = wait_for("a file", Duration::ZERO, || Err::<std::result::Result<(), String>, _>(failed()));
        let text = text.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("a file") && text.contains("ls /sys/*/gone"), "{text}");
    }

    #[test]
    fn a_machine_that_ended_ends_the_wait() {
        let none = || Error::None { machine: "appliance1".to_owned(), what: "guest".to_owned() };
        let ended = wait_for("a file", Duration::from_secs(60), || Err::<std::result::Result<(), String>, _>(none()));
        assert!(matches!(ended, Err(Error::None { .. })), "{ended:?}");
    }
}
