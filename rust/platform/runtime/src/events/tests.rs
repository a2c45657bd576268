use std::fmt;
use std::io::{Read as _, Write as _};
use std::thread;

use mio::unix::pipe;
use nix::sys::signal::{Signal, raise};

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Pipe(u32),
    Thread,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipe(number) => write!(f, "pipe {number}"),
            Self::Thread => f.write_str("the thread"),
        }
    }
}

const LONG: Duration = Duration::from_secs(60);

fn ready(source: Source) -> Event<Source> {
    Event::Ready { source, is_readable: true }
}

/// Waits for nothing.
fn look(events: &mut EventLoop<Source>) -> Vec<Event<Source>> {
    events.wait(Some(Instant::now())).unwrap()
}

fn with_pipes(numbers: &[u32]) -> (EventLoop<Source>, Vec<(pipe::Sender, pipe::Receiver)>) {
    let mut events = EventLoop::new().unwrap();
    let pipes: Vec<_> = numbers.iter().map(|_| pipe::new().unwrap()).collect();
    for (number, (_, reader)) in numbers.iter().zip(&pipes) {
        events.register_descriptor(Source::Pipe(*number), reader).unwrap();
    }
    (events, pipes)
}

#[test]
fn each_source_is_reported_under_its_own_name_once_it_is_readable() {
    let (mut events, mut pipes) = with_pipes(&[1, 2]);
    assert_eq!(look(&mut events), []);
    pipes[1].0.write_all(b"x").unwrap();
    assert_eq!(events.wait(after(LONG)).unwrap(), [ready(Source::Pipe(2))]);
    pipes[0].0.write_all(b"x").unwrap();
    assert_eq!(events.wait(after(LONG)).unwrap(), [ready(Source::Pipe(1))]);
}

#[test]
fn sources_are_reported_in_the_order_of_their_registration() {
    let (mut events, mut pipes) = with_pipes(&[2, 1, 3]);
    events.again(Source::Pipe(3));
    for (writer, _) in pipes[..2].iter_mut().rev() {
        writer.write_all(b"x").unwrap();
    }
    assert_eq!(events.wait(None).unwrap(), [2, 1, 3].map(|number| ready(Source::Pipe(number))));
}

#[test]
fn files_that_are_one_source_are_reported_as_one() {
    let (mut events, mut pipes) = with_pipes(&[7, 7]);
    for (writer, _) in &mut pipes {
        writer.write_all(b"x").unwrap();
    }
    assert_eq!(events.wait(after(LONG)).unwrap(), [ready(Source::Pipe(7))]);
    assert_eq!(look(&mut events), []);
}

#[test]
fn a_source_with_more_is_reported_again_at_once_and_not_beyond() {
    let (mut events, mut pipes) = with_pipes(&[1]);
    pipes[0].0.write_all(b"abc").unwrap();
    assert_eq!(events.wait(None).unwrap(), [ready(Source::Pipe(1))]);
    // The kernel does not report it a second time, though it was not read.
    assert_eq!(look(&mut events), []);
    events.again(Source::Pipe(1));
    events.again(Source::Pipe(1));
    assert_eq!(events.wait(None).unwrap(), [ready(Source::Pipe(1))]);
    assert_eq!(look(&mut events), []);
    // New bytes are the same report.
    pipes[0].0.write_all(b"d").unwrap();
    events.again(Source::Pipe(1));
    assert_eq!(events.wait(None).unwrap(), [ready(Source::Pipe(1))]);
    assert_eq!(look(&mut events), []);
}

#[test]
fn a_source_that_was_closed_can_come_back_under_its_name() {
    let (mut events, pipes) = with_pipes(&[1]);
    drop(pipes);
    assert_eq!(look(&mut events), []);
    let (mut writer, reader) = pipe::new().unwrap();
    events.register_descriptor(Source::Pipe(1), &reader).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(events.wait(after(LONG)).unwrap(), [ready(Source::Pipe(1))]);
    assert_eq!(events.sources.len(), 1);
}

#[test]
fn a_file_registers_itself_in_its_slot() {
    let mut events = EventLoop::new().unwrap();
    let slot = events.slot(Source::Pipe(3)).unwrap();
    let (mut writer, reader) = pipe::new().unwrap();
    slot.registry().register(&mut SourceFd(&reader.as_raw_fd()), slot.token(), Interest::READABLE).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(events.wait(after(LONG)).unwrap(), [ready(Source::Pipe(3))]);
}

#[test]
fn a_source_that_cannot_be_waited_for_is_named() {
    let mut events = EventLoop::new().unwrap();
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let error = events.register_descriptor(Source::Pipe(4), &file).unwrap_err();
    assert_eq!(
        kernel::error::chain(&error),
        "cannot wait for pipe 4: Operation not permitted (os error 1)",
        "a file on a disk never blocks"
    );
}

#[test]
fn another_thread_wakes_the_loop() {
    let mut events = EventLoop::new().unwrap();
    let waker = events.waker(Source::Thread).unwrap();
    let other = waker.clone();
    thread::spawn(move || other.wake()).join().unwrap();
    assert_eq!(events.wait(after(LONG)).unwrap(), [ready(Source::Thread)]);
    assert_eq!(look(&mut events), []);
    waker.wake();
    assert_eq!(events.wait(after(LONG)).unwrap(), [ready(Source::Thread)]);
}

