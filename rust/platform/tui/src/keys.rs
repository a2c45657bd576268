//! Keys, from the bytes that a terminal sends for them.
//!
//! ECMA-48 control sequences as the kernel's console, xterm and their kin use
//! them (the kernel's `drivers/tty/vt/defkeymap.map`; xterm's `ctlseqs`).

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A letter or another printable character.
    Char(char),
    /// Ctrl and a letter.
    Ctrl(char),
    /// The return key.
    Enter,
    /// Escape alone.
    Esc,
    /// The tabulator.
    Tab,
    /// The key that takes back.
    Backspace,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// A page back.
    PageUp,
    /// A page on.
    PageDown,
    /// To the start.
    Home,
    /// To the end.
    End,
    /// Not a key: the terminal's answer to where its cursor is, from 1.
    CursorAt {
        /// The row.
        row: usize,
        /// The column.
        column: usize,
    },
}

/// Longer sequences than any key's are noise.
const SEQUENCE_MAX: usize = 16;

/// Takes bytes as they come, and gives keys.
#[derive(Debug, Default)]
pub struct Parser {
    pending: Vec<u8>,
}

impl Parser {
    /// The keys that are complete with `bytes`.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for byte in bytes {
            self.take(*byte, &mut keys);
        }
        keys
    }

    /// Whether what came last may be the start of more, or Escape alone.
    pub fn is_open(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether what came last is more of a sequence than Escape, and no key before its end.
    pub fn is_inside(&self) -> bool {
        self.pending.len() > 1
    }

    /// Nothing more came for a while: an Escape that is alone is one.
    pub fn pause(&mut self) -> Option<Key> {
        let was_escape = self.pending == [ESC];
        self.pending.clear();
        was_escape.then_some(Key::Esc)
    }

    fn take(&mut self, byte: u8, keys: &mut Vec<Key>) {
        if self.pending.is_empty() {
            if byte == ESC || byte >= 0x80 {
                self.pending.push(byte);
            } else {
                keys.extend(simple(byte));
            }
            return;
        }
        if self.pending.first() != Some(&ESC) {
            self.take_utf8(byte, keys);
            return;
        }
        // The sequence is over: a new one starts, or a key that is none of a sequence.
        if byte == ESC {
            if self.pending.len() == 1 {
                keys.push(Key::Esc);
            }
            self.pending = vec![ESC];
            return;
        }
        self.pending.push(byte);
        let is_done = match self.pending.as_slice() {
            // Single shift three, or a control sequence, whose last byte is from 0x40 on. The
            // kernel's function keys 1 to 5 have one byte more than that.
            [_, b'O' | b'['] | [_, b'[', b'['] => false,
            [_, b'O', _] | [_, b'[', b'[', _] => true,
            [_, b'[', .., last] => (0x40..0x7f).contains(last) || *last < 0x20,
            _ => true,
        };
        if is_done || self.pending.len() >= SEQUENCE_MAX {
            let sequence = std::mem::take(&mut self.pending);
            keys.extend(sequence_key(&sequence));
        }
    }

    fn take_utf8(&mut self, byte: u8, keys: &mut Vec<Key>) {
        if byte < 0x80 {
            // The bytes before were no character.
            self.pending.clear();
            self.take(byte, keys);
            return;
        }
        self.pending.push(byte);
        if let Ok(text) = std::str::from_utf8(&self.pending) {
            keys.extend(text.chars().map(Key::Char));
            self.pending.clear();
        } else if self.pending.len() >= 4 {
            self.pending.clear();
        }
    }
}

const ESC: u8 = 0x1b;

fn simple(byte: u8) -> Option<Key> {
    Some(match byte {
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x08 | 0x7f => Key::Backspace,
        1..=26 => Key::Ctrl(char::from(byte + b'a' - 1)),
        b' '..=b'~' => Key::Char(char::from(byte)),
        _ => return None,
    })
}

fn sequence_key(sequence: &[u8]) -> Option<Key> {
    Some(match sequence {
        // With Alt, or in another keypad mode, it is the same key.
        [_, b'[' | b'O', letter] => match letter {
            b'A' => Key::Up,
            b'B' => Key::Down,
            b'C' => Key::Right,
            b'D' => Key::Left,
            b'H' => Key::Home,
            b'F' => Key::End,
            _ => return None,
        },
        [_, b'[', number @ .., b'~'] => match number {
            b"1" | b"7" => Key::Home,
            b"4" | b"8" => Key::End,
            b"5" => Key::PageUp,
            b"6" => Key::PageDown,
            _ => return None,
        },
        // ECMA-48 CPR.
        [_, b'[', numbers @ .., b'R'] => {
            let (row, column) = std::str::from_utf8(numbers).ok()?.split_once(';')?;
            Key::CursorAt { row: row.parse().ok()?, column: column.parse().ok()? }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_send_is_understood() {
        for (bytes, key) in [
            (&b"a"[..], Key::Char('a')),
            (b"\r", Key::Enter),
            (b"\n", Key::Enter),
            (b"\x03", Key::Ctrl('c')),
            (b"\x7f", Key::Backspace),
            (b"\x1b[A", Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[1~", Key::Home),
            (b"\x1b[H", Key::Home),
            (b"\x1b[4~", Key::End),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[6~", Key::PageDown),
            (b"\x1b[24;80R", Key::CursorAt { row: 24, column: 80 }),
            ("ä".as_bytes(), Key::Char('ä')),
        ] {
            let mut parser = Parser::default();
            assert_eq!(parser.feed(bytes), [key], "{bytes:?}");
            assert!(!parser.is_open());
            // The same byte by byte, and a key after it.
            let mut keys: Vec<Key> = bytes.iter().flat_map(|byte| parser.feed(&[*byte])).collect();
            keys.extend(parser.feed(b"q"));
            assert_eq!(keys, [key, Key::Char('q')], "{bytes:?}");
        }
    }

    #[test]
    fn an_escape_is_known_by_the_pause_after_it() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(b"\x1b"), []);
        assert!(parser.is_open());
        assert_eq!(parser.pause(), Some(Key::Esc));
        assert_eq!(parser.pause(), None);
        assert_eq!(parser.feed(b"\x1b\x1b[A"), [Key::Esc, Key::Up]);
        // A sequence that never ended is none.
        assert_eq!(parser.feed(b"\x1b[1"), []);
        assert!(parser.is_inside());
        assert_eq!(parser.pause(), None);
        assert_eq!(parser.feed(b"x"), [Key::Char('x')]);
    }

    #[test]
    fn noise_makes_no_key_of_more_than_one_byte_and_never_ends_the_parser() {
        let mut parser = Parser::default();
        // The kernel's F1, an unknown function key, a mouse, half a character, and sequences without end.
        assert_eq!(parser.feed(b"\x1b[[A\x1b[15~\x1b[M\xc3"), []);
        assert_eq!(parser.feed(b"z"), [Key::Char('z')]);
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                let mut parser = Parser::default();
                parser.feed(&[first, second]);
                parser.feed(&[ESC, b'[', first, second]);
                parser.feed(&[second; 40]);
                assert!(parser.pending.len() <= SEQUENCE_MAX);
                parser.pause();
                assert_eq!(parser.feed(b"k"), [Key::Char('k')]);
            }
        }
    }
}
