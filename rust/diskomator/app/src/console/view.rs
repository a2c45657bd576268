//! One terminal: what it shows, and what is typed at it.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kernel::error::chain;
use kernel::terminal::{Kind, Terminal};
use runtime::events::Slot;
use screen::Ui;
use screen::bindings::{Command, Page};
use screen::log::Log;
use screen::model::{Request, Snapshot, uptime_text};
use screen::plain::{Answer, Typed, TypedLine, changes, render};
use screen::traffic::Blocks;
use screen::ui::Outcome;
use tui::keys::{Key, Parser};
use tui::{Canvas, Size};

use super::WIDTH;

/// The size that every terminal has.
const SIZE: Size = Size { width: 80, height: 25 };
/// How long the rest of a key's sequence may take,
const SEQUENCE: Duration = Duration::from_millis(60);
/// and that of one that has begun, or of an answer that is on its way through slow lines: its last
/// byte is an R, which is a key by itself.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a serial line may take to answer that a terminal is at its end. Noise does not, and
/// neither does a program that writes the lines down.
const TERMINAL: Duration = Duration::from_secs(15);
/// On a serial line a yes is a byte with silence before it, which noise has not.
const SILENCE: Duration = Duration::from_millis(250);
/// Has a terminal say how large it is: the cursor cannot go farther than to its
/// end (ECMA-48 CUP, and DSR with its answer, CPR).
const ASK_SIZE: &str = "\x1b[999;999H\x1b[6n";
/// Leaves the full screen: all of it empty, and the cursor seen.
const LEAVE: &str = "\x1b[0m\x1b[H\x1b[2J\x1b[?25h";
/// The keys of plain lines.
const PLAIN_KEYS: &str = "f: full screen with keys; Enter: this status again\n";
/// Moves the cursor back over the last character, and blanks that.
const ERASE: &str = "\x08 \x08";

/// One terminal.
pub(super) struct View {
    terminal: Terminal,
    slot: Slot,
    is_lost: bool,
    is_full: bool,
    ui: Ui,
    keys: Parser,
    /// Bytes that are typed before then are no keys.
    pause: Option<Instant>,
    /// A shell has the terminal.
    is_away: bool,
    /// The canvas that the terminal shows, if that is known.
    shown: Option<Canvas>,
    /// How large a serial terminal said it is.
    said_size: Option<Size>,
    /// When it was asked for that, if it has not answered.
    asked: Option<Instant>,
    /// When the last byte came.
    heard: Option<Instant>,
    /// The snapshot that was last printed as lines, and its text.
    told: Option<(Snapshot, String)>,
    /// The answer that is being typed between the lines.
    typed: TypedLine,
    /// Something else is to be drawn than what is shown.
    is_behind: bool,
}

/// A terminal that takes no text or gives no keys.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be shown on {path}")]
pub(super) struct LostTerminal {
    path: PathBuf,
    source: io::Error,
}

/// A command for this program, or a shell, that a key asks for.
pub(super) enum Wish {
    Run(Command),
    Shell,
}

impl View {
    pub(super) fn new(terminal: Terminal, slot: Slot) -> Self {
        Self {
            is_full: terminal.kind() == Kind::Screen,
            terminal,
            slot,
            is_lost: false,
            ui: Ui::default(),
            keys: Parser::default(),
            pause: None,
            is_away: false,
            shown: None,
            said_size: None,
            asked: None,
            heard: None,
            told: None,
            typed: TypedLine::default(),
            is_behind: false,
        }
    }

