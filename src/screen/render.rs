//! Drawing of a worker's screen on the user's terminal: cells, colours, cursor, a few input modes, the bell, and
//! looop's own title and status line. It writes from the model and never passes a byte of output on, so only what is
//! written here can happen: no clipboard, no device strings, no titles, no queries.

use crate::rules::name::Name;
use crate::screen::{self, Screen, is_plain};

/// From this height on the last row is the status line, in rows.
const STATUS_FROM_ROWS: u16 = 3;

/// The content of the user's terminal, from which the changes are computed.
pub struct Renderer {
    cols: u16,
    rows: u16,
    drawn: Option<Drawn>,
    /// True if the drawn cells are not on the terminal any more.
    stale: bool,
    out: String,
    pen: Pen,
    at: Option<(u16, u16)>,
    /// Where the cursor was left, and whether it is hidden.
    cursor: Option<((u16, u16), bool)>,
}

struct Drawn {
    cells: vt100::Screen,
    from: (u16, u16),
    status: vt100::Screen,
}

/// The style of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pen {
    fg: vt100::Color,
    bg: vt100::Color,
    /// Bold, dim, italic, underline, inverse.
    on: [bool; 5],
}

impl Pen {
    fn of(cell: &vt100::Cell) -> Pen {
        let on = [cell.bold(), cell.dim(), cell.italic(), cell.underline(), cell.inverse()];
        Pen { fg: cell.fgcolor(), bg: cell.bgcolor(), on }
    }

    fn sequence(self) -> String {
        let mut codes = String::from("\x1b[0");
        for (code, _) in [1, 2, 3, 4, 7].iter().zip(self.on).filter(|(_, on)| *on) {
            codes.push_str(&format!(";{code}"));
        }
        for (base, color) in [(38, self.fg), (48, self.bg)] {
            match color {
                vt100::Color::Default => {}
                vt100::Color::Idx(n) => codes.push_str(&format!(";{base};5;{n}")),
                vt100::Color::Rgb(r, g, b) => codes.push_str(&format!(";{base};2;{r};{g};{b}")),
            }
        }
        codes + "m"
    }
}

/// Returns the bytes that prepare a terminal: they keep its own screen and title, and switch off line wrapping, so that
/// a character of disputed width affects only its own row.
pub fn enter(id: &Name) -> String {
    format!("\x1b[22;0t\x1b]2;looop: {id}\x07\x1b[?1049h\x1b[?7l\x1b[0m\x1b[H\x1b[2J")
}

/// The bytes that reset a terminal, whatever was drawn.
pub const LEAVE: &str = "\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\
    \x1b[0 q\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l\x1b[23;0t";

impl Renderer {
    /// Makes a renderer for a terminal of a size in cells.
    pub fn new(cols: u16, rows: u16) -> Renderer {
        let (out, pen) = (String::new(), Pen::default());
        Renderer { cols, rows, drawn: None, stale: true, out, pen, at: None, cursor: None }
    }

