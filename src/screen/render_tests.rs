//! Tests of the bytes that reach a user's terminal: only what a strict reader allows, and exactly the worker's screen.

use proptest::prelude::*;

use super::*;

#[path = "../../tests/fuzz/strict.rs"]
mod strict;
use strict::forbidden;

#[test]
fn the_strict_reader_is_strict() {
    let good =
        ["", "text \u{4e2d}\u{7}", "\x1b[1;2H\x1b[0;1;38;5;3m\x1b[?25l\x1b[?2004h\x1b=\x1b>\x1b[3 q\x1b[2J"];
    for out in good {
        assert_eq!(forbidden(out), None, "{out:?}");
    }
    let bad = [
        "\x1b]52;c;YQ==\x07",
        "\x1b]0;t\x07",
        "\x1bPq\x1b\\",
        "\x1b_x\x1b\\",
        "\x1b^x\x1b\\",
        "\x1bXx\x1b\\",
        "\x1b[>4m",
        "\x1b[=1u",
        "\x1b[?u",
        "\x1b[>1u",
        "\x1b[6n",
        "\x1b[c",
        "\x1b[?1049h",
        "\x1b[?1004h",
        "\x1b[5i",
        "\x1bc",
        "\x1b[8;1;1t",
        "\x1b[3J",
        "\u{9b}6n",
        "\u{202e}",
        "\x1b",
        "\x1b[",
        "a\nb",
        "\x08",
        "\x0e",
        "\x1b(0",
    ];
    for out in bad {
        assert!(forbidden(out).is_some(), "{out:?}");
    }
}

#[derive(Clone, Debug)]
enum RenderStep {
    Feed(Vec<u8>),
    Resize(u16, u16),
    Outer(u16, u16),
    Draw,
}

fn edge() -> impl Strategy<Value = u16> {
    prop_oneof![6 => 1_u16..14, 1 => Just(0_u16)]
}

/// Generates harmful or only difficult output between bytes of any kind.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        2 => proptest::collection::vec(any::<u8>(), 0..8),
        2 => "[a-z ]{0,9}".prop_map(String::into_bytes),
        1 => "\\PC{0,5}".prop_map(String::into_bytes),
        4 => proptest::sample::select(vec![
            "\x1b]52;c;dG91Y2g=\x07", "\x1b]2;#(touch x)\x07", "\x1bP+q544e\x1b\\", "\x1b_G\x1b\\", "\x1b[>4;2m", "\x1b[=1u",
            "\x1b[?u", "\x1b[>1u", "\x1b[6n", "\x1b[c", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?1000;1006h", "\x1b[?1003l",
            "\x1b[?2004h", "\x1b[?1h\x1b=", "\x1b[5 q", "\x07", "\n", "\r\n", "\x08", "\t", "\u{4e2d}\u{6587}", "e\u{301}",
            "\u{2764}\u{fe0f}", "\u{202e}abc\u{2066}", "\u{e0041}", "\x1b[7m", "\x1b[48;2;1;2;3m", "\x1b[K", "\x1b[2J", "\x1b[1J",
            "\x1b[3;3H", "\x1b[99;99H", "\x1b[2;4r", "\x1b[L", "\x1b[M", "\x1b[4@", "\x1b[3P", "\x1b[2X", "\x1b[300b", "\x1bM",
            "\x1b7", "\x1b8", "\x1bc", "\x1b[?25l", "\x1b[?6h", "\x1b[?47h", "\u{9b}6n", "\u{200b}", "\u{1f468}\u{200d}\u{1f469}",
        ])
        .prop_map(|word| word.as_bytes().to_vec()),
    ];
    proptest::collection::vec(word, 0..12).prop_map(|words| words.concat())
}

fn steps() -> impl Strategy<Value = Vec<RenderStep>> {
    let step = prop_oneof![
        6 => hostile().prop_map(RenderStep::Feed),
        1 => (edge(), edge()).prop_map(|(cols, rows)| RenderStep::Resize(cols, rows)),
        1 => (1_u16..14, 1_u16..14).prop_map(|(cols, rows)| RenderStep::Outer(cols, rows)),
        4 => Just(RenderStep::Draw),
    ];
    proptest::collection::vec(step, 0..25)
}

fn plain(cell: Option<&vt100::Cell>) -> (String, Pen) {
    let text: String =
        cell.map(|c| c.contents().chars().filter(|c| is_plain(*c)).collect()).unwrap_or_default();
    // A blank is a blank, written or not.
    (if text == " " { String::new() } else { text }, cell.map(Pen::of).unwrap_or_default())
}