    /// When a key that is one alone will be known to be, or that nobody answers.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pause.into_iter().chain(self.patience()).min()
    }

    /// When a serial line that has never answered gets lines again.
    fn patience(&self) -> Option<Instant> {
        let is_unknown = self.is_full && !self.is_away && self.said_size.is_none();
        self.asked.filter(|_| is_unknown && self.terminal.kind() == Kind::Serial).map(|asked| asked + TERMINAL)
    }

    /// Asks a serial terminal how large it is.
    fn ask_size(&mut self) -> io::Result<()> {
        self.asked = Some(Instant::now());
        self.terminal.send(ASK_SIZE)
    }

    /// Goes back from the full screen to lines.
    fn leave(&mut self) {
        self.is_full = false;
        self.told = None;
        (self.said_size, self.asked) = (None, None);
        self.terminal.forget();
        let sent = self.terminal.send(LEAVE);
        self.note(sent);
    }

    /// Whether the last text did not get there.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Something else has written on a screen: all of it must be drawn anew.
    pub(super) fn forget(&mut self) {
        self.shown = None;
    }

    /// The kind of console that a screen is drawn on has changed: it is opened anew with the next picture.
    pub(super) fn reopen_screen(&mut self) {
        if self.terminal.kind() == Kind::Screen {
            self.terminal.close();
        }
    }

    pub(super) fn shows_log(&self) -> bool {
        self.is_full && self.ui.page() == Page::Log
    }

    pub(super) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// Says what comes of a key. On plain lines nothing is asked for.
    pub(super) fn say(&mut self, text: &str, is_bad: bool) {
        self.ui.say(text, is_bad);
    }

    /// A shell gets the terminal as it was found.
    pub(super) fn give_away(&mut self) -> Result<(), LostTerminal> {
        self.terminal.send(LEAVE).map_err(|source| self.lost(source))?;
        self.terminal.close();
        self.is_away = true;
        Ok(())
    }

    pub(super) fn take_back(&mut self) {
        self.is_away = false;
        self.shown = None;
        self.told = None;
    }

    /// Shows what is so now.
    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        if self.is_away {
            return;
        }
        let outcome = self.open().and_then(|()| {
            if !self.terminal.is_idle() && self.is_full {
                // A slow line gets the last of many states, once it has the one before.
                self.is_behind = true;
                return Ok(());
            }
            self.is_behind = false;
            if self.is_full { self.draw(snapshot) } else { self.tell(snapshot) }
        });
        self.note(outcome);
    }

    fn open(&mut self) -> io::Result<()> {
        if self.terminal.open(self.slot.registry(), self.slot.token())? {
            self.shown = None;
            self.told = None;
            log::debug!("opened {}", self.terminal.path().display());
            if self.terminal.kind() == Kind::Screen {
                self.ui.blocks = if self.terminal.set_font() { Blocks::Eighth } else { Blocks::Half };
            } else {
                self.ui.blocks = Blocks::Eighth;
                if self.is_full {
                    self.ask_size()?;
                }
            }
        }
        Ok(())
    }

    fn draw(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let size = self.said_size.or_else(|| self.terminal.size()).unwrap_or(SIZE);
        let canvas = self.ui.render(snapshot, size);
        let text = canvas.changes(self.shown.as_ref());
        self.shown = Some(canvas);
        self.terminal.send(&text)
    }

    /// Prints changes of the exports as lines, and the whole status after any other change.
    fn tell(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let text = render(snapshot, WIDTH);
        let mut lines = String::new();
        match &self.told {
            None => lines.push_str(PLAIN_KEYS),
            Some((before, _)) => {
                let time = snapshot.uptime.as_secs();
                for line in changes(before, snapshot) {
                    lines.push_str(&format!("[{time:>6}] {line}\n"));
                }
            }
        }
        if self.told.as_ref().is_none_or(|(_, told)| *told != text) {
            lines.push_str(&format!("\n{text}"));
        }
        if lines.is_empty() {
            return Ok(());
        }
        if !self.terminal.is_idle() {
            self.terminal.forget();
            lines = format!("\n\n{text}");
        }
        self.told = Some((Snapshot { log: Log::default(), ..snapshot.clone() }, text));
        self.terminal.send(&lines)
    }

    /// Takes what was typed, or goes on with what is to be sent.
    pub(super) fn take_keys(&mut self, snapshot: &Snapshot, readable: bool) -> Vec<Wish> {
        if self.is_away {
            return Vec::new();
        }
        let sent = self.terminal.go_on();
        self.note(sent);
        let mut keys = Vec::new();
        let mut is_alone = true;
        if readable {
            match self.terminal.read() {
                Ok(bytes) => {
                    let now = Instant::now();
                    let is_silent = self.heard.is_none_or(|heard| now.duration_since(heard) >= SILENCE);
                    is_alone = self.terminal.kind() == Kind::Screen || (is_silent && bytes.len() == 1);
                    self.heard = Some(now);
                    keys.extend(self.keys.feed(&bytes));
                }
                Err(error) => self.note(Err(error)),
            }
            let is_answer = self.keys.is_inside() || self.asked.is_some_and(|asked| asked.elapsed() < TERMINAL);
            let rest = if is_answer { ANSWER } else { SEQUENCE };
            self.pause = self.keys.is_open().then(|| Instant::now() + rest);
        } else if self.patience().is_some_and(|patience| patience <= Instant::now()) {
            self.leave();
            self.show(snapshot);
        } else if self.pause.is_some_and(|pause| pause <= Instant::now()) {
            self.pause = None;
            keys.extend(self.keys.pause());
        }
        let mut wishes = Vec::new();
        let has_keys = !keys.is_empty();
        for key in keys {
            // No key answers a question with no less than yes.
            let key = if !is_alone && self.ui.asks() { Key::Esc } else { key };
            self.take_key(key, snapshot, &mut wishes);
        }
        if has_keys || (self.is_behind && self.terminal.is_idle()) {
            self.show(snapshot);
        }
        wishes
    }

    fn take_key(&mut self, key: Key, snapshot: &Snapshot, wishes: &mut Vec<Wish>) {
        if let Key::CursorAt { row, column } = key {
            // A line may claim any size, and memory has an end.
            self.said_size = Some(Size { width: column.clamp(20, 400), height: row.clamp(6, 150) });
            self.asked = None;
            self.shown = None;
            return;
        }
        if !self.is_full {
            self.take_plain_key(key, snapshot, wishes);
            return;
        }
        let size = self.shown.as_ref().map_or(SIZE, Canvas::size);
        match self.ui.key(key, snapshot, size) {
            Outcome::Shown => {}
            Outcome::Redraw => {
                self.shown = None;
                if self.terminal.kind() == Kind::Serial {
                    let sent = self.ask_size();
                    self.note(sent);
                }
            }
            Outcome::Run(command) => wishes.push(Wish::Run(command)),
            Outcome::Shell if self.terminal.kind() == Kind::Screen => {
                if let Err(error) = self.terminal.show_shell() {
                    self.ui.say(&format!("The shell cannot be shown: {error}. Alt-F9 may."), true);
                }
            }
            Outcome::Shell => wishes.push(Wish::Shell),
            Outcome::Leave if self.terminal.kind() == Kind::Serial => self.leave(),
            Outcome::Leave => {
                let uptime = uptime_text(snapshot.uptime).0;
                self.ui.say(&format!("This screen has no plain lines; {uptime}. Alt-F9 is a shell."), false);
            }
        }
    }

    /// Takes a key between plain lines. There, only a whole line is an answer: one stray byte must do nothing.
    fn take_plain_key(&mut self, key: Key, snapshot: &Snapshot, wishes: &mut Vec<Wish>) {
        let typed = match key {
            Key::Char('f' | 'F') => {
                self.is_full = true;
                self.shown = None;
                self.typed = TypedLine::default();
                let sent = self.ask_size();
                self.note(sent);
                return;
            }
            Key::Enter if self.typed.is_empty() => {
                self.told = None;
                return;
            }
            Key::Enter => self.typed.enter(),
            Key::Backspace => self.typed.erase(),
            Key::Char(c) => self.typed.push(c),
            _ => return,
        };
        let echo = match typed {
            Typed::Nothing => return,
            Typed::Echo(c) => c.to_string(),
            Typed::Erase => ERASE.to_owned(),
            Typed::Answer(answer, number) => {
                let request = snapshot.access.requests.iter().find(|request| request.number == number);
                match request {
                    Some(Request { host, .. }) => {
                        let nqn = host.nqn.clone();
                        wishes.push(Wish::Run(match answer {
                            Answer::Deny => Command::Deny { number: Some(number), nqn },
                            Answer::Allow => Command::Allow { number: Some(number), nqn, is_read_only: false },
                            Answer::ReadOnly => Command::Allow { number: Some(number), nqn, is_read_only: true },
                        }));
                        "\n".to_owned()
                    }
                    None => format!("\nNo host asks with the number {number}.\n"),
                }
            }
        };
        let sent = self.terminal.send(&echo);
        self.note(sent);
    }

    fn lost(&self, source: io::Error) -> LostTerminal {
        LostTerminal { path: self.terminal.path().to_owned(), source }
    }

    /// Says once that a terminal is lost. It is tried again with each text.
    fn note(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.is_lost = false,
            Err(error) => {
                if !self.is_lost {
                    log::warn!("{}", chain(&self.lost(error)));
                }
                self.is_lost = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use nix::fcntl::OFlag;
    use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
    use nvmet::model::Host;
    use runtime::events::EventLoop;

    use super::super::Source;
    use super::*;

    /// A serial line: its far end, and the view at this one.
    struct Line {
        far: PtyMaster,
        view: View,
    }

    impl Line {
        fn new() -> Self {
            let far = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK).unwrap();
            grantpt(&far).unwrap();
            unlockpt(&far).unwrap();
            let near = PathBuf::from(ptsname_r(&far).unwrap());
            let slot = EventLoop::new().unwrap().slot(Source::Terminal(0)).unwrap();
            let mut line = Self { far, view: View::new(Terminal::new(near, Kind::Serial), slot) };
            line.view.show(&Snapshot::default());
            line
        }

        /// The wishes that result from bytes that arrive at once.
        fn hear(&mut self, bytes: &[u8]) -> Vec<Wish> {
            self.far.write_all(bytes).unwrap();
            self.view.take_keys(&Snapshot::default(), true)
        }

        /// The same, after a while in which nothing came.
        fn hear_alone(&mut self, bytes: &[u8]) -> Vec<Wish> {
            self.view.heard = None;
            self.hear(bytes)
        }

        /// Lets as much time pass as it waits for.
        fn wait(&mut self) {
            let past = |due: Option<Instant>| due.and_then(|due| due.checked_sub(TERMINAL + ANSWER));
            (self.view.pause, self.view.asked) = (past(self.view.pause), past(self.view.asked));
            assert!(self.hear_nothing().is_empty());
        }

        fn hear_nothing(&mut self) -> Vec<Wish> {
            self.view.take_keys(&Snapshot::default(), false)
        }

        fn said(&mut self) -> String {
            let mut said = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = self.far.read(&mut buffer) {
                said.extend_from_slice(&buffer[..length]);
            }
            String::from_utf8_lossy(&said).into_owned()
        }

        fn with_terminal() -> Self {
            let mut line = Self::new();
            line.hear(b"f");
            line.hear(b"\x1b[30;100R");
            assert!(line.view.is_full && line.view.said_size == Some(Size { width: 100, height: 30 }));
            line
        }
    }

    #[test]
    fn a_stray_byte_gives_no_full_screen_for_good() {
        let mut line = Line::new();
        line.hear(b"f");
        assert!(line.view.is_full && line.view.due().is_some());
        line.said();
        line.wait();
        assert!(!line.view.is_full && line.view.due().is_none());
        let said = line.said();
        assert!(said.contains("f: full screen"), "{said:?}");
        // A terminal answers, and keeps it.
        let mut line = Line::with_terminal();
        line.wait();
        assert!(line.view.is_full);
    }

    #[test]
    fn a_yes_among_other_bytes_is_none() {
        let mut line = Line::with_terminal();
        for noise in [&b"Py"[..], b"RyPyyy", b"P\xffy"] {
            assert!(line.hear_alone(noise).is_empty(), "{noise:?}");
            line.hear_alone(b"n");
        }
        line.hear_alone(b"P");
        assert!(line.hear(b"y").is_empty(), "too soon");
        line.hear_alone(b"P");
        assert!(line.hear_alone(b"y\r").is_empty());
        line.hear_alone(b"P");
        assert!(matches!(line.hear_alone(b"y").as_slice(), [Wish::Run(Command::PowerOff)]));
    }

    #[test]
    fn no_part_of_a_terminals_answer_is_a_key() {
        // Slow lines have pauses; the answer's last byte would ask whether to restart.
        for (first, second) in [(&b"\x1b[30;1"[..], &b"00R"[..]), (b"\x1b[", b"30;100R"), (b"\x1b", b"[30;100R")] {
            let mut line = Line::new();
            line.hear(b"f");
            line.hear(first);
            let due = line.view.pause.unwrap();
            assert!(due > Instant::now() + SEQUENCE * 4, "{first:?}");
            line.hear(second);
            assert!(!line.view.ui.asks() && line.view.said_size.is_some(), "{first:?}");
        }
    }

    #[test]
    fn a_request_is_answered_by_a_whole_line_and_by_nothing_less() {
        let host = Host { nqn: "nqn.ask".to_owned(), address: Some("192.0.2.9".to_owned()) };
        let mut snapshot = Snapshot::default();
        snapshot.access.requests = vec![Request { number: 3, host }];
        let answers = |bytes: &[u8]| {
            let mut line = Line::new();
            line.said();
            line.far.write_all(bytes).unwrap();
            let wishes = line.view.take_keys(&snapshot, true);
            (wishes.into_iter().map(|wish| matches!(wish, Wish::Run(_))).collect::<Vec<_>>(), line.said())
        };
        for nothing in
            [&b"a"[..], b"allow 3", b"allow3\r", b"allow\r3", b"3\r", b"y\r", b"allow 3x\r", b"allow 4294967296\r"]
        {
            assert!(answers(nothing).0.is_empty(), "{nothing:?}");
        }
        for answer in [&b"allow 3\r"[..], b"deny 3\r", b"read-only 3\n", b"\xff~aaallow 33\x7f\r", b"deny allow 3\r"] {
            assert_eq!(answers(answer).0, [true], "{answer:?}");
        }
        let (none, said) = answers(b"allow 4\r");
        assert!(none.is_empty() && said.contains("No host asks with the number 4"), "{said:?}");
        // A device that sends back all that it gets is no partner of an endless talk.
        let mut line = Line::new();
        line.said();
        line.far.write_all(b"a").unwrap();
        for _ in 0..3 {
            line.view.take_keys(&snapshot, true);
            let said = line.said();
            line.far.write_all(said.as_bytes()).unwrap();
        }
        assert_eq!(line.said(), "");
    }

    #[test]
    fn no_control_character_stops_the_line_or_ends_anything() {
        let mut line = Line::new();
        line.said();
        assert!(line.hear(b"\x13\x03\x1a\x1c\x04\x05\x00").is_empty());
        line.hear(b"\r");
        assert!(line.said().contains("Diskomator"));
    }
}
