//! The file of admitted hosts, and the lines of its control socket.

use std::time::Duration;

use ::access::control::{Command, LINE_MAX, Lines};
use ::access::{Admission, GROUP_MAX, Mode, REQUESTS_MAX, State};

/// A file; then lines in pieces, of which each is carried out, between attempts of hosts.
pub fn access(data: &[u8]) {
    for mode in [Mode::Ask, Mode::Paired] {
        let (admission, error) = Admission::read(mode, Some(data));
        assert!(error.is_none() || admission == Admission::of(mode, None), "a broken file admits a host");
    }
    let mut state = State::parse(data).unwrap_or_default();
    let (mut lines, mut now) = (Lines::default(), Duration::ZERO);
    for (place, piece) in data.chunks(61).enumerate() {
        now += Duration::from_secs(piece.len() as u64);
        let (complete, outcome) = lines.push(piece);
        for line in complete {
            assert!(line.len() <= LINE_MAX && !line.contains(&b'\n'));
            let outcome = Command::parse(&line).and_then(|command| command.carry_out(&mut state, Mode::Ask, now));
            if let Err(error) = outcome {
                assert!(!error.to_string().contains(char::is_control), "{error:?}");
            }
        }
        if outcome.is_err() {
            return;
        }
        if let Ok(nqn) = String::from_utf8_lossy(piece).parse() {
            let number = state.requests().iter().map(|request| request.number).max();
            let octet = u8::try_from(place % 7).unwrap();
            if let ::access::Heard::New(new) = state.heard(&nqn, [192, 0, 2, octet].into(), now) {
                assert!(number.is_none_or(|number| new > number || new == u64::MAX), "a number is reused");
            }
        }
        assert!(state.expire(now).is_none_or(|deadline| deadline > now), "a deadline in the past");
    }
    assert!(state.requests().len() <= REQUESTS_MAX.max(GROUP_MAX));
    let written = state.to_file().unwrap();
    assert_eq!(State::parse(written.as_bytes()).unwrap().requests(), state.requests());
}