    /// Changes the size of the terminal; everything is drawn again.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        (self.cols, self.rows) = (cols, rows);
        self.stale = true;
    }

    /// Returns the part of a terminal that the worker gets, as width and height.
    pub fn room(cols: u16, rows: u16) -> (u16, u16) {
        (cols.max(1), if rows >= STATUS_FROM_ROWS { rows - 1 } else { rows.max(1) })
    }

    /// Returns the bytes that make the terminal show this screen and this status; empty if it already does.
    pub fn frame(&mut self, screen: &mut Screen, status: &str) -> String {
        let (cols, height) = Renderer::room(self.cols, self.rows);
        let bell = screen.take_bell();
        let cells = screen.cells();
        let from = corner(cells, (height, cols));
        let status = status_cells(status, self.cols);
        let last = self.drawn.take();
        let before = last.as_ref().filter(|_| !self.stale);
        if before.is_none() {
            self.out.push_str("\x1b[0m\x1b[H\x1b[2J");
            (self.pen, self.at, self.stale) = (Pen::default(), None, false);
        }
        for row in 0..height {
            let old =
                |col: u16| before.and_then(|last| last.cells.cell(row + last.from.0, col + last.from.1));
            self.row(row, |col| cells.cell(row + from.0, col + from.1), old);
        }
        if height < self.rows {
            let old = |col: u16| before.and_then(|last| last.status.cell(0, col));
            self.row(height, |col| status.cell(0, col), old);
        }
        if bell {
            self.out.push('\x07');
        }
        // The modes that change what the user's keys and mouse send, and the shape of the cursor.
        match &last {
            Some(last) => self.out.push_str(&cells.input_mode_diff(&last.cells)),
            None => self.out.push_str(&cells.input_mode_formatted()),
        }
        self.place_cursor(cells, from, (height, cols));
        self.drawn = Some(Drawn { cells: cells.clone(), from, status });
        std::mem::take(&mut self.out)
    }

    /// Writes the changed cells of a row.
    fn row<'a>(
        &mut self,
        row: u16,
        new: impl Fn(u16) -> Option<&'a vt100::Cell>,
        old: impl Fn(u16) -> Option<&'a vt100::Cell>,
    ) {
        let mut col = 0;
        while col < self.cols {
            let (is, was) = (new(col), old(col));
            let wide = is.is_some_and(vt100::Cell::is_wide) && col + 1 < self.cols;
            let same = is == was && (!wide || new(col + 1) == old(col + 1));
            let width = if wide { 2 } else { 1 };
            let both_blank = is.is_none_or(is_blank) && was.is_none_or(is_blank);
            if !same && !both_blank {
                self.cell(row, col, is, wide);
            }
            col += width;
        }
    }

    fn cell(&mut self, row: u16, col: u16, cell: Option<&vt100::Cell>, wide: bool) {
        if self.at != Some((row, col)) {
            self.out.push_str(&format!("\x1b[{};{}H", row + 1, col + 1));
        }
        let pen = cell.map(Pen::of).unwrap_or_default();
        if pen != self.pen {
            self.out.push_str(&pen.sequence());
            self.pen = pen;
        }
        // Half of a wide character cannot be drawn.
        let whole = cell.filter(|cell| wide || !cell.is_wide());
        let text: String =
            whole.map(|c| c.contents().chars().filter(|c| is_plain(*c)).collect()).unwrap_or_default();
        self.out.push_str(if text.is_empty() { " " } else { &text });
        // Terminals disagree on the width of other characters, so the position is sent again after each.
        let sure = text.len() <= 1 && col + 1 < self.cols;
        self.at = sure.then_some((row, col + 1));
    }

    fn place_cursor(&mut self, cells: &vt100::Screen, from: (u16, u16), room: (u16, u16)) {
        let (row, col) = cells.cursor_position();
        // After the last column the cursor is still on it.
        let col = col.min(cells.size().1.get() - 1);
        let place = (row.saturating_sub(from.0), col.saturating_sub(from.1));
        let outside = row < from.0 || col < from.1 || place.0 >= room.0 || place.1 >= room.1;
        let wanted = (place, cells.hide_cursor() || outside);
        if !self.out.is_empty() || self.cursor != Some(wanted) {
            let show = if wanted.1 { 'l' } else { 'h' };
            self.out.push_str(&format!("\x1b[{};{}H\x1b[?25{show}", place.0 + 1, place.1 + 1));
            (self.cursor, self.at) = (Some(wanted), Some(place));
        }
    }
}

/// Returns the worker's cell at the terminal's top left: 0, 0 unless the worker's screen is larger; then the part with
/// the cursor is shown.
fn corner(cells: &vt100::Screen, room: (u16, u16)) -> (u16, u16) {
    let (rows, cols) = cells.size();
    let (row, col) = cells.cursor_position();
    let first = |cursor: u16, whole: u16, room: u16| {
        (cursor.min(whole - 1) + 1).saturating_sub(room).min(whole.saturating_sub(room))
    };
    (first(row, rows.get(), room.0), first(col, cols.get(), room.1))
}

fn is_blank(cell: &vt100::Cell) -> bool {
    !cell.has_contents() && !cell.is_wide_continuation() && Pen::of(cell) == Pen::default()
}

/// Renders the status line as cells, so that it is clipped and compared like all others.
fn status_cells(text: &str, cols: u16) -> vt100::Screen {
    // No more characters than fit, so three rows hold them even if all are wide.
    let text: String = text.chars().filter(|c| is_plain(*c)).take(cols.into()).collect();
    let blank = " ".repeat(usize::from(cols).saturating_sub(text.chars().count()));
    let mut parser = screen::parser(cols, 3, 0, ());
    let fed = screen::guarded(|| parser.process(format!("\x1b[7m{text}{blank}").as_bytes()));
    if fed.is_none() {
        parser = screen::parser(cols, 3, 0, ());
    }
    parser.screen().clone()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
