//! Pure. The answers to a program's terminal queries: those of a plain xterm with 256 colors on a dark background.

use super::Query;

/// The modes that `attach` passes on to the user's terminal. They are supported, and off at the start.
const KNOWN_MODES: [u16; 11] = [1, 6, 9, 47, 1000, 1002, 1003, 1005, 1006, 1049, 2004];
/// Modes that are on at the start: the cursor is shown, and lines wrap.
const SET_MODES: [u16; 2] = [7, 25];

/// Returns what is sent to the program; `None` if such a terminal does not answer. The cursor (row and column from 1)
/// is read only if the answer needs it.
pub fn answer(query: &Query, cursor: impl FnOnce() -> (u16, u16)) -> Option<Vec<u8>> {
    let text = match *query {
        // A VT220 with colors: only features that `attach` can show.
        Query::Primary => "\x1b[?62;22c".to_owned(),
        // The format and a version of xterm, from which programs infer support for SGR mouse reports (mode 1006).
        Query::Secondary => "\x1b[>41;330;0c".to_owned(),
        Query::Tertiary => "\x1bP!|00000000\x1b\\".to_owned(),
        Query::Health => "\x1b[0n".to_owned(),
        Query::Cursor { dec } => {
            let (row, col) = cursor();
            format!("\x1b[{}{row};{col}R", if dec { "?" } else { "" })
        }
        Query::Mode { dec, number } => {
            let state = match number {
                number if dec && SET_MODES.contains(&number) => 1,
                number if dec && KNOWN_MODES.contains(&number) => 2,
                _ => 0,
            };
            format!("\x1b[{}{number};{state}$y", if dec { "?" } else { "" })
        }
        Query::Version => "\x1bP>|looop\x1b\\".to_owned(),
        // No answer means that the protocol is not supported.
        Query::Keyboard => return None,
        Query::Color { which, bell } => {
            let color = if which == 11 { (0, 0, 0) } else { (0xe5, 0xe5, 0xe5) };
            format!("\x1b]{which};{}{}", rgb(color), end(bell))
        }
        Query::Palette { index, bell } => format!("\x1b]4;{index};{}{}", rgb(palette(index)), end(bell)),
        Query::Program => "\x1b]7501;?\x1b\\".to_owned(),
        Query::Capability => "\x1bP0+r\x1b\\".to_owned(),
        Query::Setting => "\x1bP0$r\x1b\\".to_owned(),
    };
    Some(text.into_bytes())
}

/// The end of an answer. A query that ended with BEL gets the same end, because some programs read only up to it.
fn end(bell: bool) -> &'static str {
    if bell { "\x07" } else { "\x1b\\" }
}

fn rgb((r, g, b): (u8, u8, u8)) -> String {
    format!("rgb:{r:02x}{r:02x}/{g:02x}{g:02x}/{b:02x}{b:02x}")
}

/// The 256 colors: 16 by name, a cube of 6 x 6 x 6, and 24 grays.
fn palette(index: u8) -> (u8, u8, u8) {
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
