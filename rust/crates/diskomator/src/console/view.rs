//! One terminal: what it shows, and what is typed at it.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use diskomator_core::screen::keys::{Key, Parser};
use diskomator_core::screen::log::Log;
use diskomator_core::screen::model::{Snapshot, uptime_text};
use diskomator_core::screen::plain::{changes, render};
use diskomator_core::screen::traffic::Blocks;
use diskomator_core::screen::ui::{Outcome, Page};
use diskomator_core::screen::{Canvas, Size, Ui};
use diskomator_sys::terminal::{Kind, Terminal};

use super::WIDTH;

/// What every terminal has.
const SIZE: Size = Size { width: 80, height: 25 };
/// How long the rest of a key's sequence may take.
const SEQUENCE: Duration = Duration::from_millis(60);
/// Has a terminal say how large it is: the cursor cannot go farther than to its
/// end (ECMA-48 CUP, and DSR with its answer, CPR).
const ASK_SIZE: &str = "\x1b[999;999H\x1b[6n";
/// Leaves the full screen: all of it empty, and the cursor seen.
const LEAVE: &str = "\x1b[0m\x1b[H\x1b[2J\x1b[?25h";
/// What keys plain lines have.
const PLAIN_KEYS: &str = "f: full screen with keys; Enter: this status again\n";

/// One terminal.
pub(super) struct View {
    terminal: Terminal,
    token: Token,
    is_lost: bool,
    is_full: bool,
    ui: Ui,
    keys: Parser,
    /// What has been typed is no key before then.
    pause: Option<Instant>,
    /// A shell has the terminal.
    is_away: bool,
    /// What the terminal shows, if that is known.
    shown: Option<Canvas>,
    /// How large a serial terminal said it is.
    said_size: Option<Size>,
    /// What was told in lines, and what of it is a text.
    told: Option<(Snapshot, String)>,
    /// Something else is to be drawn than what is shown.
    is_behind: bool,
}

/// What a person wants done: arguments of this program, or a shell.
pub(super) enum Wish {
    Run(Vec<String>),
    Shell,
}

impl View {
    pub(super) fn new(terminal: Terminal, token: Token) -> Self {
        Self {
            is_full: terminal.kind() == Kind::Screen,
            terminal,
            token,
            is_lost: false,
            ui: Ui::default(),
            keys: Parser::default(),
            pause: None,
            is_away: false,
            shown: None,
            said_size: None,
            told: None,
            is_behind: false,
        }
    }

    /// When a key that is one alone will be known to be.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pause
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

    /// What a screen is drawn on has become another: it is opened anew with the next picture.
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
    pub(super) fn give_away(&mut self) -> io::Result<()> {
        self.terminal.send(LEAVE)?;
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
    pub(super) fn show(&mut self, registry: &Registry, snapshot: &Snapshot) {
        if self.is_away {
            return;
        }
        let outcome = self.open(registry).and_then(|()| {
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

    fn open(&mut self, registry: &Registry) -> io::Result<()> {
        if self.terminal.open(registry, self.token)? {
            self.shown = None;
            self.told = None;
            log::debug!("opened {}", self.terminal.path().display());
            if self.terminal.kind() == Kind::Screen {
                self.ui.blocks = if self.terminal.set_font() { Blocks::Eighth } else { Blocks::Half };
            } else {
                self.ui.blocks = Blocks::Eighth;
                if self.is_full {
                    self.terminal.send(ASK_SIZE)?;
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

    /// What has changed in lines, and all of it where something else is so.
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
    pub(super) fn take_keys(&mut self, registry: &Registry, snapshot: &Snapshot, readable: bool) -> Vec<Wish> {
        if self.is_away {
            return Vec::new();
        }
        let sent = self.terminal.go_on();
        self.note(sent);
        let mut keys = Vec::new();
        if readable {
            match self.terminal.read() {
                Ok(bytes) => keys.extend(self.keys.feed(&bytes)),
                Err(error) => self.note(Err(error)),
            }
            self.pause = self.keys.is_open().then(|| Instant::now() + SEQUENCE);
        } else if self.pause.is_some_and(|pause| pause <= Instant::now()) {
            self.pause = None;
            keys.extend(self.keys.pause());
        }
        let mut wishes = Vec::new();
        let has_keys = !keys.is_empty();
        for key in keys {
            self.take_key(key, snapshot, &mut wishes);
        }
        if has_keys || (self.is_behind && self.terminal.is_idle()) {
            self.show(registry, snapshot);
        }
        wishes
    }

    fn take_key(&mut self, key: Key, snapshot: &Snapshot, wishes: &mut Vec<Wish>) {
        if let Key::CursorAt { row, column } = key {
            // Whatever a line says, memory has an end.
            self.said_size = Some(Size { width: column.clamp(20, 400), height: row.clamp(6, 150) });
            self.shown = None;
            return;
        }
        if !self.is_full {
            match key {
                Key::Char('f' | 'F') => {
                    self.is_full = true;
                    self.shown = None;
                    let sent = self.terminal.send(ASK_SIZE);
                    self.note(sent);
                }
                Key::Enter => self.told = None,
                _ => {}
            }
            return;
        }
        let size = self.shown.as_ref().map_or(SIZE, Canvas::size);
        match self.ui.key(key, snapshot, size) {
            Outcome::Shown => {}
            Outcome::Redraw => {
                self.shown = None;
                if self.terminal.kind() == Kind::Serial {
                    let sent = self.terminal.send(ASK_SIZE);
                    self.note(sent);
                }
            }
            Outcome::Run(words) => wishes.push(Wish::Run(words)),
            Outcome::Shell if self.terminal.kind() == Kind::Screen => {
                if let Err(error) = self.terminal.show_shell() {
                    self.ui.say(&format!("The shell cannot be shown: {error}. Alt-F9 may."), true);
                }
            }
            Outcome::Shell => wishes.push(Wish::Shell),
            Outcome::Leave if self.terminal.kind() == Kind::Serial => {
                self.is_full = false;
                self.told = None;
                self.terminal.forget();
                let sent = self.terminal.send(LEAVE);
                self.note(sent);
            }
            Outcome::Leave => {
                let uptime = uptime_text(snapshot.uptime).0;
                self.ui.say(&format!("This screen has no plain lines; {uptime}. Alt-F9 is a shell."), false);
            }
        }
    }

    /// Says once that a terminal is lost. It is tried again with each text.
    fn note(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.is_lost = false,
            Err(error) => {
                if !self.is_lost {
                    log::warn!("nothing can be shown on {}: {error}", self.terminal.path().display());
                }
                self.is_lost = true;
            }
        }
    }
}
