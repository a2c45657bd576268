//! A screen of characters, and how to get from one to the next.
//!
//! Sixteen colours and one character a cell are all that the kernel's own
//! console can show.

use std::fmt::Write;

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// A colour by its number in ECMA-48 (5th edition, 8.3.117), and 8 more for its
/// bright form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Of the character: 0 to 15.
    pub ink: u8,
    /// Behind it: 0 to 7.
    pub paper: u8,
}

impl Style {
    /// `ink` on black.
    pub const fn ink(ink: u8) -> Self {
        Self { ink, paper: BLACK }
    }
}

/// The color number of black, as the console counts.
pub const BLACK: u8 = 0;
/// The color number of blue.
pub const BLUE: u8 = 4;

/// Text of no special meaning.
pub const PLAIN: Style = Style::ink(7);
/// Text that the eye should find first.
pub const STRONG: Style = Style::ink(15);
/// Lines and the like.
pub const FAINT: Style = Style::ink(8);
/// Text that belongs to its neighbour.
pub const ORIGIN: Style = Style::ink(6);
/// The title of a part of the screen.
pub const TITLE: Style = Style::ink(14);
/// All is well.
pub const GOOD: Style = Style::ink(10);
/// Something to know.
pub const WARN: Style = Style::ink(11);
/// Something is wrong.
pub const BAD: Style = Style::ink(9);
/// The first and the last row.
pub const BAR: Style = Style { ink: 7, paper: BLUE };
/// Text that stands out there.
pub const BAR_STRONG: Style = Style { ink: 15, paper: BLUE };
/// The row that a key acts on.
pub const SELECTED: Style = Style { ink: 15, paper: 6 };

/// One character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The character.
    pub glyph: char,
    /// How it looks.
    pub style: Style,
}

const EMPTY: Cell = Cell { glyph: ' ', style: PLAIN };

/// A line of text in pieces that look different.
pub type Line = Vec<(String, Style)>;

/// A line in one style.
pub fn line(text: impl Into<String>, style: Style) -> Line {
    vec![(text.into(), style)]
}

/// A screen of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    size: Size,
    cells: Vec<Cell>,
}