#[test]
fn nothing_but_the_deadline_ends_a_wait_early() {
    let mut events = EventLoop::<Source>::new().unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    assert_eq!(events.wait(Some(deadline)).unwrap(), []);
    assert!(Instant::now() >= deadline);
}

#[test]
fn a_wait_that_a_signal_interrupts_goes_on_for_the_time_that_is_left() {
    let until = Instant::now() + LONG;
    let mut waits = Vec::new();
    let outcome = uninterrupted(Some(until), &mut |left| {
        waits.push(left.unwrap());
        thread::sleep(Duration::from_millis(2));
        if waits.len() < 3 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    });
    outcome.unwrap();
    assert!(waits.len() == 3 && waits.is_sorted_by(|a, b| a > b), "{waits:?}");
    let error = uninterrupted(None, &mut |left| {
        assert_eq!(left, None);
        Err(io::ErrorKind::InvalidInput.into())
    });
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn signals_are_events_and_the_end_comes_first() {
    let (mut events, mut pipes) = with_pipes(&[1]);
    events.end_by_signal().unwrap();
    events.release_by_signal().unwrap();
    assert_eq!(look(&mut events), []);
    raise(Signal::SIGUSR1).unwrap();
    assert_eq!(events.wait(after(LONG)).unwrap(), [Event::Release]);
    assert_eq!(look(&mut events), [], "it was one");
    pipes[0].0.write_all(b"x").unwrap();
    raise(Signal::SIGUSR1).unwrap();
    raise(Signal::SIGTERM).unwrap();
    assert_eq!(events.wait(after(LONG)).unwrap(), [Event::End, Event::Release, ready(Source::Pipe(1))]);
    raise(Signal::SIGINT).unwrap();
    assert_eq!(events.wait(after(LONG)).unwrap(), [Event::End]);
}

/// A time script: for each turn, the deadline and the end of the wait, in milliseconds.
fn script(turns: &[(u64, Option<u64>, Option<u64>)]) {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut pacer = Pacer::default();
    for (turn, (now, deadline, until)) in turns.iter().enumerate() {
        assert_eq!(pacer.until(at(*now), deadline.map(at)), until.map(at), "turn {turn}");
    }
}

#[test]
fn a_deadline_is_waited_for_and_one_that_has_passed_is_not() {
    script(&[(0, None, None), (5, Some(9), Some(9)), (12, Some(9), Some(12)), (13, Some(20), Some(20))]);
}

#[test]
fn a_deadline_that_nobody_acts_on_makes_no_loop_spin() {
    let overdue = (50, Some(40), Some(50));
    let paused = (50, Some(40), Some(60));
    let mut turns = vec![overdue; 16];
    turns.extend([paused, paused, (70, Some(71), Some(71))]);
    // A deadline ahead starts anew.
    turns.extend(vec![overdue; 16]);
    turns.extend([paused, (70, None, None), overdue]);
    script(&turns);
}

#[test]
fn an_event_ends_the_pause_of_a_deadline_that_nobody_acts_on() {
    let (mut events, mut pipes) = with_pipes(&[1]);
    let past = Instant::now();
    for _ in 0..OVERDUE_TURNS {
        assert_eq!(events.wait(Some(past)).unwrap(), []);
    }
    let before = Instant::now();
    assert_eq!(events.wait(Some(past)).unwrap(), []);
    assert!(before.elapsed() >= OVERDUE_PAUSE);
    pipes[0].0.write_all(b"x").unwrap();
    assert_eq!(events.wait(Some(past)).unwrap(), [ready(Source::Pipe(1))]);
}

#[test]
fn a_time_that_no_clock_reaches_is_no_deadline() {
    assert_eq!(after(Duration::MAX), None);
    assert!(after(LONG).unwrap() > Instant::now() + LONG / 2);
}

#[test]
fn a_source_is_read_until_it_would_block_or_others_have_their_turn() {
    let (mut writer, mut reader) = pipe::new().unwrap();
    let sent: Vec<u8> = (0..40).collect();
    writer.write_all(&sent).unwrap();
    let mut taken = Vec::new();
    let mut receive = || {
        let mut byte = [0];
        reader.read_exact(&mut byte).map(|()| taken.push(byte[0]))
    };
    assert_eq!(drain("pipe", &mut receive), Drained::More);
    assert_eq!(drain("pipe", &mut receive), Drained::Empty);
    assert_eq!(taken, sent);
}

#[test]
fn an_error_ends_no_reading_but_a_source_that_only_fails_is_left_alone() {
    let outcome = |script: &[Result<(), io::ErrorKind>]| {
        let mut calls = 0;
        let drained = drain("pipe", || {
            calls += 1;
            script[(calls - 1) % script.len()].map_err(io::Error::from)
        });
        (drained, calls)
    };
    let (message, empty) = (Ok(()), Err(io::ErrorKind::WouldBlock));
    let (interrupted, refused) = (Err(io::ErrorKind::Interrupted), Err(io::ErrorKind::ConnectionRefused));
    assert_eq!(outcome(&[interrupted, message, refused, message, empty]), (Drained::Empty, 5));
    assert_eq!(outcome(&[message, refused, refused, message]), (Drained::Empty, 3));
    assert_eq!(outcome(&[refused]), (Drained::Empty, 2));
    assert_eq!(outcome(&[refused, message]), (Drained::More, MESSAGES_AT_ONCE));
}