/// Asserts that the model of the user's terminal shows what the model of the worker's terminal shows.
fn assert_same(outer: &vt100::Screen, screen: &Screen, (cols, rows): (u16, u16)) {
    let (width, height) = Renderer::room(cols, rows);
    let from = corner(screen.cells(), (height, width));
    for (row, col) in (0..height).flat_map(|row| (0..width).map(move |col| (row, col))) {
        let inner = screen.cells().cell(row + from.0, col + from.1);
        let cut = inner.is_some_and(|c| c.is_wide() && col + 1 == width);
        let half = inner.is_some_and(vt100::Cell::is_wide_continuation);
        let shown = outer.cell(row, col);
        if !cut && !half {
            assert_eq!(plain(shown), plain(inner), "at {row},{col} of {cols}x{rows}");
        }
    }
    let modes = |of: &vt100::Screen| {
        let mouse = (of.mouse_protocol_mode(), of.mouse_protocol_encoding());
        let keys = (of.bracketed_paste(), of.application_cursor(), of.application_keypad());
        (mouse, keys, of.cursor_style())
    };
    assert_eq!(modes(outer), modes(screen.cells()));
    if !outer.hide_cursor() {
        assert!(!screen.cells().hide_cursor());
        let (row, col) = screen.cursor();
        assert_eq!(outer.cursor_position(), (row - 1 - from.0, col - 1 - from.1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn only_the_screen_of_a_worker_is_drawn(
        steps in steps(), size in (edge(), edge()), outer in (1_u16..14, 1_u16..14),
    ) {
        let (mut cols, mut rows) = outer;
        let mut screen = Screen::new(size.0, size.1);
        let mut renderer = Renderer::new(cols, rows);
        // The model needs at least two columns; without them there is nothing to compare.
        let terminal = |cols: u16, rows: u16| screen::parser(cols, rows, 0, ());
        let mut shown = terminal(cols, rows);
        // vt100 contradicts itself, and panics, when an emoji becomes wide in the last column.
        let mut comparable = true;
        for step in steps.into_iter().chain([RenderStep::Draw]) {
            match step {
                RenderStep::Feed(bytes) => {
                    comparable &= !String::from_utf8_lossy(&bytes).contains('\u{fe0f}');
                    screen.feed(&bytes);
                }
                RenderStep::Resize(cols, rows) => screen.resize(cols, rows),
                RenderStep::Outer(new_cols, new_rows) => {
                    (cols, rows) = (new_cols, new_rows);
                    renderer.resize(cols, rows);
                    let modes = shown.screen().input_mode_formatted();
                    shown = terminal(cols, rows);
                    shown.process(modes.as_bytes());
                }
                RenderStep::Draw => {
                    let out = renderer.frame(&mut screen, " w \u{4e2d} running \x1b]0;x\x07 ");
                    prop_assert_eq!(forbidden(&out), None, "{:?}", out);
                    if comparable {
                        shown.process(out.as_bytes());
                    }
                    if comparable && cols > 1 {
                        assert_same(shown.screen(), &screen, (cols, rows));
                    }
                    prop_assert_eq!(renderer.frame(&mut screen, " w \u{4e2d} running \x1b]0;x\x07 "), "");
                }
            }
        }
    }
}

fn draw(renderer: &mut Renderer, screen: &mut Screen, status: &str) -> vt100::Parser {
    let (cols, rows) = (renderer.cols, renderer.rows);
    let mut shown = screen::parser(cols, rows, 0, ());
    shown.process(renderer.frame(screen, status).as_bytes());
    shown
}

#[test]
fn a_small_screen_leaves_the_rest_blank_and_the_last_row_is_the_status() {
    let mut screen = Screen::new(10, 3);
    screen.feed(b"\x1b[44mone\x1b[K\r\ntwo");
    let mut renderer = Renderer::new(20, 6);
    let shown = draw(&mut renderer, &mut screen, " w · running");
    let rows: Vec<String> = shown.screen().rows(0, 20).collect();
    assert_eq!(rows[0].trim_end(), "one");
    assert_eq!(rows[1], "two");
    assert_eq!(rows[5].trim_end(), " w · running");
    assert!(shown.screen().cell(5, 19).unwrap().inverse(), "to the edge");
    let colors = [9, 10].map(|col| shown.screen().cell(0, col).unwrap().bgcolor());
    assert_eq!(colors, [vt100::Color::Idx(4), vt100::Color::Default], "no colour beyond its edge");
}

#[test]
fn a_large_screen_shows_the_part_with_the_cursor() {
    let mut screen = Screen::new(40, 20);
    screen.feed(b"top\x1b[20;38Hend");
    let mut renderer = Renderer::new(10, 5);
    let shown = draw(&mut renderer, &mut screen, "");
    assert_eq!(shown.screen().rows(0, 10).nth(3).unwrap().trim(), "end");
    screen.feed(b"\x1b[H");
    let shown = draw(&mut Renderer::new(10, 5), &mut screen, "");
    assert_eq!(shown.screen().rows(0, 10).next().unwrap().trim(), "top");
}

#[test]
fn one_change_costs_few_bytes() {
    let mut screen = Screen::new(500, 200);
    screen.feed("x".repeat(90_000).as_bytes());
    let mut renderer = Renderer::new(500, 201);
    assert!(renderer.frame(&mut screen, "s").len() > 90_000);
    screen.feed(b"\x1b[5;5Hy");
    assert!(renderer.frame(&mut screen, "s").len() < 50);
    assert_eq!(renderer.frame(&mut screen, "s"), "", "drawn cells are not drawn again");
    assert!(renderer.frame(&mut screen, "t").len() < 50);
}

#[test]
fn the_bell_rings_once_a_frame() {
    let mut screen = Screen::new(10, 5);
    screen.feed(&[7; 1000]);
    let mut renderer = Renderer::new(10, 5);
    assert_eq!(renderer.frame(&mut screen, "").matches('\x07').count(), 1);
    assert_eq!(renderer.frame(&mut screen, ""), "");
}

#[test]
fn a_terminal_is_reset() {
    let id = Name::parse("w1").unwrap();
    let mut shown = screen::parser(20, 5, 0, ());
    shown.process(b"shell$ ");
    let before = shown.screen().state_formatted();
    shown.process(enter(&id).as_bytes());
    let mut screen = Screen::new(20, 4);
    screen.feed(b"\x1b[?1h\x1b=\x1b[?2004h\x1b[?1003;1006h\x1b[?25l\x1b[31;7mtext\x1b[4 q");
    shown.process(Renderer::new(20, 5).frame(&mut screen, "status").as_bytes());
    assert!(shown.screen().alternate_screen() && shown.screen().bracketed_paste());
    shown.process(LEAVE.as_bytes());
    assert_eq!(shown.screen().state_formatted(), before);
}
