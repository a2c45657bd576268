//! The font of a virtual terminal.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use tui::canvas::Size;

/// `struct console_font_op` (`linux/kd.h`).
#[repr(C)]
struct FontOp {
    op: libc::c_uint,
    flags: libc::c_uint,
    width: libc::c_uint,
    height: libc::c_uint,
    charcount: libc::c_uint,
    data: *mut u8,
}

/// `struct unimapdesc` (`linux/kd.h`).
#[repr(C)]
struct UnicodeMap {
    count: libc::c_ushort,
    entries: *mut UnicodePair,
}

/// `struct unipair`: a character, and which glyph of the font shows it.
#[repr(C)]
#[derive(Clone, Copy)]
struct UnicodePair {
    character: libc::c_ushort,
    glyph: libc::c_ushort,
}

const SET: libc::c_uint = 0;
const GET: libc::c_uint = 1;
const SET_DEFAULT: libc::c_uint = 2;

nix::ioctl_readwrite_bad!(
    /// `KDFONTOP`.
    font_op,
    0x4b72,
    FontOp
);
nix::ioctl_readwrite_bad!(
    /// `PIO_UNIMAP`: adds to what shows what.
    set_map,
    0x4b67,
    UnicodeMap
);

/// The kernel's large font: twice as wide and high as its usual one.
const LARGE: &[u8] = b"TER16x32\0";
/// The columns and rows that must be left with it.
const LEAST: Size = Size { width: 80, height: 25 };
/// The columns of a height that code page 437 has none for, in eighths, and
/// whose place they take: that of the faces and card suits.
const COLUMNS: [(u16, usize, u16); 6] =
    [(0x2581, 1, 1), (0x2582, 2, 2), (0x2583, 3, 3), (0x2585, 5, 4), (0x2586, 6, 5), (0x2587, 7, 6)];

/// Takes the large font if the screen has the pixels for it. The kernel by
/// itself does so only from some 2500 pixels on. Where there is no frame buffer
/// there is nothing to choose.
pub(crate) fn enlarge(terminal: BorrowedFd<'_>, size: Size) {
    let mut now = FontOp { op: GET, flags: 0, width: 32, height: 32, charcount: 512, data: std::ptr::null_mut() };
    // SAFETY: the kernel writes the structure, and no data where it has no room for it.
    if unsafe { font_op(terminal.as_raw_fd(), &raw mut now) }.is_err() || (now.width, now.height) != (8, 16) {
        return;
    }
    if size.width / 2 < LEAST.width || size.height / 2 < LEAST.height {
        return;
    }
    let mut name = LARGE.to_vec();
    let mut large = FontOp { op: SET_DEFAULT, flags: 0, width: 0, height: 0, charcount: 0, data: name.as_mut_ptr() };
    // SAFETY: the kernel reads a name that ends with a zero, and writes the structure.
    if let Err(errno) = unsafe { font_op(terminal.as_raw_fd(), &raw mut large) } {
        log::debug!("no large font: {errno}");
    }
}

/// Gives the font columns of every eighth of a row's height, in the size of its
/// cells. It keeps its 256 glyphs: with more, the kernel shows 8 colours only.
pub(crate) fn add_blocks(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // Glyphs have rows of whole bytes, and 32 rows whatever the height is.
    const ROWS: usize = 32;
    let mut data = vec![0_u8; 512 * ROWS * 4];
    let mut font = FontOp { op: GET, flags: 0, width: 32, height: 32, charcount: 512, data: data.as_mut_ptr() };
    // SAFETY: the data has room for the largest font that the structure says there is room for.
    unsafe { font_op(terminal.as_raw_fd(), &raw mut font) }?;
    let (width, height) = (font.width as usize, font.height as usize);
    let stride = width.div_ceil(8);
    let found = data.clone();
    for (_, eighths, glyph) in COLUMNS {
        let first = height - (height * eighths).div_ceil(8).min(height);
        for row in 0..height {
            let at = (usize::from(glyph) * ROWS + row) * stride;
            if let Some(bytes) = data.get_mut(at..at + stride) {
                bytes.fill(if row >= first { 0xff } else { 0 });
            }
        }
    }
    // A new font has the kernel draw the whole screen.
    if data != found {
        let mut font = FontOp { op: SET, data: data.as_mut_ptr(), ..font };
        // SAFETY: the data is the font that the kernel gave, of the same size.
        unsafe { font_op(terminal.as_raw_fd(), &raw mut font) }?;
    }

    let mut pairs = COLUMNS.map(|(character, _, glyph)| UnicodePair { character, glyph });
    let count = u16::try_from(pairs.len()).map_err(io::Error::other)?;
    let mut map = UnicodeMap { count, entries: pairs.as_mut_ptr() };
    // SAFETY: the kernel reads as many entries as the structure says.
    unsafe { set_map(terminal.as_raw_fd(), &raw mut map) }?;
    Ok(())
}