impl Canvas {
    /// An empty one.
    pub fn new(size: Size) -> Self {
        Self { size, cells: vec![EMPTY; size.width * size.height] }
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The cells of a row.
    pub fn row(&self, y: usize) -> &[Cell] {
        let start = y * self.size.width;
        self.cells.get(start..start + self.size.width).unwrap_or_default()
    }

    /// Puts one character somewhere, if that is on the screen.
    pub fn set(&mut self, x: usize, y: usize, glyph: char, style: Style) {
        if x < self.size.width {
            if let Some(cell) = self.cells.get_mut(y * self.size.width + x) {
                *cell = Cell { glyph: if glyph.is_control() { '?' } else { glyph }, style };
            }
        }
    }

    /// Writes a text from column `x` up to column `end`, and returns where it ended.
    pub fn put(&mut self, x: usize, y: usize, end: usize, text: &str, style: Style) -> usize {
        let mut at = x;
        for glyph in text.chars().take(end.saturating_sub(x)) {
            self.set(at, y, glyph, style);
            at += 1;
        }
        at
    }

    /// Writes pieces of text one after the other.
    pub fn put_line(&mut self, x: usize, y: usize, end: usize, line: &Line) -> usize {
        line.iter().fold(x, |at, (text, style)| self.put(at, y, end, text, *style))
    }

    /// Gives a part of a row one look, and no text.
    pub fn fill(&mut self, x: usize, y: usize, end: usize, style: Style) {
        for at in x..end {
            self.set(at, y, ' ', style);
        }
    }

    /// Gives what is in a row another look.
    pub fn restyle(&mut self, x: usize, y: usize, end: usize, style: Style) {
        for at in x..end.min(self.size.width) {
            if let Some(cell) = self.cells.get_mut(y * self.size.width + at) {
                cell.style = style;
            }
        }
    }

    /// A frame of `width` columns and `height` rows, empty inside.
    pub fn frame(&mut self, x: usize, y: usize, width: usize, height: usize, style: Style) {
        let (right, bottom) = (x + width.saturating_sub(1), y + height.saturating_sub(1));
        for row in y..=bottom {
            self.fill(x, row, right + 1, Style { ink: PLAIN.ink, paper: style.paper });
            self.set(x, row, '│', style);
            self.set(right, row, '│', style);
        }
        for column in x..=right {
            self.set(column, y, '─', style);
            self.set(column, bottom, '─', style);
        }
        for (column, row, corner) in [(x, y, '┌'), (right, y, '┐'), (x, bottom, '└'), (right, bottom, '┘')] {
            self.set(column, row, corner, style);
        }
    }

    /// The bytes that make a terminal show this, where it shows `before`; all
    /// of it if that is not known. ECMA-48 CUP, SGR and ED; the bright colours
    /// are those of aixterm, which every terminal of today knows.
    pub fn changes(&self, before: Option<&Self>) -> String {
        let before = before.filter(|before| before.size == self.size);
        if before == Some(self) {
            return String::new();
        }
        // No cursor blinks about; the characters are UTF-8.
        let mut text = String::from(if before.is_none() { "\x1b%G\x1b[?25l\x1b[0m\x1b[H\x1b[2J" } else { "" });
        let mut style = None;
        for y in 0..self.size.height {
            let mut cursor = None;
            let known = before.map(|before| before.row(y));
            for (x, cell) in self.row(y).iter().enumerate() {
                let old = known.map_or(EMPTY, |row| row.get(x).copied().unwrap_or(EMPTY));
                if *cell == old {
                    continue;
                }
                if cursor != Some(x) {
                    let _ = write!(text, "\x1b[{};{}H", y + 1, x + 1);
                }
                if style != Some(cell.style) {
                    let Style { ink, paper } = cell.style;
                    let ink = if ink < 8 { 30 + ink } else { 82 + ink };
                    let _ = write!(text, "\x1b[0;{ink};{}m", 40 + paper);
                    style = Some(cell.style);
                }
                text.push(cell.glyph);
                // Behind the last column the cursor is nowhere for sure.
                cursor = (x + 1 < self.size.width).then_some(x + 1);
            }
        }
        // A kernel that must speak its last words does so from here.
        let _ = write!(text, "\x1b[0m\x1b[{};1H", self.size.height);
        text
    }

    /// The characters alone, without what is empty at the ends of rows.
    pub fn text(&self) -> String {
        let row = |y| self.row(y).iter().map(|cell| cell.glyph).collect::<String>().trim_end().to_owned() + "\n";
        (0..self.size.height).map(row).collect()
    }

    /// The looks alone: a letter for each ink, a capital where the paper is not black.
    pub fn looks(&self) -> String {
        let letter = |cell: &Cell| {
            if cell.glyph == ' ' && cell.style.paper == BLACK {
                return ' ';
            }
            let letter = char::from(b'a' + cell.style.ink.min(15));
            if cell.style.paper == BLACK { letter } else { letter.to_ascii_uppercase() }
        };
        let row = |y| self.row(y).iter().map(letter).collect::<String>().trim_end().to_owned() + "\n";
        (0..self.size.height).map(row).collect()
    }
}

/// Words in lines of at most `width` columns. A word that is longer is parted.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut row = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut row));
            used = 0;
        }
        if used > 0 {
            row.push(' ');
            used += 1;
        }
        while word.len() > width - used {
            let rest = word.split_off(width - used);
            row.extend(word);
            lines.push(std::mem::take(&mut row));
            word = rest;
            used = 0;
        }
        used += word.len();
        row.extend(word);
    }
    lines.push(row);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 6, height: 2 };

    #[test]
    fn only_what_changed_is_sent() {
        let mut first = Canvas::new(SIZE);
        first.put(0, 0, 6, "disk", PLAIN);
        assert_eq!(
            first.changes(None),
            "\x1b%G\x1b[?25l\x1b[0m\x1b[H\x1b[2J\x1b[1;1H\x1b[0;37;40mdisk\x1b[0m\x1b[2;1H"
        );
        assert_eq!(first.changes(Some(&first)), "");
        let mut second = first.clone();
        second.put(3, 0, 6, "c", STRONG);
        second.put(5, 1, 9, "xyz", PLAIN);
        assert_eq!(second.changes(Some(&first)), "\x1b[1;4H\x1b[0;97;40mc\x1b[2;6H\x1b[0;37;40mx\x1b[0m\x1b[2;1H");
        let larger = Canvas::new(Size { width: 7, height: 2 });
        assert!(larger.changes(Some(&first)).contains("\x1b[2J"));
    }

    #[test]
    fn nothing_leaves_the_screen_and_no_byte_steers_it() {
        let mut canvas = Canvas::new(SIZE);
        canvas.put(4, 1, 99, "ab\x1b[2J", PLAIN);
        canvas.put(0, 7, 9, "x", PLAIN);
        canvas.put(0, 0, 9, "\x1b\r\n", PLAIN);
        assert_eq!(canvas.text(), "???\n    ab\n");
    }

    #[test]
    fn words_are_wrapped_and_no_letter_is_lost() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
    }
}
