//! Pure. The answers to a program's terminal queries: those of a plain xterm with 256 colors on a dark background.

/// The modes that `attach` passes on to the user's terminal. They are supported, and off at the start.
const KNOWN_MODES: [u16; 11] = [1, 6, 9, 47, 1000, 1002, 1003, 1005, 1006, 1049, 2004];
/// Modes that are on at the start: the cursor is shown, and lines wrap.
const SET_MODES: [u16; 2] = [7, 25];

/// DA1, the capabilities: a VT220 with colors, so only features that `attach` can show.
pub(super) const PRIMARY: &str = "\x1b[?62;22c";
/// DA2, the type: the format and a version of xterm, from which programs infer support for SGR mouse reports (mode 1006).
pub(super) const SECONDARY: &str = "\x1b[>41;330;0c";
/// DA3, the serial number.
pub(super) const TERTIARY: &str = "\x1bP!|00000000\x1b\\";
/// DSR 5, the health.
pub(super) const HEALTH: &str = "\x1b[0n";
/// XTVERSION, the name and version.
pub(super) const VERSION: &str = "\x1bP>|looop\x1b\\";
/// OSC 7501: it supports status reports of programs.
pub(super) const PROGRAM: &str = "\x1b]7501;?\x1b\\";
/// XTGETTCAP: it has no capability of that name.
pub(super) const CAPABILITY: &str = "\x1bP0+r\x1b\\";
/// DECRQSS: it does not know that setting.
pub(super) const SETTING: &str = "\x1bP0$r\x1b\\";

/// CPR: the row and the column of the cursor, from 1; `dec` for DECXCPR.
pub fn cursor(dec: bool, (row, col): (u16, u16)) -> String {
    format!("\x1b[{}{row};{col}R", if dec { "?" } else { "" })
}

/// DECRQM: whether a mode is set; `dec` for private modes.
pub(super) fn mode(dec: bool, number: u16) -> String {
    let state = match number {
        number if dec && SET_MODES.contains(&number) => 1,
        number if dec && KNOWN_MODES.contains(&number) => 2,
        _ => 0,
    };
    format!("\x1b[{}{number};{state}$y", if dec { "?" } else { "" })
}

/// OSC 10 to 12: the color of text, background or cursor. `bell` says how the query ended.
pub(super) fn color(which: u16, bell: bool) -> String {
    let color = if which == 11 { (0, 0, 0) } else { (0xe5, 0xe5, 0xe5) };
    format!("\x1b]{which};{}{}", rgb(color), end(bell))
}

/// OSC 4: a color of the palette.
pub(super) fn palette(index: u8, bell: bool) -> String {
    format!("\x1b]4;{index};{}{}", rgb(color_of(index)), end(bell))
}

/// The end of an answer. A query that ended with BEL gets the same end, because some programs read only up to it.
fn end(bell: bool) -> &'static str {
    if bell { "\x07" } else { "\x1b\\" }
}

fn rgb((r, g, b): (u8, u8, u8)) -> String {
    format!("rgb:{r:02x}{r:02x}/{g:02x}{g:02x}/{b:02x}{b:02x}")
}

/// The 256 colors: 16 by name, a cube of 6 x 6 x 6, and 24 grays.
fn color_of(index: u8) -> (u8, u8, u8) {
    let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
    match index {
        7 => (0xe5, 0xe5, 0xe5),
        8 => (0x7f, 0x7f, 0x7f),
        0..16 => {
            let on = if index < 8 { 0xcd } else { 0xff };
            let part = |bit: u8| if index & bit == 0 { 0 } else { on };
            (part(1), part(2), part(4))
        }
        16..232 => (level((index - 16) / 36), level((index - 16) / 6 % 6), level((index - 16) % 6)),
        232.. => {
            let grey = 8 + 10 * (index - 232);
            (grey, grey, grey)
        }
    }
}
