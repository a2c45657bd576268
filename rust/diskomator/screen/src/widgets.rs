//! The parts that the pages are drawn of.

use tui::canvas::{
    BAD, BAR, BAR_STRONG, Canvas, FAINT, GOOD, Line, PLAIN, STRONG, Size, Style, TITLE, WARN, line, wrap,
};

use crate::model::{Disk, DiskState, printable, shortened};

/// A message over the last row, and over rows above it if it is longer.
pub(crate) fn note(canvas: &mut Canvas, text: &str, style: Style) {
    let Size { width, height } = canvas.size();
    canvas.fill(0, height - 1, width, BAR);
    let lines = wrap(text, width.saturating_sub(2));
    let shown = lines.iter().rev().take(height / 2).rev();
    for (row, text) in (height - shown.len()..).zip(shown) {
        canvas.fill(0, row, width, BAR);
        canvas.put(1, row, width, text, Style { paper: BAR.paper, ..style });
    }
}

/// Keys with their words in the last row, as many as it has room for.
pub(crate) fn key_row(canvas: &mut Canvas, keys: &[(&str, &str)]) {
    let Size { width, height } = canvas.size();
    let y = height - 1;
    canvas.fill(0, y, width, BAR);
    let mut x = 1;
    for (key, what) in keys {
        let needed = key.chars().count() + 1 + what.len();
        if x + needed + 1 > width {
            break;
        }
        x = canvas.put(x, y, width, key, BAR_STRONG);
        x = canvas.put(x + 1, y, width, what, BAR) + 2;
    }
}

/// A question in a box in the middle of the screen.
pub(crate) fn question(canvas: &mut Canvas, text: &str, is_grave: bool) {
    let Size { width, height } = canvas.size();
    let inner = width.saturating_sub(8).clamp(12, 64);
    let mut lines: Vec<String> = text.lines().flat_map(|line| wrap(line, inner)).collect();
    lines.truncate(height.saturating_sub(6).max(1));
    let (w, h) = (inner + 4, lines.len() + 4);
    let (x, y) = (width.saturating_sub(w) / 2, height.saturating_sub(h) / 2);
    let edge = if is_grave { BAD } else { WARN };
    canvas.frame(x, y, w, h, edge);
    for (row, text) in (y + 1..).zip(&lines) {
        canvas.put(x + 2, row, x + w - 2, text, STRONG);
    }
    let answer: Line = vec![
        ("y".to_owned(), edge),
        (" yes".to_owned(), PLAIN),
        ("    any other key".to_owned(), edge),
        (" no".to_owned(), PLAIN),
    ];
    canvas.put_line(x + 2, y + h - 2, x + w - 2, &answer);
}

/// A part of the lines, from row 1 to before the last. Returns the line at the top, which is `top` unless the lines
/// end before.
pub(crate) fn scrolled(canvas: &mut Canvas, lines: &[Line], top: usize) -> usize {
    let Size { width, height } = canvas.size();
    let room = height - 2;
    let top = top.min(lines.len().saturating_sub(room));
    for (y, row) in (1..height - 1).zip(lines.iter().skip(top)) {
        canvas.put_line(1, y, width, row);
    }
    scroll_bar(canvas, top, room, lines.len());
    top
}

/// A bar at the right edge that shows the place of the view, if not all lines have room.
fn scroll_bar(canvas: &mut Canvas, top: usize, room: usize, all: usize) {
    if all <= room || room == 0 {
        return;
    }
    let x = canvas.size().width - 1;
    let length = (room * room / all).max(1);
    let start = top * (room - length) / (all - room).max(1);
    for row in 0..room {
        let (glyph, style) = if (start..start + length).contains(&row) { ('█', PLAIN) } else { ('│', FAINT) };
        canvas.set(x, row + 1, glyph, style);
    }
}

/// The details of the chosen row, below its list. Returns the row at which the list ends. The list has the larger
/// half; `command` is named if the details have no room in the other.
pub(crate) fn below(canvas: &mut Canvas, details: &[Line], command: &str) -> usize {
    let Size { width, height } = canvas.size();
    let room = details.len().min((height - 2) / 2);
    if room == 0 {
        return height - 1;
    }
    let end = height - 2 - room;
    for x in 0..width {
        canvas.set(x, end, '─', FAINT);
    }
    for (y, row) in (end + 1..height - 1).zip(details) {
        canvas.put_line(1, y, width, row);
    }
    if details.len() > room {
        canvas.fill(0, height - 2, width, PLAIN);
        let text: Line = vec![("... more than has room here: ".to_owned(), PLAIN), (command.to_owned(), STRONG)];
        canvas.put_line(1, height - 2, width, &text);
    }
    end
}

/// A value behind its name, in as many rows as it takes.
pub(crate) fn field(name: &str, value: &str, width: usize) -> Vec<Line> {
    const NAME: usize = 9;
    let rows = wrap(&printable(value), width.saturating_sub(NAME + 3));
    let lead = |number| if number == 0 { format!("{name:NAME$}") } else { " ".repeat(NAME) };
    rows.into_iter().enumerate().map(|(number, text)| vec![(lead(number), TITLE), (text, PLAIN)]).collect()
}

/// The state of a disk in a word, and its colour.
pub(crate) fn state_word(disk: &Disk) -> (&'static str, Style) {
    if disk.traffic.as_ref().is_some_and(|traffic| traffic.is_hung) {
        return ("hung", BAD);
    }
    match &disk.state {
        DiskState::Exported => ("exported", GOOD),
        DiskState::ReadOnly => ("read-only", WARN),
        DiskState::Passthru => ("passthru", TITLE),
        DiskState::NoMedium => ("no medium", PLAIN),
        DiskState::Waiting => ("waiting", WARN),
        DiskState::NotExported(_) => ("not exported", BAD),
    }
}

/// A text as one line; a mark at its end tells that it was too long.
pub(crate) fn fitted(text: &str, max: usize, style: Style) -> Line {
    line(shortened(&printable(text), max), style)
}
